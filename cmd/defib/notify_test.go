package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// people is a notifier with a channel in each state.
type people struct {
	fail     bool
	quiet    bool // nothing waits
	silences []notify.Silence
}

func (p *people) Channels() []notify.ChannelStatus {
	ops := notify.ChannelStatus{Name: "ops", Type: "slack", MinLevel: policy.LevelWarn, Sent: 12, LastSent: minutes(3), Failed: map[notify.Reason]uint64{notify.ReasonServer: 1, notify.ReasonTimeout: 1}}
	if p.quiet {
		return []notify.ChannelStatus{ops}
	}
	return []notify.ChannelStatus{
		ops,
		{Name: "oncall", Type: "pagerduty", MinLevel: policy.LevelPage, Parked: minutes(12), ParkedWhy: "PagerDuty refuses the routing key" + hostile(), Waiting: 2, Oldest: minutes(12), Failed: map[notify.Reason]uint64{notify.ReasonAuth: 3}},
		{Name: "chat", Type: "shoutrrr", MinLevel: policy.LevelWarn, Waiting: 1, Oldest: minutes(1), LastError: "telegram: no route to host", Failed: map[notify.Reason]uint64{notify.ReasonNetwork: 6}},
	}
}

func (p *people) Queue() []notify.Waiting {
	if p.quiet {
		return nil
	}
	return []notify.Waiting{
		{Channel: "chat", Incident: "INC-7F3K", Kind: notify.KindPost, Since: minutes(1), NotBefore: noon.Add(16 * time.Second), Attempts: 6, LastError: "telegram: no route to host"},
		{Channel: "oncall", Incident: "INC-7F3K", Kind: notify.KindPost, Since: minutes(12), NotBefore: noon},
	}
}

func (p *people) Test(_ context.Context, channel string) []notify.TestResult {
	out := []notify.TestResult{{Channel: "ops", Type: "slack", Took: 120 * time.Millisecond}}
	if p.fail && channel == "" {
		out = append(out, notify.TestResult{Channel: "oncall", Type: "pagerduty", Took: 1500 * time.Millisecond, Reason: notify.ReasonAuth, Error: "PagerDuty refuses the routing key" + hostile()})
	}
	return out
}

func (p *people) Silences() []notify.Silence { return p.silences }

func (p *people) AddSilence(s notify.Silence) (notify.Silence, error) {
	s.ID, s.By, s.From = "S7", "uid 1000 (li)", noon
	p.silences = append(p.silences, s)
	return s, nil
}

func (p *people) RemoveSilence(id string) error {
	for i, s := range p.silences {
		if s.ID == id {
			p.silences = append(p.silences[:i:i], p.silences[i+1:]...)
			return nil
		}
	}
	return notify.ErrNoSilence
}

func TestNotifyCommands(t *testing.T) {
	d := (&daemon{view: zoo(), notifier: &people{fail: true}}).start(t)
	for _, c := range []struct {
		name, stderr string
		args         []string
		code         int
	}{
		{"notify-queue", "", []string{"notify", "queue"}, exitOK},
		{"notify-test", "defib: 1 of 2 channels failed\n  mend it and try again: the file of a secret is read anew, the configuration when defib restarts\n", []string{"notify", "test"}, exitFailed},
		{"notify-test-one", "", []string{"notify", "test", "ops"}, exitOK},
	} {
		out, errs, code := d.run(t, c.args...)
		golden(t, c.name, out)
		if errs != c.stderr || code != c.code {
			t.Errorf("%s: stderr %q, exit code %d; want %q, %d", c.name, errs, code, c.stderr, c.code)
		}
	}
	for _, c := range []struct {
		args []string
		err  string
		code int
	}{
		{[]string{"notify", "test", "obs"}, "defib: there is no channel \"obs\"\n  did you mean ops?\n", exitUnreachable},
		{[]string{"notify", "test", "a", "b"}, "defib: notify test takes one CHANNEL, or none for all\n", exitUsage},
		{[]string{"notify", "qeue"}, "defib: there is no command \"qeue\"\n  did you mean defib notify queue?\n", exitUsage},
		{[]string{"notify", "queue", "-o", "xml"}, "defib: -o: want table or json, have \"xml\"\n", exitUsage},
	} {
		if out, errs, code := d.run(t, c.args...); out != "" || errs != c.err || code != c.code {
			t.Errorf("%v: got %q, %q, %d; want %q, %d", c.args, out, errs, code, c.err, c.code)
		}
	}
	var got api.Notify
	out, _, _ := d.run(t, "notify", "queue", "-o", "json")
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Version != 1 || cmp.Diff(d.notifier.Queue(), got.Queue) != "" {
		t.Errorf("got %v, %v", got, err)
	}
	if out, _, _ := d.run(t, "__complete", "notify", "test", ""); !strings.HasPrefix(out, "ops\tslack\noncall\tpagerduty\nchat\tshoutrrr\n:4\n") {
		t.Errorf("completion: got %q", out)
	}
}

