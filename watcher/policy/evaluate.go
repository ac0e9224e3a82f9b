package policy

import (
	"cmp"
	"fmt"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// evaluate brings the state of u in line with what is known of it, and acts
// when that is due and allowed. fresh says that an observation just came in;
// only then may an act follow at once, every later one asks again first.
func (m *Machine) evaluate(u *unit, fresh bool) {
	u.wake = time.Time{}
	delete(m.waiting, u.Key)
	switch {
	case !m.host.Connected:
		m.become(u, Unknown, "", "docker_unreachable", "Docker does not answer")
	case !u.Gone.IsZero():
		m.lookGone(u)
	case !u.Seen:
		m.lookUnseen(u)
	case u.Op != nil:
		m.inRepair(u, fresh)
	case m.stopStands(u), m.undo(u):
	case u.Last.Paused:
		m.rest(u, Paused, "", "paused", "somebody paused it")
	default:
		m.follow(u, m.judge(u), fresh)
	}
	if m.units[u.Key] != u {
		return // forgotten meanwhile
	}
	m.suspicion(u)
	m.watchDowntime(u)
	m.load(u)
	m.schedule(u, m.future(u.wake))
}

// future keeps a wake-up from being due already, which would never end.
func (m *Machine) future(at time.Time) time.Time {
	if at.IsZero() || at.After(m.now) {
		return at
	}
	return m.now.Add(time.Millisecond)
}

func (m *Machine) lookGone(u *unit) {
	forgetAt := u.Gone.Add(m.cfg.AbsentTTL)
	if m.host.Synced && !m.now.Before(forgetAt) {
		m.absent(u)
		return
	}
	m.become(u, Stopped, "removed", "removed", "its container was removed")
	if m.host.Synced { // else it may be back, and is looked at again once all are listed
		u.wake = forgetAt
	}
}

func (m *Machine) lookUnseen(u *unit) {
	if u.State != Unknown {
		m.become(u, Unknown, "", "not_reconciled", "defib has not yet looked at it since it connected to Docker")
	}
	if u.Ask != nil && !m.now.Before(u.Ask.Until) {
		u.Ask = nil
		m.ask(u, "look_again", "the last look at it failed", false)
	}
	if u.Ask != nil {
		u.wake = u.Ask.Until
	}
}

// become enters a state; since, rule and reason say when and why.
func (m *Machine) become(u *unit, s State, detail, rule, reason string) {
	if u.State == s && u.Detail == detail && u.Rule == rule {
		return
	}
	if u.State != s {
		m.since(u, s)
	}
	if u.waitsForSlot() || m.awaitedBy(u) { // who came after it, or needs it, may go on
		m.kick = true
	}
	u.State, u.Detail, u.Rule, u.Reason = s, detail, rule, reason
	m.touch(u)
}

// since sets from when on u is in a state. A while without sight of it does not
// count, if it is then as it was before.
func (m *Machine) since(u *unit, s State) {
	at := m.now
	switch {
	case s == Unknown:
		u.Before, u.BeforeSince = u.State, u.Since
	case u.State == Unknown && s == u.Before:
		at = u.BeforeSince
	case u.State == Unknown && s == Running && u.Before == Unknown && !u.Run.Began.IsZero():
		at = u.Run.Began
	case s == Stopped && !u.missed.IsZero():
		at = u.missed
	}
	u.Since = at
}

// rest enters a state in which nothing is wrong and nothing is to be done.
func (m *Machine) rest(u *unit, s State, detail, rule, reason string) {
	m.become(u, s, detail, rule, reason)
	if u.Failure != nil || !u.Slot.IsZero() {
		u.Failure, u.Slot, u.Freed = nil, time.Time{}, false
		m.kick = true
		m.touch(u)
	}
}

// follow turns a verdict into a state.
func (m *Machine) follow(u *unit, v verdict, fresh bool) {
	switch v.finding {
	case findOK:
		m.isReady(u)
	case findStarting:
		m.unlessReady(u)
		m.become(u, Starting, "", v.rule, v.text)
		u.Failure = nil
		u.wake = v.again
	case findUnknown:
		m.isUncertain(u, v)
	case findDown:
		m.isDown(u, v)
	case findDocker:
		m.isDockers(u, fresh)
	case findFailed:
		m.failed(u, v, fresh)
	}
}

func (m *Machine) unlessReady(u *unit) {
	if !u.Run.ReadyAt.IsZero() && !u.Run.Settled {
		m.unready(u)
	}
}

// isReady: a fresh good verdict leads from any waiting state to RUNNING
// without an act.
func (m *Machine) isReady(u *unit) {
	m.ready(u)
	was := u.State
	if u.Run.Settled { // it had failed in this run and came back by itself
		u.Run.Settled, u.Run.Counted, u.Run.ReadyAt = false, false, m.now
		m.touch(u)
	}
	if u.Failure != nil {
		u.Failure, u.Freed = nil, false
		m.kick = true
		m.touch(u)
	}
	if u.Giveup != nil && u.Giveup.Open {
		u.Giveup.Open = false
		m.touch(u)
	}
	m.become(u, Running, "", "running", "it is up")
	if was != Running {
		m.step(u, "ready", "it is up again")
	}
	m.proveUseful(u)
}

// proveUseful closes the incident once the run has held for long enough.
func (m *Machine) proveUseful(u *unit) {
	if u.Incident == "" && u.Streak == 0 && u.Giveup == nil {
		return
	}
	at := later(u.Run.ReadyAt, u.Run.Unpaused).Add(m.usefulAfter(u))
	if m.now.Before(at) {
		u.wake = at
		return
	}
	m.proved(u)
	if _, stuck := m.standing(u, HoldStuck); stuck {
		return // it answers, and yet nothing ends it: whoever was called is still needed
	}
	m.closeIncident(u, "recovered", "it has been well for "+span(m.usefulAfter(u)))
}

// isUncertain: a check that cannot say never leads to an act.
func (m *Machine) isUncertain(u *unit, v verdict) {
	if u.Failure != nil {
		u.Failure = nil
		m.kick = true
	}
	m.canaryOut(u)
	if u.State != Running || u.Rule != v.rule {
		m.open(u, v.rule, v.text, LevelWarn)
		m.note(u, v.rule, v.text)
	}
	m.become(u, Running, "check broken", v.rule, v.text)
}

func (m *Machine) isDown(u *unit, v verdict) {
	m.unready(u)
	m.canaryOut(u)
	if v.rule == "exited_unwatched" && u.Rule != v.rule {
		m.open(u, v.rule, v.text, LevelWarn)
		m.warn(u)
	}
	m.closeIncident(u, "stopped", v.text)
	detail := ""
	if v.rule == "out_of_reach" && (u.Last.ExitCode != 0 || u.Last.Error != "") {
		detail = Crashed
	}
	m.rest(u, Stopped, detail, v.rule, v.text)
}

// isDockers: Docker's own policy is at work. It is counted, and ended when it
// leads nowhere: when more runs counted than defib makes attempts, which takes
// as long as those would have.
func (m *Machine) isDockers(u *unit, fresh bool) {
	m.blameRun(u)
	held, stop := m.onHeld(u)
	if stop {
		m.failed(u, verdict{
			finding: findFailed, rule: ruleGPUHeld, verb: VerbStop, free: true,
			text: "its GPU is held and Docker keeps starting it in vain; defib starts it again once the GPU is released",
		}, fresh)
		return
	}
	if u.policy.Everything() && !u.Run.Counted {
		m.unready(u)
		m.count(u)
		m.open(u, exitRule(u), exitText(u), LevelInfo)
		m.step(u, "by_docker", exitText(u)+"; Docker's restart policy starts it again")
	}
	m.countLate(u)
	if !held && u.policy.Everything() && u.Streak > m.attempts(u) && u.policy.Stateful == "" {
		m.failed(u, verdict{
			finding: findFailed, rule: "crash_loop", verb: VerbStop,
			text: fmt.Sprintf("it has failed %d times in a row and Docker keeps starting it", u.Streak+u.Early),
		}, fresh)
		return
	}
	m.become(u, Backoff, "by docker", "by_docker", exitText(u)+"; Docker's restart policy starts it again")
	if fresh {
		u.wake = m.now.Add(dockerLook)
	} else {
		m.ask(u, "look_again", "a start by Docker that fails is final, and no event tells of it", false)
		u.wake = u.Ask.Until
	}
	if u.Run.Early {
		u.wake = earlier(u.wake, m.paced(u))
	}
}

// dockerLook is how often a container in Docker's own backoff is looked at.
const dockerLook = 5 * time.Second

// failed handles a failed verdict: count it, wait for its time, pass the gate.
func (m *Machine) failed(u *unit, v verdict, fresh bool) {
	f := u.Failure
	if f == nil || f.Rule != v.rule {
		f = m.newFailure(u, v)
	}
	if m.hopeless(u, f) {
		return
	}
	if m.now.Before(f.Due) {
		m.waitDue(u, f)
		return
	}
	if m.needsProof(u, f, v, fresh) {
		return
	}
	if m.wouldHelp(u, f) {
		return
	}
	f = u.Failure
	if why := u.policy.ModeWhy; u.policy.Mode == ModeObserve && u.OursFor == "" {
		m.become(u, Unhealthy, "observed", f.Rule, f.Text)
		if h, held := m.standing(u, HoldGPU); held {
			m.note(u, "observe", fmt.Sprintf("defib would leave it alone (%s): %s", f.Text, h.Why))
			return
		}
		m.note(u, "observe", fmt.Sprintf("defib would %s it now (%s); it does not, because %s", f.Verb, f.Text, why))
		return
	}
	m.attempt(u, f, fresh)
}

// waitDue: an attempt is due at a known time.
func (m *Machine) waitDue(u *unit, f *Failure) {
	u.wake = f.Due
	proving := f.Rule == "unhealthy" && u.onGPU() && f.Due.Sub(f.At) <= u.policy.UnhealthyFor
	looking := m.knowsGPUs(u) && f.Due.Sub(f.At) <= gpu.Settle
	if proving || looking || f.Due.Sub(f.At) <= m.cfg.PanicPause {
		m.become(u, Unhealthy, "", f.Rule, f.Text)
		return
	}
	if u.State != Backoff || u.Rule != f.Rule {
		m.note(u, "backoff", fmt.Sprintf("%s; next attempt in %s", f.Text, span(f.Due.Sub(m.now))))
	}
	m.become(u, Backoff, "", f.Rule, f.Text)
}

// needsProof: a unit with a GPU is restarted only after it has stayed
// unhealthy for a while and one more check has failed; any other, when what
// failed was before somebody paused it, who may have mended it meanwhile.
func (m *Machine) needsProof(u *unit, f *Failure, v verdict, fresh bool) bool {
	why := "one more failing check is needed before a container with a GPU is restarted"
	switch {
	case f.Rule != "unhealthy":
		return false
	case u.beforePause(v.probe):
		why = "it was paused, and only a check since then tells how it is"
	case !u.onGPU():
		return false
	}
	if fresh && v.probe.After(f.Probe) {
		return false
	}
	if u.State != Held { // what it was held for is looked at next
		m.become(u, Unhealthy, "", f.Rule, f.Text)
	}
	if fresh {
		u.wake = m.now.Add(cmp.Or(u.Last.Health.Interval, 30*time.Second))
	} else {
		m.ask(u, "confirm", why, false)
		u.wake = u.Ask.Until
	}
	return true
}

// beforePause reports whether a check that ended then, on the engine's clock,
// ran before u was last paused in this run; the pause is no part of Began.
func (u *unit) beforePause(end time.Time) bool {
	return !u.Run.Began.Add(end.Sub(u.Last.StartedAt)).After(u.Run.Unpaused)
}
