package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file holds GPUs that no restart of a container can mend, and lets them
// go again.

const (
	clearPolls = 3 // looks in a row at a held GPU that is well …
	clearOver  = 15 * time.Second
	clearEvery = 5 * time.Second
	clearMost  = 10 * time.Minute // of a GPU that keeps coming back
	heldEvery  = time.Minute      // a held GPU is looked at though nothing is heard of it
)

// gpuState is what a verdict on g stands on: the newest reading, and the faults
// around a failure, or of late. What was reported before defib began, or before
// the GPU was last cleared, is evidence only.
func (m *Machine) gpuState(g *GPU, failed time.Time) gpu.State {
	s := gpu.State{Device: g.Device}
	if !g.Reading.At.IsZero() {
		r := g.Reading
		s.Reading = &r
	}
	for _, f := range g.Faults {
		late := m.now.Sub(f.At) <= gpu.WindowBefore+gpu.WindowAfter
		around := !failed.IsZero() && failed.Sub(f.At) <= gpu.WindowBefore && f.At.Sub(failed) <= gpu.WindowAfter
		if !f.Historic && f.At.After(g.Cleared) && (late || around) {
			s.Faults = append(s.Faults, f)
		}
	}
	return s
}

// gpuTimers does what is due for the GPUs.
func (m *Machine) gpuTimers() {
	h := &m.host.GPU
	for i := range h.GPUs {
		g := &h.GPUs[i]
		switch {
		case g.Ask != 0 && !m.now.Before(g.AskUntil):
			g.Ask = 0
			m.touchHost()
			m.gpuRead(g, false)
		case g.Ask == 0 && !g.judgeAt().IsZero() && !m.now.Before(g.judgeAt()):
			m.poll(g, "fresh_verdict", "a verdict on GPU "+m.gpuName(g.UUID)+" is due")
		}
	}
	m.hangTimer()
	m.tellTimers()
	m.resetTimers()
}

// hangAfter is how long a driver may be silent, while all still serve, before
// people are told.
const hangAfter = 5 * time.Minute

func (m *Machine) hangTimer() {
	if at := m.hangAt(); !at.IsZero() && !m.now.Before(at) {
		j := gpu.JudgeGPU(m.host.GPU.Driver, gpu.State{})
		m.tellGPU(allGPUs, j, sentence(j.Cause+"; what serves is left alone, and nothing with a GPU is restarted", j.Remedy), false)
	}
}

func (m *Machine) hangAt() time.Time {
	h := &m.host.GPU
	if h.Driver.State != gpu.DriverHung || m.incidents[h.Incident] != nil {
		return time.Time{}
	}
	return h.Since.Add(hangAfter)
}

func (m *Machine) gpuDeadline() time.Time {
	at := earlier(m.hangAt(), m.host.GPU.tellAt())
	for i := range m.host.GPU.GPUs {
		g := &m.host.GPU.GPUs[i]
		at = earlier(at, g.tellAt())
		if g.Ask != 0 {
			at = earlier(at, g.AskUntil)
		} else {
			at = earlier(at, g.judgeAt())
		}
	}
	return earlier(at, m.resetDeadline())
}

// judgeAt is when g is looked at next, whatever is heard of it.
func (g *GPU) judgeAt() time.Time {
	if !g.JudgeAt.IsZero() {
		return g.JudgeAt
	}
	return g.LookAt
}

// poll asks the driver how a GPU is. Where it cannot be asked, what is known
// must do.
func (m *Machine) poll(g *GPU, rule, why string) {
	if m.host.GPU.Driver.State != gpu.DriverUp {
		m.gpuRead(g, false)
		return
	}
	m.host.NextID++
	g.Ask, g.AskUntil = m.host.NextID, m.now.Add(pollWithin)
	m.touchHost()
	m.out = append(m.out, Decision{
		ID: g.Ask, At: m.now, Verb: VerbPoll, Rule: rule, Reason: why, GPUs: []string{g.UUID}, Within: pollWithin,
	})
}

// gpuAnswered ends the question that id stands for, and returns its GPU.
func (m *Machine) gpuAnswered(id uint64) *GPU {
	for i := range m.host.GPU.GPUs {
		if g := &m.host.GPU.GPUs[i]; g.Ask == id && id != 0 {
			g.Ask = 0
			m.touchHost()
			return g
		}
	}
	return nil
}

// gpuRead judges a GPU on what is known of it now; fresh says that it was read
// just now.
func (m *Machine) gpuRead(g *GPU, fresh bool) {
	if g.Ask != 0 || m.now.Before(g.JudgeAt) && g.Zeros == 0 {
		return // more will be known soon
	}
	if !m.now.Before(g.JudgeAt) {
		g.JudgeAt = time.Time{}
		if n := len(g.Faults); n > 0 && m.now.Sub(g.Faults[n-1].At) < gpu.Settle && !g.Faults[n-1].Historic {
			g.JudgeAt = m.now.Add(gpu.Settle) // a fault came meanwhile
		}
	}
	m.judgeGPU(g, m.gpuState(g, time.Time{}), fresh)
}

