package notify

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// telling is what title.tmpl, lead.tmpl, fields.tmpl and foot.tmpl see. All
// strings are clean, of one line and in the language; empty ones are left out.
type telling struct {
	Mood     string // start, test, alarm, or of an incident: needs_you, working, over
	Icon     string
	Host     string
	Version  string // of defib
	ID       string // of the incident
	Name     string // of the container, the GPU, or what failed together
	State    string // what it does now, or how it ended
	Times    int    // it is that many incidents in a row; 0 or 1: the only one
	NeedsYou bool
	Reminder bool
	Closed   bool
	Group    bool   // several containers failed at once
	Rule     string // in words
	RuleKey  string // as commands take it
	Cause    string // one line, by the policy, in the language, without advice
	Foreign  bool   // Cause is in English all the same
	Since    string // clock time of its beginning, with the zone; no other time has it
	Begun    string // the same without seconds; empty: it works again
	Age      string // how long ago that is
	From     string // clock time of its beginning, for what is over
	Ended    string // clock time from which it was well, or of its end, with the zone
	Down     string // how long after the beginning
	Next     string // what happens next by itself, and when
	PagesAt  string // clock time of a call if nothing changes
	Do       string // what the reader should do
	Waits    string // what it waits for, and the command that lets it go on
	Observed bool   // defib does nothing about it
	GoesOn   bool   // defib does by itself what can be done
	Pause    string // the command that keeps defib from acting
	Quiet    string // the command that keeps it from telling, where no ack does
	Changed  []string
	Ack      *ackTelling // nil: nobody has taken it

	Image    string
	DownFor  string
	Attempts string
	ExitCode string
	Exit     string // the code in words, unless the cause has them
	GPUs     []gpuTelling
	MoreGPUs int // that are left out

	Children []childTelling // of a correlated incident, worst first
	More     int            // that are left out
	Open     bool           // one of them is not over

	in *policy.Incident
}

type ackTelling struct{ By, Why, Until string }

type childTelling struct {
	Icon, Name, State string
	ID                string // of its incident, when it needs somebody
}

const (
	nameRunes   = 100
	causeRunes  = 400
	maxChildren = 20
	maxChanges  = 5
)

// fit makes text of others one line of a bearable length.
func fit(s string) string { return cutRunes(Clean(s), causeRunes) }

// clock is a time of day on the clock of now, with its date on another day.
func clock(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t = t.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("01-02 15:04:05")
}

// zoned is clock with the name of the zone. A message names it once, or people
// of several zones read several times.
func zoned(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return clock(now, t) + " " + zoneName(now, t)
}

func zoneName(now, t time.Time) string {
	zone := t.In(now.Location()).Format("MST")
	if strings.HasPrefix(zone, "+") || strings.HasPrefix(zone, "-") { // it has no name
		zone = "UTC" + zone
	}
	return zone
}

// begun is zoned without seconds.
func begun(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	c := clock(now, t)
	return c[:len(c)-len(":05")] + " " + zoneName(now, t)
}

// incident reports whether d is about one.
func (d *telling) incident() bool { return d.Mood != "start" && d.Mood != "test" && d.Mood != "alarm" }

// urgent: somebody is to be called, and nobody has taken it.
func (d *telling) urgent(k Kind) bool {
	switch k {
	case KindStep, KindEvidence, KindAgain, KindAck, KindTest:
		return false
	case KindAlarm:
		return true
	case KindPost, KindEdit, KindEscalate, KindRemind, KindResolve:
	}
	return d.NeedsYou && d.Ack == nil && (d.in.NeedsYou || d.in.Level == policy.LevelPage)
}

// tell gathers what there is to say.
func (w *wordSet) tell(s Story, k Kind) *telling {
	in := &s.Incident
	d := &telling{
		Host: cutRunes(Clean(s.Host), nameRunes), Version: Clean(s.Version), ID: Clean(in.ID), Name: w.name(in, members(s)),
		Times: in.Times, Reminder: k == KindRemind, Closed: !in.Closed.IsZero(), Group: together(in), in: in,
		Since: zoned(s.Now, in.Opened), Begun: begun(s.Now, in.Opened), Age: w.span(s.Now.Sub(in.Opened)),
	}
	if in.Rule == RuleStorm { // no command takes the ID that it is kept under
		d.ID = ""
	}
	d.Mood, d.Icon = mood(s, k)
	if !d.incident() {
		d.NeedsYou, d.Cause = d.Mood == "alarm", w.retell(in.Cause)
		return d
	}
	d.NeedsYou = d.Mood == "needs_you"
	d.Rule, d.RuleKey = w.rule(in.Rule), cutRunes(Clean(in.Rule), nameRunes)
	w.tellEnd(d, s)
	w.tellPeople(d, s)
	w.tellUnit(d, s)
	if s.Unit != nil && up(s.Unit) {
		d.Begun = ""
	}
	d.Observed = s.Unit != nil && s.Unit.Mode == policy.ModeObserve
	d.GoesOn = !d.Observed && !yours(in.Rule)
	if d.NeedsYou || !d.Closed && yours(in.Rule) {
		d.Do = w.whatToDo(s)
	}
	w.tellExit(d, s)
	w.tellCause(d, s)
	w.tellGPUs(d, s)
	w.tellChildren(d, s)
	d.State = w.state(s, d)
	return d
}

