package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/watcher/policy"
)

// fakeNotifier has two channels and keeps silences.
type fakeNotifier struct {
	silences []notify.Silence
	tested   []string
}

func (*fakeNotifier) Channels() []notify.ChannelStatus {
	return []notify.ChannelStatus{{Name: "ops", Type: "slack"}, {Name: "oncall", Type: "pagerduty", Parked: noon, ParkedWhy: "the key is refused"}}
}

func (*fakeNotifier) Queue() []notify.Waiting {
	return []notify.Waiting{{Channel: "oncall", Incident: "INC-1", Kind: notify.KindPost, Since: noon}}
}

func (f *fakeNotifier) Test(_ context.Context, channel string) []notify.TestResult {
	f.tested = append(f.tested, channel)
	return []notify.TestResult{{Channel: "ops", Took: time.Second}}
}

func (f *fakeNotifier) Silences() []notify.Silence { return f.silences }

func (f *fakeNotifier) AddSilence(s notify.Silence) (notify.Silence, error) {
	if s.Rule == "bad" {
		return s, errors.New("say when it ends")
	}
	s.ID, s.From = "S1", noon
	f.silences = append(f.silences, s)
	return s, nil
}

func (f *fakeNotifier) RemoveSilence(id string) error {
	for i, s := range f.silences {
		if s.ID == id {
			f.silences = append(f.silences[:i], f.silences[i+1:]...)
			return nil
		}
	}
	return notify.ErrNoSilence
}

func TestNotify(t *testing.T) {
	f := &fakeNotifier{}
	c := serveWith(t, Options{Loop: &fakeLoop{view: viewOf(web())}, Archive: &fakeArchive{}, Notifier: f})
	got, err := c.Notify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Notify{Version: 1, At: noon, Channels: f.Channels(), Queue: f.Queue()}, got); d != "" {
		t.Error(d)
	}
	st, err := c.Status(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f.Channels()[1:], st.Channels); d != "" {
		t.Errorf("channels in trouble: %s", d)
	}
	for _, name := range []string{"", "ops"} {
		if tested, err := c.TestNotify(t.Context(), name); err != nil || len(tested.Results) != 1 || f.tested[len(f.tested)-1] != name {
			t.Errorf("%q: got %v, %v", name, tested, err)
		}
	}
	_, err = c.TestNotify(t.Context(), "obs")
	if unknown, ok := errors.AsType[*UnknownError](err); !ok || unknown.Text != `there is no channel "obs"` || unknown.Hint != "did you mean ops?" || len(f.tested) != 2 {
		t.Errorf("got %v, %v", err, f.tested)
	}
	_, err = c.TestNotify(t.Context(), "somewhere else")
	if unknown, ok := errors.AsType[*UnknownError](err); !ok || unknown.Hint != "there are ops, oncall" {
		t.Errorf("got %v", err)
	}
}

