package notify

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/defib-dev/defib/gpu"
)

// entries are the lines of a file of words that say something, with their
// numbers; # begins a comment line.
func entries(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(text) {
			n++
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !yield(n, line) {
				return
			}
		}
	}
}

// readPhrases reads entries of the form "key = phrase".
func (w *wordSet) readPhrases(text string, base *wordSet) error {
	seen := map[string]bool{}
	var problems []error
	for n, line := range entries(text) {
		key, phrase, ok := strings.Cut(line, "=")
		key, phrase = strings.TrimSpace(key), strings.TrimSpace(phrase)
		if why := wrongPhrase(key, phrase, ok, seen[key], base); why != "" {
			problems = append(problems, fmt.Errorf("%s:%d: %s", phraseFile, n, why))
		}
		seen[key], w.phrases[key] = true, phrase
	}
	return errors.Join(problems...)
}

func wrongPhrase(key, phrase string, ok, again bool, base *wordSet) string {
	switch {
	case !ok || key == "" || phrase == "":
		return "want a line such as rule.oom = out of memory"
	case again:
		return key + " is there twice"
	case base == nil || base.phrases[key] == "" && mayBeNew(key):
		return ""
	case base.phrases[key] == "":
		return fmt.Sprintf("there is no phrase %q", key)
	}
	for _, name := range braced(phrase) {
		if !slices.Contains(braced(base.phrases[key]), name) {
			return fmt.Sprintf("{%s} stands for nothing in %s, which is %q", name, key, base.phrases[key])
		}
	}
	return ""
}

// mayBeNew: of these, a language has only those that it needs.
func mayBeNew(key string) bool {
	kind, _, _ := strings.Cut(key, ".")
	return slices.Contains([]string{"xid", "remedy", "do", "title", "exit"}, kind)
}

// braced are the names in braces.
func braced(s string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(s, "{")
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			return out
		}
		out, s = append(out, name), after
	}
}

// say is a phrase with its values: name, value, name, value and so on.
func (w *wordSet) say(key string, values ...string) string {
	pairs := make([]string, len(values))
	for i, v := range values {
		if i%2 == 0 {
			v = "{" + v + "}"
		}
		pairs[i] = v
	}
	return strings.NewReplacer(pairs...).Replace(w.phrases[key])
}

// count is a number of things.
func (w *wordSet) count(key string, n int) string {
	if one := key + ".1"; n == 1 && w.phrases[one] != "" {
		return w.phrases[one]
	}
	return w.say(key, "n", strconv.Itoa(n))
}

// comma stands between two things of a list.
func (w *wordSet) comma() string {
	c := w.phrases["comma"]
	if c != "" && c[0] < utf8.RuneSelf {
		c += " "
	}
	return c
}

// span is a length of time in at most two units.
func (w *wordSet) span(d time.Duration) string {
	d = max(d, 0)
	n := func(unit string, d, of time.Duration) string {
		return w.say("unit."+unit, "n", strconv.Itoa(int(d/of)))
	}
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return n("s", d, time.Second)
	case d < time.Hour:
		return n("min", d, time.Minute)
	case d < 2*day:
		return n("h", d, time.Hour) + more(d%time.Hour >= time.Minute, n("min", d%time.Hour, time.Minute))
	}
	return n("d", d, day) + more(d%day >= time.Hour, n("h", d%day, time.Hour))
}

func more(is bool, s string) string {
	if !is {
		return ""
	}
	return " " + s
}

// rule is a rule of the policy in words; one that has none is told by its name.
func (w *wordSet) rule(name string) string {
	if code, ok := xidOf(name); ok {
		return w.say("rule.xid", "n", strconv.Itoa(code), "meaning", w.xid(code))
	}
	if s := w.phrases["rule."+name]; s != "" {
		return s
	}
	return Clean(strings.ReplaceAll(name, "_", " "))
}

// xid is what the number of a fault means, to go on from a GPU's name.
func (w *wordSet) xid(code int) string {
	if s := w.phrases["xid."+strconv.Itoa(code)]; s != "" {
		return s
	}
	return strings.TrimPrefix(w.translate(gpu.Lookup(code).Meaning), "GPU ")
}

// xidOf returns the number in a rule such as xid_79.
func xidOf(rule string) (int, bool) {
	digits, ok := strings.CutPrefix(rule, "xid_")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil
}
