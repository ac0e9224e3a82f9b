package proc

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

const (
	again      = time.Minute // a process that is read again may have a new name, or another start
	againMax   = 16          // of them in one scan
	settled    = 2           // reads of a new process, one scan apart: at first it is still the runtime's
	newMax     = 4096        // of new processes in one scan: nobody may keep us busy by forking
	rememberUp = 8192        // ended processes at most
)

// scan looks at all processes: new ones are read, missing ones have ended.
func (t *Table) scan() {
	t.scanning.Lock()
	defer t.scanning.Unlock()
	names, err := list(t.o.Root)
	if err != nil {
		return // nothing is known to have ended
	}
	now, r := t.o.Now(), t.reader()
	var read []process
	for _, pid := range t.due(names, now) {
		if p, err := r.read(pid, t.known(pid)); err == nil {
			read = append(read, p)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range read {
		t.add(p, now).round = t.round
	}
	for e := range t.all() {
		t.own(e)
	}
	t.forget(now)
}

// due notes which processes have ended and returns those to be read.
func (t *Table) due(names []string, now time.Time) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	var pids []int
	fresh, old := 0, 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch e := t.live[pid]; {
		case e == nil && fresh < newMax:
			fresh++
			pids = append(pids, pid)
		case e == nil:
		default:
			e.round = t.round
			stale := old < againMax && now.Sub(e.last) >= again
			if stale {
				old++
			}
			if stale || e.reads < settled {
				pids = append(pids, pid)
			}
		}
	}
	for _, e := range t.live {
		if e.round < t.round {
			t.end(e, now)
		}
	}
	return pids
}

// note puts a process that was just read into the table.
func (t *Table) note(p process) entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.add(p, t.o.Now())
	e.round = t.round + 1 // a scan that has already listed the processes does not end it
	return *e
}

// add is called with mu held.
func (t *Table) add(p process, now time.Time) *entry {
	e := t.live[p.pid]
	switch {
	case e != nil && e.start != p.start:
		t.end(e, now)
		fallthrough
	case e == nil:
		e = &entry{process: p, first: now}
		t.live[p.pid] = e
	default:
		e.update(p)
	}
	e.reads, e.last = e.reads+1, now
	return e
}

// update takes over what may change in the life of a process. A zombie can
// have lost its group; that it is in a container is then not forgotten.
func (e *entry) update(p process) {
	e.name, e.state = p.name, p.state
	if len(p.containers) == 0 || slices.Equal(e.containers, p.containers) {
		return
	}
	if e.innermost() != p.innermost() { // the runtime moved it in
		e.own, e.parent = unasked, p.parent
	}
	if p.depth > 0 {
		e.depth, e.inner = p.depth, p.inner
	}
	e.containers = p.containers
}

// end is called with mu held.
func (t *Table) end(e *entry, now time.Time) {
	delete(t.live, e.pid)
	if len(e.containers) > 0 {
		e.end = now
		t.ended[e.pid] = e
	}
}

// forget drops what ended long ago. It is called with mu held.
func (t *Table) forget(now time.Time) {
	for pid, e := range t.ended {
		if now.Sub(e.end) > t.o.Keep {
			delete(t.ended, pid)
		}
	}
	if len(t.ended) <= rememberUp {
		return
	}
	all := make([]*entry, 0, len(t.ended))
	for _, e := range t.ended {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Or(a.end.Compare(b.end), cmp.Compare(a.pid, b.pid)) })
	for _, e := range all[:len(all)-rememberUp] {
		delete(t.ended, e.pid)
	}
}
