package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func failWith(r Reason, after time.Duration) func(Message) error {
	return func(Message) error { return &Error{Reason: r, RetryAfter: after, Err: errors.New("no")} }
}

func TestAfterAnOutageOneTrueMessage(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonNetwork, 0))
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		for i := range 12 {
			d.wait(10 * time.Minute)
			x = grow(x, fmt.Sprint("restart ", i))
			d.commit(x)
		}
		if n := sinkOf(c).calls; n < 24 || n > 40 {
			t.Errorf("%d attempts in two hours, want about one in 5 min", n)
		}
		s := d.n.Channels()[0]
		if s.Waiting != 1 || !s.Oldest.Equal(d.start) || s.LastError != "no" || s.Failed[ReasonNetwork] != uint64(sinkOf(c).calls) {
			t.Errorf("status %+v", s)
		}
		sinkOf(c).failing(nil)
		d.wait(time.Hour)
		got := sinkOf(c).take()
		if len(got) != 1 || !strings.HasSuffix(got[0], "post INC-1 warn") {
			t.Errorf("sent %q, want one post", got)
		}
		if m := sinkOf(c).msgs[0]; m.Story.Incident.Rev != 13 || !m.Since.Equal(d.start) {
			t.Errorf("revision %d since %v", m.Story.Incident.Rev, m.Since)
		}
	})
}

func TestOldNewsIsDropped(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonServer, 0))
		x, y := trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelPage)
		d.commit(over(x), over(y))
		d.wait(23 * time.Hour)
		sinkOf(c).failing(nil)
		d.wait(time.Hour / 2)
		if got := d.sentKinds(c); !slices.Equal(got, []Kind{KindPost}) || sinkOf(c).msgs[0].Story.Incident.ID != "INC-2" {
			t.Errorf("sent %q", sinkOf(c).take())
		}
		if s := d.n.Channels()[0]; s.Dropped != 1 {
			t.Errorf("dropped %d, want 1", s.Dropped)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonRateLimited, 7*time.Minute))
		d.commit(trouble("INC-1", policy.LevelWarn))
		sinkOf(c).failing(nil)
		d.wait(5 * time.Minute)
		d.commit(trouble("INC-2", policy.LevelWarn))
		d.wait(time.Hour)
		d.sent(c, "7m0s post INC-1 warn", "7m1s post INC-2 warn")
	})
}

func TestARefusedRevisionIsTriedAgainWhenItChanges(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonClient, 0))
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		sinkOf(c).failing(nil)
		d.wait(time.Hour)
		if s := d.n.Channels()[0]; s.Dropped != 1 || s.Failed[ReasonClient] != 1 || s.Waiting != 0 {
			t.Errorf("status %+v", s)
		}
		d.commit(grow(x, "restart"))
		d.wait(time.Hour)
		d.sent(c, "1h0m0s post INC-1 warn")
	})
}

func TestAPoisonousMessageDelaysNoOther(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(func(m Message) error {
			if m.Story.Incident.ID == "INC-1" {
				panic("secret")
			}
			if m.Story.Incident.ID == "INC-2" {
				return &Error{Reason: ReasonServer, Err: errors.New("no")}
			}
			return nil
		})
		d.commit(trouble("INC-1", policy.LevelPage))
		d.wait(2 * time.Minute)
		d.commit(trouble("INC-2", policy.LevelPage))
		d.wait(2 * time.Minute)
		d.commit(trouble("INC-3", policy.LevelPage))
		d.wait(5 * time.Minute)
		if diff := cmp.Diff([]Kind{KindPost}, d.sentKinds(c)); diff != "" {
			t.Error(diff)
		}
		if strings.Contains(d.log.String(), "secret") {
			t.Error("the log repeats what a sender panicked with")
		}
	})
}

