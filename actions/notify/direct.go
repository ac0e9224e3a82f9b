package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestResult is what became of one test message.
type TestResult struct {
	Channel string        `json:"channel"`
	Type    string        `json:"type,omitempty"`
	Took    time.Duration `json:"took_ns"`
	Reason  Reason        `json:"reason,omitempty"` // empty: it was taken
	Error   string        `json:"error,omitempty"`
}

// Test sends a test message to a channel, or to every one when channel is
// empty, past queues, and past limits unless the service would shut the channel
// out, and waits for the answers. One that is taken ends a channel's parking,
// and what failed before is tried again at once.
func (n *Notifier) Test(ctx context.Context, channel string) []TestResult {
	var to []*channelTest
	for _, c := range n.channels {
		if channel == "" || channel == c.Name {
			to = append(to, &channelTest{c: c})
		}
	}
	if len(to) == 0 {
		return []TestResult{{Channel: channel, Reason: ReasonClient, Error: "there is no such channel: `defib notify test` without a name tests all"}}
	}
	var wg sync.WaitGroup
	for _, t := range to {
		wg.Go(func() { t.run(ctx) })
	}
	wg.Wait()
	out := make([]TestResult, 0, len(to))
	for _, t := range to {
		out = append(out, t.result)
	}
	return out
}

type channelTest struct {
	c      *channel
	result TestResult
}

func (t *channelTest) run(ctx context.Context) {
	c, n := t.c, t.c.n
	start := n.o.Now()
	story := n.o.Story(policy.Incident{Level: policy.LevelInfo, Opened: start, Cause: "this is a test: nothing is wrong"})
	err := c.direct(ctx, n.render(story, KindTest), "test")
	t.result = TestResult{Channel: c.Name, Type: c.Type, Took: n.o.Now().Sub(start)}
	if err != nil {
		t.result.Reason, t.result.Error = err.Reason, cutRunes(Clean(err.Error()), errorMost)
	}
}

// direct sends a message that belongs to no incident.
func (c *channel) direct(ctx context.Context, m Message, about string) *Error {
	if e := c.pushIn(); e != nil {
		return e
	}
	m.Key = fmt.Sprintf("%s/%s", m.Story.Host, about)
	_, err := c.send(ctx, m)
	if errors.Is(err, ErrNothing) {
		return nil
	}
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if err == nil {
		c.works(c.n.o.Now())
		for _, r := range c.recs { // a human sees to it that it works
			r.notBefore = 0
		}
		c.nudge()
		return nil
	}
	e := asError(err)
	c.failing(e, c.n.o.Now())
	return e
}

// pushIn takes a turn at once, but not where pages would pay for it.
func (c *channel) pushIn() *Error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	now := c.n.o.Now()
	if at := c.posts.ready(now); c.strict && at.After(now) {
		return &Error{Reason: ReasonRateLimited, RetryAfter: at.Sub(now), Err: errors.New("the service shuts out who sends more than it was sent just now; try again in some seconds")}
	}
	c.posts.take(now)
	return nil
}

// Hello says that defib has started, and what it found, on every channel but
// those that wake people.
func (n *Notifier) Hello(ctx context.Context, text string) {
	m := n.render(n.o.Story(policy.Incident{Rule: RuleStart, Level: policy.LevelInfo, Opened: n.o.Now(), Cause: text}), KindTest)
	var wg sync.WaitGroup
	for _, c := range n.channels {
		if c.class != Alert {
			wg.Go(func() { c.hello(ctx, m) })
		}
	}
	wg.Wait()
}

func (c *channel) hello(ctx context.Context, m Message) {
	if err := c.direct(ctx, m, "start"); err != nil && err.Reason == ReasonAuth {
		c.n.mu.Lock()
		defer c.n.mu.Unlock()
		c.park(c.n.o.Now())
	}
}
