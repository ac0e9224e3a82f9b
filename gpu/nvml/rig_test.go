//go:build cgo

package nvml

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

// patience is how long a test waits for what must happen at once.
const patience = time.Minute

// TestMain is also the child: tests run this program again.
func TestMain(m *testing.M) {
	switch os.Getenv("DEFIB_TEST_CHILD") {
	case "serve":
		err := Serve(context.Background(), os.Stdin, os.Stdout, ServeOptions{
			Library: os.Getenv("DEFIB_TEST_LIBRARY"), PCIPath: os.Getenv("DEFIB_TEST_PCI"), ProcPath: os.Getenv("DEFIB_TEST_PROC"),
			Wait: 100 * time.Millisecond, Grace: 5 * time.Second,
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "stubborn": // does not care for its owner, as one that hangs in the kernel
		for {
			if _, err := os.Stat(os.Getenv("DEFIB_TEST_FREE")); err == nil {
				os.Exit(0)
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "dies":
		fmt.Fprintln(os.Stderr, "symbol lookup error: undefined symbol")
		os.Exit(127)
	}
	os.Exit(m.Run())
}

// rig is a Probe over a pretended driver.
type rig struct {
	*Probe
	drv    *fakenvml.Driver
	events chan policy.Event
	pci    string // the tree of the bus
	proc   string
	device string // stands for /dev/nvidiactl
	apart  atomic.Bool
}

// newRig makes a Probe with quick intervals that has not started.
func newRig(t *testing.T, variants ...string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{
		drv: fakenvml.New(t, fakenvml.Build(t, variants...)), events: make(chan policy.Event, 4096),
		pci: filepath.Join(dir, "pci"), proc: filepath.Join(dir, "proc"), device: filepath.Join(dir, "nvidiactl"),
	}
	if err := os.WriteFile(r.device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Probe = New(Options{
		Command: []string{os.Args[0]}, Env: r.env("serve"), DevicePath: r.device, PCIPath: r.pci, Apart: r.apart.Load,
		Every: 20 * time.Millisecond, ProcessesEvery: 40 * time.Millisecond, Deadline: 2 * time.Second,
		Backoff: 10 * time.Millisecond, BackoffMax: 40 * time.Millisecond, Look: 10 * time.Millisecond, LookLibrary: 20 * time.Millisecond,
		ApartEvery: 200 * time.Millisecond, Cool: time.Nanosecond, Grace: 10 * time.Second,
	})
	return r
}

func (r *rig) env(role string) []string {
	return append(r.drv.Env(), "DEFIB_TEST_CHILD="+role, "DEFIB_TEST_LIBRARY="+r.drv.Library(),
		"DEFIB_TEST_PCI="+r.pci, "DEFIB_TEST_PROC="+r.proc)
}

// clock makes polls the only looks but the first, at times, in seconds, that the
// test sets.
func (r *rig) clock() *atomic.Int64 {
	var now atomic.Int64
	r.o.Every, r.o.ProcessesEvery = time.Hour, time.Hour
	r.o.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	return &now
}

// start runs Watch until the test ends.
func (r *rig) start(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Watch(ctx, r.events) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Watch returned %v", err)
			}
		case <-time.After(patience):
			t.Error("Watch does not return")
		}
	})
}

// up starts and waits until the driver answers.
func (r *rig) up(t testing.TB) policy.Event {
	t.Helper()
	r.start(t)
	return r.untilState(t, gpu.DriverUp)
}

// until reads events up to one that fits.
func (r *rig) until(t testing.TB, what string, fits func(policy.Event) bool) policy.Event {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case ev := <-r.events:
			if fits(ev) {
				return ev
			}
		case <-limit:
			d, readings := r.Latest()
			t.Fatalf("no event: %s; the driver is %+v, the readings %+v", what, d, readings)
		}
	}
}

func (r *rig) untilState(t testing.TB, want gpu.DriverState) policy.Event {
	t.Helper()
	return r.until(t, "driver "+string(want), func(ev policy.Event) bool {
		return ev.Kind == policy.KindGPUDriver && ev.GPU.Driver.State == want
	})
}

func (r *rig) untilReading(t *testing.T, what string, fits func(gpu.Reading) bool) gpu.Reading {
	t.Helper()
	var out gpu.Reading
	r.until(t, what, func(ev policy.Event) bool {
		if ev.Kind != policy.KindGPUReading {
			return false
		}
		for _, one := range ev.GPU.Readings {
			if fits(one) {
				out = one
				return true
			}
		}
		return false
	})
	return out
}

func (r *rig) untilFault(t *testing.T) gpu.Fault {
	t.Helper()
	return *r.until(t, "fault", func(ev policy.Event) bool { return ev.Kind == policy.KindGPUFault }).GPU.Fault
}

// pid is that of the present child; 0: there is none.
func (r *rig) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.child == nil {
		return 0
	}
	return r.child.cmd.Process.Pid
}

// poll must be answered.
func (r *rig) poll(t *testing.T, uuids ...string) []gpu.Reading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := r.Poll(ctx, uuids)
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	return out
}

func wantReading(t *testing.T, got, want gpu.Reading) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(gpu.Reading{}, "At")); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
}
