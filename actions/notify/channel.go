package notify

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	archiveRetry = 5 * time.Second // after the journal could not be read
	pruneEvery   = time.Hour
	readAtOnce   = 64 // incidents are large
)

// channel sends to one sink. Its goroutine owns the records and all that
// changes them holds Notifier.mu, which the others need to look.
type channel struct {
	Channel
	n       *Notifier
	class   Class
	refresh time.Duration
	strict  bool // the service shuts out who sends more than the limit
	wake    chan struct{}
	busy    chan struct{} // full while the sink is in use

	recs    map[string]*record
	dirty   map[string]bool // incidents to be looked at anew; true: it has a parent
	all     bool            // … and all that is not over
	unsaved map[string]bool // records to be stored, or removed from there
	posts   bucket
	edits   bucket
	roots   []time.Time // single roots sent in the last minute
	storm   *record     // the newest

	pause     time.Time // nothing is sent before it
	failures  int       // in a row
	archiveAt time.Time // the archive is not asked before it
	pruneAt   time.Time

	looked     stamp // when the clock was read last
	archiveBad bool  // the last read did not work, and that was logged

	refusing  map[string]bool // records of which the service refused a message since it last took one
	doubted   bool            // the newest failure may come of a secret that was replaced since
	silent    time.Time       // since the first failure after the last success …
	stoodIn   bool            // … and the others call in its place
	parked    time.Time
	parkedWhy string
	sent      uint64
	failed    map[Reason]uint64
	dropped   uint64
	lastSent  time.Time
	lastErr   string
	failedAt  time.Time
}

func newChannel(n *Notifier, c Channel) *channel {
	c.MinLevel = cmp.Or(c.MinLevel, policy.LevelWarn)
	ch := &channel{
		Channel: c, n: n, class: c.Sink.Class(), wake: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		recs: map[string]*record{}, dirty: map[string]bool{}, unsaved: map[string]bool{}, failed: map[Reason]uint64{},
		refusing: map[string]bool{},
	}
	if r, ok := c.Sink.(Refresher); ok {
		ch.refresh = r.Refresh()
	}
	l := c.Limit
	if r, ok := c.Sink.(Limiter); ok {
		most := r.Limit().Posts
		l.Posts, ch.strict = l.Posts.or(most), most.N > 0
	}
	l = l.withDefaults(ch.class)
	ch.posts, ch.edits = newBucket(l.Posts), newBucket(l.Edits)
	return ch
}

// nudge has the goroutine look.
func (c *channel) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// again has everything that is not over planned anew.
func (c *channel) again() {
	c.all = true
	c.nudge()
}

func (c *channel) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.takeIn()
		root, at := c.pick()
		c.save()
		if root != "" {
			c.deliver(ctx, root)
			continue
		}
		c.sleep(ctx, at)
	}
}

// sleep waits for a nudge, or until a time.
func (c *channel) sleep(ctx context.Context, until time.Time) {
	t := time.NewTimer(until.Sub(c.n.o.Now()))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c.wake:
	case <-t.C:
	}
}

// takeIn plans what has changed, and what that changes.
func (c *channel) takeIn() {
	for ids := c.changed(); len(ids) > 0; ids = c.changed() {
		for some := range slices.Chunk(ids, readAtOnce) {
			incidents := make([]policy.Incident, 0, len(some))
			for _, id := range some {
				if in, ok := c.read(id); ok {
					incidents = append(incidents, in)
				}
			}
			c.planAll(incidents)
		}
		c.planStorms()
	}
}

// changed takes the IDs of what is to be looked at, parents first: who tells
// of a child depends on who tells of its parent.
func (c *channel) changed() []string {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	now := c.n.o.Now()
	c.mindClock(now)
	if !now.Before(c.pruneAt) {
		c.prune(now)
	}
	if now.Before(c.archiveAt) {
		return nil
	}
	c.archiveAt = time.Time{}
	if c.all {
		c.allDirty()
	}
	ids := make([]string, 0, len(c.dirty))
	for id := range c.dirty {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		if c.dirty[a] != c.dirty[b] {
			return cmp.Compare(btoi(c.dirty[a]), btoi(c.dirty[b]))
		}
		return cmp.Compare(a, b)
	})
	clear(c.dirty)
	return ids
}

// mindClock: when the clock is set back, nothing waits until it is again as
// late as it was.
func (c *channel) mindClock(now time.Time) {
	at := stampOf(now)
	if at.add(time.Second) < c.looked {
		for _, r := range c.recs {
			r.notAfter(at)
		}
		c.posts.notAfter(now)
		c.edits.notAfter(now)
		c.pause, c.archiveAt, c.pruneAt, c.silent = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		c.roots, c.storm = nil, nil
		c.all = true
	}
	c.looked = at
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *channel) allDirty() {
	c.all = false
	for _, r := range c.recs {
		switch {
		case len(r.Members) > 0:
			c.planStorm(r)
		case r.Closed == 0 || r.kind != "" || r.owes():
			c.dirty[r.ID] = r.Parent != ""
		}
	}
}

// read gets an incident from the archive. One that is not there any more is
// ended where it was told, and forgotten; when the archive cannot be read it is
// asked again later.
func (c *channel) read(id string) (policy.Incident, bool) {
	in, ok, err := c.n.incident(id)
	if err == nil && ok {
		c.archiveBad = false
		return in, true
	}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if err != nil {
		if !c.archiveBad {
			c.archiveBad = true
			c.n.o.Log.Error("incident cannot be read: it is told when it can be", "channel", c.Name, "incident", id, "err", err)
		}
		c.archiveAt = c.n.o.Now().Add(archiveRetry)
		c.dirty[id] = true
		return in, false
	}
	for root, r := range c.recs {
		switch {
		case r.ID != id || len(r.Members) > 0:
		case r.owes():
			return r.orphaned(c.n.o.Now()), true
		default:
			c.forget(root)
		}
	}
	return in, false
}