func TestNothingToTell(t *testing.T) {
	d := (&daemon{view: zoo(), notifier: &people{quiet: true}}).start(t)
	if out, _, code := d.run(t, "notify", "queue"); !strings.HasSuffix(out, "\n\nNo message waits.\n") || code != exitOK {
		t.Errorf("got %q, %d", out, code)
	}
	d = (&daemon{view: zoo()}).start(t)
	want := "defib: no channel is configured: nobody is told of anything\n  config.yaml.example shows how, under notify:\n"
	if _, errs, code := d.run(t, "notify", "queue"); errs != want || code != exitFailed {
		t.Errorf("got %q, %d", errs, code)
	}
	want = "defib: defib tells nobody: no channel is configured\n  config.yaml.example shows how, under notify:\n"
	for _, args := range [][]string{{"notify", "test"}, {"silence", "add", "--unit", "a", "--for", "1h", "-m", "w"}, {"silence", "rm", "S1"}} {
		if _, errs, code := d.run(t, args...); errs != want || code != exitFailed {
			t.Errorf("%v: got %q, %d", args, errs, code)
		}
	}
}

// TestStatusNamesChannels wants parked channels and waiting messages beside
// the containers.
func TestStatusNamesChannels(t *testing.T) {
	d := (&daemon{view: zoo(), notifier: &people{}}).start(t)
	_, errs, _ := d.run(t, "status", "api")
	clean := newApp(nil, nil, nil, nil).clean
	want := clean("Channel oncall is parked since 12m, and tells nobody: "+cut("PagerDuty refuses the routing key"+hostile(), errorMost)+". Mend the file of its secret, or the configuration and restart defib; `defib notify test oncall` tries it.") + "\n" +
		"Channel chat: 1 message waits, the oldest since 60s; the last error: telegram: no route to host. `defib notify queue` shows more.\n"
	if d := cmp.Diff(want, errs); d != "" {
		t.Error(d)
	}
}

func TestSilence(t *testing.T) {
	p := &people{}
	d := (&daemon{view: zoo(), notifier: p}).start(t)
	for _, c := range []struct {
		args     []string
		out, err string
		code     int
	}{
		{[]string{"silence", "ls"}, "", "There is no silence.\n", exitOK},
		{
			[]string{"silence", "add", "--unit", "web*", "--label", "team=a", "--for", "2h", "-m", "moving its disk"},
			"S7: nothing is told of container web*, label team=a until 2026-03-01 14:00:00. `defib silence rm S7` ends it.\n", "", exitOK,
		},
		{
			[]string{"silence", "ls"},
			"ID  WHAT                           ENDS IN  BY             WHY\nS7  container web*, label team=a  2h0m     uid 1000 (li)  moving its disk\n", "", exitOK,
		},
		{[]string{"silence", "rm", "s7"}, "S7: the silence about container web*, label team=a has ended.\n", "", exitOK},
		{[]string{"silence", "rm", "S7"}, "", "defib: there is no silence \"S7\"\n  `defib silence ls` lists those that have not ended\n", exitUnreachable},
		{
			[]string{"silence", "add", "--unit", "lma", "--for", "2h", "-m", "w"},
			"S7: nothing is told of container lma until 2026-03-01 14:00:00. `defib silence rm S7` ends it.\nNo watched container is called \"lma\" now; did you mean lama? The silence stands all the same.\n", "", exitOK,
		},
		{
			[]string{"silence", "add", "--rule", "gave-up", "--for", "2h", "-m", "w"},
			"", "defib: there is no rule \"gave-up\": rules are written in small letters and underscores\n  did you mean gave_up?\n", exitFailed,
		},
		{[]string{"silence", "add", "--for", "2h", "-m", "w"}, "", "defib: say what to silence: --unit, --project, --label or --rule\n  --unit '*' silences everything\n", exitUsage},
		{[]string{"silence", "add", "--project", "a", "-m", "w"}, "", "defib: say how long, such as --for 2h\n  a silence always ends, so that none is forgotten\n", exitUsage},
		{[]string{"silence", "add", "--rule", "oom", "--for", "2h"}, "", "defib: say why, such as -m \"moving its disk\"\n  others will wonder about the quiet\n", exitUsage},
		{[]string{"silence", "add", "--unit", "a", "--for", "0s", "-m", "w"}, "", "defib: --for: want a length of time, such as 2h\n", exitUsage},
	} {
		out, errs, code := d.run(t, c.args...)
		if strings.Join(strings.Fields(out), " ") != strings.Join(strings.Fields(c.out), " ") || errs != c.err || code != c.code {
			t.Errorf("%v: got %q, %q, %d; want %q, %q, %d", c.args, out, errs, code, c.out, c.err, c.code)
		}
	}
}

