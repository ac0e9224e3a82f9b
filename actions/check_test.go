package actions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

var _ Execer = (*client.Client)(nil)

// probing is an engine that runs one command; its health check is `check`.
type probing struct {
	health    *container.HealthConfig
	shell     []string
	stopped   bool
	startedAt string // "" is that of the decision

	takes time.Duration
	late  time.Duration // between the end of the output and the end
	code  int
	said  string        // frames
	err   string        // where it fails: inspect, create, attach, ended
	pid   int           // of the command
	hangs time.Duration // before it answers an attach, whatever becomes of the call

	argv   []string
	ended  time.Time
	closed bool // nobody reads what it writes
}

func (e *probing) execer() func() Execer {
	if e == nil {
		return nil
	}
	return func() Execer { return e }
}

func (e *probing) fails(at string) error {
	if e.err == at {
		return errors.New("Error response from daemon: no " + at)
	}
	return nil
}

func (e *probing) ContainerInspect(context.Context, string) (container.InspectResponse, error) {
	at := e.startedAt
	if at == "" {
		at = judged.Format(time.RFC3339Nano)
	}
	c := &container.Config{Healthcheck: e.health, Shell: e.shell}
	if c.Healthcheck == nil {
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "check"}}
	}
	return container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{State: &container.State{Running: !e.stopped, StartedAt: at}}, Config: c,
	}, e.fails("inspect")
}

func (e *probing) ContainerExecCreate(_ context.Context, _ string, o container.ExecOptions) (container.ExecCreateResponse, error) {
	e.argv = o.Cmd
	return container.ExecCreateResponse{ID: "e1"}, e.fails("create")
}

func (e *probing) ContainerExecAttach(context.Context, string, container.ExecAttachOptions) (types.HijackedResponse, error) {
	if err := e.fails("attach"); err != nil {
		return types.HijackedResponse{}, err
	}
	time.Sleep(e.hangs)
	ours, theirs := net.Pipe()
	e.ended = time.Now().Add(e.takes + e.late)
	go func() {
		defer theirs.Close()
		_, _ = theirs.Write([]byte(e.said))
		closed := make(chan struct{})
		go func() { defer close(closed); _, _ = theirs.Read(make([]byte, 1)) }()
		select {
		case <-time.After(e.takes):
		case <-closed:
			e.closed = true
		}
	}()
	return types.NewHijackedResponse(ours, ""), nil
}

func (e *probing) ContainerExecInspect(context.Context, string) (container.ExecInspect, error) {
	if time.Now().Before(e.ended) {
		return container.ExecInspect{Running: true, Pid: e.pid}, e.fails("ended")
	}
	return container.ExecInspect{ExitCode: e.code}, e.fails("ended")
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 100)
	for _, tc := range []struct {
		name string
		exec probing
		want *policy.Probe // without its times
		text string
		took time.Duration
	}{
		{"passes", probing{said: say(1, "fine\n"), takes: time.Second}, &policy.Probe{Output: "fine"}, "", time.Second},
		{"fails", probing{said: say(1, "a\n") + say(2, "\x1b[31mb --password=hunter2"), code: 1}, &policy.Probe{ExitCode: 1, Output: "a b --password=***"}, "", 0},
		{"is not known to have ended with its output", probing{code: 3, late: 25 * time.Millisecond}, &policy.Probe{ExitCode: 3}, "", 30 * time.Millisecond},
		{"says much", probing{said: say(1, long+long+long)}, &policy.Probe{Output: long[:1024-len("…")] + "…"}, "", 0},
		{"exceeds its timeout", probing{takes: time.Minute, health: &container.HealthConfig{Test: []string{"CMD", "x"}, Timeout: 2 * time.Second}}, &policy.Probe{ExitCode: -1, Output: "Health check exceeded timeout (2s)"}, "", 2 * time.Second},
		{"exceeds our time", probing{takes: time.Minute}, nil, "it had not ended after 8.5s, and may take 30s; it is left running in the container: defib does not look at the processes of this host", 8500 * time.Millisecond},
		{"ends its output and hangs", probing{late: time.Minute}, nil, "it had not ended after 8.5s, and may take 30s; it is left running in the container: defib does not look at the processes of this host", 8500 * time.Millisecond},
		{"exceeds its timeout, which is ours", probing{takes: time.Minute, health: &container.HealthConfig{Test: []string{"CMD", "x"}, Timeout: 8500 * time.Millisecond}}, &policy.Probe{ExitCode: -1, Output: "Health check exceeded timeout (8.5s)"}, "", 8500 * time.Millisecond},
		{"ends at the last moment", probing{takes: 8400 * time.Millisecond, code: 1}, &policy.Probe{ExitCode: 1}, "", 8400 * time.Millisecond},
		{"there is none", probing{health: &container.HealthConfig{}}, nil, "", 0},
		{"is switched off", probing{health: &container.HealthConfig{Test: []string{"NONE"}}}, nil, "", 0},
		{"is of an unknown kind", probing{health: &container.HealthConfig{Test: []string{"HTTP", "x"}}}, nil, "", 0},
		{"of a container that has stopped", probing{stopped: true}, nil, "the container does not run any more, or was started again meanwhile", 0},
		{"of another run", probing{startedAt: "2026-01-02T04:04:05Z"}, nil, "the container does not run any more, or was started again meanwhile", 0},
		{"cannot be inspected", probing{err: "inspect"}, nil, "no inspect", 0},
		{"cannot be created", probing{err: "create"}, nil, "no create", 0},
		{"cannot be started", probing{err: "attach"}, nil, "no attach", 0},
		{"is lost", probing{err: "ended"}, nil, "no ended", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				got, took := examined(t, Options{Engine: with(&engine{}), Exec: tc.exec.execer()}, passing)
				if p := got.Check; p != nil {
					if !p.Start.Equal(began) || p.End.Sub(p.Start) != tc.took {
						t.Errorf("it ran from %v to %v", p.Start, p.End)
					}
					p.Start, p.End = time.Time{}, time.Time{}
				}
				want := &policy.Examination{Check: tc.want, CheckErr: tc.text}
				if diff := cmp.Diff(want, got); diff != "" || took != tc.took {
					t.Errorf("after %v, want %v (-want +got):\n%s", took, tc.took, diff)
				}
			})
		})
	}
}

