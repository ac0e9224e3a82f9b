package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func hookAt(t *testing.T, s *service) Sink {
	t.Helper()
	sink, err := NewSlackWebhook(SlackHookOptions{URL: s.URL + "/services/T0/B0/" + planted, Mention: "here"})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func TestSlackWebhookSends(t *testing.T) {
	for _, tt := range []struct {
		m      Message
		called bool
		blocks int
	}{
		{Message{Kind: KindPost, Text: repairedText}, false, 5},
		{Message{Kind: KindPost, Text: gaveUpText}, true, 6},
		{Message{Kind: KindEscalate, Text: flappingText}, true, 4},
		{Message{Kind: KindRemind, Text: flappingText}, true, 4},
		{Message{Kind: KindResolve, Text: gaveUpText}, false, 6},
	} {
		s := serve(t, answer{200, nil, "ok"})
		r, err := hookAt(t, s).Send(t.Context(), tt.m)
		if r != nil || err != nil {
			t.Fatalf("%v, %v", r, err)
		}
		got := s.requests()
		if len(got) != 1 || got[0].path != "/services/T0/B0/"+planted || got[0].header.Get("Content-Type") != "application/json" {
			t.Fatalf("%+v", got)
		}
		var body struct {
			Text   string            `json:"text"`
			Blocks []json.RawMessage `json:"blocks"`
			Links  *bool             `json:"unfurl_links"`
			Media  *bool             `json:"unfurl_media"`
		}
		if err := json.Unmarshal([]byte(got[0].body), &body); err != nil {
			t.Fatal(err)
		}
		if len(body.Blocks) != tt.blocks || strings.Contains(body.Text, "<!here>") != tt.called || *body.Links || *body.Media {
			t.Errorf("%s: %s", tt.m.Kind, got[0].body)
		}
	}
}

func TestSlackWebhookErrors(t *testing.T) {
	for _, tt := range []struct {
		answer answer
		want   Reason
		after  time.Duration
		says   string
	}{
		{answer{404, nil, "no_service"}, ReasonAuth, 0, "make a new one"},
		{answer{403, nil, "invalid_token"}, ReasonAuth, 0, "make a new one"},
		{answer{400, nil, "no_team"}, ReasonAuth, 0, "make a new one"},
		{answer{200, nil, "no_service"}, ReasonAuth, 0, "make a new one"},
		{answer{410, nil, "channel_is_archived"}, ReasonAuth, 0, "another"},
		{answer{403, nil, "posting_to_general_channel_denied"}, ReasonAuth, 0, "owners"},
		{answer{429, map[string]string{"Retry-After": "9"}, "rate_limited"}, ReasonRateLimited, 9 * time.Second, "fewer"},
		{answer{500, nil, "rollup_error"}, ReasonServer, 0, "HTTP 500"},
		{answer{400, nil, "too_many_attachments"}, ReasonClient, 0, "too_many_attachments"},
		{answer{400, nil, ""}, ReasonClient, 0, "HTTP 400"},
		{answer{200, nil, "<html>"}, ReasonServer, 0, "proxy"},
	} {
		s := serve(t, tt.answer)
		_, err := hookAt(t, s).Send(t.Context(), Message{Kind: KindPost, Text: gaveUpText})
		e := gotError(t, err)
		if e.Reason != tt.want || e.RetryAfter != tt.after || !strings.Contains(e.Error(), tt.says) {
			t.Errorf("%+v: %s after %v: %v", tt.answer, e.Reason, e.RetryAfter, e)
		}
		if n := len(s.requests()); n != 1 {
			t.Errorf("%+v: %d requests", tt.answer, n)
		}
	}
}

func TestSlackWebhookGoesWithoutBlocks(t *testing.T) {
	s := serve(t, answer{400, nil, "invalid_blocks"}, answer{200, nil, "ok"})
	if _, err := hookAt(t, s).Send(t.Context(), Message{Kind: KindPost, Text: repairedText}); err != nil {
		t.Fatal(err)
	}
	var first, second map[string]any
	got := s.requests()
	if len(got) != 2 || json.Unmarshal([]byte(got[0].body), &first) != nil || json.Unmarshal([]byte(got[1].body), &second) != nil {
		t.Fatalf("%+v", got)
	}
	delete(first, "blocks")
	if d := cmp.Diff(first, second); d != "" {
		t.Error(d)
	}
}

func TestSlackWebhookOptions(t *testing.T) {
	for _, o := range []SlackHookOptions{{}, {URL: planted}, {URL: "https://"}, {URL: "http://h/%zz" + planted}, {URL: "https://h/" + planted, Mention: "li"}} {
		if _, err := NewSlackWebhook(o); err == nil || strings.Contains(err.Error(), "PLANTED") {
			t.Errorf("%v", err)
		}
	}
	s, err := NewSlackWebhook(SlackHookOptions{URL: " https://hooks.slack.com/services/T/B/x\n"})
	if err != nil || s.Class() != Append {
		t.Errorf("%v, %v", s, err)
	}
}
