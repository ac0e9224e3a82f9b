package policy

import (
	"slices"
	"time"
)

// removed: its container is gone. The unit is remembered for a while, since
// most removals are one half of a recreate.
func (m *Machine) removed(u *unit) {
	m.closeIncident(u, "removed", "its container was removed")
	m.unready(u)
	m.unstick(u)
	wanted := m.wantedBack(u)
	u.Gone, u.Failure, u.Ask, u.Stop, u.Undo = m.now, nil, nil, nil, time.Time{}
	u.Run.Died = true
	u.WantDown = !wanted
	u.DownSince, u.Paged = time.Time{}, false
	if u.Op != nil {
		m.endOp(u)
		u.Undo = time.Time{} // whatever comes in its place was not stopped
	}
	m.touch(u)
	m.evaluate(u, false)
}

// wantedBack reports whether a container that was removed leaves a gap: not if
// it was down already and that was as it should be, nor a one-off.
func (m *Machine) wantedBack(u *unit) bool {
	switch {
	case u.WantDown || !u.WasUp || oneOff(&u.Last):
		return false
	case u.Op != nil || u.Stop != nil || u.Last.Running && !u.Run.Died: // it may be half of a recreate
		return true
	}
	end := *u
	if e := u.LastExit; u.Last.Running && e != nil { // it was gone before its end could be looked at
		end.Last.ExitCode = e.Code
	}
	return m.judgeEnd(&end).finding != findDown
}

// absent forgets a unit that did not come back; one that people wanted up is
// told once, unless its whole project went, it is back and opts out, or another
// has its defib.id.
func (m *Machine) absent(u *unit) {
	if !u.WantDown && !m.replaced(u) && !m.projectGone(u.Project) {
		text := "its container was removed " + span(m.now.Sub(u.Gone)) + " ago and has not come back; if that was not meant, create it again"
		m.open(u, "removed", text, LevelWarn)
		m.closeIncident(u, "removed", text)
	}
	m.forget(u)
}

// replaced: another has its defib.id, or it is back and opts out.
func (m *Machine) replaced(u *unit) bool {
	first := m.units[u.Last.Labels[labelID]]
	if m.namesake(u.Key, "") != nil || first != nil && first != u && first.Gone.IsZero() && !first.WantDown {
		return true
	}
	return slices.ContainsFunc(m.host.Others, func(o Other) bool { return o.Name == u.Name })
}

func (m *Machine) projectGone(project string) bool {
	if project == "" {
		return false
	}
	for _, u := range m.units {
		if u.Project == project && u.Gone.IsZero() {
			return false
		}
	}
	return true
}

func (m *Machine) forget(u *unit) {
	m.closeIncident(u, "removed", "it is no longer watched")
	u.Op, u.Ask = nil, nil
	m.load(u)
	m.leaveDomains(u)
	m.schedule(u, time.Time{})
	delete(m.waiting, u.Key)
	delete(m.units, u.Key)
	m.touch(u)
	m.kick = true
}
