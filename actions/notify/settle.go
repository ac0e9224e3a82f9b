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
	await(ctx, settleMost, settleLook, n.o.Settled)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settled = true
	for _, c := range n.channels {
		c.again()
	}
}

// await looks at each interval whether it is so, and waits for that at most so
// long.
func await(ctx context.Context, most, every time.Duration, so func() bool) {
	ctx, stop := context.WithTimeout(ctx, most)
	defer stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
