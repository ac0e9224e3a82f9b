package watcher

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestDurableBeforeRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{"web": act(1, policy.VerbRestart, "web")})
		var executed atomic.Int32
		r.opts.Executor = executorFunc(func(context.Context, policy.Decision, func(policy.Event)) policy.Outcome {
			executed.Add(1)
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		r.run(t)
		gate := make(chan struct{})
		r.book.gate = gate
		r.emit(unhealthy("web"))
		time.Sleep(time.Hour)
		if n := executed.Load(); n != 0 {
			t.Fatalf("executed %d acts while the journal was still writing, want 0", n)
		}
		r.book.mu.Lock()
		r.book.gate = nil
		r.book.mu.Unlock()
		close(gate)
		synctest.Wait()
		if n := executed.Load(); n != 1 {
			t.Errorf("executed %d acts after the journal answered, want 1", n)
		}
		r.mustEnd(t)
	})
}

func TestWaitingEventsAreOneAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.change = func(ev policy.Event) policy.Changes {
			if ev.Unit == "" {
				return policy.Changes{}
			}
			return policy.Changes{Units: []policy.Unit{{Key: ev.Unit, Name: ev.Unit, Reason: string(ev.Kind)}}}
		}
		r.run(t)
		gate := make(chan struct{})
		r.book.gate = gate
		r.emit(policy.Event{Kind: policy.KindStart, Unit: "a"}) // the loop is now in the journal
		for i := range maxBatch / 2 {
			r.tap <- policy.Event{Kind: policy.KindDie, Unit: fmt.Sprintf("u%03d", 299-i)}
			r.tap <- policy.Event{Kind: policy.KindStart, Unit: "u000"}
		}
		r.tap <- policy.Event{Kind: policy.KindDie, Unit: "one too many"}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		var sizes []int
		for _, b := range r.book.batches {
			sizes = append(sizes, len(b))
		}
		if want := []int{1, 1, 256, 1}; !cmp.Equal(sizes, want) {
			t.Errorf("appended batches of %v records, want %v", sizes, want)
		}
		big := r.book.batches[2]
		for i, rec := range big[:255] {
			if !rec.Changes.Empty() {
				t.Fatalf("record %d of a batch has changes; only the last may", i)
			}
		}
		units := big[255].Changes.Units
		if len(units) != 129 || units[0].Key != "u000" || units[0].Reason != "start" || units[128].Key != "u299" {
			t.Errorf("got changes of %d units, first %q (%s); want 129 sorted by key, u000 as its last step left it", len(units), units[0].Key, units[0].Reason)
		}
		r.mustEnd(t)
	})
}

func TestUnchangedObservationsAreNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{"web": act(1, policy.VerbNote, "web")})
		r.machine.change = func(ev policy.Event) policy.Changes {
			if ev.Unit == "db" {
				return policy.Changes{Units: []policy.Unit{{Key: "db"}}}
			}
			return policy.Changes{}
		}
		r.run(t)
		for _, ev := range []policy.Event{
			unhealthy("quiet"), {Kind: policy.KindUnseen, Unit: "quiet"}, {Kind: policy.KindSourceDown}, unhealthy("web"), unhealthy("db"), {Kind: policy.KindDie, Unit: "quiet"},
		} {
			r.emit(ev)
		}
		want := []string{"daemon_start", "observed:web", "observed:db", "die:quiet"}
		if diff := cmp.Diff(want, r.book.written()); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
		r.mustEnd(t)
	})
}

func TestEventsAreStampedOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.run(t)
		time.Sleep(3 * time.Second)
		r.emit(policy.Event{Kind: policy.KindDie, Unit: "web", At: time.Unix(1, 0)})
		first, second := r.machine.steps[0], r.machine.steps[1]
		if first.Kind != policy.KindDaemonStart || first.BootID != "boot" || !first.At.Equal(r.began) {
			t.Errorf("first event is %s of boot %q at %v, want daemon_start of boot at %v", first.Kind, first.BootID, first.At, r.began)
		}
		if got := second.At.Sub(r.began); got != 3*time.Second {
			t.Errorf("die is stamped %v after the start, want 3s", got)
		}
		r.mustEnd(t)
	})
}

func TestTicksComeAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.deadline, r.machine.every = time.Now().Add(7*time.Second+300*time.Millisecond), 25*time.Second
		r.run(t)
		time.Sleep(time.Minute)
		synctest.Wait()
		var at []time.Duration
		for _, ev := range r.machine.steps[1:] {
			at = append(at, ev.At.Sub(r.began))
		}
		want := []time.Duration{7300 * time.Millisecond, 32300 * time.Millisecond, 57300 * time.Millisecond}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("ticks (-want +got):\n%s", diff)
		}
		r.mustEnd(t)
	})
}

func TestFactsComeBeforeADueTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.run(t)
		gate := make(chan struct{})
		r.book.gate = gate
		r.machine.deadline = time.Now().Add(time.Second)
		r.emit(policy.Event{Kind: policy.KindStart, Unit: "web"}) // the loop is now in the journal
		time.Sleep(5 * time.Second)
		r.tap <- policy.Event{Kind: policy.KindKill, Unit: "web"}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		want := []string{"daemon_start", "start:web", "kill:web", "tick"}
		if diff := cmp.Diff(want, r.machine.seen()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		r.mustEnd(t)
	})
}

func TestReportsComeBeforeTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{"web": act(7, policy.VerbInspect, "web"), "db": act(8, policy.VerbRestart, "db")})
		r.opts.Executor = executorFunc(func(_ context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
			for i := range 3 {
				report(policy.Event{Kind: policy.KindObserved, Unit: fmt.Sprint(d.Unit, i), Decision: d.ID})
			}
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		r.run(t)
		r.emit(unhealthy("web"))
		r.emit(unhealthy("db"))
		want := []string{
			"daemon_start",
			"observed:web", "observed:web0", "observed:web1", "observed:web2", "outcome#7:ok",
			"observed:db", "observed:db0", "observed:db1", "observed:db2", "outcome#8:ok",
		}
		if diff := cmp.Diff(want, r.machine.seen()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		journal := []string{"daemon_start", "observed:web", "observed:db", "outcome#8:ok"}
		if diff := cmp.Diff(journal, r.book.written()); diff != "" {
			t.Errorf("journal: the outcome of an ask that changed nothing is no news (-want +got):\n%s", diff)
		}
		r.mustEnd(t)
	})
}

func TestOneHungActDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{"deaf": act(1, policy.VerbStop, "deaf"), "web": act(2, policy.VerbRestart, "web")})
		r.opts.Executor = executorFunc(func(ctx context.Context, d policy.Decision, _ func(policy.Event)) policy.Outcome {
			if d.Unit == "deaf" {
				<-ctx.Done()
				return policy.Outcome{Class: policy.OutcomeStuck}
			}
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		r.run(t)
		r.emit(unhealthy("deaf"))
		r.emit(unhealthy("web"))
		time.Sleep(time.Hour)
		synctest.Wait()
		var got []string
		for _, ev := range r.machine.steps {
			got = append(got, fmt.Sprintf("%v %s", ev.At.Sub(r.began), word(ev)))
		}
		want := []string{"0s daemon_start", "0s observed:deaf", "0s observed:web", "0s outcome#2:ok", "42s outcome#1:stuck"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		r.mustEnd(t)
	})
}

func TestDecisionsAndOutcomesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		ask := act(1, policy.VerbInspect, "web")
		note := act(3, policy.VerbNote, "db")
		note.Incident = "INC-7F3K"
		r.machine.on = func(ev policy.Event) []policy.Decision {
			if ev.Unit != "web" || ev.Kind != policy.KindObserved {
				return nil
			}
			return []policy.Decision{ask, act(2, policy.VerbRestart, "web"), note}
		}
		r.opts.Executor = executorFunc(func(_ context.Context, d policy.Decision, _ func(policy.Event)) policy.Outcome {
			if d.Verb == policy.VerbRestart {
				return policy.Outcome{Class: policy.OutcomeFailed, Text: "restart web: no such image", Took: time.Second}
			}
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		r.run(t)
		r.emit(unhealthy("web"))
		r.mustEnd(t)
		want := []string{
			`level=INFO msg=decided decision.id=2 decision.container=web decision.verb=restart decision.rule=unhealthy decision.reason="web is unhealthy"`,
			`level=INFO msg=decided decision.id=3 decision.container=db decision.verb=note decision.rule=unhealthy decision.reason="db is unhealthy" decision.incident=INC-7F3K`,
			`level=WARN msg="not done" id=2 container=web verb=restart class=failed took=1s err="restart web: no such image"`,
		}
		if diff := cmp.Diff(want, r.log.lines()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestClockSurvivesJSON(t *testing.T) {
	now := Clock()
	a := now()
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var b time.Time
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("%#v came back as %#v", a, b)
	}
	if strings.Contains(a.String(), "m=") {
		t.Errorf("%v carries a monotonic reading", a)
	}
	if later := now(); later.Before(a) {
		t.Errorf("the clock went from %v back to %v", a, later)
	}
}
