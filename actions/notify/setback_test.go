package notify

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// A journal that begins anew gives its IDs again.
func TestAnIDThatIsGivenAgainIsAnotherIncident(t *testing.T) {
	for _, name := range []string{"the root", "one that continued it"} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("slack", Threaded, policy.LevelWarn)
				d := newDesk(t, c).open()
				defer d.kill()
				x := page(trouble("INC-1", policy.LevelWarn))
				x.Rev = 9
				d.commit(x)
				d.wait(time.Minute)
				d.commit(over(x))
				if name != "the root" {
					y := trouble("INC-2", policy.LevelWarn)
					y.Root, y.Times = "INC-1", 2
					d.commit(y)
				}
				d.wait(time.Hour)
				sinkOf(c).take()
				d.commit(trouble("INC-1", policy.LevelPage))
				d.wait(time.Minute)
				d.sent(c, "1h1m0s post INC-1 page !")
			})
		})
	}
}

func TestNothingWaitsForAClockThatWasSetBack(t *testing.T) {
	in(t, func(t *testing.T) {
		var fast atomic.Int64
		fast.Store(int64(24 * time.Hour))
		c, am := to("slack", Threaded, policy.LevelWarn), Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}}
		d := newDesk(t, c, am)
		d.o.Now = func() time.Time { return time.Now().Add(time.Duration(fast.Load())).Round(0) }
		d.open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		x.Opened = d.o.Now()
		sinkOf(c).failing(failWith(ReasonServer, 0))
		y := trouble("INC-5", policy.LevelWarn)
		d.commit(y) // waits to be tried again
		fast.Store(0)
		sinkOf(c).failing(nil)
		d.commit(x)
		d.wait(time.Minute)
		d.sent(c, "1s post INC-1 warn", "2s post INC-5 warn")
		d.sent(am, "0s post INC-5 warn", "0s post INC-1 warn", "1m0s post INC-5 warn re:1")
		d.commit(over(x))
		z := trouble("INC-2", policy.LevelPage) // opened before the one that it continues
		z.Root, z.Times = "INC-1", 2
		d.commit(z)
		d.wait(time.Minute)
		if got := sinkOf(c).take(); len(got) < 2 || got[0] != "1m0s resolve INC-1 warn over re:1" {
			t.Errorf("sent %q", got)
		}
		if r := d.n.channels[0].recs["INC-1"]; r.ID != "INC-2" || !r.Paged {
			t.Errorf("INC-2 calls nobody: %+v", r)
		}
	})
}

// Lines that are older than the one before them, since the clock was set back
// over a restart, are not told for ever.
func TestStepsThatGoBackAreToldOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("slack", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(time.Minute)
		x = grow(x, "restart")
		x.Steps[1].At = d.start.Add(-time.Hour)
		d.commit(x)
		d.wait(time.Hour)
		if n := len(sinkOf(c).msgs); n > 3 {
			t.Errorf("sent %q", sinkOf(c).got)
		}
	})
}
