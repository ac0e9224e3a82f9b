package policy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// The invariants. Every one is checked after every step of every fuzzed run,
// and of the simulated day.
const (
	invSame      = "same events, same decisions"
	invRestored  = "same decisions when saved and restored in the middle"
	invStored    = "what Changes reports adds up to the Snapshot"
	invOneAct    = "at most one act in flight per unit"
	invNotOK     = "no act on a unit whose newest verdict is ok"
	invHuman     = "no act on a unit that a human stopped or paused"
	invKnown     = "no act on a unit that is UNKNOWN"
	invObserve   = "no act in observe mode"
	invHeld      = "no act under a hold"
	invBudget    = "the budget is respected"
	invSlots     = "the slots are respected"
	invEnds      = "no hold, panic or canary lasts for ever"
	invResolved  = "every failed unit is in the end acted on, healthy, held and paged, or FATAL and paged"
	invNoSpin    = "a tick moves the deadline on"
	invGPU       = "nothing is started or restarted on a GPU that the driver wants reset or that is lost"
	invExplained = "every decision has a rule and a reason"
)

// checker watches a Machine from outside and knows only what it was told.
type checker struct {
	t        testing.TB
	cfg      policy.Config
	w        *world
	twin     *policy.Machine // fed the same events, saved and restored all the time
	store    map[string]string
	host     string
	seen     map[string]policy.Observation
	read     map[string]time.Time
	stopped  map[string]time.Time // when by somebody, as far as the events say
	acts     map[string]policy.Decision
	spent    []time.Time
	cards    map[int]gpu.Reading // the newest that were told, by index
	ordered  bool                // an operator has spoken about a GPU
	steps    int
	every    int // steps between two restores of the twin
	twinOuts []policy.Decision
}

func check(t testing.TB, w *world) *checker {
	c := &checker{t: t, every: 7, cfg: w.cfg, w: w, store: map[string]string{}}
	c.seen, c.read, c.stopped, c.acts = map[string]policy.Observation{}, map[string]time.Time{}, map[string]time.Time{}, map[string]policy.Decision{}
	c.twin = policy.Restore(w.cfg, w.m.Snapshot())
	c.save(w.m.Changes(), w.m.Snapshot())
	c.cards = map[int]gpu.Reading{}
	w.onEvent = c.event
	w.onStep = c.step
	return c
}

func (c *checker) fail(invariant, format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s: %s", invariant, fmt.Sprintf(format, args...))
}

// event notes what the Machine is told, and tells the twin.
func (c *checker) event(ev policy.Event) {
	switch ev.Kind {
	case policy.KindObserved:
		if !ev.Read.Before(c.read[ev.Unit]) {
			c.seen[ev.Unit] = *ev.Observation
			if o := ev.Observation; o.Running && o.StartedAt.After(c.stopped[ev.Unit]) {
				delete(c.stopped, ev.Unit) // it was a restart, or somebody started it again
			}
		}
	case policy.KindKill:
		c.read[ev.Unit] = ev.Read
		if _, ours := c.acts[ev.Unit]; !ours && (ev.Signal == 9 || ev.Signal == 15) {
			c.stopped[ev.Unit] = c.w.now
		}
	case policy.KindStart:
		c.read[ev.Unit] = ev.Read
		delete(c.stopped, ev.Unit)
	case policy.KindOutcome:
		if d, ok := c.acts[ev.Unit]; ok && d.ID == ev.Decision {
			delete(c.acts, ev.Unit)
		}
	case policy.KindDaemonStart:
		clear(c.acts)
	case policy.KindCommand:
		c.ordered = c.ordered || ev.Command.GPU != ""
	case policy.KindGPUReading:
		for _, r := range ev.GPU.Readings {
			for i, card := range c.w.cards.list {
				if card.device.UUID == r.UUID {
					c.cards[i] = r
				}
			}
		}
	case policy.KindSourceUp:
		if ev.Engine.Process == policy.ProcessNew {
			clear(c.stopped)
		}
	case policy.KindDestroy:
		delete(c.stopped, ev.Unit)
		delete(c.acts, ev.Unit)
	default:
	}
	c.steps++
	if c.steps%c.every == 0 { // save and restore, through JSON as the journal does
		c.twin = policy.Restore(c.cfg, roundTrip(c.t, c.twin.Snapshot()))
	}
	c.twinOuts = c.twin.Step(ev)
}

