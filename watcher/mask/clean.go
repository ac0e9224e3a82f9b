package mask

import (
	"strings"
	"unicode/utf8"
)

const escape = 0x1b

// clean returns s without escape sequences, control characters and invisible
// characters, with tabs as spaces and invalid UTF-8 replaced. Line ends become
// "\n" when lines is set, else spaces. It stops once it has limit bytes and
// reports whether something was left. Every byte is looked at once.
func clean(s string, lines bool, limit int) (text string, cut bool) {
	n := plainPrefix(s, limit)
	if n == len(s) {
		return s, false
	}
	var b strings.Builder
	b.Grow(min(len(s), limit) + utf8.UTFMax)
	b.WriteString(s[:n])
	i := n
	for i < len(s) && b.Len() < limit {
		i += next(&b, s[i:], lines)
	}
	return b.String(), i < len(s)
}

// plainPrefix is how many bytes at the start of s are printable ASCII.
func plainPrefix(s string, limit int) int {
	for i := range min(len(s), limit) {
		if c := s[i]; c < ' ' || c > '~' {
			return i
		}
	}
	return min(len(s), limit)
}

// next writes what the first character or sequence of s becomes and returns
// its length.
func next(b *strings.Builder, s string, lines bool) int {
	switch c := s[0]; {
	case ' ' <= c && c <= '~':
		b.WriteByte(c)
		return 1
	case c == '\t':
		b.WriteByte(' ')
		return 1
	case c == '\n', c == '\v', c == '\f':
		newline(b, lines)
		return 1
	case c == '\r':
		newline(b, lines)
		if strings.HasPrefix(s, "\r\n") {
			return 2
		}
		return 1
	case c == escape:
		return escapeLen(s)
	case c < utf8.RuneSelf: // the other control characters
		return 1
	}
	return nextRune(b, s, lines)
}

func nextRune(b *strings.Builder, s string, lines bool) int {
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && n == 1:
		b.WriteRune(utf8.RuneError)
		return invalidLen(s)
	case r == 0x85, r == 0x2028, r == 0x2029:
		newline(b, lines)
	case r == 0x9b:
		return n + controlLen(s[n:])
	case isString8(r):
		return n + stringLen(s[n:])
	case !invisible(r):
		b.WriteString(s[:n])
	}
	return n
}

func newline(b *strings.Builder, lines bool) {
	if lines {
		b.WriteByte('\n')
	} else {
		b.WriteByte(' ')
	}
}

// invalidLen is the length of the run of invalid bytes that s starts with; it
// becomes one replacement character.
func invalidLen(s string) int {
	i := 0
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r != utf8.RuneError || n != 1 {
			break
		}
		i++
	}
	return i
}

// invisible reports whether r changes how text is read without being seen:
// control characters, and those that turn the direction of writing, join or
// hide. The two joiners that scripts and emoji need stay.
func invisible(r rune) bool {
	switch {
	case 0x80 <= r && r <= 0x9f, r == 0xad, r == 0x61c, r == 0x180e, r == 0x200b, r == 0x200e, r == 0x200f:
		return true
	case 0x202a <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f, r == 0xfeff, 0xfff9 <= r && r <= 0xfffb:
		return true
	}
	return 0xe0000 <= r && r <= 0xe007f
}

// escapeLen is the length of the terminal sequence that s, which begins with
// ESC, starts with, after ECMA-48.
func escapeLen(s string) int {
	if len(s) == 1 {
		return 1
	}
	switch c := s[1]; {
	case c == '[':
		return 2 + controlLen(s[2:])
	case c == ']', c == 'P', c == 'X', c == '^', c == '_':
		return 2 + stringLen(s[2:])
	case ' ' <= c && c <= '/':
		i := 2 + runLen(s[2:], ' ', '/')
		return i + final(s[i:], '0')
	case '0' <= c && c <= '~':
		return 2
	}
	return 1
}

// controlLen is the rest of a control sequence: parameters, then one letter.
func controlLen(s string) int {
	i := runLen(s, ' ', '?')
	return i + final(s[i:], '@')
}

// stringLen is the rest of a command string (a window title, a hyperlink): up
// to its end mark, and at most to the end of the line.
func stringLen(s string) int {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\a':
			return i + 1
		case c == escape && strings.HasPrefix(s[i:], "\x1b\\"), c == 0xc2 && strings.HasPrefix(s[i:], "\u009c"):
			return i + 2
		case c == escape, c == '\n', c == '\r':
			return i
		}
	}
	return len(s)
}

// isString8 reports whether r is the one-character form of ESC P, X, ], ^, _.
func isString8(r rune) bool { return r == 0x90 || r == 0x98 || 0x9d <= r && r <= 0x9f }

func runLen(s string, from, to byte) int {
	i := 0
	for i < len(s) && from <= s[i] && s[i] <= to {
		i++
	}
	return i
}

func final(s string, from byte) int {
	if s != "" && from <= s[0] && s[0] <= '~' {
		return 1
	}
	return 0
}

// Clean returns s without escape sequences, control characters and invisible
// characters, with invalid UTF-8 replaced and nothing masked: for text that was
// masked when it was stored. Line ends become "\n" when lines is set, else
// spaces. It gives back at most limit bytes, cut on a rune boundary.
func Clean(s string, lines bool, limit int) string {
	text, _ := clean(s, lines, limit)
	if len(text) <= limit {
		return text
	}
	return text[:boundary(text, limit)]
}
