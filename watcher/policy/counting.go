package policy

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// startDeadline is when a start that has shown nothing healthy has failed.
func (m *Machine) startDeadline(u *unit) time.Time {
	return u.Run.Began.Add(m.startAllowance(u))
}

func (m *Machine) startAllowance(u *unit) time.Duration {
	if u.policy.Deadline > 0 {
		return u.policy.Deadline
	}
	h := u.Last.Health
	var own time.Duration
	if h != nil {
		own = h.StartPeriod + time.Duration(retries(h))*(cmp.Or(h.Interval, 30*time.Second)+cmp.Or(h.Timeout, 30*time.Second))
	}
	if !u.onGPU() {
		return max(own, u.policy.StartSeconds)
	}
	var period time.Duration
	if h != nil {
		period = h.StartPeriod
	}
	d := max(m.cfg.GPUDeadline, period, 2*quantile(u.TTR, 0.95)) * time.Duration(max(1, u.Run.Cohort))
	return min(d, m.cfg.GPUCap)
}

// gather counts the GPU units that started within a minute of each other: they
// read their weights off the same disk.
func (m *Machine) gather(u *unit) {
	u.Run.Cohort = 1
	var together []*unit
	for _, other := range m.domains["gpu:"] {
		if other.Last.Running && other.Run.Began.Sub(u.Run.Began).Abs() <= time.Minute {
			together = append(together, other)
		}
	}
	for _, other := range together {
		other.Run.Cohort = max(other.Run.Cohort, len(together))
		m.touch(other)
	}
}

// ready notes that the unit works, for the first time in this run.
func (m *Machine) ready(u *unit) {
	if !u.Run.ReadyAt.IsZero() {
		return
	}
	u.Run.ReadyAt = m.now
	if h := u.check(); h != nil {
		u.Run.Healthy = true
		u.Check.Passed, u.Check.Tried = true, false
		if p := newest(h, u.Last.StartedAt); p != nil && u.State == Starting {
			m.learn(u, p.End.Sub(u.Last.StartedAt))
		}
	}
	u.Slot = time.Time{}
	m.kick = true
	m.touch(u)
}

func (m *Machine) learn(u *unit, ttr time.Duration) {
	u.TTR = append(u.TTR, ttr)
	if len(u.TTR) > 10 {
		u.TTR = slices.Clone(u.TTR[len(u.TTR)-10:])
	}
}

// unready ends the ready time of a run and turns it into a lower level.
func (m *Machine) unready(u *unit) {
	if u.Run.ReadyAt.IsZero() || u.Run.Settled {
		return
	}
	u.Run.Settled = true
	u.LeftAt = m.now
	every := max(m.cfg.DecayEvery, 2*median(u.TTR))
	if u.Level > 0 { // good time is not saved up for later
		u.Credit += m.now.Sub(u.Run.ReadyAt)
		u.Level = max(0, u.Level-int(u.Credit/every))
		u.Credit %= every
	}
	if u.Level == 0 {
		u.Credit = 0
	}
	if m.useful(u) {
		m.proved(u)
	}
	m.touch(u)
}

// usefulAfter is how long a run must be ready to count as useful.
func (m *Machine) usefulAfter(u *unit) time.Duration {
	return min(max(median(u.TTR), m.cfg.UsefulMin), m.cfg.UsefulMax)
}

func (m *Machine) useful(u *unit) bool {
	if u.Run.ReadyAt.IsZero() {
		return false
	}
	end := m.now
	if u.Run.Settled {
		end = u.LeftAt
	}
	return end.Sub(u.Run.ReadyAt) >= m.usefulAfter(u)
}

// proved: a useful run clears what earlier useless ones counted.
func (m *Machine) proved(u *unit) {
	if u.Streak != 0 || u.Giveup != nil || u.FromUseful {
		u.Streak, u.Giveup, u.FromUseful = 0, nil, false
		m.touch(u)
	}
}

// count settles one failed run: useless ones in a row lead to FATAL. Docker's
// first retries come within a second, so a run that Docker began counts only
// when it fails no sooner than the next attempt of defib itself would have come
// (paced). So a loop of Docker's gets as much time as defib's own attempts do,
// and what Docker tries before it gives up does not use those up.
func (m *Machine) count(u *unit) {
	u.Run.Counted, u.Run.Early = true, false
	if m.useful(u) {
		m.proved(u)
		u.FromUseful = true
		m.touch(u)
		return
	}
	if u.Streak == 0 {
		u.Early = 0
	}
	if u.Run.By == byDocker && !u.Ours && m.now.Before(m.paced(u)) {
		u.Run.Early = true
		u.Early++
	} else {
		u.Streak++
		u.CountedAt = m.now
	}
	m.touch(u)
}

