package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/slack-go/slack"
)

// SlackOptions describe a Slack channel that is written to with a bot token.
// The app needs the scope chat:write.
type SlackOptions struct {
	Token   string       // of the bot, xoxb-…
	Channel string       // its ID, such as C0123456789; a name works for public channels
	Mention string       // who is called when somebody is needed: U… (user), S… (group), here, channel; empty: nobody
	APIURL  string       // empty: Slack's own
	HTTP    *http.Client // nil: one with a deadline
}

// String names the channel, and never the token.
func (o SlackOptions) String() string { return "slack " + o.Channel }

// slackSink writes to one Slack channel: one message per incident, edited as it
// moves, with a thread.
type slackSink struct {
	options SlackOptions
	mention string // as Slack wants it: <@U…>
	http    *http.Client
}

// The keys of a receipt of Slack.
const (
	slackChannel = "channel"
	slackTS      = "ts"
	slackFor     = "for" // the channel as it was configured then
)

// NewSlack returns a sink for a Slack channel. Its errors are about options that
// cannot work; whether Slack takes the token shows when something is sent.
func NewSlack(o SlackOptions) (Sink, error) {
	o.Token, o.Channel = strings.TrimSpace(o.Token), strings.TrimSpace(o.Channel)
	mention, err := slackMention(o.Mention)
	switch {
	case o.Token == "" || strings.ContainsAny(o.Token, " \t\r\n"):
		return nil, errors.New("slack: the token is empty or holds spaces; take the Bot User OAuth Token of the app, which starts with xoxb-")
	case strings.HasPrefix(o.Token, "xapp-"):
		return nil, errors.New("slack: this is a token of the app; take its Bot User OAuth Token, which starts with xoxb-")
	case o.Channel == "":
		return nil, errors.New("slack: there is no channel; give its ID, such as C0123456789")
	case err != nil:
		return nil, err
	}
	if o.APIURL == "" {
		o.APIURL = slack.APIURL
	}
	if o.APIURL, err = checkURL("slack", o.APIURL); err != nil {
		return nil, err
	}
	o.APIURL = strings.TrimSuffix(o.APIURL, "/") + "/"
	return &slackSink{options: o, mention: mention, http: httpClient(o.HTTP)}, nil
}

// String names the channel, and never the token.
func (s *slackSink) String() string { return s.options.String() }

// Class implements [Sink].
func (s *slackSink) Class() Class { return Threaded }

// Send implements [Sink]. Only a new root has a new receipt; an edit returns
// the old one, an answer in the thread none. Where the root is in another
// channel than the configured one, it is still kept true, but calls nobody.
func (s *slackSink) Send(ctx context.Context, m Message) (Receipt, error) {
	ts, root, at := m.Ref[slackTS], slackPlace{channel: s.options.Channel}, s.placeOf(m.Ref)
	switch m.Kind {
	case KindEdit, KindResolve:
		if ts == "" {
			return nil, slackGone("there is no message to edit yet")
		}
		_, err := s.call(ctx, at, slackRoot(m.Text, ""), slack.MsgOptionUpdate(ts))
		if err != nil {
			return nil, err
		}
		return Receipt(m.Ref), nil
	case KindStep, KindEvidence:
		if ts == "" {
			return nil, slackGone("there is no message to answer yet")
		}
		_, err := s.call(ctx, at, slackReply(m, ""), slack.MsgOptionTS(ts))
		return nil, err
	case KindEscalate, KindRemind, KindAgain:
		mention := s.mention
		if m.Kind == KindAgain {
			mention = ""
		}
		switch {
		case ts == "": // told on its own rather than not at all
			return s.call(ctx, root, slackRoot(m.Text, mention))
		case at.moved:
			return nil, slackGone("its message is in another channel than the configured one; a new one calls there")
		}
		_, err := s.call(ctx, at, slackReply(m, mention), slack.MsgOptionTS(ts), slack.MsgOptionBroadcast())
		return nil, err
	default:
		mention := ""
		if m.Text.Urgent {
			mention = s.mention
		}
		return s.call(ctx, root, slackRoot(m.Text, mention))
	}
}

// slackPlace is where a message goes.
type slackPlace struct {
	channel string
	below   bool // an edit, or an answer in a thread
	moved   bool // its root is not where new ones go
}

func (s *slackSink) placeOf(ref map[string]string) slackPlace {
	p := slackPlace{channel: cmp.Or(ref[slackChannel], s.options.Channel), below: true}
	p.moved = cmp.Or(ref[slackFor], ref[slackChannel], s.options.Channel) != s.options.Channel
	return p
}

