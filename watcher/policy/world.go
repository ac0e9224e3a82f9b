package policy

import (
	"slices"
	"time"
)

// daemonStart takes over from a process that is gone: its open acts are
// orphans, its questions will not be answered.
func (m *Machine) daemonStart(ev Event) {
	if d := m.now.Sub(ev.At); d > 0 {
		m.setBack(d)
	}
	rebooted := m.host.BootID != "" && ev.BootID != "" && m.host.BootID != ev.BootID
	m.host.BootID = ev.BootID
	m.host.Connected, m.host.Synced = false, false
	m.host.Since, m.host.Reason = m.now, "defib has just started"
	m.host.Holds = slices.DeleteFunc(m.host.Holds, func(h Hold) bool {
		return h.By == byFile || h.Reason == HoldDisk || rebooted && h.Reason == HoldStuck
	})
	m.gpusTakenOver(rebooted)
	if rebooted {
		m.remap() // of the GPUs none is known any more
		m.changed("", "the host was booted")
	}
	m.touchHost()
	for _, key := range sortedKeys(m.units) {
		u := m.units[key]
		u.Seen, u.Ask, u.Suspect, u.Suspects = false, nil, nil, nil
		if u.Failure != nil && u.Failure.Exam != nil {
			f, x := *u.Failure, *u.Failure.Exam
			x.Ask, x.At = 0, time.Time{}
			f.Exam, u.Failure = &x, &f
		}
		if u.Op != nil {
			u.Op.Orphan, u.Run.Died = true, false // what it saw die is over
		}
		if rebooted {
			u.hit(false) // what ran on shows by its exit whether it was the boot
			u.Op, u.Undo = nil, time.Time{}
			m.pardon(u) // a GPU or a disk may be well again
		}
		m.touch(u)
		m.evaluate(u, false)
	}
}

func (m *Machine) sourceUp(ev Event) {
	h := &m.host
	again := h.Generation != 0
	h.Connected, h.Synced, h.Generation = true, false, ev.Generation
	h.Since, h.Reason, h.Paged = m.now, "", false
	rivals := h.Engine.Healers
	if ev.Engine != nil {
		h.Engine = *ev.Engine
	}
	m.settle(again)
	m.closeHost("Docker answers again")
	m.touchHost()
	for _, key := range sortedKeys(m.units) {
		u := m.units[key]
		u.Seen = false
		if !slices.Equal(rivals, h.Engine.Healers) {
			m.resolve(u)
		}
		m.processChanged(u)
		m.touch(u)
		m.evaluate(u, false)
	}
}

// settle delays acts after an engine restart and after boot, while Docker
// itself brings containers back. defib's own start adds no delay.
func (m *Machine) settle(again bool) {
	h := &m.host
	if again && h.Engine.Process == ProcessNew {
		h.Settle, h.SettleWhy = m.now.Add(m.cfg.Settle), "the Docker engine has just restarted and may still be starting containers"
	}
	if up := h.Engine.Uptime; up > 0 && up < m.cfg.SettleBoot {
		h.Settle, h.SettleWhy = m.now.Add(m.cfg.SettleBoot-up), "the host has just booted and Docker may still be starting containers"
	}
}

// hit: the engine process of u has ended. A stop just before that may be of its
// shutdown.
func (u *unit) hit(ran bool) {
	if u.WasUp && !u.WantDown && !u.Ours && (ran || u.Stop != nil) {
		u.EngineHit, u.HitStopped = true, u.HitStopped || u.Stop != nil // the boot, and then its new process
	}
	u.Stop = nil
}

// processChanged decides what a stop seen before the connection broke meant.
// An engine that shuts down emits the same events as a person who stops.
func (m *Machine) processChanged(u *unit) {
	switch m.host.Engine.Process {
	case ProcessNew:
		u.hit(u.Last.Running)
	case ProcessSame: // the engine lived on, so it was a person
		if u.Stop != nil {
			u.Stop.Generation = m.host.Generation
		}
	case ProcessUnknown: // the stop stands, and is told
	}
}

func (m *Machine) sourceDown(ev Event) {
	if !m.host.Connected {
		if m.host.Reason != ev.Reason {
			m.host.Reason = ev.Reason
			m.touchHost()
		}
		return
	}
	m.host.Connected, m.host.Synced = false, false
	m.host.Since, m.host.Reason = m.now, ev.Reason
	m.touchHost()
	for _, key := range sortedKeys(m.units) {
		u := m.units[key]
		u.Seen, u.Ask = false, nil
		m.touch(u)
		m.evaluate(u, false)
	}
}

// synced: whatever this generation has not shown is no more.
func (m *Machine) synced(ev Event) {
	if ev.Generation != m.host.Generation || !m.host.Connected {
		return
	}
	m.host.Others = ev.Others
	m.touchHost()
	if ev.Engine != nil && !slices.Equal(m.host.Engine.Healers, ev.Engine.Healers) {
		m.rivalsChanged(ev.Engine.Healers)
	}
	if m.host.Synced {
		return
	}
	m.host.Synced = true
	for _, key := range sortedKeys(m.units) {
		switch u := m.units[key]; {
		case !u.Gone.IsZero():
			m.evaluate(u, false)
		case !u.Seen && u.Ask == nil: // one whose look failed is asked for again
			m.removed(u)
		}
	}
	m.kick = true
}

// rivalsChanged: another healer came or went.
func (m *Machine) rivalsChanged(healers []Healer) {
	m.host.Engine.Healers = healers
	for _, key := range sortedKeys(m.units) {
		u := m.units[key]
		m.resolve(u)
		m.evaluate(u, false)
	}
	m.kick = true
}

// configure takes a changed configuration: every unit is judged by it anew.
func (m *Machine) configure(cfg Config) {
	m.cfg = cfg
	for _, key := range sortedKeys(m.units) {
		u := m.units[key]
		m.resolve(u)
		if u.policy.Via == "" {
			m.forget(u)
			continue
		}
		m.evaluate(u, false)
	}
	m.kick = true
}

// hostTimers does what is due for the host as a whole.
func (m *Machine) hostTimers() {
	h := &m.host
	if at := m.dockerPageAt(); !at.IsZero() && !at.After(m.now) {
		h.Paged = true
		m.touchHost()
		m.pageHost("docker_unreachable", "Docker has not answered for "+span(m.now.Sub(h.Since))+": "+h.Reason+
			". No container is watched until it does; check `systemctl status docker`")
	}
	if !h.Settle.IsZero() && !h.Settle.After(m.now) {
		h.Settle, h.SettleWhy = time.Time{}, ""
		m.touchHost()
		m.kick = true
	}
	m.expireHolds()
	m.expireAcks()
	m.panicTimers()
	m.gpuTimers()
}

func (m *Machine) dockerPageAt() time.Time {
	h := &m.host
	if h.Connected || h.Paged || h.Since.IsZero() {
		return time.Time{}
	}
	return h.Since.Add(m.cfg.DockerPage)
}

func (m *Machine) hostDeadline() time.Time {
	at := earlier(earlier(m.dockerPageAt(), m.host.Settle), m.gpuDeadline())
	for _, h := range m.host.Holds {
		at = earlier(at, h.Until)
	}
	at = earlier(at, m.ackDeadline())
	for i := range m.host.Panics {
		at = earlier(at, m.panicWake(&m.host.Panics[i]))
	}
	return at
}
