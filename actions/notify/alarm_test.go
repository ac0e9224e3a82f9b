package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// alarmed is a desk with a channel of each kind.
func alarmed(t *testing.T) (d *desk, slack, chat, pd, am, hook Channel) {
	slack, chat, pd = to("slack", Threaded, policy.LevelWarn), to("chat", Append, policy.LevelPage), to("pd", Alert, policy.LevelPage)
	am, hook = Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelPage}, to("hook", Feed, policy.LevelInfo)
	return newDesk(t, slack, chat, pd, am, hook), slack, chat, pd, am, hook
}

func TestAlarmLife(t *testing.T) {
	in(t, func(t *testing.T) {
		d, slack, chat, pd, am, hook := alarmed(t)
		d.o.Routes = []Route{{Unit: "*", Channels: []string{"slack"}}}
		d.open()
		defer d.kill()
		if _, err := d.n.AddSilence(Silence{Unit: "*", By: "li", Why: "test", Until: time.Now().Add(24 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		d.n.Alarm("the disk is full")
		d.wait(150 * time.Second)
		d.n.Calm()
		d.wait(time.Hour)
		d.sent(slack, "0s alarm !", "4m30s resolve re:1")
		d.sent(chat, "0s alarm !", "4m30s resolve re:1")
		d.sent(pd, "0s alarm !", "4m30s resolve re:1")
		d.sent(am, "0s alarm !", "1m0s alarm re:1 !", "2m0s alarm re:2 !", "3m0s alarm re:3 !", "4m0s alarm re:4 !", "4m30s resolve re:5",
			"5m30s resolve re:5", "6m30s resolve re:5", "7m30s resolve re:5", "8m30s resolve re:5", "9m30s resolve re:5")
		d.sent(hook, "0s alarm !", "4m30s resolve re:1")
		for _, c := range []Channel{slack, chat, pd, am, hook} {
			for _, m := range sinkOf(c).msgs {
				if m.Key != "gpu-03/alarm" || m.Story.Incident.ID != "" {
					t.Errorf("%s: %s has the key %q and the ID %q", c.Name, m.Kind, m.Key, m.Story.Incident.ID)
				}
			}
		}
	})
}

// 50 calls that cannot be recorded are few messages, and each of them is told.
func TestManyAlarmsAreFewMessages(t *testing.T) {
	in(t, func(t *testing.T) {
		d, slack, chat, pd, _, _ := alarmed(t)
		d.open()
		defer d.kill()
		d.n.Alarm("the disk is full")
		for i := range 50 {
			d.n.Alarm(fmt.Sprintf("web%d: gave up", i))
			d.wait(100 * time.Millisecond)
		}
		d.wait(3 * time.Hour)
		d.sent(chat, "0s alarm !", "10s alarm re:1 !")
		d.sent(pd, "0s alarm !", "10s escalate re:1 !")
		cause := sinkOf(chat).msgs[1].Story.Incident.Cause
		want := "the disk is full; 45 texts like that cannot be recorded, either; web0: gave up; web1: gave up; web2: gave up; web3: gave up; web4: gave up"
		if cause != want {
			t.Errorf("cause %q", cause)
		}
		all := ""
		for _, line := range sinkOf(slack).take() {
			all += line + "\n"
		}
		if n := strings.Count(all, "\n"); n > 12 || !strings.Contains(all, "web49: gave up") {
			t.Errorf("%d messages:\n%s", n, all)
		}
	})
}

// A journal that works now and then is one alarm, until it has worked for a
// while.
func TestAFlappingJournalIsOneAlarm(t *testing.T) {
	in(t, func(t *testing.T) {
		d, _, chat, pd, _, _ := alarmed(t)
		d.open()
		defer d.kill()
		for range 20 {
			d.n.Alarm("the disk is full")
			d.wait(20 * time.Second)
			d.n.Calm()
			d.wait(40 * time.Second)
		}
		d.wait(time.Hour)
		d.n.Alarm("the disk is full")
		d.wait(time.Minute)
		d.sent(chat, "0s alarm !", "21m20s resolve re:1", "1h20m0s alarm !")
		d.sent(pd, "0s alarm !", "21m20s resolve re:1", "1h20m0s alarm !")
	})
}

// An alarm is over after a restart, too; one that still stands goes on.
func TestAnAlarmOutlivesARestart(t *testing.T) {
	for name, again := range map[string]bool{"over": false, "still": true} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				d, slack, chat, pd, _, _ := alarmed(t)
				d.o.Dir = t.TempDir()
				d.open()
				d.n.Alarm("the disk is full")
				d.wait(time.Minute)
				d.kill()
				d.sent(pd, "0s alarm !")
				d.sent(chat, "0s alarm !")
				d.open()
				defer d.kill()
				if again {
					d.n.Alarm("the disk is full")
					d.wait(time.Hour)
					d.sent(pd)
					d.n.Alarm("web: gave up")
					d.wait(time.Minute)
					d.sent(pd, "1h1m0s escalate re:1 !")
					d.sent(chat, "1h1m0s alarm re:1 !")
					return
				}
				d.wait(time.Hour)
				d.sent(pd, "3m0s resolve re:1")
				d.sent(chat, "3m0s resolve re:1")
				d.sent(slack, "0s alarm !", "3m0s resolve re:1")
			})
		})
	}
}

// An alarm that is raised anew before a channel heard that the last one was
// over is the same one there: what was raised is ended, too.
func TestAnAlarmThatWasNotEndedGoesOn(t *testing.T) {
	in(t, func(t *testing.T) {
		d, _, _, pd, _, _ := alarmed(t)
		d.open()
		defer d.kill()
		d.n.Alarm("the disk is full")
		d.wait(time.Second)
		d.n.Calm()
		sinkOf(pd).failing(failWith(ReasonNetwork, 0))
		d.wait(10 * time.Minute)
		d.n.Alarm("the disk is broken")
		d.wait(time.Minute)
		sinkOf(pd).failing(nil)
		d.wait(10 * time.Minute)
		d.n.Calm()
		d.wait(time.Hour)
		d.sent(pd, "0s alarm !", "11m53s escalate re:1 !", "23m1s resolve re:1")
	})
}