// judgeGPU holds a GPU for what is known of it, or counts the looks that find
// it well. What a fault alone tells comes first: it may reach farther.
func (m *Machine) judgeGPU(g *GPU, s gpu.State, fresh bool) {
	m.judgeFaults(g, s)
	m.judgeState(g, s, fresh)
	g.LookAt = time.Time{}
	if _, held := m.gpuHold(g.UUID, partState); held {
		g.LookAt = m.now.Add(heldEvery)
		m.touchHost()
	}
}

// answering stands for the driver where a single GPU is judged: what is wrong
// with the driver concerns all of them.
func answering() gpu.Driver { return gpu.Driver{State: gpu.DriverUp} }

// judgeState holds a GPU for as long as its reading says that it is broken.
func (m *Machine) judgeState(g *GPU, s gpu.State, fresh bool) {
	m.keepsAccount(g, s.Reading)
	j := gpu.JudgeGPU(answering(), s)
	if j.Verdict == gpu.Hold && j.Clears == gpu.ClearReset {
		j = gpu.JudgeGPU(answering(), gpu.State{Device: s.Device, Reading: s.Reading})
	}
	h, held := m.gpuHold(g.UUID, partState)
	switch {
	case j.Verdict == gpu.Hold:
		g.Zeros, g.ZeroFrom = 0, time.Time{}
		m.holdGPU(g.UUID, partState, j)
		m.takeAccount(g, j)
	case !held:
		if fresh && len(g.Waived) > 0 && len(m.gpuHolds(g.UUID)) == 0 {
			m.waive(g.UUID)
		}
	case fresh && m.host.GPU.Driver.State == gpu.DriverUp && readsWell(h, s.Reading, j):
		m.countWell(g)
	case fresh: // it could not be read, which is not well
		g.Zeros, g.ZeroFrom = 0, time.Time{}
		m.touchHost()
	case g.Zeros > 0: // the look failed, which says nothing
		g.JudgeAt = m.now.Add(clearEvery)
	}
}

// readsWell reports whether what a hold stands on was read, and is well.
func readsWell(h Hold, r *gpu.Reading, j gpu.Judgement) bool {
	switch {
	case r == nil || r.Trouble != "":
		return false
	case h.Judgement.Clears == gpu.ClearRecovery:
		return r.Recovery != nil && *r.Recovery == gpu.RecoverNone
	}
	return j.Verdict != gpu.Wait || j.Rule == "hot"
}

// keepsAccount: the driver, which could not be read when a fault told what it
// asks for, tells that itself now, and when it is done.
func (m *Machine) keepsAccount(g *GPU, r *gpu.Reading) {
	h, held := m.gpuHold(g.UUID, partFault)
	if !held || h.Judgement.Rule != "recovery_action" || r == nil || r.Trouble != "" || r.Recovery == nil {
		return
	}
	m.clearHold(h)
	if _, told := m.gpuHold(g.UUID, partState); told {
		return
	}
	j := *h.Judgement
	j.Clears = gpu.ClearRecovery
	h.Part, h.Judgement = partState, &j
	m.setHold(h)
}

// takeAccount: the driver itself keeps account now of what a fault began; but
// it does not keep that no stop may be sent, or that a reset is too little.
func (m *Machine) takeAccount(g *GPU, j gpu.Judgement) {
	h, held := m.gpuHold(g.UUID, partFault)
	if held && j.Clears == gpu.ClearRecovery && !j.Multi && !h.Judgement.NoKill && (h.Judgement.Scope == gpu.ScopeGPU || j.Scope == gpu.ScopeHost) {
		m.clearHold(h)
	}
}

// judgeFaults holds a GPU for faults that leave nothing to be read.
func (m *Machine) judgeFaults(g *GPU, s gpu.State) {
	j := gpu.JudgeGPU(answering(), s)
	accounted := j.Clears == gpu.ClearReset || j.Clears == gpu.ClearRecovery && !j.Multi
	if r := s.Reading; j.Verdict == gpu.Hold && r != nil && !accounted { // what is read hides the faults
		r = &gpu.Reading{UUID: r.UUID, At: r.At, Recovery: notMulti(r.Recovery)}
		j = gpu.JudgeGPU(answering(), gpu.State{Device: s.Device, Faults: s.Faults, Reading: r})
	}
	if j.Verdict == gpu.Hold && j.Clears == gpu.ClearReset {
		m.holdGPU(g.UUID, partFault, j)
	}
}

// notMulti is a recovery action as a GPU for itself sees it: unknown, where it
// is only about several GPUs.
func notMulti(r *gpu.Recovery) *gpu.Recovery {
	if r != nil && (*r == gpu.RecoverDrainP2P || *r == gpu.RecoverIMEX) {
		return nil
	}
	return r
}

