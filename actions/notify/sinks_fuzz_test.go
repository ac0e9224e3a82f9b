package notify

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// Every sink is given a message of which all that others write is anything, and
// is held to what it promises: it is read as one message, it fits, it calls
// nobody but who is to be called, and it holds no key.

// fuzzSink runs f over messages.
func fuzzSink(f *testing.F, check func(t *testing.T, m Message)) {
	f.Helper()
	for _, s := range hostileLines() {
		f.Add(s, s, s, uint8(3), true)
	}
	f.Add("title", strings.Repeat("世", 3000), "name", uint8(200), false)
	f.Add("", "", "", uint8(0), true)
	f.Fuzz(func(t *testing.T, title, line, name string, n uint8, urgent bool) {
		m := Message{Kind: KindPost, Key: "gpu-03/" + name + "/INC-7F3K", Since: storyOpened, Text: everywhere(line, int(n))}
		m.Text.Title, m.Text.Foot, m.Text.LogsMore, m.Text.Urgent = title, line, line, urgent
		m.Story = Story{Host: name, Version: "1.2.3", Now: storyOpened, Unit: &policy.Status{Name: name, Project: name, Container: name}}
		m.Story.Incident = policy.Incident{ID: "INC-7F3K", Rev: 4, Unit: name, Name: name, Opened: storyOpened, Level: policy.LevelPage, Rule: name, Cause: line, NeedsYou: true}
		check(t, m)
	})
}

// sentBody sends m and returns what the service was sent.
func sentBody(t *testing.T, sink func(c *http.Client) (Sink, error), answer string, m Message) gotRequest {
	t.Helper()
	f := &fakeService{answer: answer}
	s, err := sink(f.client())
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, m)
	if len(f.got) != 1 {
		t.Fatalf("%d requests", len(f.got))
	}
	for name, values := range f.got[0].Header {
		if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
			t.Errorf("the header %q is %q", name, values)
		}
	}
	if !utf8.ValidString(f.got[0].Body) {
		t.Errorf("not UTF-8: %q", f.got[0].Body)
	}
	return f.got[0]
}

// shown wants a text that people see to be clean and of some length at most.
func shown(t *testing.T, what, s string, most int) {
	t.Helper()
	if n := utf8.RuneCountInString(s); n > most {
		t.Errorf("%s has %d characters of %d", what, n, most)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) }); i >= 0 {
		t.Errorf("%s holds what is not seen: %q", what, s)
	}
}

func decode(t *testing.T, body string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("something follows the document: %s", body)
	}
}

func FuzzPagerDuty(f *testing.F) {
	fuzzSink(f, func(t *testing.T, m Message) {
		r := sentBody(t, func(c *http.Client) (Sink, error) {
			return NewPagerDuty(PagerDutyOptions{RoutingKey: planted, HTTP: c})
		}, `{"status":"success"}`, m)
		var e struct {
			Key     string `json:"routing_key"`
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Client  string `json:"client"`
			Payload struct {
				Summary, Source, Severity, Timestamp, Component, Group, Class string
				Details                                                       pagerFacts `json:"custom_details"`
			} `json:"payload"`
		}
		decode(t, r.Body, &e)
		if len(r.Body) > 512_000 || e.Key != planted || strings.Count(r.Body, planted) != 1 {
			t.Errorf("%d bytes, or the key is elsewhere: %s", len(r.Body), r.Body)
		}
		if e.Action != "trigger" || e.Client != "defib" || e.Dedup == "" || len(e.Dedup) > 255 || e.Payload.Summary == "" || e.Payload.Source == "" || e.Payload.Severity != "critical" {
			t.Errorf("%+v", e)
		}
		shown(t, "summary", e.Payload.Summary, 1024)
		d := e.Payload.Details
		for _, s := range slices.Concat(d.Summary, d.Done, d.Logs, []string{e.Payload.Component, e.Payload.Group, e.Payload.Class, e.Dedup}) {
			shown(t, "a detail", s, 300)
		}
		shown(t, "the commands", d.Commands, 600)
	})
}

func FuzzAlertmanager(f *testing.F) {
	fuzzSink(f, func(t *testing.T, m Message) {
		r := sentBody(t, func(c *http.Client) (Sink, error) {
			return NewAlertmanager(AlertmanagerOptions{URLs: []string{"http://li:" + planted + "@am:9093"}, HTTP: c})
		}, "", m)
		var alerts []alert
		decode(t, r.Body, &alerts)
		if len(alerts) != 1 || alerts[0].StartsAt.After(alerts[0].EndsAt) || strings.Contains(r.Body, planted) {
			t.Fatalf("%s", r.Body)
		}
		for name, value := range alerts[0].Labels {
			if !regexp.MustCompile(`^[a-z]+$`).MatchString(name) || value == "" || strings.Contains(value, "\n") {
				t.Errorf("the label %q is %q", name, value)
			}
			shown(t, "the label "+name, value, 200)
		}
		notes := alerts[0].Annotations
		shown(t, "the summary", notes["summary"], 500)
		if shown(t, "the description", notes["description"], 8<<10); len(notes["description"]) > 8<<10 {
			t.Errorf("%d bytes", len(notes["description"]))
		}
	})
}

