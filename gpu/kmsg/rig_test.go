package kmsg

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// The machine of the tests booted at noon and it is one o'clock.
var (
	boot   = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	uptime = time.Hour
)

// rig is a Log that reads a pipe of the test's.
type rig struct {
	tb   testing.TB
	log  *Log
	path string
	pipe *os.File // the test's own end
	out  chan policy.Event
	said bytes.Buffer // to be read when it has ended

	mu    sync.Mutex
	asked []int
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{tb: tb, path: filepath.Join(tb.TempDir(), "kmsg"), out: make(chan policy.Event, 8)}
	if err := unix.Mkfifo(r.path, 0o600); err != nil {
		tb.Fatal(err)
	}
	pipe, err := os.OpenFile(r.path, os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = pipe.Close() })
	r.pipe = pipe
	r.log = r.newLog(r.path)
	return r
}

func (r *rig) newLog(path string) *Log {
	return New(Options{
		Path: path, Process: r.who, Log: slog.New(slog.NewTextHandler(&r.said, nil)),
		Now: func() time.Time { return boot.Add(uptime) }, Boottime: func() time.Duration { return uptime },
	})
}

// who knows one process.
func (r *rig) who(pid int) gpu.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, pid)
	if pid != 4242 {
		return gpu.Process{PID: pid, Dead: true}
	}
	return gpu.Process{PID: pid, Name: "VLLM::Worker", Containers: []string{"c1"}}
}

// watch runs the log until the test or the returned function ends it.
func (r *rig) watch() (end func()) {
	ctx, cancel := context.WithCancel(r.tb.Context())
	done := make(chan error, 1)
	go func() { done <- r.log.Watch(ctx, r.out) }()
	return func() {
		r.tb.Helper()
		cancel()
		if err := <-done; err != context.Canceled { //nolint:errorlint // exactly that one
			r.tb.Errorf("Watch returned %v", err)
		}
	}
}

// put writes a record of the kernel; age is how long before now it is logged.
func (r *rig) put(seq int, age time.Duration, text string) {
	r.tb.Helper()
	r.raw(line(4, seq, age, text))
}

func (r *rig) raw(text string) {
	r.tb.Helper()
	if _, err := r.pipe.WriteString(text); err != nil {
		r.tb.Fatal(err)
	}
}

func line(prefix, seq int, age time.Duration, text string) string {
	return fmt.Sprintf("%d,%d,%d,-;%s\n", prefix, seq, (uptime - age).Microseconds(), text)
}

// next is the next event, or a failure after a long while.
func (r *rig) next() policy.Event {
	r.tb.Helper()
	select {
	case ev := <-r.out:
		return ev
	case <-time.After(time.Minute):
		r.tb.Fatal("nothing came within a minute")
		return policy.Event{}
	}
}

// fault is the next event, which must be one.
func (r *rig) fault() gpu.Fault {
	r.tb.Helper()
	ev := r.next()
	if ev.Kind != policy.KindGPUFault {
		r.tb.Fatalf("the next event is %+v, want a fault", ev)
	}
	return *ev.GPU.Fault
}

// readable wants the event that tells that the log can be read.
func (r *rig) readable() {
	r.tb.Helper()
	same(r.tb, "first event", r.next(), policy.Event{Kind: policy.KindKernelLog})
}

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func xid(code, pid int) string {
	return fmt.Sprintf("NVRM: Xid (PCI:0000:3b:00): %d, pid=%d, name=VLLM::Worker, Ch 00000008", code, pid)
}

// reads is a source that gives what a test wrote down, then nothing.
type reads struct {
	steps []read
	waits int
}

type read struct {
	text string
	err  error
}

func (s *reads) read(p []byte) (int, error) {
	if len(s.steps) == 0 {
		return 0, errIdle
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	return copy(p, next.text), next.err
}

func (s *reads) wait(ctx context.Context) error {
	s.waits++
	<-ctx.Done()
	return nil
}

func (*reads) live() bool { return true }
func (*reads) close()     {}

// device makes the log read steps; what it sends is collected.
func (r *rig) device(steps ...read) []policy.Event {
	r.tb.Helper()
	r.log.open = func() (source, error) { return &reads{steps: steps}, nil }
	return r.collect()
}

// collect runs Watch until it waits.
func (r *rig) collect() []policy.Event {
	ctx, cancel := context.WithCancel(r.tb.Context())
	defer cancel()
	open := r.log.open
	r.log.open = func() (source, error) {
		s, err := open()
		return waiter{s, cancel}, err
	}
	out := make(chan policy.Event)
	done := make(chan struct{})
	var all []policy.Event
	go func() {
		defer close(done)
		for ev := range out {
			all = append(all, ev)
		}
	}()
	_ = r.log.Watch(ctx, out)
	close(out)
	<-done
	return all
}

// waiter ends the run when all has been read.
type waiter struct {
	source
	cancel context.CancelFunc
}

func (w waiter) wait(context.Context) error { w.cancel(); return nil }

func faults(all []policy.Event) []gpu.Fault {
	var f []gpu.Fault
	for _, ev := range all {
		if ev.Kind == policy.KindGPUFault {
			f = append(f, *ev.GPU.Fault)
		}
	}
	return f
}
