package notify

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

func take(in policy.Incident, d time.Duration) policy.Incident {
	in = grow(in, "ack")
	in.Ack = &policy.Ack{By: "li", At: time.Now(), Until: time.Now().Add(d)}
	return in
}

// After all reminders, an acknowledgement that expires is no end of it.
func TestAnExpiredAckIsRemindedOfOnceMore(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter, d.o.RemindMax = 10*time.Minute, 1
		d.open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		d.wait(20 * time.Minute)
		x = take(x, time.Hour)
		d.commit(x)
		d.wait(time.Hour)
		x = grow(x, "expired")
		x.Ack = nil
		d.commit(x)
		d.wait(time.Hour)
		d.sent(c, "0s post INC-1 page !", "10m0s remind INC-1 page re:1 !", "1h20m0s remind INC-1 page re:1 !")
	})
}

// Who has taken each child that calls is not reminded by their parent, which
// calls only for their sake; one that nobody has taken is enough.
func TestAParentIsTakenWithItsChildren(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter = 10 * time.Minute
		d.open()
		defer d.kill()
		parent, a, b := family()
		a, b = page(a), page(b)
		d.commit(parent, a, b)
		d.sent(c, "0s post INC-9 page !")
		d.wait(5 * time.Minute)
		a = take(a, 2*time.Hour)
		d.commit(a)
		d.wait(10 * time.Minute)
		d.sent(c, "10m0s remind INC-9 page re:1 !")
		b = take(b, time.Hour)
		d.commit(b)
		d.wait(time.Hour - time.Second)
		d.sent(c)
		b = grow(b, "expired")
		b.Ack = nil
		d.commit(b)
		d.wait(time.Minute)
		d.sent(c, "1h14m59s remind INC-9 page re:1 !")
	})
}

func TestWhatWasTakenAgainIsTakenAtTheAlert(t *testing.T) {
	in(t, func(t *testing.T) {
		pd := to("pd", Alert, policy.LevelPage)
		d := newDesk(t, pd).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		x = take(x, time.Minute)
		d.commit(x)
		d.wait(time.Minute)
		x = grow(x, "expired")
		x.Ack = nil
		d.commit(x)
		d.wait(time.Minute)
		d.commit(take(x, time.Minute))
		d.wait(time.Minute)
		d.sent(pd, "0s post INC-1 page !", "0s ack INC-1 page re:1", "2m0s ack INC-1 page re:1")
	})
}

// Where somebody is called by an alert, who had taken it and did not end it in
// time is called again; in a chat that is a reminder.
func TestAnExpiredAckCallsAgainByAlert(t *testing.T) {
	in(t, func(t *testing.T) {
		pd, am := to("pd", Alert, policy.LevelPage), Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelPage}
		d := newDesk(t, pd, am)
		d.o.Dir = t.TempDir()
		d.open()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		d.wait(time.Minute)
		x = take(x, time.Hour)
		d.commit(x)
		d.wait(time.Minute)
		d.kill() // the restart has it from the disk
		d.open()
		defer d.kill()
		d.wait(59 * time.Minute)
		x = grow(x, "expired")
		x.Ack = nil
		d.commit(x)
		d.wait(time.Hour)
		d.commit(take(x, time.Hour))
		d.wait(time.Hour)
		d.sent(pd, "0s post INC-1 page !", "1m0s ack INC-1 page re:1", "1h1m0s remind INC-1 page re:1 !", "2h1m0s ack INC-1 page re:1")
		for _, m := range sinkOf(am).msgs {
			if m.Kind != KindPost && m.Kind != KindAck {
				t.Errorf("%s is sent where each sending is the same", m.Kind)
			}
		}
	})
}

func TestNobodyIsRemindedOfWhatWorksAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter = 10 * time.Minute
		var unit atomic.Pointer[policy.Status]
		unit.Store(&policy.Status{State: policy.Fatal})
		d.o.Story = func(in policy.Incident) Story { return Story{Host: "gpu-03", Incident: in, Unit: unit.Load()} }
		d.open()
		defer d.kill()
		d.commit(trouble("INC-1", policy.LevelPage))
		unit.Store(&policy.Status{State: policy.Running, Rule: "running"})
		d.wait(15 * time.Minute)
		unit.Store(&policy.Status{State: policy.Fatal})
		d.wait(6 * time.Minute)
		d.sent(c, "0s post INC-1 page !", "20m0s remind INC-1 page re:1 !")
	})
}

