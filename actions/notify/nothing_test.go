package notify

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// What there is nothing to say of is done with, and is no sign that the service
// can be reached.
func TestNothingToSayIsNoDelivery(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		sinkOf(c).failing(failWith(ReasonAuth, 0))
		d.commit(trouble("INC-1", policy.LevelPage))
		before := d.n.Channels()[0]
		if before.Parked.IsZero() {
			t.Fatal("the channel is not parked")
		}
		sinkOf(c).failing(func(Message) error { return ErrNothing })
		d.wait(time.Hour)
		d.n.Hello(t.Context(), "It watches 3 containers")
		s := d.n.Channels()[0]
		if s.Sent != 0 || !s.Parked.Equal(before.Parked) || s.LastError != before.LastError || s.Waiting != 0 || !maps.Equal(s.Failed, before.Failed) {
			t.Errorf("got %+v, before %+v", s, before)
		}
		if got := d.log.String(); strings.Contains(got, "channel takes messages again") {
			t.Errorf("it says %s", got)
		}
	})
}

// Who has nothing to say says so.
func TestWhoHasNothingToSay(t *testing.T) {
	f := &fakeService{}
	hook, err := NewAutohealWebhook(DropInOptions{URL: "https://hooks.example.org/x", HTTP: f.client()})
	if err != nil {
		t.Fatal(err)
	}
	genie, err := NewShoutrrr(ShoutrrrOptions{URL: "opsgenie://api.opsgenie.com/0123456789abcdef", HTTP: f.client()})
	if err != nil {
		t.Fatal(err)
	}
	quiet := Message{Kind: KindPost, Story: Story{Host: "h", Incident: trouble("INC-1", policy.LevelInfo)}}
	if ref, err := hook.Send(t.Context(), quiet); !errors.Is(err, ErrNothing) || ref[dropIncident] == "" {
		t.Errorf("autoheal: %v, %v", ref, err)
	}
	start := Story{Incident: policy.Incident{Rule: RuleStart}}
	for _, m := range []Message{{Kind: KindRemind}, {Kind: KindResolve}, {Kind: KindTest, Story: start}} {
		m.Text = gaveUpText
		if _, err := genie.Send(t.Context(), m); !errors.Is(err, ErrNothing) {
			t.Errorf("opsgenie, %s: %v", m.Kind, err)
		}
	}
	if n := f.count(); n != 0 {
		t.Errorf("%d requests", n)
	}
}
