package mask

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func mustNew(tb testing.TB, extra ...string) *Masker {
	tb.Helper()
	m, err := New(extra)
	if err != nil {
		tb.Fatalf("New(%q): %v", extra, err)
	}
	return m
}

func TestLineMasks(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
	tests := []struct{ name, in, want string }{
		{"openai", "key sk-proj-Abc123Abc123Abc123 used", "key sk-*** used"},
		{"openai hex", "sk-or-v1-0123456789abcdef0123456789abcdef", "sk-***"},
		{"anthropic", "(sk-ant-api03-AAAA_bbbb-CCCC1234)", "(sk-***)"},
		{"a name, not a key", "restart sk-learn-inference-server", "restart sk-learn-inference-server"},
		{"inside a word", "task-runner-for-everything-and-more", "task-runner-for-everything-and-more"},
		{"stripe", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live_***"},
		{"hugging face", "using hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567.", "using hf_***."},
		{"hugging face, lower case", "hf_abcdefghijklmnop", "hf_***"},
		{"hugging face, short", "hf_1234567890", "hf_***"},
		{"a function, not a token", "hf_transformers and hf_hub_download", "hf_transformers and hf_hub_download"},
		{"nvidia", "nvapi-AbCd_efgh-1234567890", "nvapi-***"},
		{"github", "ghp_0123456789abcdefghij0123456789abcdef", "ghp_***"},
		{"github fine-grained", "github_pat_11ABCDEFG0_abcdefghij", "github_pat_***"},
		{"gitlab", "glpat-abcDEF123-_xyz", "glpat-***"},
		{"slack bot", "xoxb-123456789012-abcdefABCDEF", "xoxb-***"},
		{"slack app", "xapp-1-A02-123-abc", "xapp-***"},
		{"slack webhook", "https://hooks.slack.com/services/T000/B000/XXXX", "https://hooks.slack.com/services/***"},
		{"discord webhook", "https://discord.com/api/webhooks/123/abc-DEF", "https://discord.com/api/webhooks/***"},
		{"aws", "AKIAIOSFODNN7EXAMPLE", "AKIA***"},
		{"google", "AIzaSyA-1234567890abcdefghijklmnopqrstu", "AIza***"},
		{"jwt", "got " + jwt + " from", "got eyJ*** from"},
		{"jwt, cut short", "eyJhbGciOiJIUzI1NiJ9.eyJz", "eyJ***"},

		{"bearer", "curl -H 'X: Bearer abc'", "curl -H 'X: Bearer ***'"},
		{"prose about bearers", "Bearer token missing", "Bearer token missing"},
		{"challenge", `WWW-Authenticate: Bearer realm="x"`, `WWW-Authenticate: Bearer realm="x"`},
		{"authorization bearer", "Authorization: Bearer abc HTTP/1.1 401", "Authorization: Bearer *** HTTP/1.1 401"},
		{"authorization basic", "authorization: basic dXNlcjpwYXNz", "authorization: basic ***"},
		{"authorization of another scheme", `-H "Authorization: AWS4-HMAC Credential=x, Signature=y" -v`, `-H "Authorization: ***" -v`},
		{"authorization in JSON", `{"Authorization":"Bearer abc","n":1}`, `{"Authorization":"Bearer ***","n":1}`},
		{"authorization without a space", "authorization=abc", "authorization=***"},
		{"cookie", "Set-Cookie: sid=abc; Path=/", "Set-Cookie: ***"},

		{"url password", "postgres://bob:hunter2@db:5432/x?y=1", "postgres://bob:***@db:5432/x?y=1"},
		{"url password without a user", "redis://:hunter2@cache:6379", "redis://:***@cache:6379"},
		{"url password with @", "amqp://bob:p@ss@mq/v", "amqp://bob:***@mq/v"},
		{"url password with /", "amqp://bob:pa/ss@mq/v", "amqp://bob:***@mq/v"},
		{"url token as user", "https://0123456789abcdefghij@git.example/x", "https://***@git.example/x"},
		{"url with a port and an @", "http://host:8000/a@b", "http://host:8000/a@b"},

		{"password", "password=hunter2", "password=***"},
		{"environment", "DB_PASSWORD=hunter2 HF_TOKEN=abc", "DB_PASSWORD=*** HF_TOKEN=***"},
		{"yaml", "api_key: abc", "api_key: ***"},
		{"header", "X-Api-Key: abc", "X-Api-Key: ***"},
		{"quoted", `password="two words" user=x`, `password="***" user=x`},
		{"in a quotation", `said 'password: hunter2' twice`, `said 'password: ***' twice`},
		{"in a quotation and brackets", `('token=abc').`, `('token=***').`},
		{"a list of quotations", `'DB_PASSWORD=hunter2' 'A=b'`, `'DB_PASSWORD=***' 'A=b'`},
		{"in a double quotation", `its "token=abc123" fails`, `its "token=***" fails`},
		{"a quote at its end", `password=hunter2' user=x`, `password=*** user=x`},
		{"a quote at its end, after a quotation", `'a' password=hunter2' x`, `'a' password=*** x`},
		{"a quote at its end, in double quotes", `'x password="hunter2'" y`, `'x password="***" y`},
		{"quotes in it, in a quotation", `'password=hun'ter2' x`, `'password=*** x`},
		{"python", "Namespace(api_key='abc', port=8000)", "Namespace(api_key='***', port=8000)"},
		{"python none", "Namespace(api_key=None, port=8000)", "Namespace(api_key=None, port=8000)"},
		{"json", `{"password":"hunter2","user":"bob"}`, `{"password":"***","user":"bob"}`},
		{"json with a space", `{"client_secret": "a\"b"}`, `{"client_secret": "***"}`},
		{"json in json", `{"msg":"{\"password\":\"hunter2\"}"}`, `{"msg":"{\"password\":\"***\"}"}`},
		{"json number", `{"token":12345}`, `{"token":***}`},
		{"query", "GET /x?token=abc&user=bob", "GET /x?token=***&user=bob"},
		{"secret", "secret=abc.", "secret=***."},
		{"flag", "vllm serve --api-key abc --port 1", "vllm serve --api-key *** --port 1"},
		{"flag in an argument list", `["--api-key","abc","--port"]`, `["--api-key","***","--port"]`},
		{"flag without a value", "--password --port 1", "--password --port 1"},
		{"pwd", "Uid=x;Pwd=hunter2;", "Uid=x;Pwd=***;"},
		{"working directory", "PWD=/app", "PWD=/app"},
		{"counts of tokens", "max_tokens=2048 prompt_tokens: 12 tokens/s: 3", "max_tokens=2048 prompt_tokens: 12 tokens/s: 3"},
		{"counts of sglang", "Decode batch. #running-req: 41, #token: 182034, #new-token: 7, token usage: 0.97", "Decode batch. #running-req: 41, #token: 182034, #new-token: 7, token usage: 0.97"},
		{"a comment is no count", "#token: hunter2 #token: 12a34 #password: 123456", "#token: *** #token: *** #password: ***"},
		{"a number may be a secret", "token: 123456 (#token: 123456)", "token: *** (#token: 123456)"},
		{"names of files", "token_file=/run/x secret_name: y", "token_file=/run/x secret_name: y"},

		{"pem on one line", `-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- x`, "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY----- x"},
		{"pem without an end", "-----BEGIN PRIVATE KEY----- MIIE", "-----BEGIN PRIVATE KEY-----***"},
		{"pem of a certificate", "-----BEGIN CERTIFICATE----- MIIE", "-----BEGIN CERTIFICATE----- MIIE"},

		{"broken by a control character", "hf_AbCdEf\x00GhIjKl012345", "hf_***"},
		{"broken by an escape sequence", "pass\x1b[31mword=hunter2", "password=***"},
		{"broken by an invisible character", "pass\u200bword=hunter2", "password=***"},
		{"several", "Bearer abc, token=def", "Bearer ***, token=***"},
		{"nothing", "CUDA error: device-side assert triggered", "CUDA error: device-side assert triggered"},
	}
	m := mustNew(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.Line(tt.in); got != tt.want {
				t.Errorf("Line(%q)\n got %q\nwant %q", tt.in, got, tt.want)
			}
			if got := m.Line(tt.want); got != tt.want {
				t.Errorf("Line of the masked line\n got %q\nwant %q", got, tt.want)
			}
			if tt.in != tt.want && m.Plain(tt.in) {
				t.Errorf("Plain(%q) = true, want false", tt.in)
			}
		})
	}
}

