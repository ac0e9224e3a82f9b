package gpu

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable is what a stranger wrote, fit to be kept and shown: valid UTF-8
// without what cannot be seen, at most limit bytes of it.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
