package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file takes in what the driver says.

const pollWithin = 5 * time.Second

// gpuDriver takes in a change of the driver's state.
func (m *Machine) gpuDriver(ev Event) {
	if ev.GPU == nil || ev.GPU.Driver == nil {
		return
	}
	h, old := &m.host.GPU, m.host.GPU.Driver
	h.Driver = *ev.GPU.Driver
	m.touchHost()
	if old.State != h.Driver.State {
		h.Since = m.now
	}
	if h.Driver.State == gpu.DriverUp {
		m.driverUp(old, ev.GPU.Devices)
	} else {
		for i := range h.GPUs { // looks in a row ended with it
			h.GPUs[i].Zeros, h.GPUs[i].ZeroFrom = 0, time.Time{}
		}
	}
	m.tellDriver(old)
	m.judgeDriver()
	if old.State != h.Driver.State {
		m.lookAgain()
	}
	m.kick = true
}

// driverUp takes in the list of GPUs. A driver of another version, or one that
// was not loaded before, has reset them.
func (m *Machine) driverUp(old gpu.Driver, devices []gpu.Device) {
	h := &m.host.GPU
	was := h.Known
	h.Known = cmp.Or(h.Driver.Version, was)
	m.listGPUs(devices, old.Partial)
	for i := range h.GPUs { // what was read before says nothing of now
		if _, held := m.gpuHold(h.GPUs[i].UUID, partState); held {
			m.judgeSoon(&h.GPUs[i])
		}
	}
	switch {
	case was != "" && was != h.Known:
		m.changed("", "the NVIDIA driver is now "+clip(h.Known)+", it was "+clip(was))
		m.driverReloaded()
	case old.State == gpu.DriverAbsent && old.Unloaded:
		m.driverReloaded()
	}
}

// lookAgain: what waits for the driver's word has it now.
func (m *Machine) lookAgain() {
	for _, key := range sortedKeys(m.units) {
		if u := m.units[key]; u.Failure != nil && u.Op == nil && m.host.Connected && u.Seen {
			m.evaluate(u, false)
		}
	}
}

// tellDriver says once what a new state of the driver means.
func (m *Machine) tellDriver(old gpu.Driver) {
	d := m.host.GPU.Driver
	if old.State == d.State && old.Detail == d.Detail {
		return
	}
	switch d.State {
	case gpu.DriverUp:
		text := fmt.Sprintf("the NVIDIA driver %s answers; GPUs: %d", d.Version, len(m.devices()))
		if d.Blind != "" {
			text += "; " + d.Blind
		}
		m.say("gpu_driver", text)
	case gpu.DriverAbsent:
		m.say("gpu_driver", "defib works without knowledge of GPUs: "+d.Detail)
	case gpu.DriverMismatch, gpu.DriverHung, gpu.DriverLost:
		m.say("gpu_driver", "the NVIDIA driver cannot be asked: "+d.Detail)
	}
}

// listGPUs takes in the driver's list. A GPU that is no longer on it is kept:
// that it is missing is what people must see; a boot forgets it.
func (m *Machine) listGPUs(devices []gpu.Device, partial bool) {
	h := &m.host.GPU
	list := slices.Clone(h.GPUs)
	for _, d := range devices {
		i := slices.IndexFunc(list, func(g GPU) bool {
			return g.UUID == d.UUID || g.PCI != "" && g.PCI == d.PCI && (g.UUID == g.PCI || d.UUID == d.PCI)
		})
		switch {
		case i < 0:
			list = append(list, GPU{Device: d})
			continue
		case d.UUID == d.PCI: // it answers no more, not even to its name
			continue
		}
		m.rekeyed(list[i].UUID, d.UUID)
		list[i].Device = d
	}
	for i := range list { // its index may be another's now
		listed := slices.ContainsFunc(devices, func(d gpu.Device) bool {
			return d.UUID == list[i].UUID || d.PCI != "" && d.PCI == list[i].PCI // which it is known by now
		})
		if !listed && slices.ContainsFunc(devices, func(d gpu.Device) bool { return d.Index == list[i].Index }) {
			list[i].Index = -1
		}
	}
	slices.SortStableFunc(list, func(a, b GPU) int { return cmp.Compare(uint(a.Index), uint(b.Index)) })
	same := h.Driver.Partial == partial && slices.EqualFunc(h.GPUs, list, func(a, b GPU) bool { return a.UUID == b.UUID && a.Index == b.Index && slices.Equal(a.MIG, b.MIG) })
	h.GPUs = list
	m.touchHost()
	if !same {
		m.remap()
	}
}

// rekeyed: a GPU that was known by its address has its name now, and what
// holds it goes along.
func (m *Machine) rekeyed(was, is string) {
	if was == is {
		return
	}
	holds := slices.Clone(m.host.Holds)
	for i := range holds {
		if holds[i].Scope == ScopeGPU && holds[i].Target == was {
			holds[i].Target = is
		}
	}
	m.host.Holds = holds
	m.touchHost()
}

// gpuReadings takes in fresh readings, of the driver's own accord or asked for.
func (m *Machine) gpuReadings(readings []gpu.Reading, asked uint64) {
	if g := m.gpuAnswered(asked); g != nil && !slices.ContainsFunc(readings, func(r gpu.Reading) bool { return r.UUID == g.UUID }) {
		m.gpuRead(g, false) // the answer leaves it out
	}
	for _, r := range readings {
		i := m.gpuIndex(r.UUID)
		if i < 0 {
			continue
		}
		g := &m.host.GPU.GPUs[i]
		if !r.At.Before(g.Reading.At) { // an answer may come after what was read later
			m.gpuReading(g, r)
		}
		m.gpuRead(g, true)
	}
	m.kick = true
}

func (m *Machine) gpuReading(g *GPU, r gpu.Reading) {
	r.UUID = g.UUID
	m.watchCounters(g, r)
	m.seen(g.UUID, r)
	if !r.Listed {
		r.Processes, r.Listed = g.Reading.Processes, g.Reading.Listed
	}
	was := g.Reading.Trouble
	g.Reading = r
	m.touchHost()
	if (was == gpu.TroubleUnbound) != (r.Trouble == gpu.TroubleUnbound) {
		m.remap() // it was taken from the driver, or given back
	}
}

// watchCounters: the driver counts errors since the last reset, so a count
// that falls back is a reset that was seen.
func (m *Machine) watchCounters(g *GPU, r gpu.Reading) {
	if r.Trouble == "" && r.Counted && g.Reading.Counted && r.Uncorrected == 0 && g.Reading.Uncorrected > 0 {
		m.gpuWasReset(g.UUID, "its error counters were set back, so it was reset")
	}
}

// credit notes for a container that is seen for the first time which GPUs its
// processes are on: the driver told that before.
func (m *Machine) credit() {
	for i := range m.host.GPU.GPUs {
		g := &m.host.GPU.GPUs[i]
		m.seen(g.UUID, g.Reading)
	}
}

// seen notes whose processes are on a GPU.
func (m *Machine) seen(uuid string, r gpu.Reading) {
	for _, p := range r.Processes {
		u, _ := m.ownerOf(p.Containers)
		if u == nil || p.Dead || slices.Contains(u.Run.GPUs, uuid) {
			continue
		}
		u.Run.GPUs = append(slices.Clip(u.Run.GPUs), uuid)
		m.touch(u)
		if !slices.Contains(u.gpus, uuid) {
			m.refile(u)
		}
	}
}
