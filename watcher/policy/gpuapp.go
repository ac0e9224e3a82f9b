package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file deals with faults that a program brings on itself. One alone never
// restarts a container: a side process may have made it while the server is
// fine. It is confirmed by the end of the process, or by the container's own
// health check, run once by us.

// How long the end of the process is waited for, and, where its health check
// may take longer, for that.
const (
	confirmWithin = gpu.WindowAfter
	confirmMost   = time.Minute
	checkSlack    = 5 * time.Second // to start the check, and to hand in the answer
)

// suspectAgain is how soon a container is looked into again: a storm of faults
// must not become a storm of health checks.
const suspectAgain = 30 * time.Second

// maxSuspects is how many processes of a container wait to be looked into.
const maxSuspects = 8

// suspect notes which containers a fault may have broken.
func (m *Machine) suspect(g *GPU, f gpu.Fault) {
	if f.PID != 0 {
		m.unsuspect(g, f)
	}
	for _, u := range m.suspects(g, f) {
		if !u.Last.Running || u.Last.Paused || u.Op != nil || u.Failure != nil || u.Run.Fault != nil || oneOff(&u.Last) {
			continue // it has failed already, is being repaired, or is never restarted
		}
		m.addSuspect(u, Suspect{
			At: m.now, GPU: g.UUID, Code: f.Code, PID: f.PID, Due: m.now.Add(gpu.Settle),
			Text: fmt.Sprintf("%s on GPU %s", m.faultText(f), m.gpuName(g.UUID)),
		})
	}
}

// addSuspect has a fault looked into, after those before it. The same process
// is looked into once, and not again at once.
func (m *Machine) addSuspect(u *unit, s Suspect) {
	same := func(q Suspect) bool { return q.PID == s.PID }
	switch cur := u.Suspect; {
	case cur == nil && m.now.Sub(u.Cleared) < suspectAgain && (s.PID == 0 || s.PID == u.ClearedPID):
		return // it was looked into just now
	case cur == nil, cur.PID == 0 && cur.Ask == 0:
		u.Suspect = &s
	case s.PID == 0, same(*cur), slices.ContainsFunc(u.Suspects, same), len(u.Suspects) >= maxSuspects:
		return
	default:
		u.Suspects = append(slices.Clip(u.Suspects), s)
	}
	m.touch(u)
	m.evaluate(u, false)
}

// unsuspect: a second report names the process, so the containers that only
// share the GPU are out of it.
func (m *Machine) unsuspect(g *GPU, f gpu.Fault) {
	owner, _ := m.ownerOf(f.Containers)
	for _, u := range m.usersOf(g.UUID) {
		if s := u.Suspect; u != owner && s != nil && s.GPU == g.UUID && s.Code == f.Code && s.PID == 0 && s.Ask == 0 {
			u.Suspect = nil
			m.touch(u)
		}
	}
}

// suspects are the container of the process that a fault names; where no
// process is known, all that use the GPU, or the instance of it.
func (m *Machine) suspects(g *GPU, f gpu.Fault) []*unit {
	u, name := m.ownerOf(f.Containers)
	switch {
	case u != nil:
		return []*unit{u}
	case f.Unseen: // it may be any of them; only their checks can tell
	case name != "", f.PID != 0 && m.host.GPU.Driver.Blind == "" && len(f.Containers) == 0 && f.Source != gpu.SourceNVML:
		return nil // somebody else's process
	case len(f.Containers) > 0:
		return nil
	}
	return slices.DeleteFunc(m.usersOf(g.UUID), func(u *unit) bool { return f.OnMIG && !u.onPart(g.UUID, f) })
}

// onPart reports whether u uses the instance that a fault names.
func (u *unit) onPart(uuid string, f gpu.Fault) bool {
	for _, use := range u.mapping.GPUs {
		if use.UUID == uuid {
			return f.Touches(use.Parts)
		}
	}
	return true
}