// judgeDriver holds every GPU while the driver's two halves do not fit, and
// lets go when they do.
func (m *Machine) judgeDriver() {
	d := m.host.GPU.Driver
	_, held := m.gpuHold(allGPUs, partState)
	told := m.incidents[m.host.GPU.Incident] != nil && len(m.gpuHolds(allGPUs)) == 0
	switch {
	case d.State == gpu.DriverMismatch && !held:
		if j := gpu.JudgeGPU(d, gpu.State{}); j.Verdict == gpu.Hold {
			m.holdGPU(allGPUs, partState, j)
		}
	case d.State == gpu.DriverUp && held:
		m.freeGPU(allGPUs, partState, "gpu_cleared", "the driver answers again and its library is of its version")
	case (d.State == gpu.DriverUp || d.State == gpu.DriverAbsent) && told:
		m.closeGPU(allGPUs, "gpu_cleared", "the driver is no longer silent")
	}
	if d.State == gpu.DriverUp {
		m.waive(allGPUs)
	}
}

// The parts of what holds a GPU: each clears by itself.
const (
	partState = "state" // it can be read, and clears when it reads well
	partFault = "fault" // it has passed, and clears with a reset
)

// gpuHold finds a hold on a GPU.
func (m *Machine) gpuHold(target, part string) (Hold, bool) {
	for _, h := range m.host.Holds {
		if h.Reason == HoldGPU && h.Scope == ScopeGPU && h.Target == target && h.Part == part && h.Judgement != nil {
			return h, true
		}
	}
	return Hold{}, false
}

// gpuHolds are the holds on a GPU, what can be read first.
func (m *Machine) gpuHolds(target string) []Hold {
	var out []Hold
	for _, part := range []string{partState, partFault} {
		if h, held := m.gpuHold(target, part); held {
			out = append(out, h)
		}
	}
	return out
}

// holdGPU blocks acts on every container of a GPU, and calls a human. A changed
// finding takes the place of the one before.
func (m *Machine) holdGPU(target, part string, j gpu.Judgement) {
	if m.waived(target, j) {
		return
	}
	old, again := m.gpuHold(target, part)
	if again {
		j = joined(part, *old.Judgement, j)
	}
	if again && sameFinding(*old.Judgement, j) {
		return
	}
	if target == allGPUs {
		j.GPU = ""
	}
	before := m.gpuHolds(target)
	m.setHold(Hold{
		Reason: HoldGPU, Scope: ScopeGPU, Target: target, Part: part, Since: m.now, By: byDefib, Judgement: &j,
		Why: sentence(j.Cause, j.Remedy),
	})
	if slices.ContainsFunc(before, func(h Hold) bool { return h.Why == sentence(j.Cause, j.Remedy) }) {
		return // the same by another way
	}
	var covered []*unit
	for _, u := range m.usersOf(target) {
		if !j.Multi || len(u.gpus) > 1 {
			covered = append(covered, u)
		}
	}
	text := sentence(j.Cause, "A restart of a container would not help")
	if len(covered) > 0 {
		text += ", so defib leaves alone what runs and starts nothing there: " + unitNames(covered)
	} else {
		text += "; no watched container is concerned"
		j.Page = j.Page && !j.Multi // it may never concern one
	}
	m.tellGPU(target, j, sentence(text, m.remedy(target, j)), wider(before, j))
	m.kick = true
}

// joined is a finding in the place of the one before. That no stop may be sent
// stays so until the hold ends. What is read takes the place of what was read;
// of faults, the first that reaches farthest stays: what follows it is often no
// more than its consequence.
func joined(part string, old, j gpu.Judgement) gpu.Judgement {
	noKill, multi := old.NoKill || j.NoKill, old.Multi && j.Multi
	if part == partFault {
		if !farther(j, old) {
			j = old
		}
		j.Multi = multi
	}
	j.NoKill = noKill
	return j
}

// farther reports whether a reaches farther than b.
func farther(a, b gpu.Judgement) bool {
	if host := a.Scope == gpu.ScopeHost; host != (b.Scope == gpu.ScopeHost) {
		return host
	}
	return b.Multi && !a.Multi
}

func sameFinding(a, b gpu.Judgement) bool {
	return a.Rule == b.Rule && a.Scope == b.Scope && a.Multi == b.Multi && a.NoKill == b.NoKill && a.Clears == b.Clears && a.Remedy == b.Remedy
}

// wider reports whether a finding concerns more than what people were told.
func wider(before []Hold, j gpu.Judgement) bool {
	for _, h := range before {
		if (h.Judgement.Scope == gpu.ScopeHost || j.Scope != gpu.ScopeHost) && (!h.Judgement.Multi || j.Multi) {
			return false
		}
	}
	return true
}

// waiver is what an operator's release says of a finding. The same rule with
// another remedy is another finding: a reboot where it was a reset.
func waiver(j gpu.Judgement) string { return j.Rule + ": " + j.Remedy }

func (m *Machine) waived(target string, j gpu.Judgement) bool {
	return slices.Contains(m.told(target).Waived, waiver(j))
}

// waive sets anew the findings that a GPU is not held for: what was handed out
// before is never changed in place.
func (m *Machine) waive(target string, waivers ...string) {
	m.told(target).Waived = waivers
	m.touchHost()
}

// sentence joins two thoughts, each with its full stop.
func sentence(a, b string) string {
	if b == "" {
		return a
	}
	return strings.TrimSuffix(a, ".") + ". " + strings.TrimSuffix(b, ".")
}
