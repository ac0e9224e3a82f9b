package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Host returns what is known of the host, with the budget as it is now.
func (m *Machine) Host() Host {
	h := m.hostCopy()
	h.Tokens, h.TokensAt = m.tokens(), m.now
	return h
}

func (m *Machine) hostCopy() Host {
	h := m.host
	h.Holds, h.Panics = slices.Clone(h.Holds), slices.Clone(h.Panics)
	for i := range h.Panics {
		h.Panics[i].Canary = slices.Clone(h.Panics[i].Canary)
	}
	h.Changes = slices.Clone(h.Changes)
	h.GPU.GPUs, h.GPU.Reset = slices.Clone(h.GPU.GPUs), copied(h.GPU.Reset)
	return h
}

// Report is everything that people and programs may read.
type Report struct {
	Host      Host        `json:"host"`
	Units     []Status    `json:"units"`          // by name
	Incidents []Incident  `json:"incidents"`      // the open ones, oldest first
	GPUs      []GPUStatus `json:"gpus,omitempty"` // by index
}

// Report returns what is known now. A later step does not change it.
func (m *Machine) Report() Report {
	return Report{Host: m.Host(), Units: m.Statuses(), Incidents: m.OpenIncidents(), GPUs: m.GPUs()}
}

// OpenIncidents returns the open incidents, oldest first.
func (m *Machine) OpenIncidents() []Incident {
	out := make([]Incident, 0, len(m.incidents))
	for _, in := range m.incidents {
		out = append(out, *in)
	}
	slices.SortFunc(out, func(a, b Incident) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Statuses returns every unit that has a container, by name.
func (m *Machine) Statuses() []Status {
	out := make([]Status, 0, len(m.units))
	for _, u := range m.units {
		if u.Gone.IsZero() {
			out = append(out, m.status(u))
		}
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key)) })
	return out
}

// Status returns one unit with its settings; false when there is none.
func (m *Machine) Status(key string) (Status, bool) {
	u := m.units[key]
	if u == nil {
		return Status{}, false
	}
	return m.status(u), true
}

func (m *Machine) status(u *unit) Status {
	s := Status{
		Key: u.Key, Name: u.Name, Project: u.Project, Container: u.Last.Container, Image: u.Last.Image,
		State: u.State, Detail: u.Detail, Mode: u.policy.Mode, Managed: u.policy.Via, Since: u.Since,
		Rule: u.Rule, Reason: u.Reason, Restarts24h: len(m.since24h(u.Repairs)), LastExit: u.LastExit,
		GPUs: m.gpuNames(u.gpus), GPUNote: m.gpuNote(u), Incident: u.Incident, ReadyAfter: median(u.TTR), Settings: u.settings, Warnings: u.warnings,
		Labels: u.Last.Labels,
	}
	s.Health, s.HealthOutput = healthText(u)
	s.WhyNot, s.Releases = m.whyNot(u), m.releases(u)
	s.WouldAct = len(s.WhyNot) == 0
	s.Next, s.NextAt = m.next(u)
	if in := m.incidents[u.Incident]; !u.DownSince.IsZero() && !u.Paged && (in == nil || !in.NeedsYou) {
		s.PagesAt = m.pagesAt(u)
	}
	switch n := m.attempts(u); {
	case u.policy.Stateful != "" && u.Last.Running: // it is never restarted, so there is nothing to count
	case u.Streak > n:
		s.Retries = fmt.Sprintf("all %d used up", n)
	case u.Streak > 0:
		s.Retries = fmt.Sprintf("%d of %d", u.Streak, n)
	}
	return s
}

func healthText(u *unit) (health, output string) {
	h := u.Last.Health
	switch {
	case h == nil:
		return "no check", ""
	case !u.Last.Running || u.Last.Paused || u.Last.Restarting:
		return "—", ""
	}
	p := newest(h, u.Last.StartedAt)
	switch {
	case p == nil:
		return "starting", ""
	case brokenProbe(p):
		return "broken check", p.Output
	}
	return h.Status, strings.TrimSpace(p.Output)
}

// releases are the commands that end the holds of operators on u.
func (m *Machine) releases(u *unit) []string {
	var out []string
	for _, h := range m.host.Holds {
		if h.Reason != HoldOperator || !covers(h, u) {
			continue
		}
		switch {
		case h.File != "":
			out = append(out, "rm "+h.File)
		case h.By == byFile: // whether it is there cannot be told; Why says what to mend
		case h.Scope == ScopeHost:
			out = append(out, "defib release --all")
		case h.Scope == ScopeProject:
			out = append(out, "defib release --project "+u.Project)
		default:
			out = append(out, "defib release "+u.Name)
		}
	}
	return out
}

// whyNot lists what would keep defib from acting on u if it failed now.
func (m *Machine) whyNot(u *unit) []string {
	var why []string
	if u.policy.Mode == ModeObserve {
		why = append(why, "it is only observed: "+u.policy.ModeWhy)
	}
	if u.WantDown {
		why = append(why, "it is wanted down: "+u.Reason)
	}
	if u.Last.Paused {
		why = append(why, "somebody paused it")
	}
	if u.State == Unknown || u.State == Stopped && !u.WantDown {
		why = append(why, u.Reason)
	}
	if u.Giveup != nil && u.Giveup.Open {
		why = append(why, "defib gave up: "+u.Giveup.Text)
	}
	if u.policy.Stateful != "" && u.Last.Running {
		why = append(why, "it is a "+u.policy.Stateful+": defib starts it when it has exited and never restarts it for being unhealthy")
	}
	if oneOff(&u.Last) && u.Last.Running {
		why = append(why, "it is a one-off of compose: the health check of its service says nothing of it, and defib does not restart it")
	}
	n := len(why)
	for _, h := range m.host.Holds {
		if covers(h, u) && !slices.Contains(why, h.Why) { // a GPU may be held twice, for one thing
			why = append(why, h.Why)
		}
	}
	if u.State == Held && len(why) == n {
		why = append(why, u.Reason)
	}
	return why
}

// next says what happens next by itself, and when.
func (m *Machine) next(u *unit) (string, time.Time) {
	switch u.State {
	case Stopped:
		if !u.WantDown && u.Rule != "finished" {
			return "left down", time.Time{}
		}
		return "watching", time.Time{}
	case Running, Paused:
		return "watching", time.Time{}
	case Starting:
		return "must be ready", m.startDeadline(u)
	case Repairing:
		return "outcome", time.Time{}
	case Backoff:
		if u.Failure != nil {
			return string(u.Failure.Verb), later(u.Failure.Due, m.host.Settle)
		}
		return "start by Docker", time.Time{}
	case Held:
		again := u.Failure != nil && u.Failure.Again.After(m.now)
		switch reason := HoldReason(u.Detail); {
		case again && (reason == HoldGPU || reason == HoldVRAM):
			return "a look at it", u.Failure.Again // which tells whether it goes on
		case again:
			return "hold ends", u.Failure.Again
		}
		return "the hold is cleared", time.Time{}
	case Fatal:
		if u.Giveup != nil && !u.Giveup.Retry.IsZero() {
			return "half-open retry", u.Giveup.Retry
		}
		return "waiting for you", time.Time{}
	case Unhealthy:
		if u.Rule == "stateful" {
			return "waiting for you", time.Time{}
		}
		if u.policy.Mode == ModeObserve && u.Failure != nil {
			return "would " + string(u.Failure.Verb), time.Time{}
		}
		if u.Failure != nil {
			return string(u.Failure.Verb), later(u.Failure.Due, u.wake)
		}
	default:
	}
	return "a look at it", time.Time{}
}
