package actions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

var _ Docker = (*client.Client)(nil)

var judged = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// engine is a Docker whose answers a test writes down; it keeps the calls in
// the order in which they were sent.
type engine struct {
	mu    sync.Mutex
	calls []string
	act   func(ctx context.Context) error                  // nil: succeeds
	logs  func(ctx context.Context) (io.ReadCloser, error) // nil: there are none
}

func (e *engine) sent(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, fmt.Sprintf(format, args...))
}

func (e *engine) run(ctx context.Context) error {
	if e.act == nil {
		return nil
	}
	return e.act(ctx)
}

func (e *engine) ContainerRestart(ctx context.Context, id string, o container.StopOptions) error {
	e.sent("restart %s t=%d signal=%q", id, *o.Timeout, o.Signal)
	return e.run(ctx)
}

func (e *engine) ContainerStop(ctx context.Context, id string, o container.StopOptions) error {
	e.sent("stop %s t=%d signal=%q", id, *o.Timeout, o.Signal)
	return e.run(ctx)
}

func (e *engine) ContainerStart(ctx context.Context, id string, _ container.StartOptions) error {
	e.sent("start %s", id)
	return e.run(ctx)
}

func (e *engine) ContainerLogs(ctx context.Context, id string, o container.LogsOptions) (io.ReadCloser, error) {
	e.sent("logs %s tail=%s until=%s stdout=%v stderr=%v follow=%v", id, o.Tail, o.Until, o.ShowStdout, o.ShowStderr, o.Follow)
	if e.logs == nil {
		return nil, errors.New("configured logging driver does not support reading")
	}
	return e.logs(ctx)
}

// seen is what the inspect beside an act finds.
func seen(change func(*policy.Observation)) func(context.Context, policy.Decision) policy.Event {
	return func(_ context.Context, d policy.Decision) policy.Event {
		o := &policy.Observation{Container: d.Container, StartedAt: judged, Running: true}
		if change != nil {
			change(o)
		}
		return policy.Event{Kind: policy.KindObserved, Unit: d.Unit, Decision: d.ID, Observation: o}
	}
}

func newExecutor(tb testing.TB, docker Docker, inspect func(context.Context, policy.Decision) policy.Event) *Executor {
	tb.Helper()
	m, err := mask.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return New(Options{
		Engine: func() Docker { return docker }, Inspect: inspect, Mask: m,
		Log: slog.New(slog.DiscardHandler),
	})
}

func decision(verb policy.Verb) policy.Decision {
	return policy.Decision{
		ID: 9, Unit: "shop/web/1", Name: "web", Container: "c1", StartedAt: judged, Verb: verb,
		StopTimeout: 10 * time.Second, Within: 40 * time.Second,
	}
}

func noReport(policy.Event) {}

