package notify

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// shoutrrrPings are what would call somebody in the text of each service.
func shoutrrrPings() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"discord":    regexp.MustCompile(`@everyone|@here|<@[!&]?[0-9]`),
		"googlechat": regexp.MustCompile(`<users/`),
		"lark":       regexp.MustCompile(`(?i)<at\b`),
		"matrix":     regexp.MustCompile(`@\w`),
		"mattermost": regexp.MustCompile(`@\w|<!`),
		"rocketchat": regexp.MustCompile(`@\w`),
		"teams":      regexp.MustCompile(`(?i)<at\b`),
		"telegram":   regexp.MustCompile(`@\w`),
		"wecom":      regexp.MustCompile(`<@`),
		"zulip":      regexp.MustCompile(`@_?\*|@\w`),
		"generic":    regexp.MustCompile(`@\w|<[@!/a-zA-Z]`), // it may be any of them
	}
}

func FuzzShoutrrrText(f *testing.F) {
	for _, s := range hostileLines() {
		f.Add(s, s, s)
	}
	known, pings, who := schemes(), shoutrrrPings(), shoutrrrMentions()
	f.Fuzz(func(t *testing.T, title, line, foot string) {
		text := Text{Title: title, Lead: []string{line}, Fields: []Field{{line, foot}}, Steps: []string{foot}, Logs: []string{line, line}, Foot: foot}
		for name, s := range known {
			for _, mention := range []string{"", who[name].text} {
				message, head := s.compose(text, mention)
				if len(message) > max(s.budget, s.title) || len(head) > s.title || strings.Contains(head, "\n") {
					t.Errorf("%s: %d bytes of message, title %q", name, len(message), head)
				}
				if !utf8.ValidString(message + head) {
					t.Errorf("%s: not UTF-8: %q", name, message+head)
				}
				rest, called := strings.CutSuffix(message, mention)
				if !called {
					t.Errorf("%s: %q does not end with its mention", name, message)
				}
				if p := pings[name]; p != nil && p.MatchString(rest+"\n"+head) {
					t.Errorf("%s: %q survives in %q", name, p.FindString(rest+"\n"+head), rest+"\n"+head)
				}
			}
		}
	})
}
