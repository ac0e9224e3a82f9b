package notify

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestEachChannelHasItsLevel(t *testing.T) {
	in(t, func(t *testing.T) {
		all, some, few := to("all", Append, policy.LevelInfo), to("some", Append, ""), to("few", Append, policy.LevelPage)
		d := newDesk(t, all, some, few).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelInfo)
		d.commit(x)
		d.wait(time.Second)
		x.Level, x.Rev = policy.LevelWarn, 2
		d.commit(x)
		d.wait(time.Second)
		d.commit(page(x))
		d.wait(time.Minute)
		d.sent(all, "0s post INC-1 info", "2s escalate INC-1 page re:1 !")
		d.sent(some, "1s post INC-1 warn", "2s escalate INC-1 page re:1 !")
		d.sent(few, "2s post INC-1 page !")
	})
}

func TestRoutesLeadIncidentsToTheirChannels(t *testing.T) {
	in(t, func(t *testing.T) {
		ml, ops := to("ml", Append, policy.LevelWarn), to("ops", Append, policy.LevelWarn)
		d := newDesk(t, ml, ops)
		d.o.Routes = []Route{{Label: "team", Value: "ml-*", Channels: []string{"ml"}}, {Project: "x", Channels: []string{"ml"}}, {Unit: "c-INC-3", Channels: []string{"ops"}}}
		d.o.Facts = func(unit string) (Facts, bool) {
			return map[string]Facts{"llm/INC-1/1": {Labels: map[string]string{"team": "ml-eu"}}, "llm/INC-2/1": {Project: "x"}}[unit], true
		}
		d.open()
		defer d.kill()
		for i := range 4 {
			d.commit(trouble(fmt.Sprintf("INC-%d", i+1), policy.LevelWarn))
			d.wait(2 * time.Minute)
		}
		d.sent(ml, "0s post INC-1 warn", "2m0s post INC-2 warn", "6m0s post INC-4 warn")
		d.sent(ops, "4m0s post INC-3 warn", "6m0s post INC-4 warn")
	})
}

func TestAChildIsToldByItsParent(t *testing.T) {
	for _, class := range []Class{Threaded, Append, Alert} {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("c", class, policy.LevelWarn)
				d := newDesk(t, c).open()
				defer d.kill()
				parent := trouble("INC-9", policy.LevelWarn)
				parent.Steps = nil
				var children []policy.Incident
				for i := range 8 {
					child := trouble(fmt.Sprintf("INC-%d", i), policy.LevelWarn)
					child.Parent = parent.ID
					parent.Children = append(parent.Children, child.ID)
					children = append(children, child)
				}
				d.commit(append(slices.Clone(children), parent)...)
				d.wait(time.Minute)
				d.commit(page(children[3]))
				d.wait(time.Minute)
				d.commit(page(children[4]))
				d.wait(time.Minute)
				want := map[Class][]string{
					Threaded: {"0s post INC-9 warn", "1m0s escalate INC-9 page re:1 !", "1m0s edit INC-9 page re:1"},
					Append:   {"0s post INC-9 warn", "1m0s escalate INC-9 page re:1 !"},
					Alert:    {"0s post INC-9 warn", "1m0s escalate INC-9 page re:1 !"},
				}
				d.sent(c, want[class]...)
			})
		})
	}
}

func TestAChildSpeaksForItselfWhenItsParentIsOver(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		parent, a, b := trouble("INC-9", policy.LevelWarn), trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelWarn)
		a.Parent, b.Parent, parent.Children = parent.ID, parent.ID, []string{"INC-1", "INC-2"}
		d.commit(parent, a, b)
		d.wait(time.Minute)
		d.commit(over(parent))
		d.wait(time.Minute)
		d.commit(page(b))
		d.wait(time.Minute)
		d.sent(c, "0s post INC-9 warn", "1m0s resolve INC-9 warn over re:1", "2m0s post INC-2 page !")
	})
}

func TestSilence(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		until := time.Now().Add(time.Hour)
		s, err := d.n.AddSilence(Silence{Unit: "c-INC-[12]", By: "li", Why: "test", Until: until})
		if err != nil || s.ID != "S1" || !s.From.Equal(d.start) {
			t.Fatalf("%+v, %v", s, err)
		}
		if _, err := d.n.AddSilence(Silence{Unit: "c-INC-?", Rule: "ex*", By: "li", Why: "upgrade", Until: until}); err != nil {
			t.Fatal(err)
		}
		x, y := trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelPage)
		d.commit(x, y)
		d.wait(time.Minute)
		d.commit(over(x), trouble("INC-33", policy.LevelWarn))
		d.wait(2 * time.Hour)
		d.sent(c, "1m0s post INC-33 warn", "1h0m0s post INC-2 page !")
		if got := d.n.Silences(); len(got) != 0 {
			t.Errorf("silences %v, want none", got)
		}
	})
}

