package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestClassifyStatus(t *testing.T) {
	for _, tt := range []struct {
		code   int
		reason Reason
		retry  bool
	}{
		{301, ReasonAuth, true},
		{400, ReasonClient, false},
		{401, ReasonAuth, true},
		{403, ReasonAuth, true},
		{404, ReasonAuth, true},
		{407, ReasonAuth, true},
		{408, ReasonTimeout, true},
		{410, ReasonAuth, true},
		{413, ReasonClient, false},
		{429, ReasonRateLimited, true},
		{500, ReasonServer, true},
		{503, ReasonServer, true},
		{599, ReasonServer, true},
	} {
		e := classifyStatus(tt.code, http.Header{"Retry-After": {"7"}})
		if e.Reason != tt.reason || e.Retryable() != tt.retry || e.RetryAfter != 7*time.Second {
			t.Errorf("%d: %s, retryable %v, after %v", tt.code, e.Reason, e.Retryable(), e.RetryAfter)
		}
		if want := fmt.Sprintf("HTTP %d", tt.code); !strings.Contains(e.Error(), want) {
			t.Errorf("%q does not say %q", e, want)
		}
	}
	for _, code := range []int{200, 202, 204} {
		if e := classifyStatus(code, nil); e != nil {
			t.Errorf("%d: %v", code, e)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"7", "", 7 * time.Second},
		{" 0.3 ", "", time.Second},
		{"-5", "", 0},
		{"0", "", 0},
		{"NaN", "", 0},
		{"Inf", "", time.Hour},
		{"1e300", "", time.Hour},
		{"soon", "", 0},
		{"Sun, 01 Mar 2026 03:00:30 GMT", "", 30 * time.Second},
		{"Sun, 01 Mar 2026 02:00:30 GMT", "", 0},
		{"Mon, 01 Mar 2027 03:00:30 GMT", "", time.Hour},
		{"Sun, 01 Mar 2026 05:00:10 GMT", "Sun, 01 Mar 2026 05:00:00 GMT", 10 * time.Second},
	} {
		if got := retryAfter(http.Header{"Retry-After": {tt.value}, "Date": {tt.date}}, now); got != tt.want {
			t.Errorf("%q with date %q: %v, want %v", tt.value, tt.date, got, tt.want)
		}
	}
}

func TestRedact(t *testing.T) {
	const key = "T0/B0/s3cr3t+key"
	wrap := func(u string) error {
		return fmt.Errorf("send: %w", &url.Error{Op: "Post", URL: u, Err: context.DeadlineExceeded})
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"path", wrap("https://hooks.slack.com/services/" + key), `send: Post "https://hooks.slack.com/…": context deadline exceeded`},
		{"query", wrap("https://oapi.dingtalk.com?access_token=abc"), `send: Post "https://oapi.dingtalk.com/…": context deadline exceeded`},
		{"no path", wrap("http://127.0.0.1:9093"), `send: Post "http://127.0.0.1:9093": context deadline exceeded`},
		{"password", wrap("https://user:pa/ss@host/x"), `send: Post "https://…": context deadline exceeded`},
		{"shoutrrr", errors.New("telegram://110201543:AAH@telegram?chats=1 is bad"), `telegram://… is bad`},
		{"two", errors.New("from https://a/b to https://c/d"), `from https://a/… to https://c/…`},
		{"bare", errors.New("key " + key + " refused"), `key [redacted] refused`},
		{"escaped", errors.New("key " + url.QueryEscape(key) + " and " + url.PathEscape(key)), `key [redacted] and [redacted]`},
		{"lines", errors.New("a\r\nb\x1b[31m\u202ec\xff"), "a b [31m c�"},
		{"not a URL", parseError("http://u:" + key + "@h"), `the URL cannot be parsed`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, redact(tt.err, key, "").Error()); d != "" {
				t.Error(d)
			}
		})
	}
	if redact(nil) != nil {
		t.Error("no error became one")
	}
}

func parseError(u string) error {
	_, err := url.Parse(u)
	return err
}

func TestRedactedCanBeCompared(t *testing.T) {
	err := redact(&url.Error{Op: "Post", URL: "https://h/secret", Err: context.Canceled})
	if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not what it was", err)
	}
	if u := new(url.Error); errors.As(err, &u) {
		t.Errorf("the URL can be had again: %v", u)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("Post \"https://h/%s\": x", "key")
	f.Add("%s", "a b")
	f.Add("://://%s@", "\"\\\n")
	f.Fuzz(func(t *testing.T, around, tail string) {
		secret := "PLANTED-" + tail
		got := redact(errors.New(strings.ReplaceAll(around, "%s", secret)), secret).Error()
		if strings.Contains(got, "PLANTED-") && !strings.Contains(around, "PLANTED-") && utf8.ValidString(tail) && strings.TrimSpace(secret) == secret {
			t.Errorf("%q", got)
		}
		if n := utf8.RuneCountInString(got); n > maxErrorRunes || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x1b") {
			t.Errorf("%d runes: %q", n, got)
		}
	})
}

func TestClassifyErr(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		<-ctx.Done()
		for _, tt := range []struct {
			err  error
			want Reason
		}{
			{ctx.Err(), ReasonTimeout},
			{&url.Error{Op: "Post", URL: "https://h/s", Err: ctx.Err()}, ReasonTimeout},
			{&url.Error{Op: "Post", URL: "https://h/s", Err: context.Canceled}, ReasonNetwork},
			{errors.New("no route to host"), ReasonNetwork},
		} {
			if e := classifyErr(tt.err, "s"); e.Reason != tt.want || !e.Retryable() {
				t.Errorf("%v: %s", tt.err, e.Reason)
			}
		}
	})
}

func TestCutRunes(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{
		{"", 3, ""},
		{"äöü", 3, "äöü"},
		{"äöüß", 3, "äö…"},
		{"ab", 1, "…"},
	} {
		if got := cutRunes(tt.s, tt.n); got != tt.want {
			t.Errorf("cutRunes(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}
