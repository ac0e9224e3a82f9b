package policy

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Incidents are the story that people are told; this file keeps it.

const maxSteps = 50

func itoa(n int) string { return strconv.Itoa(n) }

// speakable turns a count into four letters that are hard to mistake. The
// multiplication mixes 20 bits one to one, so a million incidents of one host
// differ.
func speakable(n uint64) string {
	const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	v := n * 0x9E3B5 & 0xFFFFF
	b := make([]byte, 4)
	for i := range b {
		b[i] = letters[v>>(15-5*i)&31]
	}
	return "INC-" + string(b)
}

func (m *Machine) newIncident(unit, name, rule, cause string, level Level) *Incident {
	m.host.Incidents++
	m.touchHost()
	in := &Incident{ID: speakable(m.host.FirstID + m.host.Incidents), Unit: unit, Name: name, Opened: m.now, Level: level, Rule: rule, Cause: cause}
	m.incidents[in.ID] = in
	m.revise(in)
	return in
}

// revise marks a new revision, once per step.
func (m *Machine) revise(in *Incident) {
	if !m.revised[in.ID] {
		m.revised[in.ID] = true
		in.Rev++
	}
	m.dirty.incidents[in.ID] = in
}

// open makes sure that u has an open incident.
func (m *Machine) open(u *unit, rule, cause string, level Level) {
	if in := m.incidents[u.Incident]; in != nil {
		if in.Rule != rule || in.Cause != cause {
			in.Rule, in.Cause = rule, cause
			m.revise(in)
		}
		return
	}
	in := m.newIncident(u.Key, u.Name, rule, cause, level)
	in.Project, in.Changed = u.Project, m.changesBefore(u)
	if !u.missed.IsZero() {
		in.Opened = u.missed
	}
	if p := u.Past; p != nil && m.now.Sub(p.Closed) < reopenWindow {
		in.Root, in.Times, in.Opened = p.Root, p.Times+1, later(in.Opened, p.Closed)
	}
	u.Incident = in.ID
	m.joinPanic(u)
	m.touch(u)
}

// step adds a line to the open incident of u, if it has one.
func (m *Machine) step(u *unit, rule, text string) {
	if in := m.incidents[u.Incident]; in != nil {
		m.stepIn(in, rule, text)
	}
}

func (m *Machine) stepIn(in *Incident, rule, text string) {
	steps := append(slices.Clip(in.Steps), Step{At: m.now, Rule: rule, Text: text})
	if len(steps) > maxSteps {
		steps = slices.Delete(steps, maxSteps/5, maxSteps/5+1)
	}
	in.Steps = steps
	m.revise(in)
}

// note is the explicit choice not to act, or news that people should read.
func (m *Machine) note(u *unit, rule, text string) {
	if rule == "observe" || rule == "stateful" { // once in an incident
		said := rule + " " + u.Incident
		if u.Said == said {
			return
		}
		u.Said = said
	}
	m.out = append(m.out, *m.decide(u, VerbNote, rule, text))
	m.step(u, rule, text)
	m.touch(u)
}

// say is a note about the host.
func (m *Machine) say(rule, text string) {
	m.host.NextID++
	m.touchHost()
	m.out = append(m.out, Decision{ID: m.host.NextID, At: m.now, Verb: VerbNote, Rule: rule, Reason: text})
}

func (m *Machine) sayIn(id, rule, text string) {
	m.say(rule, text)
	m.out[len(m.out)-1].Incident = id
	if in := m.incidents[id]; in != nil {
		m.stepIn(in, rule, text)
	}
}

// warn makes the open incident at least a warning.
func (m *Machine) warn(u *unit) {
	if in := m.incidents[u.Incident]; in != nil && in.Level == LevelInfo {
		in.Level = LevelWarn
		m.revise(in)
	}
}

// page calls a human about u.
func (m *Machine) page(u *unit, rule, text string) {
	m.open(u, rule, text, LevelPage)
	m.note(u, rule, text)
	m.out[len(m.out)-1].Paged = true
	m.out[len(m.out)-1].Incident = u.Incident
	m.markPaged(m.incidents[u.Incident])
}

// pageOnce calls a human for one thing once in an incident; then they know.
func (m *Machine) pageOnce(u *unit, rule, text string) {
	if u.PagedFor != u.Incident+" "+rule {
		m.page(u, rule, text)
		u.PagedFor = u.Incident + " " + rule
	}
}

func (m *Machine) markPaged(in *Incident) {
	if in == nil {
		return
	}
	in.Level, in.NeedsYou = LevelPage, true
	if in.Paged.IsZero() {
		in.Paged = m.now
	}
	m.revise(in)
}

func (m *Machine) pageIn(id, rule, text string) {
	m.sayIn(id, rule, text)
	m.out[len(m.out)-1].Paged = true
	m.markPaged(m.incidents[id])
}

