package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// ShoutrrrOptions says where messages go.
type ShoutrrrOptions struct {
	URL     string       // of shoutrrr: telegram://…, lark://…, smtp://…
	Mention []string     // who is called when somebody is needed, in the form of the service
	HTTP    *http.Client // nil: one with a deadline; smtp does without
}

// shoutrrr sends by one service of that library. Of its senders every message
// gets a new one: they keep the parameters of the message before. It gets our
// HTTP client, no logger (it would log bodies and tokens) and no second attempt.
type shoutrrr struct {
	name    string
	url     *url.URL
	scheme  scheme
	mention string
	secrets []string
	http    *http.Client
}

// Errors of shoutrrr's transport that end a send: their words keep its services
// from trying again by themselves.
var (
	errOffline = errors.New("nothing is sent while a URL is checked")
	errWire    = errors.New("the request was not answered")
)

// NewShoutrrr returns a sink for one URL of shoutrrr. What is wrong with the URL
// is an error that shows its scheme and nothing else of it.
func NewShoutrrr(o ShoutrrrOptions) (Sink, error) {
	u, err := url.Parse(strings.TrimSpace(o.URL))
	if err != nil {
		return nil, errors.New("shoutrrr: the URL is not one; it looks like telegram://TOKEN@telegram?chats=…")
	}
	name, _, _ := strings.Cut(u.Scheme, "+")
	if name == "smtp" {
		if len(o.Mention) > 0 {
			return nil, noMention(name)
		}
		return newMail(u)
	}
	s := &shoutrrr{name: name, url: u, secrets: serviceSecrets(u), http: httpClient(o.HTTP)}
	known := schemes()
	var ok bool
	if s.scheme, ok = known[name]; !ok {
		return nil, fmt.Errorf("shoutrrr: %w", unknownScheme(name, slices.Sorted(maps.Keys(known))))
	}
	if s.mention, err = s.scheme.mentions(name, o.Mention); err != nil {
		return nil, err
	}
	return s, s.check()
}

func unknownScheme(name string, known []string) error {
	switch name {
	case "slack", "pagerduty":
		return fmt.Errorf("there is a channel type %s that can do more; use that", name)
	case "":
		return errors.New("the URL has no scheme; it looks like telegram://TOKEN@telegram?chats=…")
	}
	return fmt.Errorf("no service is called %s here; there are smtp, %s; for others there is the type webhook", cutRunes(Clean(name), 20), strings.Join(known, ", "))
}

// check finds mistakes in the URL without sending anything.
func (s *shoutrrr) check() error {
	if strings.Contains(s.url.Query().Get("mentioned_list")+s.url.Query().Get("mentioned_mobile_list"), ",") {
		return errors.New("wecom: shoutrrr takes a list for one name; name one person, or @all")
	}
	if s.name == "discord" && s.url.Path != "" {
		return errors.New("discord: leave the path out; messages are not raw JSON")
	}
	offline := doer(func(*http.Request) (*http.Response, error) { return nil, errOffline })
	if _, err := s.service(offline, true); err != nil && !errors.Is(err, errOffline) {
		return fmt.Errorf("%s: %w", s.name, redact(err, s.secrets...))
	}
	return checkRecipients(s.name, s.url)
}

// service makes a sender. The client is set before Initialize, since matrix
// logs in there, and after it, since others set one of their own there.
func (s *shoutrrr) service(client doer, urgent bool) (types.Service, error) {
	svc, u := s.scheme.make(), *s.url
	u.RawQuery = url.Values(s.scheme.without(u.Query(), urgent)).Encode()
	setter, ok := svc.(types.HTTPClientSetter)
	if !ok {
		return nil, errors.New("this service takes no HTTP client")
	}
	setter.SetHTTPClient(client)
	at := &u
	if custom, ok := svc.(types.CustomURLService); ok && strings.Contains(u.Scheme, "+") {
		var err error
		if at, err = custom.GetServiceURLFromCustom(&u); err != nil {
			return nil, err
		}
	}
	if err := svc.Initialize(at, nil); err != nil {
		return nil, err
	}
	setter.SetHTTPClient(client)
	return svc, nil
}

// Class is [Append].
func (s *shoutrrr) Class() Class { return Append }

