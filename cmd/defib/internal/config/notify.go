package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/defib-dev/defib/watcher/policy"
)

// Notify is the section about telling people.
type Notify struct {
	Locale       string // of the words: en or zh
	StartMessage bool   // every channel is told that defib has started
	RemindAfter  time.Duration
	RemindMax    int
	Timezone     string // of the times in messages and of the quiet hours, as Asia/Shanghai; empty: that of the machine
	QuietHours   string // as 23:00-07:00; empty: none
	Templates    string // a directory of templates that replace ours; empty: none
	Channels     []Channel
	Routes       []Route // the first that fits counts; none fits: all channels
	Heartbeat    Heartbeat
}

// Channel is one place where people are told.
type Channel struct {
	Name       string
	Type       string // one of channelTypes
	Token      Secret
	URL        Secret
	Secret     Secret
	RoutingKey Secret
	Channel    string       // of Slack, by ID
	Mention    string       // who is called for a page, in the service's own form; several with commas
	JSONKey    string       // of autoheal's webhook
	Endpoint   string       // of PagerDuty, where it is not the usual one
	APIURL     string       // of Slack, where it is not Slack's own: for proxies and tests
	URLs       []string     // of every Alertmanager
	MinLevel   policy.Level // the least that it is told
}

// Route sends incidents to some channels only. What is empty fits everything.
type Route struct {
	Unit     string // name or key of a container; * stands for any text
	Project  string // of compose; * stands for any text
	Label    string // of the container, as key=value
	Channels []string
}

// Heartbeat is the ping that says that defib lives, for a service that calls
// people when it stays away.
type Heartbeat struct {
	URL   Secret
	Every time.Duration
}

// The types of channels.
const (
	TypeSlack        = "slack"
	TypeSlackWebhook = "slack_webhook"
	TypePagerDuty    = "pagerduty"
	TypeAlertmanager = "alertmanager"
	TypeDingTalk     = "dingtalk"
	TypeWebhook      = "webhook"
	TypeShoutrrr     = "shoutrrr"
	TypeAutoheal     = "autoheal" // what its WEBHOOK_URL gets
	TypeApprise      = "apprise"  // what its APPRISE_URL gets
)

// channelType says what a channel of one type takes.
type channelType struct {
	name  string
	level policy.Level // if min_level does not say
	needs []string     // each of them, or one of those separated by |
	takes []string     // besides
}

func channelTypes() []channelType {
	return []channelType{
		{TypeSlack, policy.LevelWarn, []string{"token", "channel"}, []string{"mention", "api_url"}},
		{TypeSlackWebhook, policy.LevelWarn, []string{"url"}, []string{"mention"}},
		{TypePagerDuty, policy.LevelPage, []string{"routing_key"}, []string{"endpoint"}},
		{TypeAlertmanager, policy.LevelPage, []string{"urls|url"}, nil},
		{TypeDingTalk, policy.LevelWarn, []string{"url"}, []string{"secret", "mention"}},
		{TypeWebhook, policy.LevelInfo, []string{"url"}, []string{"secret"}},
		{TypeShoutrrr, policy.LevelWarn, []string{"url"}, []string{"mention"}},
		{TypeAutoheal, policy.LevelInfo, []string{"url"}, []string{"json_key"}},
		{TypeApprise, policy.LevelInfo, []string{"url"}, nil},
	}
}

func typeNames() []string {
	var out []string
	for _, t := range channelTypes() {
		out = append(out, t.name)
	}
	return out
}

// typeOf looks a type up; false when there is no such one.
func typeOf(name string) (channelType, bool) {
	for _, t := range channelTypes() {
		if t.name == name {
			return t, true
		}
	}
	return channelType{}, false
}

func defaultNotify() Notify {
	return Notify{
		Locale: "en", RemindAfter: 30 * time.Minute, RemindMax: 3,
		Heartbeat: Heartbeat{Every: time.Minute},
	}
}

