package notify

import (
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// What has to be true of what a model's channels were sent; see
// [TestNobodyIsForgotten].

// callsFor reports whether a message calls somebody for an incident.
func callsFor(x policy.Incident, msg Message) bool {
	said := msg.Story.Incident
	switch {
	case !msg.Text.Urgent:
		return false
	case said.ID == x.ID:
		return needsSomebody(said)
	case said.Rule == RuleStorm:
		return slices.Contains(said.Children, x.ID) || x.Parent != "" && slices.Contains(said.Children, x.Parent)
	}
	return x.Parent != "" && said.ID == x.Parent
}

func called(c Channel, x policy.Incident) bool {
	return slices.ContainsFunc(sinkOf(c).msgs, func(msg Message) bool { return callsFor(x, msg) })
}

// someoneCalls: one channel that works is enough.
func (m *model) someoneCalls() {
	if !slices.ContainsFunc(m.chans, func(c Channel) bool { return sinkOf(c).fail == nil }) {
		return
	}
	for _, id := range m.ids(needsSomebody) {
		x := m.all[id]
		if !slices.ContainsFunc(m.chans, func(c Channel) bool { return called(c, x) }) {
			m.t.Errorf("nobody was called for %s (parent %q), though a channel works", id, x.Parent)
		}
	}
}

// eachCalls: that others stood in for a channel is no excuse once it works.
func (m *model) eachCalls() {
	for _, c := range m.chans {
		if !slices.Contains(m.routed, c.Name) {
			continue
		}
		for _, id := range m.ids(needsSomebody) {
			if x := m.all[id]; !called(c, x) {
				m.t.Errorf("%s called nobody for %s (parent %q)", c.Name, id, x.Parent)
			}
		}
	}
}

// sparesSleep: who is up needs nobody.
func (m *model) sparesSleep() {
	if n := m.told.Load(); n > 10_000 {
		m.t.Errorf("%d messages were thought of", n)
	}
	for _, c := range m.chans {
		for _, msg := range sinkOf(c).msgs {
			if msg.Text.Urgent && msg.Story.Unit != nil {
				m.t.Errorf("%s called for %s, which is up", c.Name, msg.Story.Incident.ID)
			}
		}
	}
}

// alarmIsTold: what cannot be recorded is told everywhere, and that it can be
// again wherever that was told.
func (m *model) alarmIsTold() {
	for _, c := range m.chans {
		var last *Message
		for _, msg := range sinkOf(c).msgs {
			if msg.Story.Incident.Rule == RuleAlarm {
				last = &msg
			}
		}
		switch {
		case m.alarmed && (last == nil || !last.Story.Incident.Closed.IsZero()):
			m.t.Errorf("%s does not know of the alarm", c.Name)
		case !m.alarmed && last != nil && last.Story.Incident.Closed.IsZero():
			m.t.Errorf("%s does not know that the alarm is over", c.Name)
		}
	}
}

// chats are the channels where each message is one more to read. An alert is
// one, however often it is sent.
func (m *model) chats() []Channel {
	return slices.DeleteFunc(slices.Clone(m.chans), func(c Channel) bool { return sinkOf(c).class == Alert })
}

// counts says how many messages like that there are about each incident.
func counts(c Channel, which func(Message) bool) map[string]int {
	out := map[string]int{}
	for _, msg := range sinkOf(c).msgs {
		if which(msg) {
			out[msg.Story.Incident.ID]++
		}
	}
	return out
}

func (m *model) postsOnce() {
	for _, c := range m.chats() {
		for id, n := range counts(c, func(msg Message) bool { return msg.Kind == KindPost && msg.Story.Incident.Rule != RuleAlarm }) {
			if n > 1 {
				m.t.Errorf("%s posted %s %d times", c.Name, id, n)
			}
		}
	}
}

func (m *model) callsOnce() {
	once := func(msg Message) bool {
		x := msg.Story.Incident
		return msg.Text.Urgent && msg.Kind != KindRemind && !isParent(x) && x.Rule != RuleStorm && x.Rule != RuleAlarm
	}
	for _, c := range m.chats() {
		for id, n := range counts(c, once) {
			if n > 1 {
				m.t.Errorf("%s called %d times for %s", c.Name, n, id)
			}
		}
	}
}

// remindsLater: what somebody was just told is not said again at once. A clock
// that jumps ahead makes a reminder due, so it holds only for one that does not.
func (m *model) remindsLater() {
	if m.setBack {
		return
	}
	for _, c := range m.chans {
		last := map[string]time.Time{}
		for _, msg := range sinkOf(c).msgs {
			id, at := msg.Story.Incident.ID, msg.Story.Now
			if !msg.Text.Urgent {
				continue
			}
			if before, ok := last[id]; ok && msg.Kind == KindRemind && at.Sub(before) < 4*time.Minute {
				m.t.Errorf("%s reminded of %s %v after it called", c.Name, id, at.Sub(before))
			}
			last[id] = at
		}
	}
}
