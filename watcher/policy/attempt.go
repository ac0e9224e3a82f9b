package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// newFailure enters a failed verdict into the books: it settles the run, sets
// when the next attempt is due, and tells the neighbours.
func (m *Machine) newFailure(u *unit, v verdict) *Failure {
	fromOK := !u.Run.ReadyAt.IsZero() && !u.Run.Settled
	m.unready(u)
	if !u.Run.Counted && !v.free {
		m.count(u)
	}
	f := &Failure{At: m.now, Rule: v.rule, Text: v.text, Verb: v.verb, Free: v.free, Probe: v.probe, FromOK: fromOK && !v.free}
	if v.free {
		u.LeftAt = time.Time{} // the cause is known, so it is no sign of another
	}
	f.Due = m.now
	switch {
	case v.verb == VerbStop && !u.Refused.IsZero():
		f.Due = later(f.Due, u.Refused.Add(refusedAgain))
	case v.verb != VerbStop && u.OursFor == "":
		f.Due = m.now.Add(m.delay(u))
	}
	if v.rule == "unhealthy" && u.onGPU() {
		f.Due = later(f.Due, m.now.Add(u.policy.UnhealthyFor))
	}
	if v.verb != VerbStop && m.knowsGPUs(u) && u.Run.Fault == nil {
		f.Due = later(f.Due, m.now.Add(gpu.Settle)) // Xid 154 and 79 come late
	}
	tried := u.Failure == nil // an act, which has not helped
	u.Failure, u.Curing = f, ""
	if !u.Last.Running && !u.Slot.IsZero() {
		u.Slot, m.kick = time.Time{}, true
	}
	if tried && !v.free {
		m.canaryFailed(u)
	} else {
		m.canaryOut(u)
	}
	m.open(u, v.rule, v.text, LevelInfo)
	m.step(u, v.rule, v.text)
	if in := m.incidents[u.Incident]; in != nil {
		in.Failures++
	}
	m.spreadWord(u, f)
	m.touch(u)
	return f
}

// refusedAgain is how long a stop that Docker refused waits: what refuses it,
// such as a socket proxy, does not change soon.
const refusedAgain = time.Minute

// attempt passes the gate and acts, or says what holds it up.
func (m *Machine) attempt(u *unit, f *Failure, fresh bool) {
	if m.now.Before(m.host.Settle) {
		m.become(u, Backoff, "", "settle", m.host.SettleWhy)
		u.wake = m.host.Settle
		return
	}
	if h, again, held := m.blocked(u); held {
		m.held(u, f, h, again)
		return
	}
	if !fresh {
		m.askForAct(u, f)
		u.wake = u.Ask.Until
		return
	}
	m.act(u, f.Verb, f.Rule, m.reasonFor(u, f), m.price(u, f))
	m.curing(u, f)
}

// faultLook is how often a held container that still runs is looked at.
const faultLook = 30 * time.Second

// held: an attempt is due and something blocks it. It is never charged.
func (m *Machine) held(u *unit, f *Failure, h Hold, again time.Time) {
	rule := "held_" + string(h.Reason)
	text := f.Text + "; not acted on: " + h.Why
	if u.State != Held || u.Rule != rule {
		m.note(u, rule, text)
	}
	m.become(u, Held, string(h.Reason), rule, text)
	if u.Reason != text { // what the hold is about goes on meanwhile
		u.Reason = text
		m.touch(u)
	}
	m.waiting[u.Key] = u
	if parent := m.units[h.Target]; h.Reason == HoldDependency && parent != nil {
		m.adoptChild(parent.Incident, u)
	}
	if h.Reason == HoldGPU && h.Scope == ScopeGPU {
		m.pageHeld(u, h)
		m.adoptChild(m.told(h.Target).Incident, u)
	}
	if u.Run.Fault != nil { // its own check may say that it is well
		again = earlier(again, m.now.Add(faultLook))
		if u.Ask == nil && m.now.Sub(u.Read) >= faultLook {
			m.ask(u, "look_again", "it is held, and may be well all the same", false)
		}
	}
	u.wake, f.Again = again, again
	if u.Ask != nil && u.Ask.ForAct {
		u.Ask.ForAct = false
		m.kick = true
	}
}

