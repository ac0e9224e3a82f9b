package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// FuzzWorld lets bytes decide what happens on a simulated host, and checks
// the invariants after every step and at the end.
func FuzzWorld(f *testing.F) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, 40+r.IntN(400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4000 {
			return
		}
		cfg := policy.Default()
		cfg.MaxParallel, cfg.HoldFor = 3, time.Hour
		w := newWorld(cfg)
		c := check(t, w)
		d := &dice{data: data}
		populate(w, d)
		w.connect(policy.ProcessUnknown, 0)
		if w.cards.plug(d.roll(3)); len(w.cards.list) > 0 {
			mendGPUs(w)
		}
		for !d.empty() {
			upset(w, d)
			w.advance(w.now.Add(d.pause()))
		}
		if !w.alive {
			w.restartDefib("boot-1")
		}
		if !w.up {
			w.connect(policy.ProcessSame, 0)
		}
		w.advance(w.now.Add(5 * time.Hour)) // every operator's hold has ended
		c.resolved()
		mendGPUs(w)
		for _, name := range sorted(w.boxes) {
			b := w.boxes[name]
			b.startErr, b.sick, b.sticky, b.timeout, b.broken, b.crashEvery, b.stuck = "", false, false, false, false, 0, false
			if b.status == "running" && b.check {
				w.probe(b)
			}
		}
		w.advance(w.now.Add(8 * time.Hour))
		c.resolved()
		c.compare()
	})
}

// dice reads choices off the fuzzer's bytes.
type dice struct {
	data []byte
	at   int
}

func (d *dice) empty() bool { return d.at >= len(d.data) }

func (d *dice) roll(n int) int {
	if d.empty() {
		return 0
	}
	d.at++
	return int(d.data[d.at-1]) % n
}

func (d *dice) pause() time.Duration {
	return []time.Duration{
		time.Millisecond, 3 * time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond, time.Second, 4 * time.Second, 11 * time.Second,
		31 * time.Second, 65 * time.Second, 6 * time.Minute, 17 * time.Minute, 50 * time.Minute,
	}[d.roll(12)]
}

func populate(w *world, d *dice) {
	for i := range 3 + d.roll(8) {
		b := &box{
			name: fmt.Sprintf("c%d", i), image: "vllm/vllm:1", imageID: "sha256:" + fmt.Sprint(d.roll(4)), check: d.roll(4) > 0,
			load: time.Duration(1+d.roll(90)) * time.Second, policy: []string{"", "always", "unless-stopped", "on-failure"}[d.roll(4)],
			labels: map[string]string{}, output: "no", deaf: d.roll(6) == 0, stop: time.Duration(d.roll(3)) * 10 * time.Second,
		}
		switch d.roll(8) {
		case 0:
			b.labels["autoheal"] = "true"
		case 1:
			b.image = "postgres:16"
			fallthrough
		default:
			b.labels["defib.enable"] = "true"
		}
		if d.roll(3) == 0 {
			b.gpus = []string{fmt.Sprint(d.roll(2))}
		}
		if d.roll(3) == 0 {
			b.mounts = []string{"/models"}
		}
		w.add(b)
		w.start(b, false)
	}
}

// upset makes one thing happen.
func upset(w *world, d *dice) {
	names := sorted(w.boxes)
	if len(names) == 0 {
		return
	}
	b := w.boxes[names[d.roll(len(names))]]
	switch d.roll(33) {
	case 0, 1, 2:
		b.sick, b.sticky = true, d.roll(3) == 0
		probeIfUp(w, b)
	case 3:
		b.timeout = true
		probeIfUp(w, b)
	case 4:
		b.broken = true
		probeIfUp(w, b)
	case 5, 6:
		b.sick, b.sticky, b.timeout, b.broken = false, false, false, false
		probeIfUp(w, b)
	case 7, 8:
		if b.status == "running" && !b.paused {
			w.exit(b, []int{0, 1, 2, 127, 137, 143}[d.roll(6)], false)
		}
	case 9:
		if b.status == "running" && !b.paused {
			w.event(b, policy.Event{Kind: policy.KindOOM})
			b.oom = true
			w.exit(b, 137, false)
		}
	case 10:
		b.startErr = []string{"", "no such device"}[d.roll(2)]
	case 11:
		b.crashEvery, b.crashCode = time.Duration(d.roll(4))*7*time.Second, d.roll(3)
	case 12:
		w.halt(b, 10*time.Second, true, func() {})
	case 13:
		w.start(b, false)
	case 14:
		w.halt(b, 10*time.Second, false, func() {
			w.start(b, false)
			w.event(b, policy.Event{Kind: policy.KindRestart})
		})
	case 15:
		if b.status == "running" {
			b.paused, b.resumed = !b.paused, w.now
			w.event(b, policy.Event{Kind: policy.KindPause})
		}
	case 16:
		remove(w, b)
	case 17:
		w.disconnect("the stream broke")
	case 18, 19:
		if !w.up && w.alive {
			w.connect([]policy.Process{policy.ProcessSame, policy.ProcessUnknown}[d.roll(2)], 0)
		}
	case 20:
		w.alive, w.up = false, false
	case 21:
		if !w.alive {
			w.restartDefib("boot-1")
			w.connect(policy.ProcessUnknown, 0)
		}
	case 22:
		order(w, b, d)
	case 23:
		if w.up {
			hold := &policy.Hold{Reason: policy.HoldGPU, Scope: policy.ScopeGPU, Target: fmt.Sprint(d.roll(2)), Why: "Xid 79"}
			w.deliver(policy.Event{Kind: []policy.Kind{policy.KindHoldSet, policy.KindHoldCleared}[d.roll(2)], Hold: hold})
		}
	case 24:
		b.stuck = d.roll(4) == 0
	case 25: // many at once
		for _, n := range names {
			if d.roll(2) == 0 {
				w.boxes[n].sick = true
				probeIfUp(w, w.boxes[n])
			}
		}
	default:
		upsetGPU(w, b, d)
	}
}

