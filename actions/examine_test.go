package actions

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// driver is a GPU driver whose answers a test writes down.
type driver struct {
	readings []gpu.Reading
	err      error
	hang     bool
	asked    [][]string
	calls    []string // of a reset
	release  error
}

func (g *driver) Poll(ctx context.Context, uuids []string) ([]gpu.Reading, error) {
	g.asked = append(g.asked, uuids)
	if g.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return g.readings, g.err
}

func (g *driver) Release(context.Context) error {
	g.calls = append(g.calls, "release")
	return g.release
}
func (g *driver) Resume() { g.calls = append(g.calls, "resume") }

// processes is one process, which ends after a time; 0: never.
type processes struct {
	own  bool
	ends time.Duration
}

func (p processes) Own(int) bool { return p.own }

func (processes) End(int, string, time.Time, func() bool) error { return nil }

func (p processes) AwaitExit(ctx context.Context, _ int) bool {
	if p.ends == 0 {
		<-ctx.Done()
		return false
	}
	wait(ctx, p.ends)
	return ctx.Err() == nil
}

// examined runs one examination in a bubble and returns what it reported, and
// after which time.
func examined(t *testing.T, o Options, change func(*policy.Decision)) (*policy.Examination, time.Duration) {
	t.Helper()
	d := decision(policy.VerbExamine)
	d.Within, d.GPUs = 10*time.Second, []string{"GPU-1"}
	if change != nil {
		change(&d)
	}
	docker, _ := o.Engine().(*engine)
	x := newExecutor(t, docker, nil)
	o.Mask, o.Log, o.Now = x.o.Mask, x.o.Log, time.Now
	began := time.Now()
	var reported []policy.Event
	out := New(o).Execute(t.Context(), d, func(ev policy.Event) { reported = append(reported, ev) })
	if out.Class != policy.OutcomeOK || len(reported) != 1 {
		t.Fatalf("outcome %+v with %d reports, want ok with one", out, len(reported))
	}
	ev := reported[0]
	want := policy.Event{Kind: policy.KindExamined, Unit: d.Unit, Container: d.Container, Decision: d.ID, Examination: ev.Examination}
	if diff := cmp.Diff(want, ev); diff != "" || ev.Examination == nil {
		t.Fatalf("report (-want +got):\n%s", diff)
	}
	return ev.Examination, time.Since(began)
}

func with(e *engine) func() Docker { return func() Docker { return e } }

func passing(d *policy.Decision) { d.Check = true }

func TestExamineAnswersWithoutAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, took := examined(t, Options{Engine: func() Docker { return nil }}, func(d *policy.Decision) { d.Check, d.Logs, d.PID = true, true, 42 })
		want := &policy.Examination{CheckErr: "Docker is out of reach"}
		if diff := cmp.Diff(want, got); diff != "" || took != 0 {
			t.Errorf("after %v (-want +got):\n%s", took, diff)
		}
	})
}

