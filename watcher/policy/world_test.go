package policy_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// world is a small Docker host in virtual time: it carries out the decisions
// of a Machine and reports what an engine would report.
type world struct {
	m       *policy.Machine
	cfg     policy.Config
	now     time.Time
	gen     uint64
	up      bool
	boxes   map[string]*box
	byIDs   map[string]*box
	todo    agenda
	seq     int
	onEvent func(policy.Event)
	onStep  func(policy.Event, []policy.Decision)
	process policy.Process
	boot    string
	ids     int
	alive   bool // defib runs
	healers []policy.Healer
	lame    bool // its acts never reach the engine
	cards   *cards
}

// box is one simulated container.
type box struct {
	name, id, image, imageID, policy    string
	labels                              map[string]string
	status                              string
	started, finished, created, resumed time.Time
	code, restarts, streak              int
	retries                             int // of on-failure, 0: no end
	oom, paused, manual, hasRun         bool
	err                                 string
	check                               bool
	load                                time.Duration // until its check passes
	sick, sticky, broken, timeout, deaf bool
	healthy                             bool // in this run
	probes                              []policy.Probe
	output                              string
	stop                                time.Duration
	hung                                bool
	stopSig                             int
	startErr                            string
	crashEvery                          time.Duration
	crashCode                           int
	gpus, mounts                        []string
	claim                               *gpu.Claim // instead of gpus
	signs                               []gpu.Sign // in its log
	stuck                               bool
	autoRemove, hideSignal, lateStart   bool
	stopErr                             string        // Docker refuses our stops so
	logs                                time.Duration // that a read of its log takes
	lateStop                            bool          // the event of a stop comes after its answer
	run                                 int           // counts runs, so that what was planned for an older one is dropped
	backoff                             time.Duration
}

type item struct {
	at  time.Time
	seq int
	do  func()
}

type agenda []item

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(item)) }
func (a *agenda) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newWorld(cfg policy.Config) *world {
	w := &world{m: policy.New(cfg), cfg: cfg, now: epoch, boxes: map[string]*box{}, byIDs: map[string]*box{}, process: policy.ProcessUnknown, boot: "boot-1", alive: true, cards: newCards()}
	w.deliver(policy.Event{Kind: policy.KindDaemonStart, BootID: w.boot})
	return w
}

// after plans something.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.todo, item{w.now.Add(d), w.seq, do})
}

// advance lets time pass, ticks included.
func (w *world) advance(to time.Time) {
	for {
		next, tick := to, false
		if len(w.todo) > 0 && !w.todo[0].at.After(next) {
			next = w.todo[0].at
		} else if len(w.todo) == 0 || w.todo[0].at.After(to) {
			next = to
		}
		if at, ok := w.m.Deadline(); ok && w.alive && !at.After(next) {
			if at.After(w.now) {
				w.now = at
			}
			w.deliver(policy.Event{Kind: policy.KindTick})
			continue
		}
		_ = tick
		if len(w.todo) > 0 && !w.todo[0].at.After(to) {
			it := heap.Pop(&w.todo).(item)
			if it.at.After(w.now) {
				w.now = it.at
			}
			it.do()
			continue
		}
		w.now = to
		return
	}
}

// deliver stamps an event and carries out what follows.
func (w *world) deliver(ev policy.Event) {
	if !w.alive {
		return
	}
	ev.At = w.now
	if w.onEvent != nil {
		w.onEvent(ev)
	}
	ds := w.m.Step(ev)
	if w.onStep != nil {
		w.onStep(ev, ds)
	}
	for _, d := range ds {
		w.carryOut(d)
	}
}

