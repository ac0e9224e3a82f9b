package notify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The policy and the GPU rules write their sentences in English. This file
// reads how another language says them, translate.go says it, and slots.go
// knows what may stand in the slots of a line.

const sentenceFile = "sentences.txt"

// sentence is one line of the catalogue.
type sentence struct {
	head   string // English before the first slot
	slots  []slot // in the English order
	to     string // the other language before its first slot
	order  []turn // its slots in its own order
	weight int    // bytes of English that stand fixed
}

// slot is a place in the English, and what stands between it and the next.
type slot struct {
	kind  string
	after string
}

// turn is a slot in the other language, by its place in the English.
type turn struct {
	from  int
	after string
}

// readSentences reads entries of the form "English = translation". Those with
// the most fixed English come first, and of equals the one that the file has
// first.
func readSentences(text string) (sentences, error) {
	var list []*sentence
	var problems []error
	seen := map[string]int{}
	for n, line := range entries(text) {
		s, shape, err := readSentence(line)
		if err == nil && seen[shape] > 0 {
			err = fmt.Errorf("line %d fits the same English", seen[shape])
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", sentenceFile, n, err))
			continue
		}
		seen[shape] = n
		list = append(list, &s)
	}
	slices.SortStableFunc(list, func(a, b *sentence) int { return cmp.Compare(b.weight, a.weight) })
	return indexed(list), errors.Join(problems...)
}

// sentences are the lines of a catalogue by the first byte of English that
// they fit; those that begin with a slot are under each.
type sentences map[byte][]*sentence

func indexed(list []*sentence) sentences {
	out := sentences{}
	for _, s := range list {
		if s.head != "" {
			out[s.head[0]] = nil
		}
	}
	out[0] = nil // any other byte
	for first := range out {
		for _, s := range list {
			if s.head == "" || s.head[0] == first {
				out[first] = append(out[first], s)
			}
		}
	}
	return out
}

// beginning are the lines that may fit English with this beginning.
func (s sentences) beginning(english string) []*sentence {
	if english == "" {
		return nil
	}
	if list, ok := s[english[0]]; ok {
		return list
	}
	return s[0]
}

// readSentence reads one line. shape is its English with the kinds of its
// slots instead of their names.
func readSentence(line string) (s sentence, shape string, err error) {
	english, other, ok := strings.Cut(line, " = ")
	if !ok || other == "" {
		return s, "", errors.New("want a line such as it exited with {n} = …")
	}
	head, names, between, err := cutSlots(english)
	if err != nil {
		return s, "", err
	}
	s.head, s.weight, shape = head, len(head), head
	for i, name := range names {
		kind := strings.TrimRight(name, "0123456789")
		if !slices.Contains(slotKinds(), kind) {
			return s, "", fmt.Errorf("{%s} is no slot; there are %s", name, strings.Join(slotKinds(), ", "))
		}
		if between[i] == "" && i+1 < len(names) {
			return s, "", fmt.Errorf("nothing stands between {%s} and {%s}", name, names[i+1])
		}
		s.slots = append(s.slots, slot{kind, between[i]})
		s.weight += len(between[i])
		shape += "{" + kind + "}" + between[i]
	}
	if strings.TrimSpace(s.head) == "" && s.weight-len(s.head) == 0 {
		return s, "", errors.New("it would fit everything")
	}
	return s, shape, s.readOther(other, names)
}

// readOther reads the translation, which has each slot of the English once.
func (s *sentence) readOther(other string, names []string) error {
	head, turns, between, err := cutSlots(other)
	if err != nil {
		return err
	}
	s.to = head
	for i, name := range turns {
		from := slices.Index(names, name)
		if from < 0 {
			return fmt.Errorf("the English has no {%s}", name)
		}
		s.order = append(s.order, turn{from, between[i]})
	}
	for _, name := range names {
		if !slices.Contains(turns, name) {
			return fmt.Errorf("the translation has no {%s}", name)
		}
	}
	return nil
}

// cutSlots takes a line apart: what stands before its first slot, its slots by
// name, and what stands behind each.
func cutSlots(s string) (head string, names, after []string, err error) {
	parts := strings.Split(s, "{")
	for _, part := range parts[1:] {
		name, rest, ok := strings.Cut(part, "}")
		switch {
		case !ok || strings.Contains(rest, "}"):
			return "", nil, nil, errors.New("its braces do not pair")
		case slices.Contains(names, name):
			return "", nil, nil, fmt.Errorf("{%s} is there twice; write {%s2}", name, name)
		}
		names, after = append(names, name), append(after, rest)
	}
	return parts[0], names, after, nil
}

// passage is English to be translated. In shade everything that others wrote
// within quotes or backticks is dark, so that no line can fit inside it.
type passage struct{ text, shade string }

func (p passage) cut(from, to int) passage { return passage{p.text[from:to], p.shade[from:to]} }

// dark stands in a shade for a byte of what others wrote.
const dark = "\x00"

// shaded finds what others wrote: from the first “ to the last ”, since what a
// container says may hold either, and every command in backticks elsewhere.
func shaded(s string) passage {
	from := strings.Index(s, "“")
	if from < 0 {
		return passage{s, shadeCommands(s)}
	}
	to := len(s) // it was cut before its end
	if last := strings.LastIndex(s, "”"); last > from {
		to = last + len("”")
	}
	return passage{s, shadeCommands(s[:from]) + strings.Repeat(dark, to-from) + shadeCommands(s[to:])}
}

func shadeCommands(s string) string {
	var b strings.Builder
	for {
		from := strings.IndexByte(s, '`')
		if from < 0 {
			break
		}
		n := strings.IndexByte(s[from+1:], '`')
		if n < 0 {
			break
		}
		to := from + n + 2
		b.WriteString(s[:from] + strings.Repeat(dark, to-from))
		s = s[to:]
	}
	return b.String() + s
}

// spaced writes next behind what is written, with a space where Chinese meets a
// Latin word or a number.
func spaced(b *strings.Builder, next string) {
	before, _ := utf8.DecodeLastRuneInString(b.String())
	behind, _ := utf8.DecodeRuneInString(next)
	if unicode.Is(unicode.Han, before) && latin(behind) || latin(before) && unicode.Is(unicode.Han, behind) {
		b.WriteByte(' ')
	}
	b.WriteString(next)
}

func latin(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("`-/_()", r))
}