func TestLineCleans(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "hello", "hello"},
		{"empty", "", ""},
		{"tab and newline", "a\tb\nc\n", "a b c"},
		{"carriage return", "a\r\nb\rc", "a b c"},
		{"separators", "a\u2028b\u2029c\u0085d", "a b c d"},
		{"colours", "\x1b[1;31mred\x1b[0m text", "red text"},
		{"8-bit colours", "\u009b31mred", "red"},
		{"cursor", "\x1b[2J\x1b[Hx\x1b7y\x1bMz", "xyz"},
		{"character set", "\x1b(Bx", "x"},
		{"title", "\x1b]0;evil\ax", "x"},
		{"hyperlink", "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\", "text"},
		{"8-bit title", "\u009d0;evil\u009cx", "x"},
		{"device string", "\x1bPq#0\x1b\\x", "x"},
		{"title without an end", "a\x1b]0;evil\nb", "a b"},
		{"sequence without an end", "a\x1b[31", "a"},
		{"lone escape", "a\x1b", "a"},
		{"escape before a control", "a\x1b\x01b", "ab"},
		{"controls", "a\x00\x07\x08\x7fb\u0081c", "abc"},
		{"invalid UTF-8", "a\xff\xfeb\xc3", "a\ufffdb\ufffd"},
		{"split rune", "\xe2\x1b[m\x80\xa6", "\ufffd\ufffd"},
		{"bidi", "a\u202eb\u2066c\u200fd\u061ce", "abcde"},
		{"invisible", "a\u200bb\ufeffc\u00add\U000e0041e", "abcde"},
		{"joiners stay", "👩\u200d🚀", "👩\u200d🚀"},
		{"scripts stay", "größer 日本 …", "größer 日本 …"},
	}
	m := mustNew(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.Line(tt.in); got != tt.want {
				t.Errorf("Line(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestLineIsCutOnARuneBoundary(t *testing.T) {
	m := mustNew(t)
	tests := []struct{ name, in, want string }{
		{"fits", strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{"one too many", strings.Repeat("x", 1025), strings.Repeat("x", 1021) + "…"},
		{"two-byte runes", strings.Repeat("ö", 600), strings.Repeat("ö", 510) + "…"},
		{"a secret at the cut", strings.Repeat("x", 1010) + " hf_0123456789abcdefghij", strings.Repeat("x", 1010) + " hf_***"},
		{
			"a secret at the end of what is read",
			strings.Repeat("password="+strings.Repeat("x", 400)+" ", 9) + strings.Repeat("y", 380) + " hf_" + strings.Repeat("z1", 4000),
			strings.Repeat("password=*** ", 9) + strings.Repeat("y", 380) + "…",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := m.Line(tt.in)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Line (-want +got):\n%s", diff)
			}
			if len(got) > 1024 {
				t.Errorf("%d bytes, want at most 1024", len(got))
			}
		})
	}
}

func TestText(t *testing.T) {
	m := mustNew(t)
	tests := []struct {
		name  string
		in    string
		limit int
		want  string
	}{
		{"lines stay", "a\tb\r\nc\rd\n", 100, "a b\nc\nd\n"},
		{"a key over several lines", "x\n-----BEGIN PRIVATE KEY-----\nMIIE\nabc\n-----END PRIVATE KEY-----\ny", 100, "x\n-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----\ny"},
		{"a name at the end of a line", "password:\nnext line", 100, "password:\nnext line"},
		{"a header at the end of a line", "Authorization: x y\nnext", 100, "Authorization: ***\nnext"},
		{"cut", "abcdefgh", 6, "abc…"},
		{"no room for the ellipsis", "abcdefgh", 2, "ab"},
		{"no room for a rune", "öö", 1, ""},
		{"nothing", "abc", 0, ""},
		{"less than nothing", "abc", -1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.Text(tt.in, tt.limit); got != tt.want {
				t.Errorf("Text(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
			}
		})
	}
}

func TestExtraPatterns(t *testing.T) {
	m := mustNew(t, `acme-[0-9]+`, `(?i)badge (\w+) of (\w+)`, `((a)b)c`)
	got := m.Line("acme-123 and Badge x1 of bob, abc")
	if want := "*** and Badge *** of ***, ***c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if again := m.Line(got); again != got {
		t.Errorf("masked again: got %q, want %q", again, got)
	}
}

