// Package policy decides what to do with a unit. It is pure: facts in,
// decisions out, no clock, no I/O, no randomness. Read [Machine.Step] first,
// then evaluate.go, then a transcript in testdata.
package policy

import (
	"maps"
	"slices"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// Machine holds the state of every unit of one host. It is not safe for
// concurrent use; one goroutine owns it. What Step returns may be carried out
// only after Changes is durable.
type Machine struct {
	cfg       Config
	now       time.Time
	host      Host
	units     map[string]*unit
	incidents map[string]*Incident // open ones
	acked     map[string]bool      // those that somebody has taken
	domains   map[string][]*unit   // who shares what; members sorted by key
	waiting   map[string]*unit     // an act is due, the gate has not let it through
	timers    timers
	inFlight  int             // acts under way, and questions that an act waits for
	revised   map[string]bool // incidents with a new revision in this step
	kick      bool            // the gate may let somebody through now
	out       []Decision
	dirty     dirty
}

// unit is a Unit with what can be derived from it.
type unit struct {
	Unit
	policy   Policy
	settings []Setting
	warnings []string
	domains  []string
	mapping  gpu.Mapping
	gpus     []string  // keys of the GPUs it uses: UUIDs where the driver tells, else as it names them
	wake     time.Time // when evaluate wants to look again
	index    int       // in timers; -1: not there
	loads    bool      // counted in inFlight
	missed   time.Time // of the look at hand: it ended then, while defib did not look
}

type dirty struct {
	host      bool
	units     map[string]bool // false: forgotten
	incidents map[string]*Incident
}

// New returns a Machine that knows nothing yet.
func New(cfg Config) *Machine { return Restore(cfg, Snapshot{}) }

// Restore returns the Machine that Snapshot was taken of.
func Restore(cfg Config, saved Snapshot) *Machine {
	m := &Machine{
		cfg: cfg, host: saved.Host,
		units: map[string]*unit{}, incidents: map[string]*Incident{}, acked: map[string]bool{},
		domains: map[string][]*unit{}, waiting: map[string]*unit{}, revised: map[string]bool{},
		dirty: dirty{units: map[string]bool{}, incidents: map[string]*Incident{}},
	}
	m.now = saved.Host.Now
	for i := range saved.Incidents {
		in := saved.Incidents[i]
		m.incidents[in.ID] = &in
		if in.Ack != nil {
			m.acked[in.ID] = true
		}
	}
	for i := range saved.Units {
		u := &unit{Unit: detach(saved.Units[i]), index: -1}
		m.units[u.Key] = u
		m.resolve(u)
		m.load(u)
		m.schedule(u, u.Wake)
		m.now = later(later(m.now, u.Since), later(u.Read, u.EventRead)) // the host's record may be older
		if u.Waiting {
			m.waiting[u.Key] = u
		}
	}
	return m
}

// Snapshot returns the whole state.
func (m *Machine) Snapshot() Snapshot {
	host := m.hostCopy()
	host.Now = m.now
	s := Snapshot{Host: host}
	for _, key := range slices.Sorted(maps.Keys(m.units)) {
		s.Units = append(s.Units, m.export(m.units[key]))
	}
	for _, id := range slices.Sorted(maps.Keys(m.incidents)) {
		s.Incidents = append(s.Incidents, *m.incidents[id])
	}
	return s
}

// export copies a unit, so that what is handed out never changes.
func (m *Machine) export(u *unit) Unit {
	out := detach(u.Unit)
	out.Wake = u.wake
	_, out.Waiting = m.waiting[u.Key]
	return out
}

func detach(u Unit) Unit {
	u.Failure, u.Giveup, u.Op, u.Ask, u.Stop = copied(u.Failure), copied(u.Giveup), copied(u.Op), copied(u.Ask), copied(u.Stop)
	u.Suspect, u.Past = copied(u.Suspect), copied(u.Past)
	return u
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// Changes returns what became different since the last call.
func (m *Machine) Changes() Changes {
	var c Changes
	if m.dirty.host {
		host := m.hostCopy()
		host.Now, host.Others = m.now, nil // the next connection tells the others again
		c.Host = &host
		m.dirty.host = false
	}
	for _, key := range slices.Sorted(maps.Keys(m.dirty.units)) {
		if u, ok := m.units[key]; ok {
			c.Units = append(c.Units, m.export(u))
		} else {
			c.Forgotten = append(c.Forgotten, key)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.dirty.incidents)) {
		c.Incidents = append(c.Incidents, *m.dirty.incidents[id])
	}
	clear(m.dirty.units)
	clear(m.dirty.incidents)
	return c
}

func (m *Machine) touch(u *unit) { m.dirty.units[u.Key] = true }
func (m *Machine) touchHost()    { m.dirty.host = true }

// Step takes in one fact and returns what follows from it. It is the only way
// in which state changes.
func (m *Machine) Step(ev Event) []Decision {
	m.out = nil
	clear(m.revised)
	if ev.At.After(m.now) {
		m.now = ev.At
	}
	m.apply(ev)
	m.hostTimers()
	m.ripen()
	m.admit()
	return m.out
}

func (m *Machine) apply(ev Event) {
	if ev.Container != "" {
		ev.Unit = m.keyOf(ev)
	}
	switch ev.Kind {
	case KindDaemonStart:
		m.daemonStart(ev)
	case KindSourceUp:
		m.sourceUp(ev)
	case KindSourceDown:
		m.sourceDown(ev)
	case KindSynced:
		m.synced(ev)
	case KindObserved:
		m.observed(ev)
	case KindUnseen:
		m.unseen(ev)
	case KindOutcome:
		m.outcome(ev)
	case KindCommand:
		m.command(ev.Command)
	case KindConfig:
		m.configure(*ev.Config)
	case KindHoldSet:
		m.setHold(*ev.Hold)
	case KindHoldCleared:
		m.clearHold(*ev.Hold)
	case KindGPUDriver:
		m.gpuDriver(ev)
	case KindGPUReading:
		if ev.GPU != nil {
			m.gpuReadings(ev.GPU.Readings, ev.Decision)
		}
	case KindGPUFault:
		m.gpuFault(ev)
	case KindKernelLog:
		m.kernelLog(ev.Reason)
	case KindExamined:
		m.examined(ev)
	case KindTick:
	default:
		m.engineEvent(ev)
	}
}

// Deadline returns when the Machine next wants a tick.
func (m *Machine) Deadline() (time.Time, bool) {
	at := m.hostDeadline()
	if len(m.timers) > 0 {
		at = earlier(at, m.timers[0].wake)
	}
	return at, !at.IsZero()
}

// ripen looks again at every unit whose time has come.
func (m *Machine) ripen() {
	for len(m.timers) > 0 && !m.timers[0].wake.After(m.now) {
		m.evaluate(m.timers[0], false)
	}
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