func TestCalls(t *testing.T) {
	for _, tc := range []struct {
		verb policy.Verb
		stop time.Duration
		want string
	}{
		{policy.VerbRestart, 10 * time.Second, `restart c1 t=10 signal=""`},
		{policy.VerbRestart, 2500 * time.Millisecond, `restart c1 t=3 signal=""`},
		{policy.VerbRestart, 0, `restart c1 t=10 signal=""`},
		{policy.VerbStop, -time.Second, `stop c1 t=10 signal=""`},
		{policy.VerbStop, 2 * time.Minute, `stop c1 t=120 signal=""`},
		{policy.VerbStart, 0, `start c1`},
	} {
		t.Run(fmt.Sprint(tc.verb, tc.stop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &engine{}
				d := decision(tc.verb)
				d.StopTimeout = tc.stop
				out := newExecutor(t, e, seen(nil)).Execute(t.Context(), d, noReport)
				if out.Class != policy.OutcomeOK || out.Text != "" {
					t.Errorf("outcome is %s %q, want ok", out.Class, out.Text)
				}
				slices.Sort(e.calls) // logs are read beside a restart, in any order
				want := []string{"logs c1 tail=200 until=2000-01-01T00:00:00Z stdout=true stderr=true follow=false", tc.want}
				if diff := cmp.Diff(want, e.calls); diff != "" {
					t.Errorf("calls (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestOutcomes(t *testing.T) {
	const undecided = "whether it was done, the next inspect tells"
	answer := func(class error, text string) func(context.Context) error {
		return func(context.Context) error {
			return fmt.Errorf("Error response from daemon: %s%w", text, silent{class})
		}
	}
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, tc := range []struct {
		name  string
		verb  policy.Verb
		act   func(context.Context) error
		class policy.Class
		text  string
		took  time.Duration
	}{
		{"no such container", policy.VerbRestart, answer(errdefs.ErrNotFound, "No such container: c1"), policy.OutcomeGone, "restart web: No such container: c1", logPause},
		{"another thing is missing", policy.VerbStart, answer(errdefs.ErrNotFound, "network shop_default not found"), policy.OutcomeFailed, "start web: network shop_default not found", 0},
		{"conflict", policy.VerbStart, answer(errdefs.ErrConflict, "container is marked for removal and cannot be started"), policy.OutcomeFailed, "start web: container is marked for removal and cannot be started", 0},
		{"engine error", policy.VerbRestart, answer(errdefs.ErrInternal, "Cannot restart container c1: driver failed\nprogramming \x1b[31mport\x1b[0m"), policy.OutcomeFailed, "restart web: Cannot restart container c1: driver failed programming port", logPause},
		{"secret in an error", policy.VerbStart, answer(errdefs.ErrInternal, "exec: --password=hunter2: not found"), policy.OutcomeFailed, "start web: exec: --password=*** not found", 0},
		{"SIGKILL without effect", policy.VerbRestart, answer(errdefs.ErrInternal, "Cannot restart container c1: tried to kill container, but did not receive an exit event"), policy.OutcomeStuck, "restart web: Cannot restart container c1: tried to kill container, but did not receive an exit event", logPause},
		{"zombie", policy.VerbStop, answer(errdefs.ErrInternal, "container c1 PID 7 is zombie and can not be killed. Use the --init option"), policy.OutcomeStuck, "stop web: container c1 PID 7 is zombie and can not be killed. Use the --init option", logPause},
		{"restart without an answer", policy.VerbRestart, hang, policy.OutcomeStuck, "restart web: no answer from Docker within 35s; " + undecided, 35 * time.Second},
		{"stop without an answer", policy.VerbStop, hang, policy.OutcomeStuck, "stop web: no answer from Docker within 35s; " + undecided, 35 * time.Second},
		{"start without an answer", policy.VerbStart, hang, policy.OutcomeFailed, "start web: no answer from Docker within 40s; " + undecided, 40 * time.Second},
		{"connection lost", policy.VerbRestart, func(context.Context) error { return fmt.Errorf("error during connect: Post: %w", io.EOF) }, policy.OutcomeFailed, "restart web: error during connect: Post: EOF; the connection broke before Docker answered: " + undecided, logPause},
		{"no connection", policy.VerbRestart, func(context.Context) error {
			return errors.New("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
		}, policy.OutcomeFailed, "restart web: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", logPause},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newExecutor(t, &engine{act: tc.act}, seen(nil)).Execute(t.Context(), decision(tc.verb), noReport)
				if out.Class != tc.class || out.Text != tc.text || out.Took != tc.took {
					t.Errorf("got %s after %v: %q\nwant %s after %v: %q", out.Class, out.Took, out.Text, tc.class, tc.took, tc.text)
				}
			})
		})
	}
}

// A restart without an answer is one of a process that does not die only where
// the engine says that it is still there.
func TestStuckOnlyByTheEnginesWord(t *testing.T) {
	for _, tc := range []struct {
		name    string
		inspect func(context.Context, policy.Decision) policy.Event
		class   policy.Class
		took    time.Duration
	}{
		{"it still runs", seen(nil), policy.OutcomeStuck, 35 * time.Second},
		{"it has ended", seen(func(o *policy.Observation) { o.Running = false }), policy.OutcomeFailed, 35 * time.Second},
		{"it was started again", seen(func(o *policy.Observation) { o.StartedAt = judged.Add(time.Minute) }), policy.OutcomeFailed, 35 * time.Second},
		{"the engine freezes meanwhile", func(ctx context.Context, d policy.Decision) policy.Event {
			if !atFirst(ctx) {
				<-ctx.Done()
				return policy.Event{Kind: policy.KindUnseen}
			}
			return seen(nil)(ctx, d)
		}, policy.OutcomeFailed, 40 * time.Second},
		{"the engine was frozen at first", func(ctx context.Context, d policy.Decision) policy.Event {
			if atFirst(ctx) {
				return policy.Event{Kind: policy.KindUnseen}
			}
			return seen(nil)(ctx, d)
		}, policy.OutcomeFailed, 35 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &engine{act: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
				out := newExecutor(t, e, tc.inspect).Execute(t.Context(), decision(policy.VerbRestart), noReport)
				if out.Class != tc.class || out.Took != tc.took {
					t.Errorf("got %s after %v, want %s after %v", out.Class, out.Took, tc.class, tc.took)
				}
			})
		})
	}
}

