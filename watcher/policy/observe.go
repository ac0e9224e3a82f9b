package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// observed takes in what an inspect said, unless something newer is known.
func (m *Machine) observed(ev Event) {
	if ev.Observation == nil || ev.Generation != m.host.Generation || !m.host.Connected {
		return
	}
	u := m.units[ev.Unit]
	via, _ := m.cfg.OptIn(ev.Observation.Labels)
	if via == "" || slices.Contains(m.host.Engine.Self, ev.Container) {
		if u != nil && u.Last.Container == ev.Container {
			m.forget(u)
		}
		return
	}
	if u == nil {
		u = m.enrol(ev)
	}
	if !m.concerns(u, ev.Observation) {
		return
	}
	m.answered(u, ev.Decision)
	if ev.Read.Before(u.EventRead) || u.Last.Container == ev.Container && ev.Read.Before(u.Read) {
		if u.Ask == nil && ev.Decision == 0 { // an answer is overtaken by an event, which brings an inspect of its own
			m.ask(u, "stale", "what was known of it is older than its newest event", false)
		}
		return
	}
	m.takeIn(u, ev)
	m.evaluate(u, true)
	u.missed = time.Time{}
}

// unseen: the inspect failed, so nothing may be done on what is known.
func (m *Machine) unseen(ev Event) {
	u := m.units[ev.Unit]
	if u == nil || ev.Generation != m.host.Generation || u.Last.Container != ev.Container {
		return
	}
	m.answered(u, ev.Decision)
	u.Seen = false
	m.become(u, Unknown, "", "inspect_failed", "Docker could not say how it is: "+ev.Reason)
	if u.Ask == nil {
		u.Ask = &Ask{ID: 0, At: m.now, Until: m.now.Add(askAgain)}
	}
	m.touch(u)
	m.evaluate(u, false)
}

func (m *Machine) enrol(ev Event) *unit {
	o := ev.Observation
	u := &unit{Unit: Unit{Key: ev.Unit, Name: o.Name, State: Unknown, Before: Unknown, Since: m.now}, index: -1}
	u.Project = o.Labels["com.docker.compose.project"]
	m.units[u.Key] = u
	m.touch(u)
	return u
}

// concerns decides between two containers of one unit, such as the two that
// compose has side by side while it recreates one.
func (m *Machine) concerns(u *unit, o *Observation) bool {
	if u.Last.Container == o.Container || u.Last.Container == "" || !u.Gone.IsZero() {
		return true
	}
	if o.Running && !u.Last.Running {
		return true
	}
	return o.Running == u.Last.Running && o.Created.After(u.Last.Created)
}

// keyOf is the unit that an event is about. Of two containers that run side by
// side under one defib.id, the second goes by its own identity, as long as the
// first is known: else it would be ignored.
func (m *Machine) keyOf(ev Event) string {
	first, o := m.units[ev.Unit], ev.Observation
	if first != nil && (first.Last.Container == ev.Container || first.Last.Container == "") || o != nil && o.Labels[labelID] != ev.Unit {
		return ev.Unit
	}
	own := m.namesake(ev.Unit, ev.Container)
	switch {
	case own != nil && o != nil && first == nil: // it has the defib.id for itself now
		m.renamed(Event{Unit: ev.Unit, Container: ev.Container, Reason: own.Key})
		m.resolve(own)
	case own != nil:
		return own.Key
	case first != nil && o != nil && o.Running && first.Seen && first.Last.Running && !first.Run.Died:
		if key := ownKey(o.Name, o.Labels); m.units[key] == nil || m.units[key].Last.Labels[labelID] == ev.Unit { // the second again, recreated
			return key
		}
	}
	return ev.Unit
}

// namesake finds a container with this defib.id that goes by another identity;
// the empty container is any.
func (m *Machine) namesake(id, container string) *unit {
	for _, u := range m.units {
		if u.Key != id && u.Last.Labels[labelID] == id && !oneOff(&u.Last) && (container == "" || u.Last.Container == container) {
			return u
		}
	}
	return nil
}

