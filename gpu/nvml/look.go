package nvml

import (
	"context"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// This file takes in what the child says, and asks it to look.

// take takes in one line. over: it was the child's last.
func (p *Probe) take(c *child, m message) (e ending, over bool) {
	switch a := c.answer(m.ID); {
	case m.Op == opDriver && m.Driver != nil && m.Driver.State != gpu.DriverUp:
		return ending{driver: *m.Driver, code: m.Code}, true
	case m.Op == opDriver && m.Driver != nil:
		p.listed(c, m)
	case m.Op == opWorking:
		c.place = m.Place
		if a != nil {
			a.began = true
		}
	case m.Op == opReading && m.Reading != nil && a != nil:
		a.got = append(a.got, *m.Reading)
	case m.Op == opReading && m.Reading != nil && m.ID == 0:
		p.tell(*m.Reading)
	case m.Op == opDone && a != nil:
		c.pending = c.pending[1:]
		a.reply <- a.got
	case m.Op == opFault && m.Fault != nil:
		p.fault(*m.Fault)
	case m.Op == opLook:
		select {
		case c.kick <- struct{}{}:
		default:
		}
	}
	return ending{}, false
}

// tell reports a reading that the child made of its own accord.
func (p *Probe) tell(r gpu.Reading) {
	r.At = p.o.Now()
	p.unbound(&r)
	one := []gpu.Reading{r}
	p.keep(one)
	p.report(one, false)
}

// fault reports one. A GPU that was taken from the driver has not fallen off
// the bus.
func (p *Probe) fault(f gpu.Fault) {
	if f.Kind == gpu.FaultBusLoss && p.takenBy(f.UUID) != "" {
		return
	}
	f.At, f.Source = p.o.Now(), gpu.SourceNVML
	p.mail.post(policy.Event{At: f.At, Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &f}})
}

// listed notes what the driver lists. That it is up is said once it has also
// answered a poll.
func (p *Probe) listed(c *child, m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.driver, c.devices, c.place = *m.Driver, m.Devices, 0
	for _, d := range m.Devices {
		if d.UUID != d.PCI {
			p.forget(d.PCI) // it went by its address until it was listed
		}
		p.devices[d.UUID] = d
	}
	if !c.isReady() {
		close(c.ready)
	}
}

// forget drops a GPU. p.mu is held.
func (p *Probe) forget(uuid string) {
	delete(p.devices, uuid)
	delete(p.readings, uuid)
	delete(p.reported, uuid)
	delete(p.pasts, uuid)
}

// look reads all GPUs now and then; once, while the driver is let go after it.
func (p *Probe) look(ctx context.Context, c *child) {
	select {
	case <-c.ready:
	case <-c.over:
		return
	}
	tick := time.NewTicker(p.o.Every)
	defer tick.Stop()
	var listed time.Time // when the processes were
	for {
		apart := p.o.Apart()
		all := apart || listed.IsZero() || time.Since(listed) >= p.o.ProcessesEvery-p.o.Every/2
		if all {
			listed = time.Now()
		}
		if (!apart || !c.looked.Load()) && !p.lookOnce(ctx, c, all) {
			return
		}
		c.looked.Store(true)
		if apart {
			c.rest()
		}
		select {
		case <-tick.C:
		case <-c.kick:
			c.looked.Store(false)
		case <-c.over:
			return
		}
	}
}

// lookOnce reads all GPUs. While the driver is let go, each look is told: there
// are few, and who waits for a GPU to be well counts them.
func (p *Probe) lookOnce(ctx context.Context, c *child, all bool) bool {
	p.mu.Lock()
	uuids := p.uuids()
	p.mu.Unlock()
	readings, err := p.ask(ctx, c, request{Op: opPoll, UUIDs: uuids, Processes: all, List: all})
	if err != nil {
		return false
	}
	p.mu.Lock()
	driver, devices := c.driver, c.devices
	p.mu.Unlock()
	p.set(driver, devices)
	p.report(readings, p.o.Apart())
	return true
}
