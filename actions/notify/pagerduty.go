package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/PagerDuty/go-pagerduty"

	"github.com/defib-dev/defib/watcher/policy"
)

// PagerDutyOptions describe a service of PagerDuty.
type PagerDutyOptions struct {
	RoutingKey string       // the integration key of an Events API v2 integration
	Endpoint   string       // empty: https://events.pagerduty.com; accounts in the EU have https://events.eu.pagerduty.com
	HTTP       *http.Client // nil: one with a deadline
}

// String never shows the key.
func (o PagerDutyOptions) String() string { return "pagerduty" }

// Limits on an event, in characters, from the reference of PagerDuty's Events
// API v2: the summary, the key. The others keep an event far below its 512 kB,
// with six bytes for a character at worst.
const (
	pagerSummary = 1024
	pagerKey     = 255
	pagerLine    = 300 // one line of the details
	pagerLines   = 50  // of steps, and of everything else but logs
	pagerLogs    = 60  // lines
)

const pagerEndpoint = "https://events.pagerduty.com"

type pagerDuty struct {
	key, endpoint string
	http          *http.Client
}

// NewPagerDuty returns a sink for PagerDuty. Its errors are about options that
// cannot work; whether PagerDuty knows the key shows when something is sent.
func NewPagerDuty(o PagerDutyOptions) (Sink, error) {
	key := strings.TrimSpace(o.RoutingKey)
	if key == "" || strings.ContainsAny(key, " \t\r\n") {
		return nil, errors.New("pagerduty: the routing key is empty or holds spaces; take the integration key of an Events API v2 integration")
	}
	endpoint, err := checkURL("pagerduty endpoint", cmp.Or(o.Endpoint, pagerEndpoint))
	if err != nil {
		return nil, err
	}
	endpoint = strings.TrimSuffix(strings.TrimSuffix(endpoint, "/"), "/v2/enqueue") // the client adds it
	return &pagerDuty{key: key, endpoint: endpoint, http: httpClient(o.HTTP)}, nil
}

// String never shows the key.
func (p *pagerDuty) String() string { return "pagerduty" }

// Class implements [Sink].
func (p *pagerDuty) Class() Class { return Alert }

// Send implements [Sink]. Steps and evidence are in the details of what is
// triggered, so they are not sent on their own.
func (p *pagerDuty) Send(ctx context.Context, m Message) (Receipt, error) {
	events, receipt := pagerEvents(m)
	for _, e := range events {
		if err := p.event(ctx, pagerduty.V2Event{
			RoutingKey: p.key, Action: e.action, DedupKey: e.key, Client: "defib", Links: pagerLinks(m.Text), Payload: pagerPayload(m),
		}); err != nil {
			return nil, err
		}
	}
	return receipt, nil
}

func (p *pagerDuty) event(ctx context.Context, e pagerduty.V2Event) error {
	x := &exchange{client: p.http}
	c := pagerduty.NewClient("", pagerduty.WithV2EventsAPIEndpoint(p.endpoint))
	c.HTTPClient = x
	_, err := c.ManageEventWithContext(ctx, &e)
	if err == nil {
		return nil
	}
	if e := x.failure(err, p.key); e != nil {
		return p.explain(e, x)
	}
	return x.stranger("PagerDuty")
}

// explain adds what PagerDuty says about an event that it refuses. A wrong key
// is such an error there, too, with status 400 and not 401.
func (p *pagerDuty) explain(e *Error, x *exchange) *Error {
	if e.Reason != ReasonClient {
		return e
	}
	why := redactText(x.body, p.key)
	if low := strings.ToLower(why); strings.Contains(low, "routing_key") || strings.Contains(low, "routing key") {
		return &Error{Reason: ReasonAuth, Err: errors.New("PagerDuty does not know the routing key; put the integration key of an Events API v2 integration into its file")}
	}
	return &Error{Reason: ReasonClient, Err: errors.New("PagerDuty does not take this event: " + cmp.Or(why, e.Error()))}
}

// pagerEvent is an action on one alert.
type pagerEvent struct{ action, key string }

// The keys of a receipt of PagerDuty.
const (
	pagerRef   = "dedup_key" // of the newest alert
	pagerCalls = "calls"     // the end of that key behind "#"; none: it is the first
)

// pagerEvents are what m is to PagerDuty, with the receipt. PagerDuty calls
// nobody about an alert that it has, so each call is a new alert, in place of
// the one before: that is resolved first, or it would take the new one in where
// alerts are grouped. To send both again does no harm. A test triggers and
// resolves, so that it leaves nothing open.
func pagerEvents(m Message) ([]pagerEvent, Receipt) {
	key := dedupKey(m)
	receipt := Receipt{pagerRef: key}
	if calls := m.Ref[pagerCalls]; calls != "" {
		receipt[pagerCalls] = calls
	}
	switch m.Kind {
	case KindStep, KindEvidence, KindAgain:
		return nil, nil
	case KindAck:
		return []pagerEvent{{"acknowledge", key}}, receipt
	case KindResolve:
		return []pagerEvent{{"resolve", key}}, receipt
	case KindTest:
		return []pagerEvent{{"trigger", key}, {"resolve", key}}, receipt
	case KindPost, KindEscalate, KindRemind:
		if m.Ref[pagerRef] != "" {
			next := nextCall(receipt)
			return []pagerEvent{{"resolve", key}, {"trigger", next[pagerRef]}}, next
		}
	default:
	}
	return []pagerEvent{{"trigger", key}}, receipt
}