func (m *Machine) reasonFor(u *unit, f *Failure) string {
	switch {
	case f.Verb == VerbStop:
		return f.Text
	case u.OursFor != "": // it is no attempt to repair
		return f.Text + m.cost(u)
	case u.Giveup != nil && u.Giveup.Open:
		return fmt.Sprintf("%s (half-open retry %d after giving up)", f.Text, u.Giveup.N+1)
	}
	return fmt.Sprintf("%s (attempt %d%s)", f.Text, u.tried()+1, m.cost(u))
}

// cost is what an act takes away from people, where that is much.
func (m *Machine) cost(u *unit) string {
	if ttr := median(u.TTR); u.onGPU() && ttr >= time.Minute {
		return "; loading takes about " + span(ttr)
	}
	return ""
}

type price int

const (
	actCharged  price = iota // raises the level, costs budget
	actFreed                 // raises the level; a canary has proved it
	actFree                  // neither: not the unit's fault
	actOperator              // an operator asked
)

func (m *Machine) price(u *unit, f *Failure) price {
	switch {
	case f.Free || f.Verb == VerbStop:
		return actFree
	case u.Freed:
		return actFreed
	}
	return actCharged
}

// act emits a decision that changes the world. At most one is in flight per
// unit.
func (m *Machine) act(u *unit, verb Verb, rule, reason string, p price) {
	timeout := stopTimeout(u)
	if u.policy.Stateful != "" {
		timeout = max(timeout, m.cfg.StatefulStop)
	}
	u.Ask = nil
	d := m.decide(u, verb, rule, reason)
	d.StopTimeout, d.Within, d.Charged = timeout, timeout+30*time.Second, p == actCharged
	m.out = append(m.out, *d)
	u.Op = &Op{
		ID: d.ID, Verb: verb, Rule: rule, Container: d.Container, StartedAt: u.Last.StartedAt, At: m.now,
		Timeout: timeout, Operator: p == actOperator, Charged: p == actCharged || p == actFreed, Freed: p == actFreed,
	}
	if p == actCharged {
		m.spend()
	}
	if u.Op.Charged {
		m.charge(u)
	}
	if u.Giveup != nil && u.Giveup.Open && verb != VerbStop {
		u.Giveup.N++
		u.Giveup.Retry = time.Time{}
	}
	if f := u.Failure; f != nil && (f.Rule == "unhealthy" || f.Rule == "start_timeout") && !u.Check.Passed {
		u.Check.Tried = true
	}
	u.Freed = false
	m.takeSlot(u, verb)
	m.become(u, Repairing, acting(verb), rule, reason)
	m.step(u, rule, string(verb)+": "+reason)
	m.touch(u)
}

func acting(v Verb) string {
	switch v {
	case VerbStart:
		return "starting"
	case VerbStop:
		return "stopping"
	default:
		return "restarting"
	}
}

// decide numbers a decision about u.
func (m *Machine) decide(u *unit, verb Verb, rule, reason string) *Decision {
	m.host.NextID++
	m.touchHost()
	return &Decision{
		ID: m.host.NextID, At: m.now, Unit: u.Key, Name: u.Name, Container: u.Last.Container, StartedAt: u.Last.StartedAt,
		Verb: verb, Rule: rule, Reason: reason, Incident: u.Incident,
	}
}

