package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// watched runs one Watch and keeps what it emits.
type watched struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu     sync.Mutex
	events []policy.Event
}

func watch(t *testing.T, e *Engine) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{t: t, cancel: cancel, done: make(chan struct{})}
	out := make(chan policy.Event)
	go func() {
		defer close(out)
		w.err = e.Watch(ctx, out)
	}()
	go func() {
		defer close(w.done)
		for ev := range out {
			w.mu.Lock()
			w.events = append(w.events, ev)
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

// take waits until nothing moves and returns the events since the last take.
func (w *watched) take() []policy.Event {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	evs := w.events
	w.events = nil
	return evs
}

// want compares the events since the last call with lines.
func (w *watched) want(lines ...string) {
	w.t.Helper()
	if diff := cmp.Diff(strings.Join(lines, "\n"), say(w.take())); diff != "" {
		w.t.Errorf("emitted (-want +got):\n%s", diff)
	}
}

// say writes events as lines, with what tests look at.
func say(evs []policy.Event) string {
	var lines []string
	for _, ev := range evs {
		line := string(ev.Kind)
		add := func(yes bool, format string, args ...any) {
			if yes {
				line += " " + fmt.Sprintf(format, args...)
			}
		}
		add(ev.Unit != "", "%s", ev.Unit)
		if ev.Kind == policy.KindSourceUp {
			add(true, "%s", ev.Engine.Process)
		}
		add(ev.Signal != 0, "signal=%d", ev.Signal)
		add(ev.ExitCode != 0, "exit=%d", ev.ExitCode)
		if o := ev.Observation; o != nil {
			add(true, "%s", o.Status)
			if o.Health != nil {
				add(true, "%s", o.Health.Status)
			}
		}
		add(ev.Replayed, "replayed")
		for _, o := range ev.Others {
			add(true, "[%s: %s]", o.Name, o.Why)
		}
		add(ev.Reason != "", "(%s)", ev.Reason)
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func exited(code int) func(c *container.InspectResponse) {
	return func(c *container.InspectResponse) {
		c.State = &container.State{
			Status: container.StateExited, ExitCode: code, StartedAt: c.State.StartedAt,
			FinishedAt: time.Now().Format(time.RFC3339Nano),
		}
	}
}

func health(status string) func(c *container.InspectResponse) {
	return func(c *container.InspectResponse) { c.State.Health = &container.Health{Status: status} }
}

// ended waits for the end of Watch and returns its error.
func (w *watched) ended() error { <-w.done; return w.err }
