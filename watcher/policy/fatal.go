package policy

import (
	"fmt"
	"time"
)

// This file gives up, and tries again ever more rarely.

// hopeless handles failures for which only a human, or time, can do something.
func (m *Machine) hopeless(u *unit, f *Failure) bool {
	if u.OursFor != "" { // it ran when it was stopped for its GPU, and giving up stops nothing
		return false
	}
	check := f.Rule == "unhealthy" || f.Rule == "start_timeout"
	switch {
	case check && u.policy.Stateful != "":
		text := f.Text + "; it is a " + u.policy.Stateful + " and defib never restarts one for that: look at it yourself"
		m.become(u, Unhealthy, "", "stateful", text)
		m.warn(u)
		m.note(u, "stateful", text)
		return true
	case check && !u.Check.Passed && u.Check.Tried && u.Last.Health != nil:
		m.giveUp(u, "never_passed", "this check has never passed: "+lastOutput(u)+". It was restarted once and is left running; mend the check or the program")
		return true
	case u.Giveup != nil && u.Giveup.Open && u.Streak > m.attempts(u) && f.Verb != VerbStop:
		return m.staysFatal(u, f)
	case u.Streak > m.attempts(u) && f.Verb != VerbStop:
		m.giveUp(u, "gave_up", fmt.Sprintf("%s; %d attempts in a row have not helped", f.Text, u.tried()))
		return true
	}
	return false
}

func lastOutput(u *unit) string {
	if h := u.Last.Health; h != nil {
		if p := newest(h, u.Last.StartedAt); p != nil {
			if timedOut(p) {
				return "it ran out of time"
			}
			return quoted(p.Output)
		}
	}
	return "it has not answered at all"
}

// timeLayout is how sentences that are kept name a moment: a span would be wrong
// a minute later.
const timeLayout = "2006-01-02 15:04:05 MST"

// giveUp is FATAL: it pages, it stops nothing, and only a dead unit is tried
// again, ever more rarely.
func (m *Machine) giveUp(u *unit, rule, text string) {
	g := u.Giveup
	if g == nil || g.Rule != rule {
		g = &Giveup{Rule: rule, N: 0}
		if u.Giveup != nil {
			g.N, g.Paged = u.Giveup.N, u.Giveup.Paged
		}
	}
	if g.Open {
		m.become(u, Fatal, "", g.Rule, g.Text)
		u.wake = g.Retry
		return
	}
	g.At, g.Text, g.Open, g.Retry = m.now, text, true, time.Time{}
	if !u.Last.Running && !u.Last.Restarting {
		g.Retry = m.halfOpenAt(g)
	}
	u.Giveup = g
	m.canaryOut(u)
	m.become(u, Fatal, "", rule, text)
	u.wake = g.Retry
	way := "`defib retry " + u.Name + "` tries again"
	if !g.Retry.IsZero() {
		way += ", and so does defib at " + g.Retry.Format(timeLayout)
	}
	if g.Paged.IsZero() || m.now.Sub(g.Paged) >= 24*time.Hour {
		g.Paged = m.now
		m.page(u, rule, text+"; "+way)
	} else {
		m.note(u, rule, text+"; "+way)
	}
	m.touch(u)
}

// halfOpenAt is when a dead unit is tried again; the wait doubles each time.
func (m *Machine) halfOpenAt(g *Giveup) time.Time {
	return m.now.Add(min(m.cfg.FatalMax, m.cfg.FatalRetry<<min(g.N, 16)))
}

// staysFatal keeps a given-up unit so until its next half-open retry.
func (m *Machine) staysFatal(u *unit, f *Failure) bool {
	g := u.Giveup
	m.become(u, Fatal, "", g.Rule, g.Text)
	if g.Retry.IsZero() {
		if u.Last.Running || u.Last.Restarting {
			return true
		}
		g.Retry = m.halfOpenAt(g)
		m.touch(u)
	}
	if m.now.Before(g.Retry) {
		u.wake = g.Retry
		return true
	}
	f.Free, f.Due = true, g.Retry
	return false
}
