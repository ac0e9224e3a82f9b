package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// blocked asks every hold in order whether u may be acted on now. again is
// when to ask once more; zero when an event will say so.
func (m *Machine) blocked(u *unit) (h Hold, again time.Time, held bool) {
	if h, ok := m.resetHolds(u); ok {
		return h, time.Time{}, true
	}
	if h, ok := m.standing(u, standingFor(u)...); ok {
		return h, h.Until, true
	}
	if h, ok := m.dependency(u); ok {
		return h, time.Time{}, true
	}
	if u.Op == nil && u.Failure != nil && u.Failure.Verb == VerbStop {
		return Hold{}, time.Time{}, false // ending a loop costs nobody anything
	}
	if h, again, ok := m.panicHolds(u); ok {
		return h, again, true
	}
	if h, again, ok := m.budget(u); ok {
		return h, again, true
	}
	return m.slot(u)
}

// standingFor are the holds that count for what is due. Ending a loop on a held
// GPU passes that hold, and so does what undoes a reset that failed: those
// served on it before.
func standingFor(u *unit) []HoldReason {
	if u.Failure != nil && u.Failure.Rule == ruleGPUHeld || u.OursFor == ruleGPUUndo {
		return []HoldReason{HoldOperator, HoldStuck, HoldDisk}
	}
	return []HoldReason{HoldOperator, HoldGPU, HoldVRAM, HoldStuck, HoldDisk}
}

// standing finds a hold that covers u, of the first of these reasons that has
// one.
func (m *Machine) standing(u *unit, reasons ...HoldReason) (Hold, bool) {
	for _, reason := range reasons {
		for _, h := range m.host.Holds {
			if h.Reason == reason && covers(h, u) {
				return h, true
			}
		}
	}
	return Hold{}, false
}

func covers(h Hold, u *unit) bool {
	switch h.Scope {
	case ScopeHost:
		return true
	case ScopeUnit:
		return h.Target == u.Key
	case ScopeProject:
		return h.Target == u.Project
	case ScopeGPU:
		multi := h.Judgement != nil && h.Judgement.Multi
		return u.standsOn(h.Target) && (!multi || len(u.gpus) > 1)
	}
	return false
}

// allGPUs is how a container asks for every GPU of the host.
const allGPUs = "all"

func sameHold(a, b Hold) bool {
	return a.Reason == b.Reason && a.Scope == b.Scope && a.Target == b.Target && a.Part == b.Part && (a.By == byFile) == (b.By == byFile)
}

func (m *Machine) setHold(h Hold) {
	if h.Since.IsZero() {
		h.Since = m.now
	}
	m.host.Holds = slices.DeleteFunc(slices.Clone(m.host.Holds), func(old Hold) bool { return sameHold(old, h) })
	m.host.Holds = append(m.host.Holds, h)
	m.touchHost()
	m.lookAtWaiting()
}

// clearHold ends a hold; giving up that it led to ends with it.
func (m *Machine) clearHold(h Hold) {
	n := len(m.host.Holds)
	m.host.Holds = slices.DeleteFunc(slices.Clone(m.host.Holds), func(old Hold) bool { return sameHold(old, h) })
	if len(m.host.Holds) == n {
		return
	}
	m.touchHost()
	if h.Reason != HoldOperator {
		m.freshStart(h)
	}
	m.lookAtWaiting()
}

// freshStart: the cause that units gave up over is gone.
func (m *Machine) freshStart(h Hold) {
	for _, key := range sortedKeys(m.units) {
		if u := m.units[key]; u.Giveup != nil && covers(h, u) {
			u.Giveup, u.Failure, u.Streak = nil, nil, 0
			m.touch(u)
			m.evaluate(u, false)
		}
	}
}

func (m *Machine) expireHolds() {
	for _, h := range m.host.Holds {
		if !h.Until.IsZero() && !h.Until.After(m.now) {
			m.clearHold(h)
			m.say("hold_expired", fmt.Sprintf("the %s hold on %s has ended by itself", h.Reason, holdTarget(h)))
		}
	}
}

func holdTarget(h Hold) string {
	switch h.Scope {
	case ScopeHost:
		return "the host"
	case ScopeUnit:
		return "container " + h.Target
	case ScopeGPU:
		return "GPU " + h.Target
	default:
		return string(h.Scope) + " " + h.Target
	}
}