func TestASilenceEndsEarly(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		s, err := d.n.AddSilence(Silence{Unit: "*", By: "li", Why: "upgrade", Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		d.wait(time.Minute)
		d.commit(page(x))
		d.wait(time.Minute)
		q := d.n.Queue()
		if len(q) != 1 || q[0].Kind != KindEscalate || !q[0].NotBefore.Equal(s.Until) {
			t.Errorf("queue %+v", q)
		}
		if err := d.n.RemoveSilence(s.ID); err != nil {
			t.Fatal(err)
		}
		d.wait(time.Minute)
		d.sent(c, "0s post INC-1 warn", "2m0s escalate INC-1 page re:1 !")
		if err := d.n.RemoveSilence(s.ID); !errors.Is(err, ErrNoSilence) {
			t.Errorf("%v, want ErrNoSilence", err)
		}
	})
}

func TestASilenceMustSayEverything(t *testing.T) {
	in(t, func(t *testing.T) {
		d := newDesk(t, to("c", Append, "")).open()
		defer d.kill()
		whole := Silence{Unit: "x", By: "li", Why: "y", Until: time.Now().Add(time.Hour)}
		for _, change := range []func(*Silence){
			func(s *Silence) { s.Unit = "" }, func(s *Silence) { s.By = "" }, func(s *Silence) { s.Why = "" },
			func(s *Silence) { s.Until = time.Time{} }, func(s *Silence) { s.Until = time.Now() }, func(s *Silence) { s.From = s.Until },
		} {
			s := whole
			change(&s)
			if got, err := d.n.AddSilence(s); err == nil {
				t.Errorf("%+v was accepted as %+v", s, got)
			}
		}
	})
}

func TestQuietHoursKeepBackWhatIsNotUrgent(t *testing.T) {
	in(t, func(t *testing.T) { // the bubble begins at midnight, UTC
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Quiet = Quiet{From: 23 * 60, To: 7 * 60, Zone: time.UTC}
		d.open()
		defer d.kill()
		d.commit(trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelPage))
		d.wait(time.Hour)
		y := trouble("INC-3", policy.LevelWarn)
		d.commit(y)
		d.wait(time.Minute)
		d.commit(over(y))
		d.wait(24 * time.Hour)
		d.sent(c, "0s post INC-2 page !", "7h0m0s post INC-1 warn", "7h0m2s post INC-3 warn over")
	})
}

func TestDirectMessages(t *testing.T) {
	in(t, func(t *testing.T) {
		a, b, pd := to("a", Append, policy.LevelPage), to("b", Feed, policy.LevelWarn), to("pd", Alert, policy.LevelPage)
		d := newDesk(t, a, b, pd)
		d.open()
		defer d.kill()
		d.n.Hello(t.Context(), "It watches 3 containers")
		d.sent(a, "0s test")
		d.sent(pd)
		sinkOf(b).failing(failWith(ReasonServer, 0))
		got := d.n.Test(t.Context(), "")
		want := []TestResult{{Channel: "a", Type: "append"}, {Channel: "b", Type: "feed", Reason: ReasonServer, Error: "no"}, {Channel: "pd", Type: "alert"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := d.n.Test(t.Context(), "x"); len(got) != 1 || got[0].Reason != ReasonClient {
			t.Errorf("%+v", got)
		}
	})
}

// A service that shuts out who sends too much is not tested until it does, and
// that it was not says nothing of the channel.
func TestTestsShutNoRobotOut(t *testing.T) {
	in(t, func(t *testing.T) {
		c := Channel{Name: "ding", Sink: paced{&fakeSink{class: Append}}}
		d := newDesk(t, c)
		d.open()
		defer d.kill()
		refused := 0
		for range 60 {
			if d.n.Test(t.Context(), "ding")[0].Reason == ReasonRateLimited {
				refused++
			}
			d.wait(time.Second)
		}
		if n := sinkOf(c).calls; n > dingPerMinute || n < dingPerMinute-1 || n+refused != 60 {
			t.Errorf("%d messages in a minute, and %d refused", n, refused)
		}
		if s := d.n.Channels()[0]; s.LastError != "" || len(s.Failed) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Of a unit that is gone the incident still knows the project.
func TestWhatIsGoneGoesWhereItBelonged(t *testing.T) {
	in(t, func(t *testing.T) {
		shop, other := to("shop", Append, policy.LevelWarn), to("other", Append, policy.LevelWarn)
		d := newDesk(t, shop, other)
		d.o.Routes = []Route{{Project: "shop", Channels: []string{"shop"}}, {Channels: []string{"other"}}}
		d.o.Facts = func(string) (Facts, bool) { return Facts{}, false }
		d.open()
		defer d.kill()
		x, y := trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelWarn)
		x.Project, y.Project = "shop", "ml"
		if _, err := d.n.AddSilence(Silence{Project: "ml", By: "li", Why: "test", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		d.commit(over(x), y)
		d.wait(time.Minute)
		d.sent(shop, "0s post INC-1 warn over")
		d.sent(other)
	})
}