func TestSilences(t *testing.T) {
	f := &fakeNotifier{}
	c := serveWith(t, Options{Loop: &fakeLoop{}, Archive: &fakeArchive{}, Notifier: f})
	made, err := c.Silence(t.Context(), SilenceOrder{Project: "shop-*", Label: "a=b", For: time.Hour, Why: "work"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.Silence.By, "uid ") {
		t.Errorf("by %q, want the user of the socket", made.Silence.By)
	}
	want := notify.Silence{ID: "S1", Project: "shop-*", Label: "a=b", By: made.Silence.By, Why: "work", From: noon, Until: noon.Add(time.Hour)}
	if d := cmp.Diff(want, made.Silence); d != "" {
		t.Error(d)
	}
	if got, err := c.Silences(t.Context()); err != nil || cmp.Diff([]notify.Silence{want}, got.Silences) != "" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := c.Unsilence(t.Context(), "s1"); err != nil || cmp.Diff(want, got.Silence) != "" || len(f.silences) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = c.Unsilence(t.Context(), "S9")
	if unknown, ok := errors.AsType[*UnknownError](err); !ok || unknown.Text != `there is no silence "S9"` {
		t.Errorf("got %v", err)
	}
	for _, x := range []struct {
		order SilenceOrder
		want  string
	}{
		{SilenceOrder{Unit: "a", Why: "w"}, "a silence ends after at most 90 days; say when with --for"},
		{SilenceOrder{Unit: "a", Why: "w", For: 91 * 24 * time.Hour}, "a silence ends after at most 90 days; say when with --for"},
		{SilenceOrder{Unit: "a", Why: strings.Repeat("w", 1001), For: 1}, "the reason is longer than 1000 bytes"},
		{SilenceOrder{Unit: strings.Repeat("*", 301), Why: "w", For: 1}, "a pattern is longer than 300 bytes"},
		{SilenceOrder{Rule: "bad", Why: "w", For: 1}, "say when it ends"},
	} {
		_, err := c.Silence(t.Context(), x.order)
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Code != http.StatusBadRequest || refused.Text != x.want {
			t.Errorf("%+v: got %v, want %s", x.order, err, x.want)
		}
	}
}

// TestSilenceOfNothing wants typing mistakes named: a rule that cannot be is
// refused, and a name that is not there is said.
func TestSilenceOfNothing(t *testing.T) {
	archive := &fakeArchive{incidents: []policy.Incident{{ID: "INC-1", Rule: "gave_up"}}}
	c := serveWith(t, Options{Loop: &fakeLoop{view: viewOf(web())}, Archive: archive, Notifier: &fakeNotifier{}})
	for _, x := range []struct {
		order      SilenceOrder
		note, hint string // hint: of a refusal
	}{
		{SilenceOrder{Unit: "web"}, "", ""},
		{SilenceOrder{Unit: "shop/web/1", Project: "shop", Rule: "gave_up"}, "", ""},
		{SilenceOrder{Unit: "nosuch*", Project: "s?op", Rule: "gave*"}, "", ""},
		{SilenceOrder{Unit: "nosuch"}, `No watched container is called "nosuch" now.`, ""},
		{SilenceOrder{Unit: "wbe", Project: "shp"}, `No watched container is called "wbe" now; did you mean web? No watched container belongs to a compose project "shp" now; did you mean shop?`, ""},
		{SilenceOrder{Rule: "gaveup"}, `No incident that is kept has the rule "gaveup"; did you mean gave_up?`, ""},
		{SilenceOrder{Rule: "gave-up"}, "", "did you mean gave_up?"},
		{SilenceOrder{Rule: "GAVE UP"}, "", "did you mean gave_up?"},
		{SilenceOrder{Rule: "gäve"}, "", "`defib incident ID` shows the rule of each incident in brackets"},
	} {
		x.order.For, x.order.Why = time.Hour, "w"
		got, err := c.Silence(t.Context(), x.order)
		refused, ok := errors.AsType[*RefusedError](err)
		if got.Note != x.note || ok != (x.hint != "") || ok && (refused.Hint != x.hint || !strings.HasPrefix(refused.Text, "there is no rule ")) {
			t.Errorf("%+v: got %q, %+v; want %q, %q", x.order, got.Note, refused, x.note, x.hint)
		}
	}
}

// TestNobodyIsTold asks a daemon without channels.
func TestNobodyIsTold(t *testing.T) {
	c := serve(t, &fakeLoop{view: viewOf()}, &fakeArchive{})
	if got, err := c.Notify(t.Context()); err != nil || got.Channels == nil || len(got.Channels) != 0 || got.Queue == nil {
		t.Errorf("got %v, %v; want empty lists", got, err)
	}
	if got, err := c.Silences(t.Context()); err != nil || got.Silences == nil || len(got.Silences) != 0 {
		t.Errorf("got %v, %v; want an empty list", got, err)
	}
	_, tested := c.TestNotify(t.Context(), "")
	_, silenced := c.Silence(t.Context(), SilenceOrder{Unit: "a", For: 1, Why: "w"})
	_, ended := c.Unsilence(t.Context(), "S1")
	for _, err := range []error{tested, silenced, ended} {
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Code != http.StatusConflict || refused.Text != "defib tells nobody: no channel is configured" {
			t.Errorf("got %v", err)
		}
	}
}

func TestAck(t *testing.T) {
	note := policy.Decision{ID: 3, Verb: policy.VerbNote, Rule: "acknowledged", Reason: "ack by li, until 16:00 UTC", Incident: "INC-7F3K"}
	loop := &fakeLoop{view: viewOf(web()), do: func(policy.Command) ([]policy.Decision, error) { return []policy.Decision{note}, nil }}
	c := serve(t, loop, &fakeArchive{incidents: []policy.Incident{{ID: "INC-7F3K"}, {ID: "INC-1", Closed: noon}}})
	got, err := c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderAck, Incident: "INC-7F3K", For: time.Hour, Why: "on it"}})
	if err != nil || got.Result != Done || got.Text != note.Reason {
		t.Errorf("got %+v, %v", got, err)
	}
	want := policy.Command{Order: policy.OrderAck, Incident: "INC-7F3K", For: time.Hour, Why: "on it", By: loop.cmds[0].By}
	if d := cmp.Diff([]policy.Command{want}, loop.cmds); d != "" || !strings.HasPrefix(want.By, "uid ") {
		t.Errorf("by %q: %s", want.By, d)
	}
	note = policy.Decision{ID: 4, Verb: policy.VerbNote, Rule: "refused", Reason: "there is no open incident INC-1"}
	if got, err = c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderAck, Incident: "INC-1"}}); err != nil || got.Result != Refused {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderAck, Incident: "9"}})
	if unknown, ok := errors.AsType[*UnknownError](err); !ok || unknown.Text != `there is no incident "INC-9"` {
		t.Errorf("got %v", err)
	}
	if got, err = c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderAck, Incident: "7f3k", Undo: true}}); err != nil || got.Text != "nobody had taken it" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, x := range []struct {
		cmd  policy.Command
		want string
	}{
		{policy.Command{Order: policy.OrderAck}, "ack takes the ID of one incident"},
		{policy.Command{Order: policy.OrderAck, Incident: "INC-1", Unit: "web"}, "ack takes the ID of one incident"},
		{policy.Command{Order: policy.OrderAck, Incident: "INC-1", For: 31 * 24 * time.Hour}, "an incident is taken for at most 30 days; hold the container, or mend it"},
		{policy.Command{Order: policy.OrderAck, Incident: "INC-1", For: -1}, "it cannot end in the past"},
		{policy.Command{Order: policy.OrderStop, Unit: "web", Incident: "INC-1"}, "only ack takes an incident"},
		{policy.Command{Order: policy.OrderStop, Unit: "web", Undo: true}, "only ack can be undone"},
	} {
		_, err := c.Do(t.Context(), Order{Command: x.cmd})
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Text != x.want {
			t.Errorf("%+v: got %v, want %s", x.cmd, err, x.want)
		}
	}
}
