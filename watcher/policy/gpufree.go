package policy

import (
	"fmt"
	"slices"
	"time"
)

// This file lets held GPUs go again.

// countWell: a held GPU is let go after several looks in a row that find it
// well. One that keeps coming back must be well for longer.
func (m *Machine) countWell(g *GPU) {
	if g.Zeros == 0 {
		g.ZeroFrom = m.now
	}
	g.Zeros++
	m.touchHost()
	over := m.wellFor(g)
	if g.Zeros < clearPolls || m.now.Sub(g.ZeroFrom) < over {
		g.JudgeAt = m.now.Add(max(clearEvery, over/clearPolls))
		return
	}
	well := m.now.Sub(g.ZeroFrom)
	if m.now.Sub(g.Cleared) > time.Hour {
		g.Flaps = 0
	}
	g.Flaps++
	m.freeGPU(g.UUID, partState, "gpu_cleared", m.gpuTitle(g.UUID)+" has been well in every look for "+span(well))
}

// wellFor is how long a held GPU must be well.
func (m *Machine) wellFor(g *GPU) time.Duration { return min(clearOver<<min(g.Flaps, 6), clearMost) }

// freeGPU ends a part of what holds a GPU. When nothing is left, its containers
// are due; what they failed of was not their fault.
func (m *Machine) freeGPU(target, part, rule, why string) {
	h, held := m.gpuHold(target, part)
	if i := m.gpuIndex(target); i >= 0 {
		g := &m.host.GPU.GPUs[i]
		g.Zeros, g.ZeroFrom, g.Cleared = 0, time.Time{}, m.now
		m.touchHost()
	}
	if !held {
		return
	}
	left := len(m.gpuHolds(target)) > 1
	if left {
		m.sayIn(m.told(target).Incident, rule, why+"; what else holds it goes on")
	} else {
		for _, u := range m.usersOf(target) {
			m.excuse(u)
			if !u.DownSince.IsZero() && !u.Paged { // what was told of its GPU was for it, too
				u.DownSince = m.now
			}
		}
		m.closeGPU(target, rule, why+"; its containers are taken up again, one after the other")
	}
	m.clearHold(h)
	m.kick = true
}

// startRefutes: where only a start that failed told of a driver that does not fit,
// one that works tells otherwise.
func (m *Machine) startRefutes(u *unit) {
	h, held := m.gpuHold(allGPUs, partFault)
	if held && h.Judgement.Rule == "driver_mismatch" && u.mapping.Certain && u.onGPU() && u.Run.Began.After(h.Since) {
		m.host.GPU.Since = m.now // what others could not do before it says nothing of now
		m.freeGPU(allGPUs, partFault, "gpu_cleared", u.Name+" was started with its GPU, so the driver fits")
	}
}

// closeGPU ends the incident about a GPU.
func (m *Machine) closeGPU(target, rule, why string) {
	told := m.told(target)
	m.sayIn(told.Incident, rule, why)
	if in := m.incidents[told.Incident]; in != nil {
		m.end(in, "recovered")
	}
	told.Incident, told.PageAt, told.CloseAt = "", time.Time{}, time.Time{}
	m.touchHost()
}

// excuse: a failure on a GPU that was broken counts for nothing.
func (m *Machine) excuse(u *unit) {
	if u.Failure != nil {
		f := *u.Failure
		f.Free, f.Exam = true, nil
		u.Failure = &f
	}
	if u.Streak > 0 {
		u.Streak--
	}
	m.touch(u)
}

// gpuWasReset: a reset was seen, which ends what is held for a fault alone.
func (m *Machine) gpuWasReset(target, why string) {
	m.told(target).Paged = time.Time{} // what breaks from now on is new
	m.freeGPU(target, partFault, "gpu_cleared", m.gpuTitle(target)+": "+why)
}

// driverReloaded: every GPU was reset with it.
func (m *Machine) driverReloaded() {
	for _, target := range m.heldGPUs() {
		m.gpuWasReset(target, "the driver was loaded anew")
	}
}

// gpusBooted: a new boot resets every GPU, and what was listed may be gone.
func (m *Machine) gpusBooted() {
	h := &m.host.GPU
	for _, target := range m.heldGPUs() {
		m.freeGPU(target, partFault, "gpu_cleared", "the host was booted")
		m.freeGPU(target, partState, "gpu_cleared", "the host was booted")
	}
	if r := h.Reset; r != nil && m.incidents[r.Incident] != nil {
		m.sayIn(r.Incident, "gpu_cleared", "the host was booted during the reset")
		m.end(m.incidents[r.Incident], "recovered")
	}
	for i := range h.GPUs {
		if g := &h.GPUs[i]; m.incidents[g.Incident] != nil {
			m.closeGPU(g.UUID, "gpu_cleared", "the host was booted")
		}
	}
	h.GPUs, h.Reset, h.Waived, h.Paged = nil, nil, nil, time.Time{}
	m.touchHost()
}

func (m *Machine) heldGPUs() []string {
	var out []string
	for _, h := range m.host.Holds {
		if h.Reason == HoldGPU && h.Judgement != nil && !slices.Contains(out, h.Target) {
			out = append(out, h.Target)
		}
	}
	return out
}

// releaseGPU is an operator's word that a GPU is well: it is not held again for
// the same.
func (m *Machine) releaseGPU(c *Command) {
	if c.GPU == allGPUs {
		targets := m.heldGPUs()
		if len(targets) == 0 {
			m.say("refused", "no GPU is held; `defib gpus` lists them")
		}
		for _, target := range targets {
			m.releaseHolds(c, target)
		}
		return
	}
	g := m.findGPU(c.GPU)
	switch {
	case g == nil:
		m.say("refused", fmt.Sprintf("there is no GPU %s; `defib gpus` lists them", clip(c.GPU)))
	case len(m.gpuHolds(g.UUID)) > 0:
		m.releaseHolds(c, g.UUID)
	case len(m.gpuHolds(allGPUs)) > 0:
		m.say("refused", "there is no hold on "+m.gpuTitle(g.UUID)+" alone; what holds it concerns every GPU, and `defib gpus release all` releases that")
	default:
		m.say("refused", "there is no hold on "+m.gpuTitle(g.UUID)+"; `defib gpus` shows the holds")
	}
}

// releaseHolds ends all that holds one GPU, which is said once.
func (m *Machine) releaseHolds(c *Command, target string) {
	m.told(target).Paged = time.Time{} // what comes now is new
	holds := m.gpuHolds(target)
	for i, h := range holds {
		m.waive(target, append(slices.Clone(m.told(target).Waived), waiver(*h.Judgement))...)
		if i < len(holds)-1 {
			m.clearHold(h)
			continue
		}
		why := ordered(c) + ": " + m.gpuTitle(target) + " is used again"
		if i := m.gpuIndex(target); slices.ContainsFunc(holds, func(h Hold) bool { return h.Part == partState }) && (i < 0 || m.host.GPU.GPUs[i].Zeros == 0) {
			why += ", though the driver still reports what it was held for"
		}
		m.freeGPU(target, h.Part, "released", why)
	}
}
