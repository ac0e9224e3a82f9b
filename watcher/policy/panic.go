package policy

import (
	"fmt"
	"slices"
	"time"
)

// spreadWord: the first failure acts at once; from the second within the
// window on, an act waits a moment so that the fraction is known.
func (m *Machine) spreadWord(u *unit, f *Failure) {
	if !f.FromOK {
		return
	}
	if _, failed := m.tally(domainHost); failed > 1 {
		f.Due = later(f.Due, m.now.Add(m.cfg.PanicPause))
	}
	if m.panicking(u) != nil {
		m.joinPanic(u)
		return
	}
	for _, d := range u.domains {
		least := 2
		if d == domainHost {
			least = 3
		}
		if members, failed := m.tally(d); panics(d) && failed >= least && 2*failed >= members {
			m.startPanic(d)
			return
		}
	}
}

func isUp(u *unit) bool { return !u.Run.ReadyAt.IsZero() && !u.Run.Settled && u.Last.Running }

// panicking finds the panic that u is part of.
func (m *Machine) panicking(u *unit) *Panic {
	for i := range m.host.Panics {
		if slices.Contains(u.domains, m.host.Panics[i].Domain) {
			return &m.host.Panics[i]
		}
	}
	return nil
}

func (m *Machine) startPanic(domain string) {
	if !slices.ContainsFunc(m.domains[domain], func(u *unit) bool { return u.policy.Mode == ModeAct }) {
		return // nothing would be repaired anyway
	}
	members, failed := m.tally(domain)
	p := Panic{Domain: domain, Since: m.now, CanaryAt: m.now}
	for _, u := range m.domains[domain] {
		if proving(u) {
			p.Canary = append(p.Canary, u.Key)
		}
	}
	text := fmt.Sprintf("%d of %d containers%s failed within %s; they probably have a common cause. One is repaired first, and the rest when that one is well",
		failed, members, m.sharing(domain), span(m.cfg.PanicWindow))
	p.Incident = m.openGroup(domain, text)
	m.host.Panics = append(m.host.Panics, p)
	m.touchHost()
	m.sayIn(p.Incident, "panic", text)
	m.adoptAll(p.Incident, m.domains[domain])
	m.kick = true
}

func (m *Machine) joinPanic(u *unit) {
	if p := m.panicking(u); p != nil {
		m.adoptChild(p.Incident, u)
	}
}

// proving: a repair is in flight, or what it started is not ready yet.
func proving(u *unit) bool {
	if u.Op != nil && !u.Op.Operator {
		return true
	}
	return u.Last.Running && u.Run.By == byDefib && u.Run.ReadyAt.IsZero()
}

// panicHolds blocks every member that is not a canary.
func (m *Machine) panicHolds(u *unit) (Hold, time.Time, bool) {
	p := m.panicking(u)
	if p == nil || slices.Contains(p.Canary, u.Key) {
		return Hold{}, time.Time{}, false
	}
	why := "many containers" + m.sharing(p.Domain) + " failed together"
	if len(p.Canary) > 0 {
		why += fmt.Sprintf("; %s is repaired first", m.nameOf(p.Canary[0]))
	} else if !p.Next.IsZero() {
		why += "; repairing one did not help, the next is tried in " + span(p.Next.Sub(m.now))
	}
	return Hold{Reason: HoldPanic, Scope: ScopeHost, Why: why}, p.Next, true
}

func (m *Machine) nameOf(key string) string {
	if u := m.units[key]; u != nil {
		return u.Name
	}
	return key
}

// panicTimers moves every panic on. None lasts for ever.
func (m *Machine) panicTimers() {
	for i := 0; i < len(m.host.Panics); {
		if why, over := m.movePanic(&m.host.Panics[i]); over {
			m.endPanic(i, why)
			continue
		}
		i++
	}
}

// nothingToProve ends a panic that has nothing more to prove.
const nothingToProve = "what holds the others up is something else"

func (m *Machine) movePanic(p *Panic) (why string, over bool) {
	if u := m.proof(p); u != nil {
		return u.Name + " is well again; the rest are repaired now", true
	}
	p.Canary = m.keepCanaries(p)
	if pending, members := m.pending(p.Domain); 4*pending < members || pending == 0 {
		return "few of them are still failing; the rest are repaired now", true
	}
	if len(p.Canary) > 0 {
		m.admitMore(p)
		return "", false
	}
	if m.now.Before(p.Next) {
		return "", false
	}
	u, waits := m.cheapest(p)
	if u == nil {
		if waits.IsZero() {
			return nothingToProve, true
		}
		p.Next = waits
		m.touchHost()
		return "", false
	}
	m.makeCanary(p, u)
	return "", false
}

// proof finds one that is well again: a canary, or one that somebody started
// since.
func (m *Machine) proof(p *Panic) *unit {
	for _, u := range m.domains[p.Domain] {
		in := m.incidents[u.Incident]
		again := in != nil && in.Parent == p.Incident && u.Run.Began.After(p.Since)
		if isUp(u) && (again || slices.Contains(p.Canary, u.Key)) {
			return u
		}
	}
	return nil
}

// keepCanaries drops those that were stopped, removed or held meanwhile.
func (m *Machine) keepCanaries(p *Panic) []string {
	kept := slices.DeleteFunc(slices.Clone(p.Canary), func(key string) bool {
		u := m.units[key]
		return u == nil || !u.Gone.IsZero() || u.WantDown || u.Stop != nil || u.Last.Paused ||
			m.heldOtherwise(u) || !proving(u) && u.Failure == nil
	})
	if len(kept) != len(p.Canary) {
		m.touchHost()
		m.kick = true
	}
	return kept
}

