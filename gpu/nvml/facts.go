package nvml

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// This file turns what the child says into events, few of them.

// past is what is remembered of a GPU beside its newest reading.
type past struct {
	counted     bool
	errors      uint64    // uncorrectable ones, as counted last
	told        time.Time // when it was last told that they rose
	hot, braked time.Time // when it was last slowed down
}

// keep notes readings for Latest, and adds to them what only the looks before
// tell. Processes that were not asked for this time are those of the time
// before.
func (p *Probe) keep(readings []gpu.Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range readings {
		r := &readings[i]
		m := p.pasts[r.UUID]
		p.countErrors(&m, *r)
		p.lasts(&m, r)
		p.pasts[r.UUID] = m
		p.readings[r.UUID] = withProcesses(*r, p.readings[r.UUID])
	}
}

// withProcesses takes the list of processes from before where r has none.
func withProcesses(r, before gpu.Reading) gpu.Reading {
	if !r.Listed {
		r.Processes, r.Listed = before.Processes, before.Listed
	}
	return r
}

// countErrors reports that memory errors rose: where the driver is old, nothing
// else may. While they go on rising it is said often enough for each failure to
// have one before it.
func (p *Probe) countErrors(m *past, r gpu.Reading) {
	if !r.Counted {
		return
	}
	before, known := m.errors, m.counted
	m.errors, m.counted = r.Uncorrected, true
	if !known || r.Uncorrected <= before || r.At.Sub(m.told) < gpu.WindowBefore {
		return
	}
	m.told = r.At
	p.mail.post(policy.Event{At: r.At, Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &gpu.Fault{
		At: r.At, Kind: gpu.FaultECC, UUID: r.UUID, PCI: p.devices[r.UUID].PCI, Source: gpu.SourceNVML,
		Text: fmt.Sprintf("%d since the driver was loaded, %d before", r.Uncorrected, before),
	}}})
}

// lasts: a GPU that has just cooled down is hot again as soon as a model is
// loaded onto it, and a power supply that sags does so in bursts. So it counts
// as slowed down for a while after.
func (p *Probe) lasts(m *past, r *gpu.Reading) {
	if r.Hot {
		m.hot = r.At
	}
	if r.PowerBrake {
		m.braked = r.At
	}
	r.Hot = r.Trouble == "" && !m.hot.IsZero() && r.At.Sub(m.hot) < p.o.Cool
	r.PowerBrake = r.Trouble == "" && !m.braked.IsZero() && r.At.Sub(m.braked) < p.o.Cool
}

// unbound tells a GPU that somebody took from the driver from one that fell off
// the bus: another driver has it, or none.
func (p *Probe) unbound(r *gpu.Reading) {
	if r.Trouble != gpu.TroubleMissing && r.Trouble != gpu.TroubleLost {
		return
	}
	if detail := p.takenBy(r.UUID); detail != "" {
		r.Trouble, r.Detail = gpu.TroubleUnbound, detail
	}
}

// takenBy says who has a GPU that the driver had; empty: nobody took it.
func (p *Probe) takenBy(uuid string) string {
	p.mu.Lock()
	pci := p.devices[uuid].PCI
	p.mu.Unlock()
	driver, present := p.bus.driver(pci)
	if !present || driver == nvidiaDriver {
		return ""
	}
	return "it was taken from the NVIDIA driver; on the bus it belongs to " + cmp.Or(driver, "no driver") + " now"
}

// set notes the state of the driver, and reports it when it has changed.
// devices count only when it is up. Who hears that it is up again counts looks
// anew, so each GPU's next reading is news.
func (p *Probe) set(d gpu.Driver, devices []gpu.Device) {
	d.Blind = p.o.Blind() // of our own namespace, whatever the driver does
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released && d.Detail != letGo {
		return
	}
	if d.State != gpu.DriverUp {
		devices, d.Version, d.Partial = p.told, p.driver.Version, p.driver.Partial // the last that was up
	}
	if d == p.driver && slices.EqualFunc(devices, p.told, equalDevices) {
		return
	}
	if d.State != p.driver.State {
		p.o.Log.Debug("NVIDIA driver", "state", d.State, "version", d.Version, "detail", d.Detail)
		clear(p.reported)
		p.find(d.State)
	}
	p.driver, p.told = d, devices
	p.announce()
	facts := &policy.GPUFacts{Driver: &d}
	if d.State == gpu.DriverUp {
		facts.Devices = slices.Clone(devices)
	}
	p.mail.post(policy.Event{At: p.o.Now(), Kind: policy.KindGPUDriver, GPU: facts})
}

// find notes that there is a driver. p.mu is held.
func (p *Probe) find(state gpu.DriverState) {
	select {
	case <-p.found:
	default:
		if state != gpu.DriverAbsent {
			close(p.found)
		}
	}
}

// announce tells those who wait for a child to look again. p.mu is held.
func (p *Probe) announce() {
	close(p.turned)
	p.turned = make(chan struct{})
}

// report emits those readings that say something new; always: all of them.
func (p *Probe) report(readings []gpu.Reading, always bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []gpu.Reading
	for _, r := range readings {
		before, ok := p.reported[r.UUID]
		if ok && !always && !material(before, r) {
			continue
		}
		p.reported[r.UUID] = withProcesses(r, before)
		out = append(out, r)
	}
	if len(out) > 0 {
		p.mail.post(policy.Event{At: p.o.Now(), Kind: policy.KindGPUReading, GPU: &policy.GPUFacts{Readings: out}})
	}
}