// An engine that freezes before it begins a check answers when it thaws.
func TestACheckThatIsNotBegunInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &probing{hangs: time.Minute, takes: time.Hour}
		got, took := examined(t, Options{Engine: with(&engine{}), Exec: e.execer()}, passing)
		want := &policy.Examination{CheckErr: "Docker did not run it in time"}
		if diff := cmp.Diff(want, got); diff != "" || took != 8500*time.Millisecond {
			t.Errorf("after %v (-want +got):\n%s", took, diff)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !e.closed {
			t.Error("the connection is still open")
		}
	})
}

// ender is asked to end processes.
type ender struct {
	processes
	asked []string
	err   error
}

func (p *ender) End(pid int, in string, since time.Time, still func() bool) error {
	p.asked = append(p.asked, fmt.Sprintf("%d in %s, of %v ago, still there: %v", pid, in[:2], time.Since(since), still()))
	return p.err
}

// What defib started and gave up does not stay behind: Docker's own API ends no
// command, only a signal to its process does.
func TestACheckIsNotLeftRunning(t *testing.T) {
	const inTime = "it had not ended after 8.5s, and may take 30s"
	short := &container.HealthConfig{Test: []string{"CMD", "x"}, Timeout: 2 * time.Second}
	for _, tc := range []struct {
		name  string
		exec  probing
		err   error
		asked []string
		text  string
		log   string
	}{
		{"out of its time", probing{takes: time.Minute, health: short}, nil, []string{"77 in c1, of 2s ago, still there: true"}, "", ""},
		{"out of ours", probing{takes: time.Minute}, nil, []string{"77 in c1, of 8.5s ago, still there: true"}, inTime, ""},
		{
			"it cannot be ended",
			probing{takes: time.Minute},
			errors.New("defib may not"),
			[]string{"77 in c1, of 8.5s ago, still there: true"},
			inTime + "; it is left running in the container: defib may not", "defib may not",
		},
		{"it has ended", probing{}, nil, nil, "", ""},
		{"it could not be started", probing{err: "attach"}, nil, nil, "no attach", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.exec.pid = 77
				p := &ender{err: tc.err}
				var log bytes.Buffer
				x := newExecutor(t, &engine{}, nil)
				x.o.Exec, x.o.Process, x.o.Log = tc.exec.execer(), p, slog.New(slog.NewTextHandler(&log, nil))
				d := decision(policy.VerbExamine)
				d.Within, d.Check = 10*time.Second, true
				var got *policy.Examination
				x.Execute(t.Context(), d, func(ev policy.Event) { got = ev.Examination })
				if diff := cmp.Diff(tc.asked, p.asked); diff != "" {
					t.Errorf("asked to end (-want +got):\n%s", diff)
				}
				if got.CheckErr != tc.text || (log.Len() > 0) != (tc.log != "") || !strings.Contains(log.String(), tc.log) {
					t.Errorf("it says %q, want %q; the log says %q", got.CheckErr, tc.text, log.String())
				}
			})
		})
	}
}

func TestCheckCommand(t *testing.T) {
	for _, tc := range []struct {
		test, shell, want []string
	}{
		{[]string{"CMD", "curl", "-f", "x"}, nil, []string{"curl", "-f", "x"}},
		{[]string{"CMD-SHELL", "curl x || exit 1"}, nil, []string{"/bin/sh", "-c", "curl x || exit 1"}},
		{[]string{"CMD-SHELL", "curl x"}, []string{"/bin/bash", "-o", "pipefail", "-c"}, []string{"/bin/bash", "-o", "pipefail", "-c", "curl x"}},
		{[]string{"CMD"}, nil, nil},
	} {
		got := checkCommand(&container.Config{Healthcheck: &container.HealthConfig{Test: tc.test}, Shell: tc.shell})
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.test, diff)
		}
	}
	if got := checkCommand(nil); got != nil {
		t.Errorf("without a configuration there is %q", got)
	}
}

func TestTheEndOfTheDaemonCallsACheckOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		x := newExecutor(t, &engine{}, nil)
		x.o.Exec = (&probing{takes: time.Minute}).execer()
		d := decision(policy.VerbExamine)
		if p, text := x.check(ctx, d); p != nil || text != "" {
			t.Errorf("the check gives %+v, %q", p, text)
		}
	})
}

// The engine freezes over the start of a check. What it starts once it thaws is
// ended.
func TestCheckStartedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &probing{hangs: time.Minute, takes: time.Hour, pid: 77}
		p := &ender{}
		x := newExecutor(t, &engine{}, nil)
		x.o.Exec, x.o.Process = e.execer(), p
		d := decision(policy.VerbExamine)
		d.Within, d.Check = 10*time.Second, true
		x.Execute(t.Context(), d, func(policy.Event) {})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(p.asked) != 1 || !strings.HasPrefix(p.asked[0], "77 in c1") {
			t.Errorf("asked to end: %q", p.asked)
		}
	})
}
