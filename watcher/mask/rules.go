package mask

import (
	"regexp"
	"strings"
)

const (
	keyBegin = "-----BEGIN "
	keyEnd   = "-----END "
	keyName  = "PRIVATE KEY"

	// scheme is the word before the secret in an Authorization header.
	scheme = `(?:(?:bearer|basic|token|bot|apikey|negotiate|ntlm)[ ]+)`
)

// rule is one kind of secret.
type rule struct {
	triggers []string // lower case; without any of them in the text the expression is not tried
	re       *regexp.Regexp
	after    string                   // not empty: re is anchored, and tried after each of these bytes that follows a name …
	named    func(low string) bool    // … which a text in lower case ends with
	keep     func(secret string) bool // it only looks like one; nil for never
	trim     string                   // not part of the secret when at its end
	quoted   bool                     // nor is a single quote that closes one before it
}

// own is a rule of the user's.
func own(re *regexp.Regexp) rule {
	r := rule{re: re}
	if prefix, _ := re.LiteralPrefix(); prefix != "" {
		r.triggers = []string{lower(prefix)}
	}
	return r
}

// builtin are the rules that always hold. The groups of an expression are the
// secret; what is matched around them stays, so that a reader knows what was
// there. The more precise rules stand first.
func builtin() []rule {
	return append(tokens(), named()...)
}

// tokens are secrets that show by themselves what they are.
func tokens() []rule {
	return []rule{
		{
			triggers: []string{"private key"},
			re:       regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(.+?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)`),
		},
		{triggers: []string{"eyj"}, re: regexp.MustCompile(`\beyJ([A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+){0,4})`)},
		{triggers: []string{"sk-"}, re: regexp.MustCompile(`\bsk-([A-Za-z0-9_-]{16,})`), keep: isName},
		{triggers: []string{"k_live_", "k_test_"}, re: regexp.MustCompile(`\b[srp]k_(?:live|test)_([A-Za-z0-9]{8,})`)},
		{triggers: []string{"hf_"}, re: regexp.MustCompile(`\bhf_([A-Za-z0-9]{10,})`), keep: isName},
		{triggers: []string{"nvapi-"}, re: regexp.MustCompile(`\bnvapi-([A-Za-z0-9_-]{10,})`)},
		{triggers: []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, re: regexp.MustCompile(`\bgh[pousr]_([A-Za-z0-9]{10,})`)},
		{triggers: []string{"github_pat_"}, re: regexp.MustCompile(`\bgithub_pat_([A-Za-z0-9_]{10,})`)},
		{triggers: []string{"glpat-"}, re: regexp.MustCompile(`\bglpat-([A-Za-z0-9_-]{10,})`)},
		{triggers: []string{"xox", "xapp-"}, re: regexp.MustCompile(`\bx(?:ox[abeoprs]|app)-([A-Za-z0-9-]{6,})`)},
		{triggers: []string{"hooks.slack.com/", "/api/webhooks/"}, re: regexp.MustCompile(`(?:hooks\.slack\.com/[a-z]+/|/api/webhooks/)([A-Za-z0-9/_-]+)`)},
		{triggers: []string{"akia", "asia"}, re: regexp.MustCompile(`\bA(?:KI|SI)A([0-9A-Z]{12,})`)},
		{triggers: []string{"aiza"}, re: regexp.MustCompile(`\bAIza([0-9A-Za-z_-]{30,})`)},
		{
			triggers: []string{"://"},
			re:       regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/:@"']*:(?:([^\s/"']+)|([^\s"'@/]*[^\s"'@/0-9][^\s"'@]*))|([A-Za-z0-9_-]{20,}))@`),
		},
	}
}

// named are secrets that show by what stands before them.
func named() []rule {
	names := []string{"passw", "passphrase", "passcode", "secret", "token", "credential", "key"}
	return []rule{
		{
			triggers: names, after: " ,", named: isSecretFlag, keep: isAbsent, trim: ".)]}",
			re: regexp.MustCompile(`(?i)^[ ]*["']?(` + scheme + `*[^\s"',-][^\s"',]*)`),
		},
		{
			triggers: []string{"authorization"}, after: "=:",
			named: func(low string) bool { return strings.HasSuffix(low, "authorization") },
			re:    regexp.MustCompile(`(?i)^[ ]*\\*["']?(?:` + scheme + `+([^\s"'\\]+)|([^\s"'\\][^\n"'\\]*))`),
		},
		{triggers: []string{"cookie"}, re: regexp.MustCompile(`(?i)\b(?:set-)?cookie\\*["']?: ?\\*["']?([^\s"'\\][^\n"'\\]*)`)},
		{triggers: []string{"bearer"}, re: regexp.MustCompile(`(?i)\b(?:bearer[ ]+)+([^\s"'\\,;]+)`), keep: isProse, trim: ".)]}"},
		{
			triggers: names, after: "=:", named: isSecretName, keep: isAbsent, trim: ",.)]}>", quoted: true,
			re: regexp.MustCompile(`(?i)^[=>]?[ ]*(?:\\+"([^"\\]+)|"((?:[^"\\]|\\.)+)|'((?:[^'\\]|\\.)+)|(` + scheme + `*[^\s"'\\&;][^\s&;"]*))`),
		},
		{triggers: []string{"pwd"}, re: regexp.MustCompile(`(?i)pwd[ ]*[=:][ ]*["']?([^\s"'&;/.~][^\s"'&;]*)`), keep: isAbsent, trim: ",.)]}"},
	}
}