func TestBadPatternsAreAllNamed(t *testing.T) {
	_, err := New([]string{"a(", "fine", "x*"})
	if err == nil {
		t.Fatal("got no error")
	}
	want := "secret pattern \"a(\": error parsing regexp: missing closing ): `a(`\n" +
		"secret pattern \"x*\" matches the empty text and would mask everything: make it ask for at least one character"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestSensitive(t *testing.T) {
	m := mustNew(t)
	for _, name := range []string{"password", "DB_PASSWORD", "hf-token", "com.example.apiKey", "client_secret", "ssh.key"} {
		if !m.Sensitive(name) {
			t.Errorf("Sensitive(%q) = false, want true", name)
		}
	}
	for _, name := range []string{"tokens", "key", "name", "token_file", "com.docker.compose.project", ""} {
		if m.Sensitive(name) {
			t.Errorf("Sensitive(%q) = true, want false", name)
		}
	}
}

func TestStreamMasksAKeyOverSeveralLines(t *testing.T) {
	s := mustNew(t).Stream()
	in := []string{"a", "-----BEGIN RSA PRIVATE KEY-----", "MIIE", "abcd", "-----END RSA PRIVATE KEY-----", "b", "-----BEGIN CERTIFICATE-----", "c"}
	want := []string{"a", "-----BEGIN RSA PRIVATE KEY-----", "***", "***", "***", "b", "-----BEGIN CERTIFICATE-----", "c"}
	var got []string
	for _, line := range in {
		got = append(got, s.Line(line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// plants are secrets that stand by themselves.
func plants() []string {
	return []string{
		"sk-proj-Zq7Zq7Zq7Zq7Zq7Zq7", "hf_Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7", "ghp_Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7",
		"github_pat_Zq7Zq7Zq7Zq7", "xoxb-1234-Zq7Zq7Zq7Zq7", "AKIAZQ7ZQ7ZQ7ZQ7ZQ7Z", "Bearer Zq7Zq7Zq7Zq7",
		"Authorization: Zq7Zq7Zq7Zq7", "redis://bob:Zq7Zq7Zq7Zq7@host", "password=Zq7Zq7Zq7Zq7",
		`{"api_key": "Zq7Zq7Zq7Zq7"}`, "--hf-token Zq7Zq7Zq7Zq7", "eyJhbGciOiJub25lIn0.Zq7Zq7Zq7Zq7.x",
		"-----BEGIN PRIVATE KEY-----Zq7Zq7Zq7Zq7-----END PRIVATE KEY-----", "acme-7777",
	}
}

// checkMasked holds the invariants: a secret planted between two arbitrary
// texts is gone, the output is valid UTF-8 without control or invisible
// characters and within its bounds, and it does not change when masked again.
func checkMasked(t *testing.T, m *Masker, before, after string, kind int) {
	t.Helper()
	s := before + " " + plants()[kind] + " " + after
	line, text := m.Line(s), m.Text(s, 300)
	checkFit(t, s, line, 1024, false)
	checkFit(t, s, text, 300, true)
	for _, out := range []string{line, text} {
		if strings.Contains(strings.ToLower(out), "zq7zq7zq7zq7") || strings.Contains(out, "acme-7777") {
			t.Errorf("the secret of %q is in %q", s, out)
		}
	}
	if again := m.Line(line); again != line {
		t.Errorf("Line twice of %q:\nonce  %q\ntwice %q", s, line, again)
	}
	if again := m.Text(text, 300); again != text {
		t.Errorf("Text twice of %q:\nonce  %q\ntwice %q", s, text, again)
	}
	if m.Plain(s) {
		t.Errorf("Plain(%q) = true, want false", s)
	}
}

func FuzzMask(f *testing.F) {
	m := mustNew(f, `acme-[0-9]+`)
	for i := range plants() {
		f.Add("\x1b[31m before \xff ", "\t after …\r\n", uint8(i))
		f.Add(strings.Repeat("password=x ", 90), strings.Repeat("é", 900), uint8(i))
	}
	f.Fuzz(func(t *testing.T, before, after string, kind uint8) {
		if strings.Contains(before+after, "7") { // so that the secret can only be the planted one
			t.Skip()
		}
		checkMasked(t, m, before, after, int(kind)%len(plants()))
	})
}

// TestMaskOfFragments does what FuzzMask does on texts made of the pieces that
// rules look for, which bytes at random seldom make.
func TestMaskOfFragments(t *testing.T) {
	pieces := []string{
		" ", "  ", "\n", "\t", "\"", "'", "\\", `\"`, "=", ":", "=>", ":=", ",", ";", "&", "@", "/", "://", "-", "--", ".", "*", "**", "***", "…", "é", "\xff",
		"\x1b[1m", "\x1b]0;", "\a", "\u200b", "{", "}", "[", "]", "(", ")", "<", ">", "x", "ab", "none", "token", "Bearer", "bearer ", "basic ", "Authorization: ",
		"password", "PASSWORD=", "secret: ", "api_key", "pwd=", "cookie: ", "hf_", "sk-", "sk-learn-inference-server", "ghp_", "xoxb-", "AKIA", "eyJ",
		"-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "-----BEGIN ", "http://u:p@h", "://u:", "0123456890abcdefghij", "ABCDEFGHIJKLMNOP", "acme-", "1",
		strings.Repeat("y", 300), strings.Repeat("z ", 150), strings.Repeat("password=a,", 80), strings.Repeat("Bearer x ", 100),
	}
	m := mustNew(t, `acme-[0-9]+`)
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range r.IntN(12) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	}
	for range 500 {
		checkMasked(t, m, text(), text(), r.IntN(len(plants())))
		if t.Failed() {
			return
		}
	}
}

func checkFit(t *testing.T, in, out string, limit int, lines bool) {
	t.Helper()
	if !utf8.ValidString(out) {
		t.Errorf("%q gave invalid UTF-8: %q", in, out)
	}
	if len(out) > limit {
		t.Errorf("%q gave %d bytes, want at most %d", in, len(out), limit)
	}
	for _, r := range out {
		if lines && r == '\n' {
			continue
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			t.Errorf("%q gave character %U: %q", in, r, out)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	m := mustNew(b)
	inputs := []struct{ name, in string }{
		{"log", "INFO 11-22 00:15:01 engine.py:310] Avg prompt throughput: 12.3 tokens/s, Running: 3 reqs"},
		{"secret", "connecting to postgres://bob:hunter2@db:5432/x with Bearer abcdef"},
		{"colour", "\x1b[32mINFO\x1b[0m:     127.0.0.1:41234 - \"GET /health HTTP/1.1\" 200 OK"},
		{"4MB", strings.Repeat("x", 4<<20)},
		{"4MB of words", strings.Repeat("password=x token ", 4<<20/17)},
		{"4MB of escapes", strings.Repeat("\x1b[31m", 4<<20/5)},
		{"4MB of titles", strings.Repeat("\x1b]", 4<<20/2)},
	}
	for _, bb := range inputs {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Line(bb.in)
			}
		})
	}
}
