package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// What was over and begins anew under its old message is said where people see
// it: once an hour however often it flaps, and not of what is repaired quietly.
func TestWhatBeginsAnewIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		level policy.Level
		want  string
	}{
		"a warning": {policy.LevelWarn, "4m50s 1h4m50s 2h4m50s"},
		"quiet":     {policy.LevelInfo, ""},
		"a page":    {policy.LevelPage, ""}, // it calls, which is seen
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", Threaded, policy.LevelInfo)
				d := newDesk(t, ch).open()
				defer d.kill()
				d.commit(over(trouble("INC-0", policy.LevelWarn)))
				for i := range 30 { // 2 h 30 min
					d.wait(5*time.Minute - 10*time.Second)
					x := trouble(fmt.Sprintf("INC-%d", i+1), c.level)
					x.Root, x.Times = "INC-0", i+2
					d.commit(x)
					d.wait(10 * time.Second)
					d.commit(over(x))
				}
				var at []string
				for _, line := range sinkOf(ch).take() {
					if when, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "again ") {
						at = append(at, when)
					}
				}
				if got := strings.Join(at, " "); got != c.want {
					t.Errorf("said at %s, want %s", got, c.want)
				}
			})
		})
	}
}

// Many that begin anew together do not fill the channel.
func TestManyThatBeginAnewAreNoFlood(t *testing.T) {
	in(t, func(t *testing.T) {
		ch := to("c", Threaded, policy.LevelWarn)
		d := newDesk(t, ch).open()
		defer d.kill()
		var all []policy.Incident
		for _, x := range many(20, policy.LevelWarn) { // each with a message of its own
			d.commit(x)
			d.wait(time.Minute)
			all = append(all, over(x))
		}
		d.commit(all...)
		d.wait(5 * time.Minute)
		for i := range all {
			x := trouble(fmt.Sprintf("INC-B%02d", i), policy.LevelWarn)
			x.Root, x.Times = all[i].ID, 2
			all[i] = x
		}
		sinkOf(ch).take()
		d.commit(all...)
		d.wait(50 * time.Second)
		if got := strings.Count(strings.Join(sinkOf(ch).take(), "\n"), " again "); got != stormRoots {
			t.Errorf("%d answers within a minute, want %d", got, stormRoots)
		}
		d.commit(each2(all, over)...)
		d.wait(time.Hour)
		if got := strings.Count(strings.Join(sinkOf(ch).take(), "\n"), " again "); got != 0 {
			t.Errorf("%d answers about what is over", got)
		}
	})
}

// An end that could not be told when its container fails again is told with the
// end of what followed, whatever the level of that.
func TestTheEndOfAChainIsTold(t *testing.T) {
	for class, want := range map[Class][]string{
		Alert:    {"0s post INC-1 page !", "10m0s resolve INC-2 warn over re:1"},
		Append:   {"0s post INC-1 page !", "10m0s resolve INC-2 warn over re:1"},
		Threaded: {"0s post INC-1 page !", "6m6s edit INC-2 warn re:1", "6m6s step INC-2 warn re:1 exited", "10m0s resolve INC-2 warn over re:1", "10m0s step INC-2 warn over re:1 recovered"},
	} {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", class, policy.LevelPage)
				d := newDesk(t, ch).open()
				defer d.kill()
				x := trouble("INC-1", policy.LevelPage)
				d.commit(x)
				d.wait(time.Minute)
				sinkOf(ch).failing(failWith(ReasonNetwork, 0))
				d.commit(over(x))
				d.wait(time.Minute)
				y := follows(x, "INC-2", policy.LevelWarn)
				d.commit(y)
				d.wait(3 * time.Minute)
				sinkOf(ch).failing(nil)
				d.wait(5 * time.Minute)
				d.commit(over(y))
				d.wait(24 * time.Hour)
				d.sent(ch, want...)
			})
		})
	}
}

