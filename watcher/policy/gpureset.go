package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file resets a GPU when an operator asks for it, never by itself: it
// stops the containers on it, lets NVML go, runs the reset command, looks
// whether that helped, and starts the containers again.

// Rules of acts for the sake of a GPU.
const (
	ruleGPUHeld  = "gpu_held"       // a loop on a held GPU was ended
	ruleGPUReset = "gpu_reset"      // stopped for a reset
	ruleGPUUndo  = "gpu_reset_undo" // … that did not come about: it starts again, hold or not
)

const (
	resetWithin  = 3 * time.Minute // of the reset command
	verifyWithin = time.Minute     // the GPU must read well by then
	verifyEvery  = 5 * time.Second
)

// orderReset begins a reset, or says why not.
func (m *Machine) orderReset(c *Command) {
	g := m.findGPU(c.GPU)
	if why := m.resetRefusal(g, c); why != "" {
		m.say("refused", why)
		return
	}
	users := m.resetUsers(g.UUID)
	text := fmt.Sprintf("%s of %s: ", ordered(c), m.gpuTitle(g.UUID))
	if len(users) > 0 {
		text += "its containers are stopped first: " + unitNames(users)
	} else {
		text += "no watched container runs on it"
	}
	if m.incidents[g.Incident] == nil {
		in := m.newIncident("", m.gpuTitle(g.UUID), ruleGPUReset, ordered(c), LevelInfo)
		g.Incident = in.ID
	}
	r := &GPUReset{GPU: g.UUID, By: c.By, Phase: ResetStopping, Since: m.now, Incident: g.Incident}
	m.host.GPU.Reset = r
	m.touchHost()
	m.sayIn(r.Incident, ruleGPUReset, text)
	for _, u := range users {
		r.Units = append(r.Units, u.Key)
		u.Stop, u.Undo = nil, time.Time{}
		m.act(u, VerbStop, ruleGPUReset, fmt.Sprintf("%s is reset (%s%s)", m.gpuTitle(g.UUID), ordered(c), m.cost(u)), actOperator)
		m.evaluate(u, false)
	}
	m.resetStep()
}

// resetUsers are the containers to stop.
func (m *Machine) resetUsers(uuid string) []*unit {
	return slices.DeleteFunc(m.usersOf(uuid), func(u *unit) bool { return !u.Last.Running })
}

// resetHolds: what was stopped for a reset starts only after it.
func (m *Machine) resetHolds(u *unit) (Hold, bool) {
	r := m.host.GPU.Reset
	if r == nil || !u.standsOn(r.GPU) && !slices.Contains(r.Units, u.Key) {
		return Hold{}, false
	}
	return Hold{Reason: HoldGPU, Scope: ScopeGPU, Target: r.GPU, Why: m.gpuTitle(r.GPU) + " is being reset"}, true
}

// resetTimers moves a reset on.
func (m *Machine) resetTimers() {
	if m.host.GPU.Reset != nil {
		m.resetStep()
	}
}

func (m *Machine) resetDeadline() time.Time {
	r := m.host.GPU.Reset
	switch {
	case r == nil || r.Phase == ResetStopping:
		return time.Time{} // the containers' own deadlines lead on
	case r.Phase == ResetRunning:
		return r.Since.Add(resetWithin + outcomeBy)
	}
	if i := m.gpuIndex(r.GPU); i >= 0 && m.host.GPU.GPUs[i].Ask != 0 {
		return r.Since.Add(verifyWithin) // the answer leads on
	}
	return earlier(r.Since.Add(verifyWithin), r.Next)
}

// resetStep takes the next step of a reset when the one before has ended.
func (m *Machine) resetStep() {
	r := m.host.GPU.Reset
	switch r.Phase {
	case ResetStopping:
		m.resetStopping(r)
	case ResetRunning:
		if !m.now.Before(r.Since.Add(resetWithin + outcomeBy)) {
			m.resetFails("the reset command did not end")
		}
	case ResetVerifying:
		m.resetVerify(r)
	}
}

func (m *Machine) resetStopping(r *GPUReset) {
	for _, key := range r.Units {
		u := m.units[key]
		switch {
		case u == nil || !u.Gone.IsZero(): // it was removed meanwhile
		case u.Op != nil:
			return
		case u.Last.Running:
			m.resetFails(u.Name + " could not be stopped, or was started again by somebody")
			return
		}
	}
	next := *r
	next.Phase, next.Since = ResetRunning, m.now
	m.host.NextID++
	next.Decision = m.host.NextID
	m.host.GPU.Reset = &next
	m.touchHost()
	m.out = append(m.out, Decision{
		ID: next.Decision, At: m.now, Verb: VerbResetGPU, Rule: ruleGPUReset, GPUs: []string{r.GPU}, Within: resetWithin,
		Reason: "its containers have ended; NVML is let go and the reset command runs", Incident: r.Incident,
	})
	m.sayIn(r.Incident, ruleGPUReset, "its containers have ended; the reset command runs")
}

// gpuOutcome takes in what came of a reset command, or of a look at a GPU.
func (m *Machine) gpuOutcome(ev Event) {
	if g := m.gpuAnswered(ev.Decision); g != nil {
		m.gpuRead(g, false)
	}
	r := m.host.GPU.Reset
	if r == nil || r.Phase != ResetRunning || ev.Decision != r.Decision {
		return
	}
	if ev.Outcome.Class != OutcomeOK {
		m.resetFails("the reset command did not work: " + ev.Outcome.Text)
		return
	}
	m.verifyReset(r)
}

func (m *Machine) verifyReset(r *GPUReset) {
	next := *r
	next.Phase, next.Since, next.Next = ResetVerifying, m.now, m.now
	m.host.GPU.Reset = &next
	m.touchHost()
	m.resetStep()
}

