package notify

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/googlechat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/lark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/signal"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/wecom"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/zulip"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/opsgenie"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/bark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushbullet"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/sms/twilio"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// scheme is what must be known of a service to send exactly one message that
// it takes, which calls nobody that a container names.
type scheme struct {
	make   func() types.Service
	budget int                 // bytes of the message, without a title of its own
	title  int                 // bytes of a title of its own; 0: it has none, the title is the first line
	escape func(string) string // nil: [Plain]
	params map[string]string   // how the text is to be read, whatever the URL says
	drop   []string            // settings of a URL that would change that, or make several messages
	loud   map[string]string   // settings when it needs somebody, unless the URL has them
	calls  []string            // settings of a URL that call people: kept when it needs somebody
	pace   int                 // messages per minute; 0: no limit of ours
	once   bool                // each message makes an alert that it cannot end: it is not reminded, and hears of no end and no start

	mention   func(string) string // how its text calls somebody, "" for who it cannot be; nil: nobody can be called in it
	mentioned string              // how a mention looks, for people
	noTitle   bool                // a mention calls nobody in a message with a title of its own
	codes     *bodyCodes          // of a service that answers 200 to everything
	header    string              // that carries the key, which is the URL's host: shoutrrr loses it with a client of ours
	local     string              // path of a question that is answered here: what it asks is known
}

// schemes are the services, by the scheme of their URLs. The budgets leave room
// below each limit for what JSON and shoutrrr add. Limits: Discord 2,000
// characters, Google Chat, ntfy, Telegram and Bark 4,096 bytes (ntfy makes more
// than that an attachment, Apple refuses it), Feishu 4,096 (shoutrrr's), WeCom
// 2,048, Mattermost 4,000 and Rocket.Chat 5,000 characters by default, Pushover
// 1,024, Zulip 10,000, an SMS of Twilio 1,600, Teams 28 KiB, Opsgenie 15,000;
// Signal cuts at 2,000.
func schemes() map[string]scheme {
	all := chatSchemes()
	maps.Copy(all, pushSchemes())
	return all
}

func chatSchemes() map[string]scheme {
	return map[string]scheme{
		"discord": {
			make: func() types.Service { return &discord.Service{} }, budget: 1900, escape: Discord,
			drop: []string{"title", "splitlines", "json"}, params: map[string]string{"splitlines": "No"},
			mention: discordMention, mentioned: "<@&ID> of a role, <@ID> of a user, or here",
		},
		"googlechat": {make: func() types.Service { return &googlechat.Service{} }, budget: 4000, escape: Markdown, mention: googleChatMention, mentioned: "users/ID or all"},
		"lark": {
			make: func() types.Service { return &lark.Service{} }, budget: 4096, title: 200, escape: Feishu, pace: 90, codes: larkCodes(),
			mention: feishuMention, mentioned: "an open ID (ou_…) or all", noTitle: true,
		},
		"matrix":     {make: func() types.Service { return &matrix.Service{} }, budget: 8000, escape: Markdown, drop: []string{"title"}},
		"mattermost": {make: func() types.Service { return &mattermost.Service{} }, budget: 3900, escape: Markdown, drop: []string{"title"}, mention: mattermostMention, mentioned: "a name, channel or here"},
		"rocketchat": {make: func() types.Service { return &rocketchat.Service{} }, budget: 4000, escape: Markdown},
		"signal":     {make: func() types.Service { return &signal.Service{} }, budget: 1900},
		"teams":      {make: func() types.Service { return &teams.Service{} }, budget: 8000, title: 200, escape: Markdown},
		"telegram": {
			make: func() types.Service { return &telegram.Service{} }, budget: 3800, title: 200, escape: unnamed,
			drop: []string{"parsemode", "preview"}, params: map[string]string{"parsemode": "None", "preview": "No"},
			mention: telegramMention, mentioned: "@name, the public name of a user",
		},
		"wecom": {
			make: func() types.Service { return &wecom.Service{} }, budget: 2048, escape: WeCom, pace: 18, codes: wecomCodes(),
			calls: []string{"mentioned_list", "mentioned_mobile_list"},
		},
		"zulip": {make: func() types.Service { return &zulip.Service{} }, budget: 9000, escape: Markdown, drop: []string{"title"}, local: "/api/v1/register"},
	}
}

