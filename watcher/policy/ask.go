package policy

import "time"

// This file asks for fresh looks at units. Asks pass no gate and change nothing.

// askAgain is how long a question may stay without an answer.
const askAgain = 15 * time.Second

// ask wants a fresh look at the unit.
func (m *Machine) ask(u *unit, rule, reason string, forAct bool) {
	if u.Ask != nil && m.now.Before(u.Ask.Until) {
		u.Ask.ForAct = u.Ask.ForAct || forAct
		return
	}
	d := m.decide(u, VerbInspect, rule, reason)
	d.Within = 10 * time.Second
	m.out = append(m.out, *d)
	u.Ask = &Ask{ID: d.ID, At: m.now, Until: m.now.Add(askAgain), ForAct: forAct}
	m.touch(u)
}

// askForAct asks before a delayed act: its reason may be gone.
func (m *Machine) askForAct(u *unit, f *Failure) {
	m.ask(u, "look_again", "the attempt waited; its reason may be gone ("+f.Rule+")", true)
}

// answered ends the question that d stands for.
func (m *Machine) answered(u *unit, id uint64) {
	if u.Ask == nil || id != u.Ask.ID {
		return
	}
	u.Ask = nil
	m.load(u)
	m.touch(u)
}
