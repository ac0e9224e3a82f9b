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
//     under a minute, and so does a start of many containers. Then the list
//     decides: an engine process that ends takes its containers with it, or
//     stops them as it starts again. One that has run for longer than we were
//     cut off proves the same process. On this very host, where no network can
//     cut us off, the end of all that ran proves a new one. With live-restore
//     containers prove nothing; but then a start kills nothing either, and
//     kills in the look-back are what people did in both cases.
//
// Only engine times are compared with each other, so no clock of ours can
// spoil the answer.

const (
	ringMax = 256 // events that Docker keeps
	// ringSure is below ringMax, because the answer may leave some out: those
	// newer than the call, and image events that old API versions do not know.
	ringSure = 200
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

// process decides, takes the ring's newest event as the marker of this
// generation if none is newer, and keeps what the stream is going to repeat.
func (s *session) process(ctx context.Context, info system.Info, l listed) policy.Process {
	before, firstEver := s.marker, !s.connected
	s.connected = true
	past, err := s.past(ctx)
	if err != nil {
		s.o.Log.Warn("cannot read the engine's past events", "err", err)
	}
	ring := make([]eventKey, 0, len(past))
	for _, m := range past {
		ring = append(ring, keyOf(m))
		s.mark(keyOf(m))
		if relevant(m) && !time.Unix(0, m.TimeNano).Before(s.since) {
			s.lookBack = append(s.lookBack, item{message: m, read: s.o.Now()})
		}
	}
	p := policy.ProcessUnknown
	switch {
	case firstEver: // there is none before it
	case s.podman: // it has no process that could end
		p = policy.ProcessSame
	case err == nil:
		p = judgeRing(before, ring)
	}
	if p == policy.ProcessUnknown && !firstEver {
		p = s.judgeRuns(l, s.local() && !info.LiveRestoreEnabled)
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

// past reads the engine's whole look-back up to now: such an answer ends by
// itself. Podman keeps its events on disk, so only the part that matters is
// asked for.
func (s *session) past(ctx context.Context) ([]events.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	o := events.ListOptions{Since: stamp(time.Unix(0, 1)), Until: stamp(s.clock.engine(s.o.Now()))}
	if s.podman {
		o.Since, o.Filters = stamp(s.since), eventFilter()
	}
	messages, errs := s.cli.Events(ctx, o)
	var past []events.Message
	for {
		select {
		case m := <-messages:
			if past = append(past, m); len(past) > ringMax {
				past = past[1:] // no Docker Engine: keep the newest
			}
		case err := <-errs:
			if errors.Is(err, io.EOF) {
				return past, nil
			}
			return nil, err
		}
	}
}

// judgeRuns looks for containers that ran on while we were cut off, and, where
// their end proves something, whether all have ended that ran before.
func (s *session) judgeRuns(l listed, endProves bool) policy.Process {
	cut := l.sent.Sub(s.heard)
	engineNow := s.clock.engine(l.sent)
	runs := make(map[string]statusText)
	for _, sum := range l.containers {
		st := parseStatus(sum.Status)
		if st.up {
			runs[sum.ID] = st
		}
		if st.up && st.atLeast > cut+statusSlack {
			return policy.ProcessSame
		}
	}
	ended := 0
	for id, k := range s.known {
		if !k.running {
			continue
		}
		if st, up := runs[id]; up && engineNow.Sub(k.started) <= st.atMost+statusSlack {
			return policy.ProcessUnknown // it may have run on
		}
		ended++
	}
	if endProves && ended > 0 {
		return policy.ProcessNew
	}
	return policy.ProcessUnknown
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
