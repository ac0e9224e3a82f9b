package notify

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const rtl = "\u202egnp.exe\u2066"

func TestEscape(t *testing.T) {
	for _, c := range []struct {
		name   string
		escape func(string) string
		in     string
		want   string
	}{
		{"clean", Clean, "a\x1b[31mred\x1b[0m\tb\r\nc\x00\x07" + rtl + "\u200b\xff\xfe", "ared b cgnp.exe\ufffd"},
		{"plain keeps lines", Plain, "a\x1b]0;title\x07\nb\u2028c", "a\nb\nc"},
		{"slack", Slack, "<!channel> <@U1> a&b `x`", "&lt;!channel&gt; &lt;@\u2060U1&gt; a&amp;b `x`"},
		{"discord", Discord, "@everyone <@&1> ```x [a](b)", "@\u2060everyone <\u2060@\u2060&1> `\u2060`\u2060`x [a]\u2060(b)"},
		{"feishu", Feishu, `<at user_id="all">`, "<\u2060at user_id=\"all\">"},
		{"wecom", WeCom, "<@all> `defib retry a`", "<\u2060@\u2060all> `defib retry a`"},
		{"dingtalk", DingTalk, "@13800000000 ![](http://x)", "@\u206013800000000 ![]\u2060(http://x)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.escape(c.in)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A line of 4 MB is read as far as a tenth of it, and no further.
func TestEscapeLong(t *testing.T) {
	for _, part := range longParts() {
		for name, escape := range escapers() {
			long := escape(strings.Repeat(part, 4<<20/len(part)))
			if n := len(long); n > 8*maxText {
				t.Errorf("%s of %q…: %d bytes", name, part, n)
			}
			if cut := escape(strings.Repeat(part, 4<<20/10/len(part))); cut != long {
				t.Errorf("%s of %q…: what stands after the first tenth makes a difference", name, part)
			}
		}
	}
}

func BenchmarkEscapeLong(b *testing.B) {
	for _, part := range longParts() {
		s := strings.Repeat(part, 4<<20/len(part))
		for name, escape := range escapers() {
			b.Run(fmt.Sprintf("%s/%q", name, part), func(b *testing.B) {
				for b.Loop() {
					escape(s)
				}
			})
		}
	}
}

func longParts() []string {
	return []string{"x", "@everyone<!channel>``](", "\x1b[", "\xff", "世界", "\u202e"}
}

func escapers() map[string]func(string) string {
	return map[string]func(string) string{
		"Clean": Clean, "Plain": Plain, "Slack": Slack, "unnamed": unnamed,
		"Discord": Discord, "DingTalk": DingTalk, "WeCom": WeCom, "Feishu": Feishu,
	}
}

// fuzzEscape holds every escaper to what no text may do: call somebody, hold a
// character that is not seen, or be invalid.
func fuzzEscape(f *testing.F, escape func(string) string, pings *regexp.Regexp) {
	for _, s := range []string{
		"", "plain", "<!channel> <!here|x> <@U123> <#C1>", "@everyone @here @channel @all @room", `<at user_id="all"></at><at id=all>`, "<users/all>",
		"@\u200beveryone", "<\u2060!channel>", "@@everyone", "<<!channel>", "<\x1b[0m!channel>", "@\x1b]x\x07here", "``````", "[a](http://evil)", "<b>x</b>",
		rtl, "\xff<@\xfe>", "\x00\x1b[31m", "&lt;!channel&gt;", "<\n!channel>", "@everyone\n```", strings.Repeat("@<", maxText/2), "世\xe4\xb8", "@*\u200d*all**",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := escape(s)
		if !utf8.ValidString(out) {
			t.Errorf("not UTF-8: %q", out)
		}
		if len(out) > 8*maxText {
			t.Errorf("%d bytes of %d", len(out), len(s))
		}
		if i := strings.IndexFunc(out, unseen); i >= 0 {
			t.Errorf("an unseen character at %d: %q", i, out)
		}
		if m := pings.FindString(out); m != "" {
			t.Errorf("%q survives in %q", m, out)
		}
	})
}

func unseen(r rune) bool {
	return r != '\n' && unicode.IsControl(r) || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0x200b || r == 0xfeff
}

func FuzzSlack(f *testing.F) {
	fuzzEscape(f, Slack, regexp.MustCompile(`[<>]|@[a-z]|&(?:[^alg]|$)`))
}

func FuzzUnnamed(f *testing.F) { fuzzEscape(f, unnamed, regexp.MustCompile(`@[A-Za-z0-9_]`)) }

func FuzzDiscord(f *testing.F) {
	fuzzEscape(f, Discord, regexp.MustCompile("(?i)@[^\u2060]|<[@#!/a-z]|``|\\]\\("))
}

func FuzzMarkdown(f *testing.F) {
	fuzzEscape(f, Markdown, regexp.MustCompile("(?i)@[^\u2060]|<[@/a-z]|``|\\]\\("))
}

func FuzzFeishu(f *testing.F) { fuzzEscape(f, Feishu, regexp.MustCompile(`<[/a-zA-Z]|@[a-z]`)) }

func FuzzClean(f *testing.F) { fuzzEscape(f, Clean, regexp.MustCompile(`\n`)) }

func FuzzPlainText(f *testing.F) {
	f.Add("title", "lead\xff", "x", "log", "foot", 1800)
	f.Add(strings.Repeat("世", 900), "b", strings.Repeat("c", 5000), "d", strings.Repeat("ü", 80), 200)
	f.Add("", "", "", "", "", 0)
	f.Fuzz(func(t *testing.T, title, lead, value, log, foot string, most int) {
		in := Text{Title: title, Lead: []string{lead, value}, Fields: []Field{{"A", value}}, Logs: []string{log, lead, log}, Steps: []string{lead}, Foot: foot}.Map(Clean)
		most = min(max(most, 0), 1<<20)
		out := in.Plain(most)
		if len(out) > most || !utf8.ValidString(out) {
			t.Fatalf("%d bytes of %d: %q", len(out), most, out)
		}
		if len(in.Title)+len(in.Foot)+2 <= most && len(in.Foot) <= most/2 && (!strings.HasPrefix(out, in.Title) || !strings.HasSuffix(out, in.Foot)) {
			t.Fatalf("title or foot is missing: %q", out)
		}
	})
}