// isName reports whether what follows a token's prefix reads like the name of
// a program or function: sk-learn-inference-server, hf_transformers.
func isName(s string) bool {
	if strings.ToLower(s) != s {
		return false
	}
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '-' || r == '_' }) {
		if len(word) >= 16 || len(word) >= 10 && strings.ContainsAny(word, "0123456789") {
			return false
		}
	}
	return true
}

// isProse reports whether the word after "bearer" is about a token and not
// one.
func isProse(s string) bool {
	switch word, _, _ := strings.Cut(lower(s), "="); word {
	case "token", "tokens", "auth", "authentication", "authorization", "scheme", "realm", "error", "header", "format", "is", "was", "not", "or", "and":
		return true
	}
	return false
}

// isAbsent reports whether a value says that there is no secret, which is
// worth knowing when a server fails to start.
func isAbsent(s string) bool {
	switch lower(s) {
	case "none", "null", "nil", "true", "false", "undefined", "unset", "missing", "<nil>", "<none>":
		return true
	}
	return false
}

// isCount reports whether a number is one of tokens, as SGLang writes them in
// every line: #token: 182034, #new-token: 7. before is the text before it.
func isCount(before, s string) bool {
	if strings.Trim(s, "0123456789") != "" {
		return false
	}
	const look = 64 // bytes: no name of a count is longer
	name := bare(strings.TrimRight(lower(before[max(0, len(before)-look):]), " :="))
	return strings.HasPrefix(name[strings.LastIndexAny(name, " \n\"'[(,")+1:], "#") && strings.HasSuffix(name, "token")
}

// isSecretName reports whether a name in lower case ends like that of a
// secret. "tokens" does not: inference servers count them in every line.
func isSecretName(name string) bool {
	if what, ok := strings.CutSuffix(name, "key"); ok {
		what = strings.TrimRight(what, " _.-")
		return endsIn(what, "api", "access", "private", "secret", "auth", "account", "encryption", "signing", "master", "shared", "license", "ssh")
	}
	return endsIn(name, "password", "passwd", "passphrase", "passcode", "secret", "token", "credential", "credentials")
}

func endsIn(s string, words ...string) bool {
	for _, w := range words {
		if strings.HasSuffix(s, w) {
			return true
		}
	}
	return false
}

// isSecretFlag reports whether a text ends with a command line flag whose
// argument is a secret.
func isSecretFlag(low string) bool {
	return isSecretName(low) && strings.HasPrefix(low[strings.LastIndexAny(low, " \n\"'[(")+1:], "-")
}

// find returns the matches of r in s, as regexp's FindAllStringSubmatchIndex.
func (r rule) find(s string) [][]int {
	if r.after == "" {
		return r.re.FindAllStringSubmatchIndex(s, -1)
	}
	var found [][]int
	low := lower(s)
	for i := range len(s) {
		if strings.IndexByte(r.after, s[i]) < 0 || !r.named(bare(low[:i])) {
			continue
		}
		if loc := r.re.FindStringSubmatchIndex(s[i+1:]); loc != nil {
			found = append(found, shift(loc, i+1)) // may overlap the next: secret: api_key: x
		}
	}
	return found
}

// bare takes what may stand between a name and its separator off the end.
func bare(s string) string {
	return strings.TrimRight(strings.TrimRight(s, " "), "\"'`\\")
}

func shift(loc []int, by int) []int {
	for i := range loc {
		if loc[i] >= 0 {
			loc[i] += by
		}
	}
	return loc
}

// span is a part of a text, in bytes.
type span struct{ from, to int }

// secrets returns where the secrets of r are in s.
func (r rule) secrets(s string) []span {
	var found []span
	for _, loc := range r.find(s) {
		for _, g := range secretGroups(loc) {
			g.to = g.from + r.length(s[:g.from], s[g.from:g.to])
			if !r.spares(s[g.from:g.to]) && !isCount(s[:g.from], s[g.from:g.to]) {
				found = append(found, g)
			}
		}
	}
	return found
}

// length is how much of what was found is the secret. A secret may end with a
// single quote itself: it is left out only where it can be nothing but the end
// of a quotation, after an odd number of them in the line, and alone.
func (r rule) length(before, secret string) int {
	secret = strings.TrimRight(secret, r.trim)
	text, closes := strings.CutSuffix(secret, "'")
	if !r.quoted || !closes || strings.Contains(text, "'") || strings.HasSuffix(before, "'") || strings.HasSuffix(before, `"`) {
		return len(secret)
	}
	if line := before[strings.LastIndexByte(before, '\n')+1:]; strings.Count(line, "'")%2 == 0 {
		return len(secret)
	}
	return len(strings.TrimRight(text, r.trim))
}

// spares reports whether a match stays as it is. What is masked already is
// left alone, or masking twice would differ from masking once.
func (r rule) spares(secret string) bool {
	return strings.Trim(secret, "*") == "" || r.keep != nil && r.keep(secret)
}

// secretGroups are the groups that took part in a match, or the whole match
// when its expression has none.
func secretGroups(loc []int) []span {
	if len(loc) == 2 {
		return []span{{loc[0], loc[1]}}
	}
	var groups []span
	for i := 2; i < len(loc); i += 2 {
		if loc[i] >= 0 {
			groups = append(groups, span{loc[i], loc[i+1]})
		}
	}
	return groups
}
