package notify

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// pair is a desk with two channels, the second of which no route leads to.
func pair(t *testing.T, remind time.Duration) (d *desk, a, b Channel) {
	a, b = to("a", Threaded, policy.LevelWarn), to("b", Append, policy.LevelPage)
	d = newDesk(t, a, b)
	d.o.Routes, d.o.RemindAfter = []Route{{Unit: "*", Channels: []string{"a"}}}, remind
	return d.open(), a, b
}

// alone is a desk with one channel and one reminder.
func alone(t *testing.T, class Class) (*desk, Channel) {
	c := to("c", class, policy.LevelWarn)
	d := newDesk(t, c)
	d.o.RemindAfter, d.o.RemindMax = 10*time.Minute, 1
	return d.open(), c
}

// says reports whether a channel got a message with these words.
func says(c Channel, want string) bool {
	sink := sinkOf(c)
	sink.mu.Lock()
	defer sink.mu.Unlock()
	return slices.ContainsFunc(sink.got, func(s string) bool { return strings.Contains(s, want) })
}

// adopted gives an incident a parent.
func adopted(a policy.Incident) (parent, child policy.Incident) {
	parent = trouble("INC-9", policy.LevelWarn)
	child = grow(a, "held")
	child.Parent, parent.Children = parent.ID, []string{a.ID}
	return parent, child
}

func TestAToldChildThatIsAdoptedStillCalls(t *testing.T) {
	for _, class := range []Class{Threaded, Append} {
		for _, closed := range []bool{false, true} {
			in(t, func(t *testing.T) {
				d, c := alone(t, class)
				defer d.kill()
				a := trouble("INC-1", policy.LevelWarn)
				d.commit(a)
				d.wait(time.Minute)
				parent, a := adopted(a)
				d.commit(parent, a)
				d.wait(time.Minute)
				if closed {
					d.commit(over(parent))
					d.wait(time.Minute)
				}
				d.commit(page(a))
				d.wait(5 * time.Hour)
				if !says(c, "!") {
					t.Errorf("%s, parent over %t: nobody was called: %q", class, closed, sinkOf(c).take())
				}
			})
		}
	}
}

func TestACalledChildThatIsAdoptedIsRemindedOf(t *testing.T) {
	in(t, func(t *testing.T) {
		d, c := alone(t, Append)
		defer d.kill()
		a := trouble("INC-1", policy.LevelPage)
		d.commit(a)
		d.wait(time.Minute)
		parent, a := adopted(a)
		d.commit(parent, a)
		d.wait(5 * time.Hour)
		d.sent(c, "0s post INC-1 page !", "1m0s post INC-9 warn", "10m0s remind INC-1 page re:1 !")
	})
}

func TestOthersCallForAChildWhoseParentWasTold(t *testing.T) {
	for _, r := range []Reason{ReasonNetwork, ReasonAuth, ReasonClient} {
		in(t, func(t *testing.T) {
			d, a, b := pair(t, -1)
			defer d.kill()
			parent, x, y := family()
			d.commit(parent, x, y)
			d.wait(time.Minute)
			sinkOf(a).failing(failWith(r, 0))
			d.commit(page(x))
			d.wait(3 * time.Hour)
			if !says(b, "!") {
				t.Errorf("%s: nobody was called", r)
			}
		})
	}
}

func TestAStormOutlivesAClockThatIsSetBack(t *testing.T) {
	in(t, func(t *testing.T) {
		var off atomic.Int64
		off.Store(int64(8 * time.Hour)) // the RTC is in local time
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())).Round(0) }
		d.open()
		defer d.kill()
		all := each2(many(10, policy.LevelWarn), page)
		for i := range all {
			all[i].Opened = d.o.Now()
		}
		off.Store(0)
		d.commit(all...)
		d.wait(24 * time.Hour)
		d.sent(c, "0s post INC-000 page !", "2s post STORM-001 page !")
	})
}

func TestOnePageThatIsNeverTakenGoesToTheOthers(t *testing.T) {
	in(t, func(t *testing.T) {
		d, a, b := pair(t, -1)
		defer d.kill()
		sinkOf(a).failing(func(m Message) error {
			if m.Story.Incident.ID == "INC-2" {
				return failWith(ReasonServer, 0)(m)
			}
			return nil
		})
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x, trouble("INC-2", policy.LevelPage))
		for range 600 {
			x = grow(x, "restart")
			d.commit(x)
			d.wait(time.Minute)
		}
		if !says(b, "INC-2 page !") {
			t.Error("in 10 h nobody was called")
		}
	})
}