// upsetGPU makes one thing happen to a GPU.
func upsetGPU(w *world, b *box, d *dice) {
	if len(w.cards.list) == 0 || !w.alive {
		return
	}
	c := w.cards.list[d.roll(len(w.cards.list))]
	switch d.roll(9) {
	case 0:
		to := gpu.Recovery(d.roll(3))
		c.reading.Recovery = &to
		w.tellCard(c)
	case 1:
		c.reading.Trouble = []gpu.Trouble{"", gpu.TroubleLost, gpu.TroubleReset}[d.roll(3)]
		w.tellCard(c)
	case 2, 3:
		w.cards.seq++
		pid := 100 + d.roll(5)
		w.cards.ended[pid], w.cards.own[pid] = d.roll(2) == 0, d.roll(3) > 0
		f := gpu.Fault{
			At: w.now, Kind: gpu.FaultXid, Code: []int{13, 31, 43, 45, 48, 62, 63, 79, 94, 95, 119, 154, 500}[d.roll(13)], PCI: c.device.PCI,
			PID: pid, Process: "worker", Containers: []string{b.id}, Source: gpu.SourceKernel, Seq: w.cards.seq, Historic: d.roll(8) == 0,
		}
		w.deliver(policy.Event{Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &f}})
	case 4:
		w.cards.driver.State = []gpu.DriverState{gpu.DriverUp, gpu.DriverUp, gpu.DriverHung, gpu.DriverMismatch, gpu.DriverLost}[d.roll(5)]
		w.tellDriver()
	case 5:
		proc := gpu.Process{PID: 200 + d.roll(3), Memory: 40 << 30, Containers: []string{b.id}, Dead: d.roll(3) == 0}
		c.reading.Processes, c.reading.Used = []gpu.Process{proc}, 40<<30
		w.tellCard(c)
	case 6:
		c.reading.Processes, c.reading.Used, c.reading.Hot = nil, 0, d.roll(3) == 0
		w.tellCard(c)
	case 7:
		order := []policy.Order{policy.OrderRelease, policy.OrderReset}[d.roll(2)]
		w.cards.resetErr = []string{"", "in use"}[d.roll(2)]
		w.deliver(policy.Event{Kind: policy.KindCommand, Command: &policy.Command{Order: order, GPU: fmt.Sprint(c.device.Index), By: "ann"}})
	case 8:
		b.signs = []gpu.Sign{gpu.SignAccessLost}[:d.roll(2)]
	}
}

// mendGPUs ends all that is wrong with the GPUs.
func mendGPUs(w *world) {
	if len(w.cards.list) == 0 {
		return
	}
	w.cards.driver.State = gpu.DriverUp
	w.tellDriver()
	for _, c := range w.cards.list {
		w.resetCard(c.device.UUID)
		w.tellCard(c)
	}
}

func probeIfUp(w *world, b *box) {
	if b.status == "running" && b.check && !b.paused {
		w.probe(b)
	}
}

func remove(w *world, b *box) {
	if b.status == "running" {
		w.event(b, policy.Event{Kind: policy.KindKill, Signal: 9})
		b.run++
		b.status = "exited"
	}
	w.event(b, policy.Event{Kind: policy.KindDestroy})
	delete(w.boxes, b.name)
}