func (m *Machine) takeIn(u *unit, ev Event) {
	o := ev.Observation
	prev := u.Last
	replaced := prev.Container != o.Container
	changed := replaced || !u.Seen || !sameFacts(&prev, o)
	read := u.Read
	u.Last, u.Read = *o, ev.Read
	m.goesBy(u, o.Name)
	if replaced || u.policy.Via == "" {
		m.resolve(u)
	} else if o.Error != prev.Error && o.GPU != nil {
		m.refile(u)
	}
	if v := o.ImageID + " " + o.ConfigHash; v != u.Version {
		m.newVersion(u, v)
	}
	back := !u.Gone.IsZero()
	var gap time.Time
	if !u.Seen {
		gap = read
	}
	if replaced { // what was known of the old container says nothing of this one
		u.WantDown, u.Ours, u.OursFor, u.EngineHit, u.HitStopped, u.Run.Died = false, false, "", false, false, false
		u.LastExit = nil
	}
	u.Seen, u.Gone = true, time.Time{}
	if !o.Running || !o.StartedAt.Equal(prev.StartedAt) {
		m.unstick(u)
	}
	if !o.Running {
		m.exitSeen(u, &prev, gap)
	}
	if o.Running && (replaced || !o.StartedAt.Equal(u.Run.StartedAt)) {
		m.newRun(u, &prev, ev, back)
		m.credit()
		m.compareGPUs(u)
	}
	if o.Running {
		u.EngineHit, u.HitStopped = false, false // it lived on, or is back
	}
	m.pausing(u)
	if changed {
		m.touch(u)
	}
}

// sameFacts reports whether two observations lead to the same verdict; probes
// that repeat what is known do not count.
func sameFacts(a, b *Observation) bool {
	if a.Status != b.Status || a.Running != b.Running || a.Paused != b.Paused || a.Restarting != b.Restarting ||
		!a.StartedAt.Equal(b.StartedAt) || a.Error != b.Error || a.ExitCode != b.ExitCode || a.RestartCount != b.RestartCount {
		return false
	}
	if (a.Health == nil) != (b.Health == nil) {
		return false
	}
	return a.Health == nil || a.Health.Status == b.Health.Status
}

// resolve reads the policy and the neighbours of u anew.
func (m *Machine) resolve(u *unit) {
	u.policy, u.settings, u.warnings = m.cfg.Resolve(&u.Last)
	if h := m.rivalHealer(u); h != nil && u.policy.Mode == ModeAct {
		u.policy.Mode = ModeObserve
		u.policy.ModeWhy = fmt.Sprintf("the container %s (%s) restarts it too, and two of them would fight; stop %s to let defib act", h.Name, h.Kind, h.Name)
	}
	if id := u.Last.Labels[labelID]; id != "" && printable(id) && id != u.Key && !oneOff(&u.Last) {
		u.warnings = append(u.warnings, fmt.Sprintf("label %s=%s is that of another container, too, so this one goes by %s; give each its own", labelID, clip(id), u.Key))
	}
	m.leaveDomains(u)
	m.mapGPUs(u)
	if u.policy.Via != "" {
		m.joinDomains(u)
	}
}

// rivalHealer finds another program on the host that acts on u.
func (m *Machine) rivalHealer(u *unit) *Healer {
	for i := range m.host.Engine.Healers {
		h := &m.host.Engine.Healers[i]
		if h.Label == "all" || isTrue(u.Last.Labels[h.Label]) {
			return h
		}
	}
	return nil
}

// newVersion: a new image or configuration deserves fresh retries, and what
// the old one's check and loading time were says nothing about it.
func (m *Machine) newVersion(u *unit, v string) {
	was, first := u.Version, u.Version == ""
	u.Version = v
	if first {
		return
	}
	m.versionChanged(u, was, v)
	u.Check, u.TTR, u.HadGPUs, u.SeenGPUs, u.Run.GPUs = Check{}, nil, nil, nil, nil
	m.refile(u)
	m.pardon(u)
	u.Past = nil
	m.step(u, "new_version", "its image or configuration was changed; it gets full retries")
}

// pardon clears what counts against a unit.
func (m *Machine) pardon(u *unit) {
	u.Level, u.Streak, u.Credit, u.Pardoned, u.Paced, u.Throttled = 0, 0, 0, m.now, nil, false
	u.Giveup, u.Failure = nil, nil
	u.Check.Tried, u.Paged, u.FromUseful = false, false, false
	m.uncall(u.Incident) // whoever was called has come
	m.touch(u)
}

// exitSeen notes how the run ended. gap is when it was last looked at, if defib
// has lost sight of it since: then the engine knows better when it ended.
func (m *Machine) exitSeen(u *unit, prev *Observation, gap time.Time) {
	o := &u.Last
	if o.Status == "created" && o.Error == "" {
		return
	}
	if prev.Running || u.LastExit == nil || u.LastExit.Error != o.Error {
		at := m.now
		switch {
		case !prev.Running && o.FinishedAt.After(prev.FinishedAt): // else it is a start that failed
			at = m.believed(o.FinishedAt, prev.FinishedAt)
		case prev.Running && !gap.IsZero():
			at = m.believed(o.FinishedAt, gap)
			m.missedExit(u, at)
		}
		u.LastExit = &Exit{At: at, Code: o.ExitCode, OOMKilled: o.OOMKilled, Error: o.Error}
	}
}

