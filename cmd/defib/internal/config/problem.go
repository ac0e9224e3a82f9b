package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/defib-dev/defib/watcher/mask"
)

// Problem is one thing wrong in the file, at a place in it.
type Problem struct {
	File      string
	Line, Col int // from 1; 0 when no place can be named
	Key       string
	Text      string
	source    string // the line itself
	secret    bool   // the line may hold a secret, and is not shown
}

// String names the place, what is wrong, and shows the line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(strings.Map(plain, clip(p.Key)) + ": ")
	}
	b.WriteString(p.Text)
	if p.Line > 0 && !p.secret {
		b.WriteString(excerpt(p.Line, p.Col, p.source))
	}
	return b.String()
}

// FileErrors is all that is wrong with one file, in the file's order.
type FileErrors []Problem

// hideSecrets keeps lines that may hold a secret out of the texts: people do
// put it where it does not belong.
func (p FileErrors) hideSecrets() {
	masker, err := mask.New(nil)
	for i, one := range p {
		line := strings.Join(strings.Fields(strings.Map(plain, one.source)), " ")
		p[i].secret = err != nil || strings.HasPrefix(one.Key, "notify.") || inlineSecret(line) || masker.Line(line) != line
	}
}

// inlineSecret reports whether a line sets a key that sounds of a secret.
func inlineSecret(line string) bool {
	key, value, _ := strings.Cut(strings.ToLower(line), ":")
	if strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_env") {
		return false
	}
	return strings.TrimSpace(value) != "" && slices.ContainsFunc(
		[]string{"token", "secret", "password", "url", "key", "webhook"}, func(w string) bool { return strings.Contains(key, w) }) ||
		strings.Contains(value, "://")
}

// Error gives every problem, each with its place.
func (p FileErrors) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// excerpt shows a line of the file with a caret under the column.
func excerpt(line, col int, source string) string {
	const most = 100
	text := []rune(strings.Map(plain, source))
	if len(text) > most {
		text = append(text[:most], '…')
	}
	margin := fmt.Sprintf("%5d | ", line)
	if col > most {
		return "\n" + margin + string(text)
	}
	return "\n" + margin + string(text) + "\n" + strings.Repeat(" ", len(margin)+max(col-1, 0)) + "^"
}

// plain keeps a terminal from obeying what a file says.
func plain(r rune) rune {
	if r == '\t' {
		return ' '
	}
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