// … or it needs somebody, who is called: what the service has is of before.
func TestWhatFollowsAnEndThatWasNotToldCalls(t *testing.T) {
	for _, class := range []Class{Alert, Append} {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", class, policy.LevelPage)
				d := newDesk(t, ch).open()
				defer d.kill()
				x := trouble("INC-1", policy.LevelPage)
				d.commit(x)
				sinkOf(ch).failing(failWith(ReasonNetwork, 0))
				d.commit(over(x))
				d.wait(time.Minute)
				y := follows(x, "INC-2", policy.LevelPage)
				d.commit(y)
				sinkOf(ch).failing(nil)
				d.wait(time.Hour)
				if got := sinkOf(ch).take(); len(got) != 2 || !strings.HasSuffix(got[1], "post INC-2 page re:1 !") {
					t.Errorf("sent %q", got)
				}
			})
		})
	}
}

// What ends in the quiet hours is told after them, though it flapped meanwhile.
func TestTheEndOfAChainIsToldAfterQuietHours(t *testing.T) {
	in(t, func(t *testing.T) { // from midnight, UTC
		ch := to("c", Append, policy.LevelWarn)
		d := newDesk(t, ch)
		d.o.Quiet = Quiet{From: 30, To: 7 * 60, Zone: time.UTC}
		d.open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(40 * time.Minute)
		d.commit(over(x))
		d.wait(5 * time.Minute)
		y := follows(x, "INC-2", policy.LevelInfo)
		d.commit(y)
		d.wait(3 * time.Minute)
		d.commit(over(y))
		d.wait(24 * time.Hour)
		d.sent(ch, "0s post INC-1 warn", "7h0m0s resolve INC-2 info over re:1")
	})
}

// Many whose ends are owed and that fail again together are one storm all the
// same.
func TestOwedEndsAndAStorm(t *testing.T) {
	in(t, func(t *testing.T) { // from midnight, UTC
		ch := to("c", Append, policy.LevelWarn)
		d := newDesk(t, ch)
		d.o.Quiet = Quiet{From: 60, To: 7 * 60, Zone: time.UTC}
		d.open()
		defer d.kill()
		d.wait(50 * time.Minute)
		all := many(12, policy.LevelWarn)
		for _, x := range all {
			d.commit(x)
			d.wait(15 * time.Second)
		}
		d.wait(12 * time.Minute)
		d.commit(each2(all, over)...)
		d.wait(2 * time.Hour)
		sinkOf(ch).take()
		again := each2(all, func(x policy.Incident) policy.Incident {
			y := page(trouble("INC-1"+x.ID[4:], policy.LevelPage))
			y.Root, y.Times, y.Name, y.Unit = x.ID, 2, x.Name, x.Unit
			return y
		})
		d.commit(again...)
		d.wait(time.Hour)
		if got := sinkOf(ch).take(); len(got) != 2 {
			t.Errorf("sent %q", got)
		}
	})
}

// An end that is owed is tried for as long as one of an incident that was told,
// and passes the quiet hours where somebody was called.
func TestAnOwedEndIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(Message) error
		after time.Duration
		quiet int // until this hour
		want  string
	}{
		"refused once":        {failWith(ReasonClient, 0), 10 * time.Minute, 0, "32m0s resolve INC-2 warn over re:1"},
		"parked for long":     {failWith(ReasonAuth, 0), 8 * 24 * time.Hour, 0, "192h7m0s resolve INC-2 warn over re:1"},
		"in the quiet hours":  {failWith(ReasonNetwork, 0), time.Minute, 7, "3m17s resolve INC-2 warn over re:1"},
		"of what is well now": {nil, time.Minute, 7, "2m0s resolve INC-2 warn over re:1"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) { // from midnight, UTC
				ch := to("c", Append, policy.LevelPage)
				d := newDesk(t, ch)
				d.o.Quiet = Quiet{To: c.quiet * 60, Zone: time.UTC}
				d.open()
				defer d.kill()
				x := trouble("INC-1", policy.LevelPage)
				d.commit(x)
				sinkOf(ch).failing(failWith(ReasonNetwork, 0))
				d.commit(over(x))
				d.wait(time.Minute)
				y := follows(x, "INC-2", policy.LevelWarn)
				d.commit(y)
				d.wait(time.Minute)
				sinkOf(ch).failing(c.fails)
				d.commit(over(y))
				d.wait(c.after)
				sinkOf(ch).failing(nil)
				d.wait(24 * time.Hour)
				if got := sinkOf(ch).take(); len(got) != 2 || got[1] != c.want {
					t.Errorf("sent %q, want %q after the page", got, c.want)
				}
			})
		})
	}
}
