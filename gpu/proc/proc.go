// Package proc tells which container a process on a GPU belongs to, from
// Linux's /proc. It remembers the processes of containers for a while after
// their end: the kernel names a process that is already gone. Read
// [Table.Lookup] first.
package proc

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/defib-dev/defib/gpu"
)

const (
	defaultRoot  = "/proc"
	defaultEvery = 5 * time.Second
	defaultKeep  = 10 * time.Minute // gpu.md §2.4: a line can come long after the end
)

// Options are what a Table is made of; the zero value of each is its default.
type Options struct {
	Root  string           // where procfs is mounted; /proc
	Now   func() time.Time // time.Now
	Every time.Duration    // between two looks at all processes; 5 s
	Keep  time.Duration    // how long an ended process is remembered; 10 min
}

// Table knows the processes of containers. It is safe for concurrent use.
type Table struct {
	o        Options
	blind    string
	grip     func(pid int) (grip, error)
	boottime func() time.Duration

	scanning sync.Mutex // one scan at a time; taken before mu
	mu       sync.Mutex // never held while a file is read
	round    uint64     // of scans
	live     map[int]*entry
	ended    map[int]*entry // only of containers
}

// entry is what is remembered of one process. Its parent and its numbers in
// PID namespaces stay as they were first seen: an orphan gets a new parent.
type entry struct {
	process
	own   answer
	round uint64 // of the last scan that listed it
	reads int
	first time.Time // when its files were read first …
	last  time.Time // … and last
	end   time.Time // when it was found to be gone; zero: it is not
}

type answer int8

const (
	unasked answer = iota
	yes
	no
)

// New returns a Table. It knows nothing until [Table.Run] or somebody asks.
func New(o Options) *Table {
	if o.Root == "" {
		o.Root = defaultRoot
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	return &Table{o: o, blind: blind(o.Root), grip: gripPID, boottime: boottime, live: map[int]*entry{}, ended: map[int]*entry{}}
}

// Blind says why processes of the host cannot be seen, in a sentence with the
// way out; empty: they can.
func (t *Table) Blind() string { return t.blind }

// Run looks at all processes again and again until ctx ends.
func (t *Table) Run(ctx context.Context) {
	tick := time.NewTicker(t.o.Every)
	defer tick.Stop()
	for {
		if t.blind == "" {
			t.scan()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Lookup says what is known of a process: from /proc as long as it is there,
// else from memory. Dead is set when it is gone, or a zombie none of whose
// threads runs or hangs any more. Of a process that cannot be seen from here
// only the PID comes back.
func (t *Table) Lookup(pid int) gpu.Process {
	if t.blind != "" || pid <= 0 {
		return gpu.Process{PID: pid}
	}
	r := t.reader()
	p, err := r.read(pid, t.known(pid))
	switch {
	case gone(err):
		return t.remembered(pid)
	case err != nil:
		return gpu.Process{PID: pid}
	}
	e := t.note(p)
	return gpu.Process{
		PID: pid, Name: e.name, Containers: slices.Clone(e.containers),
		Dead: p.dead() && !r.threadLives(pid),
	}
}

// Own reports whether the container's own program started the process: its
// chain of parents, as first seen, leads to the first process of the container.
// What `docker exec` started does not. It can be asked after the end, too.
func (t *Table) Own(pid int) bool {
	if t.blind != "" || pid <= 0 {
		return false
	}
	if own := t.decided(pid); own != unasked {
		return own == yes
	}
	t.scan() // its parents and siblings must be known
	return t.decided(pid) == yes
}

func (t *Table) decided(pid int) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.find(pid); e != nil {
		return e.own
	}
	return unasked
}

// known is the start of a process of a container whose namespaces have been
// read; 0: they have not.
func (t *Table) known(pid int) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.live[pid]; e != nil && e.depth > 0 {
		return e.start
	}
	return 0
}

// remembered is a process that is gone.
func (t *Table) remembered(pid int) gpu.Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := gpu.Process{PID: pid, Dead: true}
	if e := t.find(pid); e != nil {
		p.Name, p.Containers = e.name, slices.Clone(e.containers)
	}
	return p
}

// find is called with mu held.
func (t *Table) find(pid int) *entry {
	if e := t.live[pid]; e != nil {
		return e
	}
	return t.ended[pid]
}