// heldOtherwise: a hold that has nothing to do with the panic covers u.
func (m *Machine) heldOtherwise(u *unit) bool {
	if _, ok := m.standing(u, HoldOperator, HoldGPU, HoldVRAM, HoldStuck, HoldDisk); ok {
		return true
	}
	_, ok := m.dependency(u)
	_, waits := u.waits()
	return ok || waits || u.policy.Stateful != "" && u.Last.Running || u.policy.Mode == ModeObserve || u.Giveup != nil && u.Giveup.Open || u.Failure != nil && u.Failure.Verb == ""
}

// pending counts the members that want to be up and are not.
func (m *Machine) pending(domain string) (pending, members int) {
	for _, u := range m.domains[domain] {
		if u.WantDown || !u.Gone.IsZero() || u.Stop != nil || u.State == Stopped {
			continue
		}
		members++
		if !isUp(u) && (u.Failure != nil || proving(u) || u.State == Unknown) {
			pending++
		}
	}
	return pending, members
}

// cheapest picks the failed member that was tried least, then the one that is
// ready again soonest, of those that no other hold covers; waits is when one becomes due if none is now.
func (m *Machine) cheapest(p *Panic) (best *unit, waits time.Time) {
	for _, u := range m.domains[p.Domain] {
		if u.Failure == nil || slices.Contains(p.Canary, u.Key) || u.Last.Paused || u.WantDown || u.Stop != nil || !u.Seen || m.heldOtherwise(u) {
			continue
		}
		if u.Failure.Due.After(m.now) {
			waits = earlier(waits, u.Failure.Due)
			continue
		}
		if best == nil || u.Level < best.Level || u.Level == best.Level && median(u.TTR) < median(best.TTR) {
			best = u
		}
	}
	if best == nil && waits.IsZero() && m.anyUnknown(p.Domain) {
		waits = m.now.Add(time.Minute)
	}
	return best, waits
}

func (m *Machine) anyUnknown(domain string) bool {
	return slices.ContainsFunc(m.domains[domain], func(u *unit) bool { return u.State == Unknown })
}

func (m *Machine) makeCanary(p *Panic, u *unit) {
	p.Canary = append(p.Canary, u.Key)
	if len(p.Canary) == 1 {
		p.CanaryAt, p.Next = m.now, time.Time{}
	}
	m.touchHost()
	m.evaluate(u, false)
}

// admitMore: while canaries are still starting, the number admitted doubles
// each minute.
func (m *Machine) admitMore(p *Panic) {
	minutes := int(m.now.Sub(p.CanaryAt) / time.Minute)
	for len(p.Canary) < 1<<min(minutes, 16) {
		u, _ := m.cheapest(p)
		if u == nil {
			return
		}
		m.makeCanary(p, u)
	}
}

func (m *Machine) panicWake(p *Panic) time.Time {
	if len(p.Canary) == 0 {
		return later(p.Next, m.now.Add(time.Second))
	}
	minutes := m.now.Sub(p.CanaryAt)/time.Minute + 1
	return p.CanaryAt.Add(minutes * time.Minute)
}

// canaryFailed: the way is not proved. People are called once, and another is
// tried after a while.
func (m *Machine) canaryFailed(u *unit) {
	for i := range m.host.Panics {
		p := &m.host.Panics[i]
		if !m.dropCanary(p, u) || len(p.Canary) > 0 {
			continue
		}
		wait := min(m.cfg.CanaryMax, m.cfg.CanaryEvery<<min(p.Failed, 16))
		p.Failed++
		p.Next = m.now.Add(wait)
		text := fmt.Sprintf("repairing %s first did not help (%s); the rest are held, and the next is tried in %s", u.Name, u.Failure.Text, span(wait))
		if p.Paged {
			m.sayIn(p.Incident, "canary_failed", text)
		} else {
			p.Paged = true
			m.pageIn(p.Incident, "canary_failed", text)
		}
	}
}

// canaryOut: a canary that cannot prove anything any more is replaced.
func (m *Machine) canaryOut(u *unit) {
	for i := range m.host.Panics {
		m.dropCanary(&m.host.Panics[i], u)
	}
}

// dropCanary reports whether u was a canary of p.
func (m *Machine) dropCanary(p *Panic, u *unit) bool {
	at := slices.Index(p.Canary, u.Key)
	if at < 0 {
		return false
	}
	p.Canary = slices.Delete(slices.Clone(p.Canary), at, at+1)
	m.touchHost()
	m.kick = true
	return true
}

// endPanic lets the rest go; what they cost is not their fault.
func (m *Machine) endPanic(i int, why string) {
	p := m.host.Panics[i]
	m.host.Panics = slices.Delete(slices.Clone(m.host.Panics), i, i+1)
	m.touchHost()
	for _, u := range m.domains[p.Domain] {
		if !isUp(u) {
			u.LeftAt = time.Time{} // its failure has been dealt with
			u.Freed = u.Failure != nil
			m.touch(u)
		}
	}
	m.sayIn(p.Incident, "panic_over", why)
	if why != nothingToProve {
		m.uncall(p.Incident) // the repair works after all
	}
	m.closeGroup(p.Incident)
	m.kick = true
}