// dependency: a unit whose declared dependency is not up is not to blame.
func (m *Machine) dependency(u *unit) (Hold, bool) {
	for _, n := range u.policy.Needs {
		if parent := m.missing(u, n); parent != nil {
			return Hold{
				Reason: HoldDependency, Scope: ScopeUnit, Target: parent.Key,
				Why: fmt.Sprintf("%s, which it needs, is %s", parent.Name, parent.State),
			}, true
		}
	}
	return Hold{}, false
}

// missing finds what u needs and has not: of several replicas one that serves
// will do. If none does, one that should says more than one taken away.
func (m *Machine) missing(u *unit, n Need) *unit {
	var missing *unit
	for _, parent := range m.services(n.Project, n.Service) {
		if parent == u || m.serves(parent, n.Condition) {
			return nil
		}
		if missing == nil || missing.WantDown || !missing.Gone.IsZero() {
			missing = parent
		}
	}
	return missing
}

func (m *Machine) serves(parent *unit, condition string) bool {
	if condition == "service_completed_successfully" {
		return parent.State == Stopped && parent.Last.Status == "exited" && parent.Last.ExitCode == 0
	}
	return parent.State == Running
}

// awaitedBy reports whether somebody is held until u, or one like it, serves.
func (m *Machine) awaitedBy(u *unit) bool {
	service := u.Last.Labels["com.docker.compose.service"]
	if len(m.waiting) == 0 || service == "" || oneOff(&u.Last) {
		return false
	}
	return slices.ContainsFunc(m.domains["parent:"+u.Project+"/"+service], func(child *unit) bool {
		return child.State == Held && child.Detail == string(HoldDependency)
	})
}

func (m *Machine) services(project, service string) []*unit {
	return m.domains["service:"+project+"/"+service]
}

// budget is a token bucket per host, and a count per GPU.
func (m *Machine) budget(u *unit) (Hold, time.Time, bool) {
	if u.Freed || u.Failure != nil && u.Failure.Free {
		return Hold{}, time.Time{}, false
	}
	m.refill()
	if m.host.Tokens < 1 {
		wait := time.Duration((1 - m.host.Tokens) / m.rate() * float64(time.Second))
		return Hold{Reason: HoldBudget, Scope: ScopeHost, Why: fmt.Sprintf(
			"%d repairs in %s are spent; more would hide what is wrong with the host", int(m.purse()), span(m.cfg.BudgetWindow))}, m.now.Add(wait + time.Second), true
	}
	for _, id := range u.gpus {
		if free := m.gpuBudget(id); free.After(m.now) {
			return Hold{Reason: HoldBudget, Scope: ScopeGPU, Target: id, Why: fmt.Sprintf(
				"%d repairs on GPU %s within an hour have not helped", m.cfg.GPUBudget, m.gpuName(id))}, free, true
		}
	}
	return Hold{}, time.Time{}, false
}

