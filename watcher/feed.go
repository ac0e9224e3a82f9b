package watcher

import (
	"context"
	"sync"

	"github.com/defib-dev/defib/watcher/policy"
)

const feedBuffer = 256

// Committed is a record that is in the journal, without its Changes.
type Committed struct {
	Record
	Lost int `json:"lost,omitempty"` // records missed before this one, because the reader was slow
}

// feed hands committed records to whoever follows them. It never waits for a
// reader.
type feed struct {
	mu      sync.Mutex
	readers map[*reader]bool
	ended   bool
}

type reader struct {
	out  chan Committed
	lost int
}

func newFeed() *feed { return &feed{readers: map[*reader]bool{}} }

// Subscribe returns the records that are committed from now on. The channel
// is closed when ctx or the watcher ends. A reader that falls more than 256
// records behind misses the newest; the next one it gets says how many.
// Who waits for the outcome of a command subscribes before giving it.
func (w *Watcher) Subscribe(ctx context.Context) <-chan Committed {
	r := &reader{out: make(chan Committed, feedBuffer)}
	if !w.feed.add(r) {
		close(r.out)
		return r.out
	}
	context.AfterFunc(ctx, func() { w.feed.remove(r) })
	return r.out
}

func (f *feed) add(r *reader) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.readers[r] = true
	return true
}

func (f *feed) remove(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readers[r] {
		delete(f.readers, r)
		close(r.out)
	}
}

func (f *feed) publish(records []Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		for _, rec := range records {
			rec.Changes = policy.Changes{}
			r.send(Committed{Record: rec})
		}
	}
}

func (r *reader) send(c Committed) {
	c.Lost = r.lost
	select {
	case r.out <- c:
		r.lost = 0
	default:
		r.lost++
	}
}

// end closes every channel.
func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for r := range f.readers {
		close(r.out)
	}
	clear(f.readers)
}