func TestAParkedChannelHandsPagesToTheOthers(t *testing.T) {
	in(t, func(t *testing.T) {
		slack, lark, ml := to("slack", Threaded, policy.LevelWarn), to("lark", Append, policy.LevelPage), to("ml", Append, policy.LevelWarn)
		d := newDesk(t, slack, lark, ml)
		d.o.Routes = []Route{{Unit: "*", Channels: []string{"slack"}}}
		d.open()
		defer d.kill()
		sinkOf(slack).failing(failWith(ReasonAuth, 0))
		x, y := trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelPage)
		d.commit(x, y)
		d.wait(12 * time.Minute)
		if n := sinkOf(slack).calls; n != 3 {
			t.Errorf("%d attempts in 12 min, want 3", n)
		}
		s := d.n.Channels()[0]
		if !s.Parked.Equal(d.start) || s.ParkedWhy != "no" || s.Waiting != 2 {
			t.Errorf("status %+v", s)
		}
		sinkOf(slack).failing(nil)
		y = grow(y, "restart")
		d.commit(y)
		d.wait(5 * time.Minute)
		d.commit(trouble("INC-3", policy.LevelPage))
		d.wait(time.Minute)
		d.commit(over(y))
		d.wait(time.Minute)
		d.sent(slack, "15m0s post INC-1 warn", "15m1s post INC-2 page !", "17m0s post INC-3 page !", "18m0s resolve INC-2 page over re:2", "18m0s step INC-2 page over re:2 recovered")
		d.sent(lark, "0s post INC-2 page !", "18m0s resolve INC-2 page over re:1")
		d.sent(ml, "0s post INC-2 page !", "18m0s resolve INC-2 page over re:1")
		if s := d.n.Channels()[0]; !s.Parked.IsZero() {
			t.Errorf("still parked: %+v", s)
		}
	})
}

// A service that is away, or has had enough for an hour, does not keep a page
// from people: the other channels call, this one tells it when it is back.
func TestAServiceThatIsAwayHandsPagesToTheOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		fail func(Message) error
		lark string // when the other channel calls
		back string // when this one tells …
		then string // … and what could wait
	}{
		"away":          {failWith(ReasonNetwork, 0), "1m8s", "14m56s", "14m57s"},
		"enough for 1h": {failWith(ReasonRateLimited, time.Hour), "0s", "1h0m0s", "1h0m1s"},
		"broken":        {failWith(ReasonServer, 0), "1m8s", "14m56s", "14m57s"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				slack, lark := to("slack", Threaded, policy.LevelWarn), to("lark", Append, policy.LevelPage)
				d := newDesk(t, slack, lark)
				d.o.Routes = []Route{{Unit: "*", Channels: []string{"slack"}}}
				d.open()
				defer d.kill()
				sinkOf(slack).failing(tc.fail)
				d.commit(trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelPage))
				d.wait(10 * time.Minute)
				if s := d.n.Channels()[0]; !s.Silent.Equal(d.start) {
					t.Errorf("status %+v, want it silent from the start", s)
				}
				sinkOf(slack).failing(nil)
				d.wait(time.Hour)
				d.sent(lark, tc.lark+" post INC-2 page !")
				d.sent(slack, tc.back+" post INC-2 page !", tc.then+" post INC-1 warn")
				if s := d.n.Channels()[0]; !s.Silent.IsZero() {
					t.Errorf("still silent: %+v", s)
				}
			})
		})
	}
}

func TestAHangingSinkDelaysNobodyElse(t *testing.T) {
	in(t, func(t *testing.T) {
		bad, good := to("bad", Append, policy.LevelWarn), to("good", Append, policy.LevelWarn)
		d := newDesk(t, bad, good).open()
		defer d.kill()
		sinkOf(bad).failing(func(Message) error { return errHang })
		for i := range 3 {
			d.commit(trouble(fmt.Sprintf("INC-%d", i), policy.LevelWarn))
			d.wait(2 * time.Second)
		}
		d.sent(good, "0s post INC-0 warn", "4s post INC-1 warn", "6s post INC-2 warn")
		d.wait(20 * time.Second)
		if s := d.n.Channels()[0]; s.Failed[ReasonTimeout] != 1 || s.LastError != "there was no answer within 20s" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAnArchiveThatCannotBeReadIsAskedAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		d.arch.err = errors.New("broken")
		d.commit(trouble("INC-1", policy.LevelWarn))
		d.wait(time.Minute)
		d.arch.mu.Lock()
		d.arch.err = nil
		d.arch.mu.Unlock()
		d.wait(time.Minute)
		d.sent(c, "1m5s post INC-1 warn")
		if n := strings.Count(d.log.String(), "incident cannot be read"); n != 1 {
			t.Errorf("it was logged %d times, want once", n)
		}
	})
}