// resetVerify asks the driver until the GPU reads well.
func (m *Machine) resetVerify(r *GPUReset) {
	i := m.gpuIndex(r.GPU)
	if i < 0 {
		m.resetFails("the driver does not list the GPU any more")
		return
	}
	g := &m.host.GPU.GPUs[i]
	s := gpu.State{Device: g.Device, Reading: &g.Reading}
	j := gpu.JudgeGPU(m.host.GPU.Driver, s)
	fresh := g.Reading.At.After(r.Since)
	switch {
	case fresh && m.host.GPU.Driver.State == gpu.DriverUp && (j.Verdict == gpu.Restart || j.Rule == "hot"):
		m.resetDone(g)
	case !m.now.Before(r.Since.Add(verifyWithin)):
		why := "the driver does not answer"
		if fresh {
			why = j.Cause
		}
		m.resetFails("the reset command worked, but " + why)
	case g.Ask == 0 && !m.now.Before(r.Next):
		next := *r
		next.Next = m.now.Add(verifyEvery)
		m.host.GPU.Reset = &next
		if m.poll(g, "verify_reset", "whether the reset helped"); g.Ask == 0 {
			m.touchHost()
		}
	}
}

// resetDone: the containers are due now, and the gate lets them in one by one.
func (m *Machine) resetDone(g *GPU) {
	r := m.host.GPU.Reset
	m.host.GPU.Reset = nil
	m.touchHost()
	text := m.gpuTitle(g.UUID) + " was reset and is well"
	if r.Unsure {
		text = m.gpuTitle(g.UUID) + " is well; whether the reset command ran before defib was ended is not known"
	}
	m.sayIn(r.Incident, "gpu_reset_done", text+m.startedAgain(r))
	why := m.gpuTitle(g.UUID) + " reads well"
	if !r.Unsure { // what a fault alone tells ends only with a reset
		why = m.gpuTitle(g.UUID) + " was reset"
		g.Paged, g.Cleared = time.Time{}, m.now // what breaks from now on is new
		m.freeGPU(g.UUID, partFault, "gpu_cleared", why)
	}
	m.freeGPU(g.UUID, partState, "gpu_cleared", why)
	if len(m.gpuHolds(g.UUID)) > 0 { // it held them before, and they ran
		for _, key := range r.Units {
			u := m.units[key]
			if u == nil {
				continue
			}
			if _, held := m.heldElsewhere(u, g.UUID); !held {
				m.undoStop(u)
			}
		}
	}
	m.endReset(r)
}

// startedAgain says what becomes of the containers of a reset that is done.
func (m *Machine) startedAgain(r *GPUReset) string {
	up, text := false, ""
	for _, key := range r.Units {
		u := m.units[key]
		if u == nil {
			continue
		}
		if h, held := m.heldElsewhere(u, r.GPU); held {
			text += fmt.Sprintf("; %s stays down: %s", u.Name, h.Judgement.Cause)
		} else {
			up = true
		}
	}
	if up {
		return "; its containers are started again" + text
	}
	return text
}

// endReset closes the story of a reset that stands for itself, and lets the
// containers go on.
func (m *Machine) endReset(r *GPUReset) {
	held := len(m.gpuHolds(r.GPU)) > 0
	if in := m.incidents[r.Incident]; in != nil && !held {
		end := "recovered"
		if in.Level == LevelPage {
			end = "failed"
		}
		m.end(in, end)
		m.told(r.GPU).Incident = ""
	}
	for _, key := range r.Units {
		if u := m.units[key]; u != nil {
			m.evaluate(u, false)
		}
	}
	m.kick = true
}

// resetFails calls a human and undoes what was done: what was stopped for the
// reset starts again, as it ran before.
func (m *Machine) resetFails(why string) {
	r := m.host.GPU.Reset
	m.host.GPU.Reset = nil
	m.touchHost()
	var stopped []string
	lost := m.lostForGood(r.GPU) // a start there could hang for ever
	for _, key := range r.Units {
		if u := m.units[key]; u != nil && !lost && m.undoStop(u) {
			stopped = append(stopped, u.Name)
		}
	}
	text := fmt.Sprintf("%s could not be reset: %s", m.gpuTitle(r.GPU), why)
	if len(stopped) > 0 {
		text = sentence(text, "What was stopped for it is started again: "+strings.Join(stopped, ", "))
	}
	m.pageIn(r.Incident, "gpu_reset_failed", sentence(text, "Reset it by hand once nothing uses it, or reboot the host"))
	m.endReset(r)
}

// undoStop lets what was stopped for a reset start as it ran before it, hold or
// not. It reports whether u was.
func (m *Machine) undoStop(u *unit) bool {
	switch {
	case u.OursFor == ruleGPUReset:
		u.OursFor = ruleGPUUndo
	case u.Op != nil && u.Op.Rule == ruleGPUReset: // it is still ending
		u.Op.Rule = ruleGPUUndo
	default:
		return false
	}
	m.touch(u)
	return true
}

// lostForGood: only a reboot helps that GPU.
func (m *Machine) lostForGood(uuid string) bool {
	return slices.ContainsFunc(m.gpuHolds(uuid), rebootOnly)
}

// rebootOnly: a hold that no reset ends.
func rebootOnly(h Hold) bool { return h.Judgement.NoKill || h.Judgement.Scope == gpu.ScopeHost }

// resetTakenOver: the defib that began it is gone.
func (m *Machine) resetTakenOver() {
	r := m.host.GPU.Reset
	switch {
	case r == nil:
	case r.Phase == ResetStopping:
		m.resetFails("defib was ended during it")
	default: // the command may have worked: the driver tells
		next := *r
		next.Unsure = next.Unsure || r.Phase == ResetRunning
		m.verifyReset(&next)
	}
}
