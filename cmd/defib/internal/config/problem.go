package config

import (
	"fmt"
	"strings"
	"unicode"
)

// Problem is one thing wrong in the file, at a place in it.
type Problem struct {
	File      string
	Line, Col int // from 1; 0 when no place can be named
	Key       string
	Text      string
	source    string // the line itself
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
	if p.Line > 0 {
		b.WriteString(excerpt(p.Line, p.Col, p.source))
	}
	return b.String()
}

// FileErrors is all that is wrong with one file, in the file's order.
type FileErrors []Problem

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
