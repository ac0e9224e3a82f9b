package nvml

import (
	"context"
	"sync"

	"github.com/defib-dev/defib/watcher/policy"
)

// maxMail bounds what waits for a loop that does not read: 1024 events, more
// than any storm makes while a batch is committed.
const maxMail = 1024

// mail hands events over in order. Posting never blocks: the goroutine that
// keeps the child's deadlines must not wait for the loop.
type mail struct {
	ready chan struct{}

	mu      sync.Mutex
	waiting []policy.Event
}

func newMail() *mail { return &mail{ready: make(chan struct{}, 1)} }

// post drops the oldest when nobody reads.
func (m *mail) post(ev policy.Event) {
	m.mu.Lock()
	if len(m.waiting) >= maxMail {
		m.waiting = m.waiting[1:]
	}
	m.waiting = append(m.waiting, ev)
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mail) take() []policy.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.waiting
	m.waiting = nil
	return out
}

// deliver hands events to out until ctx ends.
func (m *mail) deliver(ctx context.Context, out chan<- policy.Event) {
	for {
		for _, ev := range m.take() {
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-m.ready:
		case <-ctx.Done():
			return
		}
	}
}
