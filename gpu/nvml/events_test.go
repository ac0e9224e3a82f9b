//go:build cgo

package nvml

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

// An Xid arrives with all that NVML knows of it.
func TestXid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 2)
	r.drv.SetGPU(1, "mig", "3:0")
	r.up(t)
	r.registered(t, 0)
	r.registered(t, 1)
	tests := []struct {
		name   string
		report func()
		want   gpu.Fault
	}{
		{"of a GPU", func() { r.drv.Xid(0, 79) }, gpu.Fault{Code: 79, UUID: fakenvml.UUID(0), PCI: "0000:3b:00.0"}},
		{"hidden", func() { r.drv.Xid(0, 999) }, gpu.Fault{Code: -1, UUID: fakenvml.UUID(0), PCI: "0000:3b:00.0"}},
		{"of an instance", func() { r.drv.XidMIG(1, 31, 3, 0) }, gpu.Fault{Code: 31, UUID: fakenvml.UUID(1), PCI: "0000:3c:00.0", OnMIG: true, GI: 3}},
		{"of any part of an instance", func() { r.drv.XidMIG(1, 13, 5, -1) }, gpu.Fault{Code: 13, UUID: fakenvml.UUID(1), PCI: "0000:3c:00.0", OnMIG: true, GI: 5, CI: -1}},
	}
	for _, test := range tests {
		test.want.Kind, test.want.Source = gpu.FaultXid, gpu.SourceNVML
		test.report()
		got := r.untilFault(t)
		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(gpu.Fault{}, "At")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if got.At.IsZero() {
			t.Errorf("%s: it has no time", test.name)
		}
	}
}

// From the driver's report to the event it takes less than 100 ms. A busy test
// machine may take longer now and then, but not each time.
func TestXidAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up(t)
	r.registered(t, 0)
	best := time.Hour
	for code := 1; code <= 20 && best > 100*time.Millisecond; code++ {
		written := time.Now()
		r.drv.Xid(0, code)
		r.untilFault(t)
		best = min(best, time.Since(written))
	}
	if best > 100*time.Millisecond {
		t.Errorf("the quickest of 20 took %v", best)
	}
}

// registered waits until the events of a GPU are heard: what happens before
// registration is lost. Xids that no test uses are sent until one arrives.
func (r *rig) registered(t *testing.T, index int) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for code := 100000 * (index + 1); ; {
		select {
		case ev := <-r.events:
			if ev.Kind != policy.KindGPUFault || ev.GPU.Fault.UUID != fakenvml.UUID(index) || ev.GPU.Fault.Code < 100000 {
				continue
			}
			for newest := ev.GPU.Fault.Code; newest < code; { // those that are still on their way
				newest = r.untilFault(t).Code
			}
			return
		case <-tick.C:
			code++
			r.drv.Xid(index, code)
		case <-limit:
			t.Fatalf("no events of GPU %d arrive", index)
		}
	}
}

// A storm of one Xid is reported once, another in the midst of it too.
func TestXidStorm(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up(t)
	r.registered(t, 0)
	for range 500 {
		r.drv.Xid(0, 31)
	}
	r.drv.Xid(0, 48)
	var codes []int
	for len(codes) == 0 || codes[len(codes)-1] != 48 {
		codes = append(codes, r.untilFault(t).Code)
	}
	if len(codes) > 6 { // one a second, and the test machine may be slow
		t.Errorf("%d reports of 500 equal Xids: %v", len(codes), codes)
	}
}

// A GPU that falls off the bus is a fault and a reading, each once, whichever
// way the driver tells it.
func TestLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*rig){
		"return code": func(r *rig) { r.drv.Lost(0) },
		"event":       func(r *rig) { r.drv.Event(0, fakenvml.EventUnavailable, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.o.Every, r.o.ProcessesEvery = time.Hour, time.Hour // only events tell
			r.drv.Set("count", 2)
			r.up(t)
			r.registered(t, 0)
			lose(r)
			got := r.untilReading(t, "lost", func(one gpu.Reading) bool { return one.Trouble == gpu.TroubleLost })
			if got.UUID != fakenvml.UUID(0) || got.Detail == "" {
				t.Errorf("reading: %+v", got)
			}
			f := r.untilFault(t)
			if f.Kind != gpu.FaultBusLoss || f.UUID != fakenvml.UUID(0) || f.PCI != "0000:3b:00.0" || f.Source != gpu.SourceNVML {
				t.Errorf("fault: %+v", f)
			}
			r.drv.Xid(1, 13) // the other GPU is heard, and nothing is said twice
			for f := r.untilFault(t); f.UUID != fakenvml.UUID(1); f = r.untilFault(t) {
				t.Errorf("said again: %+v", f)
			}
		})
	}
}

