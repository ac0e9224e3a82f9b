package watcher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestSourceIsCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		var calls []time.Duration
		began := time.Now()
		r.opts.Sources = []Source{sourceFunc(func(ctx context.Context, _ chan<- policy.Event) error {
			calls = append(calls, time.Since(began))
			switch len(calls) {
			case 6:
				sleepFor(ctx, 10*time.Second)
				return errors.New("the stream broke")
			case 8:
				return errors.New("permission denied")
			case 9:
				<-ctx.Done()
			}
			return errors.New("no engine at /var/run/docker.sock")
		})}
		r.run(t)
		time.Sleep(time.Minute)
		r.mustEnd(t)
		s := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
		want := []time.Duration{0, s(0.5), s(1.5), s(3.5), s(7.5), s(12.5), s(23), s(24), s(26)}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		lines := []string{
			`level=WARN msg="source lost, trying again until it answers" err="no engine at /var/run/docker.sock"`,
			`level=WARN msg="source lost, trying again until it answers" err="the stream broke"`,
			`level=WARN msg="source lost, trying again until it answers" err="no engine at /var/run/docker.sock"`,
			`level=WARN msg="source lost, trying again until it answers" err="permission denied"`,
		}
		if diff := cmp.Diff(lines, r.log.lines()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestHoldFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.opts.HoldFile = filepath.Join(t.TempDir(), "hold-all")
		mustWrite(t, r.opts.HoldFile)
		r.opts.Sources = []Source{sourceFunc(func(_ context.Context, out chan<- policy.Event) error {
			out <- policy.Event{Kind: policy.KindSourceUp}
			return nil
		})}
		r.book.refuse(errDisk) // it works with everything else broken
		r.run(t)
		if got := r.machine.seen()[1]; got != "hold_set:operator" {
			t.Errorf("the second step is %s, want the hold before any other fact", got)
		}
		if err := os.Remove(r.opts.HoldFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		mustWrite(t, r.opts.HoldFile)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var holds []policy.Event
		for _, ev := range r.machine.steps {
			if ev.Hold != nil && ev.Hold.Reason == policy.HoldOperator {
				holds = append(holds, ev)
			}
		}
		file := func(at time.Duration, kind policy.Kind, there, why string) policy.Event {
			return policy.Event{At: r.began.Add(at).UTC(), Kind: kind, Hold: &policy.Hold{
				Reason: policy.HoldOperator, Scope: policy.ScopeHost, By: "file", File: there, Why: "the file " + r.opts.HoldFile + why,
			}}
		}
		want := []policy.Event{
			file(0, policy.KindHoldSet, r.opts.HoldFile, " exists; remove it to let defib act"),
			file(time.Second, policy.KindHoldCleared, "", " is gone"),
			file(2*time.Second, policy.KindHoldSet, r.opts.HoldFile, " exists; remove it to let defib act"),
		}
		if diff := cmp.Diff(want, holds); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
		r.book.refuse(nil)
		r.mustEnd(t)
	})
}

func TestHoldFileThatCannotBeSeenHolds(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	mustWrite(t, plain)
	h := &holdFile{path: filepath.Join(plain, "hold-all")}
	ev, changed := h.look()
	if !changed || ev.Kind != policy.KindHoldSet {
		t.Fatalf("got %v %s, want a hold", changed, ev.Kind)
	}
	want := "defib cannot tell whether the file " + h.path + " exists (lstat " + h.path + ": not a directory); make its directory readable to let defib act"
	if ev.Hold.Why != want {
		t.Errorf("got %q, want %q", ev.Hold.Why, want)
	}
	if _, again := h.look(); again {
		t.Error("the same finding was reported twice")
	}
	if _, changed := (&holdFile{}).look(); changed {
		t.Error("a watcher without a hold-all file found one")
	}
}

func mustWrite(tb testing.TB, path string) {
	tb.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
}