func (c *channel) forget(root string) {
	delete(c.recs, root)
	c.unsaved[root] = true
}

// prune forgets what closed long ago, but not what people still take for open.
func (c *channel) prune(now time.Time) {
	c.pruneAt = now.Add(pruneEvery)
	for root, r := range c.recs {
		if r.Closed != 0 && now.Sub(r.Closed.time()) > forgetAfter && !r.owes() {
			c.forget(root)
		}
	}
}

// save stores what has changed.
func (c *channel) save() {
	c.n.mu.Lock()
	rows := make([]row, 0, len(c.unsaved))
	for root := range c.unsaved {
		if r := c.recs[root]; r != nil {
			rows = append(rows, rowOf(r))
		} else {
			rows = append(rows, row{key: root})
		}
	}
	clear(c.unsaved)
	pace := pacing{c.posts.tokens(), c.edits.tokens()}
	c.n.mu.Unlock()
	if c.n.store.put(c.Name, pace, rows...) {
		return
	}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for _, r := range rows {
		c.unsaved[r.key] = true // with what is stored next
	}
}

// planAll works out what each of some incidents needs.
func (c *channel) planAll(incidents []policy.Incident) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for i := range incidents {
		c.follow(&incidents[i])
	}
	for i := range incidents {
		if r := c.recs[rootOf(&incidents[i])]; r.ID == incidents[i].ID {
			c.plan(r, &incidents[i])
		}
	}
}

// planStorms works out what the storms need, after their members.
func (c *channel) planStorms() {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	for _, r := range c.recs {
		if len(r.Members) > 0 && (r.Resolved == 0 || r.kind != "") {
			c.planStorm(r)
		}
	}
}

// follow takes up an incident as it is now.
func (c *channel) follow(in *policy.Incident) {
	root := rootOf(in)
	r := c.recs[root]
	fresh := r == nil
	if fresh {
		r = &record{Root: root}
		c.recs[root] = r
	}
	open, ack := r.Closed == 0, r.AckUntil
	r.Paged = r.Paged && (!r.alarm() || in.Rev == r.Rev) // each of its texts calls
	r.follow(in, c.class == Append || c.class == Alert)
	if p := c.recs[r.Parent]; p != nil && r.AckUntil != ack {
		p.Answered = p.Answered || p.Child && r.AckUntil != 0
		c.dirty[p.ID] = false
	}
	if !fresh && r.Parent != "" && !r.urgent() {
		c.calmParent(r)
	}
	if s, known := c.n.topic(in, r); fresh || known && !r.Here && r.Posted == 0 {
		r.Project, r.Off = s.Project, !r.alarm() && !routed(c.n.o.Routes, s, c.Name)
	}
	if open && r.Closed != 0 {
		for _, child := range in.Children {
			c.dirty[child] = true // it may have to speak for itself now
		}
	}
}

// plan works out what r needs.
func (c *channel) plan(r *record, in *policy.Incident) {
	o := c.outlook(r, in)
	if o.cover == coverParent && o.silenced.IsZero() && !r.Off && r.urgent() && !r.Here && !r.Paged {
		c.pageParent(r)
	}
	r.muted = stampOf(o.silenced)
	p := o.next()
	if o.cover == coverParent && !o.silenced.IsZero() && !r.Off && r.urgent() && !r.Here && !r.Paged {
		p = plan{kind: KindEscalate, due: o.silenced} // by its parent, if it still is so then
	}
	if later := c.unsilenced(r); later.kind != "" {
		p = o.soonest(p, later)
	}
	if p.drop {
		c.drop(r, in)
	}
	r.kind, r.due = p.kind, stampOf(p.due)
	switch {
	case r.kind == "":
		r.Since = 0
	case p.due.After(o.now):
		r.Since = r.due
	case r.Since == 0 || r.Since.after(o.now):
		r.Since = min(changedAt(in), stampOf(o.now))
	}
}

// drop gives up telling this revision; a call or an end that was refused is
// tried again all the same.
func (c *channel) drop(r *record, in *policy.Incident) {
	again := r.Dropped == in.Rev
	r.Dropped = in.Rev
	if !again && !r.kept(c.n.o.Now()) {
		c.dropped++
	}
	c.unsaved[r.Root] = true
}

// changedAt is when something last happened in an incident.
func changedAt(in *policy.Incident) stamp {
	at := max(stampOf(in.Opened), stampOf(in.Closed))
	if n := len(in.Steps); n > 0 {
		at = max(at, stampOf(in.Steps[n-1].At))
	}
	return at
}

func (c *channel) outlook(r *record, in *policy.Incident) outlook {
	now := c.n.o.Now()
	s, _ := c.n.topic(in, r)
	o := outlook{
		class: c.class, min: c.MinLevel, refresh: c.refresh,
		remindAfter: c.n.o.RemindAfter, remindMax: c.n.o.RemindMax,
		cover: c.cover(r), taken: c.childrenTaken(r), forced: c.owed(r, s),
		in: in, rec: r, now: now,
	}
	if n := len(c.roots); n >= stormRoots {
		o.crowded = c.roots[n-stormRoots].Add(stormSpan)
	}
	if c.class != Feed && !r.alarm() { // a feed wakes nobody, and what reads it wants to know all
		o.quiet, o.silenced = c.n.o.Quiet, c.n.silencedUntil(s, now)
	}
	return o
}
