package notify

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"
)

//go:embed words
var wordFiles embed.FS

// Words say what happened in one language. They are immutable and safe for
// concurrent use.
type Words struct {
	own     *wordSet // with the user's own templates
	builtin *wordSet
}

// NewWords returns the words of a language, en or zh. overrides, nil for none,
// holds files that take the place of the built-in ones: title.tmpl, lead.tmpl,
// fields.tmpl, step.tmpl and foot.tmpl in Go's text/template, and phrases.txt,
// of which only the keys in it are replaced. A template gives one line of text
// for each thing it says; empty lines are left out. All of them are tried on
// every sample here, so that a mistake shows at start; the error names file and
// line.
func NewWords(locale string, overrides fs.FS) (*Words, error) {
	if locale != "en" && locale != "zh" {
		return nil, fmt.Errorf("locale: want en or zh, have %q", locale)
	}
	files, err := fs.Sub(wordFiles, "words/"+locale)
	if err != nil {
		return nil, fmt.Errorf("read the built-in words: %w", err)
	}
	builtin, err := readWords(files, nil)
	if err != nil {
		return nil, fmt.Errorf("read the built-in words: %w", err)
	}
	if overrides == nil {
		return &Words{own: builtin, builtin: builtin}, nil
	}
	own, err := readWords(overrides, builtin)
	if err == nil {
		err = own.check()
	}
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	return &Words{own: own, builtin: builtin}, nil
}

// Render says what a message of a kind says of s. Text of containers in it is
// clean, but not escaped for any service. For [KindStep] there is one line for
// each step of the incident. A template of the user's that cannot be carried
// out gives way to the built-in ones.
func (w *Words) Render(s Story, k Kind) Text {
	t, err := w.own.text(s, k)
	if err != nil {
		t, err = w.builtin.text(s, k)
	}
	if err != nil {
		return Text{Title: Clean(s.Incident.Name + ": " + s.Incident.Cause), Foot: Clean(s.Incident.ID)}
	}
	return t
}

// wordSet is one set of templates and phrases.
type wordSet struct {
	sources   map[string]string
	templates *template.Template
	phrases   map[string]string
	sentences sentences // how to say those of the policy; none: in English, as they are
}

const (
	phraseFile  = "phrases.txt"
	maxWordFile = 64 << 10
)

// readWords reads a directory. What is not in it is as in base; without one,
// it has to hold everything.
func readWords(dir fs.FS, base *wordSet) (*wordSet, error) {
	w := &wordSet{sources: map[string]string{}, phrases: map[string]string{}, templates: template.New("")}
	if base != nil {
		maps.Copy(w.sources, base.sources)
		maps.Copy(w.phrases, base.phrases)
		w.sentences = base.sentences
	}
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") { // what mounts and editors leave
			problems = append(problems, w.read(dir, e.Name(), base))
		}
	}
	return w, errors.Join(append(problems, w.parse())...)
}

func (w *wordSet) read(dir fs.FS, name string, base *wordSet) error {
	if base != nil && name != phraseFile && base.sources[name] == "" {
		return fmt.Errorf("%s: there is no such template; there are %s and %s", name, strings.Join(slices.Sorted(maps.Keys(base.sources)), ", "), phraseFile)
	}
	b, err := fs.ReadFile(dir, name)
	switch {
	case err != nil:
		return err
	case len(b) > maxWordFile:
		return fmt.Errorf("%s: it has %d bytes; at most %d are read", name, len(b), maxWordFile)
	case name == phraseFile:
		return w.readPhrases(string(b), base)
	case name == sentenceFile:
		w.sentences, err = readSentences(string(b))
		return err
	}
	w.sources[name] = string(b)
	return nil
}

func (w *wordSet) parse() error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(w.sources)) {
		_, err := w.templates.New(name).Funcs(template.FuncMap{"cut": func(n int, s string) string { return cutRunes(s, n) }, "gap": gap}).Parse(w.sources[name])
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// gap sets a word of Latin script off from the Chinese before it.
func gap(s string) string {
	if s == "" || s[0] >= utf8.RuneSelf {
		return s
	}
	return " " + s
}

// check renders every sample as every kind of message.
func (w *wordSet) check() error {
	samples := Samples()
	for _, name := range SampleNames() {
		for _, k := range allKinds() {
			t, err := w.text(samples[name], k)
			if err == nil && t.Title == "" {
				err = fmt.Errorf("title.tmpl: it says nothing of the sample %s", name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func allKinds() []Kind {
	return []Kind{KindPost, KindEdit, KindStep, KindEvidence, KindEscalate, KindAgain, KindRemind, KindResolve, KindAck, KindTest, KindAlarm}
}

const (
	maxWordLine = 1000 // characters of a line that a template makes
	maxWordText = 64   // such lines
)

// lines carries a template out and returns what it says, line by line.
func (w *wordSet) lines(name string, data any) ([]string, error) {
	var b strings.Builder
	if err := w.templates.ExecuteTemplate(&b, name, data); err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(b.String()) {
		if line = strings.TrimSpace(line); line != "" && len(out) < maxWordText {
			out = append(out, cutRunes(line, maxWordLine))
		}
	}
	return out, nil
}

// line is what a template says in one line.
func (w *wordSet) line(name string, data any) (string, error) {
	list, err := w.lines(name, data)
	return strings.Join(list, " "), err
}