func (c *checker) step(ev policy.Event, ds []policy.Decision) {
	if diff := cmp.Diff(ds, c.twinOuts); diff != "" {
		c.fail(invRestored, "after %s %s (-one run +restored):\n%s\n%s", ev.Kind, ev.Unit, diff, cmp.Diff(c.w.m.Snapshot(), c.twin.Snapshot()))
	}
	c.save(c.w.m.Changes(), policy.Snapshot{})
	if c.steps%(7*c.every) == 0 {
		c.compare()
	}
	if ev.Kind == policy.KindTick {
		if at, ok := c.w.m.Deadline(); ok && !at.After(c.w.now) {
			c.fail(invNoSpin, "at %v it wants a tick at %v", c.w.now, at)
		}
	}
	for _, d := range ds {
		if d.Rule == "" || d.Reason == "" {
			c.fail(invExplained, "%+v", d)
		}
		if d.Verb.Act() {
			c.act(d)
		}
	}
}

func (c *checker) act(d policy.Decision) {
	if old, ok := c.acts[d.Unit]; ok {
		c.fail(invOneAct, "%s %s while #%d %s is in flight", d.Verb, d.Unit, old.ID, old.Verb)
	}
	c.acts[d.Unit] = d
	if d.Rule == "operator" && d.Verb != policy.VerbStop {
		delete(c.stopped, d.Unit) // somebody wants it up again
	}
	if d.Rule == "operator" || d.Rule == "honour_stop" || d.Rule == "gpu_reset" {
		return
	}
	o := c.seen[d.Unit]
	if o.Paused {
		c.fail(invHuman, "%s %s, which is paused", d.Verb, d.Unit)
	}
	if !c.stopped[d.Unit].IsZero() && d.Verb != policy.VerbStop {
		c.fail(invHuman, "%s %s (%s), which somebody stopped", d.Verb, d.Unit, d.Rule)
	}
	if !c.w.up {
		c.fail(invKnown, "%s %s while Docker is away", d.Verb, d.Unit)
	}
	if c.cfg.Observe {
		c.fail(invObserve, "%s %s", d.Verb, d.Unit)
	}
	confirmed := strings.HasPrefix(d.Rule, "xid_") // by the end of its process; its check is older
	if o.Running && !o.Restarting && o.Health != nil && o.Health.Status == "healthy" && !confirmed {
		c.fail(invNotOK, "%s %s, which is healthy", d.Verb, d.Unit)
	}
	c.holds(d)
	c.limits(d)
	c.gpus(d)
}

// gpus: what was last read of a GPU, before the step, forbids to load onto it.
// An operator's release or reset may have said otherwise.
func (c *checker) gpus(d policy.Decision) {
	b := c.w.byID(d.Container)
	if b == nil || d.Verb == policy.VerbStop || c.ordered || d.Rule == "stopped_for_gpu" {
		return
	}
	for i, r := range c.cards {
		if slices.Contains(b.gpus, fmt.Sprint(i)) && (r.Trouble != "" || r.Recovery != nil && *r.Recovery != gpu.RecoverNone) {
			c.fail(invGPU, "%s %s (%s) on GPU %d: %+v", d.Verb, d.Unit, d.Rule, i, r)
		}
	}
}

func (c *checker) holds(d policy.Decision) {
	for _, h := range c.w.m.Host().Holds {
		if h.Scope == policy.ScopeHost || h.Scope == policy.ScopeUnit && h.Target == d.Unit {
			c.fail(invHeld, "%s %s under %s", d.Verb, d.Unit, h.Why)
		}
	}
}

