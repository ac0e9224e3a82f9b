// Package mask keeps secrets and hostile text out of everything that is
// stored, logged or sent. What a container says is written by strangers: it
// may hold a password by accident, or escape sequences on purpose.
//
// The package is pure: the same text gives the same answer, and masking twice
// gives what masking once gives.
package mask

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	lineMax  = 1024 // bytes that Line gives back at most
	margin   = 3072 // read beyond what is given back, so that a secret at the cut is still recognised
	longWord = 512  // a word at the end of what was read is dropped up to this many bytes: it may be half a secret
	settle   = 4    // passes until the text no longer changes; two are usual

	ellipsis = "…"
	stars    = "***"
)

// Masker masks. It is immutable and safe for concurrent use.
type Masker struct {
	rules    []rule
	triggers []string // of all rules; a text without any of them holds nothing to mask
	always   bool     // some rule has no trigger
}

// New returns a Masker with the built-in patterns and the user's own: regular
// expressions in Go's syntax. What the groups of one match is masked, and all
// that it matches when it has no group. The error names every bad expression.
func New(extra []string) (*Masker, error) {
	m := &Masker{rules: builtin()}
	var errs []error
	for _, text := range extra {
		re, err := regexp.Compile(text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("secret pattern %q: %w", text, err))
		case re.MatchString(""):
			errs = append(errs, fmt.Errorf("secret pattern %q matches the empty text and would mask everything: make it ask for at least one character", text))
		default:
			m.rules = append(m.rules, own(re))
		}
	}
	m.collectTriggers()
	return m, errors.Join(errs...)
}

func (m *Masker) collectTriggers() {
	seen := map[string]bool{}
	for _, r := range m.rules {
		m.always = m.always || len(r.triggers) == 0
		for _, t := range r.triggers {
			if !seen[t] {
				seen[t] = true
				m.triggers = append(m.triggers, t)
			}
		}
	}
}

// Line makes one line of s that is fit to be shown: escape sequences, control
// characters and invisible characters gone, tabs and line ends turned into a
// space, invalid UTF-8 replaced, secrets masked, at most 1024 bytes.
func (m *Masker) Line(s string) string {
	text, cut := clean(s, false, lineMax+margin)
	return m.finish(strings.TrimRight(text, " "), cut, lineMax)
}

// Text is Line for a text of several lines: line ends stay. It gives back at
// most limit bytes.
func (m *Masker) Text(s string, limit int) string {
	limit = max(limit, 0)
	text, cut := clean(s, true, limit+margin)
	return m.finish(text, cut, limit)
}

// Sensitive reports whether a variable, label or field of this name holds a
// secret whatever its value looks like: DB_PASSWORD, hf-token, apiKey.
func (m *Masker) Sensitive(name string) bool { return isSecretName(lower(name)) }

// Plain reports whether s is sure to hold nothing to clean or to mask. It is
// cheap, and false does not mean that there is something.
func (m *Masker) Plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return !m.always && !containsAny(lower(s), m.triggers)
}

// finish masks a clean text and cuts it to limit. Cutting can make a new
// match and masking a longer text, so both are repeated until nothing
// changes: that is what makes a second masking change nothing.
func (m *Masker) finish(s string, cut bool, limit int) string {
	if cut {
		s = dropLastWord(s) + ellipsis
	}
	for range settle {
		next := shorten(m.mask(s), limit)
		if next == s {
			break
		}
		s = next
	}
	return s
}

// mask replaces the secrets in s. Every rule looks at s as it is, so that none
// hides from another what it has found.
func (m *Masker) mask(s string) string {
	low := lower(s)
	if !m.always && !containsAny(low, m.triggers) {
		return s
	}
	var found []span
	for _, r := range m.rules {
		if len(r.triggers) == 0 || containsAny(low, r.triggers) {
			found = append(found, r.secrets(s)...)
		}
	}
	return replace(s, found)
}

func replace(s string, found []span) string {
	if len(found) == 0 {
		return s
	}
	slices.SortFunc(found, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	done := -1
	for _, f := range found {
		if f.from > done {
			b.WriteString(s[max(done, 0):f.from])
			b.WriteString(stars)
		}
		done = max(done, f.to)
	}
	b.WriteString(s[done:])
	return b.String()
}

// Stream masks lines that follow each other, such as a container's log: a
// private key spread over several of them is masked as a whole.
type Stream struct {
	m     *Masker
	inKey bool
}

// Stream returns one that stands before the first line.
func (m *Masker) Stream() *Stream { return &Stream{m: m} }

// Line is [Masker.Line] for the next line.
func (s *Stream) Line(text string) string {
	if s.Hidden(text) {
		return stars
	}
	return s.m.Line(text)
}

// Hidden reports whether the next line is wholly inside a private key, and
// takes note of whether it begins or ends one.
func (s *Stream) Hidden(text string) bool {
	was := s.inKey
	begin, end := strings.LastIndex(text, keyBegin), strings.LastIndex(text, keyEnd)
	switch {
	case begin > end && strings.Contains(text[begin:], keyName):
		s.inKey = true
	case end >= 0:
		s.inKey = false
	}
	return was
}

// shorten cuts s to limit bytes on a rune boundary, with an ellipsis if that
// fits.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	tail := ellipsis
	if limit < len(tail) {
		tail = ""
	}
	return s[:boundary(s, limit-len(tail))] + tail
}

// dropLastWord takes off the word at the end of s, which may have been cut.
func dropLastWord(s string) string {
	from := max(len(s)-longWord, 0)
	if i := strings.LastIndexAny(s[from:], " \n"); i >= 0 {
		return s[:from+i]
	}
	return s[:boundary(s, from)]
}

func boundary(s string, i int) int {
	for i > 0 && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// lower folds ASCII letters only: triggers are ASCII, and offsets stay.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			return lowered(s, i)
		}
	}
	return s
}

func lowered(s string, from int) string {
	b := []byte(s)
	for i := from; i < len(b); i++ {
		if c := b[i]; 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}
