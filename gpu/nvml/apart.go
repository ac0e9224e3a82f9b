package nvml

import (
	"context"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file lets the driver go between two looks. Some drivers reset no GPU as
// long as anybody holds their library, and the sentence that asks a human for a
// reset must work: so, while it stands, a child is there only as long as it
// looks, now and then or because somebody asks. Nobody else notices: the driver
// counts as up.

// begin notes that somebody asks; the child that is there stays until end.
func (p *Probe) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls++
}

func (p *Probe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls--
	if p.child != nil {
		p.child.rest()
	}
}

// reach returns the child, and waits for one where the driver is only let go
// between two looks. The error says why the driver cannot be asked.
func (p *Probe) reach(ctx context.Context) (*child, error) {
	for {
		p.mu.Lock()
		c, d, away, turned := p.child, p.driver, p.away, p.turned
		there := c != nil && !c.leaving
		p.mu.Unlock()
		switch {
		case there:
			return c, nil
		case !away || d.State != gpu.DriverUp:
			return nil, unreachable(d)
		}
		p.wake()
		select {
		case <-turned:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// rest tells the child's owner that there may be nothing left to do.
func (c *child) rest() {
	select {
	case c.rested <- struct{}{}:
	default:
	}
}

// leaves reports whether the child is to go now: it has looked, and nobody asks.
func (p *Probe) leaves(c *child) bool {
	if !c.looked.Load() || !p.o.Apart() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.polls > 0 {
		return false
	}
	c.leaving, p.away = true, true
	return true
}

// resting is how long no child is needed; 0: one is.
func (p *Probe) resting(w *waits) time.Duration {
	p.mu.Lock()
	away, asked := p.away, p.polls > 0
	p.mu.Unlock()
	left := w.look.Sub(p.now())
	if !away || asked || left <= 0 || !p.o.Apart() {
		return 0
	}
	return min(left, p.o.Every) // the need may end sooner
}

// dismiss lets the child end by itself, so that it gives the driver back in good
// order; who hangs is killed afterwards.
func (p *Probe) dismiss(c *child) {
	closeAll(c.in)
	waitFor(c.gone, p.o.Grace)
}