// Send sends m as one message.
func (s *shoutrrr) Send(ctx context.Context, m Message) (Receipt, error) {
	if s.scheme.once && (m.Kind == KindRemind || m.Kind == KindResolve || m.Story.Incident.Rule == RuleStart) {
		return nil, ErrNothing
	}
	w := &wire{client: s.http, scheme: s.scheme, host: s.url.Host, secrets: s.secrets}
	err := s.send(w.bind(ctx), m)
	if err == nil && w.failed == nil {
		return nil, nil
	}
	return nil, s.explain(w, err)
}

func (s *shoutrrr) send(client doer, m Message) error {
	svc, err := s.service(client, m.Text.Urgent)
	if err != nil {
		return err
	}
	mention := ""
	if m.Text.Urgent {
		mention = s.mention
	}
	message, title := s.scheme.compose(m.Text, mention)
	params := s.scheme.settings(s.url.Query(), title, m.Text.Urgent)
	return svc.Send(message, &params)
}

// explain prefers what went over the wire to shoutrrr's words, which do not tell
// a limit from a fault.
func (s *shoutrrr) explain(w *wire, err error) *Error {
	e := w.failed
	switch {
	case e != nil:
	case w.answered:
		e = &Error{Reason: ReasonServer, Err: fmt.Errorf("the answer is not that of the service: %w", redact(err, s.secrets...))}
	default:
		e = &Error{Reason: ReasonClient, Err: redact(err, s.secrets...)}
	}
	e.Err = fmt.Errorf("%s: %w", s.name, e.Err)
	return e
}

// doer is an HTTP client made of a function.
type doer func(*http.Request) (*http.Response, error)

// Do calls the function.
func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// wire is the way of one message: it has the deadline of the send, and remembers
// how the service answered.
type wire struct {
	client   *http.Client
	scheme   scheme
	host     string
	secrets  []string
	answered bool
	failed   *Error
}

func (w *wire) bind(ctx context.Context) doer {
	return func(r *http.Request) (*http.Response, error) { return w.do(r.WithContext(ctx)) }
}

func (w *wire) do(r *http.Request) (*http.Response, error) {
	if w.scheme.local != "" && r.URL.Path == w.scheme.local {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
	}
	if w.scheme.header != "" {
		r.Header.Set(w.scheme.header, w.host)
	}
	res, err := w.client.Do(r)
	if err != nil {
		return nil, w.fail(classifyErr(err, w.secrets...))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := readHead(res.Body, maxEcho) // Pushbullet repeats the whole message
	if err != nil {
		return nil, w.fail(classifyErr(err, w.secrets...))
	}
	w.answered = true
	w.judge(res, body)
	res.Body = io.NopCloser(strings.NewReader(body))
	return res, nil
}

func (w *wire) fail(e *Error) error {
	w.failed = e
	return errWire
}

// judge keeps the first failure. The service is told 400 in its place: Discord's
// code waits and tries again after others.
func (w *wire) judge(res *http.Response, body string) {
	e := withAnswer(classifyStatus(res.StatusCode, res.Header), body, w.secrets...)
	switch {
	case e != nil:
		if e.Reason == ReasonRateLimited && e.RetryAfter == 0 {
			e.RetryAfter = bodyWait(body)
		}
		res.StatusCode, res.Status = http.StatusBadRequest, "400 Bad Request"
	case w.scheme.codes != nil:
		e = w.scheme.codes.judge(body, w.secrets...)
	}
	if w.failed == nil {
		w.failed = e
	}
}

// bodyWait reads how long to wait from the body: Telegram, Discord and Matrix
// put it there.
func bodyWait(body string) time.Duration {
	var b struct {
		Seconds    float64 `json:"retry_after"`
		Millis     float64 `json:"retry_after_ms"`
		Parameters struct {
			Seconds float64 `json:"retry_after"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return 0
	}
	s := max(b.Seconds, b.Parameters.Seconds, b.Millis/1000)
	return min(time.Duration(min(s, maxRetryAfter.Seconds())*float64(time.Second)), maxRetryAfter)
}

// serviceSecrets lists all parts of a URL of shoutrrr: with many services the
// key is where a host would be.
func serviceSecrets(u *url.URL) []string {
	out := keyParts(u)
	for _, part := range append(strings.Split(u.Host, ":"), u.Host, u.Opaque, strings.Trim(u.Path, "/")) {
		if len(part) >= 6 && part != u.Scheme {
			out = append(out, part)
		}
	}
	if u.User != nil {
		out = append(out, u.User.String())
	}
	return out
}
