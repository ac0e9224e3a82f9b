package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// When many things fail at once, one message lists them: a storm. It is a
// record like the others, about an incident that is put together from its
// members.

const (
	stormSpan   = time.Minute     // roots within it are counted together
	stormRoots  = 5               // more than that are a storm
	stormTokens = 3               // and so are more than that which wait for a token
	stormGather = 2 * time.Second // from the first member to the message
	stormList   = 50              // members that a message is given
	stormNames  = 5               // members that its cause names
)

// RuleStorm is the rule of the incident that a storm is told as.
const RuleStorm = "storm"

// gather makes a storm of the roots that wait, when they are too many. The
// first of all goes alone and at once; those that follow it soon, and call
// nobody, wait a moment for more.
func (c *channel) gather(now time.Time) {
	c.roots = slices.DeleteFunc(c.roots, func(t time.Time) bool { return now.Sub(t) >= stormSpan })
	if c.class.alone() {
		return
	}
	var waiting []*record
	for _, r := range c.recs {
		if r.kind == KindPost && !r.Here && len(r.Members) == 0 && !r.alarm() && !r.due.after(now) {
			waiting = append(waiting, r)
		}
	}
	if len(waiting) == 0 {
		return
	}
	if !c.storming(now) {
		slow := len(waiting) > stormTokens && c.posts.ready(now).After(now)
		if len(c.roots) == 0 {
			return
		}
		if len(c.roots)+len(waiting) <= stormRoots && !slow {
			linger(waiting)
			return
		}
		c.newStorm(now, waiting)
	}
	c.join(now, waiting)
}

// linger has each wait from when it was due.
func linger(waiting []*record) {
	for _, r := range waiting {
		if !r.urgent() {
			r.notBefore = max(r.notBefore, r.Since.add(stormGather))
		}
	}
}

// storming: the newest storm is not over and still grows.
func (c *channel) storming(now time.Time) bool {
	s := c.storm
	return s != nil && s.Closed == 0 && c.recs[s.Root] == s && now.Sub(s.Joined.time()) < stormSpan
}

// newStorm begins a storm, with the roots that were sent singly just before.
func (c *channel) newStorm(now time.Time, waiting []*record) {
	first := slices.MinFunc(waiting, func(a, b *record) int { return cmp.Or(cmp.Compare(a.Opened, b.Opened), cmp.Compare(a.Root, b.Root)) })
	s := &record{Root: "STORM-" + strings.TrimPrefix(first.ID, "INC-"), Opened: stampOf(now)}
	s.ID, s.notBefore = s.Root, stampOf(now.Add(stormGather))
	for _, r := range c.recs {
		if r.Posted != 0 && r.Closed == 0 && len(r.Members) == 0 && !r.alarm() && now.Sub(r.Posted.time()) < stormSpan {
			s.Members = append(s.Members, r.Root)
		}
	}
	c.recs[s.Root], c.storm = s, s
}

func (c *channel) join(now time.Time, waiting []*record) {
	s := c.storm
	s.Joined = stampOf(now)
	for _, r := range waiting {
		r.Storm, r.kind, r.Since = s.Root, "", 0
		if !slices.Contains(s.Members, r.Root) { // it may be back: what it was in the storm for is over
			s.Members = append(s.Members, r.Root)
		}
		c.unsaved[r.Root] = true
	}
	c.unsaved[s.Root] = true
	c.planStorm(s)
}

// planStorm works out what a storm needs, and returns it as an incident.
func (c *channel) planStorm(s *record) policy.Incident {
	in, began := c.stormIncident(s)
	if in.Rev < s.Rev { // it is a sum, which falls when an incident of it is followed by a new one
		s.Rev = 0
	}
	s.follow(&in, true)
	s.Paged = s.PagedAt != 0 && !slices.ContainsFunc(s.Members, func(root string) bool { return c.unpaged(c.recs[root], s) })
	c.plan(s, &in)
	in.Opened = began.time() // for people: what is told of it goes by the time of its record
	return in
}

// unpaged: the member came to need somebody since they were last called.
func (c *channel) unpaged(m, s *record) bool {
	return m != nil && m.Storm == s.Root && c.needs(m) && !m.Paged
}

// membersPaged: those who are needed have been called.
func (c *channel) membersPaged(s *record) {
	for _, root := range s.Members {
		if m := c.recs[root]; c.unpaged(m, s) {
			m.Paged = true
			c.unsaved[root] = true
		}
	}
}