// paced is when the next failed run of a loop of Docker's counts: the waits
// double from the first failure of the streak on, as those of defib do.
func (m *Machine) paced(u *unit) time.Time {
	if u.Streak == 0 {
		return time.Time{}
	}
	return u.CountedAt.Add(min(m.cfg.Cap, m.cfg.Base<<min(u.Streak-1, 16)))
}

// countLate counts a run that failed too early to count, and that Docker has
// not begun anew since.
func (m *Machine) countLate(u *unit) {
	if !u.Run.Early || m.now.Before(m.paced(u)) {
		return
	}
	u.Run.Early = false
	u.Early--
	u.Streak++
	u.CountedAt = m.now
	m.touch(u)
}

// charge enters one repair, ours or Docker's own: it makes the next one later.
func (m *Machine) charge(u *unit) {
	u.Level++
	u.Paced = append(slices.Clone(m.since24h(u.Paced)), m.now)
	u.Paced = u.Paced[max(0, len(u.Paced)-throttleAt):]
	m.enter(u)
}

// chargeDockers enters a restart by Docker. It makes the next repair later
// unless it came sooner than one of ours would have, or began anew what ours,
// which was charged, had begun in vain.
func (m *Machine) chargeDockers(u *unit) {
	if u.Run.Early || u.Run.By == byDefib && u.Streak > 0 {
		m.enter(u)
		return
	}
	m.charge(u)
}

// enter notes one repair.
func (m *Machine) enter(u *unit) {
	u.Repairs = append(m.since24h(u.Repairs), m.now)
	if len(u.Repairs) > 100 {
		u.Repairs = slices.Clone(u.Repairs[len(u.Repairs)-100:])
	}
	if len(u.Paced) >= throttleAt {
		if !u.Throttled {
			m.page(u, "throttled", "it was restarted "+itoa(len(u.Repairs))+" times within 24 h; from now on defib does so at most once in "+span(throttleEvery))
		}
		u.Throttled = true
	}
	if in := m.incidents[u.Incident]; in != nil {
		in.Repairs++
		m.revise(in)
	}
	if n := len(m.newer(u.unpardoned(), time.Hour)); n >= flappingAt {
		m.warn(u)
		if n == flappingAt {
			m.note(u, "flapping", "it was repaired "+itoa(n)+" times within an hour; every repair holds only for a while")
		}
	}
	m.touch(u)
}

// Repairs after which a unit is called flapping, and slowed down.
const (
	flappingAt    = 6
	throttleAt    = 20
	throttleEvery = 30 * time.Minute
)

// unpardoned are the repairs that count against u.
func (u *unit) unpardoned() []time.Time {
	i := slices.IndexFunc(u.Repairs, func(at time.Time) bool { return at.After(u.Pardoned) })
	if i < 0 {
		return nil
	}
	return u.Repairs[i:]
}

func (m *Machine) since24h(list []time.Time) []time.Time { return m.newer(list, 24*time.Hour) }

// newer returns the times that are no older than d; list is in order.
func (m *Machine) newer(list []time.Time, d time.Duration) []time.Time {
	i := 0
	for i < len(list) && m.now.Sub(list[i]) > d {
		i++
	}
	return list[i:]
}

// delay is how long the next attempt waits.
func (m *Machine) delay(u *unit) time.Duration {
	var d time.Duration
	if u.Level > 0 {
		steps := math.Exp2(float64(min(u.Level, 20) - 1))
		d = min(m.cfg.Cap, time.Duration(float64(m.cfg.Base)*steps))
		d += time.Duration(float64(d) * spread(u.Key, u.Level, len(u.unpardoned())) / 4)
	}
	if u.Throttled && len(u.Repairs) > 0 {
		last := u.Repairs[len(u.Repairs)-1]
		if m.now.Sub(last) >= time.Hour {
			u.Throttled = false
			m.touch(u)
		} else {
			d = max(d, last.Add(throttleEvery).Sub(m.now))
		}
	}
	return d
}

// tried counts the attempts in a row that had a run to show for them.
func (u *unit) tried() int {
	if u.FromUseful {
		return u.Streak
	}
	return max(0, u.Streak-1) // the first of the useless runs was of none
}

// attempts is how many useless runs in a row are followed by another try.
func (m *Machine) attempts(u *unit) int {
	n := u.policy.StartRetries
	if median(u.TTR) > 5*time.Minute {
		n = min(n, 3)
	}
	if e := u.LastExit; e != nil && e.Error == "" && (e.Code == 126 || e.Code == 127) {
		n = min(n, 2)
	}
	return n
}
