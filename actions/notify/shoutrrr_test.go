package notify

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// service returns a sink and what it speaks to.
func (c shoutrrrCase) service(t *testing.T) (Sink, *fakeService) {
	t.Helper()
	f := &fakeService{answer: c.answer}
	if c.answer == "echo" {
		f.reply = pushbulletEcho
	}
	s, err := NewShoutrrr(ShoutrrrOptions{URL: c.url, HTTP: f.client()})
	if err != nil {
		t.Fatal(err)
	}
	if s.Class() != Append {
		t.Errorf("it is %s", s.Class())
	}
	return s, f
}

func pushbulletEcho(body string) string {
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		return err.Error()
	}
	got["active"] = true
	out, err := json.Marshal(got)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// one returns the title and the message of the one request that was sent.
func (c shoutrrrCase) one(t *testing.T, f *fakeService) (title, message string) {
	t.Helper()
	if len(f.got) != 1 {
		t.Fatalf("%d requests, want 1", len(f.got))
	}
	if d := cmp.Diff(normalURL(t, c.to), normalURL(t, f.got[0].URL)); d != "" && !strings.HasSuffix(c.to, "*") {
		t.Errorf("it went elsewhere (-want +got):\n%s", d)
	}
	if strings.HasSuffix(c.to, "*") && !strings.HasPrefix(normalURL(t, f.got[0].URL), normalURL(t, strings.TrimSuffix(c.to, "*"))) {
		t.Errorf("it went to %s, want %s", f.got[0].URL, c.to)
	}
	return c.text(t, f.got[0])
}

// normalURL sorts the query.
func normalURL(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery, u.RawPath = u.Query().Encode(), ""
	return u.String()
}

func eachService(t *testing.T, f func(t *testing.T, c shoutrrrCase)) {
	t.Helper()
	cases := shoutrrrCases()
	if d := cmp.Diff(slices.Sorted(maps.Keys(schemes())), slices.Sorted(maps.Keys(cases))); d != "" {
		t.Errorf("services without a test (-there +tested):\n%s", d)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { f(t, c) })
	}
}

func TestShoutrrrSends(t *testing.T) {
	eachService(t, func(t *testing.T, c shoutrrrCase) {
		s, f := c.service(t)
		if r := send(t, s, gaveUp()); r != nil {
			t.Errorf("a receipt: %v", r)
		}
		title, message := c.one(t, f)
		m := gaveUp()
		all := strings.ReplaceAll(title+"\n"+message, joiner, "")
		for _, want := range []string{m.Text.Title, m.Text.Lead[0], m.Text.Lead[1], "Host: gpu-03", "GPU: #2 H100", "| ValueError: Free memory", "- 03:07 restart failed", m.Text.Foot} {
			if strings.Count(all, want) != 1 {
				t.Errorf("%q is there %d times in\n%s", want, strings.Count(all, want), all)
			}
		}
	})
}

func TestShoutrrrOneMessage(t *testing.T) {
	eachService(t, func(t *testing.T, c shoutrrrCase) {
		s, f := c.service(t)
		m := manyLines(500)
		send(t, s, m)
		title, message := c.one(t, f)
		if len(message) > c.most || len(title) > 250 {
			t.Errorf("%d bytes of title, %d of message; it takes %d", len(title), len(message), c.most)
		}
		if !strings.Contains(title+message, m.Text.Title) || !strings.HasSuffix(strings.TrimSpace(message), m.Text.Foot) {
			t.Errorf("title or foot is lost:\n%s\n%s", title, message)
		}
	})
}

func TestShoutrrrHostile(t *testing.T) {
	calls := regexp.MustCompile("(?i)@(everyone|here|all|channel|room|\\*\\*|U123|&)|<[!@/a-z]|```|\\]\\(")
	plain := []string{"signal", "bark", "gotify", "ntfy", "opsgenie", "pushbullet", "pushover", "twilio"} // they know no markup
	eachService(t, func(t *testing.T, c shoutrrrCase) {
		s, f := c.service(t)
		send(t, s, hostile())
		title, message := c.one(t, f)
		all := title + "\n" + message
		if strings.Contains(title, "\n") || !utf8.ValidString(all) {
			t.Errorf("the title has lines, or something is not UTF-8: %q", all)
		}
		for _, r := range all {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				t.Errorf("%U is left in %q", r, all)
			}
		}
		name, _, _ := strings.Cut(c.url, ":")
		text := all
		if name == "telegram" { // < is escaped for good there, and Markdown is none
			text = strings.NewReplacer("```", "", "](", "", "&lt;", "").Replace(text)
		}
		if found := calls.FindString(text); found != "" && !slices.Contains(plain, name) {
			t.Errorf("%q is left in %q", found, text)
		}
		if len(message) > c.most {
			t.Errorf("%d bytes, it takes %d", len(message), c.most)
		}
	})
}

