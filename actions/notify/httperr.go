package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bounds on what a service may say to us.
const (
	maxRetryAfter = time.Hour        // a longer wait is no rate limit; asking again costs one request
	maxErrorRunes = 300              // of an error's text
	maxAnswer     = 4 << 10          // bytes of an answer that are read …
	maxEcho       = 128 << 10        // … where it repeats the message, which is at most [slackMost]: twice, in \uXXXX and more
	httpDeadline  = 20 * time.Second // of one request, when the caller brings no client
)

// classifyStatus turns the status of an answer into an [Error]; nil for 2xx.
// 404, 410 and redirects speak of the address, not of the message: chat services
// answer so when a webhook was removed, and then they are a matter of access.
func classifyStatus(code int, header http.Header) *Error {
	e := &Error{RetryAfter: retryAfter(header, time.Now())}
	switch {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		e.Reason, e.Err = ReasonAuth, fmt.Errorf("the address has moved, or a proxy stands before it (%s); check the URL", statusText(code))
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		e.Reason, e.Err = ReasonAuth, fmt.Errorf("the service refuses the token or key (%s); put a valid one into its file", statusText(code))
	case code == http.StatusNotFound, code == http.StatusGone:
		e.Reason, e.Err = ReasonAuth, fmt.Errorf("the service does not know this address (%s); check the URL, it may have been removed", statusText(code))
	case code == http.StatusRequestTimeout:
		e.Reason, e.Err = ReasonTimeout, fmt.Errorf("the service gave up waiting (%s)", statusText(code))
	case code == http.StatusTooManyRequests:
		e.Reason, e.Err = ReasonRateLimited, fmt.Errorf("the service wants fewer messages (%s)", statusText(code))
	case code >= 500:
		e.Reason, e.Err = ReasonServer, fmt.Errorf("the service has a fault of its own (%s)", statusText(code))
	default:
		e.Reason, e.Err = ReasonClient, fmt.Errorf("the service does not take this message (%s)", statusText(code))
	}
	return e
}

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("HTTP %d %s", code, http.StatusText(code)))
}

// retryAfter reads Retry-After, in seconds (fractions are seen in the wild) or
// as a date, which is compared with the service's own clock where it tells.
// 0: it does not say, or says something that makes no sense.
func retryAfter(header http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(header.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		if math.IsNaN(s) || s <= 0 {
			return 0
		}
		return time.Duration(min(math.Ceil(s), maxRetryAfter.Seconds())) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// classifyErr turns what an HTTP client returned into an [Error] without the
// secrets: the deadline passed, or there is no way to the service.
func classifyErr(err error, secrets ...string) *Error {
	reason := ReasonNetwork
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		reason = ReasonTimeout
	}
	return &Error{Reason: reason, Err: redact(err, secrets...)}
}

// redacted is an error that has lost its secrets. It does not unwrap, since the
// text of its cause still has them, but it can be compared.
type redacted struct {
	text  string
	cause error
}

// Error implements error.
func (r *redacted) Error() string { return r.text }

// Is lets [errors.Is] find context.Canceled and the like.
func (r *redacted) Is(target error) bool { return errors.Is(r.cause, target) }

// redact returns err without the secrets and with nothing of a URL but its
// scheme and, for HTTP, its host: chat services carry their keys in paths and
// queries, shoutrrr in the host. The text is bounded and on one line.
func redact(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var bad *url.Error
	if errors.As(err, &bad) && bad.Op == "parse" { // its text quotes pieces of the URL
		text = "the URL cannot be parsed"
	}
	return &redacted{text: redactText(text, secrets...), cause: err}
}

// redactText is redact for words, such as the body of an answer.
func redactText(s string, secrets ...string) string {
	s = redactURLs(strings.ToValidUTF8(redactSecrets(s, secrets), "�"))
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	}), " ")
	return cutRunes(s, maxErrorRunes)
}

// redactSecrets takes the secrets out in each form in which they may be quoted:
// the longest first, since one may hold another.
func redactSecrets(s string, secrets []string) string {
	var forms []string
	for _, secret := range secrets {
		if secret = strings.TrimSpace(secret); secret != "" {
			quoted := strconv.Quote(secret)
			forms = append(forms, secret, quoted[1:len(quoted)-1], url.PathEscape(secret), url.QueryEscape(secret))
		}
	}
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, form := range forms {
		s = strings.ReplaceAll(s, form, "[redacted]")
	}
	return s
}

func redactURLs(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "://")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		end := strings.IndexFunc(after, endsURL)
		if end < 0 {
			end = len(after)
		}
		b.WriteString("://" + redactedHost(before, after[:end]))
		s = after[end:]
	}
}

func endsURL(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("\"'`<>(){}|\\", r) }

// redactedHost returns what may be shown of the rest of a URL. An @ anywhere
// hides all of it: a password may hold a slash.
func redactedHost(before, rest string) string {
	if !strings.HasSuffix(before, "http") && !strings.HasSuffix(before, "https") || strings.Contains(rest, "@") {
		return "…"
	}
	host := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host = rest[:i]
	}
	if host == rest {
		return host
	}
	return host + "/…"
}

// cutRunes cuts s to n runes, the last of them an ellipsis when it was longer.
func cutRunes(s string, n int) string {
	count := 0
	last := 0
	for i := range s {
		if count++; count == n {
			last = i
		}
		if count > n {
			return s[:last] + "…"
		}
	}
	return s
}

// httpClient returns c, or one with a deadline. Neither follows a redirect: it
// would hand the message, and a key in its body, to another host.
func httpClient(c *http.Client) *http.Client {
	own := http.Client{Timeout: httpDeadline}
	if c != nil {
		own = *c
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// checkURL returns raw when messages can be sent to it. Its error does not
// quote it.
func checkURL(what, raw string) (string, error) {
	raw = strings.TrimSpace(raw)
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%s: the URL is not one; it must start with https:// and name a host", what)
	}
	return raw, nil
}
