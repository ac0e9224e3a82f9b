package policy

import (
	"fmt"
	"slices"
	"time"
)

// Stop signals as Docker numbers them.
const (
	sigTerm = 15
	sigKill = 9
	sigInt  = 2 // Ctrl-C at an attached docker run
)

// undoAfter is how long our own restart may go on bringing a second restart
// event, which shows that the foreign stop was half of somebody's restart.
const undoAfter = 2 * time.Second

// engineEvent takes in one event of the engine about one container. What
// people want is read from these, never from an exit code.
func (m *Machine) engineEvent(ev Event) {
	if ev.Kind == KindRename && ev.Generation == m.host.Generation {
		m.renamed(ev)
		return
	}
	u := m.units[ev.Unit]
	if u == nil || ev.Generation != m.host.Generation || ev.Container != u.Last.Container {
		return
	}
	u.EventRead = later(u.EventRead, ev.Read)
	if ev.Kind == KindDestroy {
		m.destroyed(u)
		return
	}
	if !m.counts(u, ev) {
		return
	}
	m.touch(u)
	switch ev.Kind {
	case KindKill:
		m.killed(u, ev)
	case KindDie:
		m.died(u, ev)
	case KindStop:
		m.stopped(u)
	case KindStart:
		m.started(u, ev)
	case KindRestart:
		m.restarted(u)
	case KindOOM:
		m.outOfMemory(u)
	default:
	}
	if u.Stop != nil { // for all else the observation that follows is the truth
		m.evaluate(u, false)
	}
}

// counts reports whether an event says something about the run at hand and
// about what people want: one from before the run began does not, nor what a
// new engine process did to leftovers at its own start.
func (m *Machine) counts(u *unit, ev Event) bool {
	if !ev.EngineTime.IsZero() && ev.EngineTime.Before(u.Run.StartedAt) {
		return false
	}
	return !ev.Replayed || m.host.Engine.Process == ProcessSame
}

// renamed moves a unit whose name was its identity; Reason is the old key.
func (m *Machine) renamed(ev Event) {
	u := m.units[ev.Reason]
	if u == nil || u.Last.Container != ev.Container || ev.Reason == ev.Unit {
		return
	}
	if old := m.units[ev.Unit]; old != nil {
		m.forget(old)
	}
	m.touch(u) // under its old key: to be forgotten
	m.leaveDomains(u)
	m.schedule(u, time.Time{})
	delete(m.units, u.Key)
	delete(m.waiting, u.Key)
	m.rekey(u, ev.Unit)
	m.units[u.Key] = u
	m.joinDomains(u)
	m.touch(u)
	m.step(u, "renamed", "it was renamed")
	m.evaluate(u, false)
}

// rekey follows the new key wherever the old one is written down.
func (m *Machine) rekey(u *unit, key string) {
	for i := range m.host.Holds {
		if h := &m.host.Holds[i]; h.Scope == ScopeUnit && h.Target == u.Key {
			h.Target = key
			m.touchHost()
		}
	}
	for _, p := range m.host.Panics {
		if i := slices.Index(p.Canary, u.Key); i >= 0 {
			p.Canary[i] = key
			m.touchHost()
		}
	}
	m.rekeyGPUs(u.Key, key)
	if in := m.incidents[u.Incident]; in != nil {
		in.Unit = key
		m.revise(in)
	}
	u.Key = key
	m.goesBy(u, key)
}

// goesBy: its open incident goes by its newest name, too.
func (m *Machine) goesBy(u *unit, name string) {
	u.Name = name
	if in := m.incidents[u.Incident]; in != nil && in.Name != name {
		in.Name = name
		m.revise(in)
	}
}

// rekeyGPUs follows it in what is written down of GPUs.
func (m *Machine) rekeyGPUs(old, key string) {
	if r := m.host.GPU.Reset; r != nil {
		if i := slices.Index(r.Units, old); i >= 0 {
			next := *r
			next.Units = slices.Clone(r.Units)
			next.Units[i] = key
			m.host.GPU.Reset = &next
			m.touchHost()
		}
	}
	for i := range m.host.GPU.GPUs {
		g := &m.host.GPU.GPUs[i]
		g.Blamed = slices.Clone(g.Blamed) // what was handed out is never changed in place
		for j := range g.Blamed {
			if g.Blamed[j].Unit == old {
				g.Blamed[j].Unit = key
				m.touchHost()
			}
		}
	}
}

