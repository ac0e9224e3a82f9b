package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/system"

	"github.com/defib-dev/defib/watcher/policy"
)

// Is this the engine process that we were connected to before? It matters for
// the kills in its look-back: the same process took them from people, while a
// new one made them itself as it cleaned up at its start.
//
// The engine keeps its newest 256 events of all types in memory and forgets
// them when it ends. The newest one that we know of is the marker:
//   - it is still there: the same process;
//   - it is not there, although far fewer than 256 newer events are, and
//     nothing older: a ring that is not full has lost nothing, so this is
//     another one: a new process;
//   - the ring is full: it may have been pushed out. Health checks do that in
//     under a minute, so a second proof is tried: an engine process that ends
//     takes its containers with it, or stops them as it starts again; one that
//     has run on since we saw it proves the same process. With live-restore it
//     proves nothing, but then a start kills nothing either, and kills in the
//     look-back are what people did in both cases.
//
// Only engine times are compared, so no clock of ours can spoil the answer.

const (
	ringMax = 256 // events that Docker keeps
	// ringSure is below ringMax, because the answer may leave some out: those
	// newer than the call, and image events that old API versions do not know.
	ringSure = 200
	// survivorsMax bounds the inspects of the second proof.
	survivorsMax = 3
)

// eventKey is the identity of an engine event.
type eventKey struct {
	id     string
	action string
	nano   int64
}

func keyOf(m events.Message) eventKey {
	return eventKey{id: m.Actor.ID, action: string(m.Action), nano: m.TimeNano}
}

// process decides, and takes the ring's newest event as the marker of this
// generation if none is newer.
func (s *session) process(ctx context.Context, info system.Info) policy.Process {
	before, firstEver := s.marker, !s.connected
	s.connected = true
	if s.podman { // it has no process that could end, and keeps its events on disk
		return choose(firstEver, policy.ProcessSame)
	}
	ring, err := s.ring(ctx, info.SystemTime)
	if err != nil {
		s.o.Log.Warn("cannot read the engine's past events", "err", err)
	}
	for _, k := range ring {
		s.mark(k)
	}
	p := judgeRing(before, ring)
	if p == policy.ProcessUnknown && !firstEver && s.survivor(ctx) {
		p = policy.ProcessSame
	}
	return choose(firstEver, p)
}

// choose leaves the first connection undecided: it has none before it.
func choose(first bool, p policy.Process) policy.Process {
	if first {
		return policy.ProcessUnknown
	}
	return p
}

// judgeRing compares the marker with the engine's look-back.
func judgeRing(marker eventKey, ring []eventKey) policy.Process {
	if marker == (eventKey{}) {
		return policy.ProcessUnknown
	}
	if slices.Contains(ring, marker) {
		return policy.ProcessSame
	}
	older := func(k eventKey) bool { return k.nano <= marker.nano }
	if len(ring) < ringSure && !slices.ContainsFunc(ring, older) {
		return policy.ProcessNew
	}
	return policy.ProcessUnknown
}

// ring reads the engine's whole look-back, up to a time of its own that has
// passed: then it answers at once and ends.
func (s *session) ring(ctx context.Context, until string) ([]eventKey, error) {
	end, err := time.Parse(time.RFC3339Nano, until)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	messages, errs := s.cli.Events(ctx, events.ListOptions{Since: stamp(time.Unix(0, 1)), Until: stamp(end)})
	var ring []eventKey
	for {
		select {
		case m := <-messages:
			if ring = append(ring, keyOf(m)); len(ring) > ringMax {
				ring = ring[1:] // no Docker Engine: keep the newest
			}
		case err := <-errs:
			if errors.Is(err, io.EOF) {
				return ring, nil
			}
			return nil, err
		}
	}
}

// survivor reports whether a container runs on that ran before.
func (s *session) survivor(ctx context.Context) bool {
	tried := 0
	for _, id := range s.watchedIDs() {
		c := s.known[id]
		if !c.running || tried == survivorsMax {
			continue
		}
		tried++
		ev := s.look(ctx, id, c.key)
		if o := ev.Observation; o != nil && o.Running && o.StartedAt.Equal(c.started) {
			return true
		}
	}
	return false
}

// mark keeps the newest event as the marker.
func (m *memory) mark(k eventKey) {
	if k.nano > m.marker.nano {
		m.marker = k
	}
}

// handled notes an event of the stream that has reached the loop: the next
// connection reads on from there.
func (m *memory) handled(k eventKey) {
	m.mark(k)
	if at := time.Unix(0, k.nano).Add(-reorder); at.After(m.since) {
		m.since = at
	}
}

// recent remembers the newest events, more of them than an engine can repeat.
type recent struct {
	keys map[eventKey]struct{}
	ring []eventKey
	next int
}

// add reports whether the event is new.
func (r *recent) add(k eventKey) bool {
	if r.keys == nil {
		r.keys, r.ring = make(map[eventKey]struct{}), make([]eventKey, 2*ringMax)
	}
	if _, ok := r.keys[k]; ok {
		return false
	}
	delete(r.keys, r.ring[r.next])
	r.keys[k], r.ring[r.next] = struct{}{}, k
	r.next = (r.next + 1) % len(r.ring)
	return true
}