func (w *world) carryOut(d policy.Decision) {
	b := w.byID(d.Container)
	m := w.m
	answer := func(o policy.Outcome) {
		if w.m == m || o.Class != "" { // an act outlives the defib that began it; its outcome does not
			w.deliver(policy.Event{Kind: policy.KindOutcome, Unit: d.Unit, Decision: d.ID, Outcome: &o})
		}
	}
	switch d.Verb {
	case policy.VerbInspect:
		sent, gen := w.now, w.gen
		w.after(5*time.Millisecond, func() {
			if w.m != m || gen != w.gen || !w.up {
				return
			}
			if b == nil || w.byID(b.id) == nil {
				w.deliver(policy.Event{Kind: policy.KindDestroy, Unit: d.Unit, Container: d.Container, Generation: w.gen, Read: w.now})
				return
			}
			w.observe(b, d.ID, sent)
		})
	case policy.VerbRestart, policy.VerbStart, policy.VerbStop:
		if b == nil {
			w.after(time.Millisecond, func() { answer(policy.Outcome{Class: policy.OutcomeGone, Text: "no such container"}) })
			return
		}
		if w.lame {
			return
		}
		w.do(b, d, func(o policy.Outcome) {
			if w.m == m {
				answer(o)
			}
		})
	case policy.VerbPoll, policy.VerbExamine, policy.VerbResetGPU:
		w.lookAtGPUs(d)
	default:
	}
}

func (w *world) byID(id string) *box {
	b := w.byIDs[id]
	if b == nil || w.boxes[b.name] != b {
		return nil
	}
	return b
}

// do is what the engine does on a restart, start or stop call.
func (w *world) do(b *box, d policy.Decision, answer func(policy.Outcome)) {
	start := func() {
		if err := w.start(b, false); err != "" {
			answer(policy.Outcome{Class: policy.OutcomeFailed, Text: err})
			return
		}
		if d.Verb == policy.VerbRestart {
			w.began(b, policy.KindRestart)
		}
		w.after(50*time.Millisecond, func() { answer(policy.Outcome{Class: policy.OutcomeOK}) })
	}
	if d.Verb == policy.VerbStart {
		w.after(10*time.Millisecond, start)
		return
	}
	if b.stopErr != "" && d.Verb == policy.VerbStop {
		w.after(5*time.Millisecond, func() { answer(policy.Outcome{Class: policy.OutcomeFailed, Text: b.stopErr}) })
		return
	}
	if b.stuck {
		w.after(5*time.Millisecond, func() { w.event(b, policy.Event{Kind: policy.KindKill, Signal: 15}) })
		w.after(d.StopTimeout+12*time.Second, func() {
			answer(policy.Outcome{Class: policy.OutcomeStuck, Text: "tried to kill container, but did not receive an exit event"})
		})
		return
	}
	w.halt(b, d.StopTimeout, d.Verb == policy.VerbStop, func() {
		if d.Verb == policy.VerbStop {
			answer(policy.Outcome{Class: policy.OutcomeOK})
			return
		}
		w.after(20*time.Millisecond, start)
	})
}

// halt is the stop half: a signal, perhaps a kill, then the exit.
func (w *world) halt(b *box, timeout time.Duration, manual bool, then func()) {
	if b.status == "restarting" {
		b.status, b.run = "exited", b.run+1
		b.manual = manual
		w.event(b, policy.Event{Kind: policy.KindStop})
		w.after(time.Millisecond, then)
		return
	}
	if b.status != "running" {
		then()
		return
	}
	run := b.run
	b.manual = manual
	w.after(5*time.Millisecond, func() {
		w.event(b, policy.Event{Kind: policy.KindKill, Signal: max(b.stopSig, 15*b2i(b.stopSig == 0))})
	})
	wait, code := 20*time.Millisecond, 143
	if b.deaf {
		wait, code = timeout, 137
		w.after(timeout, func() {
			if b.run == run {
				w.event(b, policy.Event{Kind: policy.KindKill, Signal: 9})
			}
		})
		wait += 2 * time.Millisecond
	}
	w.after(wait, func() {
		if b.run == run && b.status == "running" {
			b.paused = false
			w.exit(b, code, true)
			if b.lateStop {
				w.after(50*time.Millisecond, func() { w.event(b, policy.Event{Kind: policy.KindStop}) })
			} else {
				w.event(b, policy.Event{Kind: policy.KindStop})
			}
		}
		then()
	})
}

