package watcher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestViewIsRebuiltAtMostEveryTenthOfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.opts.Observe = true
		r.run(t)
		<-r.w.Seen()
		if v := r.w.View(); v == nil || !v.Observe || !v.At.Equal(r.began) {
			t.Fatalf("first view is %+v, want one in observe mode at %v", v, r.began)
		}
		for range 100 { // one second of news
			time.Sleep(10 * time.Millisecond)
			r.emit(policy.Event{Kind: policy.KindDie, Unit: "web"})
		}
		if r.machine.views != 11 {
			t.Errorf("view was built %d times, want 11", r.machine.views)
		}
		r.emit(policy.Event{Kind: policy.KindConfig, Config: &policy.Config{}})
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if v := r.w.View(); v.Observe || v.At.Sub(r.began) != 1100*time.Millisecond {
			t.Errorf("view of %v says observe=%v, want the last change shown at 1.1s", v.At.Sub(r.began), v.Observe)
		}
		built := r.machine.views
		time.Sleep(time.Hour)
		for range 50 {
			r.emit(unhealthy("quiet"))
		}
		if r.machine.views != built {
			t.Errorf("view was built %d times though nothing changed", r.machine.views-built)
		}
		r.mustEnd(t)
	})
}

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = func(ev policy.Event) []policy.Decision {
			if ev.Kind == policy.KindCommand {
				r.machine.host.NextID++
				return []policy.Decision{act(5, policy.VerbRestart, ev.Command.Unit)}
			}
			return nil
		}
		r.run(t)
		gate := make(chan struct{})
		r.book.gate = gate
		type result struct {
			ds   []policy.Decision
			err  error
			view uint64
		}
		got := make(chan result, 1)
		go func() {
			ds, err := r.w.Do(t.Context(), policy.Command{Order: policy.OrderRestart, Unit: "web", By: "ann"})
			got <- result{ds, err, r.w.View().Host.NextID}
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("Do answered before the journal did")
		}
		close(gate)
		res := <-got
		if diff := cmp.Diff([]policy.Decision{act(5, policy.VerbRestart, "web")}, res.ds); diff != "" || res.err != nil {
			t.Errorf("Do returned error %v and (-want +got):\n%s", res.err, diff)
		}
		if res.view != 1 {
			t.Error("the view that follows an answer is older than the command")
		}
		r.mustEnd(t)
	})
}

func TestDoGivesUpWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.run(t)
		gate := make(chan struct{})
		r.book.gate = gate
		for i, wait := range []time.Duration{time.Second, 2 * time.Second} { // in the journal, and behind it
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			if _, err := r.w.Do(ctx, policy.Command{Order: policy.OrderHold}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Do %d returned %v, want its caller's deadline", i, err)
			}
			cancel()
		}
		close(gate)
		r.mustEnd(t)
	})
}

func TestHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		now := Clock()
		r.opts.Now = now
		if got := New(r.opts).Healthy(now()); fmt.Sprint(got) != "defib is still starting" {
			t.Errorf("before the start: %v", got)
		}
		r.machine.host = policy.Host{Reason: "connection refused"}
		r.run(t)
		if got := r.w.Healthy(now()); fmt.Sprint(got) != "docker is out of reach: connection refused" {
			t.Errorf("without an engine: %v", got)
		}
		r.machine.host = policy.Host{Connected: true}
		time.Sleep(time.Second)
		r.emit(policy.Event{Kind: policy.KindSourceUp})
		time.Sleep(10*time.Hour + 5*time.Second)
		synctest.Wait()
		if got := r.w.Healthy(now()); got != nil {
			t.Errorf("after an idle night: %v", got)
		}
		if idle := now().Sub(time.Unix(0, r.w.turned.Load())); idle > heartbeat {
			t.Errorf("the loop last turned %v ago, want at most %v", idle, heartbeat)
		}
		gate := make(chan struct{})
		r.book.gate = gate
		r.emit(policy.Event{Kind: policy.KindDie, Unit: "web"})
		time.Sleep(42 * time.Second)
		want := "the loop has been stuck for 42s; is the disk of the state directory slow or full?"
		if got := r.w.Healthy(now()); fmt.Sprint(got) != want {
			t.Errorf("with a journal that hangs: %v, want %s", got, want)
		}
		close(gate)
		r.mustEnd(t)
	})
}
