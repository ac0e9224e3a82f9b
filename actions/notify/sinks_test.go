package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// planted is a secret that must never be seen again. It looks like a path, so
// it can be a token, a key and a URL's end.
const planted = "PLANTED0123456789abcdefPLANTED01"

// request is what a fake service was sent.
type request struct {
	path, body string
	header     http.Header
}

// answer is what it says.
type answer struct {
	status int
	header map[string]string
	body   string
}

// service is a fake one. It gives its answers in order, the last one again and
// again.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	got     []request
	answers []answer
}

func serve(t *testing.T, answers ...answer) *service {
	t.Helper()
	s := &service{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		a := s.next(request{r.URL.Path, string(body), r.Header})
		for k, v := range a.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) next(r request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return a
}

func (s *service) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// roundTrip is an HTTP transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// sinksOf returns each sink of this file's subjects with a transport.
func sinksOf(t *testing.T, rt http.RoundTripper) map[string]Sink {
	t.Helper()
	c := &http.Client{Transport: rt}
	s1, err1 := NewSlack(SlackOptions{Token: planted, Channel: "C1", HTTP: c})
	s2, err2 := NewSlackWebhook(SlackHookOptions{URL: "https://hooks.slack.com/services/" + planted, HTTP: c})
	s3, err3 := NewPagerDuty(PagerDutyOptions{RoutingKey: planted, HTTP: c})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return map[string]Sink{"slack": s1, "slack webhook": s2, "pagerduty": s3}
}

// gotError returns the [Error] in err.
func gotError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is no Error", err, err)
	}
	if strings.Contains(e.Error(), "PLANTED") {
		t.Errorf("the secret is in %q", e)
	}
	return e
}

func TestSinksKeepTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, sink := range sinksOf(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done() // a service that never answers
			return nil, r.Context().Err()
		})) {
			ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
			start := time.Now()
			_, err := sink.Send(ctx, Message{Kind: KindPost, Key: "k", Text: repairedText})
			cancel()
			if e := gotError(t, err); e.Reason != ReasonTimeout || time.Since(start) != 7*time.Second {
				t.Errorf("%s: %s after %v", name, e.Reason, time.Since(start))
			}
		}
	})
}

func TestSinksHaveADeadlineOfTheirOwn(t *testing.T) {
	if c := httpClient(nil); c.Timeout != httpDeadline {
		t.Errorf("%v", c.Timeout)
	}
	given := &http.Client{Timeout: time.Second}
	if c := httpClient(given); c.Timeout != time.Second || given.CheckRedirect != nil {
		t.Errorf("%v; the caller's client was changed: %v", c.Timeout, given.CheckRedirect != nil)
	}
}

func TestSinksShowNoSecret(t *testing.T) {
	for name, sink := range sinksOf(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		return nil, fmt.Errorf("dial %s for %s %s", r.URL, r.Header.Get("Authorization"), body)
	})) {
		_, err := sink.Send(t.Context(), Message{Kind: KindPost, Key: "k", Text: repairedText})
		if e := gotError(t, err); e.Reason != ReasonNetwork {
			t.Errorf("%s: %s", name, e.Reason)
		}
		if s := fmt.Sprintf("%v %+v %s", sink, sink, err); strings.Contains(s, "PLANTED") {
			t.Errorf("%s: %s", name, s)
		}
	}
	for _, o := range []any{SlackOptions{Token: planted}, SlackHookOptions{URL: planted}, PagerDutyOptions{RoutingKey: planted}} {
		if s := fmt.Sprintf("%v %+v", o, o); strings.Contains(s, "PLANTED") {
			t.Errorf("%s", s)
		}
	}
}

// Services echo what they were sent, and hostile ones do more.
func TestSinksShowNoSecretThatComesBack(t *testing.T) {
	for _, status := range []int{200, 302, 400, 401, 404, 429, 500} {
		for _, body := range []string{
			`{"ok":false,"error":"` + planted + `"}`,
			`{"status":"invalid event","errors":["` + planted + ` is bad"]}`,
			"https://hooks.slack.com/services/" + planted,
			planted + strings.Repeat("x", 1<<20),
		} {
			s := serve(t, answer{status, map[string]string{"Content-Type": "application/json"}, body})
			for name, sink := range sinksOf(t, roundTrip(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(s.URL, "http://")
				return http.DefaultTransport.RoundTrip(r)
			})) {
				_, err := sink.Send(t.Context(), Message{Kind: KindPost, Key: "k", Text: repairedText})
				if err != nil && len(gotError(t, err).Error()) > 1000 {
					t.Errorf("%s: %d bytes", name, len(err.Error()))
				}
			}
		}
	}
}

// The texts of incidents, as they are rendered.
var (
	repairedText = Text{
		Title:  "✅ tei-embed on gpu-03: healthy again after 48 s. Nothing to do",
		Lead:   []string{"Cause: killed from outside or by the host's memory limit (137)", "Restarted once, at 03:07:12."},
		Fields: []Field{{"Host", "gpu-03"}, {"Image", "ghcr.io/example/tei:1.5"}, {"Down for", "48 s"}},
		Steps:  []string{"03:07:11 exited with 137", "03:07:12 restarted", "03:07:59 healthy"},
		Foot:   "INC-2B7Q · defib 0.4.0 · `defib incident INC-2B7Q`",
	}
	gaveUpText = Text{
		Title: "🔴 vllm-llama70b on gpu-03: gave up after 3 restarts. NEEDS YOU",
		Lead: []string{
			"Down since 03:07:02 (6 min). Next: nothing until you act.",
			"Cause: application error (1), 40 s after each start; health: \"connection refused :8000\"",
			"Then: `defib restart vllm-llama70b`",
		},
		Fields: []Field{
			{"Host", "gpu-03"},
			{"Image", "vllm/vllm-openai:v0.9.1"},
			{"Down for", "6 min"},
			{"Attempts", "3 of 3"},
			{"Exit", "1"},
			{"GPU", "#2 H100 80GB: 71.8 of 79.6 GiB held"},
			{"", "no name"},
			{"no value", ""},
		},
		Steps:  []string{"03:07:02 exited with 1", "03:07:03 restarted", "03:07:45 exited with 1", "03:13:00 gave up"},
		Logs:   []string{"03:11:49 ValueError: Free memory on device (7.1/79.6 GiB) < desired (71.7 GiB)", "03:11:50 RuntimeError: Engine core initialization failed & <!channel> ```"},
		Foot:   "INC-7F3K · defib 0.4.0 · `defib ack INC-7F3K` · `defib hold vllm-llama70b --for 1h`",
		Urgent: true,
	}
	flappingText = Text{
		Title:  "🟡 whisper on gpu-01: flapping ×4. Look at it in working hours",
		Lead:   []string{"Cause: its health check fails now and then"},
		Fields: []Field{{"Host", "gpu-01"}, {"Restarts", "6 in an hour"}},
		Foot:   "INC-FL4P · defib 0.4.0",
	}
)

// story is the incident of gaveUpText.
func story() Story {
	return Story{
		Host: "gpu-03", Version: "0.4.0",
		Incident: policy.Incident{
			ID: "INC-7F3K", Unit: "compose/llm/vllm/1", Name: "vllm-llama70b", Level: policy.LevelPage, Rule: "exit_loop",
			Opened: time.Date(2026, 3, 1, 3, 7, 2, 0, time.UTC),
		},
		Unit: &policy.Status{Project: "llm"},
	}
}
