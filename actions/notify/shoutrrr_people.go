package notify

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushbullet"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/sms/twilio"
)

// This file knows to whom a URL of shoutrrr leads, and how somebody is called
// in the text of each service.

// checkRecipients wants one message to be one request. Of several, the one that
// fails would have the message sent to the others again and again.
func checkRecipients(name string, u *url.URL) error {
	what, n := recipients(name, u)
	switch {
	case what == "" || n == 1:
		return nil
	case n == 0 && name == "matrix":
		return errors.New("matrix: name one room by rooms=; without it the message goes to every room that the robot is in")
	case n == 0:
		return nil // shoutrrr says so itself
	}
	return fmt.Errorf("%s: the URL names %d %s; give each a channel of its own, or the failure of one has the others told again and again", name, n, what)
}

// recipients are those to which shoutrrr makes a request each. The errors of
// URLs are found elsewhere.
func recipients(name string, u *url.URL) (what string, n int) {
	at := *u
	switch name {
	case "telegram":
		var c telegram.Config
		_ = c.SetURL(&at)
		return "chats", len(c.Chats)
	case "matrix":
		var c matrix.Config
		_ = c.SetURL(&at)
		return "rooms", len(c.Rooms)
	case "twilio":
		var c twilio.Config
		_ = c.SetURL(&at)
		return "numbers", len(c.ToNumbers)
	case "pushbullet":
		var c pushbullet.Config
		_ = c.SetURL(&at)
		return "devices", len(c.Targets)
	}
	return "", 0
}

// mentions returns what calls some people in the text of a service.
func (s scheme) mentions(name string, who []string) (string, error) {
	var out []string
	for _, one := range who {
		if s.mention == nil {
			return "", noMention(name)
		}
		text := s.mention(strings.TrimSpace(one))
		if text == "" {
			return "", fmt.Errorf("%s: nobody is called by the mention %q; write it as %s", name, cutRunes(Clean(one), 40), s.mentioned)
		}
		out = append(out, text)
	}
	all := strings.Join(out, " ")
	if len(all) > s.budget/4 {
		return "", fmt.Errorf("%s: the mention calls too many people; name a group of them", name)
	}
	return all, nil
}

func noMention(name string) error {
	if name == "wecom" {
		return errors.New("wecom: leave mention out, and put mentioned_list=NAME or mentioned_mobile_list=NUMBER into the URL")
	}
	return fmt.Errorf("%s: leave mention out; in what this service is sent nobody can be called", name)
}

// discordMention takes Discord's own form, since a bare number may be a user's
// or a role's, and the words that call everybody.
func discordMention(who string) string {
	if word := strings.TrimPrefix(who, "@"); word == "here" || word == "everyone" {
		return "@" + word
	}
	id, ok := strings.CutPrefix(strings.TrimSuffix(who, ">"), "<@")
	if !ok || !strings.HasSuffix(who, ">") || !digits(strings.TrimLeft(id, "!&")) || len(id) > 24 {
		return ""
	}
	return who
}

// telegramMention: a user's public name calls them in plain text.
func telegramMention(who string) string {
	name := strings.TrimPrefix(who, "@")
	if len(name) < 4 || len(name) > 32 || !isWord(name, "_") || digits(name[:1]) {
		return ""
	}
	return "@" + name
}

// mattermostMention: names call as they do when people write them.
func mattermostMention(who string) string {
	name := strings.TrimPrefix(who, "@")
	if name == "" || len(name) > 64 || !isWord(name, "_-.") {
		return ""
	}
	return "@" + name
}

// feishuMention is a tag of messages of the type text.
func feishuMention(who string) string {
	openID := strings.HasPrefix(who, "ou_") && isWord(who, "_") && len(who) <= 64
	if who != "all" && !openID {
		return ""
	}
	return `<at user_id="` + who + `"></at>`
}

func googleChatMention(who string) string {
	id := strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(who, "<"), ">"), "users/")
	if id != "all" && !digits(id) || len(id) > 32 {
		return ""
	}
	return "<users/" + id + ">"
}

// isWord: letters, digits and some marks.
func isWord(s, marks string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	return s != "" && strings.Trim(s, letters+strings.ToUpper(letters)+"0123456789"+marks) == ""
}
