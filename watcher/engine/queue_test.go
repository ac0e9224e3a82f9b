package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/google/go-cmp/cmp"
)

func TestNobodyReadsTheEvents(t *testing.T) {
	q := newQueue(time.Now)
	for i := range queueMax {
		if !q.push(events.Message{Action: events.ActionStart, TimeNano: int64(i)}) {
			t.Fatalf("full after %d events", i)
		}
	}
	if q.push(events.Message{Action: events.ActionStart}) {
		t.Error("the queue grows without bound")
	}
	if n := len(q.take()); n != queueMax {
		t.Errorf("%d events taken, want %d", n, queueMax)
	}
	for range 3 * queueMax {
		if !q.push(events.Message{Action: events.ActionHealthStatusUnhealthy, Actor: events.Actor{ID: "a"}}) {
			t.Fatal("health events of one container fill the queue")
		}
	}
	if n := len(q.take()); n != 1 {
		t.Errorf("%d health events of one container wait, want 1", n)
	}
}

func TestPool(t *testing.T) {
	p := newPool()
	for i := range 20 {
		p.add(fmt.Sprint("slow", i), false)
	}
	p.add("slow19", true) // asked for by an event after all
	p.add("web", true)
	p.add("web", false)
	var got []string
	for id, ok := p.next(); ok; id, ok = p.next() {
		got = append(got, id)
	}
	want := []string{"slow19", "web", "slow0", "slow1", "slow2", "slow3", "slow4", "slow5", "slow6", "slow7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("may run (-want +got):\n%s", diff)
	}
	p.add("web", true)
	p.add("web", true)
	p.finish("slow0")
	p.finish("web")
	got = nil
	for id, ok := p.next(); ok; id, ok = p.next() {
		got = append(got, id)
	}
	if diff := cmp.Diff([]string{"web", "slow8"}, got); diff != "" {
		t.Errorf("may run next (-want +got):\n%s", diff)
	}
}
