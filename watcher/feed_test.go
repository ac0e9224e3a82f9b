package watcher

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestSubscribersGetWhatIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{"web": act(1, policy.VerbRestart, "web")})
		r.machine.change = func(policy.Event) policy.Changes { return policy.Changes{Host: &policy.Host{}} }
		r.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		records, left := r.w.Subscribe(t.Context()), r.w.Subscribe(ctx)
		r.book.refuse(errDisk)
		r.emit(unhealthy("web"))
		if len(records) != 0 {
			t.Error("a record was handed out that is not in the journal")
		}
		cancel()
		synctest.Wait()
		if _, open := <-left; open {
			t.Error("a subscription outlived its context")
		}
		r.book.refuse(nil)
		r.mustEnd(t)
		var got []string
		for c := range records {
			got = append(got, fmt.Sprintf("%s %d %v", word(c.Event), len(c.Decisions), c.Changes.Empty()))
		}
		want := []string{"observed:web 1 true", "hold_set:disk 0 true", "outcome#1:failed 0 true"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if _, open := <-r.w.Subscribe(t.Context()); open {
			t.Error("a subscription to a watcher that ended is open")
		}
	})
}

func TestASlowSubscriberLosesRecordsAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.run(t)
		records := r.w.Subscribe(t.Context())
		for i := range feedBuffer + 40 {
			r.emit(policy.Event{Kind: policy.KindDie, Unit: fmt.Sprint(i)})
		}
		for i := range feedBuffer {
			if c := <-records; c.Event.Unit != fmt.Sprint(i) || c.Lost != 0 {
				t.Fatalf("record %d is of unit %s with %d lost", i, c.Event.Unit, c.Lost)
			}
		}
		r.emit(policy.Event{Kind: policy.KindDie, Unit: "next"})
		r.emit(policy.Event{Kind: policy.KindDie, Unit: "after"})
		for _, want := range []Committed{{Record: Record{Event: policy.Event{Unit: "next"}}, Lost: 40}, {Record: Record{Event: policy.Event{Unit: "after"}}}} {
			if c := <-records; c.Event.Unit != want.Event.Unit || c.Lost != want.Lost {
				t.Errorf("got unit %s with %d lost, want %s with %d", c.Event.Unit, c.Lost, want.Event.Unit, want.Lost)
			}
		}
		r.mustEnd(t)
	})
}