// believed is a time that the engine tells, where it can be true: between after
// and now. Else the engine's clock goes wrong, and it counts as now.
func (m *Machine) believed(at, after time.Time) time.Time {
	if at.Before(after) || at.After(m.now) {
		return m.now
	}
	return at
}

// missedExit: what follows from an exit counts from when it happened. Where the
// engine or the host took the container along, it counts from when they are back.
func (m *Machine) missedExit(u *unit, at time.Time) {
	if at.Before(m.now) && !u.EngineHit && !m.now.Before(m.host.Settle) {
		u.missed = at
	}
}

// newRun begins an incarnation: health, readiness and verdicts start afresh.
func (m *Machine) newRun(u *unit, prev *Observation, ev Event, back bool) {
	by := m.starter(u, prev, back)
	m.endRun(u, by)
	o := &u.Last
	forgets := len(u.Run.GPUs) < len(u.SeenGPUs) && !u.Run.ReadyAt.IsZero()
	if len(u.Run.GPUs) > 0 || forgets { // one that failed early had no time to use any
		u.SeenGPUs = u.Run.GPUs
	}
	u.Run = Run{StartedAt: o.StartedAt, Began: ev.Read.Add(-o.Uptime), By: by}
	if forgets {
		m.refile(u)
	}
	u.PausedAt = time.Time{}
	if u.State == Unknown { // what it was before it was in another run
		u.BeforeSince = u.Run.Began
	}
	u.WantDown, u.Ours, u.OursFor, u.EngineHit, u.HitStopped, u.WasUp = false, false, "", false, false, true
	u.Failure, u.Suspect, u.Suspects = nil, nil, nil
	u.Undo = time.Time{} // that was of a run before this one
	if u.Stop == nil || u.Stop.Engine.Before(o.StartedAt) {
		u.Stop = nil
	}
	if by == bySomebody {
		m.startedBySomebody(u)
	}
	m.startRefutes(u)
	m.gather(u)
	m.touch(u)
}

// Who began a run.
const (
	byDefib    = "defib"
	byDocker   = "docker" // its restart policy
	byEngine   = "engine" // an engine that came up brought it back
	bySomebody = "somebody"
	byAway     = "away" // it happened while defib did not watch
	byFile     = "file" // of a hold: the hold-all file
)

func (m *Machine) starter(u *unit, prev *Observation, back bool) string {
	op := u.Op
	switch {
	case prev.Container == "":
		return byAway
	case op != nil && op.Verb != VerbStop && prev.Container == u.Last.Container && op.Restarts < 2:
		return byDefib
	case prev.Container == u.Last.Container && dockers(prev, &u.Last):
		return byDocker
	case u.EngineHit:
		return byEngine
	case !m.host.Synced && !u.Run.Died && !back:
		return byAway
	}
	return bySomebody
}

// dockers reports whether Docker's policy began the run: it raises the count
// when it takes a container into its backoff, or, seen late, since then. A
// start by anybody else sets the count to 0.
func dockers(prev, o *Observation) bool {
	return o.RestartCount > prev.RestartCount || prev.Restarting && o.RestartCount > 0 && o.RestartCount == prev.RestartCount
}

// endRun settles the books of the incarnation before.
func (m *Machine) endRun(u *unit, next string) {
	if u.Run.StartedAt.IsZero() {
		return
	}
	m.unready(u)
	if next == byDocker && !u.Run.Counted {
		m.count(u)
	}
	if next == bySomebody || next == byEngine || next == byAway {
		u.LeftAt = time.Time{} // its end is no sign of a common fault
	}
	if next == byDocker && m.host.Synced {
		m.blameRun(u)
		m.chargeDockers(u)
	}
}

// pausing freezes the timers of a paused unit. How it is has to show anew.
func (m *Machine) pausing(u *unit) {
	switch {
	case u.Last.Paused && u.PausedAt.IsZero():
		u.PausedAt = m.now
	case !u.Last.Paused && !u.PausedAt.IsZero():
		d := m.now.Sub(u.PausedAt)
		u.PausedAt = time.Time{}
		u.Run.Began = u.Run.Began.Add(d)
		u.Run.Unpaused = m.now
		if !u.Run.ReadyAt.IsZero() && !u.Run.Settled {
			u.Run.ReadyAt = u.Run.ReadyAt.Add(d)
		}
		if u.Failure != nil {
			u.Failure.At, u.Failure.Due = u.Failure.At.Add(d), u.Failure.Due.Add(d)
		}
	}
}

func quoted(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i] + " …"
	}
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:160], "") + "…"
	}
	return "“" + s + "”"
}
