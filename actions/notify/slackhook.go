package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/slack-go/slack"
)

// SlackHookOptions describe an incoming webhook of Slack, or of a chat that
// takes the same messages. It cannot edit what it sent.
type SlackHookOptions struct {
	URL     string       // https://hooks.slack.com/services/…: a secret as a whole
	Mention string       // as in [SlackOptions]
	HTTP    *http.Client // nil: one with a deadline
}

// String never names the URL.
func (o SlackHookOptions) String() string { return "slack webhook" }

type slackHook struct {
	url     string
	secrets []string // of the URL
	mention string
	http    *http.Client
}

// NewSlackWebhook returns a sink for an incoming webhook. Its errors are about
// options that cannot work, and hold nothing of the URL.
func NewSlackWebhook(o SlackHookOptions) (Sink, error) {
	u, err := webURL("slack webhook", o.URL)
	if err != nil {
		return nil, err
	}
	mention, err := slackMention(o.Mention)
	if err != nil {
		return nil, err
	}
	return &slackHook{url: u.String(), secrets: keyParts(u), mention: mention, http: httpClient(o.HTTP)}, nil
}

// String never names the URL.
func (s *slackHook) String() string { return "slack webhook" }

// Class implements [Sink].
func (s *slackHook) Class() Class { return Append }

// Send implements [Sink]. There is no receipt. As in [NewSlack], a message goes
// without its blocks if Slack does not like them.
func (s *slackHook) Send(ctx context.Context, m Message) (Receipt, error) {
	mention := ""
	if m.Text.Urgent || m.Kind == KindEscalate || m.Kind == KindRemind {
		mention = s.mention
	}
	if m.Kind == KindResolve {
		mention = ""
	}
	c := slackRoot(m.Text, mention)
	code, err := s.once(ctx, c)
	if strings.Contains(code, "blocks") || code == "invalid_payload" {
		c.blocks = nil
		_, err = s.once(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	return nil, nil
}

// once makes one request; code is the body of an answer that refuses.
func (s *slackHook) once(ctx context.Context, c slackContent) (string, *Error) {
	no := false
	msg := slack.WebhookMessage{Text: c.text, UnfurlLinks: &no, UnfurlMedia: &no}
	if len(c.blocks) > 0 {
		msg.Blocks = &slack.Blocks{BlockSet: c.blocks}
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return "", &Error{Reason: ReasonClient, Err: fmt.Errorf("write the message as JSON: %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return "", &Error{Reason: ReasonClient, Err: redact(err, s.secrets...)}
	}
	req.Header.Set("Content-Type", "application/json")
	x := &exchange{client: s.http}
	resp, err := x.Do(req)
	if err == nil {
		_ = resp.Body.Close() // it has been read
	}
	return s.judge(x)
}

func (s *slackHook) judge(x *exchange) (string, *Error) {
	code := cutRunes(redactText(x.body, s.secrets...), 60)
	if e := slackHookRefusal(code); e != nil {
		return code, e
	}
	if e := x.failure(nil, s.secrets...); e != nil {
		if code != "" && e.Reason == ReasonClient {
			e.Err = fmt.Errorf("%w: %s", e.Err, code)
		}
		return code, e
	}
	if strings.HasPrefix(x.body, "<") {
		return "", x.stranger("Slack")
	}
	return "", nil
}

// slackHookRefusal knows the bodies, of Slack's reference of incoming webhooks,
// that say more than the status with which they come; nil for any other.
func slackHookRefusal(code string) *Error {
	text := ""
	switch code {
	case "invalid_token", "no_service", "no_service_id", "no_active_hooks", "no_team", "team_disabled", "action_prohibited", "user_not_found":
		text = "Slack no longer knows this webhook; make a new one and put its URL into the file"
	case "channel_not_found", "channel_is_archived", "is_archived":
		text = "the webhook's channel is gone or archived; make a webhook for another"
	case "posting_to_general_channel_denied":
		text = "the workspace does not let the webhook write to its channel; ask its owners"
	default:
		return nil
	}
	return &Error{Reason: ReasonAuth, Err: errors.New(text + " (" + code + ")")}
}