// A changed recovery action is read at once, not at the next look.
func TestRecoveryEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Every, r.o.ProcessesEvery = time.Hour, time.Hour
	r.up(t)
	r.registered(t, 0)
	r.drv.SetGPU(0, "field.230", 1)
	r.drv.Event(0, fakenvml.EventRecovery, 0)
	got := r.untilReading(t, "recovery", func(one gpu.Reading) bool { return one.Recovery != nil && *one.Recovery == gpu.RecoverReset })
	if got.UUID != fakenvml.UUID(0) {
		t.Errorf("reading: %+v", got)
	}
}

// A GPU that appears later is heard as well.
func TestXidOfALateGPU(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up(t)
	r.drv.Set("count", 2)
	r.until(t, "the second GPU", func(ev policy.Event) bool {
		return ev.Kind == policy.KindGPUDriver && len(ev.GPU.Devices) == 2
	})
	r.registered(t, 1)
}

// Memory errors that rise are a fault, which no Xid need tell. Where they stood
// at the start, or after a reset, is none.
func TestErrorsRise(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.SetGPU(0, "ecc", 7)
	now := r.clock()
	now.Store(1000)
	r.up(t)
	r.registered(t, 0)
	for _, step := range []struct {
		at     int64
		errors int
	}{
		{1010, 7},
		{1015, 9},
		{1044, 10}, // within half a minute it is not told again
		{1050, 0},
		{1055, 1},
	} {
		now.Store(step.at)
		r.drv.SetGPU(0, "ecc", step.errors)
		r.poll(t)
	}
	r.drv.Xid(0, 13) // what comes before it are all
	var got []gpu.Fault
	for f := r.untilFault(t); f.Code != 13; f = r.untilFault(t) {
		f.At = time.Time{}
		got = append(got, f)
	}
	ecc := func(text string) gpu.Fault {
		return gpu.Fault{Kind: gpu.FaultECC, UUID: fakenvml.UUID(0), PCI: "0000:3b:00.0", Source: gpu.SourceNVML, Text: text}
	}
	if diff := cmp.Diff([]gpu.Fault{ecc("9 since the driver was loaded, 7 before"), ecc("1 since the driver was loaded, 0 before")}, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// A driver that does not know the newer types of events still reports Xids.
func TestOldEventTypes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.SetGPU(0, "supported", 0x1b)
	r.up(t)
	r.registered(t, 0)
	r.drv.Xid(0, 48)
	if got := r.untilFault(t); got.Code != 48 {
		t.Errorf("fault: %+v", got)
	}
}

// Old drivers lack calls. What they cannot say is unknown; the child lives on.
func TestOldDrivers(t *testing.T) {
	t.Parallel()
	noRecovery := healthy(0)
	noRecovery.Recovery = nil
	processes := []gpu.Process{{PID: 42, Memory: 1000}}
	tests := []struct {
		variant string
		want    gpu.Reading
	}{
		{fakenvml.NoFields, noRecovery},
		{fakenvml.NoV3, healthy(0)},
		{fakenvml.Bare, noRecovery},
	}
	for _, test := range tests {
		t.Run(test.variant, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.variant)
			r.drv.SetGPU(0, "compute", "42:1000")
			r.drv.SetGPU(0, "reserved", 0) // the first version counts it as used
			r.up(t)
			pid := r.pid()
			test.want.Processes = processes
			wantReading(t, r.poll(t)[0], test.want)
			r.drv.SetGPU(0, "reasons", 0x48)
			test.want.Hot = true
			wantReading(t, r.poll(t, fakenvml.UUID(0))[0], test.want)
			if again := r.pid(); again != pid {
				t.Errorf("the child is another one: %d, before %d", again, pid)
			}
		})
	}
}

// Fifty lines are not fifty events: only what says something new goes out.
func TestMaterialChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.SetGPU(0, "total", 100000)
	r.drv.SetGPU(0, "used", 50000)
	r.up(t)
	r.untilReading(t, "the first", func(gpu.Reading) bool { return true })
	r.drv.SetGPU(0, "temperature", 70)
	r.untilLatest(t, func(one gpu.Reading) bool { return one.Temperature == 70 })
	r.drv.SetGPU(0, "used", 54000)
	r.untilLatest(t, func(one gpu.Reading) bool { return one.Used == 54000 })
	r.drv.SetGPU(0, "used", 56000)
	got := r.untilReading(t, "memory", func(gpu.Reading) bool { return true })
	if got.Used != 56000 {
		t.Errorf("an event for %+v", got)
	}
	r.drv.SetGPU(0, "compute", "42:10")
	got = r.untilReading(t, "a process", func(gpu.Reading) bool { return true })
	if diff := cmp.Diff([]gpu.Process{{PID: 42, Memory: 10}}, got.Processes); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

// untilLatest waits until what is shown fits.
func (r *rig) untilLatest(t *testing.T, fits func(gpu.Reading) bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, readings := r.Latest(); len(readings) > 0 && fits(readings[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("what is shown does not change")
		}
	}
}
