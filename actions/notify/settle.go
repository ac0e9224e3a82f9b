package notify

import (
	"context"
	"time"
)

// After a start only the journal is known, which says how things were: what
// had been given up may have been well for hours. So nothing is told of
// incidents before the units have been looked at. An alarm is about defib.

const (
	settleMost = 30 * time.Second // a page is not kept back longer for a host that cannot be looked at
	settleLook = 100 * time.Millisecond
)

// settle waits until the units have been looked at, and lets all go that waits
// for it.
func (n *Notifier) settle(ctx context.Context) {
	n.awaitSettled(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settled = true
	for _, c := range n.channels {
		c.again()
	}
}

func (n *Notifier) awaitSettled(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, settleMost)
	defer stop()
	tick := time.NewTicker(settleLook)
	defer tick.Stop()
	for !n.o.Settled() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
