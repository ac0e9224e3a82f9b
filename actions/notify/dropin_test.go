package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	healed = "Container web (0123456789ab) found to be unhealthy. Successfully restarted the container!"
	failed = "Container web (0123456789ab) found to be unhealthy. Failed to restart the container!"
)

// life is an incident as it goes: each step is a revision.
type life struct {
	in   policy.Incident
	unit *policy.Status
	ref  Receipt
}

func newLife(id string) *life {
	return &life{
		in:   policy.Incident{ID: id, Unit: "web", Name: "web", Opened: storyOpened, Level: policy.LevelInfo, Rule: "unhealthy", Cause: "its health check fails"},
		unit: &policy.Status{Container: "0123456789abcdef0123456789abcdef"},
	}
}

// step adds one and returns what is said of it.
func (l *life) step(rule, text string) string {
	l.in.Rev++
	l.in.Steps = append(l.in.Steps, policy.Step{At: storyOpened.Add(time.Duration(l.in.Rev) * time.Second), Rule: rule, Text: text})
	return l.say()
}

func (l *life) say() string {
	m := Message{Kind: KindEdit, Ref: l.ref, Story: Story{Host: "h", Incident: l.in, Unit: l.unit}}
	m.Text.Title = "TITLE"
	said, ref := dropInSentence(m)
	l.ref = ref
	return said
}

// One sentence for each repair, once it is known what came of it.
func TestDropInRepairs(t *testing.T) {
	l := newLife("INC-1")
	for _, c := range []struct{ rule, text, want string }{
		{"unhealthy", "its health check fails", ""},
		{"unhealthy", "restart: its health check fails (attempt 1)", ""},
		{"ready", "it is up again", healed},
		{"unhealthy", "its health check fails", ""},
		{"unhealthy", "restart: its health check fails (attempt 1)", ""},
		{"restart_failed", "the restart did not work: no such device", failed},
		{"backoff", "next attempt in 10 s", ""},
		{"exited", "start: it exited with 1 (attempt 2)", ""},
		{"exited", "it exited with 1", ""},
		{"exited", "start: it exited with 1 (attempt 3)", failed},
		{"acknowledged", "ack by li", ""},
	} {
		if got := l.step(c.rule, c.text); got != c.want {
			t.Errorf("%s: %s: got %q, want %q", c.rule, c.text, got, c.want)
		}
		if got := l.say(); got != "" {
			t.Errorf("%s: %s: it says again %q", c.rule, c.text, got)
		}
	}
	l.in.Level, l.in.NeedsYou = policy.LevelPage, true
	if got := l.step("gave_up", "it exited with 1"); got != failed {
		t.Errorf("giving up: %q", got)
	}
	if got := l.step("exited", "start: it exited with 1 (half-open retry 1 after giving up)"); got != "" {
		t.Errorf("trying once more: %q", got)
	}
	l.in.Closed, l.in.End = storyOpened.Add(time.Hour), "recovered"
	if got := l.step("recovered", "it has been well for 60 s"); got != healed {
		t.Errorf("the end: %q", got)
	}
	l.in.ID, l.in.Closed, l.in.End, l.in.Level, l.in.NeedsYou = "INC-2", time.Time{}, "", policy.LevelInfo, false // it goes on
	if got := l.step("ready", "it is up again"); got != healed {
		t.Errorf("the next of the chain: %q", got)
	}
}

