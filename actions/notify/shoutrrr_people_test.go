package notify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shoutrrrMentions are who can be called where, and how that looks there.
func shoutrrrMentions() map[string]struct{ who, text string } {
	return map[string]struct{ who, text string }{
		"discord":    {"<@&42>,here", "<@&42> @here"},
		"googlechat": {"users/7", "<users/7>"},
		"lark":       {"ou_12ab", `<at user_id="ou_12ab"></at>`},
		"mattermost": {"@li,channel", "@li @channel"},
		"telegram":   {"@li_4", "@li_4"},
	}
}

// Who is to be called is called by what needs somebody, by nothing else, and
// once.
func TestShoutrrrMentions(t *testing.T) {
	eachService(t, func(t *testing.T, c shoutrrrCase) {
		name, _, _ := strings.Cut(c.url, ":")
		name, _, _ = strings.Cut(name, "+")
		want, can := shoutrrrMentions()[name]
		f := &fakeService{answer: c.answer}
		s, err := NewShoutrrr(ShoutrrrOptions{URL: c.url, Mention: strings.Split(want.who, ","), HTTP: f.client()})
		if !can {
			if err == nil || !strings.HasPrefix(err.Error(), name+": leave mention out") {
				t.Errorf("it takes a mention: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		calm := gaveUp()
		calm.Text.Urgent = false
		for _, m := range []Message{gaveUp(), hostile(), manyLines(500), calm, resolvedStory()} {
			send(t, s, m)
			body := jsonStrings(t, f.last(t).Body)
			if n, should := strings.Count(body, want.text), strings.Count(fmt.Sprint(m.Text.Urgent), "true"); n != should {
				t.Errorf("it is called %d times, want %d, in\n%s", n, should, body)
			}
		}
	})
	if _, err := NewShoutrrr(ShoutrrrOptions{URL: "smtp://mail.example.org/?from=a@b.org&to=c@d.org", Mention: []string{"li"}}); err == nil {
		t.Error("mail takes a mention")
	}
}

// jsonStrings are the texts of a document, those of Telegram without the
// escapes that it undoes.
func jsonStrings(t *testing.T, body string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	var out []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			out = append(out, v)
		}
	}
	walk(v)
	return strings.Join(out, "\n")
}

func TestShoutrrrMentionsWrong(t *testing.T) {
	for name, wrong := range map[string][]string{
		"discord": {"", "42", "li", "<@&42", "<@li>", "@all"}, "googlechat": {"", "li", "users/li"}, "lark": {"", "li", "ou_<x>", "user_id"},
		"mattermost": {"", "@", "a b", "<@x>"}, "telegram": {"", "42", "@li", "13800000000", "@li li4"}, "wecom": {"li"}, "teams": {"li"},
	} {
		for _, who := range wrong {
			_, err := NewShoutrrr(ShoutrrrOptions{URL: shoutrrrCases()[name].url, Mention: []string{who}})
			if err == nil || !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s calls %q: %v", name, who, err)
			}
		}
	}
	_, err := NewShoutrrr(ShoutrrrOptions{URL: shoutrrrCases()["telegram"].url, Mention: slices.Repeat([]string{"@li_4"}, 500)})
	if err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("of 500 people: %v", err)
	}
}
