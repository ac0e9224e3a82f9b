package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// WebhookVersion is the version of [WebhookBody]. Fields are only added to it;
// one that goes away or changes its meaning makes another version.
const WebhookVersion = 1

// WebhookOptions says where the documents go.
type WebhookOptions struct {
	URL    string
	Secret string       // "whsec_" and base64, or any text; empty: not signed
	HTTP   *http.Client // nil: one with a deadline
}

// WebhookBody is the document of one revision of an incident, in JSON.
// docs/webhook.md describes it.
type WebhookBody struct {
	Type     string             `json:"type"` // incident, test, alarm
	Version  int                `json:"version"`
	Key      string             `json:"key,omitempty"` // of the incident: host, unit and ID
	Kind     Kind               `json:"kind"`
	Sent     time.Time          `json:"sent"`
	Host     string             `json:"host,omitempty"`
	Defib    string             `json:"defib,omitempty"` // its version
	Incident *policy.Incident   `json:"incident,omitempty"`
	Unit     *policy.Status     `json:"unit,omitempty"`
	GPUs     []policy.GPUStatus `json:"gpus,omitempty"`
	Children []policy.Incident  `json:"children,omitempty"`
	Text     string             `json:"text"`   // the same in words, at most 4 KiB
	Urgent   bool               `json:"urgent"` // it needs somebody, whether or not somebody has taken it
}

// webhook sends each revision, signed after the Standard Webhooks scheme.
type webhook struct {
	url     string
	key     []byte
	secrets []string
	http    *http.Client
}

// NewWebhook returns the sink. A URL that is none, and a "whsec_" secret that is
// not base64, are errors.
func NewWebhook(o WebhookOptions) (Sink, error) {
	u, err := webURL("webhook", o.URL)
	if err != nil {
		return nil, err
	}
	key, err := webhookKey(o.Secret)
	if err != nil {
		return nil, err
	}
	return &webhook{url: u.String(), key: key, secrets: append(keyParts(u), o.Secret), http: httpClient(o.HTTP)}, nil
}

func webhookKey(secret string) ([]byte, error) {
	coded, ok := strings.CutPrefix(strings.TrimSpace(secret), "whsec_")
	if !ok {
		return []byte(coded), nil
	}
	key, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("webhook: what follows whsec_ in the secret is not base64; copy it again")
	}
	return key, nil
}

// Class is [Feed].
func (w *webhook) Class() Class { return Feed }

// Send posts the document of m. Each 2xx answer is an acceptance.
func (w *webhook) Send(ctx context.Context, m Message) (Receipt, error) {
	now := time.Now()
	body, err := json.Marshal(webhookBody(m, now))
	if err != nil {
		return nil, fmt.Errorf("encode the document: %w", err)
	}
	if _, e := postJSON(ctx, w.http, w.url, w.header(webhookID(m), now, body), body, w.secrets...); e != nil {
		return nil, e
	}
	return nil, nil
}

func webhookBody(m Message, now time.Time) WebhookBody {
	b := WebhookBody{
		Type: "incident", Version: WebhookVersion, Key: m.Key, Kind: m.Kind, Sent: now.UTC(),
		Host: m.Story.Host, Defib: m.Story.Version, Unit: m.Story.Unit, GPUs: m.Story.GPUs, Children: m.Story.Children,
		Text: m.Text.Map(Plain).Plain(4 << 10), Urgent: m.Text.Urgent,
	}
	if in := &m.Story.Incident; in.ID != "" {
		b.Incident = in
		b.Urgent = in.Closed.IsZero() && (in.NeedsYou || in.Level == policy.LevelPage)
	}
	switch {
	case m.Kind == KindTest:
		b.Type = "test"
	case m.Kind == KindAlarm, m.Story.Incident.Rule == RuleAlarm: // and its end
		b.Type = "alarm"
	}
	return b
}

// webhookID is the same each time that a revision is sent, so that a receiver
// can drop what it has had.
func webhookID(m Message) string {
	about := m.Key + "\x00" + m.Story.Incident.ID + "\x00" + string(m.Kind) + "\x00" + strconv.Itoa(m.Story.Incident.Rev)
	if m.Story.Incident.ID == "" {
		about += "\x00" + m.Text.Title + "\x00" + m.Since.UTC().Format(time.RFC3339Nano)
	}
	return "msg_" + shortHash(about)
}

// header signs after https://www.standardwebhooks.com: an HMAC of the ID, the
// time in seconds and the body, which keeps old messages from being sent again
// by others.
func (w *webhook) header(id string, now time.Time, body []byte) http.Header {
	at := strconv.FormatInt(now.Unix(), 10)
	h := http.Header{}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	if len(w.key) > 0 {
		mac := hmac.New(sha256.New, w.key)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return h
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// postJSON posts body and returns the start of the answer's body. The error is
// that of the way or of the status, without the secrets.
func postJSON(ctx context.Context, c *http.Client, to string, header http.Header, body []byte, secrets ...string) (string, *Error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return "", &Error{Reason: ReasonAuth, Err: redact(err, secrets...)}
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "defib")
	x := exchange{client: c}
	res, err := x.Do(req)
	if err == nil {
		_ = res.Body.Close() // it has been read
	}
	return x.body, withAnswer(x.failure(err, secrets...), x.body, secrets...)
}

// withAnswer adds the service's own words to an error: they mostly say what is
// wrong.
func withAnswer(e *Error, answer string, secrets ...string) *Error {
	if e == nil || answer == "" {
		return e
	}
	e.Err = fmt.Errorf("%w: %s", e.Err, redactText(answer, secrets...))
	return e
}

// keyParts lists the parts of a URL that may be keys. Short ones are words of
// the API, such as "v2": to hide them would make errors unreadable.
func keyParts(u *url.URL) []string {
	pw, _ := u.User.Password()
	parts := []string{u.User.Username(), pw}
	parts = append(parts, strings.Split(u.Path, "/")...)
	for _, values := range u.Query() {
		parts = append(parts, values...)
	}
	var out []string
	for _, p := range parts {
		if len(p) >= 6 {
			out = append(out, p)
		}
	}
	return append(out, u.RawQuery)
}
