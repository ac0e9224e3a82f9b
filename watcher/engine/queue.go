package engine

import (
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
)

// queueMax bounds the events that wait for the loop. Whoever falls behind by
// that many starts over with a new connection, which costs less than an engine
// slowed down by us.
const queueMax = 8192

// item is one thing that waits for the loop: an engine event, or a mark that
// is closed once everything before it has been emitted.
type item struct {
	message events.Message
	read    time.Time
	emitted chan struct{}
}

// queue takes events from the reader without ever blocking it. A health event
// is only a reason to inspect, so one per container waits at a time.
type queue struct {
	now   func() time.Time
	ready chan struct{} // holds one token while something waits

	mu      sync.Mutex // guards what follows
	items   []item
	inspect map[string]bool // containers with a health event among items
}

func newQueue(now func() time.Time) *queue {
	return &queue{now: now, ready: make(chan struct{}, 1), inspect: make(map[string]bool)}
}

// push adds one event and stamps it; it reports false when the queue is full.
// The stamp is taken under the lock: whoever drains the queue after a time has
// all events that were stamped before it.
func (q *queue) push(m events.Message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= queueMax {
		return false
	}
	if isHealth(m.Action) {
		if q.inspect[m.Actor.ID] {
			return true
		}
		q.inspect[m.Actor.ID] = true
	}
	q.add(item{message: m, read: q.now()})
	return true
}

// mark returns a channel that is closed once everything that waits now has
// been emitted.
func (q *queue) mark() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	emitted := make(chan struct{})
	q.add(item{emitted: emitted})
	return emitted
}

func (q *queue) add(it item) {
	q.items = append(q.items, it)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *queue) take() []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	clear(q.inspect)
	return items
}

// isHealth reports whether an action is a health event: Docker writes
// "health_status: unhealthy", Podman only "health_status".
func isHealth(a events.Action) bool {
	return strings.HasPrefix(string(a), string(events.ActionHealthStatus))
}