func TestShoutrrrFailures(t *testing.T) {
	cases := map[string]struct {
		status int
		header http.Header
		answer string
		err    error
		reason Reason
		wait   time.Duration
	}{
		"limit":   {429, http.Header{"Retry-After": {"7"}}, "slow down", nil, ReasonRateLimited, 7 * time.Second},
		"token":   {401, nil, `{"errcode":"M_UNKNOWN_TOKEN"}`, nil, ReasonAuth, 0},
		"bad":     {400, nil, `{}`, nil, ReasonClient, 0},
		"fault":   {502, nil, "<html>", nil, ReasonServer, 0},
		"network": {0, nil, "", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, ReasonNetwork, 0},
	}
	eachService(t, func(t *testing.T, c shoutrrrCase) {
		for name, want := range cases {
			t.Run(name, func(t *testing.T) {
				f := &fakeService{status: want.status, header: want.header, answer: want.answer, err: want.err}
				s, err := NewShoutrrr(ShoutrrrOptions{URL: c.url, HTTP: f.client()})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					_, err := s.Send(t.Context(), gaveUp())
					wantReason(t, err, want.reason, want.wait, c.secrets...)
					if len(f.got) != 1 {
						t.Errorf("%d requests: it tried again by itself", len(f.got))
					}
					if took := time.Since(start); took > 0 {
						t.Errorf("it waited %v by itself", took)
					}
				})
			})
		}
	})
}