func TestAChildIsNotCalledForTwiceWhenItsParentEnds(t *testing.T) {
	for class, want := range map[Class][]string{
		Append:   {"0s post INC-9 page !", "1m0s post INC-1 page !", "1m1s resolve INC-9 warn over re:1", "11m0s remind INC-1 page re:2 !"},
		Threaded: {"0s post INC-9 page !", "1m0s post INC-1 page !", "1m0s resolve INC-9 warn over re:1", "1m1s step INC-9 warn over re:1 recovered", "11m0s remind INC-1 page re:2 !"},
	} {
		in(t, func(t *testing.T) {
			d, c := alone(t, class)
			defer d.kill()
			parent, x, y := family()
			d.commit(parent, page(x), y)
			d.wait(time.Minute)
			sinkOf(c).msgs = sinkOf(c).msgs[:1]
			d.commit(over(parent))
			d.wait(5 * time.Hour)
			d.sent(c, want...)
		})
	}
}

func TestAChildsAckThatExpiresIsRemindedOf(t *testing.T) {
	in(t, func(t *testing.T) {
		d, c := alone(t, Append)
		defer d.kill()
		parent, x, y := family()
		x = page(x)
		d.commit(parent, x, y)
		d.wait(20 * time.Minute)
		x = take(x, time.Hour)
		d.commit(x)
		d.wait(time.Hour)
		x = grow(x, "expired")
		x.Ack = nil
		d.commit(x)
		d.wait(10 * time.Hour)
		d.sent(c, "0s post INC-9 page !", "10m0s remind INC-9 page re:1 !", "1h20m0s remind INC-9 page re:1 !")
	})
}

func TestASecondChildCallsThoughTheFirstIsTaken(t *testing.T) {
	in(t, func(t *testing.T) {
		d, c := alone(t, Append)
		defer d.kill()
		parent, x, y := family()
		x = page(x)
		d.commit(parent, x, y)
		d.wait(20 * time.Minute)
		sinkOf(c).take()
		d.commit(take(x, 8*time.Hour))
		d.wait(time.Hour)
		d.commit(page(y))
		d.wait(24 * time.Hour)
		if !says(c, "!") {
			t.Error("nobody hears of the second child, ever")
		}
	})
}

func TestTakenChildrenAreNotRemindedOf(t *testing.T) {
	t.Run("the other is silenced", func(t *testing.T) {
		in(t, func(t *testing.T) {
			d, c := alone(t, Append)
			defer d.kill()
			_, _ = d.n.AddSilence(Silence{Unit: "c-INC-2", By: "li", Why: "known", Until: time.Now().Add(24 * time.Hour)})
			parent, x, y := family()
			d.commit(parent, take(page(x), 8*time.Hour), page(y))
			d.wait(7 * time.Hour)
			d.sent(c, "0s post INC-9 page !")
		})
	})
	t.Run("in a storm", func(t *testing.T) {
		in(t, func(t *testing.T) {
			d, c := alone(t, Append)
			defer d.kill()
			parent, x, y := family()
			d.commit(append(many(7, policy.LevelWarn), parent)...)
			d.wait(10 * time.Second)
			d.commit(take(page(x), 8*time.Hour), y)
			d.wait(7 * time.Hour)
			d.sent(c, "0s post INC-000 warn", "2s post STORM-001 warn", "10s escalate STORM-001 page re:2 !")
		})
	})
}

func TestAServiceThatHasNothingToTellIsNotAwayForEver(t *testing.T) {
	in(t, func(t *testing.T) {
		d, a, b := pair(t, -1)
		defer d.kill()
		sinkOf(a).failing(failWith(ReasonNetwork, 0))
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(10 * time.Minute)
		d.commit(over(x))
		d.wait(2 * time.Hour)
		sinkOf(a).failing(nil)
		d.wait(72 * time.Hour)
		d.commit(trouble("INC-2", policy.LevelPage))
		d.wait(time.Hour)
		d.sent(b)
	})
}

func TestASecondChildIsCalledForAfterAWhile(t *testing.T) {
	in(t, func(t *testing.T) {
		d, c := alone(t, Append)
		defer d.kill()
		parent, x, y := family()
		d.commit(parent, page(x), y)
		d.wait(time.Minute)
		d.commit(page(y))
		d.wait(6 * time.Minute)
		d.sent(c, "0s post INC-9 page !", "5m0s escalate INC-9 page re:1 !")
	})
}

// What only keeps records has nobody to call, so nobody stands in for it.
func TestNobodyStandsInForAFeed(t *testing.T) {
	in(t, func(t *testing.T) {
		feed, chat, other := to("feed", Feed, policy.LevelWarn), to("chat", Append, policy.LevelWarn), to("other", Append, policy.LevelPage)
		d := newDesk(t, feed, chat, other)
		d.o.Routes = []Route{{Unit: "*", Channels: []string{"feed", "chat"}}}
		d.open()
		defer d.kill()
		sinkOf(feed).failing(failWith(ReasonNetwork, 0))
		d.commit(trouble("INC-1", policy.LevelPage))
		d.wait(10 * time.Minute)
		d.sent(chat, "0s post INC-1 page !")
		d.sent(other)
	})
}
