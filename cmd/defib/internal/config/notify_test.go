package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

const planted = "xoxb-3141592653-planted-s3cr3t"

func TestParseNotify(t *testing.T) {
	const text = `notify:
  locale: zh
  start_message: true
  remind_after: 1h
  remind_max: 0
  timezone: Asia/Shanghai
  quiet_hours: "23:00-07:00"
  channels:
    - {name: ops, type: slack, token_env: SLACK_TOKEN, channel: C1, mention: S1}
    - name: am
      type: alertmanager
      urls: ["http://a:9093", "https://b"]
      min_level: warn
    - {name: hook, type: webhook, url_file: /u}
    - {name: far, type: slack, token_env: T, channel: C2, api_url: "http://proxy/api"}
  routes:
    - {project: shop-*, label: "team=a=b", channels: [ops, am]}
    - channels: [hook]
  heartbeat: {url_file: /hb, every: 5m}
`
	want := Default()
	want.Notify = Notify{
		Locale: "zh", StartMessage: true, RemindAfter: time.Hour, Timezone: "Asia/Shanghai", QuietHours: "23:00-07:00",
		Channels: []Channel{
			{Name: "ops", Type: TypeSlack, Token: Secret{Env: "SLACK_TOKEN"}, Channel: "C1", Mention: "S1", MinLevel: policy.LevelWarn},
			{Name: "am", Type: TypeAlertmanager, URLs: []string{"http://a:9093", "https://b"}, MinLevel: policy.LevelWarn},
			{Name: "hook", Type: TypeWebhook, URL: Secret{File: "/u"}, MinLevel: policy.LevelInfo},
			{Name: "far", Type: TypeSlack, Token: Secret{Env: "T"}, Channel: "C2", APIURL: "http://proxy/api", MinLevel: policy.LevelWarn},
		},
		Routes:    []Route{{Project: "shop-*", Label: "team=a=b", Channels: []string{"ops", "am"}}, {Channels: []string{"hook"}}},
		Heartbeat: Heartbeat{URL: Secret{File: "/hb"}, Every: 5 * time.Minute},
	}
	got, src, err := Parse("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s := src.Of("notify.channels[1].urls"); s != "c.yaml:12" {
		t.Errorf("source of the second channel's urls: got %s, want c.yaml:12", s)
	}
}

