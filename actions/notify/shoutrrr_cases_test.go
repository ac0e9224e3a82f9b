package notify

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// shoutrrrCase is one service: how its URL looks, and where in a request its
// text is.
type shoutrrrCase struct {
	url     string
	secrets []string
	to      string // the address of the request
	text    func(t *testing.T, r gotRequest) (title, message string)
	answer  string
	most    int // bytes of the message
}

func jsonText(title, message string) func(*testing.T, gotRequest) (string, string) {
	return func(t *testing.T, r gotRequest) (string, string) {
		t.Helper()
		var body any
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			t.Fatalf("the body is not JSON: %v\n%s", err, r.Body)
		}
		return dig(body, title), dig(body, message)
	}
}

// dig follows a path of keys; "0" is the first of a list.
func dig(v any, path string) string {
	if path == "" {
		return ""
	}
	for key := range strings.SplitSeq(path, ".") {
		if list, ok := v.([]any); ok {
			if len(list) == 0 {
				return ""
			}
			v = list[0]
			continue
		}
		object, _ := v.(map[string]any)
		v = object[key]
	}
	s, _ := v.(string)
	return s
}

func formText(title, message string) func(*testing.T, gotRequest) (string, string) {
	return func(t *testing.T, r gotRequest) (string, string) {
		t.Helper()
		form, err := url.ParseQuery(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return form.Get(title), form.Get(message)
	}
}

// teamsText joins the blocks of the card: its title, then its lines.
func teamsText(t *testing.T, r gotRequest) (string, string) {
	t.Helper()
	var body struct {
		Attachments []struct {
			Content struct {
				Body []struct {
					Text string `json:"text"`
				} `json:"body"`
			} `json:"content"`
		} `json:"attachments"`
	}
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, b := range body.Attachments[0].Content.Body {
		lines = append(lines, b.Text)
	}
	return lines[0], strings.Join(lines[1:], "\n")
}

// telegramText undoes shoutrrr's own HTML: a bold title, then the message.
func telegramText(t *testing.T, r gotRequest) (string, string) {
	t.Helper()
	_, text := jsonText("", "text")(t, r)
	title, message, ok := strings.Cut(strings.TrimPrefix(text, "<b>"), "</b>\n")
	if !ok {
		t.Fatalf("no bold title in %q", text)
	}
	for _, s := range []string{title, message} {
		if strings.ContainsAny(s, "<>") {
			t.Errorf("markup in %q", s)
		}
	}
	return title, message
}

func shoutrrrCases() map[string]shoutrrrCase {
	const teams = "https://prod-1.westus.logic.azure.com:443/workflows/SECRETFLOW/triggers/manual/paths/invoke?sig=SECRETSIG"
	return map[string]shoutrrrCase{
		"discord": {
			url: "discord://SECRETTOKEN@123456789?splitLines=Yes", secrets: []string{"SECRETTOKEN"},
			to: "https://discord.com/api/webhooks/123456789/SECRETTOKEN", text: jsonText("", "content"), most: 2000,
		},
		"googlechat": {
			url: "googlechat://chat.googleapis.com/v1/spaces/FOO/messages?key=SECRETKEY&token=SECRETTOKEN", secrets: []string{"SECRETKEY", "SECRETTOKEN"},
			to: "https://chat.googleapis.com/v1/spaces/FOO/messages?key=SECRETKEY&token=SECRETTOKEN", text: jsonText("", "text"), most: 4096,
		},
		"lark": {
			url: "lark://open.feishu.cn/SECRETPATH?secret=SECRETSIGN", secrets: []string{"SECRETPATH", "SECRETSIGN"}, answer: `{"code":0,"msg":"success"}`,
			to: "https://open.feishu.cn/open-apis/bot/v2/hook/SECRETPATH", text: jsonText("content.post.en_us.title", "content.post.en_us.content.0.0.text"), most: 4096,
		},
		"matrix": {
			url: "matrix://:SECRETTOKEN@matrix.example.org?rooms=!room1:example.org", secrets: []string{"SECRETTOKEN"}, answer: `{"event_id":"$1"}`,
			to: "https://matrix.example.org/_matrix/client/v3/rooms/%21room1:example.org/send/m.room.message/*", text: jsonText("", "body"), most: 8000,
		},
		"mattermost": {
			url: "mattermost://chat.example.org/SECRETTOKEN/town", secrets: []string{"SECRETTOKEN"},
			to: "https://chat.example.org/hooks/SECRETTOKEN", text: jsonText("", "text"), most: 4000,
		},
		"rocketchat": {
			url: "rocketchat://chat.example.org/SECRETTOKENA/SECRETTOKENB", secrets: []string{"SECRETTOKENA", "SECRETTOKENB"},
			to: "https://chat.example.org/hooks/SECRETTOKENA/SECRETTOKENB", text: jsonText("", "text"), most: 5000,
		},
		"signal": {
			url: "signal://user:SECRETPASS@signal.example.org:8080/+15551230001/+15551230002", secrets: []string{"SECRETPASS", "15551230002"}, answer: `{"timestamp":1}`,
			to: "https://signal.example.org:8080/v2/send", text: jsonText("", "message"), most: 2000,
		},
		"teams": {
			url: "teams://?host=" + url.QueryEscape(teams), secrets: []string{"SECRETFLOW", "SECRETSIG"},
			to: teams, text: teamsText, most: 28 << 10,
		},
		"telegram": {
			url: "telegram://110201543:SECRETTOKEN-abcdefghijklmnopqrstuvw@telegram?chats=@ops&parseMode=HTML", secrets: []string{"SECRETTOKEN"}, answer: `{"ok":true,"result":{"message_id":1}}`,
			to: "https://api.telegram.org/bot110201543:SECRETTOKEN-abcdefghijklmnopqrstuvw/sendMessage", text: telegramText, most: 6 * 4096,
		},
		"wecom": {
			url: "wecom://SECRETKEY-7aoc-4bc4", secrets: []string{"SECRETKEY"}, answer: `{"errcode":0,"errmsg":"ok"}`,
			to: "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=SECRETKEY-7aoc-4bc4", text: jsonText("", "text.content"), most: 2048,
		},
		"zulip": {
			url: "zulip://bot%40example.org:SECRETKEY@zulip.example.org?stream=ops&topic=defib", secrets: []string{"SECRETKEY"}, answer: `{"result":"success"}`,
			to: "https://bot%40example.org:SECRETKEY@zulip.example.org/api/v1/messages", text: formText("", "content"), most: 10000,
		},
		"bark": {
			url: "bark://:SECRETDEVICE@api.day.app", secrets: []string{"SECRETDEVICE"}, answer: `{"code":200,"message":"success"}`,
			to: "https://api.day.app/push", text: jsonText("title", "body"), most: 3000,
		},
		"generic": {
			url: "generic+https://hooks.example.org/SECRETPATH?template=json", secrets: []string{"SECRETPATH"},
			to: "https://hooks.example.org/SECRETPATH", text: jsonText("title", "message"), most: 8000,
		},
		"gotify": {
			url: "gotify://gotify.example.org/ASECRETTOKEN123", secrets: []string{"ASECRETTOKEN123"}, answer: `{"id":1}`,
			to: "https://gotify.example.org/message?token=ASECRETTOKEN123", text: jsonText("title", "message"), most: 8000,
		},
		"ntfy": {
			url: "ntfy://user:SECRETPASS@ntfy.sh/SECRETTOPIC?markdown=yes", secrets: []string{"SECRETPASS", "SECRETTOPIC"}, answer: `{}`,
			to:   "https://ntfy.sh/SECRETTOPIC",
			text: func(_ *testing.T, r gotRequest) (string, string) { return r.Header.Get("Title"), r.Body }, most: 4096,
		},
		"opsgenie": {
			url: "opsgenie://api.opsgenie.com/SECRET-API-KEY", secrets: []string{"SECRET-API-KEY"},
			to: "https://api.opsgenie.com:443/v2/alerts", text: jsonText("message", "description"), most: 15000,
		},
		"pushbullet": {
			url: "pushbullet://o.SECRETTOKENabcdefghijklmnopqrstu/device", secrets: []string{"SECRETTOKEN"}, answer: "echo",
			to: "https://api.pushbullet.com/v2/pushes", text: jsonText("title", "body"), most: 4000,
		},
		"pushover": {
			url: "pushover://shoutrrr:SECRETTOKEN@SECRETUSER/", secrets: []string{"SECRETTOKEN", "SECRETUSER"}, answer: `{"status":1}`,
			to: "https://api.pushover.net/1/messages.json", text: formText("title", "message"), most: 1024,
		},
		"twilio": {
			url: "twilio://ACSECRETSID:SECRETTOKEN@+15551230001/+15551230002", secrets: []string{"ACSECRETSID", "SECRETTOKEN", "15551230002"},
			to: "https://api.twilio.com/2010-04-01/Accounts/ACSECRETSID/Messages.json", text: formText("", "Body"), most: 1600,
		},
	}
}