// suspicion looks into a fault that names u when its time has come.
func (m *Machine) suspicion(u *unit) {
	s := u.Suspect
	switch {
	case s == nil:
		return
	case !u.Last.Running || u.Failure != nil || u.Op != nil || u.Last.Paused:
		u.Suspect, u.Suspects = nil, nil // its end, or its check, has told already
		m.touch(u)
	case s.Ask != 0 && !m.now.Before(s.Until):
		m.unconfirmed(u, "nothing could be learned of the container")
	case s.Ask != 0:
		u.wake = earlier(u.wake, s.Until)
	case m.now.Before(s.Due):
		u.wake = earlier(u.wake, s.Due)
	default:
		m.lookInto(u, *s)
	}
}

// lookInto asks what would confirm a fault. The check is not run for each of a
// storm of them.
func (m *Machine) lookInto(u *unit, s Suspect) {
	d := m.decide(u, VerbExamine, "confirm_fault", s.Text+": a fault of a program counts only when something confirms it")
	d.Check = u.Last.Health != nil && m.now.Sub(u.Cleared) >= suspectAgain
	d.GPUs, d.Logs, d.Within = u.uuids(), true, confirmWithin
	if s.PID != 0 {
		d.PID, d.PIDWithin = s.PID, confirmWithin
	}
	if d.Check { // it may take as long as it is allowed to
		d.Within = min(max(confirmWithin, cmp.Or(u.Last.Health.Timeout, 30*time.Second)+checkSlack), confirmMost)
	}
	m.out = append(m.out, *d)
	s.Ask, s.Until = d.ID, m.now.Add(d.Within+askSlack)
	u.Suspect = &s
	u.wake = earlier(u.wake, s.Until)
	m.touch(u)
}

// askSlack is how much later than its deadline an answer may arrive.
const askSlack = 3 * time.Second

// confirm reads the answer: did the fault break the container?
func (m *Machine) confirm(u *unit, ev Event) {
	s := u.Suspect
	if why, broke := confirms(u, ev.Examination); broke {
		u.Suspect, u.Suspects = nil, nil
		u.Run.Fault = &RunFault{At: m.now, GPU: s.GPU, Code: s.Code, Text: s.Text + "; " + why}
	} else {
		m.unconfirmed(u, why)
	}
	m.touch(u)
	m.evaluate(u, false)
}

func confirms(u *unit, e *Examination) (why string, broke bool) {
	switch {
	case e.PIDExited:
		return "its process has ended", true
	case e.Check != nil && e.Check.ExitCode != 0 && !u.Run.Healthy:
		return "it is still starting, so its health check says nothing", false
	case e.Check != nil && e.Check.ExitCode != 0 && !brokenProbe(e.Check):
		return "its health check, run once by defib, fails: " + checkText(e.Check), true
	case e.Check != nil && e.Check.ExitCode == 0:
		return "its health check, run once by defib, passes", false
	case e.CheckErr != "":
		return "its process lives on and nothing else says that it is broken (its health check could not be run: " + quoted(e.CheckErr) + ")", false
	}
	return "its process lives on and nothing else says that it is broken", false
}

func checkText(p *Probe) string {
	if timedOut(p) {
		return "it ran out of time"
	}
	return quoted(p.Output)
}

// unconfirmed: it is noted, and the container watched on.
func (m *Machine) unconfirmed(u *unit, why string) {
	s := u.Suspect
	u.Suspect, u.Cleared, u.ClearedPID = nil, m.now, s.PID
	if len(u.Suspects) > 0 {
		next := u.Suspects[0]
		u.Suspect, u.Suspects = &next, u.Suspects[1:]
		u.wake = earlier(u.wake, later(next.Due, m.now))
	}
	m.note(u, "fault_noted", fmt.Sprintf("%s; %s, so it is left alone", s.Text, why))
	m.touch(u)
}

// judgeFault: a confirmed fault is a failed verdict until its run ends, or its
// own health check passes later.
func (m *Machine) judgeFault(u *unit) (verdict, bool) {
	f := u.Run.Fault
	if f == nil {
		return verdict{}, false
	}
	if h := u.Last.Health; h != nil {
		if p := newest(h, u.Last.StartedAt); p != nil && p.ExitCode == 0 && u.Run.Began.Add(p.Start.Sub(u.Last.StartedAt)).After(f.At) {
			u.Run.Fault = nil
			m.touch(u)
			return verdict{}, false
		}
	}
	return verdict{finding: findFailed, rule: fmt.Sprintf("xid_%d", f.Code), text: f.Text, verb: VerbRestart}, true
}