func FuzzWebhook(f *testing.F) {
	fuzzSink(f, func(t *testing.T, m Message) {
		r := sentBody(t, func(c *http.Client) (Sink, error) {
			return NewWebhook(WebhookOptions{URL: "https://hooks.example.org/" + planted, Secret: planted, HTTP: c})
		}, "", m)
		var b WebhookBody
		decode(t, r.Body, &b)
		if b.Version != WebhookVersion || b.Type != "incident" || !b.Urgent || len(b.Text) > 4<<10 || strings.Contains(r.Body, planted) {
			t.Errorf("%s", r.Body)
		}
		shown(t, "the text", b.Text, 4<<10)
		if id := r.Header.Get("Webhook-Id"); !regexp.MustCompile(`^msg_[0-9a-f]{32}$`).MatchString(id) || !strings.HasPrefix(r.Header.Get("Webhook-Signature"), "v1,") {
			t.Errorf("the headers are %v", r.Header)
		}
	})
}

func FuzzMail(f *testing.F) {
	s, err := NewShoutrrr(ShoutrrrOptions{URL: "smtp://li:" + planted + "@mail.example.org/?from=defib@example.org&to=ops@example.org"})
	if err != nil {
		f.Fatal(err)
	}
	fuzzSink(f, func(t *testing.T, m Message) {
		raw := s.(*mailSink).letter(m, storyOpened)
		wantWire(t, string(raw))
		got, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%v: %q", err, raw)
		}
		want := []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "In-Reply-To", "Message-Id", "Mime-Version", "References", "Subject", "To"}
		if m.Text.Urgent {
			want = append(want, "X-Priority")
		}
		var names []string
		for name, values := range got.Header {
			if names = append(names, name); len(values) != 1 {
				t.Errorf("%s is there %d times", name, len(values))
			}
		}
		slices.Sort(names)
		if d := cmp.Diff(want, names); d != "" {
			t.Errorf("headers: %s", d)
		}
		if id := got.Header.Get("Message-Id"); !regexp.MustCompile(`^<defib\.[0-9a-f]{32}@example\.org>$`).MatchString(id) || got.Header.Get("To") != "ops@example.org" {
			t.Errorf("headers: %v", got.Header)
		}
		about, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
		if err != nil || about != mailSubject(m) {
			t.Errorf("the subject is %q, want %q (%v)", about, mailSubject(m), err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
		if text := strings.ReplaceAll(string(body), "\r\n", "\n"); err != nil || text != mailBody(m)+"\n" {
			t.Errorf("the body is %q, want %q (%v)", text, mailBody(m), err)
		}
		if shown(t, "the body", mailBody(m), mailBudget); bytes.Contains(raw, []byte(planted)) {
			t.Error("the password is in the mail")
		}
	})
}

func FuzzSlackWebhook(f *testing.F) {
	fuzzSink(f, func(t *testing.T, m Message) {
		r := sentBody(t, func(c *http.Client) (Sink, error) {
			return NewSlackWebhook(SlackHookOptions{URL: "https://hooks.slack.com/services/" + planted, Mention: "S0ONCALL", HTTP: c})
		}, "ok", m)
		var b struct {
			Text   string
			Blocks []any
			Links  bool `json:"unfurl_links"`
			Media  bool `json:"unfurl_media"`
			Over   bool `json:"replace_original"`
			Gone   bool `json:"delete_original"`
		}
		decode(t, r.Body, &b)
		calls := 0
		blocks, err := json.Marshal(b.Blocks)
		if err != nil {
			t.Fatal(err)
		}
		textsIn(any(b.Blocks), func(kind, text string) {
			calls += strings.Count(text, onCall)
			if rest := strings.ReplaceAll(text, onCall, ""); kind == "mrkdwn" && strings.ContainsAny(rest, "<>") {
				t.Errorf("not escaped: %q", text)
			}
			shown(t, kind, text, 3000)
		})
		if strings.ContainsAny(strings.ReplaceAll(b.Text, onCall, ""), "<>") || len(blocks) > slackMost || strings.Contains(r.Body, planted) {
			t.Errorf("%s", r.Body)
		}
		if want := map[bool]int{true: 1}[m.Text.Urgent]; calls != want || strings.Count(b.Text, onCall) != want {
			t.Errorf("it calls %d times in its blocks and %d times in its text, want %d", calls, strings.Count(b.Text, onCall), want)
		}
	})
}

