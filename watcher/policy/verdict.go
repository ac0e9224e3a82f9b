package policy

import (
	"fmt"
	"strings"
	"time"
)

type finding int

const (
	findOK       finding = iota
	findStarting         // not ready yet, and nothing is wrong with that
	findFailed
	findUnknown // its health check cannot say
	findDown    // down, and that is how it should be
	findDocker  // Docker's own policy is about to start it
)

// verdict is what the evidence says about a unit.
type verdict struct {
	finding finding
	rule    string
	text    string
	verb    Verb      // of a failed one: what would help
	free    bool      // and whether it counts against the unit
	again   time.Time // of a starting one: when to look again
	probe   time.Time // the failing check it stands on
}

// judge reads the verdict off what is known of u.
func (m *Machine) judge(u *unit) verdict {
	switch o := &u.Last; {
	case o.Restarting:
		return verdict{finding: findDocker}
	case o.Running:
		return m.judgeRunning(u)
	default:
		return m.judgeDown(u)
	}
}

func (m *Machine) judgeRunning(u *unit) verdict {
	if v, bad := m.judgeFault(u); bad {
		return v
	}
	h := u.check()
	if h == nil {
		ready := u.Run.Began.Add(u.policy.StartSeconds)
		if m.now.Before(ready) {
			return verdict{finding: findStarting, rule: "starting", text: "it has just started", again: ready}
		}
		return verdict{finding: findOK}
	}
	p := newest(h, u.Last.StartedAt)
	switch {
	case p == nil:
		return m.judgeStart(u)
	case brokenProbe(p):
		return verdict{finding: findUnknown, rule: "check_broken", text: fmt.Sprintf(
			"its health check is broken, so defib cannot tell how it is (exit %d: %s); mend the HEALTHCHECK command", p.ExitCode, quoted(p.Output))}
	case h.FailingStreak >= max(1, retries(h)):
		return m.judgeUnhealthy(u, h, p)
	case p.ExitCode == 0 || u.Run.Healthy || h.Status == "healthy":
		return verdict{finding: findOK}
	}
	return m.judgeStart(u)
}

// judgeStart: no check has passed in this run yet.
func (m *Machine) judgeStart(u *unit) verdict {
	deadline := m.startDeadline(u)
	if m.now.Before(deadline) {
		return verdict{finding: findStarting, rule: "starting", text: "it has started and its health check has not passed yet", again: deadline}
	}
	return verdict{
		finding: findFailed, rule: "start_timeout", verb: VerbRestart,
		text: "it has not become healthy within " + span(deadline.Sub(u.Run.Began)) + " of its start",
	}
}

// judgeUnhealthy: Docker's own threshold is reached. In a run that was never
// healthy it counts for a unit without a GPU, since Docker's start period and
// retries are over; one with a GPU may be loading still.
func (m *Machine) judgeUnhealthy(u *unit, h *Health, p *Probe) verdict {
	if !u.Run.Healthy && u.onGPU() && m.now.Before(m.startDeadline(u)) {
		return m.judgeStart(u)
	}
	text := "its health check fails: " + quoted(p.Output)
	if timedOut(p) {
		text = "its health check ran out of time (" + span(h.Timeout) + ")"
	} else if strings.TrimSpace(p.Output) == "" {
		text = fmt.Sprintf("its health check fails with exit %d and says nothing", p.ExitCode)
	}
	return verdict{finding: findFailed, rule: "unhealthy", text: text, verb: VerbRestart, probe: p.End}
}

func retries(h *Health) int {
	if h.Retries == 0 {
		return 3
	}
	return h.Retries
}

// newest returns the newest probe of this run, nil if there is none.
func newest(h *Health, startedAt time.Time) *Probe {
	if len(h.Log) == 0 {
		return nil
	}
	if p := &h.Log[len(h.Log)-1]; p.End.After(startedAt) {
		return p
	}
	return nil
}

