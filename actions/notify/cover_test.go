package notify

import (
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// family is a parent with two children.
func family() (parent, a, b policy.Incident) {
	parent, a, b = trouble("INC-9", policy.LevelWarn), trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelWarn)
	a.Parent, b.Parent, parent.Children = parent.ID, parent.ID, []string{"INC-1", "INC-2"}
	return parent, a, b
}

func TestOneCauseIsOneAlertWhereOnlyPagesGo(t *testing.T) {
	in(t, func(t *testing.T) {
		pd := to("pd", Alert, policy.LevelPage)
		d := newDesk(t, pd).open()
		defer d.kill()
		parent, a, b := family()
		d.commit(parent, a, b)
		d.wait(time.Minute)
		d.commit(page(a))
		d.wait(time.Minute)
		d.commit(page(b))
		d.wait(time.Minute)
		d.sent(pd, "1m0s post INC-9 page !")
	})
}

func TestAParentWhoseChildRecoveredNeedsNobody(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter = 10 * time.Minute
		d.open()
		defer d.kill()
		parent, a, b := family()
		d.commit(parent, a, b)
		d.wait(time.Minute)
		a = page(a)
		d.commit(a)
		d.wait(time.Minute)
		d.commit(over(a))
		d.wait(time.Hour)
		d.sent(c, "0s post INC-9 warn", "1m0s escalate INC-9 page re:1 !")
		d.commit(page(b))
		d.wait(time.Minute)
		d.sent(c, "1h2m0s escalate INC-9 page re:1 !")
	})
}

func TestASilencedParentDoesNotSilenceACallForItsChild(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		if _, err := d.n.AddSilence(Silence{Unit: "c-INC-9", By: "li", Why: "known", Until: time.Now().Add(24 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		parent, a, b := family()
		d.commit(parent, a, b)
		d.wait(time.Minute)
		d.commit(page(a))
		d.wait(time.Minute)
		d.sent(c, "1m0s post INC-1 page !")
	})
}

func TestASilencedChildCallsWhenTheSilenceEnds(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		parent, a, b := family()
		d.commit(parent, a, b)
		if _, err := d.n.AddSilence(Silence{Unit: "c-INC-1", By: "li", Why: "known", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		d.commit(page(a))
		d.wait(59 * time.Minute)
		d.sent(c, "0s post INC-9 warn")
		d.wait(time.Hour)
		d.sent(c, "1h0m0s escalate INC-9 page re:1 !")
	})
}

func TestACallThatOneServiceWillNotTakeGoesToTheOthers(t *testing.T) {
	in(t, func(t *testing.T) {
		pd, chat := to("pd", Alert, policy.LevelPage), to("chat", Append, policy.LevelPage)
		d := newDesk(t, pd, chat)
		d.o.Routes = []Route{{Channels: []string{"pd"}}}
		d.open()
		defer d.kill()
		sinkOf(pd).failing(failWith(ReasonClient, 0))
		d.commit(trouble("INC-1", policy.LevelPage))
		d.wait(2 * time.Minute)
		d.sent(chat, "0s post INC-1 page !")
		d.commit(each2(many(10, policy.LevelWarn), page)...)
		d.wait(time.Minute)
		d.sent(chat, "2m0s post INC-000 page !", "2m2s post STORM-001 page !")
	})
}

// Who was called for a child is not reminded while that is silenced.
func TestAParentIsNotRemindedOfForASilencedChild(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter = 10 * time.Minute
		d.open()
		defer d.kill()
		parent, a, b := family()
		a, b = page(a), take(page(b), 24*time.Hour)
		d.commit(parent, a, b)
		d.wait(time.Minute)
		_, _ = d.n.AddSilence(Silence{Unit: a.Name, By: "li", Why: "known", Until: time.Now().Add(time.Hour)})
		d.wait(time.Hour + 5*time.Minute)
		d.sent(c, "0s post INC-9 page !", "1h1m0s remind INC-9 page re:1 !")
	})
}