// What needs somebody and was no repair is told in our words, and so is its end.
func TestDropInPages(t *testing.T) {
	l := newLife("INC-1")
	l.in.Name, l.in.Unit, l.unit, l.in.Level, l.in.NeedsYou = "GPU 0", "", nil, policy.LevelPage, true
	got := []string{l.step("xid_79", "it has fallen off the bus"), l.step("held_gpu", "more"), l.say()}
	l.in.Closed, l.in.End = storyOpened.Add(time.Hour), "recovered"
	got = append(got, l.step("recovered", "it reads well"), l.say())
	if d := cmp.Diff([]string{"TITLE", "", "", "TITLE", ""}, got); d != "" {
		t.Error(d)
	}
	l = newLife("INC-2")
	got = []string{l.step("unhealthy", "its health check fails")}
	l.in.Closed, l.in.End = storyOpened.Add(time.Hour), "stopped"
	if got = append(got, l.step("stopped", "somebody stopped it")); strings.Join(got, "") != "" {
		t.Errorf("of what it did not repair it says %q", got)
	}
	alarm := &life{in: policy.Incident{Opened: storyOpened, Level: policy.LevelPage, NeedsYou: true}}
	got = []string{alarm.step("alarm", "the disk is full"), alarm.step("alarm", "still")}
	alarm.in.Closed, alarm.in.End, alarm.in.NeedsYou = storyOpened.Add(time.Hour), "recovered", false
	got = append(got, alarm.say(), alarm.say())
	alarm.in.Closed, alarm.in.End, alarm.in.NeedsYou, alarm.in.Opened = time.Time{}, "", true, storyOpened.Add(2*time.Hour)
	if d := cmp.Diff([]string{"TITLE", "", "TITLE", "", "TITLE"}, append(got, alarm.say())); d != "" {
		t.Errorf("alarms: %s", d)
	}
	if said, ref := dropInSentence(Message{Kind: KindTest, Text: Text{Title: "a test"}}); said != "a test" || ref != nil {
		t.Errorf("a test is %q, %v", said, ref)
	}
}

// Through the outbox: ten at once are ten sentences, twelve restarts in an hour
// are twelve, and the children of what failed together are told, too.
func TestDropInIsTold(t *testing.T) {
	in(t, func(t *testing.T) {
		f := &fakeService{}
		d := dropInDesk(t, f).open()
		defer d.kill()
		parent := trouble("INC-P", policy.LevelWarn)
		parent.Unit = ""
		var all []policy.Incident
		for i := range 10 {
			x := grow(trouble(fmt.Sprintf("INC-%02d", i), policy.LevelInfo), "restart: its health check fails (attempt 1)")
			x.Parent = parent.ID
			parent.Children = append(parent.Children, x.ID)
			all = append(all, x)
		}
		d.commit(append(all, parent)...)
		d.wait(20 * time.Second)
		for i := range all {
			all[i] = over(all[i])
		}
		d.commit(append(all, over(parent))...)
		d.wait(time.Minute)
		if n := len(f.got); n != 10 {
			t.Errorf("%d sentences of 10 repairs at once", n)
		}
		f.got = nil
		for i := range 12 {
			x := grow(trouble(fmt.Sprintf("INC-F%02d", i), policy.LevelInfo), "restart: its health check fails (attempt 1)")
			if x.Unit = "flaps"; i > 0 {
				x.Root, x.Times = "INC-F00", i+1
			}
			d.commit(x)
			d.wait(time.Minute)
			d.commit(over(x))
			d.wait(4 * time.Minute)
		}
		if n := len(f.got); n != 12 {
			t.Errorf("%d sentences of 12 repairs in an hour", n)
		}
	})
}

// Each sentence is one more message in a chat, so silences and quiet hours keep
// it back. Of a repair within a silence nothing is said, unless it was before.
func TestDropInIsKeptBack(t *testing.T) {
	for name, c := range map[string]struct {
		failed, ends  bool // a repair failed before, and it is over while it is kept back
		quiet         bool // by the quiet hours
		before, after []string
	}{
		"over in a silence":          {ends: true},
		"open after a silence":       {after: []string{healed}},
		"told of before a silence":   {failed: true, ends: true, before: []string{failed}, after: []string{healed}},
		"over in quiet hours":        {quiet: true, ends: true, after: []string{healed}},
		"told of before quiet hours": {quiet: true, failed: true, before: []string{failed}, after: []string{healed}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				f := &fakeService{}
				d := dropInDesk(t, f)
				if c.quiet {
					d.o.Quiet = Quiet{From: 1, To: 60, Zone: time.UTC}
				}
				d.open()
				defer d.kill()
				x := trouble("INC-1", policy.LevelInfo)
				if x.Name = "web"; c.failed {
					x = grow(grow(x, "restart: its health check fails (attempt 1)"), "no such device")
					x.Steps[2].Rule = "restart_failed"
				}
				d.commit(x)
				d.wait(2 * time.Minute)
				f.wantSaid(t, "before", c.before...)
				if !c.quiet {
					_, _ = d.n.AddSilence(Silence{Unit: "*", By: "li", Why: "known", Until: time.Now().Add(time.Hour)})
				}
				d.wait(time.Second)
				x = grow(x, "restart: its health check fails (attempt 2)")
				d.commit(x)
				d.wait(time.Minute)
				x = grow(x, "it is up again")
				x.Steps[len(x.Steps)-1].Rule = "ready"
				if c.ends {
					x = over(x)
				}
				d.commit(x)
				d.wait(30 * time.Minute)
				f.wantSaid(t, "meanwhile")
				d.wait(time.Hour)
				f.wantSaid(t, "after", c.after...)
			})
		})
	}
}

