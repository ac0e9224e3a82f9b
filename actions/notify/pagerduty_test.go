package notify

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func pagerAt(t *testing.T, s *service) Sink {
	t.Helper()
	sink, err := NewPagerDuty(PagerDutyOptions{RoutingKey: planted, Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func accepted() answer {
	return answer{202, map[string]string{"Content-Type": "application/json"}, `{"status":"success","message":"Event processed","dedup_key":"k"}`}
}

func TestPagerDutyTrigger(t *testing.T) {
	s := serve(t, accepted())
	key := "gpu-03/compose/llm/vllm/1/INC-7F3K"
	r, err := pagerAt(t, s).Send(t.Context(), Message{Kind: KindPost, Key: key, Story: story(), Text: gaveUpText})
	if d := cmp.Diff(Receipt{"dedup_key": key}, r); d != "" || err != nil {
		t.Fatalf("%v %s", err, d)
	}
	got := s.requests()
	if len(got) != 1 || got[0].path != "/v2/enqueue" || got[0].header.Get("Authorization") != "" {
		t.Fatalf("%+v", got)
	}
	var body any
	if err := json.Unmarshal([]byte(got[0].body), &body); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"routing_key": planted, "event_action": "trigger", "dedup_key": key, "client": "defib",
		"payload": map[string]any{
			"summary":  gaveUpText.Title + " · " + gaveUpText.Lead[0],
			"source":   "gpu-03",
			"severity": "critical", "timestamp": "2026-03-01T03:07:02Z",
			"component": "vllm-llama70b", "group": "llm", "class": "exit_loop",
			"custom_details": map[string]any{
				"incident": "INC-7F3K", "defib": "0.4.0", "commands": gaveUpText.Foot,
				"summary": []any{gaveUpText.Lead[0], gaveUpText.Lead[1], gaveUpText.Lead[2], "no name"},
				"done":    []any{gaveUpText.Steps[0], gaveUpText.Steps[1], gaveUpText.Steps[2], gaveUpText.Steps[3]},
				"logs":    []any{gaveUpText.Logs[0], gaveUpText.Logs[1]},
				"facts": map[string]any{
					"Host": "gpu-03", "Image": "vllm/vllm-openai:v0.9.1", "Down for": "6 min", "Attempts": "3 of 3", "Exit": "1",
					"GPU": "#2 H100 80GB: 71.8 of 79.6 GiB held", "no value": "",
				},
			},
		},
	}
	if d := cmp.Diff(want, body); d != "" {
		t.Error(d)
	}
}

func TestPagerDutyActions(t *testing.T) {
	for kind, want := range map[Kind][]string{
		KindPost: {"trigger critical"}, KindEdit: {"trigger critical"}, KindEscalate: {"trigger critical"}, KindRemind: {"trigger critical"},
		KindAlarm: {"trigger critical"}, KindAck: {"acknowledge critical"}, KindResolve: {"resolve critical"},
		KindTest: {"trigger info", "resolve info"}, KindStep: nil, KindEvidence: nil,
	} {
		s := serve(t, accepted())
		if _, err := pagerAt(t, s).Send(t.Context(), Message{Kind: kind, Key: "k", Story: story(), Text: gaveUpText}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		var got []string
		for _, r := range s.requests() {
			var e struct {
				Action  string `json:"event_action"`
				Key     string `json:"dedup_key"`
				Payload struct {
					Severity string `json:"severity"`
				} `json:"payload"`
			}
			if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Key != "k" {
				t.Errorf("%s: %v, %q", kind, err, e.Key)
			}
			got = append(got, e.Action+" "+e.Payload.Severity)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", kind, d)
		}
	}
}

// pagerActions are the actions that a service got, with their keys.
func pagerActions(t *testing.T, s *service) []string {
	t.Helper()
	var out []string
	for _, r := range s.requests() {
		var e struct {
			Action string `json:"event_action"`
			Key    string `json:"dedup_key"`
		}
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || len(e.Key) > 255 {
			t.Errorf("%v, a key of %d", err, len(e.Key))
		}
		out = append(out, e.Action+" "+e.Key)
	}
	return out
}

// PagerDuty calls nobody twice about one alert, so each call is one of its own,
// and the one before it ends. A call that was taken and whose answer was lost is
// not made twice.
func TestPagerDutyCallsAgain(t *testing.T) {
	s := serve(t, accepted())
	sink := pagerAt(t, s)
	var ref Receipt
	for i, kind := range []Kind{KindPost, KindAck, KindRemind, KindRemind, KindEscalate, KindAck, KindPost, KindResolve} {
		m := Message{Kind: kind, Key: "k", Ref: ref, Story: story(), Text: gaveUpText}
		got, err := sink.Send(t.Context(), m)
		if i == 3 { // as if its answer had been lost
			got, err = sink.Send(t.Context(), m)
		}
		if err != nil {
			t.Fatal(err)
		}
		ref = got
	}
	want := []string{
		"trigger k", "acknowledge k", "resolve k", "trigger k#2", "resolve k#2", "trigger k#3", "resolve k#2", "trigger k#3",
		"resolve k#3", "trigger k#4", "acknowledge k#4", "resolve k#4", "trigger k#5", "resolve k#5",
	}
	if d := cmp.Diff(want, pagerActions(t, s)); d != "" {
		t.Error(d)
	}
}

func TestPagerDutyKeysStayShort(t *testing.T) {
	long := strings.Repeat("k", 254)
	s := serve(t, accepted())
	ref := Receipt{"dedup_key": long} // as it was stored before calls were counted
	for range 2 {
		got, err := pagerAt(t, s).Send(t.Context(), Message{Kind: KindRemind, Key: "other", Ref: ref, Story: story(), Text: gaveUpText})
		if err != nil {
			t.Fatal(err)
		}
		ref = got
	}
	want := []string{"resolve " + long, "trigger " + hashed(long) + "#2", "resolve " + hashed(long) + "#2", "trigger " + hashed(long) + "#3"}
	if d := cmp.Diff(want, pagerActions(t, s)); d != "" {
		t.Error(d)
	}
}

func TestPagerSeverity(t *testing.T) {
	for level, want := range map[policy.Level]string{
		policy.LevelInfo: "info", policy.LevelWarn: "warning", policy.LevelPage: "critical", "": "warning",
	} {
		if got := pagerSeverity(Message{Kind: KindPost, Story: Story{Incident: policy.Incident{Level: level}}}); got != want {
			t.Errorf("%q: %s", level, got)
		}
	}
}

func TestDedupKey(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{"gpu-03/x/INC-1", "gpu-03/x/INC-1"},
		{strings.Repeat("k", 255), strings.Repeat("k", 255)},
		{"", "gpu-03/test"},
		{strings.Repeat("k", 256), hashed(strings.Repeat("k", 256))},
		{"a\nb", hashed("a\nb")},
	} {
		if got := dedupKey(Message{Key: tt.key, Kind: KindTest, Story: story()}); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.key, got, tt.want)
		}
	}
}

