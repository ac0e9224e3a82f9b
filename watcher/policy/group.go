package policy

import (
	"fmt"
	"slices"
	"strings"
)

// This file keeps the incident that several units share.

// openGroup begins the incident of several units together. What fails in a
// second wave, before all of the first are well, belongs to the same.
func (m *Machine) openGroup(domain, text string) string {
	name := "containers" + m.sharing(domain)
	for _, id := range sortedKeys(m.incidents) {
		if in := m.incidents[id]; in.Rule == "panic" && in.Name == name {
			in.Cause = text
			m.revise(in)
			return id
		}
	}
	return m.newIncident("", name, "panic", text, LevelWarn).ID
}

// adoptAll makes the incidents of the units that failed just now part of a
// group's, which is told after what changed before it on the host and of any of
// them. Who was down before is not part of it.
func (m *Machine) adoptAll(parent string, units []*unit) {
	var failed []*unit
	for _, u := range units {
		if !isUp(u) && u.Incident != "" && m.failedJustNow(u) {
			m.adoptChild(parent, u)
			if m.incidents[u.Incident].Parent == parent {
				failed = append(failed, u)
			}
		}
	}
	if in := m.incidents[parent]; in.Changed == nil {
		in.Changed = m.changesBefore(failed...)
	}
}

func (m *Machine) adoptChild(parent string, u *unit) {
	p, in := m.incidents[parent], m.incidents[u.Incident]
	if p == nil || in == nil || in.Parent != "" {
		return
	}
	in.Parent = parent
	p.Children = append(slices.Clip(p.Children), in.ID)
	m.revise(p)
	m.revise(in)
}

// childEnded notes how a child of an incident ended, which may end the whole.
func (m *Machine) childEnded(parent, end string) {
	in := m.incidents[parent]
	if in == nil {
		return
	}
	in.Ended.Add(end)
	m.revise(in)
	m.closeGroup(parent)
}

// closeGroup ends a group's incident when its panic and all its children have
// ended.
func (m *Machine) closeGroup(id string) {
	in := m.incidents[id]
	if in == nil || in.Rule != "panic" {
		return
	}
	for _, p := range m.host.Panics {
		if p.Incident == id {
			return
		}
	}
	for _, child := range in.Children {
		if m.incidents[child] != nil {
			return
		}
	}
	end, why := in.Ended.Together()
	m.sayIn(id, end, why)
	m.end(in, end)
}

// EndMixed is how an incident of several units ended of which some did not
// recover.
const EndMixed = "ended"

// Ends counts how incidents ended that are told as one.
type Ends struct {
	Recovered int `json:"recovered,omitempty"`
	Stopped   int `json:"stopped,omitempty"`
	Removed   int `json:"removed,omitempty"`
	Failed    int `json:"failed,omitempty"`
}

// Add counts one more, by its End.
func (e *Ends) Add(end string) {
	switch end {
	case "recovered":
		e.Recovered++
	case "stopped":
		e.Stopped++
	case "removed":
		e.Removed++
	default:
		e.Failed++
	}
}

// Together returns the End that they share, or [EndMixed], and what to say of
// it. Of none there is nothing bad to say.
func (e Ends) Together() (end, why string) {
	switch e {
	case Ends{Recovered: e.Recovered}:
		return "recovered", "all of them are well again"
	case Ends{Stopped: e.Stopped}:
		return "stopped", "all of them were stopped"
	case Ends{Removed: e.Removed}:
		return "removed", "all of them were removed"
	case Ends{Failed: e.Failed}:
		return "failed", "all of them have failed"
	}
	return EndMixed, strings.Join(e.Counts(), "; ")
}

// Counts says of each way in which they ended how many did.
func (e Ends) Counts() []string {
	var parts []string
	for _, p := range []struct {
		word string
		n    int
	}{{"well again", e.Recovered}, {"stopped", e.Stopped}, {"removed", e.Removed}, {"failed", e.Failed}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", p.word, p.n))
		}
	}
	return parts
}