// closeIncident ends the story of u.
func (m *Machine) closeIncident(u *unit, end, why string) {
	in := m.incidents[u.Incident]
	u.Incident = ""
	if in == nil {
		return
	}
	if m.now.Sub(in.Opened) > 2*time.Minute && in.Level == LevelInfo && end == "recovered" && m.longOutage(in) {
		in.Level = LevelWarn
	}
	if u.Past = nil; end == "recovered" { // what was stopped or removed begins anew
		u.Past = &Past{Root: cmp.Or(in.Root, in.ID), Times: max(1, in.Times), Closed: m.now}
	}
	m.touch(u)
	m.stepIn(in, end, why)
	m.end(in, end)
	m.out = append(m.out, *m.decide(u, VerbNote, end, why))
	m.out[len(m.out)-1].Incident = in.ID
	m.childEnded(in.Parent, end)
}

// longOutage: the unit was not ready for more than two minutes of it.
func (m *Machine) longOutage(in *Incident) bool {
	for _, s := range in.Steps {
		if s.Rule == "ready" {
			return s.At.Sub(in.Opened) > 2*time.Minute
		}
	}
	return true
}

func (m *Machine) end(in *Incident, end string) {
	in.Closed, in.End, in.NeedsYou = m.now, end, false
	m.revise(in)
	delete(m.incidents, in.ID)
	delete(m.acked, in.ID)
}

// uncall: an incident goes on, and needs nobody any more.
func (m *Machine) uncall(id string) {
	if in := m.incidents[id]; in != nil && in.NeedsYou {
		in.NeedsYou = false
		m.revise(in)
	}
}

// pageHost calls a human about the host.
func (m *Machine) pageHost(rule, text string) {
	if m.incidents[m.host.Incident] == nil {
		in := m.newIncident("", "the Docker engine", rule, text, LevelPage)
		in.Opened, in.Changed = m.host.Since, m.changesBefore() // it began when Docker went away
		m.host.Incident = in.ID
	}
	m.pageIn(m.host.Incident, rule, text)
}

func (m *Machine) closeHost(why string) {
	in := m.incidents[m.host.Incident]
	if in == nil {
		return
	}
	m.host.Incident = ""
	m.sayIn(in.ID, "recovered", why)
	m.end(in, "recovered")
}

// watchDowntime pages for a unit that should run and has not been ready for
// too long, whatever its state.
func (m *Machine) watchDowntime(u *unit) {
	if u.State == Unknown && (u.Rule != "inspect_failed" || u.WantDown || !u.WasUp) {
		return
	}
	if u.State == Running || u.State == Stopped || u.State == Paused {
		if !u.DownSince.IsZero() {
			u.DownSince, u.Paged = time.Time{}, false
			m.touch(u)
		}
		return
	}
	if u.DownSince.IsZero() {
		u.DownSince = m.downFrom(u)
		m.touch(u)
	}
	if in := m.incidents[u.Incident]; in != nil && in.Level == LevelInfo {
		if at := u.DownSince.Add(2 * time.Minute); m.now.Before(at) {
			u.wake = earlier(u.wake, at)
		} else {
			m.warn(u)
		}
	}
	m.pageForDowntime(u)
}

// mendFirst is how long defib has to mend what it finds down before it calls.
const mendFirst = 5 * time.Minute

// downFrom is since when u counts as down: an exit that defib missed counts
// from when it happened, as far as that leaves the time to mend it.
func (m *Machine) downFrom(u *unit) time.Time {
	if u.missed.IsZero() {
		return m.now
	}
	return later(u.missed, m.now.Add(min(0, mendFirst-m.pageAfter(u))))
}

func (m *Machine) pageForDowntime(u *unit) {
	if u.Paged {
		return
	}
	at := m.pagesAt(u)
	if m.now.Before(at) {
		u.wake = earlier(u.wake, at)
		return
	}
	in := m.incidents[u.Incident]
	if in != nil && m.parentPaged(in) {
		return // a human knows of its GPU; when that is let go, this is looked at again
	}
	u.Paged = true
	m.touch(u)
	if in != nil && in.NeedsYou {
		return // a human knows already
	}
	m.page(u, "down", "it should run and has not been ready for "+span(m.now.Sub(u.DownSince))+": "+u.Reason)
}

// parentPaged: a human was called about its GPU.
func (m *Machine) parentPaged(in *Incident) bool {
	p := m.incidents[in.Parent]
	return p != nil && !p.Paged.IsZero() && p.Rule != "panic"
}

// pagesAt is when u has been down for too long, with nobody at work on it.
func (m *Machine) pagesAt(u *unit) time.Time {
	at := later(u.DownSince, u.Pardoned).Add(m.pageAfter(u))
	if u.State == Starting && u.policy.Deadline > 0 { // people said that a start may take so long
		at = later(at, m.startDeadline(u))
	}
	return at
}

// pageAfter is how long u may be down before a human is called.
func (m *Machine) pageAfter(u *unit) time.Duration {
	d := max(u.policy.PageAfter, median(u.TTR)*3/2)
	if u.onGPU() && len(u.TTR) == 0 && !u.Check.Passed {
		d = max(d, m.startAllowance(u)) // its first load may well take that long
	}
	if u.Throttled { // a human was told that each repair waits
		d += throttleEvery
	}
	return d
}
