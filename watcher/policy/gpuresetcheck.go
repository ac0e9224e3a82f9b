package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// This file says why a GPU cannot be reset: all that runs on it must end for it,
// and be able to start again after it.

func (m *Machine) resetRefusal(g *GPU, c *Command) string {
	switch {
	case g == nil:
		return fmt.Sprintf("there is no GPU %s; `defib gpus` lists them", clip(c.GPU))
	case g.Index < 0:
		return "the driver does not list that GPU, so it cannot be reset; reboot the host"
	case m.host.GPU.Reset != nil:
		return m.gpuTitle(m.host.GPU.Reset.GPU) + " is being reset; wait for it"
	case m.cfg.Observe:
		return "defib runs in observe mode and stops nothing; start it without --observe"
	case !m.host.Connected:
		return "Docker does not answer, so nothing can be stopped: " + m.host.Reason
	}
	for _, h := range slices.Concat(m.gpuHolds(g.UUID), m.gpuHolds(allGPUs)) {
		if rebootOnly(h) {
			return "a reset would not help: " + h.Why
		}
	}
	for _, u := range m.usersOf(g.UUID) {
		if why := cmp.Or(m.unitForbidsReset(u), m.staysDown(u, g.UUID, c.Force)); why != "" {
			return why
		}
	}
	if who := m.strangers(g); who != "" && !c.Force {
		return fmt.Sprintf("GPU %s is in use by %s, which defib does not manage; end that first, or the reset fails", m.gpuName(g.UUID), who)
	}
	return ""
}

// unitForbidsReset says why u cannot be stopped for a reset and started after
// it, or nothing.
func (m *Machine) unitForbidsReset(u *unit) string {
	if h, held := m.standing(u, HoldOperator, HoldDisk, HoldStuck); held && u.Last.Running {
		return fmt.Sprintf("%s could not be started again after it (%s: %s); release that first", u.Name, h.Reason, h.Why)
	}
	switch {
	case u.Op != nil:
		return fmt.Sprintf("a %s of %s is under way; wait for it", u.Op.Verb, u.Name)
	case !u.Last.Running && u.Stop == nil:
		return ""
	case u.policy.Mode == ModeObserve:
		return u.Name + " is only observed, so defib may not stop it: " + u.policy.ModeWhy + "; stop it yourself first"
	case u.Last.Paused:
		return "somebody paused " + u.Name + "; `docker unpause " + u.Name + "` or stop it first"
	case u.Stop != nil || !u.Undo.IsZero():
		return "somebody is stopping " + u.Name + "; wait until it has ended"
	case !u.Seen:
		return "Docker could not say how " + u.Name + " is; try again"
	case u.Last.AutoRemove:
		return "Docker removes " + u.Name + " once it ends (`--rm`), so it could not be started again; stop it yourself first"
	}
	return ""
}

// staysDown says why u, which runs, would be held by another GPU after a reset
// of this one, or nothing. A stop could hang for good where a GPU is lost.
func (m *Machine) staysDown(u *unit, uuid string, force bool) string {
	h, held := m.heldElsewhere(u, uuid)
	switch {
	case !held || !u.Last.Running:
		return ""
	case h.Judgement.NoKill:
		return fmt.Sprintf("%s must be stopped for it, and may never end: %s; reboot the host", u.Name, h.Judgement.Cause)
	case force:
		return ""
	}
	return fmt.Sprintf("%s would not be started again after it: %s; mend that first, or pass `--force` and leave it down", u.Name, h.Judgement.Cause)
}

// heldElsewhere is a hold of another GPU, or of all of them, that covers u.
func (m *Machine) heldElsewhere(u *unit, uuid string) (Hold, bool) {
	i := slices.IndexFunc(m.host.Holds, func(h Hold) bool { return h.Reason == HoldGPU && h.Target != uuid && covers(h, u) })
	if i < 0 {
		return Hold{}, false
	}
	return m.host.Holds[i], true
}

// strangers are processes on a GPU that defib cannot stop.
func (m *Machine) strangers(g *GPU) string {
	var who []string
	for _, p := range g.Reading.Processes {
		u, name := m.ownerOf(p.Containers)
		switch {
		case u != nil && slices.Contains(m.usersOf(g.UUID), u) || p.Dead:
		case name != "":
			who = append(who, "container "+name)
		default:
			who = append(who, fmt.Sprintf("%s (pid %d)", clip(p.Name), p.PID))
		}
	}
	slices.Sort(who)
	return strings.Join(slices.Compact(who), ", ")
}
