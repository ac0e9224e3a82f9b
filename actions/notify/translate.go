package notify

import (
	"slices"
	"strings"
)

const (
	maxSentence = 2 << 10 // bytes; anything longer stays as it is
	maxJoints   = 24      // between the thoughts of a sentence
	maxDepth    = 8       // of sentences within sentences
	maxLooks    = 200     // at the catalogue, for one sentence
	maxTries    = 8_000   // to place slots, for one sentence
)

// translate says an English sentence of the policy in the language of w. What
// the catalogue does not have stays English.
func (w *wordSet) translate(s string) string {
	out, _ := w.translated(s)
	return out
}

// translated also reports whether the catalogue had a line for it, or for a
// part of it.
func (w *wordSet) translated(s string) (string, bool) {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(w.sentences) == 0 || len(s) > maxSentence {
		return s, false
	}
	t := translation{w: w, looks: maxLooks, tries: maxTries, seen: map[passage]said{}}
	return t.of(shaded(s), 0)
}

// retell makes a sentence of the policy's one line of a bearable length, in the
// language of w.
func (w *wordSet) retell(s string) string {
	text, _ := w.retold(s)
	return text
}

// retold also reports whether it stayed English where that is foreign.
func (w *wordSet) retold(s string) (text string, foreign bool) {
	text, known := w.translated(Clean(s))
	return cutRunes(text, causeRunes), !known && len(w.sentences) > 0
}

// translation is the work on one sentence, with what may still be spent on it.
type translation struct {
	w     *wordSet
	looks int
	tries int
	seen  map[passage]said
}

// said is what a passage was translated to; empty: no line fits it.
type said struct {
	text string
	ok   bool
}

// of translates a passage: as one line of the catalogue, or else thought by
// thought.
func (t *translation) of(p passage, depth int) (string, bool) {
	if out, ok := t.line(p, depth); ok {
		return out, true
	}
	joints := jointsOf(p.shade)
	if len(joints) == 0 || len(joints) > maxJoints {
		return p.text, false
	}
	return t.thoughts(p, joints, depth)
}

// thoughts translates a passage from its front, in pieces that are as long as
// a line of the catalogue goes. A thought that no line fits stays as it is.
func (t *translation) thoughts(p passage, joints []int, depth int) (string, bool) {
	var b strings.Builder
	found, before, from := false, false, 0
	ends := slices.Concat(joints, []int{len(p.text)})
	for len(ends) > 0 {
		piece, n, ok := t.piece(p, from, ends, depth)
		if from > 0 {
			b.WriteString(joint(p.text[from-len("; "):from], before || ok))
		}
		b.WriteString(piece)
		found, before = found || ok, ok
		from, ends = ends[n-1]+len("; "), ends[n:]
	}
	if !found {
		return p.text, false
	}
	return b.String(), true
}

// piece translates as many thoughts at once as one line fits, n of them. ends
// are where each ends.
func (t *translation) piece(p passage, from int, ends []int, depth int) (text string, n int, ok bool) {
	for i, end := range slices.Backward(ends) {
		if out, ok := t.line(p.cut(from, end), depth); ok {
			return out, i + 1, true
		}
	}
	return p.text[from:ends[0]], 1, false
}

// joint joins two thoughts. Between two that stay English it stays, too.
func joint(mark string, translated bool) string {
	switch {
	case !translated:
		return mark
	case mark == ". ":
		return "。"
	}
	return "；"
}

// jointsOf finds where one thought ends and the next begins: at "; " and ". ",
// but not within brackets.
func jointsOf(shade string) []int {
	var at []int
	open := 0
	for i := 0; i+1 < len(shade); i++ {
		switch c := shade[i]; {
		case c == '(':
			open++
		case c == ')' && open > 0:
			open--
		case (c == ';' || c == '.') && shade[i+1] == ' ' && open == 0 && i > 0 && i+2 < len(shade):
			at = append(at, i)
		}
	}
	return at
}

// line translates a passage by the first line of the catalogue that fits it
// from end to end.
func (t *translation) line(p passage, depth int) (string, bool) {
	if was, ok := t.seen[p]; ok {
		return was.text, was.ok
	}
	if depth >= maxDepth || t.looks <= 0 {
		return "", false
	}
	t.looks--
	text, ok := t.look(p, depth)
	t.seen[p] = said{text, ok}
	return text, ok
}

func (t *translation) look(p passage, depth int) (string, bool) {
	for _, s := range t.w.sentences.beginning(p.shade) {
		if !s.mayFit(p.shade) {
			continue
		}
		if values, ok := t.place(s.slots, p.cut(len(s.head), len(p.text)), depth); ok {
			return s.render(values), true
		}
	}
	return "", false
}

// mayFit looks at both ends, which tells most lines from the right one.
func (s *sentence) mayFit(shade string) bool {
	if !strings.HasPrefix(shade, s.head) {
		return false
	}
	if len(s.slots) == 0 {
		return len(shade) == len(s.head)
	}
	return strings.HasSuffix(shade[len(s.head):], s.slots[len(s.slots)-1].after)
}

// place finds what stands in each slot, the shortest that fits first, and
// translates it.
func (t *translation) place(slots []slot, p passage, depth int) ([]string, bool) {
	if len(slots) == 0 {
		return nil, p.text == ""
	}
	s := slots[0]
	if len(slots) == 1 {
		if !strings.HasSuffix(p.shade, s.after) {
			return nil, false
		}
		v, ok := t.value(s.kind, p.cut(0, len(p.text)-len(s.after)), depth)
		return []string{v}, ok
	}
	for from := 1; from < len(p.shade); {
		n := strings.Index(p.shade[from:], s.after)
		if t.tries--; n < 0 || t.tries < 0 {
			return nil, false
		}
		end := from + n
		if front := p.cut(0, end); fits(s.kind, front) {
			rest, ok := t.place(slots[1:], p.cut(end+len(s.after), len(p.text)), depth)
			if ok {
				if v, ok := t.value(s.kind, front, depth); ok {
					return append([]string{v}, rest...), true
				}
			}
		}
		from = end + 1
	}
	return nil, false
}

// value is what stands in a slot, in the other language.
func (t *translation) value(kind string, p passage, depth int) (string, bool) {
	if !fits(kind, p) {
		return "", false
	}
	switch kind {
	case slotSpan:
		return t.w.saySpan(p.text), true
	case slotGPU:
		if p.text == "every GPU" {
			return t.w.phrases["name.every_gpu"], true
		}
		return bracketed(p.text), true
	case slotNames:
		return strings.ReplaceAll(p.text, ", ", "、"), true
	case slotProc:
		return process(p.text), true
	case slotSaid:
		out, _ := t.of(p, depth+1)
		return out, true
	case slotKnown:
		return t.line(p, depth+1)
	}
	return p.text, true
}

// render writes the other language, the values in their places.
func (s *sentence) render(values []string) string {
	var b strings.Builder
	b.WriteString(s.to)
	for _, turn := range s.order {
		spaced(&b, values[turn.from])
		spaced(&b, turn.after)
	}
	return b.String()
}
