package itest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// BenchmarkGPUFault is the time from the kernel's line of a fault until defib
// has put it on record, and, of one that a process ends of, until the engine
// sends the container its stop signal. The driver is given 2 s to say more of
// it, which are in the second figure.
func BenchmarkGPUFault(b *testing.B) {
	const facts, rounds, units = 50, 4, 4
	k := newGPUBench(b, units)
	var recorded, decided, stopped sample
	for b.Loop() {
		for i := range facts {
			at := k.XidLine(b, i%units, 63, 5_000_000+i) // a process that cannot be: more than Linux counts
			recorded.addTime(k.record(b, at).Sub(at), time.Millisecond)
		}
		for range rounds {
			k.workers(b)
			for i, c := range k.boxes {
				line, judged, act := k.strike(b, i, c)
				decided.addTime(act.Sub(judged), time.Millisecond)
				stopped.addTime(act.Sub(line), time.Second)
			}
		}
	}
	report(b,
		fmt.Sprintf("fault of a GPU: %d lines on record, %d containers restarted", len(recorded), len(stopped)),
		row("line to record", &recorded), row("confirmed to stop signal", &decided),
		fmt.Sprintf("  line to stop signal   p50 %.2f s   max %.2f s", stopped.median(), stopped.at(1)),
		verdict("record p99", recorded.at(0.99), 100, "ms"), verdict("stop signal, max", stopped.at(1), 3, "s"))
	b.ReportMetric(recorded.median(), "record-ms")
	b.ReportMetric(recorded.at(0.99), "record-p99-ms")
	b.ReportMetric(decided.median(), "confirmed-ms")
	b.ReportMetric(stopped.median(), "stop-s")
	b.ReportMetric(stopped.at(1), "stop-max-s")
}

// BenchmarkNoDriver is what looking after GPUs costs a host that has none: a
// daemon as it comes beside one that is told not to look. The figure is zero;
// what is measured is held against what two runs of the same differ by.
func BenchmarkNoDriver(b *testing.B) {
	const windows, window, settle = 6, 30 * time.Second, 10 * time.Second
	if _, err := os.Stat("/dev/nvidiactl"); err == nil {
		b.Skip("there is a driver here")
	}
	k := newBench(b)
	k.run(b, 20)
	type cost struct {
		name     string
		run      *runner
		cpu, rss sample
	}
	var all []*cost
	for _, c := range []struct{ name, on string }{{"as it comes", "true"}, {"gpu.enabled: false", "false"}, {"the same again", "false"}} {
		d := Start(b, k.bin, Options{Host: k.e.Host(), GPU: map[string]string{"enabled": c.on}})
		all = append(all, &cost{name: c.name, run: &runner{pid: d.proc.cmd.Process.Pid}})
	}
	time.Sleep(settle)
	for b.Loop() {
		for range windows {
			began := time.Now()
			var before []time.Duration
			for _, c := range all {
				before = append(before, c.run.cpu(b))
			}
			time.Sleep(window)
			for i, c := range all {
				c.cpu.add((c.run.cpu(b) - before[i]).Seconds() / time.Since(began).Minutes())
				c.rss.add(c.run.rss(b))
			}
		}
	}
	lines := []string{fmt.Sprintf("a host without a driver, 20 containers, %d windows of %v, all at once", windows, window)}
	for _, c := range all {
		lines = append(lines, fmt.Sprintf("  %-20s CPU %.4f s a minute (%.4f to %.4f)   RSS %.1f MiB", c.name, c.cpu.median(), c.cpu.at(0), c.cpu.at(1), c.rss.median()))
	}
	on, off, again := all[0], all[1], all[2]
	noise := func(a, b float64) float64 { return max(a-b, b-a) }
	lines = append(lines,
		verdict("CPU of it", on.cpu.median()-off.cpu.median(), max(0.005, 2*noise(off.cpu.median(), again.cpu.median())), "s a minute"),
		verdict("RSS of it", on.rss.median()-off.rss.median(), max(1, 2*noise(off.rss.median(), again.rss.median())), "MiB"))
	report(b, lines...)
	b.ReportMetric(on.cpu.median()-off.cpu.median(), "extra-cpu-s/min")
	b.ReportMetric(on.rss.median()-off.rss.median(), "extra-MiB")
}