// outcome takes in what came of an act; a late or foreign one is ignored.
func (m *Machine) outcome(ev Event) {
	u := m.owner(ev)
	if ev.Outcome == nil {
		return
	}
	if u == nil {
		m.gpuOutcome(ev)
		return
	}
	if !u.Op.Done.IsZero() {
		return
	}
	op := u.Op
	op.Done, op.Outcome, op.Text = m.now, ev.Outcome.Class, ev.Outcome.Text
	m.keepEvidence(u, ev.Outcome.Evidence)
	if op.Outcome == OutcomeFailed || op.Outcome == OutcomeStuck {
		m.note(u, string(op.Verb)+"_failed", fmt.Sprintf("the %s did not work: %s", op.Verb, op.Text))
		u.Run.NoStart = strings.TrimPrefix(op.Text, fmt.Sprintf("%s %s: ", op.Verb, u.Name))
	}
	switch {
	case op.Outcome == OutcomeStuck:
		m.stuck(u)
	case op.Outcome == OutcomeFailed && op.Verb == VerbStop && !op.Operator:
		m.stopRefused(u)
	}
	m.kick = true
	m.touch(u)
	m.evaluate(u, false)
}

// owner finds the unit of an outcome, which may have been renamed meanwhile.
func (m *Machine) owner(ev Event) *unit {
	if u := m.units[ev.Unit]; u != nil && u.Op != nil && u.Op.ID == ev.Decision {
		return u
	}
	for _, u := range m.units {
		if u.Op != nil && u.Op.ID == ev.Decision {
			return u
		}
	}
	return nil
}

// stuck: SIGKILL did not end it. Nothing more is tried, for each further kill
// would only queue up behind the first.
func (m *Machine) stuck(u *unit) {
	m.setHold(Hold{
		Reason: HoldStuck, Scope: ScopeUnit, Target: u.Key, Since: m.now, By: byDefib,
		Why: "SIGKILL did not end it, so a driver or the kernel holds it; look at `dmesg`, and reboot if it stays",
	})
	m.page(u, "stuck", "Docker could not end it even with SIGKILL: "+u.Op.Text+". A driver or the kernel holds it; look at `dmesg`, and reboot if it stays")
}

// stopRefused: what should end goes on.
func (m *Machine) stopRefused(u *unit) {
	u.Refused = m.now
	m.pageOnce(u, "stop_refused", sentence("it is to be stopped, and Docker refuses that: "+u.Op.Text, "Stop it yourself: `docker stop "+u.Name+"`"))
}

// outcomeBy is how long after its stop timeout an act must have an outcome.
const outcomeBy = 2 * time.Minute

// inRepair waits for the outcome of the act and then for an inspect that was
// sent after it.
func (m *Machine) inRepair(u *unit, fresh bool) {
	op := u.Op
	switch {
	case op.Orphan:
		m.adopt(u, fresh)
	case op.Done.IsZero() && m.now.Before(op.At.Add(op.Timeout+outcomeBy)):
		m.become(u, Repairing, acting(op.Verb), op.Rule, u.Reason)
		u.wake = op.At.Add(op.Timeout + outcomeBy)
	case op.Done.IsZero(): // it was lost; the world tells what came of the act
		op.Orphan = true
		m.touch(u)
		m.adopt(u, fresh)
	case fresh && !u.Read.Before(op.Done):
		m.endOp(u)
		m.evaluate(u, true)
	default:
		m.ask(u, "verify", "what came of the "+string(op.Verb), false)
		u.wake = u.Ask.Until
	}
}

// adopt takes over an act of a process that is gone. The engine goes on with a
// restart by itself, so nothing is done until it must have ended.
func (m *Machine) adopt(u *unit, fresh bool) {
	op := u.Op
	moved := u.Last.Container != op.Container || !u.Last.StartedAt.Equal(op.StartedAt)
	until := op.At.Add(op.Timeout + 5*time.Second)
	if op.Verb == VerbStart {
		until = op.At.Add(5 * time.Second)
	}
	if fresh && (moved && op.Verb != VerbStop || !m.now.Before(until)) {
		m.step(u, "taken_up", "defib was ended during the "+string(op.Verb)+" and has taken it up again")
		if !moved && op.Charged { // it never happened, or only half of it
			m.refund(u)
		}
		m.endOp(u)
		m.evaluate(u, true)
		return
	}
	m.become(u, Repairing, acting(op.Verb), op.Rule, u.Reason)
	if m.now.Before(until) {
		u.wake = until
		return
	}
	m.ask(u, "verify", "what came of the "+string(op.Verb)+" that the defib before this one began", false)
	u.wake = u.Ask.Until
}