func (c *checker) limits(d policy.Decision) {
	n := 0
	for _, a := range c.acts {
		if a.Rule != "operator" && a.Rule != "honour_stop" && a.Rule != "gpu_reset" {
			n++
		}
	}
	if n > c.cfg.MaxParallel {
		c.fail(invSlots, "%d acts at a time", n)
	}
	if !d.Charged {
		return
	}
	c.spent = append(c.spent, d.At)
	purse := max(float64(c.cfg.BudgetMin), 1.5*float64(len(c.w.boxes)+10))
	recent := 0
	for _, at := range c.spent {
		if d.At.Sub(at) <= c.cfg.BudgetWindow {
			recent++
		}
	}
	if float64(recent) > 2*purse+1 {
		c.fail(invBudget, "%d repairs in %v, purse %v", recent, c.cfg.BudgetWindow, purse)
	}
}

// save keeps what Changes says, as the state file does.
func (c *checker) save(ch policy.Changes, first policy.Snapshot) {
	for _, u := range append(first.Units, ch.Units...) {
		c.store[u.Key] = durable(c.t, u)
	}
	for _, key := range ch.Forgotten {
		delete(c.store, key)
	}
	if ch.Host != nil {
		c.host = encode(c.t, ch.Host.Holds) + encode(c.t, ch.Host.Panics) + fmt.Sprint(ch.Host.NextID)
	}
}

func (c *checker) compare() {
	snap := c.w.m.Snapshot()
	want := map[string]string{}
	for _, u := range snap.Units {
		want[u.Key] = durable(c.t, u)
	}
	if diff := cmp.Diff(want, c.store); diff != "" {
		c.fail(invStored, "units (-snapshot +stored):\n%s", diff)
	}
	if host := encode(c.t, snap.Host.Holds) + encode(c.t, snap.Host.Panics) + fmt.Sprint(snap.Host.NextID); c.host != "" && host != c.host {
		c.fail(invStored, "host: got %s, want %s", c.host, host)
	}
}

// durable is a unit without what the next inspect tells anyway.
func durable(t testing.TB, u policy.Unit) string {
	u.Last, u.Read, u.EventRead, u.Wake, u.Waiting = policy.Observation{}, time.Time{}, time.Time{}, time.Time{}, false
	if u.Failure != nil {
		f := *u.Failure
		f.Again = time.Time{}
		u.Failure = &f
	}
	return encode(t, u)
}

func encode(t testing.TB, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func roundTrip(t testing.TB, s policy.Snapshot) policy.Snapshot {
	var out policy.Snapshot
	if err := json.Unmarshal([]byte(encode(t, s)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// resolved is the end of a run: nothing has been left hanging.
func (c *checker) resolved() {
	host := c.w.m.Host()
	for _, p := range host.Panics {
		if c.w.now.Sub(p.Since) > 6*time.Hour {
			c.fail(invEnds, "panic in %s since %v: %+v\n%s", p.Domain, p.Since, p, encode(c.t, c.w.m.Statuses()))
		}
	}
	for _, h := range host.Holds {
		if h.Until.IsZero() && h.By != "file" && h.Reason != policy.HoldStuck && h.Reason != policy.HoldGPU {
			c.fail(invEnds, "hold %+v has no end", h)
		}
	}
	paged := map[string]bool{}
	for _, in := range c.w.m.OpenIncidents() {
		paged[in.ID] = !in.Paged.IsZero()
	}
	for _, in := range c.w.m.OpenIncidents() { // a page about its GPU names it
		paged[in.ID] = paged[in.ID] || in.Parent != "" && paged[in.Parent]
	}
	for _, s := range c.w.m.Statuses() {
		switch s.State {
		case policy.Running, policy.Stopped, policy.Paused:
			continue
		default:
		}
		if s.State == policy.Starting && c.w.now.Sub(s.Since) < 70*time.Minute {
			continue
		}
		if !paged[s.Incident] && c.w.now.Sub(s.Since) > time.Hour {
			c.fail(invResolved, "%s is %s (%s) since %v and nobody was called: %s", s.Name, s.State, s.Rule, s.Since, s.Reason)
		}
	}
}
