package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a DingTalk robot takes, from its documentation: with more than 20
// messages in a minute it is blocked for ten.
const (
	dingBudget    = 1800 // bytes of a message: what fits on a phone
	dingPerMinute = 18
	dingBlocked   = 10 * time.Minute
)

// DingTalkOptions says which robot speaks.
type DingTalkOptions struct {
	URL     string       // https://oapi.dingtalk.com/robot/send?access_token=…
	Secret  string       // SEC…, of a robot that wants signatures; empty: it has another safeguard
	Mention []string     // who is called when somebody is needed: mobile numbers, user: and a user ID, or all
	HTTP    *http.Client // nil: one with a deadline
}

type dingTalk struct {
	url     *url.URL
	secret  string
	at      dingAt
	secrets []string
	http    *http.Client
}

// NewDingTalk returns the sink. A URL that is none is an error.
func NewDingTalk(o DingTalkOptions) (Sink, error) {
	u, err := webURL("dingtalk", o.URL)
	if err != nil {
		return nil, err
	}
	if u.Query().Get("access_token") == "" {
		return nil, errors.New("dingtalk: the url has no access_token; copy the whole webhook address of the robot")
	}
	at, err := dingMention(o.Mention)
	if err != nil {
		return nil, err
	}
	secret := strings.TrimSpace(o.Secret)
	return &dingTalk{
		url: u, secret: secret, at: at, secrets: append(keyParts(u), secret),
		http: httpClient(o.HTTP),
	}, nil
}

// Class is [Append].
func (d *dingTalk) Class() Class { return Append }

// dingMessage is the body of one message.
type dingMessage struct {
	Type     string       `json:"msgtype"`
	Markdown dingMarkdown `json:"markdown"`
	At       dingAt       `json:"at"`
}

type dingMarkdown struct {
	Title string `json:"title"` // what the lock screen shows
	Text  string `json:"text"`
}

type dingAt struct {
	Mobiles []string `json:"atMobiles,omitempty"`
	Users   []string `json:"atUserIds,omitempty"`
	All     bool     `json:"isAtAll"`
}

const dingMost = 10 // people who are called

// dingMention sorts who is to be called.
func dingMention(who []string) (at dingAt, err error) {
	for _, one := range who {
		one = strings.TrimPrefix(strings.TrimSpace(one), "@")
		user, isUser := strings.CutPrefix(one, "user:")
		switch {
		case one == "all":
			at.All = true
		case isUser && isWord(user, "_-.@") && len(user) <= 64:
			at.Users = append(at.Users, user)
		case isPhone(one):
			at.Mobiles = append(at.Mobiles, one)
		default:
			return at, fmt.Errorf("dingtalk: nobody is called by the mention %q; write a mobile number, user: and a user ID such as user:manager4220, or all", cutRunes(Clean(one), 40))
		}
	}
	if len(at.Mobiles)+len(at.Users) > dingMost {
		return at, fmt.Errorf("dingtalk: the mention calls more than %d people; write all", dingMost)
	}
	return at, nil
}

// isPhone: digits, with the country before them where it is another one, as
// +852-51234567.
func isPhone(s string) bool {
	country, number, ok := strings.Cut(strings.TrimPrefix(s, "+"), "-")
	if !ok {
		country, number = "1", strings.TrimPrefix(s, "+")
	}
	return digits(country) && digits(number) && len(number) >= 6 && len(s) <= 20
}

// text is who is called as the message must say it, besides; all need not be
// named.
func (a dingAt) text() string {
	if a.All || len(a.Mobiles)+len(a.Users) == 0 {
		return ""
	}
	return "\n\n@" + strings.Join(slices.Concat(a.Mobiles, a.Users), " @")
}

// Send posts m. DingTalk says HTTP 200 to everything: its errcode counts.
func (d *dingTalk) Send(ctx context.Context, m Message) (Receipt, error) {
	body, err := json.Marshal(d.message(m))
	if err != nil {
		return nil, fmt.Errorf("encode the message: %w", err)
	}
	answer, e := postJSON(ctx, d.http, d.signed(time.Now()), nil, body, d.secrets...)
	if e == nil {
		e = dingCodes().judge(answer, d.secrets...)
	}
	if e != nil {
		return nil, e
	}
	return nil, nil
}

func (d *dingTalk) message(m Message) dingMessage {
	out := dingMessage{Type: "markdown", Markdown: dingMarkdown{Title: cutRunes(DingTalk(Clean(m.Text.Title)), 100)}}
	if m.Text.Urgent {
		out.At = d.at
	}
	mention := out.At.text()
	// A single line end is none in Markdown.
	text := m.Text.Map(DingTalk).Plain(dingBudget*3/4 - len(mention))
	out.Markdown.Text = cutBytes(strings.ReplaceAll(text, "\n", "\n\n"), dingBudget-len(mention)) + mention
	return out
}

// signed adds the time in milliseconds and the signature: an HMAC of the time
// and the secret.
func (d *dingTalk) signed(now time.Time) string {
	if d.secret == "" {
		return d.url.String()
	}
	at := strconv.FormatInt(now.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(d.secret))
	mac.Write([]byte(at + "\n" + d.secret))
	u, q := *d.url, d.url.Query()
	q.Set("timestamp", at)
	q.Set("sign", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	u.RawQuery = q.Encode()
	return u.String()
}

// dingCodes are the codes of open.dingtalk.com: 310000 is the safeguard of the
// robot (a keyword, the signature or the address of the sender), 300001 and
// 400101 a token that is not known, 400102 a robot that is switched off.
func dingCodes() bodyCodes {
	return bodyCodes{
		field: "errcode", text: "errmsg", wait: dingBlocked,
		auth: []int{310000, 300001, 300005, 400101, 400102}, limited: []int{130101, 130102, 410100, 429, 88}, busy: []int{-1, -2},
	}
}

// bodyCodes reads the verdict of a service that answers HTTP 200 to everything
// and puts the failure into the body.
type bodyCodes struct {
	field, text string        // the names of the code and of its words
	wait        time.Duration // after a limit was reached
	auth        []int
	limited     []int
	busy        []int
}

// judge returns nil when the code is 0.
func (b bodyCodes) judge(answer string, secrets ...string) *Error {
	var body map[string]any
	if err := json.Unmarshal([]byte(answer), &body); err != nil {
		return &Error{Reason: ReasonServer, Err: errors.New("the answer is not JSON; is there a proxy before the service?")}
	}
	n, ok := body[b.field].(float64)
	if ok && n == 0 {
		return nil
	}
	words, _ := body[b.text].(string)
	e := &Error{Reason: ReasonClient, Err: fmt.Errorf("the service does not take this message (code %d): %s", int(n), redactText(words, secrets...))}
	switch code := int(n); {
	case !ok || slices.Contains(b.busy, code):
		e.Reason = ReasonServer
	case slices.Contains(b.auth, code):
		e.Reason = ReasonAuth
	case slices.Contains(b.limited, code):
		e.Reason, e.RetryAfter = ReasonRateLimited, b.wait
	}
	return e
}