func TestNotifyProblems(t *testing.T) {
	const slack = "name: a, type: slack, token_env: T, channel: C1"
	for _, c := range []struct{ text, want string }{
		{"locale: de", `1:18: notify.locale: want en or zh, have "de"`},
		{"remind_after: 10s", "1:10: notify.remind_after: 10s must be at least 1m0s; to have no reminders set remind_max: 0"},
		{"remind_max: -1", "1:10: notify.remind_max: -1 must be at least 0"},
		{"timezone: Mars/Olympus", `1:10: notify.timezone: there is no time zone "Mars/Olympus"; want a name such as Asia/Shanghai, or UTC`},
		{"timezone: ../../etc/passwd", `1:10: notify.timezone: there is no time zone "../../etc/passwd"; want a name such as Asia/Shanghai, or UTC`},
		{"quiet_hours: night", `1:10: notify.quiet_hours: want two times of day that differ, such as 23:00-07:00, have "night"`},
		{"quiet_hours: '7:00-07:00'", `1:10: notify.quiet_hours: want two times of day that differ, such as 23:00-07:00, have "7:00-07:00"`},
		{"templates: words", `1:10: notify.templates: want a directory that begins with /, have "words"`},
		{"channels: {ops: {type: slack}}", "1:20: notify.channels: want a list of sections, each beginning with a dash, have a section"},
		{"channels: [ops]", "1:21: notify.channels[0]: want lines of `key: value` here"},
		{"channels: [{type: webhook, url_env: U}]", "1:22: notify.channels[0]: has no name; add name: and a word of your choice"},
		{"channels: [{name: a b, type: webhook, url_env: U}]", "1:22: notify.channels[0].name: want at most 40 letters, digits, dashes, dots and underscores"},
		{"channels: [{name: a}]", "1:22: notify.channels[0]: has no type; add type: with slack, slack_webhook, pagerduty, alertmanager, dingtalk, webhook, shoutrrr, autoheal or apprise"},
		{"channels: [{name: a, type: slak}]", `1:37: notify.channels[0].type: want slack, slack_webhook, pagerduty, alertmanager, dingtalk, webhook, shoutrrr, autoheal or apprise, have "slak"; did you mean slack?`},
		{"channels: [{name: a, type: slack, channel: C1}]", "1:22: notify.channels[0]: a channel of type slack needs token_file or token_env"},
		{"channels: [{name: a, type: slack, token_env: T}]", "1:22: notify.channels[0]: a channel of type slack needs channel, the ID that begins with C"},
		{"channels: [{name: a, type: alertmanager}]", `1:22: notify.channels[0]: a channel of type alertmanager needs urls, such as ["http://127.0.0.1:9093"]`},
		{"channels: [{" + slack + ", url_env: U}]", "1:71: notify.channels[0].url_env: a channel of type slack takes no url"},
		{"channels: [{" + slack + ", token_file: /t}]", "1:44: notify.channels[0].token_env: token_file is set, too; keep one of them"},
		{"channels: [{" + slack + ", min_level: loud}]", `1:82: notify.channels[0].min_level: want info, warn or page, have "loud"`},
		{"channels: [{" + slack + ", tokn_file: /t}]", "1:71: notify.channels[0].tokn_file: no such setting; did you mean token_file?"},
		{"channels: [{" + slack + "}, {" + slack + "}]", "1:73: notify.channels[1].name: is the name of channel 1, too; give each its own"},
		{"channels: [{name: a, type: alertmanager, urls: [a]}]", "1:51: notify.channels[0].urls: want an address such as http://127.0.0.1:9093"},
		{"channels: [{" + slack + ", api_url: proxy}]", "1:71: notify.channels[0].api_url: want an address such as https://slack.com/api"},
		{"channels: [{" + slack + ", api_url: 'http://a:b@c'}]", "1:71: notify.channels[0].api_url: a password never stands in this file"},
		{"channels: [{name: a, type: webhook, url_env: U, api_url: 'http://a'}]", "1:58: notify.channels[0].api_url: a channel of type webhook takes no api_url"},
		{"channels: [{name: a, type: alertmanager, urls: a}]", `1:57: notify.channels[0].urls: want a list such as ["first", "second"], have "a"`},
		{"routes: [{unit: a}]", "1:20: notify.routes[0]: names no channels; add channels: [\"name\"]"},
		{"channels: [{" + slack + "}], routes: [{channels: [b]}]", `1:83: notify.routes[0].channels: there is no channel "b"; did you mean a?`},
		{"channels: [{" + slack + "}], routes: [{label: team, channels: [a]}]", `1:83: notify.routes[0].label: want a label such as team=search, have "team"`},
		{"routes: [{colour: red}]", "1:20: notify.routes[0].colour: no such setting; there are channels, label, project, unit"},
		{"heartbeat: {url_env: U, every: 1s}", "1:34: notify.heartbeat.every: 1s must be at least 10s"},
		{"heartbeat: {url_env: U, url_file: /u}", "1:22: notify.heartbeat.url_env: url_file is set, too; keep one of them"},
	} {
		_, _, err := Parse("c.yaml", []byte("notify: {"+c.text+"}\n"))
		if err == nil {
			t.Errorf("%s: no error", c.text)
			continue
		}
		if d := cmp.Diff("c.yaml:"+c.want, err.Error()); d != "" {
			t.Errorf("%s: %s", c.text, d)
		}
	}
}