func FuzzDropIn(f *testing.F) {
	pings := regexp.MustCompile("@[^\u2060…]|<[@#!/a-zA-Z]|``|\\]\\(")
	fuzzSink(f, func(t *testing.T, m Message) {
		repaired := m
		repaired.Story.Incident.Steps = []policy.Step{{At: storyOpened, Text: "restart: it failed"}, {At: storyOpened.Add(time.Second), Rule: "ready"}}
		for _, m := range []Message{m, repaired} {
			if Clean(m.Text.Title) == "" && len(m.Story.Incident.Steps) == 0 { // there is nothing to say
				continue
			}
			r := sentBody(t, func(c *http.Client) (Sink, error) {
				return NewAutohealWebhook(DropInOptions{URL: "https://discord.com/api/webhooks/1/" + planted, HTTP: c})
			}, "", m)
			var b map[string]string
			decode(t, r.Body, &b)
			if len(b) != 1 || strings.Contains(r.Body, planted) || strings.Contains(b["content"], "\n") {
				t.Errorf("%s", r.Body)
			}
			if shown(t, "the sentence", b["content"], 2000); pings.MatchString(b["content"]) {
				t.Errorf("%q survives in %q", pings.FindString(b["content"]), b["content"])
			}
		}
	})
}

func FuzzDingTalk(f *testing.F) {
	pings := regexp.MustCompile("@[^\u2060…\n]|<[@!/a-zA-Z]|``|\\]\\(")
	fuzzSink(f, func(t *testing.T, m Message) {
		r := sentBody(t, func(c *http.Client) (Sink, error) {
			return NewDingTalk(DingTalkOptions{URL: "https://oapi.dingtalk.com/robot/send?access_token=" + planted, Secret: planted, Mention: []string{"13800000000"}, HTTP: c})
		}, `{"errcode":0}`, m)
		var b dingMessage
		decode(t, r.Body, &b)
		text, called := strings.CutSuffix(b.Markdown.Text, "\n\n@13800000000")
		if called != m.Text.Urgent || len(b.At.Mobiles) != map[bool]int{true: 1}[m.Text.Urgent] || b.At.All || len(b.Markdown.Text) > dingBudget || strings.Contains(r.Body, planted) {
			t.Errorf("%s", r.Body)
		}
		shown(t, "the title", b.Markdown.Title, 100)
		if shown(t, "the text", text, dingBudget); pings.MatchString(b.Markdown.Title + "\n" + text) {
			t.Errorf("%q survives in %q", pings.FindString(b.Markdown.Title+"\n"+text), text)
		}
	})
}

// Whatever a service answers, and however much of a key it repeats, no error
// holds it.
func FuzzSinkErrors(f *testing.F) {
	for _, status := range []int{200, 302, 400, 401, 404, 429, 500} {
		f.Add(status, `{"ok":false,"error":"`, `"}`)
		f.Add(status, `{"errcode":310000,"errmsg":"`, `"}`)
		f.Add(status, `{"status":"invalid event","errors":["`, ` is bad"]}`)
		f.Add(status, "https://hooks.slack.com/services/", " ")
		f.Add(status, strings.Repeat(" ", maxAnswer-20), "x")
		f.Add(status, "x"+strings.Repeat(" ", maxEcho-20), "x")
	}
	f.Fuzz(func(t *testing.T, status int, before, behind string) {
		if status < 200 || status > 599 {
			return
		}
		c := (&fakeService{status: status, answer: before + planted + behind}).client()
		sinks := sinksOf(t, c.Transport)
		var errs [5]error
		sinks["ding"], errs[0] = NewDingTalk(DingTalkOptions{URL: "https://oapi.dingtalk.com/robot/send?access_token=" + planted, Secret: planted, HTTP: c})
		sinks["webhook"], errs[1] = NewWebhook(WebhookOptions{URL: "https://hooks.example.org/" + planted, HTTP: c})
		sinks["alertmanager"], errs[2] = NewAlertmanager(AlertmanagerOptions{URLs: []string{"http://li:" + planted + "@am"}, HTTP: c})
		sinks["drop-in"], errs[3] = NewApprise(DropInOptions{URL: "http://apprise/" + planted, HTTP: c})
		sinks["lark"], errs[4] = NewShoutrrr(ShoutrrrOptions{URL: "lark://open.feishu.cn/" + planted, HTTP: c})
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
		for name, s := range sinks {
			_, err := s.Send(t.Context(), gaveUp())
			if err != nil && (strings.Contains(err.Error(), planted[:12]) || utf8.RuneCountInString(err.Error()) > 1000 || !utf8.ValidString(err.Error())) {
				t.Errorf("%s says %q", name, err)
			}
		}
	})
}
