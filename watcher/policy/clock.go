package policy

import "time"

// lag is how far the clock of this process is behind the one that the state
// was written by: somebody has set the host's clock back between the two.
// Every time on our clock moves back with it, so that nothing waits for the
// difference and nothing comes early. Times of the engine stay, and so does
// what people were told of an incident.
type lag time.Duration

// setBack takes up the clock of a process that has just started. Nothing of
// the state is in other hands yet.
func (m *Machine) setBack(d time.Duration) {
	l := lag(d)
	l.move(&m.now)
	l.host(&m.host)
	for _, u := range m.units {
		l.unit(&u.Unit)
		l.move(&u.wake) // of all alike, so the order of the timers stays
	}
	for id := range m.acked {
		l.move(&m.incidents[id].Ack.Until)
		m.dirty.incidents[id] = m.incidents[id]
	}
	if d >= time.Second {
		m.say("clock_set_back", "the host's clock was set back by "+span(d)+" or more since defib last ran; what waits for a time comes as much earlier, also where a sentence names the old one")
	}
}

func (l lag) move(times ...*time.Time) {
	for _, t := range times {
		if !t.IsZero() {
			*t = t.Add(-time.Duration(l))
		}
	}
}

func (l lag) all(times []time.Time) {
	for i := range times {
		l.move(&times[i])
	}
}

func (l lag) host(h *Host) {
	l.move(&h.Settle, &h.TokensAt)
	for i := range h.Holds {
		l.move(&h.Holds[i].Since, &h.Holds[i].Until)
	}
	for i := range h.Panics {
		l.move(&h.Panics[i].Since, &h.Panics[i].CanaryAt, &h.Panics[i].Next)
	}
	for i := range h.Changes {
		l.move(&h.Changes[i].At)
	}
	l.told(&h.GPU.GPUTold)
	for i := range h.GPU.GPUs {
		l.gpu(&h.GPU.GPUs[i])
	}
	if r := h.GPU.Reset; r != nil {
		l.move(&r.Since, &r.Next)
	}
}

func (l lag) told(t *GPUTold) { l.move(&t.Paged, &t.PageAt, &t.CloseAt) }

func (l lag) gpu(g *GPU) {
	l.move(&g.Reading.At, &g.JudgeAt, &g.LookAt, &g.AskUntil, &g.Cleared)
	l.told(&g.GPUTold)
	for i := range g.Faults {
		l.move(&g.Faults[i].At)
	}
	for i := range g.Blamed {
		l.move(&g.Blamed[i].At)
	}
}

func (l lag) unit(u *Unit) {
	l.move(&u.Since, &u.BeforeSince, &u.Undo, &u.Read, &u.EventRead, &u.OOM, &u.Gone, &u.LeftAt, &u.PausedAt,
		&u.CountedAt, &u.Pardoned, &u.Slot, &u.Cleared, &u.Wake, &u.DownSince, &u.Refused)
	l.all(u.Repairs)
	l.all(u.Paced)
	l.run(&u.Run)
	if u.LastExit != nil {
		l.move(&u.LastExit.At)
	}
	if s := u.Stop; s != nil {
		l.move(&s.At, &s.Until, &s.Down)
	}
	if f := u.Failure; f != nil {
		l.move(&f.At, &f.Due, &f.Again)
		if x := f.Exam; x != nil {
			l.move(&x.Until, &x.At, &x.WaitFrom)
		}
	}
	if g := u.Giveup; g != nil {
		l.move(&g.At, &g.Retry, &g.Paged)
	}
	if op := u.Op; op != nil {
		l.move(&op.At, &op.Done)
	}
	for i := range u.Suspects {
		s := &u.Suspects[i]
		l.move(&s.At, &s.Due, &s.Until)
	}
	if u.Past != nil {
		l.move(&u.Past.Closed)
	}
}

func (l lag) run(r *Run) {
	l.move(&r.Began, &r.ReadyAt, &r.Unpaused)
	if r.Fault != nil {
		l.move(&r.Fault.At)
	}
	if r.Own != nil {
		l.move(&r.Own.At)
	}
}
