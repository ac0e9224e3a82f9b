package watcher

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestJournalRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{
			"web": act(1, policy.VerbRestart, "web"), "db": act(2, policy.VerbInspect, "db"), "late": act(3, policy.VerbStart, "late"),
		})
		r.machine.change = func(ev policy.Event) policy.Changes {
			if ev.Kind != policy.KindObserved {
				return policy.Changes{}
			}
			return policy.Changes{Units: []policy.Unit{{Key: ev.Unit}}}
		}
		executed := make(chan uint64, 10)
		r.opts.Executor = executorFunc(func(_ context.Context, d policy.Decision, _ func(policy.Event)) policy.Outcome {
			executed <- d.ID
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		var alarms []string
		r.opts.Alarm = func(text string) { alarms = append(alarms, text) }
		r.run(t)
		r.book.refuse(errDisk)
		r.emit(unhealthy("web"))
		time.Sleep(2 * time.Second)
		r.emit(unhealthy("db"))
		time.Sleep(10 * time.Second)
		r.book.refuse(nil)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		r.emit(unhealthy("late"))
		close(executed)

		var ids []uint64
		for id := range executed {
			ids = append(ids, id)
		}
		if want := []uint64{2, 3}; !cmp.Equal(ids, want) {
			t.Errorf("carried out %v, want the ask of the refusal and the act after it, %v", ids, want)
		}
		wantSteps := []string{
			"daemon_start", "observed:web", "hold_set:disk", "outcome#1:failed", "observed:db", "outcome#2:ok",
			"hold_cleared:disk", "observed:late", "outcome#3:ok",
		}
		if diff := cmp.Diff(wantSteps, r.machine.seen()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		wantTries := []time.Duration{0, 0, 5 * time.Second, 10 * time.Second, 15 * time.Second, 15 * time.Second, 16 * time.Second, 16 * time.Second}
		var tries []time.Duration
		for _, at := range r.book.tries {
			tries = append(tries, at.Sub(r.began))
		}
		if diff := cmp.Diff(wantTries, tries); diff != "" {
			t.Errorf("appends (-want +got):\n%s", diff)
		}
		wantBook := []string{
			"daemon_start", "observed:web hold_set:disk outcome#1:failed observed:db", "hold_cleared:disk", "observed:late", "outcome#3:ok",
		}
		if diff := cmp.Diff(wantBook, r.book.written()); diff != "" {
			t.Errorf("journal (-want +got):\n%s", diff)
		}
		if got := r.book.batches[1][3].Changes.Units; len(got) != 2 || got[0].Key != "db" || got[1].Key != "web" {
			t.Errorf("the changes of the refusal came as %+v, want db and web", got)
		}
		failed := r.machine.steps[3].Outcome.Text
		if want := "restart web: not carried out, for nothing can be recorded: no space left on device"; failed != want {
			t.Errorf("outcome says %q, want %q", failed, want)
		}
		want := []string{"defib keeps watching but repairs nothing: nothing can be recorded (no space left on device); free or repair the disk of the state directory: defib tries again every 5s"}
		if diff := cmp.Diff(want, alarms); diff != "" {
			t.Errorf("alarms (-want +got):\n%s", diff)
		}
		r.mustEnd(t)
	})
}

func TestCommandWhileTheJournalRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = func(ev policy.Event) []policy.Decision {
			if ev.Kind == policy.KindCommand {
				return []policy.Decision{act(4, policy.VerbRestart, "web")}
			}
			return nil
		}
		var executed atomic.Int32
		r.opts.Executor = executorFunc(func(context.Context, policy.Decision, func(policy.Event)) policy.Outcome {
			executed.Add(1)
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		r.run(t)
		r.book.refuse(errDisk)
		_, err := r.w.Do(t.Context(), policy.Command{Order: policy.OrderRestart, Unit: "web"})
		if !errors.Is(err, errDisk) {
			t.Errorf("Do returned %v, want the journal's error", err)
		}
		if n := executed.Load(); n != 0 {
			t.Errorf("executed %d acts, want 0", n)
		}
		took, err := r.end()
		if !errors.Is(err, errDisk) || took > time.Second {
			t.Errorf("Run returned %v after %v, want the journal's error at once", err, took)
		}
	})
}

func TestALongRefusalKeepsAllStateAndTheNewestRecords(t *testing.T) {
	book := &ledgerBook{err: errDisk}
	l := ledger{journal: book, changes: newChanges()}
	var at time.Time
	for i := range 3000 {
		l.note(message{ev: policy.Event{Kind: policy.KindDie, Unit: fmt.Sprint(i)}}, nil, policy.Changes{Units: []policy.Unit{{Key: fmt.Sprint(i)}}})
		if _, err := l.commit(at); err == nil {
			t.Fatal("commit succeeded on a full disk")
		}
	}
	book.err = nil
	done, err := l.commit(at.Add(retryJournal))
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != maxUnsaved || done[maxUnsaved-1].Event.Unit != "2999" || l.lost != 3000-maxUnsaved {
		t.Errorf("kept %d records up to unit %s, lost %d; want the newest %d", len(done), done[len(done)-1].Event.Unit, l.lost, maxUnsaved)
	}
	if n := len(done[len(done)-1].Changes.Units); n != 3000 {
		t.Errorf("kept the state of %d units, want 3000", n)
	}
}

func TestChangesMerge(t *testing.T) {
	c := newChanges()
	c.add(policy.Changes{Host: &policy.Host{NextID: 1}, Units: []policy.Unit{{Key: "a", Level: 1}, {Key: "b"}}, Incidents: []policy.Incident{{ID: "INC-2", Rev: 1}}})
	c.add(policy.Changes{Forgotten: []string{"b", "c"}, Units: []policy.Unit{{Key: "a", Level: 2}}, Incidents: []policy.Incident{{ID: "INC-1", Rev: 1}}})
	c.add(policy.Changes{Host: &policy.Host{NextID: 2}, Units: []policy.Unit{{Key: "c"}}, Incidents: []policy.Incident{{ID: "INC-2", Rev: 2}}})
	want := policy.Changes{
		Host: &policy.Host{NextID: 2}, Units: []policy.Unit{{Key: "a", Level: 2}, {Key: "c"}}, Forgotten: []string{"b"},
		Incidents: []policy.Incident{{ID: "INC-1", Rev: 1}, {ID: "INC-2", Rev: 2}},
	}
	if diff := cmp.Diff(want, c.flat()); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}
