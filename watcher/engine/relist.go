package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
)

// begin takes the first list of a generation: every watched container is to
// be observed, whatever was known of it.
func (s *session) begin(l listed) {
	for _, id := range slices.Sorted(maps.Keys(s.known)) {
		s.known[id].seen = false
	}
	s.compare(l)
	for _, sum := range l.containers {
		if s.known[sum.ID].watched {
			s.first[sum.ID] = true
		}
	}
}

// compare asks for an inspect of every watched container of which a list says
// something else than what is known, and of those that it lacks: their
// inspect will say that they are gone.
func (s *session) compare(l listed) {
	listed := make(map[string]bool, len(l.containers))
	engineNow := s.clock.engine(l.sent)
	for _, sum := range l.containers {
		listed[sum.ID] = true
		if k := s.track(sum, l.sent); k != nil && k.watched && k.event.Before(l.sent) && k.differs(sum, engineNow) {
			s.pool.add(sum.ID, false)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.known)) {
		k := s.known[id]
		switch {
		case listed[id] || k.added.After(l.sent) || k.event.After(l.sent):
		case k.watched:
			s.pool.add(id, false)
		default:
			delete(s.known, id)
		}
	}
	maps.DeleteFunc(s.gone, func(_ string, at time.Time) bool { return at.Before(l.sent.Add(-s.o.Relist)) })
}

// track finds or takes up an entry of the list that was asked for at sent; nil
// for one that is gone since.
func (s *session) track(sum container.Summary, sent time.Time) *tracked {
	k := s.known[sum.ID]
	switch {
	case k != nil:
		if !k.watched {
			k.name = nameOf(sum)
		}
		if !s.synced { // Self may have been found out since
			s.verdict(k, sum.Labels)
		}
	default:
		if at, gone := s.gone[sum.ID]; gone && !sent.After(at) {
			return nil
		}
		delete(s.gone, sum.ID)
		k = s.add(sum.ID, nameOf(sum), sum.Labels)
	}
	k.hide(sum.Labels)
	return k
}

// nameOf picks a container's own name; the others are links that point to it.
func nameOf(sum container.Summary) string {
	for _, n := range sum.Names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

// roll asks for an inspect of the watched containers that nobody has looked at
// for longest.
func (s *session) roll() {
	watched := 0
	for _, k := range s.known {
		if k.watched {
			watched++
		}
	}
	n := (time.Duration(watched)*s.rollEvery() + s.o.Rolling - 1) / s.o.Rolling
	for range n {
		k := s.stalest()
		k.inspected = s.o.Now()
		s.pool.add(k.id, false)
	}
}

// stalest is the watched container whose newest inspect is the oldest; nil
// when none is watched.
func (s *session) stalest() *tracked {
	var oldest *tracked
	for _, k := range s.known {
		if !k.watched {
			continue
		}
		if oldest == nil || cmp.Or(k.inspected.Compare(oldest.inspected), cmp.Compare(k.id, oldest.id)) < 0 {
			oldest = k
		}
	}
	return oldest
}

// rollStep is the least time between two rolling inspects; where that is too
// long a few are sent together, because waking up costs as much as they do.
const rollStep = 10 * time.Second

// rollEvery spreads one inspect of each watched container over the period.
func (s *session) rollEvery() time.Duration {
	n := 0
	for _, k := range s.known {
		if k.watched {
			n++
		}
	}
	return max(s.o.Rolling/time.Duration(max(n, 1)), rollStep)
}