func TestAckCommand(t *testing.T) {
	note := func(rule, text string) func(policy.Command) []policy.Decision {
		return func(policy.Command) []policy.Decision {
			return []policy.Decision{{ID: 7, Verb: policy.VerbNote, Rule: rule, Reason: text}}
		}
	}
	for _, c := range []struct {
		args     []string
		answer   func(policy.Command) []policy.Decision
		want     policy.Command
		out, err string
		code     int
	}{
		{
			[]string{"ack", "7f3k", "-m", "on it", "--for", "2h"},
			note("acknowledged", "ack by li: on it, until 14:00 UTC"),
			policy.Command{Order: policy.OrderAck, Incident: "7f3k", For: 2 * time.Hour, Why: "on it"},
			"INC-7F3K: ack by li: on it, until 14:00 UTC. Nobody is reminded of it until then; `defib ack INC-7F3K --undo` takes it back.\n", "", exitOK,
		},
		{
			[]string{"ack", "INC-7F3K", "--undo"},
			note("ack_undone", "its acknowledgement was taken back by li"),
			policy.Command{Order: policy.OrderAck, Incident: "INC-7F3K", Undo: true},
			"INC-7F3K: its acknowledgement was taken back by li.\n", "", exitOK,
		},
		{
			[]string{"ack", "INC-2B"},
			note("refused", "there is no open incident INC-2B; `defib incidents --open` lists them"),
			policy.Command{Order: policy.OrderAck, Incident: "INC-2B"},
			"", "defib: ack INC-2B: there is no open incident INC-2B; `defib incidents --open` lists them\n", exitFailed,
		},
	} {
		list := story()
		list[1].Ack = &policy.Ack{By: "li"}
		d := (&daemon{view: zoo(), answer: c.answer, incidents: list}).start(t)
		out, errs, code := d.run(t, c.args...)
		if out != c.out || errs != c.err || code != c.code {
			t.Errorf("%v: got %q, %q, %d; want %q, %q, %d", c.args, out, errs, code, c.out, c.err, c.code)
		}
		got := <-d.commands
		got.By = ""
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
		if out, _, _ := d.run(t, "__complete", "ack", ""); !strings.HasPrefix(out, "INC-7F3K\tlama: it exits") {
			t.Errorf("completion: got %q", out)
		}
	}
}

// TestAckOfNothing wants no order where there is nothing to do.
func TestAckOfNothing(t *testing.T) {
	d := (&daemon{view: zoo(), incidents: story()}).start(t)
	for _, c := range []struct {
		args     []string
		out, err string
		code     int
	}{
		{[]string{"ack", "7f3k", "--undo"}, "INC-7F3K: nobody had taken it.\n", "", exitOK},
		{[]string{"ack", "INC-1"}, "", "defib: there is no incident \"INC-1\"\n  `defib incidents --since 90d` lists all that are kept\n", exitUnreachable},
		{[]string{"incident", "1"}, "", "defib: there is no incident \"INC-1\"\n  `defib incidents --since 90d` lists all that are kept\n", exitUnreachable},
	} {
		out, errs, code := d.run(t, c.args...)
		if out != c.out || errs != c.err || code != c.code {
			t.Errorf("%v: got %q, %q, %d; want %q, %q, %d", c.args, out, errs, code, c.out, c.err, c.code)
		}
	}
	if len(d.commands) > 0 {
		t.Errorf("an order was given: %+v", <-d.commands)
	}
}

// TestTakenIncident wants who looks after an incident in every view of it.
func TestTakenIncident(t *testing.T) {
	list := story()
	list[1].Ack = &policy.Ack{By: "uid 1000 (li)", Why: "swapping the board", At: noon, Until: noon.Add(4 * time.Hour)}
	d := (&daemon{view: lama(), incidents: list}).start(t)
	const line = "Taken:        by uid 1000 (li) until 2026-03-01 16:00:00: swapping the board\n"
	for _, args := range [][]string{{"incident", "INC-7F3K"}, {"describe", "lama"}} {
		if out, _, _ := d.run(t, args...); !strings.Contains(out, line) {
			t.Errorf("%v does not say who looks after it:\n%s", args, out)
		}
	}
	if out, _, _ := d.run(t, "incidents", "--open"); !strings.Contains(out, "  open, taken  ") {
		t.Errorf("got:\n%s", out)
	}
}