// start begins a run; it returns the engine's error when it cannot.
func (w *world) start(b *box, byPolicy bool) string {
	if w.byID(b.id) != b {
		return "no such container"
	}
	if b.status == "running" {
		return ""
	}
	if b.startErr != "" {
		b.status, b.err, b.code = "exited", b.startErr, 127
		if !b.hasRun {
			b.status = "created"
		}
		b.run++
		w.look(b)
		return b.startErr
	}
	b.run++
	if !byPolicy {
		b.restarts, b.backoff = 0, 0
	}
	b.status, b.err, b.oom, b.code, b.manual, b.paused, b.hasRun = "running", "", false, 0, false, false, true
	b.started, b.healthy, b.streak = w.now, false, 0
	if !b.sticky {
		b.sick, b.timeout = false, false
	}
	w.began(b, policy.KindStart)
	run := b.run
	if b.check {
		w.after(b.load, func() {
			if b.run == run && b.status == "running" {
				w.probe(b)
			}
		})
	}
	if b.crashEvery > 0 {
		w.after(b.crashEvery, func() {
			if b.run == run && b.status == "running" {
				w.exit(b, b.crashCode, false)
			}
		})
	}
	return ""
}

// probe runs the health check of b.
func (w *world) probe(b *box) {
	p := policy.Probe{Start: w.now.Add(-10 * time.Millisecond), End: w.now, Output: b.output}
	switch {
	case b.broken:
		p.ExitCode, p.Output = -1, `OCI runtime exec failed: exec: "curl": executable file not found in $PATH`
		b.streak += 3
	case b.timeout:
		p.ExitCode, p.Output = -1, "Health check exceeded timeout (10s)"
		b.streak += 3
	case b.sick:
		p.ExitCode = 1
		b.streak += 3
	default:
		p.Output, b.streak, b.healthy = "", 0, true
	}
	b.probes = append(b.probes, p)
	if len(b.probes) > 5 {
		b.probes = b.probes[1:]
	}
	w.look(b)
}

// exit ends the run; Docker's policy may bring it back.
func (w *world) exit(b *box, code int, signalled bool) {
	b.status, b.code, b.finished = "exited", code, w.now
	ran := w.now.Sub(b.started)
	b.run++
	again := b.policy == "always" || b.policy == "unless-stopped" || b.policy == "on-failure" && code != 0
	if signalled || b.manual || b.retries > 0 && b.restarts >= b.retries {
		again = false
	}
	if again {
		if ran >= 10*time.Second || b.backoff == 0 {
			b.backoff = 100 * time.Millisecond
		} else {
			b.backoff = min(2*b.backoff, time.Minute)
		}
		b.status = "restarting"
		b.restarts++
		run := b.run
		w.after(b.backoff, func() {
			if b.run == run && b.status == "restarting" {
				b.status = "exited"
				w.start(b, true)
			}
		})
	}
	w.event(b, policy.Event{Kind: policy.KindDie, ExitCode: code})
}

// began reports the event of a start or restart, which on a busy engine comes
// after the answer to who asked for it.
func (w *world) began(b *box, kind policy.Kind) {
	ev := policy.Event{Kind: kind, EngineTime: w.now}
	if b.lateStart {
		w.after(80*time.Millisecond, func() { w.event(b, ev) })
		return
	}
	w.event(b, ev)
}

// event reports an engine event, and the inspect that follows it.
func (w *world) event(b *box, ev policy.Event) {
	if !w.up {
		return
	}
	if b.hideSignal {
		ev.Signal = 0
	}
	if ev.EngineTime.IsZero() {
		ev.EngineTime = w.now
	}
	ev.Unit, ev.Container, ev.Generation, ev.Read = policy.Key(b.name, b.labels), b.id, w.gen, w.now
	w.deliver(ev)
	w.look(b)
}

// look reports an inspect of b.
func (w *world) look(b *box) {
	sent, gen := w.now, w.gen
	w.after(2*time.Millisecond, func() {
		if w.up && gen == w.gen && w.byID(b.id) == b {
			w.observe(b, 0, sent)
		}
	})
}

func (w *world) observe(b *box, decision uint64, sent time.Time) {
	if via, why := w.cfg.OptIn(b.labels); via == "" { // the engine only names it among the others
		w.deliver(policy.Event{Kind: policy.KindSynced, Generation: w.gen, Others: []policy.Other{{Name: b.name, Container: b.id, Why: why}}})
		return
	}
	if b.hung {
		w.deliver(policy.Event{Kind: policy.KindUnseen, Unit: policy.Key(b.name, b.labels), Container: b.id, Generation: w.gen, Read: w.now, Decision: decision, Reason: "context deadline exceeded"})
		return
	}
	o := b.observation(w.now)
	w.deliver(policy.Event{
		Kind: policy.KindObserved, Unit: policy.Key(b.name, b.labels), Container: b.id, Generation: w.gen, Read: w.now, Decision: decision, Observation: &o,
	})
	_ = sent
}