func TestExamineReadsTheGPUs(t *testing.T) {
	readings := []gpu.Reading{{UUID: "GPU-1", Used: 7}}
	for _, tc := range []struct {
		name   string
		driver *driver
		want   []gpu.Reading
		took   time.Duration
	}{
		{"it answers", &driver{readings: readings}, readings, 0},
		{"it is absent", &driver{err: errors.New("there is no driver")}, nil, 0},
		{"it hangs", &driver{hang: true}, nil, readTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, took := examined(t, Options{Engine: with(&engine{}), GPU: tc.driver}, nil)
				if diff := cmp.Diff(&policy.Examination{Readings: tc.want}, got); diff != "" || took != tc.took {
					t.Errorf("after %v, want %v (-want +got):\n%s", took, tc.took, diff)
				}
				if diff := cmp.Diff([][]string{{"GPU-1"}}, tc.driver.asked); diff != "" {
					t.Errorf("asked for (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// logbook is an engine that keeps how it was asked for logs.
type logbook struct {
	engine
	asked container.LogsOptions
}

func (l *logbook) ContainerLogs(ctx context.Context, id string, o container.LogsOptions) (io.ReadCloser, error) {
	l.asked = o
	return l.engine.ContainerLogs(ctx, id, o)
}

func TestExamineReadsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &logbook{}
		book.logs = stream(say(1, "RuntimeError: CUDA error: an illegal memory access was encountered\n") +
			say(2, "CUDA error: an illegal memory access was encountered, --token=hunter2\n") + say(1, "bye\n"))
		got, _ := examined(t, Options{Engine: func() Docker { return book }}, func(d *policy.Decision) { d.Logs = true })
		want := &policy.Examination{Signs: []gpu.Sign{gpu.SignApp}, SignLine: "CUDA error: an illegal memory access was encountered, --token=***"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("examination (-want +got):\n%s", diff)
		}
		asked := container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: "200", Since: "2026-01-02T03:04:04.75Z", Until: "2000-01-01T00:00:00Z"}
		if diff := cmp.Diff(asked, book.asked); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
	})
}

func TestExamineWithLogsThatTellNothing(t *testing.T) {
	for name, e := range map[string]*engine{
		"other lines": {logs: stream(say(1, "ready\n"))},
		"no logs":     {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, _ := examined(t, Options{Engine: with(e)}, func(d *policy.Decision) { d.Logs = true })
				if diff := cmp.Diff(&policy.Examination{}, got); diff != "" {
					t.Errorf("examination (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestExamineWaitsForAConfirmation(t *testing.T) {
	const all = 10*time.Second - spare
	for _, tc := range []struct {
		name    string
		process processes
		check   *probing // nil: not asked for
		exited  bool
		code    int // of the check; -2: there is no result
		took    time.Duration
	}{
		{"its process has ended", processes{own: true, ends: time.Nanosecond}, nil, true, -2, time.Nanosecond},
		{"its process ends", processes{own: true, ends: 3 * time.Second}, nil, true, -2, 3 * time.Second},
		{"its process lives on", processes{own: true}, nil, false, -2, all},
		{"a process of docker exec ends", processes{ends: time.Second}, nil, false, -2, time.Second},
		{"the check passes first", processes{own: true, ends: 3 * time.Second}, &probing{takes: time.Second}, true, 0, 3 * time.Second},
		{"the check fails first", processes{own: true, ends: 3 * time.Second}, &probing{takes: time.Second, code: 1}, false, 1, time.Second},
		{"the process ends first", processes{own: true, ends: time.Second}, &probing{takes: 3 * time.Second, code: 1}, true, -2, time.Second},
		{"a process of docker exec ends, the check fails", processes{ends: time.Second}, &probing{takes: 3 * time.Second, code: 1}, false, 1, 3 * time.Second},
		{"nothing happens", processes{own: true}, &probing{takes: time.Second}, false, 0, all},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{Engine: with(&engine{}), Process: tc.process, Exec: tc.check.execer()}
				got, took := examined(t, o, func(d *policy.Decision) { d.Check, d.PID, d.PIDWithin = tc.check != nil, 42, gpu.WindowAfter })
				code := -2
				if got.Check != nil {
					code = got.Check.ExitCode
				}
				if got.PIDExited != tc.exited || code != tc.code || took != tc.took || got.CheckErr != "" {
					t.Errorf("exited %v, check %d %q after %v, want %v, %d after %v", got.PIDExited, code, got.CheckErr, took, tc.exited, tc.code, tc.took)
				}
			})
		})
	}
}

// A check may take as long as its container lets it. The end of a process is
// waited for no longer than a fault counts, and what the GPU read before a long
// check is not told after it: it may have changed, and the driver has told that.
func TestExamineWithALongCheck(t *testing.T) {
	readings := []gpu.Reading{{UUID: "GPU-1", Used: 7}}
	for _, tc := range []struct {
		takes time.Duration
		code  int
		want  []gpu.Reading
		took  time.Duration
	}{
		{time.Second, 1, readings, time.Second},
		{time.Second, 0, nil, gpu.WindowAfter},
		{9 * time.Second, 1, nil, 9 * time.Second},
		{25 * time.Second, 0, nil, 25 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			check := &probing{takes: tc.takes, code: tc.code}
			o := Options{Engine: with(&engine{}), Process: processes{own: true}, Exec: check.execer(), GPU: &driver{readings: readings}}
			got, took := examined(t, o, func(d *policy.Decision) {
				d.Check, d.PID, d.PIDWithin, d.Within = true, 42, gpu.WindowAfter, 35*time.Second
			})
			if got.Check == nil || got.Check.ExitCode != tc.code || got.PIDExited || took != tc.took {
				t.Errorf("a check of %v: %+v after %v", tc.takes, got, took)
			}
			if diff := cmp.Diff(tc.want, got.Readings); diff != "" {
				t.Errorf("a check of %v: readings (-want +got):\n%s", tc.takes, diff)
			}
		})
	}
}

func TestPoll(t *testing.T) {
	d := decision(policy.VerbPoll)
	d.GPUs = []string{"GPU-1"}
	readings := []gpu.Reading{{UUID: "GPU-1"}}
	for _, tc := range []struct {
		name   string
		gpus   GPUs
		want   policy.Outcome
		report []policy.Event
	}{
		{"answered", &driver{readings: readings}, policy.Outcome{Class: policy.OutcomeOK}, []policy.Event{{Kind: policy.KindGPUReading, Decision: 9, GPU: &policy.GPUFacts{Readings: readings}}}},
		{"not answered", &driver{err: errors.New("the driver does not answer")}, policy.Outcome{Class: policy.OutcomeFailed, Text: "poll the GPU: the driver does not answer"}, nil},
		{"nobody to ask", nil, policy.Outcome{Class: policy.OutcomeFailed, Text: "poll the GPU: this defib does not look after GPUs"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newExecutor(t, &engine{}, nil)
				x.o.GPU = tc.gpus
				var reported []policy.Event
				out := x.Execute(t.Context(), d, func(ev policy.Event) { reported = append(reported, ev) })
				if diff := cmp.Diff(tc.want, out); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tc.report, reported); diff != "" {
					t.Errorf("reported (-want +got):\n%s", diff)
				}
			})
		})
	}
}