// What works again when a service is back is told of, and nobody is called: not
// until it fails again.
func TestNobodyIsCalledForWhatWorksAgain(t *testing.T) {
	for class, want := range map[Class][]string{
		Threaded: {"10m10s post INC-1 page", "20m0s escalate INC-1 page re:1 !", "20m0s edit INC-1 page re:1", "20m1s step INC-1 page re:1 fails again"},
		Append:   {"10m10s post INC-1 page", "20m0s escalate INC-1 page re:1 !"},
		Alert:    {"20m0s post INC-1 page !"},
	} {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("c", class, policy.LevelWarn)
				d := newDesk(t, c)
				var unit atomic.Pointer[policy.Status]
				unit.Store(&policy.Status{State: policy.Fatal})
				d.o.Story = func(in policy.Incident) Story { return Story{Host: "gpu-03", Incident: in, Unit: unit.Load()} }
				d.open()
				defer d.kill()
				sinkOf(c).failing(failWith(ReasonRateLimited, 10*time.Minute+10*time.Second))
				x := trouble("INC-1", policy.LevelPage)
				d.commit(x)
				d.wait(10 * time.Minute)
				unit.Store(&policy.Status{State: policy.Running, Rule: "running"})
				sinkOf(c).failing(nil)
				d.wait(10 * time.Minute)
				unit.Store(&policy.Status{State: policy.Fatal})
				d.commit(grow(x, "fails again"))
				d.wait(10 * time.Minute)
				d.sent(c, want...)
			})
		})
	}
}

// Nor is anybody called anew whose ack has expired; and an alert that is sent
// again all the time still is.
func TestNobodyIsCalledAnewForWhatWorksAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		pd, am := to("pd", Alert, policy.LevelPage), Channel{Name: "am", Sink: refreshing{&fakeSink{class: Alert}}, MinLevel: policy.LevelWarn}
		d := newDesk(t, pd, am)
		var unit atomic.Pointer[policy.Status]
		unit.Store(&policy.Status{State: policy.Fatal})
		stories := atomic.Int64{}
		d.o.Story = func(in policy.Incident) Story {
			stories.Add(1)
			return Story{Host: "gpu-03", Incident: in, Unit: unit.Load()}
		}
		d.open()
		defer d.kill()
		x, y := trouble("INC-1", policy.LevelPage), trouble("INC-2", policy.LevelWarn)
		d.commit(x, y)
		x = take(x, time.Hour)
		d.commit(x)
		d.wait(time.Minute)
		unit.Store(&policy.Status{State: policy.Running, Rule: "running"})
		d.commit(page(y))
		d.wait(time.Hour)
		x = grow(x, "expired")
		x.Ack = nil
		d.commit(x)
		before := stories.Load()
		d.wait(30 * time.Minute)
		d.sent(pd, "0s post INC-1 page !", "0s ack INC-1 page re:1")
		if n := stories.Load() - before; n > 5*30+10 {
			t.Errorf("it was looked at %d times in 30 min", n)
		}
		if n := len(sinkOf(am).msgs); n < 2*90 {
			t.Errorf("two alerts were sent %d times in 91 min", n)
		}
		unit.Store(&policy.Status{State: policy.Fatal})
		d.wait(2 * time.Minute)
		d.sent(pd, "1h31m0s remind INC-1 page re:1 !", "1h32m0s post INC-2 page !")
	})
}

func TestAStormIsTakenWithItsMembers(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter, d.o.RemindMax = 10*time.Minute, 9
		d.open()
		defer d.kill()
		all := many(10, policy.LevelWarn)
		all[3], all[4] = page(all[3]), page(all[4])
		d.commit(all...)
		d.wait(11 * time.Minute)
		all[3] = take(all[3], time.Hour)
		d.commit(all[3])
		d.wait(10 * time.Minute)
		all[4] = take(all[4], 2*time.Hour)
		d.commit(all[4])
		d.wait(30 * time.Minute)
		d.sent(c, "0s post INC-003 page !", "2s post STORM-000 page !", "10m0s remind INC-003 page re:1 !", "10m2s remind STORM-000 page re:2 !", "20m2s remind STORM-000 page re:2 !")
	})
}
