package notify

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestThreadedLife(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("ops", Threaded, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter = 0 // 30 min
		d.open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelInfo)
		d.commit(x)
		d.sent(c)
		x = grow(x, "restart 1")
		x.Level = policy.LevelWarn
		d.commit(x)
		d.sent(c, "0s post INC-1 warn")
		d.wait(10 * time.Second)
		x = grow(x, "restart 2")
		x = grow(x, "restart 3")
		x.Evidence = &policy.Evidence{At: time.Now(), Logs: []string{"Killed"}}
		d.commit(x)
		d.wait(5 * time.Second)
		d.sent(c, "10s edit INC-1 warn re:1", "10s evidence INC-1 warn re:1", "12s step INC-1 warn re:1 restart 2 restart 3")
		x = page(x)
		d.commit(x)
		d.wait(5 * time.Second)
		d.sent(c, "15s escalate INC-1 page re:1 !", "15s edit INC-1 page re:1", "16s step INC-1 page re:1 gave up")
		d.wait(3 * time.Hour)
		d.sent(c, "30m15s remind INC-1 page re:1 !", "1h0m15s remind INC-1 page re:1 !", "1h30m15s remind INC-1 page re:1 !")
		x = over(x)
		d.commit(x)
		d.wait(time.Hour)
		d.sent(c, "3h0m20s resolve INC-1 page over re:1", "3h0m20s step INC-1 page over re:1 recovered")
	})
}

func TestUrgentRootAndLinesOfAnOutbreakAreGathered(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("ops", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		for range 10 {
			x = grow(x, "s")
			d.commit(x)
			d.wait(200 * time.Millisecond)
		}
		d.wait(10 * time.Second)
		d.sent(c, "0s post INC-1 page !", "1s step INC-1 page re:1 s s s s s s", "2s edit INC-1 page re:1", "3s step INC-1 page re:1 s s s s")
	})
}

func TestARevisionThatShowsNothingNewIsNotSent(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("ops", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		x.Rev, x.Failures = 2, 3
		d.commit(x)
		d.wait(time.Hour)
		d.sent(c, "0s post INC-1 warn")
	})
}

func TestAppendLife(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("lark", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		for range 20 {
			d.wait(time.Minute)
			x = grow(x, "restart")
			d.commit(x)
		}
		x = page(x)
		d.commit(x)
		d.wait(time.Minute)
		x = over(x)
		d.commit(x)
		d.wait(time.Hour)
		d.sent(c, "0s post INC-1 warn", "20m0s escalate INC-1 page re:1 !", "21m0s resolve INC-1 page over re:1")

		y := trouble("INC-2", policy.LevelInfo)
		d.commit(y)
		d.wait(time.Minute)
		d.commit(over(y))
		d.wait(time.Hour)
		d.sent(c)
	})
}

func TestAlertLife(t *testing.T) {
	in(t, func(t *testing.T) {
		pd := to("pd", Alert, policy.LevelPage)
		am := Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelPage}
		d := newDesk(t, pd, am).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(time.Minute)
		x = page(x)
		d.commit(x)
		d.wait(150 * time.Second)
		x = grow(x, "ack")
		x.Ack = &policy.Ack{By: "li", At: time.Now(), Until: time.Now().Add(time.Hour)}
		d.commit(x)
		d.wait(10 * time.Second)
		x = over(x)
		d.commit(x)
		d.wait(time.Hour)
		d.sent(pd, "1m0s post INC-1 page !", "3m30s ack INC-1 page re:1", "3m40s resolve INC-1 page over re:1")
		d.sent(am, "1m0s post INC-1 page !", "2m0s post INC-1 page re:1 !", "3m0s post INC-1 page re:2 !", "3m30s ack INC-1 page re:3", "3m40s resolve INC-1 page over re:3",
			"4m40s resolve INC-1 page over re:3", "5m40s resolve INC-1 page over re:3", "6m40s resolve INC-1 page over re:3", "7m40s resolve INC-1 page over re:3", "8m40s resolve INC-1 page over re:3")
	})
}

// An answer may be lost, so what was never taken as far as is known is ended
// all the same.
func TestAlertIsNotRaisedForWhatIsOver(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("pd", Alert, policy.LevelPage)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonTimeout, 0))
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		sinkOf(c).failing(nil)
		d.commit(over(x))
		d.wait(time.Hour)
		d.sent(c, "1s resolve INC-1 page over")
	})
}

func TestFeedGetsTheNewestRevision(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("hook", Feed, policy.LevelInfo)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelInfo)
		d.commit(x)
		for range 10 {
			d.wait(300 * time.Millisecond)
			x.Rev++
			d.commit(x)
		}
		d.commit(over(x))
		d.wait(time.Hour)
		d.sent(c, "0s post INC-1 info", "2s edit INC-1 info re:1", "4s resolve INC-1 info over re:1")
		revs := []int{}
		for _, m := range sinkOf(c).msgs {
			revs = append(revs, m.Story.Incident.Rev)
		}
		if diff := cmp.Diff([]int{1, 7, 12}, revs); diff != "" {
			t.Error(diff)
		}
	})
}