// refund takes back what the act has cost: it never took place.
func (m *Machine) refund(u *unit) {
	u.Level = max(0, u.Level-1)
	if u.Op.Rule == "unhealthy" || u.Op.Rule == "start_timeout" {
		u.Check.Tried = false
	}
	if n := len(u.Repairs); n > 0 {
		u.Repairs = u.Repairs[: n-1 : n-1]
	}
	if n := len(u.Paced); n > 0 {
		u.Paced = u.Paced[: n-1 : n-1]
	}
	if !u.Op.Freed {
		m.host.Tokens = min(m.purse(), m.host.Tokens+1)
		m.touchHost()
	}
}

// endOp closes the act: what the container does from here on is judged anew.
func (m *Machine) endOp(u *unit) {
	op := u.Op
	u.Op = nil
	m.kick = true
	m.touch(u)
	if u.Failure != nil && op.Outcome != OutcomeOK || !u.Last.Running {
		u.Failure = nil // the next verdict is a new failure, with its own delay
		u.Run.Counted, u.Run.ReadyAt = u.Run.Counted && op.Verb == VerbStop, time.Time{}
	}
	if op.Foreign && op.Restarts < 2 && (!op.Orphan || !u.Last.Running) { // whose run it is, an orphan cannot tell
		u.Undo, u.Restarts = m.now.Add(undoAfter), op.Restarts
		return
	}
	switch {
	case op.Verb != VerbStop:
		u.OursFor = "" // if it did not come up, that is a failure like any other
		moved := !u.Last.StartedAt.Equal(op.StartedAt)
		u.Ours = !u.Last.Running && (!op.Orphan || !moved) // it did start it; its end is not ours
		m.failedAgain(u)
	case (op.Rule == ruleGPUHeld || op.Rule == ruleGPUReset || op.Rule == ruleGPUUndo) && !u.Last.Running:
		u.Ours, u.OursFor, u.Run.Counted = true, op.Rule, true
	case op.Operator && op.Rule != "operator" && u.Last.Running: // it would not end, and nobody wants it down
	case op.Operator, op.Rule == "honour_stop":
		u.WantDown = !u.Last.Running || op.Outcome == OutcomeStuck // else it was refused, or somebody has started it
	case op.Rule == "crash_loop" && !u.Last.Running:
		u.Ours, u.Run.Counted = true, true
		m.giveUp(u, "crash_loop", fmt.Sprintf(
			"it failed %d times in a row and Docker kept starting it, so defib stopped it; `docker start %s` undoes that", u.Streak+u.Early, u.Name))
	}
}

// failedAgain: a start failed on a GPU with the error of the one before, which
// looks as if nothing had been tried since.
func (m *Machine) failedAgain(u *unit) {
	if e := u.LastExit; !u.Last.Running && u.startFault() && e != nil && e.Error == u.Last.Error {
		again := *e
		again.At = m.now
		u.LastExit = &again
	}
}

// keepEvidence files what the container left behind with its incident.
func (m *Machine) keepEvidence(u *unit, e *Evidence) {
	if in := m.incidents[u.Incident]; in != nil && e != nil {
		in.Evidence = e
		m.revise(in)
	}
}

// unstick: it has ended after all.
func (m *Machine) unstick(u *unit) {
	n := len(m.host.Holds)
	m.host.Holds = slices.DeleteFunc(slices.Clone(m.host.Holds), func(h Hold) bool { return h.Reason == HoldStuck && h.Target == u.Key })
	if len(m.host.Holds) != n {
		m.kick = true
		m.touchHost()
	}
}
