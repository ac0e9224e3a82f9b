package watcher

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestReadersBesideTheRealMachine is for the race detector: what the view, the
// feed and the journal were given must not change under them, least of all in
// the turmoil of thirty containers that fail together.
func TestReadersBesideTheRealMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := newRig(), &ward{now: Clock(), units: map[string]*patient{}}
		r.opts.Machine, r.opts.Executor, r.opts.Now = policy.New(policy.Default()), h, h.now
		r.opts.Log = slog.New(slog.DiscardHandler)
		r.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		records := r.w.Subscribe(ctx)
		readers.Go(func() {
			for c := range records {
				mustEncode(t, c)
			}
		})
		readers.Go(func() {
			for sleepFor(ctx, 97*time.Millisecond) {
				mustEncode(t, r.w.View())
			}
		})
		r.emit(policy.Event{Kind: policy.KindSourceUp, Generation: 1, Engine: &policy.Engine{ID: "e", Process: policy.ProcessNew}})
		for i := range 30 {
			r.emit(h.change(fmt.Sprintf("u%02d", i), false))
		}
		r.emit(policy.Event{Kind: policy.KindSynced, Generation: 1})
		time.Sleep(time.Minute)
		for i := range 30 {
			r.emit(h.change(fmt.Sprintf("u%02d", i), true))
			time.Sleep(13 * time.Millisecond)
		}
		if n := len(r.w.View().Host.Panics); n == 0 {
			t.Error("thirty failures together are no panic")
		}
		if _, err := r.w.Do(t.Context(), policy.Command{Order: policy.OrderHold, Unit: "u01", By: "ann"}); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		var ill []string
		for _, u := range r.w.View().Units {
			if u.State != policy.Running {
				ill = append(ill, u.Name+" "+string(u.State))
			}
		}
		if want := []string{"u01 held"}; !cmp.Equal(ill, want) {
			t.Errorf("not running in the end are %v, want %v", ill, want)
		}
		r.mustEnd(t)
		cancel()
		readers.Wait()
	})
}

func mustEncode(tb testing.TB, v any) {
	tb.Helper()
	if _, err := json.Marshal(v); err != nil {
		tb.Error(err)
	}
}

// ward is a host full of containers: an Executor whose restarts take three
// seconds and heal.
type ward struct {
	now   func() time.Time
	mu    sync.Mutex
	units map[string]*patient
}

type patient struct {
	started time.Time
	sick    bool
}

func (h *ward) change(unit string, sick bool) policy.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.units[unit] == nil {
		h.units[unit] = &patient{started: h.now().Add(-time.Minute)}
	}
	h.units[unit].sick = sick
	return h.look(unit)
}

func (h *ward) look(unit string) policy.Event {
	p := h.units[unit]
	probe := policy.Probe{Start: h.now(), End: h.now().Add(time.Millisecond)}
	health := &policy.Health{Status: "healthy", Interval: time.Second, Timeout: time.Second, Retries: 1}
	if p.sick {
		health.Status, health.FailingStreak, probe.ExitCode = "unhealthy", 1, 1
	}
	health.Log = []policy.Probe{probe}
	o := &policy.Observation{
		Container: unit + "-id", Name: unit, Status: "running", Running: true, StartedAt: p.started, Uptime: h.now().Sub(p.started),
		Labels: map[string]string{"defib.enable": "true"}, RestartPolicy: "always", Mounts: []string{"/data"}, Health: health,
	}
	return policy.Event{Kind: policy.KindObserved, Unit: unit, Container: o.Container, Generation: 1, Read: h.now(), Observation: o}
}

func (h *ward) Execute(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	if d.Verb.Act() {
		sleepFor(ctx, 3*time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.units[d.Unit] = &patient{started: h.now()}
		return policy.Outcome{Class: policy.OutcomeOK}
	}
	sleepFor(ctx, time.Millisecond)
	h.mu.Lock()
	ev := h.look(d.Unit)
	h.mu.Unlock()
	ev.Decision = d.ID
	report(ev)
	return policy.Outcome{Class: policy.OutcomeOK}
}