// TestZone is about machines, and containers of a base without files, that know
// only UTC.
func TestZone(t *testing.T) {
	bare := func(name string) (*time.Location, error) {
		if name == "UTC" {
			return time.UTC, nil
		}
		return nil, errors.New("unknown time zone")
	}
	for name, want := range map[string]string{"": "Local", "UTC": "UTC"} {
		if at, err := zone(name, bare); err != nil || at.String() != want {
			t.Errorf("%q is %v, %v", name, at, err)
		}
	}
	_, err := zone("Europe/Berlin", bare)
	want := `"Europe/Berlin" needs the data of time zones, which is not on this machine; install the package tzdata or mount /usr/share/zoneinfo into the container of defib, or leave it out`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestMisplacedSecrets puts a secret wherever somebody might, and wants it in
// no error.
func TestMisplacedSecrets(t *testing.T) {
	const hook = "https://hooks.slack.com/services/T0/B0/" + planted
	const hex = "4e1c6f2a9d8b7035b1c2d3e4f5061728"
	for _, text := range []string{
		"notify:\n  channels:\n    - name: ops\n      type: slack\n      token: " + planted + "\n",
		"notify: {channels: [{name: ops, type: slak, token: " + planted + "}]}\n",
		"notify: {channels: [{name: ops, type: slack_webhook, url: \"" + hook + "\"}]}\n",
		"notify: {channels: [{name: ops, type: slack_webhook, url_file: \"" + hook + "\"}]}\n",
		"notify: {channels: [{name: ops, type: slack_webhook, url_env: \"" + hook + "\"}]}\n",
		"notify: {channels: [{name: ops, type: slack_webhook, webhook_url: \"" + hook + "\"}]}\n",
		"notify: {channels: [{name: ops, type: pagerduty, routing_key_env: " + hex + "}]}\n",
		"notify: {channels: [{name: ops, type: pagerduty, routing_key_env: R015C3MBT7OE3W0AYZ}]}\n",
		"notify: {channels: [{name: ops, type: pagerduty, routing_key: [" + hex + "]}]}\n",
		"notify: {channels: [{name: am, type: alertmanager, urls: [\"http://li:" + planted + "@am\"]}]}\n",
		"notify: {heartbeat: {url: \"https://hc-ping.com/" + planted + "\"}}\n",
		"notify: {heartbeat: \"https://hc-ping.com/" + planted + "\"}\n",
		"notify: \"" + hook + "\"\n",
		"notify:\n  slack_token: " + planted + "\n",
		"webhook_url: " + hook + "\n",
		"slack: {token: " + planted + "}\n",
		"notify:\n  channels:\n    - token: \"" + planted + "\n",
		"notify:\n  channels:\n    - token: '" + planted + "\n  x: [\n",
		"notify:\n  channels:\n   - token: a: " + planted + "\n",
	} {
		_, _, err := Parse("c.yaml", []byte(text))
		if err == nil {
			t.Errorf("no error of:\n%s", text)
			continue
		}
		for _, bad := range []string{planted, hook, hex, "R015C3MBT7OE3W0AYZ", "services/T0"} {
			if strings.Contains(err.Error(), bad) {
				t.Errorf("%s\nholds %s", err, bad)
			}
		}
	}
	_, _, err := Parse("c.yaml", []byte("notify: {channels: [{name: ops, type: slack, channel: C1, token: x}]}\n"))
	want := "c.yaml:1:66: notify.channels[0].token: a secret never stands in this file; put it into a file of its own and name that by token_file, or name a variable by token_env"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestExampleChannels takes the comments of the example at their word: each
// type of channel is shown, with every key, and is read.
func TestExampleChannels(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("notify:\n")
	shown := false
	for line := range strings.Lines(string(data)) {
		line, comment := strings.CutPrefix(line, "  # ")
		if !comment {
			shown = false
			continue
		}
		if shown = shown || line == "channels:\n" || line == "routes:\n"; shown {
			text.WriteString("  " + line)
		}
	}
	cfg, _, err := Parse("example", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	given := map[string]bool{"min_level": true}
	for _, c := range cfg.Notify.Channels {
		types = append(types, c.Type)
		for _, key := range c.given() {
			given[key] = true
		}
	}
	if d := cmp.Diff(typeNames(), types); d != "" {
		t.Errorf("types of channels (-there are +shown): %s", d)
	}
	for _, f := range (&Channel{}).fields() {
		name := strings.TrimSuffix(strings.TrimSuffix(f.key, "_file"), "_env")
		if name != "name" && name != "type" && !given[name] {
			t.Errorf("the example does not show %s", f.key)
		}
	}
	if len(cfg.Notify.Routes) != 4 {
		t.Errorf("got %d routes, want 4", len(cfg.Notify.Routes))
	}
}

// TestDocs reads every piece of configuration that people are shown.
func TestDocs(t *testing.T) {
	for name, least := range map[string]int{"README.md": 1, "docs/notifications.md": 8} {
		data, err := os.ReadFile("../../../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for i, block := range strings.Split(string(data), "```yaml\n")[1:] {
			text, _, _ := strings.Cut(block, "```")
			if !strings.HasPrefix(text, "notify:") {
				continue
			}
			found++
			if _, _, err := Parse(fmt.Sprintf("%s, block %d", name, i+1), []byte(text)); err != nil {
				t.Error(err)
			}
		}
		if found < least {
			t.Errorf("%s: %d pieces, want at least %d", name, found, least)
		}
	}
}

func TestReadSecrets(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n := Notify{
		Channels: []Channel{
			{Token: Secret{File: file("token", planted+"\n")}, URL: Secret{Env: "THE_URL"}},
			{URL: Secret{File: dir + "/none"}, Secret: Secret{Env: "UNSET"}},
			{URL: Secret{File: file("empty", "\n")}, Secret: Secret{File: file("two", planted+"\n"+planted)}, RoutingKey: Secret{File: file("big", strings.Repeat("x", maxSecret+1))}},
		},
		Heartbeat: Heartbeat{URL: Secret{Env: "TWO_LINES"}},
	}
	err := n.ReadSecrets(env("THE_URL", " https://a/b ", "TWO_LINES", "a\nb"), Sources{"notify.channels[1].url_file": "c.yaml:7"})
	want := strings.Join([]string{
		"c.yaml:7: notify.channels[1].url_file: read its file: open " + dir + "/none: no such file or directory",
		"default: notify.channels[1].secret_env: the variable UNSET is not set",
		"default: notify.channels[2].url_file: " + dir + "/empty is empty",
		"default: notify.channels[2].secret_file: " + dir + "/two holds more than one line; write the secret alone into it",
		"default: notify.channels[2].routing_key_file: " + dir + "/big is larger than 64 KiB; is it the right file?",
		"default: notify.heartbeat.url_env: the variable TWO_LINES holds more than one line; write the secret alone into it",
	}, "\n")
	if d := cmp.Diff(want, fmt.Sprint(err)); d != "" {
		t.Error(d)
	}
	if a, b := n.Channels[0].Token.Reveal(), n.Channels[0].URL.Reveal(); a != planted || b != "https://a/b" {
		t.Errorf("got %q and %q", a, b)
	}
}

// TestSecretsAreNotPrinted prints a secret in every way there is.
func TestSecretsAreNotPrinted(t *testing.T) {
	value := planted
	s := Secret{File: "/f", text: &value}
	c := Channel{Name: "ops", Token: s, URL: s}
	var log bytes.Buffer
	l := slog.New(slog.NewJSONHandler(&log, nil))
	l.Info("x", "secret", s, "channel", c, "pointer", &c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "channel", c, "pointer", &c)
	text := log.String()
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%d", "%t"} {
		text += fmt.Sprintf(verb+verb+verb+verb, s, &s, c, []any{&c, map[string]any{"s": s}})
	}
	data, err := json.Marshal([]any{s, c, &c})
	text += string(data)
	if err != nil || strings.Contains(text, planted) || strings.Contains(text, fmt.Sprintf("%x", planted)) || strings.Count(text, hidden) < 20 {
		t.Errorf("%v: %s", err, text)
	}
}

func TestDropIns(t *testing.T) {
	s, err := Resolve(Input{Getenv: env("WEBHOOK_URL", "https://a/"+planted, "WEBHOOK_JSON_KEY", "text", "APPRISE_URL", "http://b/"+planted)})
	if err != nil {
		t.Fatal(err)
	}
	want := []Channel{
		{Name: "autoheal", Type: TypeAutoheal, URL: Secret{Env: "WEBHOOK_URL"}, JSONKey: "text", MinLevel: policy.LevelInfo},
		{Name: "apprise", Type: TypeApprise, URL: Secret{Env: "APPRISE_URL"}, MinLevel: policy.LevelInfo},
	}
	if d := cmp.Diff(want, s.Config.Notify.Channels); d != "" {
		t.Error(d)
	}
	if err := s.Config.Notify.ReadSecrets(env("WEBHOOK_URL", "https://a/"+planted, "APPRISE_URL", "http://b/"+planted), s.Sources); err != nil || s.Config.Notify.Channels[0].URL.Reveal() != "https://a/"+planted {
		t.Errorf("got %v", err)
	}
	file := write(t, "notify: {channels: [{name: apprise, type: webhook, url_env: U}]}\n")
	_, err = Resolve(Input{Flags: map[string]string{"config": file}, Getenv: env("APPRISE_URL", "http://b")})
	if err == nil || err.Error() != "APPRISE_URL: it makes a channel named apprise, and the file has one, too; rename that" {
		t.Errorf("got %v", err)
	}
}

// TestShowNotify prints channels and routes, and reads them again.
func TestShowNotify(t *testing.T) {
	file := write(t, `notify:
  channels:
    - {name: ops, type: slack, token_env: SLACK_TOKEN, channel: C1, mention: S1}
    - {name: am, type: alertmanager, urls: ["http://a:9093"], min_level: warn}
  routes: [{project: shop-*, channels: [ops, am]}, {channels: [am]}]
  heartbeat: {url_file: /hb}
`)
	getenv := env("WEBHOOK_URL", "https://a/"+planted, "SLACK_TOKEN", planted)
	s, err := Resolve(Input{Flags: map[string]string{"config": file}, Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Notify.Heartbeat.URL.File = write(t, planted)
	if err := s.Config.Notify.ReadSecrets(getenv, s.Sources); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Show(&out); err != nil {
		t.Fatal(err)
	}
	got, _, err := Parse("shown", out.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if d := cmp.Diff(s.Config.Notify, got.Notify); d != "" {
		t.Error(d)
	}
	for _, line := range []string{
		`    - name: "ops"                    # config.yaml:3`,
		`      type: "slack"                  # config.yaml:3`,
		`      min_level: "warn"              # default`,
		`      token_env: "SLACK_TOKEN"       # config.yaml:3`,
		`      url_env: "WEBHOOK_URL"         # WEBHOOK_URL`,
		`    every: 1m                        # default`,
	} {
		if !slices.Contains(strings.Split(out.String(), "\n"), line) {
			t.Errorf("%q is missing in:\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), planted) {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
}
