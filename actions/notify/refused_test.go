package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// It is mostly the address that is wrong: a page that is refused is tried again
// once in a while, shown until then, and at once after a restart.
func TestARefusedPageIsTriedAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("tg", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		sinkOf(c).failing(failWith(ReasonClient, 0)) // chat not found, relaying denied
		x, y := trouble("INC-1", policy.LevelPage), trouble("INC-2", policy.LevelWarn)
		d.commit(x)
		d.wait(time.Hour + time.Minute)
		if n := sinkOf(c).calls; n != 3 {
			t.Errorf("%d attempts in an hour, want 3", n)
		}
		if s := d.n.Channels()[0]; !s.Refused.Equal(d.start) || !s.Parked.IsZero() || s.Waiting != 1 {
			t.Errorf("status %+v, want it refused from the start", s)
		}
		d.commit(y)
		sinkOf(c).failing(nil)
		d.wait(28 * time.Minute)
		d.sent(c) // a warning is not worth it
		d.wait(time.Hour)
		d.sent(c, "1h30m0s post INC-1 page !")
		if s := d.n.Channels()[0]; !s.Refused.IsZero() || s.Waiting != 0 {
			t.Errorf("status %+v, want nothing refused", s)
		}
		sinkOf(c).failing(failWith(ReasonClient, 0))
		d.commit(trouble("INC-3", policy.LevelPage))
		d.kill()
		sinkOf(c).failing(nil)
		d.open()
		defer d.kill()
		d.wait(time.Minute)
		d.sent(c, "2h29m1s post INC-3 page !")
	})
}

// What happens elsewhere is no reason to try a storm's message again that was
// refused; what happens in it is.
func TestARefusedStormIsTriedAgainWhenItChanges(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		s := sinkOf(c)
		s.failing(func(m Message) error {
			if m.Story.Incident.Rule == RuleStorm {
				return failWith(ReasonClient, 0)(m)
			}
			return nil
		})
		all := many(8, policy.LevelPage)
		d.commit(all...)
		d.wait(time.Minute)
		before := s.calls
		x := trouble("INC-X", policy.LevelInfo)
		for range 60 {
			x = grow(x, "restart")
			d.commit(x)
			d.wait(5 * time.Second)
		}
		if n := s.calls - before; n != 0 {
			t.Errorf("%d attempts though nothing happened in the storm", n)
		}
		d.commit(grow(all[6], "restart"))
		d.wait(time.Minute)
		d.commit(over(all[7]))
		d.wait(time.Minute)
		if n := s.calls - before; n != 2 {
			t.Errorf("%d attempts though two things happened in the storm", n)
		}
	})
}

// What was refused and is taken later is told of as if nothing had been.
func TestWhatWasRefusedGoesOn(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("tg", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter, d.o.RemindMax = 10*time.Minute, 1
		d.open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonClient, 0))
		d.commit(trouble("INC-1", policy.LevelPage))
		sinkOf(c).failing(nil)
		d.wait(2 * time.Hour)
		d.sent(c, "30m0s post INC-1 page !", "40m0s remind INC-1 page re:1 !")
	})
}

// Only what is not tried again is called dropped, and counted.
func TestWhatIsTriedAgainIsNotDropped(t *testing.T) {
	for level, c := range map[policy.Level]struct {
		log     string
		dropped uint64
	}{
		policy.LevelPage: {`level=ERROR msg="the service will not take a message: it is sent again when there is news, or later" channel=c incident=INC-1 kind=post err=no in=30m0s`, 0},
		policy.LevelWarn: {`level=ERROR msg="message is dropped: the service will not take it" channel=c incident=INC-1 kind=post err=no`, 1},
	} {
		t.Run(string(level), func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", Append, policy.LevelWarn)
				d := newDesk(t, ch).open()
				defer d.kill()
				sinkOf(ch).failing(failWith(ReasonClient, 0))
				d.commit(trouble("INC-1", level))
				d.wait(10 * time.Hour)
				if n := strings.Count(d.log.String(), "level=ERROR"); n != 1 || !strings.Contains(d.log.String(), c.log) {
					t.Errorf("it says %s", &d.log)
				}
				if s := d.n.Channels()[0]; s.Dropped != c.dropped {
					t.Errorf("dropped %d, want %d", s.Dropped, c.dropped)
				}
			})
		})
	}
}

// An alert whose end is refused is not open for ever; the end of what was told
// is worth a day.
func TestARefusedEndIsTriedAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("pd", Alert, policy.LevelPage)
		d := newDesk(t, c).open()
		defer d.kill()
		for i, wait := range []time.Duration{119 * time.Minute, 30 * time.Hour} {
			x := trouble(fmt.Sprintf("INC-%d", i), policy.LevelPage)
			sinkOf(c).failing(nil)
			d.commit(x)
			sinkOf(c).failing(failWith(ReasonClient, 0))
			d.commit(over(x))
			d.wait(wait)
			sinkOf(c).failing(nil)
			d.wait(time.Hour)
		}
		d.sent(c, "0s post INC-0 page !", "2h0m0s resolve INC-0 page over re:1", "2h59m0s post INC-1 page !")
	})
}

