//go:build cgo

package nvml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

const (
	looksAMinute = 12              // of a daemon with the usual intervals
	benchIdle    = 5 * time.Second // how long the waits for events are measured
	mostCPU      = 0.3             // s a minute
	mostMiB      = 25              // of the child
)

// BenchmarkPoll8 is what 8 GPUs cost: the CPU time of daemon and child for one
// look, and, at the usual intervals and with the waits for events, for one
// minute (figure: < 0.3 s); and the memory of the child (figure: < 25 MiB).
func BenchmarkPoll8(b *testing.B) {
	r := newBenchRig(b)
	uuids := make([]string, 8)
	for i := range uuids {
		uuids[i] = fakenvml.UUID(i)
	}
	pid := r.pid()
	before := cpu(b, pid)
	n := 0
	for b.Loop() {
		every3rd := n%3 == 0
		if _, err := r.ask(b.Context(), r.child, request{Op: opPoll, UUIDs: uuids, Processes: every3rd, List: every3rd}); err != nil {
			b.Fatal(err)
		}
		n++
	}
	look := (cpu(b, pid) - before) / time.Duration(n)
	before = cpu(b, pid)
	time.Sleep(benchIdle)
	idle := cpu(b, pid) - before
	minute := (looksAMinute*look + idle*(time.Minute/benchIdle)).Seconds()
	child, own := resident(b, pid, "VmRSS"), resident(b, pid, "RssAnon")
	b.ReportMetric(minute, "cpu-s/min")
	b.ReportMetric(float64(look.Microseconds()), "cpu-µs/look")
	b.ReportMetric(child, "child-MiB")
	b.ReportMetric(own, "child-own-MiB")
	verdict := func(what string, got, most float64) {
		word := "met"
		if got > most {
			word = "MISSED"
		}
		b.Logf("%s: %s: %.3g, wanted at most %v", word, what, got, most)
	}
	verdict("CPU of 8 GPUs, s a minute", minute, mostCPU)
	verdict("memory of the child, MiB", child, mostMiB)
	b.Logf("%.3g MiB of it are its own; the rest is the program, which the daemon has in memory anyway, and of which the kernel may count all", own)
}

// BenchmarkApart is one look while the driver is let go: a child that starts,
// opens the driver, reads 8 GPUs, and ends. Two a minute are made.
func BenchmarkApart(b *testing.B) {
	r := newBenchRig(b)
	r.apart.Store(true)
	rest := func() {
		for r.pid() != 0 {
			time.Sleep(time.Millisecond)
		}
	}
	r.mu.Lock()
	r.child.rest()
	r.mu.Unlock()
	rest()
	before := cpuWithChildren(b)
	n := 0
	for b.Loop() {
		if _, err := r.Poll(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		rest()
		n++
	}
	look := (cpuWithChildren(b) - before) / time.Duration(n)
	b.ReportMetric(2*look.Seconds(), "cpu-s/min")
	b.ReportMetric(float64(look.Milliseconds()), "cpu-ms/look")
}

// cpuWithChildren is what this process and the children that have ended used.
func cpuWithChildren(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// newBenchRig is the real program with a driver of 8 GPUs, each with two
// processes, that has answered.
func newBenchRig(b *testing.B) *rig {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "defib")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", bin, "../../cmd/defib").CombinedOutput(); err != nil {
		b.Fatalf("build defib: %v\n%s", err, out)
	}
	fromDisk(b, bin)
	drv := fakenvml.New(b, fakenvml.Build(b))
	drv.Set("count", 8)
	for i := range 8 {
		drv.SetGPU(i, "compute", fmt.Sprintf("%d:1000,%d:2000", 4000+i, 5000+i))
	}
	r := &rig{events: make(chan policy.Event, 64)}
	r.Probe = New(Options{
		Command: []string{bin, "gpu-probe", "--library", drv.Library()}, DevicePath: "/dev/null",
		Env:   append(drv.Env(), "DEFIB_FAKE_NVML_TICK_MS=1000"), // the stand-in's own looking is not ours to count
		Every: time.Hour, ProcessesEvery: time.Hour, Apart: r.apart.Load, ApartEvery: time.Hour,
	})
	r.up(b)
	return r
}

// fromDisk drops what the system keeps of a file, so that a program is in memory
// as after a boot. Of one that was just written, Linux 6.18 maps whole folios of
// up to 2 MiB, and counts some 7 MiB more.
func fromDisk(b *testing.B, path string) {
	b.Helper()
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	}
	if err != nil {
		b.Fatal(err)
	}
}

// cpu is what this process and the child have used so far.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		b.Fatal(err)
	}
	sum := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// resident is the memory of a process, or a kind of it, in MiB.
func resident(b *testing.B, pid int, kind string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, kind+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	b.Fatalf("no %s", kind)
	return 0
}
