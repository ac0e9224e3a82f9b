package proc

import "iter"

// all are the processes that live and those that are remembered.
func (t *Table) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, m := range []map[int]*entry{t.live, t.ended} {
			for _, e := range m {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// own decides once whether the container's own program started a process. It
// is called with mu held.
func (t *Table) own(e *entry) bool {
	if e.own == unasked {
		e.own = no // ends a ring of parents, which only a damaged /proc has
		if t.startedInside(e) {
			e.own = yes
		}
	}
	return e.own == yes
}

func (t *Table) startedInside(e *entry) bool {
	if len(e.containers) == 0 {
		return false
	}
	if e.isFirst() {
		return true
	}
	if p := t.parentOf(e); p != nil && p.holds(e) {
		return t.own(p)
	}
	return t.oldest(e)
}

// isFirst reports whether it is process 1 of a PID namespace of its own. On a
// host that is a container itself the host's process 1 is none.
func (e *entry) isFirst() bool { return e.depth > 1 && e.inner == 1 }

func (t *Table) parentOf(e *entry) *entry {
	p := t.find(e.parent)
	if p == nil || p.start > e.start {
		return nil // that PID has been given to another process
	}
	return p
}

// holds reports whether a child still is in the container of its parent, or in
// one inside it. On a host that is a container itself, so are the programs of
// the engine; what they start is not started by a container of this engine.
func (e *entry) holds(child *entry) bool {
	return len(e.containers) > 0 && e.containers[0] == child.containers[0] &&
		(e.depth > 1 || e.innermost() == child.innermost())
}

// oldest reports whether a process is the first one of a container that shares
// a PID namespace with the host or with another container.
func (t *Table) oldest(e *entry) bool {
	for o := range t.all() {
		if o == e || o.innermost() != e.innermost() || !o.end.IsZero() && !o.end.After(e.first) {
			continue // the last one is of an earlier run of the container
		}
		if o.isFirst() || o.start < e.start || o.start == e.start && o.pid < e.pid {
			return false
		}
	}
	return true
}