// yours: nothing is urgent, and only a human can end it.
func yours(rule string) bool {
	switch rule {
	case "check_broken", "exited_unwatched", "removed", "stateful":
		return true
	}
	return false
}

// mood says what kind of news it is, with its sign.
func mood(s Story, k Kind) (mood, icon string) {
	in := &s.Incident
	switch {
	case k == KindTest && in.Rule == RuleStart:
		return "start", "✅"
	case k == KindTest:
		return "test", "🔔"
	case (k == KindAlarm || in.Rule == RuleAlarm) && in.Closed.IsZero():
		return "alarm", "🔴"
	case in.End == "failed":
		return "needs_you", "🔴"
	case !in.Closed.IsZero() && in.End != "recovered":
		return "over", "⚪"
	case !in.Closed.IsZero():
		return "over", "✅"
	case needsYou(s) && in.Ack != nil:
		return "needs_you", "🟠"
	case needsYou(s):
		return "needs_you", "🔴"
	}
	return "working", "🟡"
}

// needsYou: nothing more happens by itself, or somebody was called.
func needsYou(s Story) bool {
	u := s.Unit
	if u == nil {
		return s.Incident.NeedsYou
	}
	return !up(u) && (s.Incident.NeedsYou || u.State == policy.Fatal || u.Next == "waiting for you")
}

// up: it works again, and is watched for a while before that is believed.
func up(u *policy.Status) bool { return u.State == policy.Running && u.Rule == "running" }

// tellEnd says when it was over: from the moment on from which it was well.
func (w *wordSet) tellEnd(d *telling, s Story) {
	if !d.Closed {
		return
	}
	end := s.Incident.Closed
	for _, step := range slices.Backward(s.Incident.Steps) {
		if step.Rule == "ready" && s.Incident.End == "recovered" {
			end = step.At
			break
		}
	}
	d.From, d.Ended, d.Down = clock(s.Now, s.Incident.Opened), zoned(s.Now, end), w.span(end.Sub(s.Incident.Opened))
}

// tellPeople says who has taken it and what was changed before it.
func (w *wordSet) tellPeople(d *telling, s Story) {
	if a := s.Incident.Ack; a != nil && !d.Closed {
		d.Ack = &ackTelling{By: cutRunes(Clean(a.By), nameRunes), Why: fit(a.Why), Until: clock(s.Now, a.Until)}
	}
	for _, c := range s.Incident.Changed[:min(len(s.Incident.Changed), maxChanges)] {
		d.Changed = append(d.Changed, w.retell(c))
	}
}

// tellChildren lists the containers of a correlated incident, worst first.
func (w *wordSet) tellChildren(d *telling, s Story) {
	list := slices.SortedStableFunc(slices.Values(s.Children), func(a, b policy.Incident) int {
		return cmp.Or(badness(&b)-badness(&a), a.Opened.Compare(b.Opened), cmp.Compare(a.Name, b.Name))
	})
	d.More = max(0, len(list)-maxChildren)
	for i := range list[:len(list)-d.More] {
		c := &list[i]
		d.Open = d.Open || c.Closed.IsZero()
		_, icon := mood(Story{Incident: *c}, KindPost)
		state := w.rule(c.Rule)
		if !c.Closed.IsZero() {
			state = w.end(c, w.span(c.Closed.Sub(c.Opened)))
		}
		d.Children = append(d.Children, childTelling{Icon: icon, Name: w.name(c, 0), State: state, ID: calledFor(c)})
	}
}

// calledFor is the ID of an incident that somebody has to take.
func calledFor(in *policy.Incident) string {
	if !in.Closed.IsZero() || !in.NeedsYou && in.Level != policy.LevelPage {
		return ""
	}
	return Clean(in.ID)
}

func badness(in *policy.Incident) int {
	switch {
	case !in.Closed.IsZero():
		return 0
	case in.NeedsYou:
		return 4
	case in.Level == policy.LevelPage:
		return 3
	case in.Level == policy.LevelWarn:
		return 2
	}
	return 1
}