// timedOut: the engine writes -1 and this sentence for a probe that ran out of
// time, and -1 with another for one that it could not run.
func timedOut(p *Probe) bool {
	return p.ExitCode == -1 && strings.HasPrefix(p.Output, "Health check exceeded timeout")
}

func brokenProbe(p *Probe) bool {
	return p.ExitCode == 126 || p.ExitCode == 127 || p.ExitCode == -1 && !timedOut(p)
}

// judgeDown decides whether an exited container has failed.
func (m *Machine) judgeDown(u *unit) verdict {
	switch {
	case u.WantDown:
		return verdict{finding: findDown, rule: "wanted_down", text: "somebody stopped it"}
	case u.Last.Status == "removing" || u.Last.Status == "dead":
		return verdict{finding: findDown, rule: "removing", text: "Docker is removing it"}
	}
	return m.judgeEnd(u)
}

// judgeEnd: it is down, and nobody is known to want that.
func (m *Machine) judgeEnd(u *unit) verdict {
	o, p := &u.Last, &u.policy
	wantsUp := o.RestartPolicy == "always" || o.RestartPolicy == "unless-stopped" || o.RestartPolicy == "on-failure"
	switch {
	case oneOff(o) && !u.Ours:
		return verdict{finding: findDown, rule: "finished", text: fmt.Sprintf("it was a one-off of compose and has ended (exit %d)", o.ExitCode)}
	case u.Giveup != nil && u.Ours && u.Giveup.Rule == "crash_loop":
		return verdict{finding: findFailed, rule: "crash_loop", text: "defib stopped it, since Docker kept starting it in vain", verb: VerbStart}
	case u.Ours && u.OursFor != "":
		return verdict{finding: findFailed, rule: "stopped_for_gpu", text: "defib stopped it for the sake of its GPU", verb: VerbStart, free: true}
	case m.leftDown(u):
		text := "it did not come up again: " + exitText(u)
		if u.Run.NoStart != "" {
			text = noStart(u.Run.NoStart)
		}
		return verdict{finding: findFailed, rule: "repair_failed", text: text, verb: VerbStart}
	case !p.Everything():
		return verdict{finding: findDown, rule: "out_of_reach", text: exitText(u) + "; " + p.Via +
			" asks only for unhealthy containers to be restarted (defib.enable=true heals exits too)"}
	case o.Error != "" && (wantsUp || u.WasUp):
		return verdict{finding: findFailed, rule: "start_failed", text: noStart(o.Error), verb: VerbStart}
	case o.Status == "created" && o.Error == "":
		return verdict{finding: findDown, rule: "never_started", text: "it was created and never started"}
	case o.Status == "created":
		return verdict{finding: findDown, rule: "never_started", text: exitText(u) + "; its restart policy does not ask for it to be up"}
	case !u.WasUp:
		return verdict{finding: findDown, rule: "first_seen_down", text: "it was down already when defib first saw it (" + exitText(u) + ")"}
	case u.HitStopped && o.RestartPolicy == "unless-stopped" && !m.now.Before(m.host.Settle):
		return verdict{finding: findDown, rule: "exited_unwatched", text: "it was stopped just before Docker ended, and Docker, which starts again what nobody has stopped, did not start it; it is left alone"}
	case u.EngineHit:
		return verdict{finding: findFailed, rule: "engine_restart", text: "it was up when the Docker engine ended and Docker did not bring it back", verb: VerbStart, free: true}
	}
	return m.judgeExit(u)
}

// leftDown: our own act left it down. What ended while it started, once we had
// restarted it, counts as that where exits as such are not healed.
func (m *Machine) leftDown(u *unit) bool {
	if u.Ours || u.policy.Everything() {
		return u.Ours
	}
	due := u.Failure != nil && u.Giveup == nil // it was to be restarted once more
	starting := u.Run.By == byDefib && u.Run.ReadyAt.IsZero() && u.LastExit != nil && (due || u.LastExit.At.Before(m.startDeadline(u)))
	return starting && !u.EngineHit && (u.Run.Died || !calmExit(&u.Last))
}