func (m *Machine) destroyed(u *unit) {
	if u.Op != nil {
		m.step(u, "overtaken", "somebody removed it; what defib was doing is cancelled")
	}
	m.removed(u)
}

func (m *Machine) killed(u *unit, ev Event) {
	if !isStop(ev.Signal, u.Last.StopSignal) {
		return
	}
	if op := u.Op; op != nil && op.Verb != VerbStart && !op.Orphan && op.Done.IsZero() {
		if m.ownSignal(u, op, ev) {
			return
		}
		op.Foreign = true
		m.step(u, "stopped_by_somebody", "somebody stopped it while defib was acting on it")
		return
	}
	if u.Op != nil && u.Op.Orphan {
		return
	}
	grace := max(stopTimeout(u), time.Minute) + 10*time.Second
	if u.Stop == nil {
		u.Stop = &StopSeen{At: m.now, Generation: m.host.Generation}
	}
	u.Stop.Until, u.Stop.Engine = m.now.Add(grace), ev.EngineTime
}

// ownSignal counts a stop signal during our own act. A restart sends one stop
// signal and, at the end of the timeout, one SIGKILL; any more is a person's.
func (m *Machine) ownSignal(u *unit, op *Op, ev Event) bool {
	late := op.Terms > 0 && !ev.EngineTime.Before(op.TermAt.Add(op.Timeout-time.Second))
	if op.Terms == 0 { // its event may be lost with the stream
		late = !m.now.Before(op.At.Add(op.Timeout - time.Second))
	}
	kill := ev.Signal == sigKill || ev.Signal == 0 && late
	if !kill || u.Last.StopSignal == sigKill && op.Terms == 0 {
		op.Terms++
		if op.Terms == 1 {
			op.TermAt = ev.EngineTime
		}
		return op.Terms == 1
	}
	op.Kills++
	return op.Kills == 1 && late
}

// isStop reports whether a signal asks a container to end. One that the engine
// does not tell (Podman) may: if the container ends after it, that was a stop.
func isStop(signal, configured int) bool {
	if signal == 0 {
		return true
	}
	if configured == 0 {
		configured = sigTerm
	}
	return signal == configured || signal == sigTerm || signal == sigKill || signal == sigInt
}

func (m *Machine) died(u *unit, ev Event) {
	u.Run.Died = true
	at := m.now
	if ev.Replayed {
		at = m.believed(ev.EngineTime, u.Run.Began)
	}
	u.LastExit = &Exit{At: at, Code: ev.ExitCode}
	if u.Stop != nil && u.Stop.Down.IsZero() && m.now.Before(u.Stop.Until) {
		u.Stop.Down = m.now
	}
}

// stopped: a stop without a kill is a stop in Docker's own backoff. On a busy
// engine the event of our own stop comes after its answer; nobody else can stop
// what is down.
func (m *Machine) stopped(u *unit) {
	if u.Op != nil || u.Ours && !u.Last.Running {
		return
	}
	if u.Stop == nil {
		u.Stop = &StopSeen{At: m.now, Generation: m.host.Generation, Until: m.now.Add(time.Minute)}
	}
	if u.Stop.Down.IsZero() && (u.Run.Died || u.Last.Restarting) {
		u.Stop.Down = m.now
	}
}

// started: whoever stopped it has started it again, so it was a restart. It may
// have ended once more before anybody looks. It is judged when that is seen: by
// what was seen before, it ended by itself.
func (m *Machine) started(u *unit, ev Event) {
	if u.Op != nil {
		return
	}
	if u.Stop != nil {
		m.schedule(u, m.now.Add(askAgain))
	}
	u.Stop = nil
	if u.Run.Died { // else it is the start of our own restart, heard late
		u.Undo = time.Time{}
	}
	fresh := !u.Last.Running && ev.EngineTime.After(u.Last.FinishedAt)
	if fresh && (u.WantDown || u.Ours && u.Giveup != nil && u.Giveup.Open) { // Docker starts no such by itself
		u.WantDown = false
		m.startedBySomebody(u)
	}
}

func (m *Machine) startedBySomebody(u *unit) {
	m.pardon(u)
	m.step(u, "started_by_somebody", "somebody started it; it gets full retries")
}

