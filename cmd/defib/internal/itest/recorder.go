package itest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Event is one event of a container.
type Event struct {
	Name   string // the container's
	Action string // start, die, "health_status: unhealthy" …
	At     time.Time
	Attr   map[string]string
}

// Recorder keeps every container event of an engine, also over its restarts.
// What a test says about acts it says from here: the engine's own word.
type Recorder struct {
	e       *Engine
	mu      sync.Mutex
	seen    []Event
	changed chan struct{} // closed and made anew with each event
}

// Record begins to record.
func (e *Engine) Record(t testing.TB) *Recorder {
	t.Helper()
	r := &Recorder{e: e, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	from := time.Now()
	go func() {
		defer close(done)
		r.run(ctx, from)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if t.Failed() {
			t.Logf("the engine's events:\n%s", r)
		}
	})
	return r
}

// run follows the engine until ctx ends. After an engine restart its look-back
// begins anew, so nothing is read twice from it but what the time tells.
func (r *Recorder) run(ctx context.Context, from time.Time) {
	for ctx.Err() == nil {
		from = r.follow(ctx, from)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // the engine is away
		}
	}
}

// follow reads one stream to its end and returns where the next begins.
func (r *Recorder) follow(ctx context.Context, from time.Time) time.Time {
	list, errs := r.e.Client.Events(ctx, events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", from.Unix(), from.Nanosecond()),
		Filters: filters.NewArgs(filters.Arg("type", "container")),
	})
	for {
		select {
		case m := <-list:
			at := time.Unix(0, m.TimeNano)
			r.add(Event{Name: m.Actor.Attributes["name"], Action: string(m.Action), At: at, Attr: m.Actor.Attributes})
			from = at.Add(1)
		case err, open := <-errs:
			if err != nil || !open {
				return from
			}
		}
	}
}

func (r *Recorder) add(ev Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, ev)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Events returns what was recorded of the named container, or of all for "",
// without the noise of health checks.
func (r *Recorder) Events(name string) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Event
	for _, ev := range r.seen {
		if (name == "" || ev.Name == name) && !strings.HasPrefix(ev.Action, "exec_") {
			out = append(out, ev)
		}
	}
	return out
}

// Counts says how often each of the named actions was seen of a container.
func (r *Recorder) Counts(name string, actions ...string) map[string]int {
	counts := map[string]int{}
	for _, ev := range r.Events(name) {
		if slices.Contains(actions, ev.Action) {
			counts[ev.Action]++
		}
	}
	return counts
}

// Wait waits until the n-th event (from 1) of that container and action, and
// returns it.
func (r *Recorder) Wait(t testing.TB, within time.Duration, name, action string, n int) Event {
	t.Helper()
	var found Event
	r.Until(t, within, fmt.Sprintf("%q of %s, number %d", action, name, n), func(seen []Event) bool {
		left := n
		for _, ev := range seen {
			if ev.Name == name && ev.Action == action {
				left--
			}
			if left == 0 {
				found = ev
				return true
			}
		}
		return false
	})
	return found
}

// Until waits until what was recorded satisfies the condition; every kind of
// event is in it.
func (r *Recorder) Until(t testing.TB, within time.Duration, what string, met func(seen []Event) bool) {
	t.Helper()
	deadline := time.After(within)
	for {
		r.mu.Lock()
		seen, changed := slices.Clone(r.seen), r.changed
		r.mu.Unlock()
		if met(seen) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("within %v there was no event %s", within, what)
		}
	}
}

// String lists what was recorded, for a test that failed.
func (r *Recorder) String() string {
	var b strings.Builder
	for _, ev := range r.Events("") {
		fmt.Fprintf(&b, "%s %-12s %s", ev.At.Format("15:04:05.000"), ev.Name, ev.Action)
		for _, k := range slices.Sorted(maps.Keys(ev.Attr)) {
			if k == "signal" || k == "exitCode" {
				fmt.Fprintf(&b, " %s=%s", k, ev.Attr[k])
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