// judgeExit: it ended by itself.
func (m *Machine) judgeExit(u *unit) verdict {
	o, p := &u.Last, &u.policy
	if o.ExitCode == 0 && !m.server(u) || p.Job && o.ExitCode == 0 {
		return verdict{finding: findDown, rule: "finished", text: "its job is done (exit 0)"}
	}
	if !u.Run.Died && calmExit(o) {
		return verdict{finding: findDown, rule: "exited_unwatched", text: fmt.Sprintf(
			"it exited with %d while defib was not watching, as it does when somebody stops it; it is left alone", o.ExitCode)}
	}
	return verdict{finding: findFailed, rule: exitRule(u), text: exitText(u), verb: VerbStart}
}

// server reports whether an exit 0 is a failure too.
func (m *Machine) server(u *unit) bool {
	p := &u.policy
	if p.Job || m.awaited(u) {
		return false
	}
	return p.Server || u.Last.RestartPolicy == "always" || u.Last.RestartPolicy == "unless-stopped" || u.Check.Passed
}

// awaited reports whether another unit of its project waits for it to finish.
func (m *Machine) awaited(u *unit) bool {
	service := u.Last.Labels["com.docker.compose.service"]
	if u.Project == "" || service == "" {
		return false
	}
	for _, other := range m.units {
		for _, n := range other.policy.Needs {
			if n.Project == u.Project && n.Service == service && n.Condition == "service_completed_successfully" {
				return true
			}
		}
	}
	return false
}

// calmExit: the codes that a stop leaves behind.
func calmExit(o *Observation) bool {
	if oomed(o) || o.Error != "" {
		return false
	}
	return o.ExitCode == 0 || o.ExitCode == 130 || o.ExitCode == 137 || o.ExitCode == 143
}

func exitRule(u *unit) string {
	if oomed(&u.Last) || oomJustNow(u) {
		return "oom"
	}
	return "exited"
}

// oomJustNow: on some engines only the event tells.
func oomJustNow(u *unit) bool {
	return !u.OOM.IsZero() && u.Last.ExitCode == 137 && u.OOM.After(u.Run.Began) && u.LastExit != nil &&
		u.LastExit.At.Sub(u.OOM).Abs() < 10*time.Second
}

// exitText keeps apart: killed for memory, killed by somebody unseen, ended.
func exitText(u *unit) string {
	o := &u.Last
	switch {
	case o.Error != "":
		return noStart(o.Error)
	case oomed(o) || oomJustNow(u):
		return "it ran out of memory and was killed (exit 137, OOM)"
	case o.ExitCode == 137:
		return "it was killed by SIGKILL from outside Docker (exit 137); the kernel log says if the host ran out of memory"
	case o.ExitCode > 128 && o.ExitCode < 160:
		return fmt.Sprintf("it was ended by %s (exit %d)", signalName(o.ExitCode-128), o.ExitCode)
	case o.ExitCode == 126 || o.ExitCode == 127:
		return fmt.Sprintf("its command could not be run (exit %d)", o.ExitCode)
	}
	return fmt.Sprintf("it exited with %d", o.ExitCode)
}

func noStart(why string) string { return "Docker could not start it: " + quoted(why) }

// check is the health check that speaks of u. A one-off of compose inherits that
// of its service, which says nothing of the command that it runs instead.
func (u *unit) check() *Health {
	if oneOff(&u.Last) {
		return nil
	}
	return u.Last.Health
}

func oneOff(o *Observation) bool {
	return strings.EqualFold(o.Labels["com.docker.compose.oneoff"], "true")
}

// oomed: some engines leave the flag set after a child was killed.
func oomed(o *Observation) bool { return o.OOMKilled && o.ExitCode == 137 }
