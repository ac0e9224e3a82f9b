package itest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const sick = "health_status: unhealthy"

// BenchmarkReaction is the time from the engine's event that one container is
// unhealthy to its event that the container is sent its stop signal.
func BenchmarkReaction(b *testing.B) {
	const trials = 30
	k := newBench(b)
	r := k.e.Record(b)
	k.run(b, 10)
	floor, defib := k.bare(16), k.defib()
	took := map[string]*sample{floor.name: {}, defib.name: {}}
	disk := fsync(b)
	for b.Loop() {
		for i := range 2 * trials {
			who := []contestant{floor, defib, defib, floor}[i%4]
			k.ready(b)
			took[who.name].addTime(k.reaction(b, r, who, k.boxes[i%len(k.boxes)]), time.Millisecond)
		}
	}
	low, own := took[floor.name], took[defib.name]
	report(b,
		fmt.Sprintf("reaction: unhealthy event to kill event, one container, %d trials each, in turns; fsync median %.2f ms", trials, disk),
		row("floor", low), row("defib", own), fmt.Sprintf("  ratio of the medians %.2f", own.median()/low.median()),
		verdict("p50", own.median(), low.median()+10, "ms"), verdict("p99", own.at(0.99), low.at(0.99)+50, "ms"))
	b.ReportMetric(own.median(), "p50-ms")
	b.ReportMetric(own.at(0.99), "p99-ms")
	b.ReportMetric(low.median(), "floor-p50-ms")
	b.ReportMetric(low.at(0.99), "floor-p99-ms")
	b.ReportMetric(disk, "fsync-ms")
}

func row(name string, s *sample) string {
	return fmt.Sprintf("  %s   p50 %7.1f ms   p99 %7.1f ms   min %.1f   max %.1f", name, s.median(), s.at(0.99), s.at(0), s.at(1))
}

// reaction is one trial, by a contestant that has seen nothing before.
func (k *bench) reaction(b *testing.B, r *Recorder, who contestant, x *box) time.Duration {
	b.Helper()
	run := who.start(b, k.e.Socket())
	defer run.stop()
	time.Sleep(200*time.Millisecond + rand.N(time.Second)) // at any phase of whatever it does in turns
	from := time.Now()
	fail(b, x)
	var seen map[string]time.Time
	k.until(b, who.name+" restarts "+x.Name, func() bool {
		seen = firsts(r, x.Name, from)
		return !seen["restart"].IsZero()
	})
	return seen["kill"].Sub(seen[sick])
}

// firsts are the times of the first event of each kind of a container, from
// a time on.
func firsts(r *Recorder, name string, from time.Time) map[string]time.Time {
	seen := map[string]time.Time{}
	for _, ev := range r.Events(name) {
		if _, has := seen[ev.Action]; !has && !ev.At.Before(from) {
			seen[ev.Action] = ev.At
		}
	}
	return seen
}