func hashed(s string) string { return fmt.Sprintf("defib-%x", sha256.Sum256([]byte(s))) }

func TestPagerDutyErrors(t *testing.T) {
	invalid := func(why string) answer {
		return answer{400, map[string]string{"Content-Type": "application/json"}, `{"status":"invalid event","message":"Event object is invalid","errors":["` + why + `"]}`}
	}
	for _, tt := range []struct {
		answer answer
		want   Reason
		after  time.Duration
		says   string
	}{
		{answer{429, map[string]string{"Retry-After": "5"}, ""}, ReasonRateLimited, 5 * time.Second, "fewer"},
		{answer{429, nil, `{"status":"throttle exceeded"}`}, ReasonRateLimited, 0, "fewer"},
		{answer{500, nil, "oops"}, ReasonServer, 0, "HTTP 500"},
		{answer{503, nil, ""}, ReasonServer, 0, "HTTP 503"},
		{answer{403, nil, ""}, ReasonAuth, 0, "HTTP 403"},
		{answer{404, nil, ""}, ReasonAuth, 0, "URL"},
		{invalid("Length of 'routing_key' is incorrect (should be 32 characters)"), ReasonAuth, 0, "integration key"},
		{invalid("Invalid routing key"), ReasonAuth, 0, "integration key"},
		{invalid("'payload.summary' is missing or blank"), ReasonClient, 0, "payload.summary"},
		{answer{400, nil, ""}, ReasonClient, 0, "HTTP 400"},
		{answer{200, nil, "<html>"}, ReasonServer, 0, "proxy"},
	} {
		s := serve(t, tt.answer)
		r, err := pagerAt(t, s).Send(t.Context(), Message{Kind: KindPost, Key: "k", Text: gaveUpText})
		e := gotError(t, err)
		if e.Reason != tt.want || e.RetryAfter != tt.after || !strings.Contains(e.Error(), tt.says) || r != nil {
			t.Errorf("%+v: %s after %v: %v", tt.answer, e.Reason, e.RetryAfter, e)
		}
	}
}

// PagerDuty refuses a summary over 1,024 characters and an event over 512 kB.
func TestPagerDutyHostileText(t *testing.T) {
	s := serve(t, accepted())
	for _, text := range append(hostileTexts(), strings.Repeat("<!channel> ", 4<<20/11)) {
		for _, times := range []int{1, 400} {
			if len(text) > 1<<20 && times > 1 {
				continue
			}
			all := everywhere(strings.Repeat(text, times), 70)
			if len(text) > 1<<20 {
				all = everywhere(text, 2)
			}
			st := story()
			st.Host, st.Incident.Name, st.Incident.Rule, st.Unit.Project = all.Title, all.Title, all.Title, all.Title
			if _, err := pagerAt(t, s).Send(t.Context(), Message{Kind: KindPost, Key: all.Title, Story: st, Text: all}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range s.requests() {
		var e struct {
			Key     string `json:"dedup_key"`
			Payload struct {
				Summary string `json:"summary"`
				Source  string `json:"source"`
			} `json:"payload"`
		}
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || len(r.body) > 512_000 {
			t.Errorf("%d bytes, %v", len(r.body), err)
		}
		if n := len([]rune(e.Payload.Summary)); n == 0 || n > 1024 || e.Payload.Source == "" || e.Key == "" || len(e.Key) > 255 {
			t.Errorf("summary of %d, source %q, key %q", n, e.Payload.Source, e.Key)
		}
		if strings.ContainsAny(r.body, "\x1b\u202e") {
			t.Error("control characters")
		}
	}
}

func TestPagerDutyOptions(t *testing.T) {
	for _, o := range []PagerDutyOptions{{}, {RoutingKey: "a " + planted}, {RoutingKey: planted, Endpoint: "events.pagerduty.com"}} {
		if _, err := NewPagerDuty(o); err == nil || strings.Contains(err.Error(), "PLANTED") {
			t.Errorf("%v", err)
		}
	}
	s, err := NewPagerDuty(PagerDutyOptions{RoutingKey: planted + "\n", Endpoint: "https://events.eu.pagerduty.com/v2/enqueue"})
	if err != nil || s.Class() != Alert {
		t.Fatalf("%v, %v", s, err)
	}
	if p := s.(*pagerDuty); p.endpoint != "https://events.eu.pagerduty.com" || p.key != planted {
		t.Errorf("%q", p.endpoint)
	}
}
