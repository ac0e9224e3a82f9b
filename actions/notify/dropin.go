package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// This file speaks as autoheal (github.com/willfarrell/docker-autoheal) does, to
// whoever replaced it by defib and has something that waits for its sentences.

// DropInOptions says where autoheal's sentences go.
type DropInOptions struct {
	URL  string       // WEBHOOK_URL or APPRISE_URL
	Key  string       // WEBHOOK_JSON_KEY; empty: "text" for Slack, else "content", as autoheal's image has it
	HTTP *http.Client // nil: one with a deadline
}

// dropIn posts one flat JSON object of strings.
type dropIn struct {
	url     string
	body    func(sentence string) map[string]string
	secrets []string
	http    *http.Client
}

// NewAutohealWebhook returns the sink of WEBHOOK_URL.
func NewAutohealWebhook(o DropInOptions) (Sink, error) {
	u, err := webURL("WEBHOOK_URL", o.URL)
	if err != nil {
		return nil, err
	}
	key := o.Key
	if key == "" {
		key = webhookField(u)
	}
	return newDropIn(u, o.HTTP, func(s string) map[string]string { return map[string]string{key: s} }), nil
}

// NewApprise returns the sink of APPRISE_URL.
func NewApprise(o DropInOptions) (Sink, error) {
	u, err := webURL("APPRISE_URL", o.URL)
	if err != nil {
		return nil, err
	}
	return newDropIn(u, o.HTTP, func(s string) map[string]string { return map[string]string{"title": "Autoheal", "body": s} }), nil
}

func newDropIn(u *url.URL, c *http.Client, body func(string) map[string]string) *dropIn {
	return &dropIn{url: u.String(), body: body, secrets: keyParts(u), http: httpClient(c)}
}

func webhookField(u *url.URL) string {
	if host := u.Hostname(); host == "hooks.slack.com" || strings.HasSuffix(host, ".slack.com") {
		return "text"
	}
	return "content"
}

// Class is [DropIn].
func (d *dropIn) Class() Class { return DropIn }

// Send posts autoheal's sentence about the newest repair, or nothing when that
// was told, or is not over. The receipt says what was told.
func (d *dropIn) Send(ctx context.Context, m Message) (Receipt, error) {
	sentence, told := dropInSentence(m)
	if sentence == "" {
		return told, ErrNothing
	}
	body, err := json.Marshal(d.body(sentence))
	if err != nil {
		return nil, fmt.Errorf("encode the sentence: %w", err)
	}
	if _, e := postJSON(ctx, d.http, d.url, nil, body, d.secrets...); e != nil {
		return nil, e
	}
	return told, nil
}

// The keys of a drop-in's receipt.
const (
	dropIncident = "incident" // which it is about, and when it began …
	dropRepair   = "repair"   // … when the newest repair began that was told …
	dropPage     = "page"     // … and that it was told that somebody is needed
)

// dropInSentence is what there is to say now, and what will have been told then.
// autoheal speaks of restarts only. What needs somebody is told in our own words
// all the same, since there may be no other channel, and so is its end.
func dropInSentence(m Message) (string, Receipt) {
	in := &m.Story.Incident
	if m.Kind == KindTest {
		return dropInTitle(m), nil
	}
	about := in.ID + " " + in.Opened.UTC().Format(time.RFC3339Nano) // IDs are given anew when the journal begins anew
	told := Receipt{dropIncident: about}
	if m.Ref[dropIncident] == about {
		told = maps.Clone(m.Ref)
	}
	needs := in.Closed.IsZero() && (in.NeedsYou || in.Level == policy.LevelPage)
	r, over := newestRepair(in)
	began := r.began.UTC().Format(time.RFC3339Nano)
	switch {
	case over && began != told[dropRepair]:
		told[dropRepair] = began
		if needs {
			told[dropPage] = "repair"
		}
		return autohealSentence(m, r.helped), told
	case needs && told[dropPage] == "":
		told[dropPage] = "title"
		return dropInTitle(m), told
	case !in.Closed.IsZero() && told[dropPage] == "title":
		told[dropPage] = "end"
		return dropInTitle(m), told
	}
	return "", told
}

// dropInTitle is bounded as chats bound their messages.
func dropInTitle(m Message) string { return Markdown(cutRunes(Clean(m.Text.Title), 300)) }

// repair is one restart or start of ours, and whether it helped.
type repair struct {
	began  time.Time
	helped bool
}

// newestRepair is the newest repair that is over, if there is one: the container
// came up, the repair failed, another one followed, or defib gave up.
func newestRepair(in *policy.Incident) (newest repair, ok bool) {
	var at time.Time // of one that is under way
	settle := func(helped bool) { newest, ok, at = repair{at, helped}, true, time.Time{} }
	for _, s := range in.Steps {
		act := strings.HasPrefix(s.Text, "restart: ") || strings.HasPrefix(s.Text, "start: ")
		switch {
		case at.IsZero():
		case s.Rule == "ready":
			settle(true)
		case act, strings.HasSuffix(s.Rule, "_failed"), slices.Contains([]string{"gave_up", "crash_loop", "never_passed"}, s.Rule):
			settle(false)
		}
		if act {
			at = s.At
		}
	}
	if !at.IsZero() && in.End == "recovered" {
		settle(true)
	}
	return newest, ok
}

// autohealSentence is word for word what autoheal's script posts.
func autohealSentence(m Message, helped bool) string {
	id := "unknown"
	if m.Story.Unit != nil && m.Story.Unit.Container != "" {
		id = m.Story.Unit.Container[:min(12, len(m.Story.Unit.Container))]
	}
	// What autoheal posts into is unknown: a chat, mostly.
	begin := fmt.Sprintf("Container %s (%s) found to be unhealthy. ", Markdown(cutRunes(Clean(m.Story.Incident.Name), 200)), Markdown(Clean(id)))
	if helped {
		return begin + "Successfully restarted the container!"
	}
	return begin + "Failed to restart the container!"
}
