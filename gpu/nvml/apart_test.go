//go:build cgo

package nvml

import (
	"errors"
	"testing"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

// untilHeld waits until the library is held by a child of ours, or by none, and
// returns how often it was opened.
func (r *rig) untilHeld(t *testing.T, held int) int {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		opened, closed := r.drv.Opened()
		if opened-closed == held && (r.pid() != 0) == (held > 0) {
			return opened
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the library was opened %d times and closed %d times, the child is %d", opened, closed, r.pid())
		}
	}
}

// While a human may reset a GPU, the library is held only for a look now and
// then, and for those who ask. The driver counts as up all the while.
func TestApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.ApartEvery = time.Hour
	r.drv.SetGPU(0, "field.230", 1)
	r.up(t)
	r.untilHeld(t, 1)
	r.apart.Store(true)
	if n := r.untilHeld(t, 0); n != 1 {
		t.Errorf("it was opened %d times to be let go", n)
	}
	r.drv.SetGPU(0, "field.230", 0)
	for i := range 3 { // the policy asks until it is content
		if got := r.poll(t, fakenvml.UUID(0)); len(got) != 1 || *got[0].Recovery != gpu.RecoverNone {
			t.Errorf("poll %d: %+v", i, got)
		}
		if n := r.untilHeld(t, 0); n != 2+i {
			t.Errorf("after poll %d it was opened %d times", i, n)
		}
	}
	if d, _ := r.Latest(); d.State != gpu.DriverUp {
		t.Errorf("the driver is %+v", d)
	}
	r.apart.Store(false)
	if n := r.untilHeld(t, 1); n != 5 {
		t.Errorf("it was opened %d times in the end", n)
	}
	for len(r.events) > 0 {
		if ev := <-r.events; ev.Kind == policy.KindGPUDriver {
			t.Errorf("the driver is said to be %+v", ev.GPU.Driver)
		}
	}
}

// Each look of those that are far between is told, though it says nothing new:
// who holds the GPU counts them. A GPU that is well again is seen without being
// asked for.
func TestApartLooks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apart.Store(true)
	r.drv.SetGPU(0, "field.230", 1)
	r.up(t) // also when it is let go from the start
	r.drv.SetGPU(0, "field.230", 0)
	var last time.Time
	for range 3 {
		got := r.untilReading(t, "it is well", func(one gpu.Reading) bool { return one.Recovery != nil && *one.Recovery == gpu.RecoverNone })
		if gap := got.At.Sub(last); gap < r.o.ApartEvery/2 {
			t.Errorf("a look %v after the one before", gap)
		}
		last = got.At
	}
	if opened, _ := r.drv.Opened(); opened < 4 {
		t.Errorf("%d looks", opened)
	}
}

// A driver that hangs while it is looked at now and then is a driver that hangs,
// and one that dies is asked for in vain.
func TestApartFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apart.Store(true)
	r.up(t)
	r.drv.SetGPU(0, "memory.hang_ms", 600000)
	r.untilState(t, gpu.DriverHung)
	if _, err := r.Poll(t.Context(), nil); err == nil {
		t.Error("a driver that hangs answers a poll")
	}
	r.drv.UnsetGPU(0, "memory.hang_ms")
	r.untilState(t, gpu.DriverUp)
}

// A reset of defib's own waits for what is about to go.
func TestApartAndReleased(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apart.Store(true)
	r.up(t)
	for range 5 {
		if err := r.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if opened, closed := r.drv.Opened(); opened != closed {
			t.Errorf("released, and opened %d times, closed %d times", opened, closed)
		}
		if _, err := r.Poll(t.Context(), nil); !errors.Is(err, errReleased) {
			t.Errorf("a poll says %v", err)
		}
		r.Resume()
		r.untilState(t, gpu.DriverUp)
	}
}

// Those who ask while the child is about to go are answered all the same.
func TestApartManyAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.apart.Store(true)
	r.up(t)
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 5 {
				_, failed := r.Poll(t.Context(), []string{fakenvml.UUID(0)})
				err = errors.Join(err, failed)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r.untilHeld(t, 0)
}
