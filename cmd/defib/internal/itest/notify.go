package itest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Sent is a request that an [Inbox] got.
type Sent struct {
	Path   string
	Header http.Header
	Body   string
	Form   url.Values // of the body, where it is one
	At     time.Time
	TS     string // of Slack: the message that it made or changed
}

// Root reports whether it makes a message of its own in a Slack channel.
func (s Sent) Root() bool { return s.Post() && s.Form.Get("thread_ts") == "" }

// Post reports whether it makes a message of Slack, in a thread or not.
func (s Sent) Post() bool { return s.Path == "/chat.postMessage" }

// Reply reports whether it answers in a thread of Slack and nowhere else.
func (s Sent) Reply() bool { return s.Post() && !s.Root() && !s.Broadcast() }

// Broadcast reports whether it answers in a thread of Slack, for all to see.
func (s Sent) Broadcast() bool { return s.Post() && s.Form.Get("reply_broadcast") == "true" }

// Edit reports whether it changes a message of Slack.
func (s Sent) Edit() bool { return s.Path == "/chat.update" }

// Says reports whether each of the texts is in the words of a Slack message.
func (s Sent) Says(texts ...string) bool {
	words := s.Form.Get("text") + s.Form.Get("blocks")
	return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(words, text) })
}

// Inbox is an HTTP service that takes all it is sent, and keeps it. It answers
// as Slack does, which others do not read.
type Inbox struct {
	URL string

	mu      sync.Mutex
	got     []Sent
	changed chan struct{} // closed and made anew with each request
	hold    bool          // the next answer waits until the client is gone
}

// NewInbox starts the service. It ends with the test.
func NewInbox(t testing.TB) *Inbox {
	t.Helper()
	in := &Inbox{changed: make(chan struct{})}
	s := httptest.NewServer(in)
	in.URL = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		if t.Failed() {
			t.Logf("what %s got:\n%s", in.URL, in)
		}
	})
	return in
}

// ServeHTTP implements [http.Handler].
func (in *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // the client is gone
		return
	}
	s, hold := in.take(r, string(body))
	if hold {
		<-r.Context().Done()
		return
	}
	kept := map[string]any{"text": s.Form.Get("text")} // Slack repeats the message
	if blocks := s.Form.Get("blocks"); blocks != "" {
		kept["blocks"] = json.RawMessage(blocks)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"ok": true, "channel": s.Form.Get("channel"), "ts": s.TS, "text": kept["text"], "message": kept})
}

// take keeps a request, and says whether its answer is to wait.
func (in *Inbox) take(r *http.Request, body string) (Sent, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := Sent{Path: r.URL.Path, Header: r.Header.Clone(), Body: body, At: time.Now()}
	s.Form, _ = url.ParseQuery(body) // nothing that counts is read of what is no form
	if s.TS = s.Form.Get("ts"); s.TS == "" {
		s.TS = strconv.Itoa(len(in.got)+1) + ".000100"
	}
	in.got = append(in.got, s)
	close(in.changed)
	in.changed = make(chan struct{})
	hold := in.hold
	in.hold = false
	return s, hold
}

// Hold lets the next request wait for its answer for ever.
func (in *Inbox) Hold() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.hold = true
}

// Got is all that it got so far, oldest first.
func (in *Inbox) Got() []Sent {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.got)
}

// Count is how many requests so far are as said.
func (in *Inbox) Count(is func(Sent) bool) int {
	n := 0
	for _, s := range in.Got() {
		if is(s) {
			n++
		}
	}
	return n
}

// String shows what it got, for a test that failed.
func (in *Inbox) String() string {
	var b strings.Builder
	for _, s := range in.Got() {
		text := s.Form.Get("text")
		if text == "" {
			text = s.Body[:min(len(s.Body), 300)]
		}
		fmt.Fprintf(&b, "%s %s ts %q thread %q broadcast %q: %s\n", s.At.Format("15:04:05.000"), s.Path,
			s.Form.Get("ts"), s.Form.Get("thread_ts"), s.Form.Get("reply_broadcast"), text)
	}
	return b.String()
}

// Until waits until one request is as it should be, and returns the first such.
func (in *Inbox) Until(t testing.TB, within time.Duration, what string, met func(Sent) bool) Sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		in.mu.Lock()
		i, changed := slices.IndexFunc(in.got, met), in.changed
		var s Sent
		if i >= 0 {
			s = in.got[i]
		}
		in.mu.Unlock()
		if i >= 0 {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("not told within %v: %s", within, what)
		}
	}
}

// Channel is the lines of a channel of the configuration.
type Channel struct {
	Name, Type string
	Secrets    map[string]string // by their keys without _file
	Settings   map[string]string
}

// SlackChannel is a channel whose messages go to the inbox.
func SlackChannel(name, api string) Channel {
	return Channel{
		Name: name, Type: "slack", Secrets: map[string]string{"token": "xoxb-7351-planted-4bot"},
		Settings: map[string]string{"channel": "C0OPS", "mention": "S0ONCALL", "api_url": api, "min_level": "info"},
	}
}

// Notifying is the section of the configuration with these channels, and with
// a heartbeat unless its URL is empty. Secrets go into files of their own,
// outside the state directory.
func Notifying(t testing.TB, heartbeat string, channels ...Channel) string {
	t.Helper()
	dir := shortDir(t)
	secret := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var b strings.Builder
	b.WriteString("notify:\n")
	if heartbeat != "" {
		fmt.Fprintf(&b, "  heartbeat: {url_file: %q, every: 10s}\n", secret("heartbeat", heartbeat))
	}
	b.WriteString("  channels:\n")
	for _, c := range channels {
		fmt.Fprintf(&b, "    - {name: %s, type: %s", c.Name, c.Type)
		for key, text := range c.Secrets {
			fmt.Fprintf(&b, ", %s_file: %q", key, secret(c.Name+"-"+key, text))
		}
		for key, value := range c.Settings {
			fmt.Fprintf(&b, ", %s: %q", key, value)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// UntilTold waits until no message waits any more.
func (d *Daemon) UntilTold(t testing.TB, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		got, err := d.Client.Notify(ctx)
		if err == nil && len(got.Queue) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("messages still wait after %v: %v, %+v", within, err, got.Queue)
		case <-time.After(25 * time.Millisecond):
		}
	}
}
