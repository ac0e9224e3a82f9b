package notify

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// The services here are ours: they keep what they are sent, and answer as they
// are told.

type gotRequest struct {
	Method, URL string
	Header      http.Header
	Body        string
}

type fakeService struct {
	status int
	header http.Header
	answer string
	reply  func(body string) string // in place of answer
	hang   bool
	err    error

	mu  sync.Mutex
	got []gotRequest
}

// RoundTrip is the whole network of a test.
func (f *fakeService) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.got = append(f.got, gotRequest{r.Method, r.URL.String(), r.Header.Clone(), string(body)})
	down, status := f.err, f.status
	f.mu.Unlock()
	if f.hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if down != nil {
		return nil, down
	}
	answer := f.answer
	if f.reply != nil {
		answer = f.reply(string(body))
	}
	if status == 0 {
		status = http.StatusOK
	}
	header := f.header
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: header, Request: r,
		Body: io.NopCloser(strings.NewReader(answer)),
	}, nil
}

func (f *fakeService) client() *http.Client { return &http.Client{Transport: f} }

// count and set are for tests in which a goroutine sends.
func (f *fakeService) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.got)
}

func (f *fakeService) set(status int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status, f.err = status, err
}

func (f *fakeService) last(t *testing.T) gotRequest {
	t.Helper()
	if len(f.got) == 0 {
		t.Fatal("nothing was sent")
	}
	return f.got[len(f.got)-1]
}

// wantReason checks an error of a sink, and that it shows nothing of the keys.
func wantReason(t *testing.T, err error, reason Reason, wait time.Duration, secrets ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want an *Error", err, err)
	}
	if e.Reason != reason || e.RetryAfter != wait {
		t.Errorf("got %s, wait %v: %v; want %s, wait %v", e.Reason, e.RetryAfter, e, reason, wait)
	}
	wantNoSecret(t, err, secrets...)
}

func wantNoSecret(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error shows %q: %v", s, err)
		}
	}
}

var (
	storyOpened = time.Date(2026, 3, 1, 3, 7, 0, 0, time.UTC)
	storyClosed = storyOpened.Add(6 * time.Minute)
)

// gaveUp is a message as the planner makes it.
func gaveUp() Message {
	return Message{
		Kind: KindPost, Key: "gpu-03/vllm-llama70b/INC-7F3K", Since: storyOpened,
		Story: Story{
			Host: "gpu-03", Version: "1.2.3", Now: storyOpened,
			Incident: policy.Incident{
				ID: "INC-7F3K", Rev: 4, Unit: "vllm-llama70b", Name: "vllm-llama70b", Opened: storyOpened,
				Level: policy.LevelPage, Rule: "giveup", Cause: "exit 1", NeedsYou: true, Repairs: 3, Failures: 3,
				Steps: []policy.Step{{At: storyOpened, Rule: "exit", Text: "restarted"}},
			},
			Unit: &policy.Status{Key: "vllm-llama70b", Name: "vllm-llama70b", Container: "0123456789abcdef0123456789abcdef"},
		},
		Text: Text{
			Title:  "🔴 vllm-llama70b on gpu-03: gave up after 3 restarts. NEEDS YOU",
			Lead:   []string{"exit 1 (application error)", "Next: nothing until you act"},
			Fields: []Field{{"Host", "gpu-03"}, {"GPU", "#2 H100"}},
			Steps:  []string{"03:07 restart failed"},
			Logs:   []string{"ValueError: Free memory"},
			Foot:   "INC-7F3K · defib ack INC-7F3K",
			Urgent: true,
		},
	}
}

// resolved is the end of the same incident.
func resolvedStory() Message {
	m := gaveUp()
	m.Kind, m.Text.Title, m.Text.Urgent = KindResolve, "✅ vllm-llama70b on gpu-03: healthy again", false
	m.Story.Incident.Rev, m.Story.Incident.Closed, m.Story.Incident.End = 5, storyClosed, "recovered"
	m.Story.Incident.NeedsYou = false
	return m
}

// hostileLines are what a container may say to do harm.
func hostileLines() []string {
	return []string{
		"<!channel> <!here> <@U123> @everyone @here @all @channel @room @**all** <users/all> <@&42>",
		`<at user_id="all">all</at> <at id=all></at>`,
		"``` code ``` ` [a link](https://evil.example) ![p](https://evil.example/p.png)",
		`{"text":"a","isAtAll":true}"}]}`,
		"\u202egnp.exe\u2066 \u200b\ufeff",
		"\x1b[31mred\x1b[0m \x00\x07\x9b bad utf8 \xff\xfe\xc3",
		"\r\nBcc: victim@example.org\r\n\r\n<script>alert(1)</script>",
	}
}

// hostile is a message in which everything that a container may choose is
// hostile, with a line of 4 MB.
func hostile() Message {
	m := gaveUp()
	all := strings.Join(hostileLines(), " ")
	m.Text.Title = "🔴 web" + all
	m.Text.Lead = hostileLines()
	m.Text.Fields = []Field{{Name: hostileLines()[0], Value: hostileLines()[1]}}
	m.Text.Logs = append([]string{strings.Repeat("@everyone <!channel>", 200_000)}, hostileLines()...)
	m.Story.Incident.Name = all
	m.Story.Incident.Rule = all
	return m
}

// manyLines is a message with so many lines of log.
func manyLines(n int) Message {
	m := gaveUp()
	m.Text.Logs = slices.Repeat([]string{"2026-03-01 03:11:49 ERROR worker 3 died, 日志"}, n)
	return m
}

func send(t *testing.T, s Sink, m Message) Receipt {
	t.Helper()
	r, err := s.Send(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
