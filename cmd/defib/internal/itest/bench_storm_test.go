package itest

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkStorm is the time from the first of 50 containers that turn
// unhealthy together to the last one's restart.
func BenchmarkStorm(b *testing.B) {
	b.Run("exit", func(b *testing.B) { storms(b, "that exit at once") })
	b.Run("deaf", func(b *testing.B) { storms(b, "that ignore SIGTERM, stop timeout 2 s", "GATE_DEAF=1") })
}

func storms(b *testing.B, kind string, env ...string) {
	b.Helper()
	const n, rounds, atATime = 50, 5, 16
	k := newBench(b)
	r := k.e.Record(b)
	k.run(b, n, env...)
	floor, defib := k.bare(atATime), k.defib()
	took, canary := map[string]*sample{floor.name: {}, defib.name: {}}, &sample{}
	for b.Loop() {
		for i := range 2 * rounds {
			who := []contestant{floor, defib, defib, floor}[i%4]
			k.ready(b)
			s := k.storm(b, r, who)
			took[who.name].addTime(s.all, time.Second)
			if who.name == defib.name {
				canary.addTime(s.canary, time.Second)
			}
		}
	}
	low, own := took[floor.name], took[defib.name]
	report(b,
		fmt.Sprintf("storm: %d containers unhealthy at once %s, %d rounds each, in turns", n, kind, rounds),
		fmt.Sprintf("  floor, %d at a time   %.2f s  (%.2f to %.2f)", atATime, low.median(), low.at(0), low.at(1)),
		fmt.Sprintf("  defib                 %.2f s  (%.2f to %.2f), of which the canary %.2f s", own.median(), own.at(0), own.at(1), canary.median()),
		fmt.Sprintf("  ratio %.2f, without the canary's time %.2f", own.median()/low.median(), (own.median()-canary.median())/low.median()),
		verdict("all restarted", own.median(), 1.15*low.median()+canary.median(), "s"))
	b.ReportMetric(own.median(), "s")
	b.ReportMetric(low.median(), "floor-s")
	b.ReportMetric(canary.median(), "canary-s")
}

// storm is what came of one: how long after the first unhealthy event all were
// restarted, and the time from kill to healthy of the first that was healthy
// again, which was the canary if there was one.
type storm struct{ all, canary time.Duration }

func (k *bench) storm(b *testing.B, r *Recorder, who contestant) storm {
	b.Helper()
	run := who.start(b, k.e.Socket())
	defer run.stop()
	time.Sleep(time.Second)
	from := time.Now()
	fail(b, k.boxes...)
	k.until(b, who.name+" restarts all", func() bool {
		for _, x := range k.boxes {
			if seen := firsts(r, x.Name, from); seen["restart"].IsZero() || seen[well].Before(seen["restart"]) {
				return false
			}
		}
		return true
	})
	return k.measure(r, from)
}

const well = "health_status: healthy"

func (k *bench) measure(r *Recorder, from time.Time) storm {
	var began, ended, healed, killed time.Time
	for _, x := range k.boxes {
		seen := firsts(r, x.Name, from)
		began, ended = earlier(began, seen[sick]), later(ended, seen["restart"])
		if healed = earlier(healed, seen[well]); healed.Equal(seen[well]) {
			killed = seen["kill"]
		}
	}
	return storm{all: ended.Sub(began), canary: healed.Sub(killed)}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
