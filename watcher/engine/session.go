package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/defib-dev/defib/watcher/policy"
)

// session is one generation. Its loop owns what has no other note.
type session struct {
	*Engine
	cli     *client.Client
	out     chan<- policy.Event
	clock   clock         // any goroutine
	queue   *queue        // any goroutine
	done    chan struct{} // closed when the loop has ended
	wg      sync.WaitGroup
	podman  bool
	runtime string // the engine's default; set before anything is inspected

	broken  chan error    // from the reader, once
	lists   chan listed   // from the lister, one at a time
	results chan answered // from the inspectors

	subscribed time.Time         // on the engine's clock; older events come from its look-back
	lookBack   []item            // what happened before, as far as the engine remembers it
	self       map[string]string // IDs that are never watched, and why
	pool       pool
	first      map[string]bool // still to be observed before synced
	synced     bool
	others     []policy.Other       // as last told
	healers    []policy.Healer      // as last seen
	told       []policy.Healer      // as last told
	gone       map[string]time.Time // IDs told as destroyed, and when
}

func newSession(e *Engine, cli *client.Client, out chan<- policy.Event) *session {
	return &session{
		Engine: e, cli: cli, out: out, clock: clock{now: e.o.Now},
		queue: newQueue(e.o.Now), done: make(chan struct{}),
		broken: make(chan error, 1), lists: make(chan listed), results: make(chan answered),
		pool: newPool(), first: make(map[string]bool), gone: make(map[string]time.Time),
	}
}

// clock carries our times over to the engine's clock.
type clock struct {
	now    func() time.Time
	offset atomic.Int64 // ns that the engine's clock is ahead of ours
}

func (c *clock) engine(t time.Time) time.Time { return t.Add(time.Duration(c.offset.Load())) }

// run connects, tells what it found, and follows the engine until the
// connection breaks or ctx ends.
func (s *session) run(ctx context.Context) error {
	up, list, err := s.connect(ctx)
	if err != nil {
		return err
	}
	s.cur.Store(s)
	s.emit(ctx, policy.Event{Kind: policy.KindSourceUp, Read: s.o.Now(), Engine: &up})
	s.begin(list)
	for _, it := range s.lookBack { // before anything is observed; the stream's copies are late
		s.event(ctx, it)
	}
	s.lookBack = nil
	s.drain(ctx)
	s.sync(ctx)
	err = s.loop(ctx)
	if ctx.Err() == nil {
		s.drain(ctx) // an engine that shuts down says what it kills, then hangs up
	}
	return err
}

// loop is the one place where facts are put in order: everything is emitted
// from here, and waiting events go before an answer that came meanwhile.
func (s *session) loop(ctx context.Context) error {
	relist := time.NewTimer(s.o.Relist)
	defer relist.Stop()
	roll := time.NewTimer(s.rollEvery())
	defer roll.Stop()
	for {
		s.inspectDue(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.broken:
			return err
		case <-s.queue.ready:
			s.drain(ctx)
		case a := <-s.results:
			s.drain(ctx)
			s.landed(ctx, a)
		case <-relist.C:
			s.wg.Go(func() { s.sendList(ctx) })
		case l := <-s.lists:
			if l.err != nil {
				return l.err
			}
			s.heard = l.sent
			s.drain(ctx)
			s.compare(l)
			s.healers = l.healers
			s.sync(ctx)
			relist.Reset(s.o.Relist)
		case <-roll.C:
			s.roll()
			roll.Reset(s.rollEvery())
		}
	}
}

// emit hands one event to the loop of the daemon.
func (s *session) emit(ctx context.Context, ev policy.Event) {
	ev.Generation = s.generation
	select {
	case s.out <- ev:
	case <-ctx.Done():
	}
}

// drain emits every event that has been read.
func (s *session) drain(ctx context.Context) {
	for _, it := range s.queue.take() {
		if it.emitted != nil {
			close(it.emitted)
			continue
		}
		s.event(ctx, it)
	}
}

// catchUp waits until every event read so far has been emitted.
func (s *session) catchUp(ctx context.Context) {
	emitted := s.queue.mark()
	select {
	case <-emitted:
	case <-s.done:
	case <-ctx.Done():
	}
}

// answered is what came of one inspect in the pool.
type answered struct {
	id string
	ev policy.Event
}

// inspectDue sends the inspects that may run now.
func (s *session) inspectDue(ctx context.Context) {
	for {
		id, ok := s.pool.next()
		if !ok {
			return
		}
		c := s.known[id]
		if c == nil {
			s.pool.finish(id)
			continue
		}
		c.inspected = s.o.Now()
		key := c.key
		s.wg.Go(func() {
			a := answered{id: id, ev: s.look(ctx, id, key)}
			select {
			case s.results <- a:
			case <-ctx.Done():
			}
		})
	}
}

// landed emits what an inspect said, unless an event was read after it was
// sent: then it says nothing new, and another one does.
func (s *session) landed(ctx context.Context, a answered) {
	s.pool.finish(a.id)
	c := s.known[a.id]
	switch {
	case c == nil:
		return // destroyed meanwhile, and told
	case a.ev.Kind == policy.KindDestroy:
		s.forget(a.id)
	case a.ev.Read.Before(c.event):
		s.pool.add(a.id, true)
		return
	case a.ev.Kind == policy.KindObserved:
		s.heard = a.ev.Read
		s.renamed(ctx, c, a.ev)
		c.learn(a.ev)
	default:
		c.seen = false // the next list asks again
	}
	s.emit(ctx, a.ev)
	delete(s.first, a.id)
	s.sync(ctx)
}

// renamed tells of a rename that no event told.
func (s *session) renamed(ctx context.Context, c *tracked, ev policy.Event) {
	if c.key != ev.Unit {
		s.emit(ctx, policy.Event{
			Kind: policy.KindRename, Unit: ev.Unit, Container: c.id, Read: ev.Read, Replayed: true, Reason: c.key,
		})
	}
}

// forget drops a container whose end has been told.
func (s *session) forget(id string) {
	delete(s.known, id)
	delete(s.first, id)
	s.gone[id] = s.o.Now()
}

// sync says that every watched container has been observed, and says it again
// when the others or the healers have changed.
func (s *session) sync(ctx context.Context) {
	if len(s.first) > 0 {
		return
	}
	others := s.unwatched()
	if s.synced && slices.Equal(others, s.others) && slices.Equal(s.healers, s.told) {
		return
	}
	s.synced, s.others, s.told = true, others, s.healers
	s.emit(ctx, policy.Event{Kind: policy.KindSynced, Read: s.o.Now(), Others: others, Engine: &policy.Engine{Healers: s.healers}})
}

// listed is the answer to a list call.
type listed struct {
	sent       time.Time
	containers []container.Summary
	healers    []policy.Healer
	err        error
}

// sendList lists all containers and hands the answer to the loop.
func (s *session) sendList(ctx context.Context) {
	l := s.list(ctx)
	if l.err == nil {
		l.healers = s.findHealers(ctx, l.containers)
	}
	select {
	case s.lists <- l:
	case <-ctx.Done():
	}
}

func (s *session) list(ctx context.Context) listed {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	l := listed{sent: s.o.Now()}
	l.containers, l.err = s.cli.ContainerList(ctx, container.ListOptions{All: true})
	if l.err != nil {
		l.err = s.classify("GET /containers/json", l.err)
	}
	return l
}