// stormIncident puts a storm together, from its members' records. It is over
// when its own incidents are; those that followed them are listed with them.
// began is when the first of its own did: before it was a storm.
func (c *channel) stormIncident(s *record) (in policy.Incident, began stamp) {
	in = policy.Incident{ID: s.Root, Rule: RuleStorm, Opened: s.Opened.time(), Level: policy.LevelInfo}
	members, followed := c.members(s)
	var all tally
	for _, m := range slices.Concat(members, followed) {
		in.Children = append(in.Children, m.ID)
		all.add(m)
	}
	open, urgent := 0, false
	began = s.Opened
	for _, m := range members {
		in.Rev += m.Rev
		began = min(began, m.Opened)
		if m.Closed == 0 {
			open++
			if rank(m.Level) > rank(policy.LevelInfo) {
				in.Level = policy.LevelWarn
			}
		}
		urgent = urgent || c.needs(m)
	}
	in.Rev += len(s.Members)
	in.Name = fmt.Sprintf("%d containers", len(in.Children))
	in.Cause = fmt.Sprintf("%d incidents at about the same time; %d of them go on and %d need somebody", len(in.Children), all.open, all.urgent)
	in.NeedsYou, in.Ack = urgent, c.ackOfAll(members)
	if urgent {
		in.Level = policy.LevelPage
	}
	if open == 0 {
		var why string
		in.End, why = all.end()
		in.Closed = cmp.Or(all.closed, s.Joined, s.Opened).time()
		in.Cause = fmt.Sprintf("%d incidents at about the same time; %s", len(in.Children), why)
		in.Level = louder(in.Level, s.Level)
	}
	return in, began
}

// tally is how the incidents do that a storm lists.
type tally struct {
	open, urgent int
	closed       stamp // the last of them
	ended        policy.Ends
}

func (t *tally) add(m *record) {
	t.urgent += btoi(m.urgent())
	if m.Closed == 0 {
		t.open++
		return
	}
	t.closed = max(t.closed, m.Closed)
	t.ended.Add(cmp.Or(m.End, "recovered")) // records of an older defib do not say
}

// end is how a storm ended: its own incidents are over, and what is open
// followed them.
func (t *tally) end() (end, why string) {
	if t.open == 0 {
		return t.ended.Together()
	}
	parts := append(t.ended.Counts(), fmt.Sprintf("failed again: %d", t.open))
	return policy.EndMixed, strings.Join(parts, "; ")
}

// ackOfAll: each of those that need somebody has been taken, but for those that
// are silenced; until the first of these words expires.
func (c *channel) ackOfAll(members []*record) *policy.Ack {
	var first *record
	for _, m := range members {
		if child := c.takenChild(m); child != nil && m.AckUntil == 0 {
			m = child
		}
		switch {
		case !m.urgent(), c.muted(m):
		case m.AckUntil == 0:
			return nil
		case first == nil || m.AckUntil < first.AckUntil:
			first = m
		}
	}
	if first == nil {
		return nil
	}
	return &policy.Ack{By: first.AckBy, At: first.AckAt.time(), Until: first.AckUntil.time()}
}

func louder(a, b policy.Level) policy.Level {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// members returns the records of a storm, and those of its members that have
// an incident since, which is told on its own; each the worst first.
func (c *channel) members(s *record) (own, followed []*record) {
	for _, root := range s.Members {
		switch m := c.recs[root]; {
		case m == nil:
		case s.owns(m):
			own = append(own, m)
		default:
			followed = append(followed, m)
		}
	}
	slices.SortFunc(own, worse)
	slices.SortFunc(followed, worse)
	return own, followed
}

// owns: what is known of m is of the incident for which it is in the storm.
func (r *record) owns(m *record) bool { return m.Opened <= r.Joined || m.Storm == r.Root }

func worse(a, b *record) int {
	return cmp.Or(cmp.Compare(btoi(a.Closed != 0), btoi(b.Closed != 0)), cmp.Compare(btoi(!a.grave()), btoi(!b.grave())),
		cmp.Compare(rank(b.Level), rank(a.Level)), cmp.Compare(a.Opened, b.Opened), cmp.Compare(a.Root, b.Root))
}

// tellStorm gives a message the members of its storm, and names those who
// need somebody. allUp: all of these work again.
func (c *channel) tellStorm(story *Story, j job, allUp bool) {
	story.Children = nil
	var names []string
	for _, id := range j.in.Children[:min(len(j.in.Children), stormList)] {
		in, ok, err := c.n.o.Archive.Incident(id)
		if err != nil || !ok {
			continue // its ID is listed all the same
		}
		in.Evidence, in.Steps = nil, nil
		c.calmed(&in)
		story.Children = append(story.Children, in)
		if in.Closed.IsZero() && in.Level == policy.LevelPage {
			names = append(names, in.Name)
		}
	}
	if n := len(names); n > stormNames {
		names = append(names[:stormNames], fmt.Sprintf("%d more", n-stormNames))
	}
	if allUp {
		story.Incident.Cause = fmt.Sprintf("%d incidents at about the same time", len(j.in.Children))
	}
	if len(names) > 0 && j.in.Closed.IsZero() {
		story.Incident.Cause += ": " + strings.Join(names, ", ")
	}
}
