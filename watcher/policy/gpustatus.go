package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// GPUs returns every GPU that the driver lists or has listed.
func (m *Machine) GPUs() []GPUStatus {
	var out []GPUStatus
	for i := range m.host.GPU.GPUs {
		out = append(out, m.gpuStatus(&m.host.GPU.GPUs[i]))
	}
	return out
}

func (m *Machine) gpuStatus(g *GPU) GPUStatus {
	s := GPUStatus{Device: g.Device, Reading: g.Reading, Incident: g.Incident}
	if f := lastFault(g.Faults); f != nil {
		s.LastFault, s.Meaning = f, m.faultText(*f)
	}
	for _, u := range m.usersOf(g.UUID) {
		s.Units = append(s.Units, u.Name)
	}
	for _, target := range []string{g.UUID, allGPUs} {
		for _, h := range m.gpuHolds(target) { // one that covers all of them says more
			if s.Hold == nil || s.Hold.Judgement.Multi && !h.Judgement.Multi {
				s.Hold = &h
			}
		}
	}
	if s.Hold != nil {
		s.Clears = m.clears(g, s.Hold.Target)
	}
	if r := m.host.GPU.Reset; r != nil && r.GPU == g.UUID {
		s.Reset = string(r.Phase)
	}
	return s
}

// lastFault is the newest fault. An Xid has a number to look up, so it stands
// for what else was told of the same moment.
func lastFault(faults []gpu.Fault) *gpu.Fault {
	if len(faults) == 0 {
		return nil
	}
	last := faults[len(faults)-1]
	for _, f := range slices.Backward(faults) {
		if f.Kind == gpu.FaultXid && f.Code >= 0 && last.Kind != gpu.FaultXid && last.At.Sub(f.At) < time.Minute {
			return &f
		}
	}
	return &last
}

// clears says how what holds a GPU ends.
func (m *Machine) clears(g *GPU, target string) string {
	by := fmt.Sprintf(", after a reboot, or by `defib gpus release %s`", m.gpuName(g.UUID))
	if target == allGPUs {
		by = ", after a reboot, or by `defib gpus release all`"
	}
	holds := m.gpuHolds(target)
	switch holds[len(holds)-1].Judgement.Clears { // a fault outlasts what is read
	case gpu.ClearRecovery:
		return "when the driver's recovery action has been none for " + span(m.wellFor(g)) + by
	case gpu.ClearDriver:
		return "when the driver and its library are of one version" + by
	case gpu.ClearReading:
		return "when the GPU has read well for " + span(m.wellFor(g)) + by
	case gpu.ClearReset:
		if target == allGPUs {
			return "when the driver is loaded anew" + by
		}
		return "when defib sees a reset or the driver loaded anew" + by
	}
	return strings.TrimPrefix(by, ", ")
}

// gpuNote says how sure it is which GPUs a unit uses.
func (m *Machine) gpuNote(u *unit) string {
	c := u.Last.GPU
	if c == nil && len(u.gpus) > 0 {
		return "it asks for none, and its processes were seen there"
	} else if c == nil {
		return ""
	}
	notes := []string{"asked for by " + c.Source}
	unsure := !c.Certain || len(u.mapping.GPUs) > 0 && !u.mapping.Certain
	if unsure {
		notes[0] += ", which does not say that it uses them"
	}
	if unsure && len(u.Run.GPUs) > 0 {
		notes = append(notes, "its processes were seen there")
	}
	if len(u.mapping.Gone) > 0 {
		notes = append(notes, "not there: "+clip(strings.Join(u.mapping.Gone, ", ")))
	}
	if len(u.mapping.Unread) > 0 {
		notes = append(notes, "not found while a GPU does not answer: "+clip(strings.Join(u.mapping.Unread, ", ")))
	}
	for _, uuid := range u.Run.GPUs {
		if u.mapping.Certain && !slices.Contains(u.gpus, uuid) {
			notes = append(notes, "its processes were seen on GPU "+m.gpuName(uuid)+", too")
		}
	}
	return strings.Join(notes, "; ")
}

// kernelLog notes whether the kernel log can be read.
func (m *Machine) kernelLog(why string) {
	if h := &m.host.GPU; h.KernelLog != why {
		h.KernelLog = why
		m.touchHost()
		if why != "" {
			m.say("kernel_log", why)
		}
	}
}

// gpusTakenOver: a new process of defib asks anew, and a boot resets all.
func (m *Machine) gpusTakenOver(rebooted bool) {
	h := &m.host.GPU
	h.Driver, h.KernelLog, h.Since = gpu.Driver{}, "", m.now
	for i := range h.GPUs {
		g := &h.GPUs[i]
		g.Ask, g.Zeros, g.ZeroFrom = 0, 0, time.Time{}
	}
	if rebooted {
		m.gpusBooted()
		return
	}
	m.resetTakenOver()
}

// onHeld: Docker keeps starting it on a GPU that is held. stop says whether
// defib ends that; where a stop could hang for ever, it is left looping.
func (m *Machine) onHeld(u *unit) (held, stop bool) {
	for _, h := range m.host.Holds {
		if h.Reason == HoldGPU && h.Judgement != nil && covers(h, u) && u.policy.Everything() {
			if h.Judgement.NoKill {
				return true, false
			}
			held = true
		}
	}
	return held, held
}