// lost reports whether an answer of Slack means that the message has nowhere to
// go, and not the app: a new one may.
func (p slackPlace) lost(code string) bool {
	switch code {
	case "restricted_action_thread_locked", "restricted_action_non_threadable_channel":
		return p.below
	case "channel_not_found", "not_in_channel", "is_archived":
		return p.moved
	}
	return p.moved && strings.HasPrefix(code, "restricted_action")
}

// call sends one message. If Slack does not like its blocks it goes without
// them: plain words beat none.
func (s *slackSink) call(ctx context.Context, at slackPlace, c slackContent, how ...slack.MsgOption) (Receipt, error) {
	r, code, err := s.once(ctx, at, append(how, c.option()))
	if strings.Contains(code, "blocks") {
		c.blocks = nil
		r, _, err = s.once(ctx, at, append(how, c.option()))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// once makes one request; code is Slack's word for why it was refused.
func (s *slackSink) once(ctx context.Context, at slackPlace, options []slack.MsgOption) (Receipt, string, *Error) {
	x := &exchange{client: s.http, most: maxEcho} // it says what it stored
	api := slack.New(s.options.Token, slack.OptionHTTPClient(x), slack.OptionAPIURL(s.options.APIURL))
	options = append(options, slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl())
	in, ts, _, err := api.SendMessageContext(ctx, at.channel, options...)
	if err == nil && ts != "" {
		return Receipt{slackChannel: in, slackTS: ts, slackFor: s.options.Channel}, "", nil
	}
	if e := x.failure(err, s.options.Token); e != nil {
		return nil, "", e
	}
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(x.body), &answer) != nil || answer.Error == "" {
		return nil, "", x.stranger("Slack")
	}
	code := redactText(answer.Error, s.options.Token)
	e := slackRefusal(code, at.channel)
	if e.Reason == ReasonAuth && at.lost(code) {
		e.Reason = ReasonGone
	}
	e.RetryAfter = retryAfter(x.header, time.Now())
	return nil, code, e
}

func slackGone(why string) *Error { return &Error{Reason: ReasonGone, Err: errors.New(why)} }

// slackRefusal turns Slack's word for an error into an [Error] that says what
// to do. The words are those of the reference of chat.postMessage and
// chat.update.
func slackRefusal(code, channel string) *Error {
	reason, text := ReasonAuth, ""
	switch code {
	case "invalid_auth", "not_authed", "not_allowed_token_type":
		text = "Slack does not accept the token; put the Bot User OAuth Token of the app into its file"
	case "token_revoked", "token_expired", "account_inactive":
		text = "the token is no longer valid; install the app again and put its new token into the file"
	case "missing_scope", "no_permission", "access_denied", "team_access_not_granted", "org_login_required", "ekm_access_denied":
		text = "the app may not write; give it the scope chat:write and install it again"
	case "channel_not_found":
		text = "Slack finds no channel " + channel + "; check its ID, and invite the app there if it is private"
	case "not_in_channel":
		text = "the app is not in channel " + channel + "; invite the app there with /invite"
	case "is_archived":
		text = "channel " + channel + " is archived; bring it back or name another"
	case "message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found":
		reason, text = ReasonGone, "the message cannot be edited or answered any more; a new one takes its place"
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		reason, text = ReasonRateLimited, "Slack wants fewer messages"
	case "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org":
		reason, text = ReasonServer, "Slack has a fault of its own"
	default:
		reason, text = ReasonClient, "Slack does not take this message"
		if strings.HasPrefix(code, "restricted_action") {
			reason, text = ReasonAuth, "the workspace does not let the app write to channel "+channel+"; ask its owners"
		}
	}
	return &Error{Reason: reason, Err: fmt.Errorf("%s (%s)", text, code)}
}

// slackMention turns who is to be called into Slack's markup. It takes that
// markup, too.
func slackMention(who string) (string, error) {
	id := strings.TrimSpace(who)
	id = strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(id, "<"), ">"), "!subteam^")
	id = strings.TrimLeft(id, "@!")
	switch {
	case id == "":
		return "", nil
	case id == "here" || id == "channel" || id == "everyone":
		return "<!" + id + ">", nil
	case !slackID(id):
	case id[0] == 'U' || id[0] == 'W':
		return "<@" + id + ">", nil
	case id[0] == 'S':
		return "<!subteam^" + id + ">", nil
	}
	return "", fmt.Errorf("slack: mention %q is neither the ID of a user (U0123ABCD) or group (S0123ABCD) nor here, channel or everyone; Slack shows IDs in a profile's menu", who)
}

func slackID(s string) bool {
	for _, r := range s {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return false
		}
	}
	return len(s) > 1
}
