package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	sendWithin = 20 * time.Second
	linesMost  = 20          // steps in one message of a thread
	spareFor   = time.Minute // until it is seen whether what works again still does
)

// pick chooses the record to be served now, or says when to look again.
func (c *channel) pick() (root string, again time.Time) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	now := c.n.o.Now()
	if c.n.settled {
		c.gather(now)
	}
	at := stampOf(c.pruneAt)
	if !c.archiveAt.IsZero() {
		at = min(at, stampOf(c.archiveAt))
	}
	if c.pause.After(now) {
		return "", min(at, stampOf(c.pause)).time()
	}
	posts, edits := stampOf(c.posts.ready(now)), stampOf(c.edits.ready(now))
	var best *record
	waits := false
	for _, r := range c.recs {
		if r.kind == "" {
			continue
		}
		token := posts
		if c.isEdit(r.kind) {
			token = edits
		}
		waits = waits || !r.due.after(now)
		if !c.n.settled && !r.alarm() {
			continue
		}
		ready := max(r.due, r.notBefore, token)
		if ready.after(now) {
			at = min(at, ready)
		} else if best == nil || c.before(r, best) {
			best = r
		}
	}
	if best == nil && !waits { // nothing is kept from anybody
		c.silent, c.stoodIn = time.Time{}, false
	}
	if best != nil {
		return best.Root, now
	}
	return "", at.time()
}

func (c *channel) isEdit(k Kind) bool {
	return c.class == Threaded && (k == KindEdit || k == KindResolve)
}

// before: a is served before b. What calls somebody goes first; what was
// refused lets the others pass, and all of them while the channel is parked:
// one that is taken ends that.
func (c *channel) before(a, b *record) bool {
	weight, attempts := cmp.Compare(a.weight(), b.weight()), cmp.Compare(a.attempts, b.attempts)
	if !c.parked.IsZero() {
		weight, attempts = attempts, weight
	}
	return cmp.Or(weight, attempts, cmp.Compare(a.Since, b.Since), cmp.Compare(a.Root, b.Root)) < 0
}

func (r *record) weight() int {
	switch r.kind {
	case KindPost, KindEscalate:
		if r.urgent() && !r.Paged {
			return 0
		}
		return 1
	case KindStep, KindEvidence:
		return 3
	default:
		return 2
	}
}

// job is a message on its way.
type job struct {
	rec   *record
	kind  Kind
	in    policy.Incident
	since time.Time
	calm  bool // it calls nobody, though somebody was needed
}

// deliver sends what the record needs, from what is known now.
func (c *channel) deliver(ctx context.Context, root string) {
	j, ok := c.prepare(root)
	if !ok {
		return
	}
	m := c.message(j)
	if j.calls() && !needsYou(m.Story) && !c.spare(&j, &m) {
		return
	}
	ref, err := c.send(ctx, m)
	c.n.mu.Lock()
	switch {
	case err == nil:
		c.took(j, ref)
		c.works(c.n.o.Now())
	case errors.Is(err, ErrNothing) && j.kind == KindPost && c.class == DropIn:
		c.leftUnsaid(j, ref)
	case errors.Is(err, ErrNothing):
		c.took(j, ref)
	case ctx.Err() == nil:
		c.refused(j, err)
	}
	c.n.mu.Unlock()
	c.save()
}

// resent: an alert that is sent again, lest it ends by itself.
func (j job) resent() bool { return j.kind == KindPost && j.rec.Here }

// calls: somebody is to come because of it. An alert that is only sent again
// calls nobody.
func (j job) calls() bool {
	r := j.rec
	return j.kind == KindRemind || r.urgent() && (!r.Paged || r.PagedAt == 0) && (j.kind == KindPost && !r.Here || j.kind == KindEscalate)
}

// spare calls nobody for what works again, and is only watched for a while
// before that is believed. What tells of it in the first place is sent without
// the call; a call alone is left for later.
func (c *channel) spare(j *job, m *Message) (send bool) {
	if j.kind == KindPost && c.class != Alert {
		j.calm, m.Text.Urgent = true, false
		return true
	}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	now := c.n.o.Now()
	if j.kind == KindRemind && c.class != Alert {
		j.rec.Reminded = stampOf(now)
		c.unsaved[j.rec.Root] = true
	} else {
		j.rec.sparedTo = stampOf(now.Add(spareFor))
	}
	c.plan(j.rec, &j.in)
	return false
}

// prepare plans anew before anything is sent: the record may have waited long.
func (c *channel) prepare(root string) (job, bool) {
	r := c.recs[root] // this goroutine alone changes recs
	var in policy.Incident
	if len(r.Members) == 0 {
		var ok bool
		if in, ok = c.read(r.ID); !ok {
			c.setAside(r)
			return job{}, false
		}
	}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if len(r.Members) == 0 {
		c.follow(&in)
		c.plan(r, &in)
	} else {
		in = c.planStorm(r)
	}
	now := c.n.o.Now()
	if r.kind == "" || r.due.after(now) {
		return job{}, false
	}
	if c.isEdit(r.kind) {
		c.edits.take(now)
	} else {
		c.posts.take(now)
	}
	return job{rec: r, kind: r.kind, in: in, since: r.Since.time()}, true
}

