package notify

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// asJSON is a message as it is sent, in a form that people can read.
func asJSON(t *testing.T, c slackContent) string {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(map[string]any{"text": c.text, "blocks": c.blocks}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden compares a message with its file, and with Slack's limits.
func golden(t *testing.T, name string, c slackContent, mention string) {
	t.Helper()
	file := filepath.Join("testdata", "slack", name+".json")
	got := asJSON(t, c)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s: %s", name, d)
	}
	if n := strings.Count(got, mention); mention != "" && n != 2 {
		t.Errorf("%s: %d mentions", name, n)
	}
}

const onCall = "<!subteam^S0ONCALL>"

func TestSlackGolden(t *testing.T) {
	for _, locale := range []string{"en", "zh"} {
		words, err := NewWords(locale, nil)
		if err != nil {
			t.Fatal(err)
		}
		for event, mention := range map[string]string{"repaired": "", "gave_up": onCall, "gpu_held": onCall, "storm": onCall, "flapping": ""} {
			text := words.Render(Samples()[event], SampleKind(event))
			golden(t, event+"."+locale, slackRoot(text, mention), mention)
			check(t, slackRoot(text, ""))
		}
		for event, s := range edited() {
			c := slackRoot(words.Render(s, KindEdit), "")
			golden(t, event+".edit."+locale, c, "")
			check(t, c)
		}
	}
}

// edited are stories a while after their first message.
func edited() map[string]Story {
	flapping, storm := Samples()["flapping"], Samples()["storm"]
	up := *flapping.Unit
	up.State, up.Rule, up.Next, up.NextAt, up.Retries = policy.Running, "running", "watching", time.Time{}, ""
	up.PagesAt = time.Time{}
	flapping.Unit, flapping.Now = &up, flapping.Now.Add(2*time.Minute)
	flapping.Incident.Steps = append(flapping.Incident.Steps,
		policy.Step{At: sampleAt(80 * time.Second), Rule: "oom", Text: "start: it ran out of memory and was killed (exit 137, OOM) (attempt 2)"},
		policy.Step{At: sampleAt(115 * time.Second), Rule: "ready", Text: "it is up again"})
	storm.Now = storm.Now.Add(10 * time.Minute)
	storm.Incident.Ack = &policy.Ack{By: "li", Why: "remounting", At: storm.Now, Until: storm.Now.Add(4 * time.Hour)}
	for i := range storm.Children[:5] {
		c := &storm.Children[i]
		c.Closed, c.End = storm.Now, "recovered"
	}
	storm.Children[7].NeedsYou, storm.Children[7].Level, storm.Children[7].Rule = true, policy.LevelPage, "gave_up"
	return map[string]Story{"flapping": flapping, "storm": storm}
}

func TestSlackGoldenThread(t *testing.T) {
	for _, locale := range []string{"en", "zh"} {
		words := mustWords(t, locale, nil)
		for kind, mention := range map[Kind]string{KindEvidence: "", KindStep: "", KindEscalate: onCall, KindRemind: onCall} {
			m := Message{Kind: kind, Text: words.Render(Samples()["gave_up"], kind)}
			golden(t, "thread."+string(kind)+"."+locale, slackReply(m, mention), mention)
			check(t, slackReply(m, ""))
		}
	}
}

// textsIn collects each text of a message with its type.
func textsIn(v any, found func(kind, text string)) {
	switch v := v.(type) {
	case map[string]any:
		if text, ok := v["text"].(string); ok {
			kind, _ := v["type"].(string)
			found(kind, text)
		}
		for _, e := range v {
			textsIn(e, found)
		}
	case []any:
		for _, e := range v {
			textsIn(e, found)
		}
	}
}

const sampleLink = "https://wiki.example.org/llm/vllm-llama70b"

// check fails when Slack would refuse a message, or a container could write a
// mention or link in it.
func check(t *testing.T, c slackContent) {
	t.Helper()
	raw, err := json.Marshal(c.blocks)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(raw) + len(c.text); n >= slackMost || c.size() != n {
		t.Errorf("%d bytes", n)
	}
	if len(c.blocks) > 50 || c.text == "" || strings.ContainsAny(c.text, "<>") {
		t.Errorf("%d blocks, text %q", len(c.blocks), c.text)
	}
	var blocks any
	if err := json.Unmarshal(raw, &blocks); err != nil {
		t.Fatal(err)
	}
	textsIn(blocks, func(kind, text string) {
		most := map[string]int{"plain_text": 150, "mrkdwn": 3000, "text": 3000}[kind]
		if n := utf8.RuneCountInString(text); strings.TrimSpace(text) == "" || n > most || !utf8.ValidString(text) {
			t.Errorf("%s of %d characters", kind, n)
		}
		if strings.ContainsAny(text, "\x00\x1b\r\u202e\u2066") {
			t.Errorf("%s holds control characters: %q", kind, text)
		}
		if rest, ok := strings.CutSuffix(text, "<"+sampleLink+"|Runbook>"); ok {
			text = rest
		}
		if rest, ok := strings.CutSuffix(text, "<"+sampleLink+"|处理手册>"); ok {
			text = rest
		}
		if kind == "mrkdwn" && strings.ContainsAny(text, "<>") {
			t.Errorf("not escaped: %q", text)
		}
	})
}

// everywhere puts a text into each place of a message, n times in lists.
func everywhere(s string, n int) Text {
	t := Text{Title: s, Foot: s}
	for range n {
		t.Lead, t.Steps, t.Logs = append(t.Lead, s), append(t.Steps, s), append(t.Logs, s)
		t.Fields = append(t.Fields, Field{s, s})
	}
	return t
}

func checkAll(t *testing.T, text Text) {
	t.Helper()
	check(t, slackRoot(text, ""))
	for _, k := range []Kind{KindStep, KindEvidence, KindEscalate} {
		check(t, slackReply(Message{Kind: k, Text: text}, ""))
	}
}

func hostileTexts() []string {
	return []string{
		"", " ", "\n", "plain", "`code` ```block``` '''", `{"type":"section","text":"x"}`, "<!channel> <@U1> <https://evil|ok> &lt;!here&gt;",
		"@here @channel #general", "\u202egnp.exe \u2066x\u2069 \u200b", "\x1b[31mred\x1b[0m \x1b]8;;https://evil\x07x", "bad \xff\xfe utf-8 \xed\xa0\x80",
		"\x00\x01\x7f", "日本語のログ行", "🔥", "&", "<", "\u2028\u2029", "a\r\nb\tc", "\"\\",
	}
}

func TestSlackHostileText(t *testing.T) {
	for _, s := range hostileTexts() {
		for _, times := range []int{1, 3000} {
			for _, n := range []int{1, 15} {
				checkAll(t, everywhere(strings.Repeat(s, times), n))
			}
		}
	}
}

func TestSlackHugeLine(t *testing.T) {
	checkAll(t, everywhere(strings.Repeat("<!channel> ", 4<<20/11), 3)) // a square would take hours
}

func FuzzSlackBlocks(f *testing.F) {
	for _, s := range hostileTexts() {
		f.Add(s, uint8(1), uint16(1))
		f.Add(s, uint8(20), uint16(500))
	}
	f.Fuzz(func(t *testing.T, s string, n uint8, times uint16) {
		checkAll(t, everywhere(strings.Repeat(s, min(int(times), 1+20000/(len(s)+1))), int(n)))
	})
}

func TestMrkdwn(t *testing.T) {
	for _, tt := range []struct {
		s    string
		most int
		want string
	}{
		{"", 5, ""},
		{"a<b", 6, "a&lt;b"},
		{"a<b", 5, "a…"},
		{"&&&&", 20, "&amp;&amp;&amp;&amp;"},
		{"&&&&", 19, "&amp;&amp;…"},
		{"&&", 1, "…"},
		{"x", 0, ""},
	} {
		if got := mrkdwn(tt.s, tt.most); got != tt.want {
			t.Errorf("mrkdwn(%q, %d) = %q, want %q", tt.s, tt.most, got, tt.want)
		}
	}
}

func TestNewestStepsStay(t *testing.T) {
	if d := cmp.Diff("…\nthree\nfour", newest([]string{"one", "two", "three", "four"}, 14)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("one\ntwo", newest([]string{"one", "two"}, 100)); d != "" {
		t.Error(d)
	}
}

// The newest lines of a log stay, oldest first, and it is said where the others
// are.
func TestSlackLogs(t *testing.T) {
	for _, c := range []struct {
		more string
		most int
		want string
	}{
		{"", 17, "two\n\nthree\nfour"},
		{"…", 18, "…\ntwo\n\nthree\nfour"},
		{"…", 100, "one\ntwo\n\nthree\nfour"},
		{"a long way to say where the rest is", 20, ""},
	} {
		var b slackBlocks
		b.logs([]string{"one", "two", "", "three", "four", "", " "}, c.more, c.most)
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		want := "null"
		if c.want != "" {
			text, err := json.Marshal(c.want)
			if err != nil {
				t.Fatal(err)
			}
			want = `[{"type":"rich_text","elements":[{"type":"rich_text_preformatted","elements":[{"type":"text","text":` + string(text) + `}],"border":0}]}]`
		}
		if d := cmp.Diff(want, string(raw)); d != "" {
			t.Errorf("%q in %d: %s", c.more, c.most, d)
		}
	}
}

// 200 lines do not fit: a thread says how to see all of them.
func TestSlackEvidenceSaysWhereTheRestIs(t *testing.T) {
	s := Samples()["gave_up"]
	e := *s.Incident.Evidence
	e.Logs, s.Incident.Evidence = slices.Repeat([]string{"2026-03-01 03:11:49 ERROR worker 3 died"}, 200), &e
	for locale, want := range map[string]string{"en": "… earlier lines: defib incident INC-7F3K --logs 200\n2026", "zh": "……更早的日志：defib incident INC-7F3K --logs 200\n2026"} {
		for _, k := range []Kind{KindEvidence, KindPost} {
			m := Message{Kind: k, Text: mustWords(t, locale, nil).Render(s, k)}
			c := slackReply(m, "")
			if k == KindPost {
				c = slackRoot(m.Text, "")
			}
			check(t, c)
			n := 0
			var blocks any
			if err := json.Unmarshal([]byte(asJSON(t, c)), &blocks); err != nil {
				t.Fatal(err)
			}
			textsIn(blocks, func(_, text string) { n += strings.Count(text, want) })
			if n != 1 {
				t.Errorf("%s %s says %d times where the rest is", locale, k, n)
			}
		}
	}
}