func pushSchemes() map[string]scheme {
	return map[string]scheme{
		"bark":       {make: func() types.Service { return &bark.Service{} }, budget: 2500, title: 200},
		"generic":    {make: func() types.Service { return &generic.Service{} }, budget: 8000, title: 200, escape: Markdown},
		"gotify":     {make: func() types.Service { return &gotify.Service{} }, budget: 8000, title: 200, drop: []string{"extras"}, loud: map[string]string{"priority": "8"}},
		"ntfy":       {make: func() types.Service { return &ntfy.Service{} }, budget: 3900, title: 200, drop: []string{"markdown"}, loud: map[string]string{"priority": "High"}},
		"opsgenie":   {make: func() types.Service { return &opsgenie.Service{} }, budget: 8000, title: 120, once: true},
		"pushbullet": {make: func() types.Service { return &pushbullet.Service{} }, budget: 4000, title: 200, header: "Access-Token"},
		"pushover":   {make: func() types.Service { return &pushover.Service{} }, budget: 1000, title: 200, loud: map[string]string{"priority": "1"}},
		"twilio":     {make: func() types.Service { return &twilio.Service{} }, budget: 480, drop: []string{"title"}},
	}
}

// larkCodes are those of open.feishu.cn for custom robots: 19001 an unknown
// token, 19021 the signature, 19022 the address of the sender, 19024 the
// keyword; 11232 and 11233 too many messages.
func larkCodes() *bodyCodes {
	return &bodyCodes{field: "code", text: "msg", auth: []int{19001, 19021, 19022, 19024}, limited: []int{11232, 11233}, busy: []int{11247}}
}

// wecomCodes are those of developer.work.weixin.qq.com: 93000 and 40008 an
// address that is not one, 45009 and 45033 too many messages, -1 busy.
func wecomCodes() *bodyCodes {
	return &bodyCodes{field: "errcode", text: "errmsg", auth: []int{93000, 93004, 40008, 40014}, limited: []int{45009, 45033}, wait: time.Minute, busy: []int{-1}}
}

// unnamed keeps @name from calling somebody in a text without markup; Telegram
// escapes the rest itself.
func unnamed(s string) string { return strings.ReplaceAll(Plain(s), "@", "@"+joiner) }

// compose returns the message, and the title where it goes on its own. The
// mention is what calls somebody, in the service's own form.
func (s scheme) compose(t Text, mention string) (message, title string) {
	escape := s.escape
	if escape == nil {
		escape = Plain
	}
	t.Title = Clean(t.Title)
	t = t.Map(escape)
	if s.title > 0 && (mention == "" || !s.noTitle) {
		title = cutBytes(t.Title, s.title)
		if title != "" {
			t.Title = ""
		}
	}
	if mention != "" {
		mention = "\n" + mention
	}
	if message = t.Plain(s.budget - len(mention)); message == "" {
		message = title // no service takes an empty one
	}
	return message + mention, title
}

// without returns the settings of a URL's query that stay; the services read
// their names without regard to case.
func (s scheme) without(query map[string][]string, urgent bool) map[string][]string {
	out := map[string][]string{}
	for name, values := range query {
		lower := strings.ToLower(name)
		if slices.Contains(s.drop, lower) || slices.Contains(s.calls, lower) && !urgent {
			continue
		}
		out[name] = values
	}
	return out
}

// settings are the parameters of one message beside its text.
func (s scheme) settings(query map[string][]string, title string, urgent bool) types.Params {
	p := types.Params{}
	maps.Copy(p, s.params)
	if s.title > 0 && title != "" {
		p["title"] = title
	}
	for name, value := range s.loud {
		if urgent && !hasSetting(query, name) {
			p[name] = value
		}
	}
	return p
}

func hasSetting(query map[string][]string, name string) bool {
	for n := range query {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