// setAside: its incident cannot be read now.
func (c *channel) setAside(r *record) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	r.kind = ""
}

// message puts a job into words.
func (c *channel) message(j job) Message {
	story := c.n.o.Story(j.in)
	allUp := j.rec.urgent() && c.allUp(j.rec)
	if len(j.rec.Members) > 0 {
		c.tellStorm(&story, j, allUp)
	} else {
		for i := range story.Children {
			c.calmed(&story.Children[i])
		}
	}
	if j.rec.Child && j.rec.urgent() { // for one of its children
		story.Incident.Level, story.Incident.NeedsYou = policy.LevelPage, true
	}
	if allUp {
		story.Incident.NeedsYou = false
	}
	if j.kind == KindStep {
		steps := j.rec.newSteps(&j.in)
		story.Incident.Steps = steps[max(0, len(steps)-linesMost):]
	}
	if j.rec.alarm() {
		story.Incident.ID = "" // no command takes it
	}
	m := c.n.render(story, c.kindOf(j))
	m.Key = fmt.Sprintf("%s/%s/%s", story.Host, j.in.Unit, j.rec.Root)
	if j.rec.alarm() {
		m.Key = story.Host + "/alarm"
	}
	m.Ref, m.Since = j.rec.Ref, j.since
	switch {
	case j.resent() && !j.rec.Paged: // it keeps its severity until the call is due
		m.Text.Urgent = false
	case j.kind == KindPost, j.kind == KindEscalate, j.kind == KindRemind, c.class == Feed:
		m.Text.Urgent = j.rec.urgent()
	default:
		m.Text.Urgent = false
	}
	return m
}

func (n *Notifier) render(story Story, k Kind) Message {
	if story.Now.IsZero() {
		story.Now = n.o.Now()
	}
	return Message{Kind: k, Story: story, Text: n.o.Render(story, k), Since: story.Now}
}

// send has the sink to itself for one message.
func (c *channel) send(ctx context.Context, m Message) (ref Receipt, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, &Error{Reason: ReasonTimeout, Err: errors.New("the message before it has not ended")}
	}
	defer func() {
		<-c.busy
		if r := recover(); r != nil { // what is in it may be secret
			err = &Error{Reason: ReasonClient, Err: fmt.Errorf("the sender of type %s broke over this message (%T)", c.Type, r)}
		}
	}()
	if err := c.renew(); err != nil {
		return nil, err
	}
	return c.Sink.Send(ctx, m)
}

// renew makes the sink anew where the service refuses what it is sent: its
// secret may have been mended. The caller has the sink to itself.
func (c *channel) renew() error {
	c.n.mu.Lock()
	doubted := c.doubted
	c.n.mu.Unlock()
	if !doubted || c.Again == nil {
		return nil
	}
	sink, err := c.Again()
	if err != nil {
		return &Error{Reason: ReasonAuth, Err: err}
	}
	c.Sink = sink
	return nil
}

// took: the service has the message, or need not have it.
func (c *channel) took(j job, ref Receipt) {
	now := c.n.o.Now()
	r := j.rec
	if j.kind == KindAgain || j.kind == KindPost && !r.Here && len(r.Members) == 0 && !r.alarm() {
		c.roots = append(c.roots, now)
	}
	resent := j.resent()
	r.sent(j.kind, &j.in, ref, now)
	switch {
	case resent:
	case j.calm:
		r.Paged, r.PagedAt = false, 0
	case j.kind == KindPost, j.kind == KindEscalate:
		c.membersPaged(r)
	}
	if c.class.alone() && r.urgent() {
		r.paged(stampOf(now))
	}
	c.unsaved[r.Root] = true
	r.Since = 0
	c.plan(r, &j.in)
}

// leftUnsaid: there is nothing to say of an incident yet, so nobody knows of it.
func (c *channel) leftUnsaid(j job, ref Receipt) {
	r := j.rec
	r.accepted()
	r.Ref, r.Told, r.Since = ref, j.in.Rev, 0
	c.unsaved[r.Root] = true
	c.plan(r, &j.in)
}

// works: the channel took a message.
func (c *channel) works(now time.Time) {
	c.sent++
	c.lastSent = now
	if c.lastErr != "" {
		c.n.o.Log.Info("channel takes messages again", "channel", c.Name)
	}
	again := c.mute()
	if !c.parked.IsZero() {
		c.forgive()
	}
	c.lastErr, c.failures, c.pause = "", 0, time.Time{}
	c.silent, c.stoodIn = time.Time{}, false
	c.parked, c.parkedWhy, c.doubted = time.Time{}, "", false
	clear(c.refusing)
	if again {
		c.n.othersAgain(c)
	}
}

func (n *Notifier) othersAgain(c *channel) {
	for _, other := range n.channels {
		if other != c {
			other.again()
		}
	}
}
