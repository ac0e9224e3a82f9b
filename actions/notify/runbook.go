package notify

import (
	"net/url"
	"strings"
)

// LabelRunbook is the label of a container that names a page about it: what to
// do when it fails.
const LabelRunbook = "defib.runbook"

const linkMost = 300 // bytes

// runbook adds the page about a container. Whoever runs containers writes the
// label, so only what is surely a link becomes one, and anything else is text
// like what a container says.
func (w *wordSet) runbook(t *Text, label string) {
	value := fit(Clean(strings.TrimSpace(label)))
	if value == "" {
		return
	}
	if link := checkedLink(value); link != "" {
		t.Link = Field{w.phrases["link.runbook"], link}
		return
	}
	t.Lead = append(t.Lead, w.say("link.text", "x", value))
}

// checkedLink returns an address of the web that means nothing else to any
// service, or nothing.
func checkedLink(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Opaque != "" {
		return ""
	}
	link := strings.ReplaceAll(u.String(), "@", "%40") // it calls people anywhere in a text
	if len(link) > linkMost || strings.IndexFunc(link, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>|\"'`()[]{}\\^*", r) }) >= 0 {
		return ""
	}
	return link
}
