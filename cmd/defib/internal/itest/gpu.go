package itest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
)

// GPUs are pretended NVIDIA GPUs: a driver library that answers as it is told,
// and a kernel log. The processes on them are real ones of containers.
type GPUs struct {
	*fakenvml.Driver
	log  *os.File // the kernel log: a pipe, kept open so that nobody ever waits for the other end
	path string

	mu  sync.Mutex
	seq int // of the newest record
}

// NewGPUs returns so many healthy GPUs. The variants are those of the library;
// see [fakenvml.Build].
func NewGPUs(t testing.TB, count int, variants ...string) *GPUs {
	t.Helper()
	g := &GPUs{Driver: fakenvml.New(t, fakenvml.Build(t, variants...)), path: filepath.Join(shortDir(t), "kmsg")}
	g.Set("count", count)
	if err := unix.Mkfifo(g.path, 0o600); err != nil {
		t.Fatalf("make the kernel log: %v", err)
	}
	var err error
	if g.log, err = os.OpenFile(g.path, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		t.Fatalf("open the kernel log: %v", err)
	}
	t.Cleanup(func() { _ = g.log.Close() })
	return g
}

// Options are those of a daemon on this host. The settings, of the section gpu,
// come on top.
func (g *GPUs) Options(e *Engine, policy, settings map[string]string) Options {
	all := map[string]string{"library": strconv.Quote(g.Library()), "kernel_log": strconv.Quote(g.path), "poll": "1s"}
	maps.Copy(all, settings)
	return Options{Host: e.Host(), Policy: policy, GPU: all, Env: g.Env()}
}

// Up waits until the daemon knows the GPUs and reads the kernel log: what is
// written from then on is news to it.
func (g *GPUs) Up(t testing.TB, d *Daemon, count int) {
	t.Helper()
	d.UntilGPUs(t, soon, "the driver answers", func(got api.GPUs) bool {
		return got.Driver.State == gpu.DriverUp && len(got.GPUs) == count
	})
	g.Kernel(t, "NVRM: loading NVIDIA UNIX x86_64 Kernel Module")
	for deadline := time.Now().Add(soon); ; time.Sleep(2 * time.Millisecond) {
		left, err := unix.IoctlGetInt(int(g.log.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatalf("look into the kernel log: %v", err)
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of the kernel log are not read", left)
		}
	}
}

// Kernel writes a record of the kernel itself into the log, and returns when.
func (g *GPUs) Kernel(t testing.TB, text string) time.Time {
	t.Helper()
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &since); err != nil {
		t.Fatal(err)
	}
	return g.KernelAt(t, time.Duration(since.Nano()), text)
}

// KernelAt is Kernel with the time since boot of the record's choice.
func (g *GPUs) KernelAt(t testing.TB, since time.Duration, text string) time.Time {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seq++
	now := time.Now()
	if _, err := fmt.Fprintf(g.log, "4,%d,%d,-;%s\n", g.seq, since.Microseconds(), text); err != nil {
		t.Fatalf("write into the kernel log: %v", err)
	}
	return now
}

// XidLine writes the line of an Xid of a process, 0 for none, and returns when.
func (g *GPUs) XidLine(t testing.TB, index, code, pid int) time.Time {
	t.Helper()
	return g.Kernel(t, xidLine(index, code, pid))
}

// xidLine is the line of an Xid, as the driver writes it.
func xidLine(index, code, pid int) string {
	who := ""
	if pid > 0 {
		who = fmt.Sprintf("pid=%d, name=fakeinfer, ", pid)
	}
	return fmt.Sprintf("NVRM: Xid (PCI:0000:%02x:00): %d, %sCh 00000008", firstBus+index, code, who)
}

// firstBus is the PCI bus of GPU 0 of the pretended driver.
const firstBus = 0x3b

// Processes puts processes on a GPU: PIDs of this host, each with so many bytes
// of its memory.
func (g *GPUs) Processes(t testing.TB, index int, each uint64, pids ...int) {
	t.Helper()
	var list []string
	for _, pid := range pids {
		list = append(list, fmt.Sprintf("%d:%d", pid, each))
	}
	g.SetGPU(index, "compute", strings.Join(list, ","))
	g.SetGPU(index, "used", each*uint64(len(pids)))
}

// GPUs is what `defib gpus` shows.
func (d *Daemon) GPUs(t testing.TB) api.GPUs {
	t.Helper()
	ctx, cancel := asking(t)
	defer cancel()
	got, err := d.Client.GPUs(ctx)
	if err != nil {
		t.Fatalf("ask for the GPUs: %v", err)
	}
	return got
}

// UntilGPUs waits until the GPUs are as they should be.
func (d *Daemon) UntilGPUs(t testing.TB, within time.Duration, what string, met func(api.GPUs) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		got, err := d.Client.GPUs(ctx)
		if err == nil && met(got) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s\nerror: %v\ndriver: %+v\nGPUs: %+v", within, what, err, got.Driver, got.GPUs)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// UntilHeld waits until a GPU is held, or is not.
func (d *Daemon) UntilHeld(t testing.TB, within time.Duration, index int, held bool) {
	t.Helper()
	d.UntilGPUs(t, within, fmt.Sprintf("GPU %d is held: %v", index, held), func(got api.GPUs) bool {
		return len(got.GPUs) > index && (got.GPUs[index].Hold != nil) == held
	})
}
