package itest

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkIdle is what watching costs while nothing happens.
func BenchmarkIdle(b *testing.B) {
	b.Run("containers=300", func(b *testing.B) { idle(b, 300, "that run") })
	b.Run("checks=100", func(b *testing.B) { idle(b, 100, "with a health check each second", "GATE_OPEN=1") })
}

func idle(b *testing.B, n int, kind string, env ...string) {
	b.Helper()
	const windows, window, settle = 3, time.Minute, 5 * time.Second
	k := newBench(b)
	k.run(b, n, env...)
	k.healthy(b)
	type cost struct {
		run      *runner
		cpu, rss sample
	}
	floor, own := &cost{run: k.bare(16).start(b, k.e.Socket())}, &cost{run: k.defib().start(b, k.e.Socket())}
	defer floor.run.stop()
	defer own.run.stop()
	time.Sleep(settle)
	for b.Loop() {
		for range windows {
			before := []time.Duration{floor.run.cpu(b), own.run.cpu(b)}
			began := time.Now()
			for time.Since(began) < window {
				for _, c := range []*cost{floor, own} {
					c.rss.add(c.run.rss(b))
				}
				time.Sleep(500 * time.Millisecond)
			}
			for i, c := range []*cost{floor, own} {
				c.cpu.add((c.run.cpu(b) - before[i]).Seconds() / time.Since(began).Minutes())
			}
		}
	}
	line := func(name string, c *cost) string {
		return fmt.Sprintf("  %s   CPU %.4f s a minute (%.4f to %.4f)   RSS %.1f MiB, at most %.1f",
			name, c.cpu.median(), c.cpu.at(0), c.cpu.at(1), c.rss.median(), c.rss.at(1))
	}
	report(b,
		fmt.Sprintf("idle beside %d containers %s, %d windows of %v, both at once", n, kind, windows, window),
		line("floor", floor), line("defib", own), fmt.Sprintf("  ratio of memory %.2f", own.rss.median()/floor.rss.median()),
		verdict("CPU", own.cpu.median(), 0.1, "s a minute"), verdict("RSS", own.rss.median(), 25, "MiB"))
	b.ReportMetric(own.cpu.median(), "cpu-s/min")
	b.ReportMetric(own.rss.median(), "MiB")
	b.ReportMetric(floor.cpu.median(), "floor-cpu-s/min")
	b.ReportMetric(floor.rss.median(), "floor-MiB")
}
