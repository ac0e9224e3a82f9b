package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Alertmanager forgets an alert that is not sent again in time, so a daemon
// that is gone leaves none behind for longer than alertHold.
const (
	alertHold    = 5 * time.Minute // how long one sending keeps an alert firing
	alertRefresh = time.Minute     // how often it is sent again
	alertTest    = time.Minute     // how long a test fires
)

// AlertmanagerOptions says where the alerts go.
type AlertmanagerOptions struct {
	URLs []string     // of every instance, as a browser opens it; they may hold a user and a password
	HTTP *http.Client // nil: one with a deadline
}

// Alertmanager fires an alert per incident. Alertmanager routes, groups and
// repeats; defib only says what is true.
type Alertmanager struct {
	urls    []string
	secrets []string
	http    *http.Client
	hold    time.Duration
}

// NewAlertmanager returns the sink. A URL that is none is an error.
func NewAlertmanager(o AlertmanagerOptions) (*Alertmanager, error) {
	if len(o.URLs) == 0 {
		return nil, errors.New("alertmanager: no url is set; give the address of each instance")
	}
	a := &Alertmanager{http: httpClient(o.HTTP), hold: alertHold}
	for _, raw := range o.URLs {
		u, err := webURL("alertmanager", raw)
		if err != nil {
			return nil, err
		}
		a.urls = append(a.urls, u.JoinPath("api/v2/alerts").String())
		a.secrets = append(a.secrets, keyParts(u)...)
	}
	return a, nil
}

// Class is [Alert].
func (a *Alertmanager) Class() Class { return Alert }

// Refresh is how often an alert is to be sent again, as [Refresher] asks.
func (a *Alertmanager) Refresh() time.Duration { return alertRefresh }

// alert is one of POST /api/v2/alerts. Its labels are its identity: what changes
// over an incident belongs into the annotations.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt,omitzero"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Send posts m to every instance and is content when one takes it. The receipt
// holds the labels: when the severity changes, that is another alert to
// Alertmanager, and the old one has to end. It is told so once: an instance that
// misses that drops it after alertHold by itself.
func (a *Alertmanager) Send(ctx context.Context, m Message) (Receipt, error) {
	alerts, receipt := a.alerts(m, time.Now())
	body, err := json.Marshal(alerts)
	if err != nil {
		return nil, fmt.Errorf("encode the alert: %w", err)
	}
	failed := make([]*Error, len(a.urls))
	var wg sync.WaitGroup
	for i, u := range a.urls {
		wg.Go(func() { failed[i] = a.post(ctx, u, body) })
	}
	wg.Wait()
	if e := leastBad(failed); e != nil {
		return nil, e
	}
	return receipt, nil
}

func (a *Alertmanager) post(ctx context.Context, to string, body []byte) *Error {
	_, e := postJSON(ctx, a.http, to, nil, body, a.secrets...)
	return e
}

// leastBad is nil when one instance took the alert, else the error after which
// trying again makes the most sense.
func leastBad(failed []*Error) *Error {
	var worst *Error
	for _, e := range failed {
		if e == nil {
			return nil
		}
		if worst == nil || !worst.Retryable() && e.Retryable() || worst.Reason == ReasonAuth && e.Reason != ReasonAuth && e.Retryable() {
			worst = e
		}
	}
	return worst
}

// alerts builds what m says, and before it the end of the alert that m replaces.
func (a *Alertmanager) alerts(m Message, now time.Time) ([]alert, Receipt) {
	labels := alertLabels(m)
	one := alert{Labels: labels, Annotations: alertNotes(m), EndsAt: now.Add(a.hold)}
	switch m.Kind {
	case KindResolve:
		one.EndsAt = endOf(m.Story.Incident.Closed, now)
	case KindTest:
		one.EndsAt = now.Add(min(alertTest, a.hold))
	default:
	}
	one.StartsAt = startOf(m.Story.Incident.Opened, one.EndsAt, now)
	receipt := Receipt(maps.Clone(labels))
	receipt[alertOf] = m.Story.Incident.ID
	before := receiptLabels(m.Ref)
	if m.Ref == nil || maps.Equal(before, labels) {
		return []alert{one}, receipt
	}
	old := alert{Labels: before, Annotations: one.Annotations, StartsAt: startOf(one.StartsAt, now, now), EndsAt: now}
	return []alert{old, one}, receipt
}

// startOf is when an incident began. The clock may have been set back since,
// and Alertmanager refuses an alert that begins after its end.
func startOf(opened, end, now time.Time) time.Time {
	for _, t := range []time.Time{end, now} {
		if opened.After(t) {
			opened = t
		}
	}
	return opened
}

// endOf is when an incident ended; the end of an alert is never in the future.
func endOf(closed, now time.Time) time.Time {
	if closed.IsZero() || closed.After(now) {
		return now
	}
	return closed
}

// alertOf is the key of a receipt that says of which incident it is. The others
// are labels.
const alertOf = "incident"

func receiptLabels(ref Receipt) map[string]string {
	labels := maps.Clone(map[string]string(ref))
	delete(labels, alertOf)
	return labels
}

// alertLabels are the identity of an alert. Over the life of one incident only
// the severity changes, and not before somebody is to be called: its rule does
// with every attempt, and its host has another name before the engine has said
// its own.
func alertLabels(m Message) map[string]string {
	in, name := m.Story.Incident, "DefibIncident"
	switch m.Kind {
	case KindTest:
		name = "DefibTest"
	case KindAlarm:
		name = "DefibAlarm"
	default:
	}
	if in.Rule == RuleStorm { // its name counts, and two may be open
		in.Name = "containers (" + in.ID + ")"
	}
	labels := map[string]string{"alertname": name}
	for label, value := range map[string]string{
		"host": m.Story.Host, "container": in.Name, "rule": in.Rule, "severity": severity(m.Kind, in.Level),
	} {
		if value = cutRunes(Clean(value), 200); value != "" { // an empty label is none
			labels[label] = value
		}
	}
	id, known := m.Ref[alertOf]
	was := receiptLabels(m.Ref)
	switch {
	case m.Ref == nil:
		return labels
	case in.Level == policy.LevelPage && !m.Text.Urgent && m.Kind != KindResolve: // which ends what may have been raised
		return was
	case known && id != in.ID:
		return labels
	}
	was["severity"] = labels["severity"]
	return was
}

// severity gives the level the word that most routing trees ask for.
func severity(kind Kind, level policy.Level) string {
	switch {
	case kind == KindTest:
		return "info"
	case kind == KindAlarm, level == policy.LevelPage:
		return "critical"
	case level == policy.LevelWarn:
		return "warning"
	}
	return "info"
}

func alertNotes(m Message) map[string]string {
	text := m.Text.Map(Plain)
	notes := map[string]string{"summary": cutRunes(Clean(m.Text.Title), 500)}
	text.Title = ""
	if d := text.Plain(8 << 10); d != "" {
		notes["description"] = d
	}
	if id := m.Story.Incident.ID; id != "" {
		notes["incident"] = Clean(id)
	}
	return notes
}

// webURL parses the address of a service that is spoken to by HTTP. Its errors
// show nothing of it, since it may hold a key.
func webURL(what, raw string) (*url.URL, error) {
	raw, err := checkURL(what, raw)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, redact(err)
	}
	return u, nil
}
