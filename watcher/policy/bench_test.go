package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// BenchmarkStepHealth is one health event among 1 000 units: an observation
// that repeats what is known, and one that differs only in its probe.
func BenchmarkStepHealth(b *testing.B) {
	w := manyUnits(1000)
	m := w.m
	box := w.boxes["c500"]
	o := box.observation(w.now)
	ev := policy.Event{Kind: policy.KindObserved, Unit: "c500", Container: box.id, Generation: w.gen, Observation: &o}
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(time.Millisecond)
		ev.At, ev.Read = w.now, w.now
		o.Health.Log[0].End = w.now
		m.Step(ev)
	}
}

// BenchmarkStepUnhealthy is a container that turns unhealthy, is restarted
// and becomes healthy again, among 1 000 units; the figure is per step.
func BenchmarkStepUnhealthy(b *testing.B) {
	w := manyUnits(1000)
	steps, i := 0, 0
	w.onStep = func(policy.Event, []policy.Decision) { steps++ }
	b.ReportAllocs()
	for b.Loop() {
		box := w.boxes[fmt.Sprintf("c%d", i%1000)]
		i++
		box.sick = true
		w.probe(box)
		w.advance(w.now.Add(5 * time.Minute))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/step")
}

// BenchmarkDay is a day of 1 000 units with random faults: its events are
// recorded once, and the figure is what it takes to play them again.
func BenchmarkDay(b *testing.B) {
	events := recordDay(1000)
	b.ReportMetric(float64(len(events)), "events")
	for b.Loop() {
		m := policy.New(policy.Default())
		for _, ev := range events {
			m.Step(ev)
		}
	}
}

// TestDay holds the invariants over a day of 50 units.
func TestDay(t *testing.T) {
	w := manyUnits(50)
	c := check(t, w)
	c.every = 1009
	upsetDay(w)
	c.resolved()
	c.compare()
}

func manyUnits(n int) *world {
	w := newWorld(policy.Default())
	for i := range n {
		b := &box{
			name: fmt.Sprintf("c%d", i), image: "vllm/vllm:1", imageID: fmt.Sprint(i % 50), check: true, load: 2 * time.Second,
			labels: map[string]string{"defib.enable": "true"}, policy: []string{"", "always"}[i%2], output: "no",
		}
		if i%3 == 0 {
			b.mounts = []string{fmt.Sprintf("/models/%d", i%30)}
		}
		if i%10 == 0 {
			b.gpus = []string{fmt.Sprint(i / 20)}
		}
		w.add(b)
		w.start(b, false)
	}
	w.connect(policy.ProcessUnknown, 0)
	w.advance(w.now.Add(10 * time.Minute))
	return w
}

func recordDay(n int) []policy.Event {
	w := manyUnits(n)
	w.m = policy.New(policy.Default())
	var events []policy.Event
	w.onEvent = func(ev policy.Event) { events = append(events, ev) }
	w.deliver(policy.Event{Kind: policy.KindDaemonStart, BootID: "boot-1"})
	w.connect(policy.ProcessUnknown, 0)
	upsetDay(w)
	return events
}

// upsetDay lets something go wrong every few seconds, for a day.
func upsetDay(w *world) {
	r := rand.New(rand.NewPCG(1, 2))
	names := sorted(w.boxes)
	for end := w.now.Add(24 * time.Hour); w.now.Before(end); {
		w.advance(w.now.Add(time.Duration(1+r.IntN(20)) * time.Second))
		b := w.boxes[names[r.IntN(len(names))]]
		if b.status != "running" {
			b.startErr, b.crashEvery = "", 0
			continue
		}
		switch r.IntN(8) {
		case 0:
			w.exit(b, 1, false)
		case 1:
			w.halt(b, 10*time.Second, false, func() { w.start(b, false) })
		case 2:
			b.crashEvery, b.crashCode = time.Duration(1+r.IntN(300))*time.Second, 1
			w.exit(b, 1, false)
		case 3:
			b.sick, b.sticky = true, r.IntN(4) == 0
			w.probe(b)
		case 4:
			b.sick, b.sticky, b.crashEvery = false, false, 0
			w.probe(b)
		default:
			b.sick = true
			w.probe(b)
		}
	}
}
