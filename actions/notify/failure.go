package notify

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"
)

const (
	backoffFirst = time.Second
	backoffMost  = 5 * time.Minute
	retryMost    = time.Hour // of what a service asks for, lest a mistake of it mutes the channel
	parkRetry    = 5 * time.Minute
	parkAfter    = 3                // messages that are refused, with none taken between: it is not them
	refusedRetry = 30 * time.Minute // of a call that the service will not take: mostly its configuration is wrong
	standInAfter = 2 * time.Minute  // of silence: nobody is woken later than this for one service's sake
	errorMost    = 300              // characters of an error that are kept
)

// refused decides what becomes of a message that was not taken.
func (c *channel) refused(j job, err error) {
	e, now, r := asError(err), c.n.o.Now(), j.rec
	reason := e.Reason
	if reason == ReasonAuth && r.denied != 0 && c.sent >= r.denied {
		reason = ReasonClient // others were taken since: it is this message
	}
	c.failing(e, now)
	r.lastErr = c.lastErr
	switch reason {
	case ReasonAuth: // mostly not the message's fault, so it stays
		r.attempts++
		r.denied, r.notBefore = c.sent+1, stampOf(now.Add(c.parkRetry()))
		c.park(now)
		return
	case ReasonClient:
		r.attempts++
		if c.refusing[r.Root] = true; len(c.refusing) >= parkAfter || !c.parked.IsZero() {
			c.park(now)
		}
		c.giveUp(j)
	case ReasonGone:
		if !r.lost() {
			c.giveUp(j)
		}
	default:
		c.failures++
		if e.Reason != ReasonRateLimited {
			r.attempts++
		}
		r.notBefore = stampOf(now.Add(e.wait(r.attempts, c.backoffMost(), r.Root)))
		c.pause = now.Add(e.wait(c.failures, c.backoffMost(), c.Name))
		if !c.parked.IsZero() {
			c.pause = now.Add(c.parkRetry())
		}
		c.fallSilent(now)
		if r.stuck(now) {
			c.handOver(j)
		}
		return
	}
	c.unsaved[r.Root] = true
	c.plan(r, &j.in)
}

// failing counts a failure and says so, once until the channel works again.
func (c *channel) failing(e *Error, now time.Time) {
	c.failed[e.Reason]++
	c.failedAt = now
	c.doubted = e.Reason == ReasonAuth || e.Reason == ReasonClient
	first := c.lastErr == ""
	c.lastErr = cutRunes(Clean(e.Error()), errorMost)
	if first && e.Reason != ReasonAuth {
		c.n.o.Log.Warn("channel does not take a message", "channel", c.Name, "reason", e.Reason, "err", c.lastErr)
	}
}

// park waits for a token that is taken, or a configuration that makes sense to
// the service. What needs somebody goes to every other channel.
func (c *channel) park(now time.Time) {
	c.pause, c.parkedWhy = now.Add(c.parkRetry()), c.lastErr
	if !c.parked.IsZero() {
		return
	}
	c.parked = now
	c.n.o.Log.Error("channel is parked: what needs somebody goes to every other channel until it takes messages again", "channel", c.Name, "err", c.lastErr)
	c.n.othersAgain(c)
}

// fallSilent has every other channel call for what needs somebody, once this
// one has told nobody for a while, or will not have by its next attempt. A
// feed calls nobody in the first place.
func (c *channel) fallSilent(now time.Time) {
	if c.class == Feed {
		return
	}
	if c.silent.IsZero() {
		c.silent = now
	}
	if c.mute() || c.pause.Sub(c.silent) < standInAfter {
		return
	}
	c.stoodIn = true
	c.n.o.Log.Error("channel is out of reach: what needs somebody goes to every other channel until it takes messages again",
		"channel", c.Name, "since", c.silent, "err", c.lastErr)
	c.n.othersAgain(c)
}

// giveUp drops a message that will never be taken; a call for somebody is tried
// again once in a while. The rest of the incident is told all the same.
func (c *channel) giveUp(j job) {
	r, first := j.rec, j.rec.Refused == 0
	thread := j.kind == KindResolve && c.class == Threaded // its last line is told all the same
	if j.resent() {
		r.SentAt = stampOf(c.n.o.Now()) // and so it will be again
		return
	}
	switch j.kind {
	case KindPost, KindEscalate, KindResolve:
		if !thread {
			c.refuse(r)
			if c.drop(r, &j.in); first {
				c.sayRefused(j)
			}
			c.handOver(j)
			return
		}
		fallthrough
	default:
		c.dropped++
		c.sayRefused(j)
		r.sent(j.kind, &j.in, nil, c.n.o.Now())
	}
}

// sayRefused says what becomes of a message that the service will not take.
func (c *channel) sayRefused(j job) {
	log, now := c.n.o.Log.With("channel", c.Name, "incident", j.in.ID, "kind", j.kind, "err", c.lastErr), c.n.o.Now()
	if j.rec.kept(now) {
		log.Error("the service will not take a message: it is sent again when there is news, or later", "in", j.rec.notBefore.time().Sub(now).Round(time.Minute))
		return
	}
	log.Error("message is dropped: the service will not take it")
}

// refuse notes that the service does not take a call as it is. It is tried
// again once in a while: it may be the address that is wrong, and be mended.
func (c *channel) refuse(r *record) {
	now, wait := c.n.o.Now(), refusedRetry
	if !c.parked.IsZero() {
		wait = c.parkRetry()
	}
	if r.Refused == 0 {
		r.Refused = stampOf(now)
	}
	r.notBefore = stampOf(now.Add(wait))
}

// forgive lets what was refused be tried again: the service takes something.
func (c *channel) forgive() {
	for _, r := range c.recs {
		if r.Refused != 0 {
			r.notBefore = 0
		}
	}
}

// asError sorts an error. One that is not an [Error] may hold anything, so
// nothing of it is repeated.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e) && e != nil && e.Err != nil:
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Reason: ReasonTimeout, Err: fmt.Errorf("there was no answer within %v", sendWithin)}
	}
	return &Error{Reason: ReasonNetwork, Err: fmt.Errorf("the service could not be reached (%T)", err)}
}

// parkRetry is how long to wait for a token that is taken. An alert that is not
// sent again in time ends, though what it tells of goes on.
func (c *channel) parkRetry() time.Duration {
	if c.refresh > 0 {
		return min(parkRetry, c.refresh)
	}
	return parkRetry
}

// backoffMost is how long to wait at most for a service that is away. Alerts
// last little longer than that when it comes back.
func (c *channel) backoffMost() time.Duration {
	if c.refresh > 0 {
		return min(backoffMost, c.refresh/4)
	}
	return backoffMost
}

// wait is how long to wait after so many failures: what the service asks for,
// or 1 s doubling to the most, and up to a quarter more so that not all retry
// at once.
func (e *Error) wait(attempts int, most time.Duration, key string) time.Duration {
	if e.RetryAfter > 0 {
		return min(e.RetryAfter, retryMost)
	}
	d := min(backoffFirst<<min(max(attempts-1, 0), 10), most)
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %d", key, attempts)
	return d + d/4*time.Duration(h.Sum32()%256)/256
}
