package policy

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// command carries out an operator's order. It passes backoff, budget, panic
// and slots; a hold stops it unless it is forced.
func (m *Machine) command(c *Command) {
	if c == nil {
		return
	}
	switch {
	case c.Order == OrderAck:
		m.ack(c)
		return
	case c.Order == OrderReset:
		m.orderReset(c)
		return
	case c.Order == OrderRelease && c.GPU != "":
		m.releaseGPU(c)
		return
	case c.Order == OrderHold || c.Order == OrderRelease:
		m.holdCommand(c)
		return
	}
	u := m.units[c.Unit]
	if u == nil || !u.Gone.IsZero() {
		m.say("refused", fmt.Sprintf("there is no container %s under watch; `defib status -a` lists all", clip(c.Unit)))
		return
	}
	if why := m.refusal(u, c); why != "" {
		m.note(u, "refused", why)
		return
	}
	switch c.Order {
	case OrderRestart:
		m.orderRestart(u, c)
	case OrderStop:
		m.orderStop(u, c)
	case OrderRetry:
		m.orderRetry(u, c)
	default:
		m.say("refused", "there is no order "+clip(string(c.Order)))
	}
}

// refusal says why an order cannot be carried out now, or nothing.
func (m *Machine) refusal(u *unit, c *Command) string {
	switch {
	case !m.host.Connected:
		return "Docker does not answer, so nothing can be done: " + m.host.Reason
	case !u.Seen:
		return "its state is not known, so nothing can be done: " + u.Reason
	case u.Op != nil:
		return "a " + string(u.Op.Verb) + " of it is under way; wait for it, or look at `defib describe " + u.Name + "`"
	case c.Order == OrderStop:
		return m.stopRefusal(u, c)
	case m.host.GPU.Reset != nil && u.standsOn(m.host.GPU.Reset.GPU):
		return m.gpuTitle(m.host.GPU.Reset.GPU) + ", which it uses, is being reset; wait for that"
	case c.Force:
		return ""
	}
	if h, ok := m.standing(u, HoldOperator, HoldGPU, HoldVRAM, HoldStuck); ok {
		return fmt.Sprintf("it is held (%s: %s); release the hold, or `defib restart --force %s`", h.Reason, h.Why, u.Name)
	}
	if j, ok := u.waits(); ok && c.Order == OrderRestart {
		return fmt.Sprintf("it waits, since a restart would not help now (%s); `defib restart --force %s` restarts it all the same", j.Cause, u.Name)
	}
	return ""
}

// stopRefusal: on a GPU that is lost the stop itself can hang, and leave a
// container that nothing ends.
func (m *Machine) stopRefusal(u *unit, c *Command) string {
	if !u.Last.Running || c.Force {
		return ""
	}
	for _, h := range m.host.Holds {
		if h.Judgement != nil && h.Judgement.NoKill && covers(h, u) {
			return fmt.Sprintf("a stop of it can hang for good (%s); `defib stop --force %s` stops it all the same", h.Why, u.Name)
		}
	}
	return ""
}

func (m *Machine) orderRestart(u *unit, c *Command) {
	verb := VerbRestart
	if !u.Last.Running {
		verb = VerbStart
	}
	m.pardon(u)
	u.WantDown, u.Stop, u.Undo = false, nil, time.Time{}
	m.act(u, verb, "operator", ordered(c), actOperator)
	m.evaluate(u, false)
}

// orderStop is how a person tells defib to leave an exited container alone:
// `docker stop` on one leaves no trace.
func (m *Machine) orderStop(u *unit, c *Command) {
	m.step(u, "operator", ordered(c))
	u.Stop, u.Undo = nil, time.Time{}
	if u.Last.Running {
		m.act(u, VerbStop, "operator", ordered(c), actOperator)
	} else {
		u.WantDown = true
		m.pardon(u)
		m.note(u, "operator", ordered(c)+"; it is down and stays so")
	}
	m.touch(u)
	m.evaluate(u, false)
}

func (m *Machine) orderRetry(u *unit, c *Command) {
	if u.State == Running || u.State == Stopped || u.State == Paused {
		m.note(u, "refused", fmt.Sprintf("it is %s, so there is nothing to retry; `defib restart %s` restarts it all the same", u.State, u.Name))
		return
	}
	m.pardon(u)
	m.evaluate(u, false)
	text := ordered(c) + "; it gets full retries"
	if u.State == Held {
		force := ""
		if m.refusal(u, &Command{Order: OrderRestart}) != "" {
			force = "--force "
		}
		text += fmt.Sprintf(", but not yet (%s); `defib restart %s%s` does not wait for that", u.Reason, force, u.Name)
	}
	m.note(u, "operator", text)
}

func (m *Machine) release(h Hold, c *Command) {
	for _, standing := range m.host.Holds {
		if sameHold(standing, h) {
			m.say("released", ordered(c)+": the hold on "+holdTarget(h)+" has ended")
			m.clearHold(h)
			m.kick = true
			return
		}
	}
	why := "there is no operator hold on " + holdTarget(h) + "; `defib status` shows the holds"
	for _, standing := range m.host.Holds {
		if standing.By == byFile && h.Scope == ScopeHost {
			why = standing.Why
		}
	}
	m.say("refused", why)
}

func ordered(c *Command) string {
	text := fmt.Sprintf("%s by %s", strings.TrimPrefix(string(c.Order), "gpu_"), clip(cmp.Or(c.By, "an operator")))
	if c.Why != "" {
		text += " (" + clip(c.Why) + ")"
	}
	return text
}

// holdCommand sets or ends an operator's hold. Each ends by itself in time.
func (m *Machine) holdCommand(c *Command) {
	h := Hold{Reason: HoldOperator, By: clip(cmp.Or(c.By, "an operator")), Since: m.now}
	switch {
	case c.All:
		h.Scope = ScopeHost
	case c.Project != "":
		h.Scope, h.Target = ScopeProject, c.Project
	default:
		h.Scope, h.Target = ScopeUnit, c.Unit
		if m.units[c.Unit] == nil {
			m.say("refused", fmt.Sprintf("there is no container %s under watch; `defib status -a` lists all", clip(c.Unit)))
			return
		}
	}
	if c.Order == OrderRelease {
		m.release(h, c)
		return
	}
	d := c.For
	if d <= 0 {
		d = m.cfg.HoldFor
	}
	h.Until = m.now.Add(d)
	h.Why = fmt.Sprintf("%s holds %s until %s", h.By, holdTarget(h), h.Until.Format(timeLayout))
	if c.Why != "" {
		h.Why += " (" + clip(c.Why) + ")"
	}
	m.setHold(h)
	m.say("held", h.Why)
}