// A service that refuses whatever it is sent tells nobody: the others do, and
// it is tried again as after a refused token.
func TestAChannelThatRefusesEverythingIsParked(t *testing.T) {
	in(t, func(t *testing.T) {
		bad, good := to("bad", Append, policy.LevelWarn), to("good", Append, policy.LevelPage)
		d := newDesk(t, bad, good)
		d.o.Routes = []Route{{Unit: "*", Channels: []string{"bad"}}}
		d.open()
		defer d.kill()
		sinkOf(bad).failing(failWith(ReasonClient, 0))
		d.commit(trouble("INC-1", policy.LevelWarn))
		d.wait(2 * time.Minute)
		d.commit(trouble("INC-2", policy.LevelPage))
		d.wait(2 * time.Minute)
		d.sent(good, "2m0s post INC-2 page !") // that one alone, for it is refused
		if s := d.n.Channels()[0]; !s.Parked.IsZero() {
			t.Errorf("parked after two: %+v", s)
		}
		d.commit(trouble("INC-3", policy.LevelWarn))
		d.wait(2 * time.Minute)
		if s := d.n.Channels()[0]; !s.Parked.Equal(d.start.Add(4*time.Minute)) || s.ParkedWhy != "no" {
			t.Errorf("status %+v, want it parked since the third", s)
		}
		sinkOf(bad).failing(nil)
		d.commit(trouble("INC-4", policy.LevelPage))
		d.sent(good, "6m0s post INC-4 page !")
		d.wait(10 * time.Minute)
		d.sent(bad, "9m0s post INC-4 page !", "9m1s post INC-2 page !")
		if s := d.n.Channels()[0]; !s.Parked.IsZero() {
			t.Errorf("still parked: %+v", s)
		}
	})
}

// A message that is refused again and again is that message's fault. Many of
// them park the channel, and keep none of the others back for long.
func TestRefusalsKeepNothingElseBack(t *testing.T) {
	for name, bad := range map[string]int{"one": 1, "many": 8} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("c", Append, policy.LevelWarn)
				d := newDesk(t, c).open()
				defer d.kill()
				sinkOf(c).failing(func(m Message) error {
					if m.Story.Incident.Level == policy.LevelPage {
						return failWith(ReasonClient, 0)(m)
					}
					return nil
				})
				for _, x := range many(bad, policy.LevelPage) {
					d.commit(x)
					d.wait(2 * time.Minute)
				}
				for i := range 10 {
					d.commit(trouble(fmt.Sprintf("INC-W%d", i), policy.LevelWarn))
					d.wait(20 * time.Minute)
				}
				if got := sinkOf(c).take(); len(got) != 10 {
					t.Errorf("sent %q, want the 10 that are not refused", got)
				}
				if s := d.n.Channels()[0]; bad == 1 && !s.Parked.IsZero() || s.Refused.IsZero() || s.Dropped != 0 { // each is tried again
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

// A token that is refused for one message only must not keep the others back.
func TestAfterARefusedTokenAnotherMessageIsTried(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("slack", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(func(m Message) error {
			if m.Story.Incident.ID == "INC-1" {
				return &Error{Reason: ReasonAuth, Err: errors.New("not there")}
			}
			return nil
		})
		d.commit(trouble("INC-1", policy.LevelPage))
		d.wait(time.Minute)
		d.commit(trouble("INC-2", policy.LevelPage))
		d.wait(10 * time.Minute)
		d.sent(c, "5m0s post INC-2 page !")
		d.commit(trouble("INC-3", policy.LevelWarn))
		d.wait(10 * time.Minute)
		d.sent(c, "11m0s post INC-3 warn")
		if s := d.n.Channels()[0]; sinkOf(c).calls != 4 || !s.Parked.IsZero() || s.Refused.IsZero() {
			t.Errorf("%d attempts in 20 min, and status %+v; want it refused", sinkOf(c).calls, s)
		}
	})
}

// The secret that is there now is what counts, once the one from the start is
// refused; as long as it is taken nothing is read.
func TestARefusedSecretIsReadAnew(t *testing.T) {
	in(t, func(t *testing.T) {
		fresh, made := &fakeSink{class: Threaded, start: time.Now()}, 0
		c := to("slack", Threaded, policy.LevelWarn)
		var wrong atomic.Value // what is wrong with the file
		wrong.Store("")
		c.Again = func() (Sink, error) {
			made++
			if why := wrong.Load().(string); why != "" {
				return nil, errors.New(why)
			}
			return fresh, nil
		}
		d := newDesk(t, c).open()
		defer d.kill()
		d.commit(trouble("INC-1", policy.LevelWarn))
		d.wait(time.Minute)
		if made != 0 {
			t.Error("the secret was read though it is taken")
		}
		sinkOf(c).failing(failWith(ReasonAuth, 0))
		wrong.Store("token: /run/token is empty")
		d.commit(trouble("INC-2", policy.LevelPage))
		d.wait(6 * time.Minute)
		if s := d.n.Channels()[0]; s.ParkedWhy != wrong.Load().(string) || s.Parked.IsZero() {
			t.Errorf("status %+v", s)
		}
		wrong.Store("")
		d.wait(5 * time.Minute)
		d.commit(trouble("INC-3", policy.LevelPage))
		d.wait(time.Minute)
		got := fresh.take()
		if want := []string{"11m0s post INC-2 page !", "12m0s post INC-3 page !"}; !slices.Equal(got, want) || made != 2 {
			t.Errorf("sent %q by the new secret, which was read %d times", got, made)
		}
		if s := d.n.Channels()[0]; !s.Parked.IsZero() {
			t.Errorf("still parked: %+v", s)
		}
	})
}
