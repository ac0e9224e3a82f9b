package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file keeps what people say of an incident, and what they changed before
// it.

const (
	reopenWindow = 15 * time.Minute // an incident that follows so soon continues the one before
	ackFor       = 4 * time.Hour    // an acknowledgement without a time ends after it
	keepChanges  = 24 * time.Hour
	maxChanges   = 64
)

// ack notes that somebody has taken an incident, or takes that back.
func (m *Machine) ack(c *Command) {
	id := strings.ToUpper(c.Incident)
	if !strings.HasPrefix(id, "INC-") {
		id = "INC-" + id
	}
	in := m.incidents[id]
	if in == nil {
		m.say("refused", fmt.Sprintf("there is no open incident %s; `defib incidents --open` lists them", clip(c.Incident)))
		return
	}
	if c.Undo {
		in.Ack = nil
		delete(m.acked, in.ID)
		m.sayIn(in.ID, "ack_undone", "its acknowledgement was taken back by "+clip(cmp.Or(c.By, "an operator")))
		return
	}
	d := c.For
	if d <= 0 {
		d = ackFor
	}
	in.Ack = &Ack{By: clip(cmp.Or(c.By, "an operator")), Why: clip(c.Why), At: m.now, Until: m.now.Add(d)}
	m.acked[in.ID] = true
	m.sayIn(in.ID, "acknowledged", ordered(c)+", until "+in.Ack.Until.Format("15:04 MST"))
}

// expireAcks: an acknowledgement is no licence to forget.
func (m *Machine) expireAcks() {
	if at := m.ackDeadline(); at.IsZero() || m.now.Before(at) {
		return
	}
	for _, id := range sortedKeys(m.acked) {
		if in := m.incidents[id]; !m.now.Before(in.Ack.Until) {
			in.Ack = nil
			delete(m.acked, id)
			m.sayIn(id, "ack_expired", "its acknowledgement has expired and it is still open")
		}
	}
}

func (m *Machine) ackDeadline() time.Time {
	var at time.Time
	for id := range m.acked {
		at = earlier(at, m.incidents[id].Ack.Until)
	}
	return at
}

// changed notes that something changed, for the incidents that may follow.
func (m *Machine) changed(unit, what string) {
	list := slices.DeleteFunc(slices.Clone(m.host.Changes), func(c Change) bool { return m.now.Sub(c.At) >= keepChanges })
	list = append(list, Change{At: m.now, Unit: unit, What: what})
	m.host.Changes = list[max(0, len(list)-maxChanges):]
	m.touchHost()
}

// versionChanged says what of a unit changed: its image, its configuration, or
// both.
func (m *Machine) versionChanged(u *unit, was, is string) {
	oldImage, oldConfig, _ := strings.Cut(was, " ")
	image, config, _ := strings.Cut(is, " ")
	if oldImage != image {
		m.changed(u.Key, "its image changed to "+clip(u.Last.Image)+" ("+short(image)+")")
	}
	if oldConfig != config {
		m.changed(u.Key, "its configuration changed")
	}
}

// short is the beginning of a digest.
func short(digest string) string {
	if _, hex, ok := strings.Cut(digest, ":"); ok {
		digest = hex
	}
	return digest[:min(len(digest), 12)]
}

// changesBefore are what changed in the last day on the host or of units. Of
// several units, each is named, and what changed alike is said once.
func (m *Machine) changesBefore(units ...*unit) []string {
	of := map[string]*unit{}
	for _, u := range units {
		of[u.Key] = u
	}
	var list []Change
	names := map[string][]string{}
	for _, c := range m.host.Changes {
		u := of[c.Unit]
		switch {
		case m.now.Sub(c.At) >= keepChanges || c.Unit != "" && u == nil:
			continue
		case u != nil && len(units) > 1:
			if !slices.Contains(names[c.What], u.Name) {
				names[c.What] = append(names[c.What], u.Name)
			}
			list = slices.DeleteFunc(list, func(o Change) bool { return o.Unit != "" && o.What == c.What })
		}
		list = append(list, c)
	}
	var out []string
	for _, c := range list {
		out = append(out, fmt.Sprintf("%s%s, %s before", whose(names[c.What]), c.What, span(m.now.Sub(c.At))))
	}
	return out
}

// whose names the units that something is said of.
func whose(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0] + ": "
	}
	return fmt.Sprintf("%s and %d more: ", names[0], len(names)-1)
}