func TestShoutrrrHangs(t *testing.T) {
	eachService(t, func(t *testing.T, c shoutrrrCase) {
		synctest.Test(t, func(t *testing.T) {
			s, f := c.service(t)
			f.hang = true
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			start := time.Now()
			_, err := s.Send(ctx, gaveUp())
			wantReason(t, err, ReasonTimeout, 0, c.secrets...)
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	})
}

func TestShoutrrrCodes(t *testing.T) {
	for _, c := range []struct {
		service, answer string
		reason          Reason
		wait            time.Duration
	}{
		{"lark", `{"code":11232,"msg":"frequency limited"}`, ReasonRateLimited, 0},
		{"lark", `{"code":19021,"msg":"sign match fail"}`, ReasonAuth, 0},
		{"lark", `{"code":9499,"msg":"Bad Request"}`, ReasonClient, 0},
		{"wecom", `{"errcode":45009,"errmsg":"api freq out of limit"}`, ReasonRateLimited, time.Minute},
		{"wecom", `{"errcode":93000,"errmsg":"invalid webhook url SECRETKEY-7aoc-4bc4"}`, ReasonAuth, 0},
		{"wecom", `{"errcode":-1,"errmsg":"system busy"}`, ReasonServer, 0},
		{"wecom", `<html>log in`, ReasonServer, 0},
		{"ntfy", `<html>log in SECRETTOPIC`, ReasonServer, 0},
	} {
		t.Run(c.service, func(t *testing.T) {
			s, f := shoutrrrCases()[c.service].service(t)
			f.answer = c.answer
			_, err := s.Send(t.Context(), gaveUp())
			wantReason(t, err, c.reason, c.wait, shoutrrrCases()[c.service].secrets...)
		})
	}
}

func TestShoutrrrWaits(t *testing.T) {
	for answer, want := range map[string]time.Duration{
		`{"ok":false,"error_code":429,"parameters":{"retry_after":35}}`: 35 * time.Second,
		`{"message":"limited","retry_after":0.5}`:                       500 * time.Millisecond,
		`{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2000}`:          2 * time.Second,
		`{"retry_after":1e300}`:                                         time.Hour,
		`nothing`:                                                       0,
	} {
		s, f := shoutrrrCases()["telegram"].service(t)
		f.status, f.answer = 429, answer
		_, err := s.Send(t.Context(), gaveUp())
		wantReason(t, err, ReasonRateLimited, want, "SECRETTOKEN")
	}
}

// Each message has a sender of its own: what one is told does not stick to the
// next.
func TestShoutrrrUrgency(t *testing.T) {
	calm := gaveUp()
	calm.Text.Urgent = false
	s, f := shoutrrrCases()["ntfy"].service(t)
	var got []string
	for _, m := range []Message{gaveUp(), calm} {
		send(t, s, m)
		got = append(got, f.last(t).Header.Get("Priority"), f.last(t).Header.Get("Content-Type"))
	}
	if d := cmp.Diff([]string{"High", "text/plain; charset=utf-8", "Default", "text/plain; charset=utf-8"}, got); d != "" {
		t.Error(d)
	}
	own := shoutrrrCase{url: "ntfy://ntfy.sh/topic?Priority=min", answer: "{}"}
	s, f = own.service(t)
	send(t, s, gaveUp())
	if p := f.last(t).Header.Get("Priority"); p != "Min" {
		t.Errorf("the URL's own priority became %s", p)
	}
}

func TestWeComMentions(t *testing.T) {
	calm := gaveUp()
	calm.Text.Urgent = false
	c := shoutrrrCase{url: "wecom://SECRETKEY-7aoc?mentioned_list=@all", answer: `{"errcode":0}`}
	s, f := c.service(t)
	send(t, s, gaveUp())
	loud := strings.Contains(f.last(t).Body, `"mentioned_list":["@all"]`)
	send(t, s, calm)
	if quiet := strings.Contains(f.last(t).Body, "mentioned_list"); !loud || quiet {
		t.Errorf("it calls when urgent: %v, and otherwise: %v", loud, quiet)
	}
}

// shoutrrr forgets the key of Pushbullet when it is given a client.
func TestPushbulletKey(t *testing.T) {
	s, f := shoutrrrCases()["pushbullet"].service(t)
	send(t, s, gaveUp())
	if got := f.last(t).Header.Get("Access-Token"); got != "o.SECRETTOKENabcdefghijklmnopqrstu" {
		t.Errorf("it sent as %q", got)
	}
}

// Matrix logs in before it sends, by our client as well.
func TestMatrixLogsIn(t *testing.T) {
	c := shoutrrrCase{
		url:    "matrix://defib:SECRETPASS@matrix.example.org?rooms=!room1:example.org",
		answer: `{"flows":[{"type":"m.login.password"}],"access_token":"SECRETACCESS","event_id":"$1"}`,
	}
	s, f := c.service(t)
	if len(f.got) != 0 {
		t.Fatal("it logged in before there was anything to send")
	}
	send(t, s, gaveUp())
	var methods []string
	for _, r := range f.got {
		methods = append(methods, r.Method)
	}
	if d := cmp.Diff([]string{"GET", "POST", "PUT"}, methods); d != "" {
		t.Error(d)
	}
	if got := f.last(t).Header.Get("Authorization"); got != "Bearer SECRETACCESS" {
		t.Errorf("it sent as %q", got)
	}
}

func TestShoutrrrURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                       "shoutrrr: the URL has no scheme; it looks like telegram://TOKEN@telegram?chats=…",
		"%zzSECRETTOKEN":                         "shoutrrr: the URL is not one; it looks like telegram://TOKEN@telegram?chats=…",
		"slack://hook:SECRETTOKEN@x":             "shoutrrr: there is a channel type slack that can do more; use that",
		"discord://SECRETTOKEN@12345678/raw":     "discord: leave the path out; messages are not raw JSON",
		"wecom://SECRETTOKEN?mentioned_list=a,b": "wecom: shoutrrr takes a list for one name; name one person, or @all",
		"telegram://110201543:SECRETTOKEN@telegram":                                        "telegram: no channels defined in config URL",
		"telegram://110201543SECRETTOKEN@telegram?chats=@ops":                              "telegram: invalid telegram token: [redacted]:",
		"gotify://gotify.example.org/SECRETTOKEN?priority=x":                               "gotify: failed to set URL: failed to process query parameters: failed to set configuration property",
		"telegram://110201543:SECRETTOKEN-abcdefghijklmnopqrstuvw@telegram?channels=@a,@b": "telegram: the URL names 2 chats; give each a channel of its own, or the failure of one has the others told again and again",
		"matrix://li:SECRETTOKEN@matrix.example.org?rooms=!a:b.org,ops":                    "matrix: the URL names 2 rooms; give each a channel of its own, or the failure of one has the others told again and again",
		"matrix://:SECRETTOKEN@matrix.example.org":                                         "matrix: name one room by rooms=; without it the message goes to every room that the robot is in",
		"twilio://ACSECRETTOKEN:SECRETTOKEN@+15551230001/+15551230002/+15551230003":        "twilio: the URL names 2 numbers; give each a channel of its own, or the failure of one has the others told again and again",
		"pushbullet://o.SECRETTOKENabcdefghijklmnopqrstu/a/b":                              "pushbullet: the URL names 2 devices; give each a channel of its own, or the failure of one has the others told again and again",
		"smtp://user:SECRETTOKEN@mail.example.org/?from=a@b.org":                           "smtp: toAddress missing from config URL",
		"smtp://user:SECRETTOKEN@mail.example.org/?from=a@&to=b@c":                         "smtp: one of the addresses in from and to is none; it looks like name@example.org",
	} {
		_, err := NewShoutrrr(ShoutrrrOptions{URL: raw})
		if err == nil {
			t.Errorf("%q is taken", raw)
			continue
		}
		if err.Error() != want {
			t.Errorf("%q: got %q, want %q", raw, err, want)
		}
		wantNoSecret(t, err, "SECRETTOKEN")
	}
	_, err := NewShoutrrr(ShoutrrrOptions{URL: "mqtt://SECRETTOKEN@host/topic"})
	if err == nil || !strings.HasPrefix(err.Error(), "shoutrrr: no service is called mqtt here; there are smtp, bark, discord, ") {
		t.Errorf("mqtt: %v", err)
	}
}

// Opsgenie makes an alert of each message, and shoutrrr cannot end one.
func TestOpsgenieRaisesOnly(t *testing.T) {
	s, f := shoutrrrCases()["opsgenie"].service(t)
	for _, kind := range []Kind{KindPost, KindEscalate, KindRemind, KindResolve, KindTest} {
		m := gaveUp()
		m.Kind = kind
		if _, err := s.Send(t.Context(), m); err != nil && !errors.Is(err, ErrNothing) {
			t.Error(err)
		}
	}
	if len(f.got) != 3 {
		t.Errorf("%d alerts of a warning, a page and a test", len(f.got))
	}
}
