package notify

import (
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// The children of an incident that is told as part of a storm are no news when
// it ends, unless one of them needs somebody.
func TestAStormTellsTheChildrenOfItsMembers(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		all := many(7, policy.LevelWarn)
		parent, a, b := family()
		d.commit(append(all, parent)...)
		d.wait(10 * time.Second)
		d.sent(c, "0s post INC-000 warn", "2s post STORM-001 warn")
		d.commit(a, b)
		d.wait(2 * time.Minute) // the storm grows no more
		d.commit(over(parent))
		d.wait(10 * time.Second)
		d.commit(over(a))
		d.commit(page(b))
		d.wait(10 * time.Second)
		d.sent(c, "2m20s post INC-2 page !")
	})
}

// A member that is silenced is called for when that ends, and the others at once.
func TestAStormHeedsTheSilencesOfItsMembers(t *testing.T) {
	for class, want := range map[Class][2][]string{
		Append:   {{"2m1s escalate STORM-001 page re:2 !"}, {"1h1m0s escalate STORM-001 page re:2 !"}},
		Threaded: {{"1m1s edit STORM-001 warn re:2", "2m1s escalate STORM-001 page re:2 !", "2m1s edit STORM-001 page re:2"}, {"1h1m0s escalate STORM-001 page re:2 !"}},
	} {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("c", class, policy.LevelWarn)
				d := newDesk(t, c).open()
				defer d.kill()
				all := many(8, policy.LevelWarn)
				d.commit(all...)
				d.wait(time.Minute)
				d.sent(c, "0s post INC-000 warn", "2s post STORM-001 warn")
				_, _ = d.n.AddSilence(Silence{Unit: "c-INC-006", By: "li", Why: "known", Until: time.Now().Add(time.Hour)})
				d.wait(time.Second)
				d.commit(page(all[6]))
				d.wait(time.Minute)
				d.commit(page(all[7]))
				d.wait(50 * time.Minute)
				d.sent(c, want[0]...)
				if q := d.n.Queue(); len(q) != 1 || q[0].Incident != "STORM-001" || !q[0].Since.Equal(d.start.Add(time.Hour+time.Minute)) {
					t.Errorf("there waits %+v", q)
				}
				d.wait(10 * time.Hour)
				d.sent(c, want[1]...)
			})
		})
	}
}

// Who was called before a silence is not reminded in it, and the alert stays
// what it is.
func TestNobodyIsRemindedOfASilencedStorm(t *testing.T) {
	in(t, func(t *testing.T) {
		c, am := to("c", Append, policy.LevelWarn), Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelWarn}
		d := newDesk(t, c, am)
		d.o.RemindAfter = 10 * time.Minute
		d.open()
		defer d.kill()
		all := many(8, policy.LevelWarn)
		all[6], all[7] = page(all[6]), page(all[7])
		d.commit(all...)
		d.wait(time.Minute)
		d.sent(c, "0s post INC-006 page !", "2s post STORM-000 page !")
		d.commit(take(all[7], 24*time.Hour))
		for _, id := range []string{"c-INC-000", "c-INC-006"} {
			_, _ = d.n.AddSilence(Silence{Unit: id, By: "li", Why: "known", Until: time.Now().Add(time.Hour)})
		}
		sinkOf(am).take()
		d.wait(time.Hour - time.Second)
		d.sent(c)
		if says(am, "STORM-000 warn") || !says(am, "STORM-000 page") {
			t.Errorf("it was sent %q", sinkOf(am).take())
		}
		d.wait(time.Minute)
		d.sent(c, "1h1m0s remind INC-006 page re:1 !", "1h1m1s remind STORM-000 page re:2 !")
	})
}

// A silence of a member within the minutes in which a storm does not call again
// ends the need to, and so does a start of defib in it.
func TestAStormCallsForNobodySilenced(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		all := many(8, policy.LevelWarn)
		d.commit(all...)
		d.wait(time.Minute)
		d.commit(page(all[7]))
		d.wait(time.Minute)
		sinkOf(c).take()
		d.commit(page(all[6]))
		d.wait(time.Minute)
		if _, err := d.n.AddSilence(Silence{Unit: "c-INC-006", By: "li", Why: "known", Until: time.Now().Add(10 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		d.wait(30 * time.Minute)
		d.kill()
		d.open()
		defer d.kill()
		d.wait(10 * time.Minute)
		if got := sinkOf(c).take(); len(got) != 0 {
			t.Errorf("sent %q", got)
		}
	})
}