// gpuBench is a daemon beside containers with a GPU each.
type gpuBench struct {
	*GPUs
	r      *Recorder
	d      *Daemon
	boxes  []*Container
	pids   []int
	faults chan time.Time    // when the record of a fault was read
	exams  chan policy.Event // answers to examinations
}

func newGPUBench(b *testing.B, n int) *gpuBench {
	b.Helper()
	RequireEngine(b)
	bin, err := binaries()
	if err != nil {
		b.Fatal(err)
	}
	k := &gpuBench{GPUs: NewGPUs(b, n), faults: make(chan time.Time, 1000), exams: make(chan policy.Event, 1000)}
	e := NewEngine(b, bin)
	k.r = e.Record(b)
	for i := range n {
		k.boxes = append(k.boxes, e.Run(b, Spec{Name: fmt.Sprintf("box%d", i), GPUs: fmt.Sprint(i)}))
	}
	settings := apart()
	settings["backoff_base"], settings["backoff_cap"] = "1ms", "1ms"
	k.d = Start(b, bin, k.Options(e, settings, nil))
	k.Up(b, k.d, n)
	k.follow(b)
	return k
}

// follow reads the daemon's records as they are made, until the benchmark ends.
func (k *gpuBench) follow(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- k.d.Client.Events(ctx, 0, "", true, func(l api.Line) error {
			if l.Event.Kind == policy.KindGPUFault {
				k.faults <- time.Now()
			}
			if l.Event.Kind == policy.KindExamined {
				k.exams <- l.Event
			}
			return nil
		})
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.Errorf("follow the events: %v", err)
		}
	})
	for range 10 { // the stream stands when one comes through
		k.XidLine(b, 0, 63, 0)
		select {
		case <-k.faults:
			return
		case <-time.After(2 * time.Second):
		}
	}
	b.Fatal("no fault is told")
}

// record waits for the record of the line written at that time.
func (k *gpuBench) record(b *testing.B, line time.Time) time.Time {
	b.Helper()
	for {
		select {
		case at := <-k.faults:
			if at.After(line) {
				return at
			}
		case <-time.After(soon):
			b.Fatalf("the line of %v is not on record after %v", line, soon)
		}
	}
}

// workers gives every container a new worker, and the daemon the time to take
// note of it.
func (k *gpuBench) workers(b *testing.B) {
	b.Helper()
	k.pids = k.pids[:0]
	for _, c := range k.boxes {
		k.d.UntilState(b, soon, c.Name, policy.Running)
		k.pids = append(k.pids, c.Worker(b))
	}
	time.Sleep(6 * time.Second) // all processes are looked at every 5 s
}

// strike ends the worker of one container by a fault, and returns when the line
// was written, the answer that confirmed it came, and the engine sent the stop
// signal.
func (k *gpuBench) strike(b *testing.B, i int, c *Container) (line, judged, stopped time.Time) {
	b.Helper()
	n := k.r.Counts(c.Name, "kill")["kill"]
	for len(k.exams) > 0 {
		<-k.exams
	}
	line = k.XidLine(b, i, 31, k.pids[i])
	c.KillProcess(b, k.pids[i])
	for judged.IsZero() {
		select {
		case ev := <-k.exams:
			if ev.Container == c.ID && ev.Examination.PIDExited {
				judged = ev.At
			}
		case <-time.After(soon):
			b.Fatalf("the fault of %s was not confirmed within %v", c.Name, soon)
		}
	}
	stopped = k.r.Wait(b, soon, c.Name, "kill", n+1).At
	k.r.Wait(b, soon, c.Name, "restart", n+1)
	return line, judged, stopped
}
