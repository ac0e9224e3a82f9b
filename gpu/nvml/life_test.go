//go:build cgo

package nvml

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

// Without a driver there is no child; it is said once, and a driver that comes
// is seen.
func TestAbsent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := os.Remove(r.device); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	first := <-r.events
	if first.Kind != policy.KindGPUDriver || first.GPU.Driver.State != gpu.DriverAbsent ||
		!strings.Contains(first.GPU.Driver.Detail, r.device) || !strings.Contains(first.GPU.Driver.Detail, "deploy/compose.gpu.yaml") {
		t.Errorf("the first event: %+v", first.GPU)
	}
	if _, err := r.Poll(t.Context(), nil); err == nil || err.Error() != first.GPU.Driver.Detail {
		t.Errorf("a poll says %v", err)
	}
	select {
	case <-r.Found():
		t.Error("a driver was found where there is none")
	default:
	}
	if err := os.WriteFile(r.device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-r.Found()
	if next := <-r.events; next.Kind != policy.KindGPUDriver || next.GPU.Driver.State != gpu.DriverUp {
		t.Errorf("the next event: %s %+v", next.Kind, next.GPU.Driver)
	}
}

// The device without the library, as in a container that lacks the capability.
func TestNoLibrary(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Env = append(r.o.Env, "DEFIB_TEST_LIBRARY=/nonexistent/libnvidia-ml.so.1")
	r.start(t)
	if d := r.untilState(t, gpu.DriverAbsent).GPU.Driver; !strings.Contains(d.Detail, "NVIDIA_DRIVER_CAPABILITIES=utility") {
		t.Errorf("detail: %s", d.Detail)
	}
}

// A driver that hangs: the state says so, the GPU at which it hangs is named,
// asks fail instead of waiting, and it is seen when it answers again.
func TestHang(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"memory.hang_ms", "name.hang_ms"} { // while it reads, while it lists
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			hang(t, call)
		})
	}
}

func hang(t *testing.T, call string) {
	t.Helper()
	r := newRig(t)
	r.o.Deadline = 2 * time.Second
	r.drv.Set("count", 3)
	r.up(t)
	pid := r.pid()
	r.drv.SetGPU(1, call, 600000)
	var err error
	for err == nil { // one that lists nothing may still be answered
		_, err = r.Poll(t.Context(), nil)
	}
	if !strings.Contains(err.Error(), "has not answered for 2s") {
		t.Errorf("a poll of a driver that hangs says %v", err)
	}
	r.untilReading(t, "which one", func(one gpu.Reading) bool {
		return one.UUID == fakenvml.UUID(1) && one.Trouble == gpu.TroubleTimeout
	})
	r.untilState(t, gpu.DriverHung)
	if d, readings := r.Latest(); d.State != gpu.DriverHung || len(readings) != 3 || readings[1].Trouble != gpu.TroubleTimeout || readings[0].Trouble != "" {
		t.Errorf("latest: %+v %+v", d, readings)
	}
	wantGone(t, pid)
	r.drv.UnsetGPU(1, call)
	r.untilState(t, gpu.DriverUp)
	r.untilReading(t, "well again", func(one gpu.Reading) bool { return one.UUID == fakenvml.UUID(1) && one.Trouble == "" })
}

// It is not up as long as it only starts, and hangs when it is asked.
func TestHangsFromTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Deadline = 2 * time.Second
	r.drv.SetGPU(0, "memory.hang_ms", 600000)
	r.start(t)
	if first := <-r.events; first.Kind != policy.KindGPUReading || first.GPU.Readings[0].Trouble != gpu.TroubleTimeout {
		t.Errorf("the first event: %s %+v", first.Kind, first.GPU)
	}
	if next := <-r.events; next.Kind != policy.KindGPUDriver || next.GPU.Driver.State != gpu.DriverHung {
		t.Errorf("the next event: %s %+v", next.Kind, next.GPU.Driver)
	}
}

// wantGone: the process has been reaped.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

