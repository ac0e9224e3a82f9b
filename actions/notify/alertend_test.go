package notify

import (
	"fmt"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// An alert that is not sent again ends by itself, and one whose end is not
// told stays open for ever. What gets worse calls when the silence ends.
func TestASilenceNeitherEndsAnAlertNorKeepsItOpen(t *testing.T) {
	for name, ends := range map[string]bool{"over in it": true, "open after it": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				am := Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelWarn}
				d := newDesk(t, am).open()
				defer d.kill()
				x := trouble("INC-1", policy.LevelWarn)
				d.commit(x)
				if _, err := d.n.AddSilence(Silence{Unit: "*", By: "li", Why: "move", Until: time.Now().Add(5*time.Minute + 45*time.Second)}); err != nil {
					t.Fatal(err)
				}
				d.wait(90 * time.Second)
				x = page(x)
				d.commit(x)
				d.wait(4 * time.Minute)
				d.sent(am, "0s post INC-1 warn", "1m0s post INC-1 warn re:1", "2m0s post INC-1 page re:2", "3m0s post INC-1 page re:3", "4m0s post INC-1 page re:4", "5m0s post INC-1 page re:5")
				if ends {
					d.commit(over(x))
					d.sent(am, "5m30s resolve INC-1 page over re:6")
				}
				d.wait(45 * time.Second)
				if !ends {
					d.sent(am, "5m45s escalate INC-1 page re:6 !")
				}
			})
		})
	}
}

func TestQuietHoursDoNotEndAnAlert(t *testing.T) {
	in(t, func(t *testing.T) {
		am := Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelWarn}
		d := newDesk(t, am)
		d.o.Quiet = Quiet{From: 1, To: 7 * 60, Zone: time.UTC} // from a minute after midnight
		d.open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(150 * time.Second)
		d.commit(over(x))
		d.sent(am, "0s post INC-1 warn", "1m0s post INC-1 warn re:1", "2m0s post INC-1 warn re:2", "2m30s resolve INC-1 warn over re:3")
	})
}

// What goes on is not called over because Alertmanager was away for less than an
// alert lasts: it is sent again in time.
func TestAnAlertOutlivesAnOutage(t *testing.T) {
	for _, c := range []struct {
		reason Reason
		away   time.Duration
	}{
		{ReasonServer, 130 * time.Second},
		{ReasonServer, 170 * time.Second},
		{ReasonNetwork, 200 * time.Second},
		{ReasonNetwork, 220 * time.Second},
		{ReasonAuth, 10 * time.Second},
		{ReasonAuth, 170 * time.Second},
		{ReasonClient, 50 * time.Second},
	} {
		t.Run(fmt.Sprint(c.reason, " ", c.away), func(t *testing.T) {
			in(t, func(t *testing.T) {
				am := Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelWarn}
				d := newDesk(t, am).open()
				defer d.kill()
				d.commit(trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelPage))
				d.wait(5*time.Minute + time.Second) // they have just been sent
				sinkOf(am).take()
				sinkOf(am).failing(failWith(c.reason, 0))
				d.wait(59*time.Second + c.away)
				sinkOf(am).failing(nil)
				d.wait(alertHold - c.away - time.Minute)
				for _, id := range []string{"INC-1", "INC-2"} {
					if !says(am, id) {
						t.Errorf("%s was not sent again: it ends by itself", id)
					}
				}
			})
		})
	}
}

func TestTheEndOfAnAlertIsNotForgotten(t *testing.T) {
	in(t, func(t *testing.T) {
		pd := to("pd", Alert, policy.LevelPage)
		d := newDesk(t, pd).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		sinkOf(pd).failing(failWith(ReasonNetwork, 0))
		d.commit(over(x))
		d.wait(8 * 24 * time.Hour)
		sinkOf(pd).failing(nil)
		d.wait(10 * time.Minute)
		if got := sinkOf(pd).take(); len(got) != 2 || sinkOf(pd).msgs[1].Kind != KindResolve {
			t.Errorf("sent %q", got)
		}
	})
}

func TestPagerDutyEndsWhatItRaised(t *testing.T) {
	m := Message{Kind: KindResolve, Key: "another-name/u/INC-1", Ref: map[string]string{"dedup_key": "gpu-03/u/INC-1"}}
	if got := dedupKey(m); got != "gpu-03/u/INC-1" {
		t.Errorf("key %q", got)
	}
}
