package notify

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const dingURL = "https://oapi.dingtalk.com/robot/send?access_token=SECRETTOKEN"

func dingSink(t *testing.T, f *fakeService, mention ...string) Sink {
	t.Helper()
	s, err := NewDingTalk(DingTalkOptions{URL: dingURL, Secret: "SECthisisasecret", Mention: mention, HTTP: f.client()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dingSent(t *testing.T, f *fakeService) dingMessage {
	t.Helper()
	var m dingMessage
	if err := json.Unmarshal([]byte(f.last(t).Body), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDingTalkSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01 here
		f := &fakeService{answer: `{"errcode":0,"errmsg":"ok"}`}
		send(t, dingSink(t, f), gaveUp())
		u, err := url.Parse(f.last(t).URL)
		if err != nil {
			t.Fatal(err)
		}
		// printf '946684800000\nSECthisisasecret' | openssl dgst -sha256 -hmac SECthisisasecret -binary | base64
		want := url.Values{"access_token": {"SECRETTOKEN"}, "timestamp": {"946684800000"}, "sign": {"/l4oOkR+hy6ngxyU2HvY1O3vKcmtOBmkkKRUDyyAhJ4="}}
		if d := cmp.Diff(want, u.Query()); d != "" {
			t.Error(d)
		}
	})
}

func TestDingTalkMessage(t *testing.T) {
	f := &fakeService{answer: `{"errcode":0}`}
	send(t, dingSink(t, f, "13800000000", "13900000000"), gaveUp())
	want := dingMessage{
		Type: "markdown",
		Markdown: dingMarkdown{
			Title: "🔴 vllm-llama70b on gpu-03: gave up after 3 restarts. NEEDS YOU",
			Text: strings.Join([]string{
				"🔴 vllm-llama70b on gpu-03: gave up after 3 restarts. NEEDS YOU", "exit 1 (application error)", "Next: nothing until you act",
				"| ValueError: Free memory", "Host: gpu-03", "GPU: #2 H100", "- 03:07 restart failed", "INC-7F3K · defib ack INC-7F3K", "@13800000000 @13900000000",
			}, "\n\n"),
		},
		At: dingAt{Mobiles: []string{"13800000000", "13900000000"}},
	}
	if d := cmp.Diff(want, dingSent(t, f)); d != "" {
		t.Error(d)
	}

	s := dingSink(t, f, "all")
	send(t, s, gaveUp())
	loud := dingSent(t, f).At
	send(t, s, resolvedStory())
	if quiet := dingSent(t, f).At; !loud.All || quiet.All {
		t.Errorf("all are called: %v, and at the end: %v", loud.All, quiet.All)
	}
}

func TestDingTalkMention(t *testing.T) {
	for who, want := range map[string]dingAt{
		"13800000000": {Mobiles: []string{"13800000000"}}, "@+852-51234567": {Mobiles: []string{"+852-51234567"}}, "all": {All: true},
		"user:manager4220": {Users: []string{"manager4220"}},
	} {
		f := &fakeService{answer: `{"errcode":0}`}
		send(t, dingSink(t, f, who), gaveUp())
		got := dingSent(t, f)
		if d := cmp.Diff(want, got.At); d != "" {
			t.Errorf("%s: %s", who, d)
		}
		for _, name := range append(want.Mobiles, want.Users...) {
			if !strings.HasSuffix(got.Markdown.Text, "\n\n@"+name) {
				t.Errorf("%s is not in the text: %s", name, got.Markdown.Text)
			}
		}
	}
	for _, who := range []string{"li", "", "12345", "user:", "user:a b", "138 0000 0000", "+-13800000000", "138000000001380000000013800000000"} {
		_, err := NewDingTalk(DingTalkOptions{URL: dingURL, Mention: []string{who}})
		if err == nil || !strings.Contains(err.Error(), "write a mobile number, user: and a user ID such as user:manager4220, or all") {
			t.Errorf("%q: %v", who, err)
		}
	}
	if _, err := NewDingTalk(DingTalkOptions{URL: dingURL, Mention: slices.Repeat([]string{"13800000000"}, 11)}); err == nil {
		t.Error("11 numbers are taken, and leave no room for the message")
	}
}

func TestDingTalkCodes(t *testing.T) {
	for answer, want := range map[string]struct {
		reason Reason
		wait   time.Duration
	}{
		`{"errcode":310000,"errmsg":"sign not match SECRETTOKEN"}`: {ReasonAuth, 0},
		`{"errcode":300001,"errmsg":"token is not exist"}`:         {ReasonAuth, 0},
		`{"errcode":130101,"errmsg":"send too fast"}`:              {ReasonRateLimited, 10 * time.Minute},
		`{"errcode":-1,"errmsg":"系统繁忙"}`:                           {ReasonServer, 0},
		`{"errcode":460101,"errmsg":"message too long"}`:           {ReasonClient, 0},
		`{"other":1}`: {ReasonServer, 0},
		`<html>`:      {ReasonServer, 0},
	} {
		_, err := dingSink(t, &fakeService{answer: answer}).Send(t.Context(), gaveUp())
		wantReason(t, err, want.reason, want.wait, "SECRETTOKEN", "SECthisisasecret")
	}
	_, err := dingSink(t, &fakeService{status: 429, header: http.Header{"Retry-After": {"3"}}}).Send(t.Context(), gaveUp())
	wantReason(t, err, ReasonRateLimited, 3*time.Second, "SECRETTOKEN")
}

func TestDingTalkHostile(t *testing.T) {
	for _, m := range []Message{hostile(), manyLines(500)} {
		f := &fakeService{answer: `{"errcode":0}`}
		send(t, dingSink(t, f, "all"), m)
		got := dingSent(t, f).Markdown
		if len(got.Text) > dingBudget || !strings.Contains(got.Text, m.Text.Foot) {
			t.Errorf("%d bytes, or no foot:\n%s", len(got.Text), got.Text)
		}
		if found := regexp.MustCompile("(?i)@[a-z0-9]|<[!@/a-z]|``|\\]\\(").FindString(got.Title + got.Text); found != "" {
			t.Errorf("%q is left", found)
		}
	}
}

func TestDingTalkURLs(t *testing.T) {
	for _, raw := range []string{"", "oapi.dingtalk.com", "https://oapi.dingtalk.com/robot/SECRETTOKEN"} {
		_, err := NewDingTalk(DingTalkOptions{URL: raw})
		if err == nil {
			t.Errorf("%q is taken", raw)
			continue
		}
		wantNoSecret(t, err, "SECRETTOKEN")
	}
}