// fields lists every key of the section.
func (n *Notify) fields() []field {
	return append([]field{
		{"notify.locale", &choice{&n.Locale, []string{"en", "zh"}}},
		{"notify.start_message", &n.StartMessage},
		{"notify.remind_after", &n.RemindAfter},
		{"notify.remind_max", &n.RemindMax},
		{"notify.timezone", &n.Timezone},
		{"notify.quiet_hours", &n.QuietHours},
		{"notify.templates", &n.Templates},
		{"notify.channels", &rows[Channel]{&n.Channels, (*Channel).fields}},
		{"notify.routes", &rows[Route]{&n.Routes, (*Route).fields}},
	}, n.Heartbeat.fields()...)
}

// Zone is the time zone of the messages. Its error says what to do.
func (n Notify) Zone() (*time.Location, error) { return zone(n.Timezone, time.LoadLocation) }

func zone(name string, load func(string) (*time.Location, error)) (*time.Location, error) {
	if name == "" {
		return time.Local, nil
	}
	at, err := load(name)
	if err == nil {
		return at, nil
	}
	if _, err := load("Asia/Shanghai"); err != nil {
		return nil, fmt.Errorf("%q needs the data of time zones, which is not on this machine; install the package tzdata or mount /usr/share/zoneinfo into the container of defib, or leave it out", clip(name))
	}
	return nil, fmt.Errorf("there is no time zone %q; want a name such as Asia/Shanghai, or UTC", clip(name))
}

func (h *Heartbeat) fields() []field {
	out := secretFields("notify.heartbeat.url", &h.URL)
	return append(out, field{"notify.heartbeat.every", &h.Every})
}

// namedSecret is one of a channel's secrets, with its key without _file.
type namedSecret struct {
	name string
	at   *Secret
}

func (c *Channel) secrets() []namedSecret {
	return []namedSecret{{"token", &c.Token}, {"url", &c.URL}, {"secret", &c.Secret}, {"routing_key", &c.RoutingKey}}
}

func (c *Channel) fields() []field {
	out := []field{
		{"name", &c.Name},
		{"type", &choice{&c.Type, typeNames()}},
		{"min_level", &choice{(*string)(&c.MinLevel), levels()}},
	}
	for _, s := range c.secrets() {
		out = append(out, secretFields(s.name, s.at)...)
	}
	return append(out,
		field{"channel", &c.Channel}, field{"mention", &c.Mention},
		field{"json_key", &c.JSONKey}, field{"endpoint", &c.Endpoint},
		field{"api_url", &c.APIURL}, field{"urls", (*words)(&c.URLs)})
}

func levels() []string {
	return []string{string(policy.LevelInfo), string(policy.LevelWarn), string(policy.LevelPage)}
}

func (r *Route) fields() []field {
	return []field{
		{"unit", &r.Unit},
		{"project", &r.Project},
		{"label", &r.Label},
		{"channels", (*words)(&r.Channels)},
	}
}

// choice is a word out of a few.
type choice struct {
	dst   *string
	words []string
}

func assignChoice(c *choice, n ast.Node) string {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return fmt.Sprintf("want %s, have %s", orList(c.words), have(n))
	}
	for _, w := range c.words {
		if s.Value == w {
			*c.dst = w
			return ""
		}
	}
	return fmt.Sprintf("want %s, have %s", orList(c.words), have(n)) + meant(s.Value, c.words)
}

// orList joins words as a sentence has them: a, b or c.
func orList(list []string) string {
	last := len(list) - 1
	if last < 1 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// words is a list of texts, in which nothing is a pattern.
type words []string

func assignWords(dst *words, n ast.Node) string {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return "want a list such as [\"first\", \"second\"], have " + have(n)
	}
	out := words{}
	for _, v := range seq.Values {
		var s string
		if text := assignString(&s, v); text != "" {
			return text
		}
		out = append(out, s)
	}
	*dst = out
	return ""
}