func (m *Machine) restarted(u *unit) {
	if u.Op != nil {
		u.Op.Restarts++
		return
	}
	if u.Restarts++; u.Restarts > 1 {
		u.Undo = time.Time{}
	}
}

// outOfMemory: an oom event may kill the container or only one process in it.
func (m *Machine) outOfMemory(u *unit) {
	u.OOM = m.now
	m.step(u, "oom", "a process in it ran out of memory and was killed by the kernel")
}

// stopStands handles a unit that somebody is stopping, or has stopped. It
// reports whether that is all there is to say about it.
func (m *Machine) stopStands(u *unit) bool {
	s := u.Stop
	if s == nil {
		return false
	}
	if s.Down.IsZero() && !u.Last.Running && u.Last.Status != "created" {
		s.Down = m.now
		m.touch(u)
	}
	if s.Down.IsZero() {
		until := u.stopsUntil()
		if !m.now.Before(until) { // it did not stop: the signal meant something else
			u.Stop = nil
			m.touch(u)
			return false
		}
		m.become(u, Stopped, "stopping", "stopped_by_somebody", "somebody is stopping it")
		u.wake = until
		return true
	}
	if at := m.confirmAt(u); m.now.Before(at) {
		m.become(u, Stopped, "", "stopped_by_somebody", "somebody stopped it; `docker start "+u.Name+"` brings it back under watch")
		u.wake = at
		return true
	}
	if s.Generation != m.host.Generation {
		m.unsure(u)
	}
	u.Stop, u.WantDown = nil, true
	m.touch(u)
	return false
}

// drainMost is how long a container that was told to stop, and whose check fails
// since, may take to end: `docker stop --time` is nowhere to be read.
const drainMost = 10 * time.Minute

// stopsUntil is when a stop signal that did not end u meant something else.
func (u *unit) stopsUntil() time.Time {
	s := u.Stop
	if h := u.Last.Health; h != nil {
		if p := newest(h, u.Last.StartedAt); p != nil && p.ExitCode != 0 && !p.End.Before(s.Engine) {
			return s.Until.Add(drainMost)
		}
	}
	return s.Until
}

// unsure: an engine that shuts down stops its containers as people do, and
// the connection did not last long enough to tell the two apart.
func (m *Machine) unsure(u *unit) {
	text := "it was stopped just before defib lost sight of Docker, by a person or by an engine that shut down; it is left alone, and `docker start " + u.Name + "` brings it back"
	m.open(u, "stopped_unwatched", text, LevelWarn)
	m.warn(u)
	m.note(u, "stopped_unwatched", text)
}

// confirmAt is when a stop counts as a person's: some time after the last sign
// of the same wave of stops, for an engine that shuts down stops its
// containers one by one and then breaks the stream.
func (m *Machine) confirmAt(u *unit) time.Time {
	at := u.Stop.Down
	for _, other := range m.units {
		s := other.Stop
		if s == nil || other == u {
			continue
		}
		switch {
		case !s.Down.IsZero():
			at = later(at, s.Down)
		case m.now.Before(s.Until):
			at = later(at, m.now)
		}
	}
	return at.Add(m.cfg.Confirm)
}

// undo stops a unit again that our restart brought back over a person's stop.
func (m *Machine) undo(u *unit) bool {
	if u.Undo.IsZero() {
		return false
	}
	if !u.Last.Running {
		u.Undo, u.WantDown = time.Time{}, true
		m.touch(u)
		return false
	}
	if m.now.Before(u.Undo) {
		m.become(u, Repairing, "stopping", "honour_stop", "somebody stopped it while defib restarted it")
		u.wake = u.Undo
		return true
	}
	u.Undo = time.Time{}
	m.act(u, VerbStop, "honour_stop", "somebody stopped it while defib restarted it; it is stopped again, as they wanted", actFree)
	return true
}

func stopTimeout(u *unit) time.Duration {
	d := u.Last.StopTimeout
	if u.policy.StopTimeout > 0 {
		d = u.policy.StopTimeout
	}
	if d == 0 {
		d = 10 * time.Second
	}
	return d
}

func signalName(n int) string {
	switch n {
	case sigTerm:
		return "SIGTERM"
	case sigKill:
		return "SIGKILL"
	}
	return fmt.Sprintf("signal %d", n)
}