func TestPreview(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	text := `notify:
  channels:
    - {name: ops, type: slack, token_env: SLACK_TOKEN, channel: C0123456789, mention: S1}
    - {name: oncall, type: pagerduty, routing_key_env: PD_KEY}
    - {name: alerts, type: alertmanager, urls: ["http://127.0.0.1:1"]}
    - {name: hook, type: webhook, url_env: HOOK_URL, secret_env: HOOK_SECRET}
    - {name: ding, type: dingtalk, url_env: DING_URL, secret_env: HOOK_SECRET}
    - {name: chat, type: shoutrrr, url_env: CHAT_URL}
    - {name: mail, type: shoutrrr, url_env: MAIL_URL}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &daemon{env: map[string]string{
		"DEFIB_CONFIG": file, "DEFIB_STATE_DIR": dir, "SLACK_TOKEN": "xoxb-1-" + planted, "PD_KEY": planted, "HOOK_URL": "http://127.0.0.1:1/" + planted, "HOOK_SECRET": planted,
		"DING_URL": "https://127.0.0.1:1/robot/send?access_token=" + planted, "CHAT_URL": "lark://open.feishu.cn/" + planted, "MAIL_URL": "smtp://li:" + planted + "@127.0.0.1:1/?from=a@b.c&to=d@e.f",
	}}
	for _, event := range notify.SampleNames() {
		for _, locale := range []string{"en", "zh"} {
			if out, errs, code := d.run(t, "notify", "preview", "--event", event, "--locale", locale); errs != "" || code != exitOK || len(out) < 40 {
				t.Errorf("%s %s: got %q, %q, %d", event, locale, out, errs, code)
			}
		}
	}
	for channel, want := range map[string]string{
		"ops": `"type": "header"`, "oncall": `"event_action": "trigger"`, "alerts": `"alertname"`, "hook": `"type": "incident"`, "ding": `"msgtype": "markdown"`, "chat": `"msg_type"`,
	} {
		out, errs, code := d.run(t, "notify", "preview", "--channel", channel)
		if errs != "" || code != exitOK || !strings.Contains(out, want) || strings.Contains(out, planted) {
			t.Errorf("%s: got %s, %q, %d; want %s in it", channel, out, errs, code, want)
		}
		for _, event := range notify.SampleNames() {
			out, errs, code := d.run(t, "notify", "preview", "--channel", channel, "--event", event)
			if code != exitOK || strings.Contains(out+errs, planted) {
				t.Errorf("%s of %s: got %q, %q, %d", event, channel, out, errs, code)
			}
			if err := allJSON(out); channel != "ops" && err != nil { // Slack is sent a form
				t.Errorf("%s of %s is cut: %v\n%s", event, channel, err, out)
			}
		}
	}
	for _, c := range []struct {
		args []string
		err  string
		code int
	}{
		{[]string{"--event", "gaveup"}, "defib: --event: there is no \"gaveup\"\n  did you mean gave_up?\n", exitUsage},
		{[]string{"--channel", "obs"}, "defib: --channel: there is no \"obs\"\n  did you mean ops?\n", exitUsage},
		{[]string{"--locale", "de"}, "defib: locale: want en or zh, have \"de\"\n", exitFailed},
		{[]string{"--templates", dir + "/none"}, "defib: notify.templates: stat " + dir + "/none: no such file or directory\n", exitFailed},
	} {
		if out, errs, code := d.run(t, append([]string{"notify", "preview"}, c.args...)...); out != "" || errs != c.err || code != c.code {
			t.Errorf("%v: got %q, %q, %d; want %q, %d", c.args, out, errs, code, c.err, c.code)
		}
	}
	out, errs, code := d.run(t, "notify", "preview", "--channel", "mail", "--event", "flapping", "--locale", "zh")
	for _, want := range []string{"From: \"defib\" <a@b.c>\nTo: d@e.f\nSubject: 🟡 ", "#token: 182034"} {
		if errs != "" || code != exitOK || !strings.Contains(out, want) || strings.Contains(out, planted) {
			t.Errorf("mail: got %q, %q, %d; want %s", out, errs, code, want)
		}
	}
}

// allJSON reads one document after another.
func allJSON(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var v any
		if err := d.Decode(&v); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

const planted = "planted-s3cr3t-31415926"

func TestPreviewWords(t *testing.T) {
	d := &daemon{env: map[string]string{"DEFIB_STATE_DIR": t.TempDir()}}
	for _, locale := range []string{"en", "zh"} {
		out, errs, code := d.run(t, "notify", "preview", "--locale", locale)
		golden(t, "notify-preview-"+locale, out)
		if errs != "" || code != exitOK {
			t.Errorf("got %q, %d", errs, code)
		}
	}
}
