package nvml

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

const (
	maxAbandoned = 3              // children that hang in the kernel before no more are started
	startFactor  = 6              // a start may take longer than an answer: without persistence mode each GPU needs seconds
	forever      = 24 * time.Hour // nothing is due; a poke comes first
)

// Watch implements the daemon's source of facts: the state of the driver and
// its devices, readings that say something new, and faults at once. It starts
// and restarts the child itself, and returns when ctx ends.
func (p *Probe) Watch(ctx context.Context, out chan<- policy.Event) error {
	var owned sync.WaitGroup
	owned.Go(func() { p.mail.deliver(ctx, out) })
	defer owned.Wait()
	w := waits{o: p.o, next: p.o.Backoff, absent: p.o.Look}
	for ctx.Err() == nil {
		timer := p.timer(p.round(ctx, &w))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.poke:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// round does what is to be done now, and returns how long nothing will be.
func (p *Probe) round(ctx context.Context, w *waits) time.Duration {
	p.mu.Lock()
	released, stuck := p.released, p.abandoned
	p.mu.Unlock()
	switch {
	case !built:
		p.set(gpu.Driver{State: gpu.DriverAbsent, Detail: "this defib was built without GPU support"}, nil)
		return forever
	case released:
		w.until = time.Time{} // afterwards there is no reason to wait
		return forever
	case stuck >= maxAbandoned:
		p.set(gpu.Driver{State: gpu.DriverHung, Detail: fmt.Sprintf("%d GPU probes hang in the NVIDIA driver and cannot be ended; no more are started until one ends", stuck)}, nil)
		return forever
	case w.until.After(p.now()): // poked while waiting
		return w.until.Sub(p.now())
	}
	if left := p.resting(w); left > 0 {
		return left
	}
	if _, err := os.Stat(p.o.DevicePath); err != nil {
		p.set(p.noDevice(), nil)
		return p.o.Look
	}
	began := p.now()
	e := p.live(ctx)
	switch {
	case ctx.Err() != nil:
		return 0
	case e.apart:
		w.next, w.look = p.o.Backoff, began.Add(p.o.ApartEvery)
		return 0
	case e.quiet:
		return 0
	}
	p.set(e.driver, nil)
	pause := w.pause(e, p.now().Sub(began))
	w.until = p.now().Add(pause)
	return pause
}

// noDevice: there is no driver, or it is not for us.
func (p *Probe) noDevice() gpu.Driver {
	return gpu.Driver{State: gpu.DriverAbsent, Unloaded: true, Detail: "there is no NVIDIA driver here (no " + p.o.DevicePath +
		"), so GPUs are not looked at; where defib runs in a container on a host with GPUs, deploy/compose.gpu.yaml shows what it needs"}
}

// waits are the pauses between two children.
type waits struct {
	o      Options
	next   time.Duration // after a death
	absent time.Duration // after a driver that is not loaded
	until  time.Time     // the present pause; a poke does not shorten it
	look   time.Time     // of the next look while the driver is let go
}

// pause is that after a child that lived for so long.
func (w *waits) pause(e ending, lived time.Duration) time.Duration {
	switch {
	case e.driver.State == gpu.DriverMismatch:
		return w.o.Look
	case e.code == codeLibraryNotFound:
		return w.o.LookLibrary
	case e.driver.State == gpu.DriverAbsent:
		pause := w.absent
		w.absent = min(2*w.absent, w.o.LookLibrary)
		return pause
	}
	w.absent = w.o.Look
	if lived >= w.o.Steady {
		w.next = w.o.Backoff
	}
	pause := w.next
	w.next = min(2*w.next, w.o.BackoffMax)
	return pause
}

// live is one child, from its start to its end.
func (p *Probe) live(ctx context.Context) ending {
	c, err := p.launchUnlessReleased()
	switch {
	case err != nil:
		return ending{driver: gpu.Driver{State: gpu.DriverLost, Detail: fmt.Sprintf("start the GPU probe: %v", err)}}
	case c == nil:
		return ending{quiet: true}
	}
	var owned sync.WaitGroup
	owned.Go(c.read)
	owned.Go(func() { p.look(ctx, c) })
	e := p.attend(ctx, c)
	c.why = errors.New(e.driver.Detail)
	if e.quiet {
		c.why = errReleased
	}
	if e.died { // what it said last is read before it is buried
		waitFor(c.gone, p.o.Grace)
		e.driver = lost(c.lastWords())
		c.why = errors.New(e.driver.Detail)
	}
	close(c.over)
	if e.quiet && ctx.Err() == nil {
		p.dismiss(c)
	}
	p.bury(c)
	p.mu.Lock()
	p.child = nil
	p.mu.Unlock()
	owned.Wait()
	if e.stuck.UUID != "" {
		e.stuck.At = p.o.Now()
		stuck := []gpu.Reading{e.stuck}
		p.keep(stuck)
		p.report(stuck, false)
	}
	return e
}

// launchUnlessReleased returns nil when the driver is to be let alone.
func (p *Probe) launchUnlessReleased() (*child, error) {
	p.birth.Lock()
	defer p.birth.Unlock()
	p.mu.Lock()
	released := p.released
	p.mu.Unlock()
	if released {
		return nil, nil //nolint:nilnil // no child is not an error
	}
	c, err := p.launch()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.child, p.away = c, false
	p.announce()
	p.mu.Unlock()
	return c, nil
}

// waitFor reports whether done was closed in time.
func waitFor(done <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// attend passes polls to the child and takes in what it says, until one of the
// two has had enough.
func (p *Probe) attend(ctx context.Context, c *child) ending {
	deadline := time.NewTimer(startFactor * p.o.Deadline)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			return ending{quiet: true}
		case <-c.dying:
			return ending{quiet: true}
		case <-c.rested:
			if p.leaves(c) {
				return ending{quiet: true, apart: true}
			}
		case a := <-c.asks:
			if len(c.pending) >= maxPending || c.send(a, p.o.Deadline) != nil {
				return p.missed(c)
			}
			if len(c.pending) == 1 && c.isReady() {
				deadline.Reset(p.o.Deadline)
			}
		case m, ok := <-c.lines:
			if !ok {
				return ending{died: true}
			}
			if e, over := p.take(c, m); over {
				return e
			}
			p.rearm(c, deadline)
		case <-deadline.C:
			if len(c.lines) > 0 { // it was we who were late
				deadline.Reset(p.o.Deadline)
				continue
			}
			return p.missed(c)
		}
	}
}

// rearm gives the child its time anew, since it has just said something.
func (p *Probe) rearm(c *child, deadline *time.Timer) {
	switch {
	case !c.isReady():
		deadline.Reset(startFactor * p.o.Deadline)
	case len(c.pending) > 0:
		deadline.Reset(p.o.Deadline)
	default:
		deadline.Stop()
	}
}

func (c *child) isReady() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// missed is a deadline that has passed. The GPU at which the child stands is
// known: it reads them one by one.
func (p *Probe) missed(c *child) ending {
	e := ending{driver: hung(p.o.Deadline)}
	if !c.isReady() {
		e.driver = hung(startFactor * p.o.Deadline)
	}
	if uuid := p.standsAt(c); uuid != "" {
		e.stuck = gpu.Reading{UUID: uuid, Trouble: gpu.TroubleTimeout, Detail: "the driver did not answer in time when it was asked for this GPU"}
	}
	return e
}

// standsAt is the GPU with which the child is busy; empty when it is not known.
func (p *Probe) standsAt(c *child) string {
	if c.place > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		known := slices.Concat(c.devices, p.told) // the newest list first: two may have had one index
		for _, uuid := range p.uuids() {
			known = append(known, p.devices[uuid])
		}
		for _, d := range known {
			if d.Index == c.place-1 {
				return d.UUID
			}
		}
		return ""
	}
	if len(c.pending) > 0 && c.pending[0].began && len(c.pending[0].got) < len(c.pending[0].UUIDs) {
		return c.pending[0].UUIDs[len(c.pending[0].got)]
	}
	return ""
}
