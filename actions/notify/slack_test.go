package notify

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack/slacktest"
)

func slackAt(t *testing.T, s *service) Sink {
	t.Helper()
	sink, err := NewSlack(SlackOptions{Token: planted, Channel: "C1", Mention: "S0ONCALL", APIURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func ok(ts string) answer {
	return answer{200, nil, `{"ok":true,"channel":"C0ID","ts":"` + ts + `"}`}
}

func refuse(code string) answer { return answer{200, nil, `{"ok":false,"error":"` + code + `"}`} }

// stored is Slack's answer to a message that it took: the message as it is kept,
// in JSON of ASCII alone, with the profile of the bot and, after an edit, the
// words twice.
func stored(path string, v url.Values, channel, ts string) answer {
	quoted, _ := json.Marshal(v.Get("text")) // a string always has JSON
	words, blocks, top := asciiJSON(string(quoted)), asciiJSON(v.Get("blocks")), ""
	if strings.HasSuffix(path, "/chat.update") {
		top = `"text":` + words + `,`
	}
	icon := strings.Repeat(`"image_48":"https:\/\/a.slack-edge.com\/80588\/img\/plugins\/app\/bot_48.png",`, 3)
	return answer{200, nil, fmt.Sprintf(`{"ok":true,"channel":%q,"ts":%q,%s"message":{"type":"message","user":"U0123456789","bot_id":"B0123456789","app_id":"A0123456789",`+
		`"bot_profile":{"id":"B0123456789","name":"defib","icons":{%s"x":0},"deleted":false,"updated":1700000000,"team_id":"T0123456789"},"text":%s,"blocks":%s}}`,
		channel, ts, top, icon, words, blocks)}
}

// asciiJSON writes what JSON may escape in the longest way.
func asciiJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '/':
			b.WriteString(`\/`)
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	return b.String()
}

const vllmLine = `(EngineCore_0 pid=212) ERROR 03-14 03:11:49 [core.py:708]   File "/usr/local/lib/python3.12/dist-packages/vllm/v1/worker/gpu_worker.py", line 178, in init_device`

// Slack repeats the message in its answer, which is longer than what is read of
// an error.
func TestSlackAnswersWithTheMessage(t *testing.T) {
	for name, line := range map[string]string{"log": vllmLine, "slashes": strings.Repeat("/", 300), "Chinese": strings.Repeat("显存不足", 70), "emoji": strings.Repeat("🔥", 280)} {
		text := gaveUpText
		text.Lead, text.Steps, text.Logs = slices.Repeat([]string{line}, 20), slices.Repeat([]string{line}, 20), slices.Repeat([]string{line}, 120)
		sink, err := NewSlack(SlackOptions{Token: planted, Channel: "C1", HTTP: &http.Client{Transport: &workspace{channels: []string{"C1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		root, err := sink.Send(t.Context(), Message{Kind: KindPost, Text: text})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, k := range []Kind{KindEdit, KindStep, KindEvidence, KindEscalate, KindResolve} {
			if _, err := sink.Send(t.Context(), Message{Kind: k, Ref: root, Text: text}); err != nil {
				t.Errorf("%s: %s: %v", name, k, err)
			}
		}
	}
}

// call is what counts of a request to Slack.
type call struct {
	Path, Channel, TS, Thread, Broadcast string
	Called                               bool // the mention is in the words and in the blocks
	Blocks                               int
}

func calls(t *testing.T, s *service) []call {
	t.Helper()
	var out []call
	for _, r := range s.requests() {
		v, err := url.ParseQuery(r.body)
		if err != nil {
			t.Fatal(err)
		}
		var blocks []json.RawMessage
		if err := json.Unmarshal([]byte(v.Get("blocks")), &blocks); err != nil {
			t.Fatalf("blocks %q: %v", v.Get("blocks"), err)
		}
		if v.Get("text") == "" || v.Get("unfurl_links") != "false" || v.Get("unfurl_media") != "false" {
			t.Errorf("%v", v)
		}
		inText, inBlocks := strings.Contains(v.Get("text"), "<!subteam^S0ONCALL>"), strings.Contains(v.Get("blocks"), `\u003c!subteam^S0ONCALL\u003e`)
		if inText != inBlocks {
			t.Errorf("the mention is in the words: %v, in the blocks: %v", inText, inBlocks)
		}
		out = append(out, call{r.path, v.Get("channel"), v.Get("ts"), v.Get("thread_ts"), v.Get("reply_broadcast"), inText, len(blocks)})
	}
	return out
}

// The whole life of an incident is one message and its thread.
func TestSlackLife(t *testing.T) {
	s := serve(t, ok("100.1"))
	sink := slackAt(t, s)
	calm := gaveUpText
	calm.Urgent = false
	root, err := sink.Send(t.Context(), Message{Kind: KindPost, Text: calm})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Receipt{"channel": "C0ID", "ts": "100.1", "for": "C1"}, root); d != "" {
		t.Fatal(d)
	}
	for _, step := range []struct {
		m    Message
		want Receipt
	}{
		{Message{Kind: KindEvidence, Text: gaveUpText}, nil},
		{Message{Kind: KindStep, Text: gaveUpText}, nil},
		{Message{Kind: KindEdit, Text: gaveUpText}, root},
		{Message{Kind: KindEscalate, Text: gaveUpText}, nil},
		{Message{Kind: KindRemind, Text: gaveUpText}, nil},
		{Message{Kind: KindAgain, Text: calm}, nil},
		{Message{Kind: KindResolve, Text: repairedText}, root},
	} {
		step.m.Ref = root
		r, err := sink.Send(t.Context(), step.m)
		if d := cmp.Diff(step.want, r); d != "" || err != nil {
			t.Errorf("%s: %v %s", step.m.Kind, err, d)
		}
	}
	want := []call{
		{Path: "/chat.postMessage", Channel: "C1", Blocks: 6},
		{Path: "/chat.postMessage", Channel: "C0ID", Thread: "100.1", Blocks: 2},
		{Path: "/chat.postMessage", Channel: "C0ID", Thread: "100.1", Blocks: 1},
		{Path: "/chat.update", Channel: "C0ID", TS: "100.1", Blocks: 6},
		{Path: "/chat.postMessage", Channel: "C0ID", Thread: "100.1", Broadcast: "true", Called: true, Blocks: 3},
		{Path: "/chat.postMessage", Channel: "C0ID", Thread: "100.1", Broadcast: "true", Called: true, Blocks: 3},
		{Path: "/chat.postMessage", Channel: "C0ID", Thread: "100.1", Broadcast: "true", Blocks: 3},
		{Path: "/chat.update", Channel: "C0ID", TS: "100.1", Blocks: 5},
	}
	if d := cmp.Diff(want, calls(t, s)); d != "" {
		t.Error(d)
	}
}

// The library's own test server takes it, too.
func TestSlackAgainstSlacktest(t *testing.T) {
	s := slacktest.NewTestServer(func(c slacktest.Customize) {
		c.Handle("/chat.update", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"ok":true,"channel":%q,"ts":%q}`, r.FormValue("channel"), r.FormValue("ts"))
		})
	})
	s.Start()
	t.Cleanup(s.Stop)
	sink, err := NewSlack(SlackOptions{Token: "xoxb-1", Channel: "C1", APIURL: s.GetAPIURL()})
	if err != nil {
		t.Fatal(err)
	}
	root, err := sink.Send(t.Context(), Message{Kind: KindPost, Text: gaveUpText})
	if err != nil || root["channel"] != "C1" || root["ts"] == "" {
		t.Fatalf("%v, %v", root, err)
	}
	again, err := sink.Send(t.Context(), Message{Kind: KindEdit, Ref: root, Text: repairedText})
	if d := cmp.Diff(root, again); d != "" || err != nil {
		t.Fatalf("%v %s", err, d)
	}
}

func TestSlackUrgentRootCalls(t *testing.T) {
	s := serve(t, ok("1.1"))
	for _, m := range []Message{{Kind: KindPost, Text: gaveUpText}, {Kind: KindEscalate, Text: gaveUpText}, {Kind: KindTest, Text: repairedText}} {
		if r, err := slackAt(t, s).Send(t.Context(), m); err != nil || r["ts"] != "1.1" {
			t.Errorf("%s: %v, %v", m.Kind, r, err)
		}
	}
	want := []call{
		{Path: "/chat.postMessage", Channel: "C1", Called: true, Blocks: 6},
		{Path: "/chat.postMessage", Channel: "C1", Called: true, Blocks: 6},
		{Path: "/chat.postMessage", Channel: "C1", Blocks: 5},
	}
	if d := cmp.Diff(want, calls(t, s)); d != "" {
		t.Error(d)
	}
}

func TestSlackNeedsARoot(t *testing.T) {
	s := serve(t, ok("1.1"))
	for _, k := range []Kind{KindEdit, KindResolve, KindStep, KindEvidence} {
		_, err := slackAt(t, s).Send(t.Context(), Message{Kind: k, Text: gaveUpText})
		if e := gotError(t, err); e.Reason != ReasonGone {
			t.Errorf("%s: %v", k, e)
		}
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestSlackErrors(t *testing.T) {
	for _, tt := range []struct {
		answer answer
		want   Reason
		after  time.Duration
		says   string
	}{
		{answer{429, map[string]string{"Retry-After": "7"}, ""}, ReasonRateLimited, 7 * time.Second, "fewer messages"},
		{answer{429, nil, ""}, ReasonRateLimited, 0, "fewer messages"},
		{answer{200, map[string]string{"Retry-After": "3"}, `{"ok":false,"error":"ratelimited"}`}, ReasonRateLimited, 3 * time.Second, "fewer messages"},
		{answer{500, nil, "<html>"}, ReasonServer, 0, "HTTP 500"},
		{answer{503, map[string]string{"Retry-After": "30"}, ""}, ReasonServer, 30 * time.Second, "HTTP 503"},
		{answer{302, map[string]string{"Location": "http://127.0.0.1:1/login"}, ""}, ReasonAuth, 0, "proxy"},
		{answer{200, nil, "<html>log in</html>"}, ReasonServer, 0, "proxy"},
		{answer{200, nil, `{"ok":true}`}, ReasonServer, 0, "proxy"},
		{refuse("invalid_auth"), ReasonAuth, 0, "Bot User OAuth Token"},
		{refuse("not_authed"), ReasonAuth, 0, "Bot User OAuth Token"},
		{refuse("token_revoked"), ReasonAuth, 0, "install the app again"},
		{refuse("account_inactive"), ReasonAuth, 0, "install the app again"},
		{refuse("missing_scope"), ReasonAuth, 0, "chat:write"},
		{refuse("channel_not_found"), ReasonAuth, 0, "no channel C1"},
		{refuse("not_in_channel"), ReasonAuth, 0, "invite the app"},
		{refuse("is_archived"), ReasonAuth, 0, "archived"},
		{refuse("restricted_action_read_only_channel"), ReasonAuth, 0, "owners"},
		{refuse("message_not_found"), ReasonGone, 0, "new one"},
		{refuse("cant_update_message"), ReasonGone, 0, "new one"},
		{refuse("edit_window_closed"), ReasonGone, 0, "new one"},
		{refuse("internal_error"), ReasonServer, 0, "fault of its own"},
		{refuse("msg_too_long"), ReasonClient, 0, "(msg_too_long)"},
	} {
		s := serve(t, tt.answer)
		r, err := slackAt(t, s).Send(t.Context(), Message{Kind: KindPost, Text: gaveUpText})
		e := gotError(t, err)
		if e.Reason != tt.want || e.RetryAfter != tt.after || !strings.Contains(e.Error(), tt.says) || r != nil {
			t.Errorf("%+v: %s after %v: %v", tt.answer, e.Reason, e.RetryAfter, e)
		}
		if n := len(s.requests()); n != 1 {
			t.Errorf("%+v: %d requests", tt.answer, n)
		}
	}
}

func TestSlackGoesWithoutBlocks(t *testing.T) {
	s := serve(t, refuse("invalid_blocks"), ok("2.2"))
	r, err := slackAt(t, s).Send(t.Context(), Message{Kind: KindPost, Text: repairedText})
	if err != nil || r["ts"] != "2.2" {
		t.Fatalf("%v, %v", r, err)
	}
	if got := calls(t, s); len(got) != 2 || got[0].Blocks != 5 || got[1].Blocks != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSlackMention(t *testing.T) {
	for who, want := range map[string]string{
		"": "", "U123": "<@U123>", "W9": "<@W9>", "<@U123>": "<@U123>", "@U123": "<@U123>", "S123": "<!subteam^S123>",
		"<!subteam^S1>": "<!subteam^S1>", "here": "<!here>", "<!here>": "<!here>", "@channel": "<!channel>", "everyone": "<!everyone>",
	} {
		if got, err := slackMention(who); got != want || err != nil {
			t.Errorf("%q: %q, %v", who, got, err)
		}
	}
	for _, who := range []string{"li", "U", "@ops", "U123> <!channel", "C123", "U12 3", "<!subteam^S1|x>"} {
		if got, err := slackMention(who); err == nil {
			t.Errorf("%q: %q", who, got)
		}
	}
}

func TestSlackOptions(t *testing.T) {
	good := SlackOptions{Token: planted, Channel: "C1"}
	for _, tt := range []struct {
		change func(*SlackOptions)
		says   string
	}{
		{func(o *SlackOptions) { o.Token = " " }, "xoxb-"},
		{func(o *SlackOptions) { o.Token = "a\nb" + planted }, "xoxb-"},
		{func(o *SlackOptions) { o.Token = "xapp-" + planted }, "xoxb-"},
		{func(o *SlackOptions) { o.Channel = "" }, "channel"},
		{func(o *SlackOptions) { o.Mention = "ops" }, "S0123ABCD"},
		{func(o *SlackOptions) { o.APIURL = "ftp://" + planted }, "https://"},
	} {
		o := good
		tt.change(&o)
		_, err := NewSlack(o)
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "PLANTED") {
			t.Errorf("%v", err)
		}
	}
	s, err := NewSlack(good)
	if err != nil || s.Class() != Threaded {
		t.Errorf("%v, %v", s, err)
	}
}

// A message whose root is where no new ones go, or whose thread is locked, says
// nothing of the app: a new one is posted, and the channel goes on.
func TestSlackRootElsewhere(t *testing.T) {
	old, here := Receipt{"channel": "C9", "ts": "1.1", "for": "C9"}, Receipt{"channel": "C0ID", "ts": "1.1", "for": "C1"}
	for _, tt := range []struct {
		name  string
		kind  Kind
		ref   Receipt
		code  string
		want  Reason // empty: taken
		calls int
	}{
		{"a call", KindEscalate, old, "", ReasonGone, 0},
		{"a reminder", KindRemind, old, "", ReasonGone, 0},
		{"an edit", KindEdit, old, "", "", 1},
		{"an edit, not there", KindEdit, old, "channel_not_found", ReasonGone, 1},
		{"a line, thrown out", KindStep, old, "not_in_channel", ReasonGone, 1},
		{"the end, archived", KindResolve, old, "is_archived", ReasonGone, 1},
		{"the end, read only", KindResolve, old, "restricted_action_read_only_channel", ReasonGone, 1},
		{"the end, no token", KindResolve, old, "token_revoked", ReasonAuth, 1},
		{"a receipt of an older defib", KindEscalate, Receipt{"channel": "C9", "ts": "1.1"}, "", ReasonGone, 0},
		{"here, thrown out", KindStep, here, "not_in_channel", ReasonAuth, 1},
		{"here, locked", KindEscalate, here, "restricted_action_thread_locked", ReasonGone, 1},
		{"here, without threads", KindStep, here, "restricted_action_non_threadable_channel", ReasonGone, 1},
		{"a root, thrown out", KindPost, nil, "not_in_channel", ReasonAuth, 1},
	} {
		answer := ok("2.2")
		if tt.code != "" {
			answer = refuse(tt.code)
		}
		s := serve(t, answer)
		r, err := slackAt(t, s).Send(t.Context(), Message{Kind: tt.kind, Ref: tt.ref, Text: gaveUpText})
		if tt.want == "" && cmp.Diff(tt.ref, r) != "" {
			t.Errorf("%s: the receipt is now %v", tt.name, r)
		}
		if got := reasonOf(err); got != tt.want || len(s.requests()) != tt.calls {
			t.Errorf("%s: %q after %d requests, want %q after %d", tt.name, got, len(s.requests()), tt.want, tt.calls)
		}
	}
}

func reasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return asError(err).Reason
}