// gpuBudget returns when the GPU's budget allows another repair.
func (m *Machine) gpuBudget(gpu string) time.Time {
	var all []time.Time
	for _, u := range m.domains["gpu:"+gpu] {
		all = append(all, m.newer(u.unpardoned(), time.Hour)...)
	}
	if len(all) < m.cfg.GPUBudget {
		return time.Time{}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all[len(all)-m.cfg.GPUBudget].Add(time.Hour)
}

func (m *Machine) purse() float64 {
	return max(float64(m.cfg.BudgetMin), 1.5*float64(len(m.units)))
}

func (m *Machine) rate() float64 { return m.purse() / m.cfg.BudgetWindow.Seconds() }

func (m *Machine) refill() {
	m.host.Tokens, m.host.TokensAt = m.tokens(), m.now
	m.touchHost()
}

// tokens is what the bucket holds now; it is full at first.
func (m *Machine) tokens() float64 {
	if m.host.TokensAt.IsZero() {
		return m.purse()
	}
	return min(m.purse(), m.host.Tokens+m.now.Sub(m.host.TokensAt).Seconds()*m.rate())
}

func (m *Machine) spend() {
	m.refill()
	m.host.Tokens = max(0, m.host.Tokens-1)
}

// slot: only so many repairs at a time, and one loading unit per GPU, all its
// GPUs together or none, first come first served.
func (m *Machine) slot(u *unit) (Hold, time.Time, bool) {
	if m.busy(u) >= m.cfg.MaxParallel {
		return Hold{Reason: HoldSlot, Scope: ScopeHost, Why: fmt.Sprintf("%d repairs are under way already", m.cfg.MaxParallel)}, time.Time{}, true
	}
	if other := m.alsoCuring(u); other != nil {
		return Hold{Reason: HoldSlot, Scope: ScopeUnit, Target: other.Key, Why: other.Name + " lost its GPU, too, and is restarted first"}, other.Slot, true
	}
	var again time.Time
	for _, key := range m.rivals(u) {
		other := m.units[key]
		if m.now.Before(other.Slot) {
			again = earlier(again, other.Slot)
			return Hold{Reason: HoldSlot, Scope: ScopeUnit, Target: key, Why: other.Name + " is loading on the same GPU"}, again, true
		}
		if other.waitsForSlot() && before(other, u) { // looked at just now or not: its place in the line is its own
			return Hold{Reason: HoldSlot, Scope: ScopeUnit, Target: key, Why: other.Name + " waits for the same GPU and came first"}, time.Time{}, true
		}
	}
	return Hold{}, time.Time{}, false
}

func (u *unit) waitsForSlot() bool { return u.State == Held && u.Detail == string(HoldSlot) }

// accessLost is the finding that containers have lost sight of a GPU that is
// well: one after the other is restarted, since all of them lost it at once.
const accessLost = "gpu_access_lost"

func (m *Machine) curing(u *unit, f *Failure) {
	if f.Exam == nil || f.Verb == VerbStop {
		return
	}
	if f.Exam.Judgement.Rule == accessLost {
		u.Curing = accessLost
	}
	if code, uuid := m.faultOf(u, f.Exam.Judgement); code != 0 {
		m.blame(u, uuid, code)
	}
}

func (m *Machine) alsoCuring(u *unit) *unit {
	if u.Failure == nil || u.Failure.Exam == nil || u.Failure.Exam.Judgement.Rule != accessLost {
		return nil
	}
	for _, other := range m.domains["gpu:"] {
		if other != u && other.Curing == accessLost && (other.Op != nil || m.now.Before(other.Slot)) {
			return other
		}
	}
	return nil
}

// busy counts the acts under way, and the questions that an act waits for.
func (m *Machine) busy(but *unit) int {
	if but.loads {
		return m.inFlight - 1
	}
	return m.inFlight
}

// load keeps inFlight in line with what u is doing.
func (m *Machine) load(u *unit) {
	loads := u.Op != nil && u.Op.Done.IsZero() && !u.Op.Operator && !u.Op.Orphan || u.Ask != nil && u.Ask.ForAct
	switch {
	case loads && !u.loads:
		m.inFlight++
	case !loads && u.loads:
		m.inFlight--
		m.kick = true
	}
	u.loads = loads
}

// rivals are the units that share a GPU with u.
func (m *Machine) rivals(u *unit) []string {
	var keys []string
	for _, id := range u.gpus {
		domain := "gpu:" + id
		if id == allGPUs {
			domain = "gpu:"
		}
		for _, other := range slices.Concat(m.domains[domain], m.domains["gpu:"+allGPUs]) {
			if other != u {
				keys = append(keys, other.Key)
			}
		}
	}
	return keys
}

// before orders the units that wait: by when their attempt became due.
func before(a, b *unit) bool {
	if a.Failure == nil || b.Failure == nil || a.Failure.Due.Equal(b.Failure.Due) {
		return a.Key < b.Key
	}
	return a.Failure.Due.Before(b.Failure.Due)
}

// takeSlot: a unit that is about to load takes its GPUs.
func (m *Machine) takeSlot(u *unit, verb Verb) {
	if !u.onGPU() || verb == VerbStop {
		return
	}
	u.Slot = m.now.Add(cmp.Or(quantile(u.TTR, 0.95), m.cfg.SlotMax))
}

// admit lets those who wait through the gate, first come first served.
func (m *Machine) admit() {
	for i := 0; m.kick && i < 8; i++ { // what one admission changes may matter to another
		m.kick = false
		m.lookAtWaiting()
	}
	m.kick = false
}

// waitsOn reports whether what holds u up cannot have changed: every slot is
// taken, or its budget fills up at a known time.
func (m *Machine) waitsOn(u *unit) bool {
	switch HoldReason(u.Detail) {
	case HoldSlot:
		return !u.onGPU() && m.inFlight >= m.cfg.MaxParallel
	case HoldBudget:
		return !u.Freed && u.Failure != nil && m.now.Before(u.Failure.Again)
	default:
		return false
	}
}

func (m *Machine) lookAtWaiting() {
	if len(m.waiting) == 0 {
		return
	}
	list := make([]*unit, 0, len(m.waiting))
	for _, u := range m.waiting {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b *unit) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	for _, u := range list {
		if m.waitsOn(u) {
			continue
		}
		if m.units[u.Key] == u {
			m.evaluate(u, false)
		}
	}
}
