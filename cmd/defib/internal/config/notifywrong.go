package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/actions/notify"
)

const (
	leastRemind    = time.Minute
	leastHeartbeat = 10 * time.Second
	maxName        = 40 // characters of a channel's name
)

// complaints gathers what is wrong in meaning.
type complaints struct{ list []Problem }

func (c *complaints) say(key, format string, args ...any) {
	c.list = append(c.list, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

// wrong lists what is right in form and wrong in meaning.
func (n *Notify) wrong() []Problem {
	var c complaints
	if n.RemindAfter < leastRemind {
		c.say("notify.remind_after", "%v must be at least %v; to have no reminders set remind_max: 0", n.RemindAfter, leastRemind)
	}
	if n.RemindMax < 0 {
		c.say("notify.remind_max", "%d must be at least 0", n.RemindMax)
	}
	if _, err := n.Zone(); err != nil {
		c.say("notify.timezone", "%v", err)
	}
	if _, err := notify.ParseQuiet(n.QuietHours, nil); err != nil {
		c.say("notify.quiet_hours", "want two times of day that differ, such as 23:00-07:00, have %q", clip(n.QuietHours))
	}
	if n.Templates != "" && !filepath.IsAbs(n.Templates) {
		c.say("notify.templates", "want a directory that begins with /, have %q", clip(n.Templates))
	}
	first := map[string]int{}
	for i := range n.Channels {
		key := fmt.Sprintf("notify.channels[%d]", i)
		n.Channels[i].wrong(&c, key)
		if was, twice := first[n.Channels[i].Name]; twice && n.Channels[i].Name != "" {
			c.say(key+".name", "is the name of channel %d, too; give each its own", was+1)
			continue
		}
		first[n.Channels[i].Name] = i
	}
	for i, r := range n.Routes {
		n.wrongRoute(&c, fmt.Sprintf("notify.routes[%d]", i), r)
	}
	n.Heartbeat.wrong(&c)
	return c.list
}

func (h Heartbeat) wrong(c *complaints) {
	if h.URL.File != "" && h.URL.Env != "" {
		c.say("notify.heartbeat.url_env", "url_file is set, too; keep one of them")
	}
	if h.Every < leastHeartbeat {
		c.say("notify.heartbeat.every", "%v must be at least %v", h.Every, leastHeartbeat)
	}
}

func (ch *Channel) wrong(c *complaints, key string) {
	switch {
	case ch.Name == "":
		c.say(key, "has no name; add name: and a word of your choice")
	case !isName(ch.Name):
		c.say(key+".name", "want at most %d letters, digits, dashes, dots and underscores", maxName)
	}
	t, known := typeOf(ch.Type)
	if !known { // a wrong one was told before
		c.say(key, "has no type; add type: with %s", orList(typeNames()))
		return
	}
	if ch.MinLevel == "" {
		ch.MinLevel = t.level
	}
	given := ch.given()
	for _, need := range t.needs {
		some := strings.Split(need, "|")
		if !slices.ContainsFunc(some, func(name string) bool { return slices.Contains(given, name) }) {
			c.say(key, "a channel of type %s needs %s", ch.Type, needText(some[0]))
		}
	}
	for _, name := range given {
		if !slices.Contains(t.takes, name) && !slices.ContainsFunc(t.needs, func(need string) bool { return slices.Contains(strings.Split(need, "|"), name) }) {
			c.say(ch.keyOf(key, name), "a channel of type %s takes no %s", ch.Type, name)
		}
	}
	for _, s := range ch.secrets() {
		if s.at.File != "" && s.at.Env != "" {
			c.say(key+"."+s.name+"_env", "%s_file is set, too; keep one of them", s.name)
		}
	}
	ch.wrongURLs(c, key)
}

// given lists what is set of a channel, secrets without _file and _env.
func (ch *Channel) given() []string {
	var out []string
	for _, s := range ch.secrets() {
		if s.at.Given() {
			out = append(out, s.name)
		}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"channel", ch.Channel != ""},
		{"mention", ch.Mention != ""},
		{"json_key", ch.JSONKey != ""},
		{"endpoint", ch.Endpoint != ""},
		{"api_url", ch.APIURL != ""},
		{"urls", len(ch.URLs) > 0},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

// keyOf is the key of the file that set one of given.
func (ch *Channel) keyOf(key, name string) string {
	for _, s := range ch.secrets() {
		switch {
		case s.name != name:
		case s.at.File != "":
			return key + "." + name + "_file"
		default:
			return key + "." + name + "_env"
		}
	}
	return key + "." + name
}

func needText(name string) string {
	switch name {
	case "channel":
		return "channel, the ID that begins with C"
	case "urls":
		return "urls, such as [\"http://127.0.0.1:9093\"]"
	}
	return name + "_file or " + name + "_env"
}

// wrongURLs checks addresses that are no secrets.
func (ch *Channel) wrongURLs(c *complaints, key string) {
	check := func(name, text, example, otherwise string) {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			c.say(key+"."+name, "want an address such as %s", example)
		case u.User != nil:
			c.say(key+"."+name, "a password never stands in this file%s", otherwise)
		}
	}
	for _, text := range ch.URLs {
		check("urls", text, "http://127.0.0.1:9093", "; put the address into a file of its own and name that by url_file")
	}
	if ch.Endpoint != "" {
		check("endpoint", ch.Endpoint, "https://events.eu.pagerduty.com", "")
	}
	if ch.APIURL != "" {
		check("api_url", ch.APIURL, "https://slack.com/api", "")
	}
}

func isName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	return len(s) <= maxName && strings.Trim(s, letters+strings.ToUpper(letters)+"0123456789-._") == ""
}

func (n *Notify) wrongRoute(c *complaints, key string, r Route) {
	if len(r.Channels) == 0 {
		c.say(key, "names no channels; add channels: [\"name\"]")
	}
	var names []string
	for _, ch := range n.Channels {
		names = append(names, ch.Name)
	}
	for _, name := range r.Channels {
		if !slices.Contains(names, name) {
			c.say(key+".channels", "there is no channel %q%s", clip(name), meant(name, names))
		}
	}
	if k, _, ok := strings.Cut(r.Label, "="); r.Label != "" && (!ok || k == "") {
		c.say(key+".label", "want a label such as team=search, have %q", clip(r.Label))
	}
}