// nextCall returns the receipt of the alert after ref's.
func nextCall(ref Receipt) Receipt {
	base, was := ref[pagerRef], 1
	if n, err := strconv.Atoi(ref[pagerCalls]); err == nil {
		was, base = n, strings.TrimSuffix(base, "#"+ref[pagerCalls])
	}
	calls := strconv.Itoa(was + 1)
	key := base + "#" + calls
	if len(key) > pagerKey {
		key = hashedKey(base) + "#" + calls
	}
	return Receipt{pagerRef: key, pagerCalls: calls}
}

// dedupKey returns what makes the events of one call one alert: what was sent
// with it. A key that is too long is replaced by its hash.
func dedupKey(m Message) string {
	if raised := m.Ref[pagerRef]; raised != "" {
		return raised // the host's name may be another one now
	}
	key := cmp.Or(m.Key, m.Story.Host+"/"+string(m.Kind))
	if len(key) <= pagerKey && key == Clean(key) {
		return key
	}
	return hashedKey(key)
}

func hashedKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "defib-" + hex.EncodeToString(sum[:])
}

func pagerLinks(t Text) []any {
	if t.Link.Value == "" {
		return nil
	}
	return []any{map[string]string{"href": t.Link.Value, "text": cutRunes(Clean(t.Link.Name), 100)}}
}

func pagerPayload(m Message) *pagerduty.V2Payload {
	in := m.Story.Incident
	p := &pagerduty.V2Payload{
		Summary:   pagerSummaryOf(m.Text),
		Source:    cmp.Or(cutRunes(Clean(m.Story.Host), pagerKey), "defib"),
		Severity:  pagerSeverity(m),
		Component: cutRunes(Clean(in.Name), pagerKey),
		Class:     cutRunes(Clean(in.Rule), pagerKey),
		Details:   pagerDetails(m),
	}
	if m.Story.Unit != nil {
		p.Group = cutRunes(Clean(m.Story.Unit.Project), pagerKey)
	}
	if !in.Opened.IsZero() {
		p.Timestamp = in.Opened.Format(time.RFC3339)
	}
	return p
}

// pagerSummaryOf is what the phone shows and reads out: the title and, since it
// has room, the first line below it.
func pagerSummaryOf(t Text) string {
	s := Clean(t.Title)
	if len(t.Lead) > 0 {
		s = strings.TrimSpace(s + " · " + Clean(t.Lead[0]))
	}
	return cmp.Or(cutRunes(s, pagerSummary), "defib has something to tell")
}

func pagerSeverity(m Message) string {
	switch {
	case m.Kind == KindTest:
		return "info"
	case m.Kind == KindAlarm, m.Story.Incident.Level == policy.LevelPage:
		return "critical"
	case m.Story.Incident.Level == policy.LevelInfo:
		return "info"
	default:
		return "warning"
	}
}

// pagerFacts are the details of an event, as PagerDuty shows them: a table.
type pagerFacts struct {
	Incident string            `json:"incident,omitempty"`
	Summary  []string          `json:"summary,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
	Done     []string          `json:"done,omitempty"`
	Logs     []string          `json:"logs,omitempty"`
	Commands string            `json:"commands,omitempty"`
	Version  string            `json:"defib,omitempty"`
}

func pagerDetails(m Message) pagerFacts {
	t := m.Text
	facts := make(map[string]string)
	summary := cleanLines(t.Lead[:min(len(t.Lead), pagerLines)])
	for _, f := range t.Fields[:min(len(t.Fields), pagerLines)] {
		if f.Name == "" { // two of them would be one
			summary = append(summary, cutRunes(Clean(f.Value), pagerLine))
			continue
		}
		facts[cutRunes(Clean(f.Name), 100)] = cutRunes(Clean(f.Value), pagerLine)
	}
	return pagerFacts{
		Incident: cutRunes(Clean(m.Story.Incident.ID), 100),
		Summary:  summary,
		Facts:    facts,
		Done:     cleanLines(t.Steps[max(0, len(t.Steps)-pagerLines):]),
		Logs:     cleanLines(t.Logs[max(0, len(t.Logs)-pagerLogs):]),
		Commands: cutRunes(Clean(t.Foot), 2*pagerLine),
		Version:  cutRunes(Clean(m.Story.Version), 100),
	}
}

func cleanLines(list []string) []string {
	return each(list, func(s string) string { return cutRunes(Clean(s), pagerLine) })
}