// What reads a feed wants to know all: children too, in silences and at night.
func TestAFeedGetsEverything(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("hook", Feed, policy.LevelInfo)
		d := newDesk(t, c)
		d.o.Quiet = Quiet{From: 23 * 60, To: 7 * 60, Zone: time.UTC} // the bubble begins at midnight
		d.open()
		defer d.kill()
		if _, err := d.n.AddSilence(Silence{Unit: "*", By: "li", Why: "test", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		parent, a, b := family()
		d.commit(parent, a, b)
		d.wait(time.Minute)
		a = page(a)
		d.commit(a)
		d.wait(time.Minute)
		d.commit(over(a))
		d.wait(time.Minute)
		d.sent(c, "0s post INC-1 warn", "0s post INC-2 warn", "1s post INC-9 warn", "1m0s edit INC-1 page re:1 !", "2m0s resolve INC-1 page over re:1")
		if m := sinkOf(c).msgs[2]; m.Story.Incident.Level != policy.LevelWarn {
			t.Errorf("the parent has the level of its child: %+v", m.Story.Incident)
		}
	})
}

func TestFlappingIsOneMessage(t *testing.T) {
	in(t, func(t *testing.T) {
		slack, lark := to("slack", Threaded, policy.LevelWarn), to("lark", Append, policy.LevelWarn)
		d := newDesk(t, slack, lark).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(time.Minute)
		d.commit(over(x))
		d.wait(time.Minute)
		y := trouble("INC-2", policy.LevelWarn)
		y.Root, y.Times = "INC-1", 2
		d.commit(y)
		d.wait(time.Minute)
		d.commit(over(y))
		d.wait(time.Minute)
		z := trouble("INC-3", policy.LevelWarn)
		z.Root, z.Times = "INC-1", 3
		d.commit(z)
		d.wait(time.Minute)
		d.commit(page(z))
		d.wait(time.Minute)
		d.sent(slack,
			"0s post INC-1 warn", "1m0s resolve INC-1 warn over re:1", "1m0s step INC-1 warn over re:1 recovered",
			"2m0s edit INC-2 warn re:1", "2m0s again INC-2 warn re:1", "2m1s step INC-2 warn re:1 exited", "3m0s resolve INC-2 warn over re:1", "3m0s step INC-2 warn over re:1 recovered",
			"4m0s edit INC-3 warn re:1", "4m0s step INC-3 warn re:1 exited",
			"5m0s escalate INC-3 page re:1 !", "5m0s edit INC-3 page re:1", "5m1s step INC-3 page re:1 gave up")
		d.sent(lark, "0s post INC-1 warn", "1m0s resolve INC-1 warn over re:1", "5m0s post INC-3 page re:1 !")
		if k := sinkOf(slack).msgs; k[0].Key != "gpu-03/llm/INC-1/1/INC-1" {
			t.Errorf("key %q", k[0].Key)
		}
	})
}

func TestAppendHearsOfFlappingOnceAnHour(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("lark", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(time.Minute)
		d.commit(over(x))
		d.wait(time.Minute)
		y := trouble("INC-2", policy.LevelWarn)
		y.Root, y.Times = "INC-1", 2
		d.commit(y)
		d.wait(2 * time.Hour)
		d.sent(c, "0s post INC-1 warn", "1m0s resolve INC-1 warn over re:1", "1h0m0s post INC-2 warn re:1")
	})
}

func TestAckStopsReminders(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("lark", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter, d.o.RemindMax = 10*time.Minute, 2
		d.open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		d.wait(11 * time.Minute)
		x = grow(x, "ack")
		x.Ack = &policy.Ack{By: "li", At: time.Now(), Until: time.Now().Add(time.Hour)}
		d.commit(x)
		d.wait(3 * time.Hour)
		d.sent(c, "0s post INC-1 page !", "10m0s remind INC-1 page re:1 !", "1h11m0s remind INC-1 page re:1 !")
	})
}

func TestALostRootIsPostedAnewOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("slack", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		sinkOf(c).failing(func(m Message) error {
			if m.Kind == KindEdit {
				return &Error{Reason: ReasonGone, Err: errors.New("no")}
			}
			return nil
		})
		d.wait(time.Minute)
		x = grow(x, "restart 1")
		d.commit(x)
		d.wait(time.Minute)
		d.sent(c, "0s post INC-1 warn", "1m0s post INC-1 warn")
		x = grow(x, "restart 2")
		d.commit(x)
		d.wait(time.Minute)
		d.commit(page(x))
		d.wait(time.Minute)
		d.sent(c, "2m0s step INC-1 warn re:2 restart 2", "3m0s escalate INC-1 page re:2 !", "3m1s step INC-1 page re:2 gave up")
	})
}