func (b *box) observation(now time.Time) policy.Observation {
	o := policy.Observation{
		Container: b.id, Name: b.name, Image: b.image, ImageID: b.imageID, ConfigHash: "c1", Labels: b.labels, Created: b.created,
		Status: b.status, Running: b.status == "running" || b.status == "restarting", Restarting: b.status == "restarting",
		Paused: b.paused, ExitCode: b.code, OOMKilled: b.oom, Error: b.err, StartedAt: b.started, FinishedAt: b.finished,
		RestartCount: b.restarts, RestartPolicy: b.policy, StopTimeout: b.stop, StopSignal: b.stopSig, GPU: cmp.Or(b.claim, claim(b.gpus)), Mounts: b.mounts,
		AutoRemove: b.autoRemove,
	}
	if o.Running && !o.Restarting {
		o.Uptime = now.Sub(b.started)
	}
	if b.paused {
		o.Status = "paused"
	}
	if b.check {
		o.Health = b.health(now)
	}
	return o
}

func (b *box) health(now time.Time) *policy.Health {
	h := &policy.Health{
		Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3, Status: "starting",
		FailingStreak: b.streak, Log: slices.Clone(b.probes),
	}
	if n := len(h.Log); n > 0 && h.Log[n-1].End.After(b.started) {
		last := h.Log[n-1].End
		if b.resumed.After(last) { // its checks rest in a pause
			last = b.resumed
		}
		if (b.sick || b.timeout || b.broken) && !b.paused && b.streak >= 3 && now.Sub(last) >= h.Interval { // it goes on failing
			h.Log[n-1].End = now
		}
		h.Status = "healthy"
		if b.streak >= 3 {
			h.Status = "unhealthy"
		}
	}
	if b.paused || b.status != "running" { // as Docker does, without an event
		h.Status = "unhealthy"
	}
	return h
}

// connect brings the engine connection up and lists everything.
func (w *world) connect(p policy.Process, uptime time.Duration) {
	w.gen++
	w.up = true
	w.deliver(policy.Event{Kind: policy.KindSourceUp, Generation: w.gen, Engine: &policy.Engine{Process: p, Uptime: uptime, Healers: w.healers}})
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range w.boxes {
			if !yield(n) {
				return
			}
		}
	}) {
		w.observe(w.boxes[name], 0, w.now)
	}
	w.deliver(policy.Event{Kind: policy.KindSynced, Generation: w.gen})
}

func (w *world) disconnect(why string) {
	w.up = false
	w.deliver(policy.Event{Kind: policy.KindSourceDown, Reason: why})
}

// restartDefib ends defib and starts it again from what it had stored.
func (w *world) restartDefib(boot string) {
	saved := w.m.Snapshot()
	w.m = policy.Restore(w.cfg, saved)
	w.up, w.alive, w.boot, w.lame = false, true, boot, false
	w.deliver(policy.Event{Kind: policy.KindDaemonStart, BootID: boot})
}

// setBack sets the host's clock back; what is planned comes no later for it.
func (w *world) setBack(d time.Duration) {
	w.now = w.now.Add(-d)
	for i := range w.todo {
		w.todo[i].at = w.todo[i].at.Add(-d)
	}
}

func (w *world) add(b *box) *box {
	w.ids++
	b.id = fmt.Sprintf("%s%s", strings.Repeat("0", 8), fmt.Sprintf("%04d", w.ids)) + strings.Repeat("f", 52)
	b.created = w.now
	if b.status == "" {
		b.status = "created"
	}
	w.boxes[b.name], w.byIDs[b.id] = b, b
	return b
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// claim is what a container asks for that names these GPUs.
func claim(ids []string) *gpu.Claim {
	switch {
	case len(ids) == 0:
		return nil
	case ids[0] == "all":
		return &gpu.Claim{Source: "--gpus", All: true, Certain: true}
	}
	return &gpu.Claim{Source: "--gpus", IDs: ids, Certain: true}
}