// atFirst tells the inspect of the evidence from the one when all is over.
func atFirst(ctx context.Context) bool {
	end, _ := ctx.Deadline()
	return time.Until(end) <= evidenceTime
}

// silent gives an error its class without adding to its text, as the client
// does.
type silent struct{ error }

func (s silent) Error() string { return "" }
func (s silent) Unwrap() error { return s.error }

func TestWithoutAnEngine(t *testing.T) {
	x := newExecutor(t, nil, seen(nil))
	out := x.Execute(t.Context(), decision(policy.VerbRestart), noReport)
	want := policy.Outcome{Class: policy.OutcomeFailed, Text: "restart web: not carried out, Docker is out of reach", Took: out.Took}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
}

func TestEndOfTheDaemonLeavesTheOutcomeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		e := &engine{act: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		out := newExecutor(t, e, seen(nil)).Execute(ctx, decision(policy.VerbRestart), noReport)
		want := "restart web: defib ended before Docker answered; whether it was done, the next inspect tells"
		if out.Class != policy.OutcomeFailed || out.Text != want || out.Took != time.Second {
			t.Errorf("got %s after %v: %q, want failed after 1s: %q", out.Class, out.Took, out.Text, want)
		}
	})
}

func TestAsk(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer policy.Event
		want   policy.Outcome
	}{
		{"answered", policy.Event{Kind: policy.KindObserved, Decision: 9}, policy.Outcome{Class: policy.OutcomeOK}},
		{"not answered", policy.Event{Kind: policy.KindUnseen, Decision: 9, Reason: "no answer within 5s"}, policy.Outcome{Class: policy.OutcomeFailed, Text: "inspect web: no answer within 5s"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var reported []policy.Event
				x := newExecutor(t, nil, func(context.Context, policy.Decision) policy.Event { return tc.answer })
				out := x.Execute(t.Context(), decision(policy.VerbInspect), func(ev policy.Event) { reported = append(reported, ev) })
				if diff := cmp.Diff(tc.want, out); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]policy.Event{tc.answer}, reported); diff != "" {
					t.Errorf("reported (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAnUnknownVerbIsRefused(t *testing.T) {
	out := newExecutor(t, &engine{}, seen(nil)).Execute(t.Context(), decision("recreate"), noReport)
	if want := "recreate web: this defib does not know how to do that"; out.Class != policy.OutcomeFailed || out.Text != want {
		t.Errorf("got %s %q, want failed %q", out.Class, out.Text, want)
	}
}

func TestOneHungContainerDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		e.act = func(ctx context.Context) error {
			e.mu.Lock()
			first := len(e.calls) == 1
			e.mu.Unlock()
			if first {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		x := newExecutor(t, e, seen(nil))
		e.logs = nil
		deaf := make(chan policy.Outcome, 1)
		go func() { deaf <- x.Execute(t.Context(), decision(policy.VerbStop), noReport) }()
		synctest.Wait()
		if out := x.Execute(t.Context(), decision(policy.VerbRestart), noReport); out.Class != policy.OutcomeOK || out.Took != logPause {
			t.Errorf("the second act is %s after %v, want ok at once", out.Class, out.Took)
		}
		<-deaf
	})
}
