package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// What cannot be recorded is told all the same: as an incident of defib's own,
// the alarm, which is in no archive. It goes to every channel, past routes and
// silences, and otherwise the way of all incidents: one message that many
// texts share, reminders, an end.

// RuleAlarm is the rule of the incident that an alarm is told as.
const RuleAlarm = "alarm"

const (
	alarmID    = "ALARM"          // of its incident and its records
	alarmPause = 10 * time.Second // from its first call to the next; then twice as long each time
	alarmCalm  = 2 * time.Minute  // what happens is recorded for so long before it is over
	alarmNames = 5                // texts in its cause
	alarmSteps = 50
	alarmRunes = 150 // of a text in its cause, after the first
)

// alarm is what cannot be recorded.
type alarm struct {
	policy.Incident
	texts int
	over  *time.Timer // nil: it stands
}

func newAlarm(opened time.Time) *alarm {
	return &alarm{Incident: policy.Incident{
		ID: alarmID, Name: "defib", Rule: RuleAlarm, Level: policy.LevelPage, NeedsYou: true, Opened: opened,
	}}
}

// Alarm tells every channel what cannot be recorded. It does not wait. What
// follows the first text within seconds is told together.
func (n *Notifier) Alarm(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alarm == nil || !n.alarm.Closed.IsZero() {
		n.alarm = newAlarm(n.o.Now())
	}
	n.alarm.stands()
	if n.alarm.add(n.o.Now(), text) {
		n.look(alarmID)
	}
}

// Calm says that what happens is recorded again. An alarm is over when that
// has lasted a while.
func (n *Notifier) Calm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.alarm; a != nil && a.Closed.IsZero() && a.over == nil {
		a.over = time.AfterFunc(alarmCalm, n.alarmOver)
	}
}

func (n *Notifier) alarmOver() {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.alarm
	if a.over == nil || !a.Closed.IsZero() {
		return
	}
	a.Rev++
	a.end(n.o.Now())
	n.look(alarmID)
}

func (a *alarm) end(at time.Time) {
	a.Closed, a.End, a.NeedsYou, a.Cause = at, "recovered", false, "what happens is recorded again"
}

func (a *alarm) stands() {
	if a.over != nil {
		a.over.Stop()
		a.over = nil
	}
}

// add reports whether the text is news.
func (a *alarm) add(now time.Time, text string) bool {
	if slices.ContainsFunc(a.Steps, func(s policy.Step) bool { return s.Text == text }) {
		return false
	}
	a.Rev++
	a.texts++
	steps := append(slices.Clip(a.Steps), policy.Step{At: now, Rule: RuleAlarm, Text: text})
	if len(steps) > alarmSteps {
		steps = slices.Delete(steps, alarmSteps/5, alarmSteps/5+1)
	}
	a.Steps = steps
	parts := []string{steps[0].Text}
	for _, s := range steps[1:min(len(steps), alarmNames+1)] {
		parts = append(parts, cutRunes(s.Text, alarmRunes))
	}
	if more := a.texts - len(parts); more > 0 {
		parts = slices.Insert(parts, 1, fmt.Sprintf("%d texts like that cannot be recorded, either", more))
	}
	a.Cause = strings.Join(parts, "; ")
	return true
}

// look has every channel look at an incident.
func (n *Notifier) look(id string) {
	for _, c := range n.channels {
		c.dirty[id] = false
		c.nudge()
	}
}

// incident reads one from where it is kept.
func (n *Notifier) incident(id string) (policy.Incident, bool, error) {
	if id != alarmID {
		return n.o.Archive.Incident(id)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alarm == nil {
		return policy.Incident{}, false, nil
	}
	return n.alarm.Incident, true, nil
}

// alarm: the record is that of what cannot be recorded.
func (r *record) alarm() bool { return r.Root == alarmID }

// alarmedBefore takes up the newest alarm of before the start, which some
// channel may know more of than another.
func (n *Notifier) alarmedBefore(r *record) {
	opened := r.Opened.time()
	if !r.alarm() || n.alarm != nil && n.alarm.Opened.After(opened) {
		return
	}
	if n.alarm == nil || n.alarm.Opened.Before(opened) {
		n.alarm = newAlarm(opened)
		n.alarm.add(opened, r.Cause)
	}
	n.alarm.Rev = max(n.alarm.Rev, r.Rev)
	if r.Closed != 0 {
		n.alarm.end(r.Closed.time())
	}
}

// kindOf is the kind of a message as a sink is to see it. An alarm is known by
// its kind, but where it goes on from a message that is there.
func (c *channel) kindOf(j job) Kind {
	goesOn := c.class == Threaded || c.class == Alert && c.refresh == 0
	if j.rec.alarm() && j.in.Closed.IsZero() && (j.kind == KindPost || !goesOn) {
		return KindAlarm
	}
	return j.kind
}