// A child that is killed comes back, each time later, up to every 5 min; nothing
// of it stays. The pauses are those of a daemon, only that the test's clock jumps
// over them.
func TestKilled(t *testing.T) {
	r := newRig(t)
	r.o.Backoff, r.o.BackoffMax = time.Second, 5*time.Minute
	r.o.Deadline = patience // a machine that is busy makes no driver that hangs
	var jumped atomic.Int64
	var mu sync.Mutex
	var pauses []time.Duration
	r.now = func() time.Time { return time.Now().Add(time.Duration(jumped.Load())) }
	r.timer = func(d time.Duration) *time.Timer {
		mu.Lock()
		defer mu.Unlock()
		pauses = append(pauses, d)
		jumped.Add(int64(d))
		return time.NewTimer(0)
	}
	r.up(t)
	goroutines, threads := runtime.NumGoroutine(), threadCount(t)
	var pids []int
	for range 20 {
		pid := r.pid()
		pids = append(pids, pid)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if d := r.untilState(t, gpu.DriverLost).GPU.Driver; d.Detail != "the GPU probe ended (signal: killed); it is started again" || d.Version == "" {
			t.Errorf("driver: %+v", d)
		}
		r.untilState(t, gpu.DriverUp)
	}
	for _, pid := range pids {
		wantGone(t, pid)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256}
	for len(want) < 20 {
		want = append(want, 300)
	}
	for i := range want {
		want[i] *= time.Second
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if n := threadCount(t); n > threads+6 { // the runtime's own come and go
		t.Errorf("%d threads, %d before", n, threads)
	}
}

func threadCount(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// After a child that ended, each GPU is told anew: whoever counts looks at a GPU
// that was held began anew, too.
func TestRespawnIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 2)
	r.up(t)
	both := func(what string) {
		t.Helper()
		r.until(t, what, func(ev policy.Event) bool { return ev.Kind == policy.KindGPUReading && len(ev.GPU.Readings) == 2 })
	}
	both("at the start")
	r.untilQuiet(t)
	if err := syscall.Kill(r.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.untilState(t, gpu.DriverLost)
	r.untilState(t, gpu.DriverUp)
	both("after a death")
	r.untilQuiet(t)
	if err := r.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Resume()
	r.untilState(t, gpu.DriverUp)
	both("after a reset")
}

// untilQuiet waits until ten looks have said nothing new.
func (r *rig) untilQuiet(t *testing.T) {
	t.Helper()
	for quiet := 0; quiet < 10; {
		quiet++
		r.poll(t)
		for len(r.events) > 0 {
			<-r.events
			quiet = 0
		}
	}
}

// Whether processes can be told apart is a matter of our own namespace: it is
// known while the driver is away, and when there is none.
func TestBlind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Blind = func() string { return "cannot see host processes" }
	r.up(t)
	if err := os.Remove(r.device); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, state := range []gpu.DriverState{gpu.DriverLost, gpu.DriverAbsent} {
		if d := r.untilState(t, state).GPU.Driver; d.Blind == "" {
			t.Errorf("%s: %+v", state, d)
		}
	}
}

// The pauses between children grow, and a child that lived sets them back.
func TestPauses(t *testing.T) {
	t.Parallel()
	o := Options{}.withDefaults()
	w := waits{o: o, next: o.Backoff, absent: o.Look}
	dead := ending{driver: gpu.Driver{State: gpu.DriverLost}}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		if got := w.pause(dead, time.Second); got != want*time.Second {
			t.Errorf("pause %d: %v, want %v s", i, got, int64(want))
		}
	}
	if got := w.pause(dead, time.Minute); got != time.Second {
		t.Errorf("after a minute of life: %v", got)
	}
	if got := w.pause(ending{driver: gpu.Driver{State: gpu.DriverMismatch}}, 0); got != 30*time.Second {
		t.Errorf("mismatch: %v", got)
	}
	if got := w.pause(ending{driver: gpu.Driver{State: gpu.DriverAbsent}, code: codeLibraryNotFound}, 0); got != 10*time.Minute {
		t.Errorf("no library: %v", got)
	}
	for i, want := range []time.Duration{30, 60, 120, 240, 480, 600, 600} {
		if got := w.pause(ending{driver: gpu.Driver{State: gpu.DriverAbsent}, code: codeDriverNotLoaded}, 0); got != want*time.Second {
			t.Errorf("not loaded, pause %d: %v", i, got)
		}
	}
}

// A library that lacks what go-nvml needs ends the child with 127; what it
// said is in the detail.
func TestChildThatDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Env = r.env("dies")
	r.start(t)
	want := "the GPU probe ended (exit status 127: symbol lookup error: undefined symbol); it is started again"
	if d := r.untilState(t, gpu.DriverLost).GPU.Driver; d.Detail != want {
		t.Errorf("detail: %s", d.Detail)
	}
}

// Whose a process is may take long to find out; nobody else waits for it.
func TestAttribution(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	enter, leave := make(chan int, 16), make(chan struct{})
	r.o.Process = func(pid int) gpu.Process {
		enter <- pid
		<-leave
		return gpu.Process{PID: -1, Name: "VLLM::Worker", Containers: []string{"c1"}, Dead: true}
	}
	r.drv.SetGPU(0, "compute", "42:1000")
	r.start(t)
	if pid := <-enter; pid != 42 {
		t.Errorf("asked for %d", pid)
	}
	r.Latest()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Poll(ctx, nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a poll says %v", err)
	}
	close(leave)
	got := r.untilReading(t, "attributed", func(one gpu.Reading) bool { return len(one.Processes) > 0 })
	want := healthy(0)
	want.Processes = []gpu.Process{{PID: 42, Memory: 1000, Name: "VLLM::Worker", Containers: []string{"c1"}, Dead: true}}
	wantReading(t, got, want)
}

// Many ask at once; each gets its own answer.
func TestConcurrentPolls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 8)
	r.up(t)
	done := make(chan error, 40)
	for i := range cap(done) {
		go func() {
			got, err := r.Poll(t.Context(), []string{fakenvml.UUID(i % 8)})
			if err == nil && (len(got) != 1 || got[0].UUID != fakenvml.UUID(i%8)) {
				err = errors.New("the answer is for another GPU")
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
