package notify

import (
	"cmp"
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Who tells of an incident on a channel, when it is not the incident itself
// or not that channel's business.

// cover says who tells of r on this channel, if not r itself. A feed tells of
// each.
func (c *channel) cover(r *record) cover {
	if c.class == DropIn { // one sentence for each repair of each container
		return coverNone
	}
	if r.Storm != "" {
		return coverStorm
	}
	p := c.recs[r.Parent]
	switch {
	case r.Parent == "" || p == nil || c.class == Feed:
		return coverNone
	case p.Closed != 0 && (p.Here || p.Storm != ""): // a storm told it
		return coverPast
	case p.Closed == 0 && c.speaksFor(p, r):
		return coverParent
	}
	return coverNone
}

// speaksFor reports whether a parent tells of its child. What calls for
// somebody makes it do so, unless it cannot.
func (c *channel) speaksFor(p, r *record) bool {
	switch {
	case r.urgent() && c.muted(p):
		return false
	case p.Here:
		return true
	case p.Off, p.dropped():
		return false
	}
	return rank(p.Level) >= rank(c.MinLevel) || p.Child || r.urgent() && !r.Off
}

// owed reports whether another channel cannot call somebody about r, as it
// was to: then this one does, whatever else it is for.
func (c *channel) owed(r *record, s topic) bool {
	for _, other := range c.n.channels {
		if other == c {
			continue
		}
		mute := other.mute()
		if theirs := other.recs[r.Root]; theirs != nil && theirs.ID == r.ID {
			if (mute || other.refusedCall(theirs)) && !theirs.Off && !other.called(theirs) {
				return true
			}
		} else if mute && routed(c.n.o.Routes, s, other.Name) {
			return true
		}
	}
	return false
}

// called reports whether somebody was called about r: its parent's message,
// where that is to call for it, has to have been taken.
func (c *channel) called(r *record) bool {
	p := c.recs[r.Parent]
	return r.Paged && (r.PagedAt != 0 || r.Storm != "" || p != nil && p.Closed == 0 && p.Paged)
}

// mute reports whether the channel tells nobody: its token or all of its
// messages are refused, or its service has been out of reach for so long that
// others call in its place.
func (c *channel) mute() bool { return !c.parked.IsZero() || c.stoodIn }

// refusedCall: the service will not take the message that was to call
// somebody about r, or that of r's storm.
func (c *channel) refusedCall(r *record) bool {
	teller := r
	if s := c.recs[r.Storm]; s != nil {
		teller = s
	}
	if p := c.recs[r.Parent]; p != nil && r.Paged && r.PagedAt == 0 {
		teller = p
	}
	return r.urgent() && (teller.dropped() || c.class != Feed && teller.stuck(c.n.o.Now()))
}

// stuck: the service takes other messages, and has not taken this call for
// somebody for a while.
func (r *record) stuck(now time.Time) bool {
	return r.attempts > 1 && r.urgent() && !r.Paged && r.Since != 0 && now.Sub(r.Since.time()) >= standInAfter
}

// handOver has the other channels look at what this one cannot call for.
func (c *channel) handOver(j job) {
	if !j.rec.urgent() {
		return
	}
	ids := []string{j.in.ID}
	if len(j.rec.Members) > 0 || j.rec.Child {
		ids = append(ids, j.in.Children...)
	}
	for _, other := range c.n.channels {
		if other == c {
			continue
		}
		for _, id := range ids {
			other.dirty[id] = false
		}
		other.nudge()
	}
}

// pageParent lets the parent's message call somebody for its child; again, if
// it has for another one.
func (c *channel) pageParent(r *record) {
	parent := c.recs[r.Parent]
	parent.Child, r.Paged = true, true
	parent.Paged = parent.Paged && parent.Level == policy.LevelPage
	c.dirty[parent.ID] = false
	c.unsaved[parent.Root], c.unsaved[r.Root] = true, true
}

// takenChild is the child for whose sake alone r calls and that somebody has
// taken, the first whose time ends; nil when one of them has nobody.
func (c *channel) takenChild(r *record) *record {
	if !r.Child || r.Level == policy.LevelPage {
		return nil
	}
	var first *record
	for _, child := range c.recs {
		switch {
		case child.Parent != r.ID, !child.urgent(), child.Off, c.muted(child):
		case child.AckUntil == 0:
			return nil
		case first == nil || child.AckUntil < first.AckUntil:
			first = child
		}
	}
	return first
}

// childrenTaken is until when r need not call for its children or members: each
// is taken, or silenced. Zero: it must.
func (c *channel) childrenTaken(r *record) time.Time {
	if m, all := c.silenced(r); all {
		return m.muted.time()
	}
	if child := c.takenChild(r); child != nil {
		return child.AckUntil.time()
	}
	return time.Time{}
}

// silenced is the one whose silence ends first of those for whose sake alone r
// calls; nil: none of them is silenced. all: each of them is.
func (c *channel) silenced(r *record) (first *record, all bool) {
	who := c.needy(r)
	n := len(who)
	who = slices.DeleteFunc(who, func(m *record) bool { return !c.muted(m) })
	if len(who) == 0 {
		return nil, false
	}
	return slices.MinFunc(who, func(a, b *record) int { return cmp.Compare(a.muted, b.muted) }), len(who) == n
}

// muted: a silence keeps r untold now.
func (c *channel) muted(r *record) bool { return r.muted.after(c.n.o.Now()) }

// unsilenced is when the first of these silences ends: then r calls for it, or
// reminds of it, if it still has to.
func (c *channel) unsilenced(r *record) plan {
	m, _ := c.silenced(r)
	switch {
	case r.Closed != 0 || m == nil:
		return plan{}
	case m.Paged:
		return plan{kind: KindRemind, due: m.muted.time()}
	}
	return plan{kind: KindEscalate, due: m.muted.time()}
}

// calmParent: when no child needs somebody any more, its parent does not for
// their sake. The next one that does calls again.
func (c *channel) calmParent(r *record) {
	parent := c.recs[r.Parent]
	if parent == nil || !parent.Child || parent.Closed != 0 {
		return
	}
	for _, other := range c.recs {
		if other.Parent == r.Parent && other.urgent() {
			return
		}
	}
	parent.Child, parent.Reminders, parent.Reminded = false, 0, 0
	parent.Paged = parent.Paged && parent.Level == policy.LevelPage
	c.dirty[parent.ID] = false
	c.unsaved[parent.Root] = true
}

// allUp reports whether each of those works again for whose sake alone r calls:
// what their incidents say is older.
func (c *channel) allUp(r *record) bool {
	who := slices.DeleteFunc(c.needy(r), func(m *record) bool { return !c.needs(m) })
	return len(who) > 0 && !slices.ContainsFunc(who, func(m *record) bool { return !c.isUp(m.Unit) })
}

// needs: somebody is to come for m. For what came to need somebody in a silence
// that is not before its end.
func (c *channel) needs(m *record) bool {
	return m.urgent() && (m.Paged || !c.muted(m))
}

// needy are the members of a storm that need somebody, or the children of an
// incident that needs nobody itself.
func (c *channel) needy(r *record) (out []*record) {
	for _, root := range r.Members {
		if m := c.recs[root]; m != nil && r.owns(m) && m.urgent() {
			out = append(out, m)
		}
	}
	if !r.Child || r.Level == policy.LevelPage {
		return out
	}
	for _, child := range c.recs {
		if child.Parent == r.ID && child.urgent() {
			out = append(out, child)
		}
	}
	return out
}

// calmed shows an incident as one that needs nobody while its unit works again.
func (c *channel) calmed(in *policy.Incident) {
	if in.Level == policy.LevelPage && c.isUp(in.Unit) {
		in.NeedsYou, in.Level = false, policy.LevelWarn
	}
}

// isUp asks what tells of a unit, without its incident.
func (c *channel) isUp(unit string) bool {
	if unit == "" {
		return false
	}
	u := c.n.o.Story(policy.Incident{Unit: unit}).Unit
	return u != nil && up(u)
}