func dropInDesk(t *testing.T, f *fakeService) *desk {
	sink, err := NewAutohealWebhook(DropInOptions{URL: "https://hooks.example.org/x", HTTP: f.client()})
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	d.o.Channels = []Channel{{Name: "autoheal", Sink: sink, MinLevel: policy.LevelInfo}}
	d.o.Story = func(in policy.Incident) Story {
		return Story{Host: "h", Incident: in, Unit: &policy.Status{Container: "0123456789abcdef"}}
	}
	return d
}

// wantSaid checks the sentences that a drop-in posted since the last check.
func (f *fakeService) wantSaid(t *testing.T, when string, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var got []string
	for _, r := range f.got {
		var body map[string]string
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			t.Fatal(err)
		}
		got = append(got, body["content"])
	}
	f.got = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestDropInForms(t *testing.T) {
	for name, c := range map[string]struct {
		make func(DropInOptions) (Sink, error)
		o    DropInOptions
		want map[string]string
	}{
		"image":   {NewAutohealWebhook, DropInOptions{URL: "https://hooks.example.org/x"}, map[string]string{"content": "SENTENCE"}},
		"key":     {NewAutohealWebhook, DropInOptions{URL: "https://hooks.slack.com/x", Key: "message"}, map[string]string{"message": "SENTENCE"}},
		"slack":   {NewAutohealWebhook, DropInOptions{URL: "https://hooks.slack.com/services/x"}, map[string]string{"text": "SENTENCE"}},
		"apprise": {NewApprise, DropInOptions{URL: "http://apprise:8000/notify/x"}, map[string]string{"title": "Autoheal", "body": "SENTENCE"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeService{}
			c.o.HTTP = f.client()
			s, err := c.make(c.o)
			if err != nil {
				t.Fatal(err)
			}
			if s.Class() != DropIn {
				t.Errorf("it is %s", s.Class())
			}
			m := gaveUp()
			m.Text.Title = "SENTENCE"
			send(t, s, m)
			var got map[string]string
			if err := json.Unmarshal([]byte(f.last(t).Body), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if r := f.last(t); r.Method != "POST" || r.URL != c.o.URL || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestDropInFails(t *testing.T) {
	for _, make := range []func(DropInOptions) (Sink, error){NewAutohealWebhook, NewApprise} {
		f := &fakeService{status: 404}
		s, err := make(DropInOptions{URL: "https://discord.com/api/webhooks/1/SECRETTOKEN", HTTP: f.client()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Send(t.Context(), gaveUp())
		wantReason(t, err, ReasonAuth, 0, "SECRETTOKEN")
		if _, err := make(DropInOptions{URL: "SECRETTOKEN"}); err == nil {
			t.Error("a URL that is none is taken")
		} else {
			wantNoSecret(t, err, "SECRETTOKEN")
		}
	}
	got := autohealSentence(hostile(), false)
	if strings.ContainsAny(got, "\n\x1b\x00") || strings.Contains(got, "@everyone") || len(got) > 2000 {
		t.Errorf("%q", got)
	}
}
