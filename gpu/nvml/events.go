//go:build cgo

package nvml

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/defib-dev/defib/gpu"
)

const (
	retryEvents    = time.Second // after an error of a wait, doubling …
	retryEventsMax = time.Minute // … up to this
	sameEvent      = time.Second // a repetition within it says nothing new
	notOnMIG       = ^uint32(0)  // instead of an instance
	hiddenXid      = 999         // instead of an Xid whose number NVML hides
	wantedEvents   = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError |
		nvml.EventTypeDramRetirementFailure | nvml.EventTypeFatalPoisonError |
		nvml.EventTypeGpuUnavailableError | nvml.EventTypeGpuRecoveryAction
)

// watchAll waits for the events of each GPU that is not watched yet, by itself:
// a wait that ends with GPU_IS_LOST does not say which GPU it is.
func (s *server) watchAll(ctx context.Context, owned *sync.WaitGroup) {
	for _, name := range []string{"nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents", "nvmlEventSetCreate", "nvmlEventSetFree"} {
		if !s.has[name] {
			return
		}
	}
	if !s.any("nvmlEventSetWait") {
		return
	}
	for _, d := range s.list {
		if key := cmp.Or(d.PCI, d.UUID); d.listed && !s.watched[key] {
			s.watched[key] = true
			w := &eventWatch{lib: s.lib, out: s.out, wait: s.o.Wait, device: *d}
			owned.Go(func() { w.run(ctx) })
		}
	}
}

// eventWatch waits for what happens to one GPU.
type eventWatch struct {
	lib    nvml.Interface
	out    *output
	wait   time.Duration
	device device
	lost   bool // that it is lost has been said
	newest map[eventKey]time.Time
}

// eventKey tells events apart that say something new.
type eventKey struct {
	kind, data uint64
	gi, ci     uint32
}

// run registers and waits until ctx ends. An error costs the registration, and
// a pause: a lost GPU answers at once, for ever.
func (w *eventWatch) run(ctx context.Context) {
	w.newest = map[eventKey]time.Time{}
	pause := retryEvents
	for ctx.Err() == nil {
		began := time.Now()
		ret := w.once(ctx)
		if ret == nvml.ERROR_NOT_SUPPORTED {
			return // this GPU has no events
		}
		if ret == nvml.ERROR_GPU_IS_LOST {
			w.sayLost("the driver reports that it is lost (NVML 15)")
		}
		if time.Since(began) > retryEventsMax {
			pause = retryEvents
		}
		rest(ctx, pause)
		pause = min(2*pause, retryEventsMax)
	}
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// once registers and waits until that fails.
func (w *eventWatch) once(ctx context.Context) nvml.Return {
	types, ret := w.device.handle.GetSupportedEventTypes()
	if ret != nvml.SUCCESS {
		return ret
	}
	if types &= wantedEvents; types == 0 {
		return nvml.ERROR_NOT_SUPPORTED
	}
	set, ret := w.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		return ret
	}
	defer set.Free()
	if ret := w.device.handle.RegisterEvents(types, set); ret != nvml.SUCCESS {
		return ret
	}
	for ctx.Err() == nil {
		ev, ret := set.Wait(uint32(w.wait.Milliseconds())) //nolint:gosec // seconds
		switch ret {
		case nvml.SUCCESS:
			w.lost = w.lost && ev.EventType == nvml.EventTypeGpuUnavailableError
			w.say(ev)
		case nvml.ERROR_TIMEOUT:
			w.lost = false
		default:
			return ret
		}
	}
	return nvml.SUCCESS
}

// say reports one event. A storm of the same is one.
func (w *eventWatch) say(ev nvml.EventData) {
	key := eventKey{ev.EventType, ev.EventData, ev.GpuInstanceId, ev.ComputeInstanceId}
	now := time.Now()
	if last, ok := w.newest[key]; ok && now.Sub(last) < sameEvent {
		return
	}
	if len(w.newest) > 256 { // no real GPU has so many Xids
		clear(w.newest)
	}
	w.newest[key] = now
	switch ev.EventType {
	case nvml.EventTypeXidCriticalError:
		w.sayXid(ev)
	case nvml.EventTypeGpuUnavailableError:
		w.sayLost("the driver reports that it is unavailable")
	default:
		_ = w.out.say(message{Op: opLook}) // a reader that is gone ends us by its other end
	}
}

func (w *eventWatch) sayXid(ev nvml.EventData) {
	f := gpu.Fault{Kind: gpu.FaultXid, Code: int(ev.EventData), UUID: w.device.UUID, PCI: w.device.PCI, Source: gpu.SourceNVML} //nolint:gosec // three digits
	if ev.EventData == hiddenXid {
		f.Code = -1
	}
	if ev.GpuInstanceId != notOnMIG {
		f.OnMIG, f.GI = true, int(ev.GpuInstanceId)
		if f.CI = int(ev.ComputeInstanceId); ev.ComputeInstanceId == notOnMIG {
			f.CI = -1
		}
	}
	_ = w.out.say(message{Op: opFault, Fault: &f})
}

// sayLost reports that the GPU is lost, once until it is back.
func (w *eventWatch) sayLost(detail string) {
	if w.lost {
		return
	}
	w.lost = true
	f := gpu.Fault{Kind: gpu.FaultBusLoss, UUID: w.device.UUID, PCI: w.device.PCI, Source: gpu.SourceNVML, Text: detail}
	r := gpu.Reading{UUID: w.device.UUID, Trouble: gpu.TroubleLost, Detail: detail}
	_ = w.out.say(message{Op: opReading, Reading: &r})
	_ = w.out.say(message{Op: opFault, Fault: &f})
}
