package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/engine/enginetest"
	"github.com/defib-dev/defib/watcher/policy"
)

const testImage = "defib-engine-test:latest"

// program is what the containers run: it exits as its arguments say, or lives
// until SIGTERM; SIGUSR1 makes its own health check fail, and pass again.
const program = `package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 2: // check
		if _, err := os.Stat("/sick"); err == nil {
			fmt.Println("sick, token hunter2")
			os.Exit(1)
		}
		return
	case len(os.Args) == 3: // exit CODE
		code, _ := strconv.Atoi(os.Args[2])
		time.Sleep(300 * time.Millisecond)
		os.Exit(code)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGUSR1)
	for s := range c {
		if s == syscall.SIGTERM {
			os.Exit(0)
		}
		if os.Remove("/sick") != nil {
			_ = os.WriteFile("/sick", nil, 0o600)
		}
	}
}
`

// launch makes and starts one container, which is removed at the end.
func launch(t *testing.T, cli *client.Client, args []string, labels map[string]string) string {
	t.Helper()
	labels[enginetest.Label], labels["defib.enable"] = "engine", "true"
	return enginetest.Launch(t, cli, &container.Config{
		Image: testImage, Entrypoint: append([]string{enginetest.Program}, args...), Labels: labels,
		Healthcheck: &container.HealthConfig{Test: []string{"CMD", enginetest.Program, "check"}, Interval: time.Second, Retries: 1},
	})
}

// follow watches the real engine; until reads events, of one container, up to
// an observation that the test waits for.
type follow struct {
	t   *testing.T
	out chan policy.Event
}

func newFollow(t *testing.T) *follow {
	t.Helper()
	e, err := New(Options{
		Now: time.Now, Mask: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") },
		Watch: func(labels map[string]string) (string, string) {
			if labels[enginetest.Label] == "engine" {
				return "test", ""
			}
			return "", "not of this test"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &follow{t: t, out: make(chan policy.Event)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(w.out); _ = e.Watch(ctx, w.out) }()
	t.Cleanup(func() {
		cancel()
		go func() { defer close(done); w.rest() }()
		<-done
	})
	for ev := range w.out {
		if ev.Kind == policy.KindSynced {
			return w
		}
		if ev.Kind == policy.KindSourceDown {
			t.Fatalf("no connection: %s", ev.Reason)
		}
	}
	return w
}

func (w *follow) rest() {
	for range w.out {
	}
}

// until returns the engine events of a container before the observation that
// is wanted, and that observation.
func (w *follow) until(id string, wanted func(o *policy.Observation) bool) ([]string, *policy.Observation) {
	w.t.Helper()
	var lines []string
	limit := time.After(2 * time.Minute)
	for {
		select {
		case ev := <-w.out:
			switch {
			case ev.Container != id:
			case ev.Kind != policy.KindObserved:
				lines = append(lines, say([]policy.Event{{Kind: ev.Kind, Signal: ev.Signal, ExitCode: ev.ExitCode, Replayed: ev.Replayed}}))
			case wanted(ev.Observation):
				return lines, ev.Observation
			}
		case <-limit:
			w.t.Fatalf("not seen in 2 min; events so far: %q", lines)
		}
	}
}

func status(want string) func(o *policy.Observation) bool {
	return func(o *policy.Observation) bool { return o.Status == want }
}

func isSick(want string) func(o *policy.Observation) bool {
	return func(o *policy.Observation) bool { return o.Health != nil && o.Health.Status == want }
}

func (w *follow) want(got, want []string) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("engine events (-want +got):\n%s", diff)
	}
}

func TestRealCrash(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	w := newFollow(t)
	id := launch(t, cli, []string{"exit", "3"}, map[string]string{})
	lines, o := w.until(id, status("exited"))
	w.want(lines, []string{"create", "start", "die exit=3"})
	if o.ExitCode != 3 || o.StartedAt.IsZero() || o.FinishedAt.IsZero() || o.Uptime != 0 {
		t.Errorf("observed %+v", o)
	}
}

func TestRealStopAndRestart(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	w := newFollow(t)
	id := launch(t, cli, nil, map[string]string{})
	w.until(id, isSick("healthy")) // by then it takes signals
	if err := cli.ContainerRestart(t.Context(), id, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	lines, _ := w.until(id, func(o *policy.Observation) bool { return isSick("healthy")(o) && !o.FinishedAt.IsZero() })
	if err := cli.ContainerStop(t.Context(), id, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	more, o := w.until(id, status("exited"))
	lines = append(lines, more...)
	if err := cli.ContainerRemove(t.Context(), id, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for ev := range w.out {
		if ev.Container == id && ev.Kind != policy.KindObserved {
			lines = append(lines, string(ev.Kind))
		}
		if ev.Kind == policy.KindDestroy {
			break
		}
	}
	// Engines differ in the order of die and stop.
	joined := strings.NewReplacer("stop,die", "die,stop").Replace(strings.Join(lines, ","))
	if want := "kill signal=15,die,stop,start,restart,kill signal=15,die,stop,destroy"; joined != want {
		t.Errorf("engine events\n%s\nwant\n%s", joined, want)
	}
	if o.ExitCode != 0 {
		t.Errorf("exit code %d, want 0", o.ExitCode)
	}
}

func TestRealKill(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	w := newFollow(t)
	id := launch(t, cli, nil, map[string]string{})
	before, _ := w.until(id, status("running"))
	if err := cli.ContainerKill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	lines, o := w.until(id, status("exited"))
	w.want(append(before, lines...), []string{"create", "start", "kill signal=9", "die exit=137"})
	if o.ExitCode != 137 || o.OOMKilled {
		t.Errorf("observed %+v", o)
	}
}

// Labels named as attributes of events must not be taken for them.
func TestRealHostileLabels(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	w := newFollow(t)
	id := launch(t, cli, nil, map[string]string{"signal": "15", "exitCode": "0"})
	before, _ := w.until(id, status("running"))
	if err := cli.ContainerKill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	lines, o := w.until(id, status("exited"))
	w.want(append(before, lines...), []string{"create", "start", "kill", "die"})
	if o.ExitCode != 137 {
		t.Errorf("exit code %d, want 137", o.ExitCode)
	}
}

func TestRealHealthFlips(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	w := newFollow(t)
	id := launch(t, cli, nil, map[string]string{})
	lines, _ := w.until(id, isSick("healthy"))
	for _, want := range []string{"unhealthy", "healthy"} {
		if err := cli.ContainerKill(t.Context(), id, "USR1"); err != nil {
			t.Fatal(err)
		}
		more, o := w.until(id, isSick(want))
		lines = append(lines, more...)
		if last := o.Health.Log[len(o.Health.Log)-1]; want == "unhealthy" && (last.ExitCode != 1 || last.Output != "sick, token ***\n") {
			t.Errorf("last probe %+v", last)
		}
	}
	w.want(lines, []string{"create", "start", "kill signal=10", "kill signal=10"})
}