func order(w *world, b *box, d *dice) {
	c := &policy.Command{
		Order: []policy.Order{policy.OrderRestart, policy.OrderStop, policy.OrderRetry, policy.OrderHold, policy.OrderRelease}[d.roll(5)],
		Unit:  policy.Key(b.name, b.labels), By: "ann",
	}
	if d.roll(5) == 0 && (c.Order == policy.OrderHold || c.Order == policy.OrderRelease) {
		c.Unit, c.All = "", true
	}
	w.deliver(policy.Event{Kind: policy.KindCommand, Command: c})
}

// FuzzStep feeds events that no engine would send in such an order: the
// Machine must stand them, and decide the same on the same.
func FuzzStep(f *testing.F) {
	f.Add([]byte("0123456789"))
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	kinds := []policy.Kind{
		policy.KindDaemonStart, policy.KindSourceUp, policy.KindSourceUp, policy.KindSourceDown, policy.KindSynced, policy.KindObserved, policy.KindObserved,
		policy.KindObserved, policy.KindObserved, policy.KindUnseen, policy.KindStart, policy.KindKill, policy.KindDie, policy.KindStop, policy.KindOOM,
		policy.KindPause, policy.KindDestroy, policy.KindOutcome, policy.KindOutcome, policy.KindCommand, policy.KindHoldSet, policy.KindHoldCleared, policy.KindTick,
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4000 {
			return
		}
		d := &dice{data: data}
		cfg := policy.Default()
		m, twin := policy.New(cfg), policy.New(cfg)
		now, last := epoch, uint64(0)
		for !d.empty() {
			now = now.Add(d.pause())
			ev := policy.Event{
				At: now, Kind: kinds[d.roll(len(kinds))], Unit: fmt.Sprintf("c%d", d.roll(4)), Generation: uint64(1 + d.roll(2)),
				Read: now.Add(-time.Duration(d.roll(3)) * time.Second), Signal: []int{15, 9, 1}[d.roll(3)], ExitCode: d.roll(3), Decision: last,
				Engine: &policy.Engine{Process: []policy.Process{policy.ProcessNew, policy.ProcessSame, policy.ProcessUnknown}[d.roll(3)]},
			}
			ev.Container = fmt.Sprintf("%s-%d", ev.Unit, d.roll(2))
			ev.Observation = randomObservation(ev, d, now)
			ev.Outcome = &policy.Outcome{Class: []policy.Class{policy.OutcomeOK, policy.OutcomeFailed, policy.OutcomeStuck, policy.OutcomeGone}[d.roll(4)]}
			ev.Command = &policy.Command{Order: []policy.Order{policy.OrderRestart, policy.OrderStop, policy.OrderRetry, policy.OrderHold, policy.OrderRelease}[d.roll(5)], Unit: ev.Unit}
			ev.Hold = &policy.Hold{Reason: []policy.HoldReason{policy.HoldGPU, policy.HoldDisk, policy.HoldVRAM}[d.roll(3)], Scope: policy.ScopeHost, Why: "because"}
			one := m.Step(ev)
			if d.at%5 == 0 {
				twin = policy.Restore(cfg, roundTrip(t, twin.Snapshot()))
			}
			two := twin.Step(ev)
			if encode(t, one) != encode(t, two) {
				t.Fatalf("%s: %s or %s", invRestored, encode(t, one), encode(t, two))
			}
			for _, dec := range one {
				last = dec.ID
			}
			m.Statuses()
		}
	})
}

func randomObservation(ev policy.Event, d *dice, now time.Time) *policy.Observation {
	o := &policy.Observation{
		Container: ev.Container, Name: ev.Unit, Labels: map[string]string{"defib.enable": []string{"true", "TRUE", "no", "true"}[d.roll(4)]},
		ImageID: fmt.Sprint(d.roll(2)), Status: []string{"created", "running", "exited", "restarting", "dead"}[d.roll(5)],
		StartedAt: epoch.Add(time.Duration(d.roll(3)) * time.Hour), RestartCount: d.roll(3), RestartPolicy: []string{"", "always"}[d.roll(2)],
		ExitCode: d.roll(2), Error: []string{"", "", "no such device"}[d.roll(3)], Paused: d.roll(9) == 0, Created: epoch.Add(time.Duration(d.roll(3)) * time.Hour),
	}
	o.Running = o.Status == "running" || o.Status == "restarting"
	o.Restarting = o.Status == "restarting"
	if d.roll(2) == 0 {
		o.Health = &policy.Health{Status: []string{"starting", "healthy", "unhealthy"}[d.roll(3)], FailingStreak: d.roll(5)}
		if d.roll(4) > 0 {
			o.Health.Log = []policy.Probe{{Start: now, End: now.Add(4 * time.Hour), ExitCode: d.roll(3) - 1}}
		}
	}
	return o
}
