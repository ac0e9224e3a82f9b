package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
)

// maxFile bounds a file in bytes; a real one has a few thousand.
const maxFile = 1 << 20

// Load reads the file over the defaults. Its error is a [FileErrors] with all
// that is wrong, beside what could be read, or says that the file cannot be
// read.
func Load(path string) (Config, Sources, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(data) > maxFile {
		return Config{}, nil, fmt.Errorf("read the configuration: %s is larger than 1 MiB", path)
	}
	return Parse(path, data)
}

// Parse is Load of a file already read; name is what errors call it. Sources
// call it by its last element.
func Parse(name string, data []byte) (Config, Sources, error) {
	l := &loader{name: name, cfg: Default(), lines: strings.Split(string(data), "\n"), at: map[string]*token.Token{}}
	l.document(data)
	l.validate()
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return a.Line - b.Line })
		l.problems.hideSecrets()
		return l.cfg, l.sources(), l.problems
	}
	return l.cfg, l.sources(), nil
}

func (l *loader) sources() Sources {
	src := Sources{}
	for key, tk := range l.at {
		src[key] = fmt.Sprintf("%s:%d", filepath.Base(l.name), tk.Position.Line)
	}
	return src
}

// loader walks one file and gathers what is wrong with it.
type loader struct {
	name     string
	lines    []string
	cfg      Config
	at       map[string]*token.Token // keys that the file sets, and where
	problems FileErrors
}

func (l *loader) document(data []byte) {
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		l.syntax(err)
		return
	}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return empty(d.Body) })
	if len(docs) > 1 {
		l.problem(docs[1].GetToken(), "", "a second document begins here; put all settings into the first")
		return
	}
	if len(docs) == 0 {
		return
	}
	set := map[string]any{"version": nil}
	for _, f := range fields(&l.cfg) {
		set[f.key] = f.value
	}
	l.mapping("", docs[0].Body, set)
}

// syntax turns what the parser says into a problem.
func (l *loader) syntax(err error) {
	var e yaml.Error
	if errors.As(err, &e) && e.GetToken() != nil {
		l.problem(e.GetToken(), "", e.GetMessage())
		return
	}
	l.problems = append(l.problems, Problem{File: l.name, Text: err.Error()})
}

func (l *loader) problem(tk *token.Token, key, text string) {
	p := Problem{File: l.name, Key: key, Text: text}
	if tk != nil && tk.Position != nil {
		p.Line, p.Col = tk.Position.Line, tk.Position.Column
		if p.Line >= 1 && p.Line <= len(l.lines) {
			p.source = strings.TrimSuffix(l.lines[p.Line-1], "\r")
		}
	}
	l.problems = append(l.problems, p)
}

// mapping sets what stands in one section; prefix is its name with a dot.
func (l *loader) mapping(prefix string, n ast.Node, set map[string]any) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		l.problem(n.GetToken(), strings.TrimSuffix(prefix, "."), "want lines of `key: value` here")
		return
	}
	seen := map[string]int{}
	for _, v := range m.Values {
		name := v.Key.GetToken().Value
		key, tk := prefix+name, v.Key.GetToken()
		if first := seen[key]; first > 0 {
			l.problem(tk, key, fmt.Sprintf("is set twice, first on line %d", first))
			continue
		}
		seen[key] = tk.Position.Line
		l.entry(key, tk, v.Value, set)
	}
}

// entry sets one key, or goes into the section that it names.
func (l *loader) entry(key string, tk *token.Token, value ast.Node, set map[string]any) {
	dst, known := set[key]
	switch {
	case known && empty(value):
		l.problem(tk, key, "has no value; delete the line to keep the default")
	case key == "version":
		l.version(value)
	case known:
		l.at[key] = tk
		l.assign(key, dst, value)
	case isSection(key, set):
		if !empty(value) {
			l.mapping(key+".", value, set)
		}
	default:
		l.problem(tk, key, "no such setting"+hint(key, set))
	}
}

func (l *loader) version(n ast.Node) {
	if i, ok := n.(*ast.IntegerNode); !ok || fmt.Sprint(i.Value) != fmt.Sprint(Version) {
		l.problem(n.GetToken(), "version", fmt.Sprintf("this defib reads version %d of the file", Version))
	}
}

// validate reports values that are right in form and wrong in meaning. What
// may follow from a mistake of form, whose setting kept its default, is left
// until that is mended.
func (l *loader) validate() {
	unread := map[string]bool{}
	for _, p := range l.problems {
		unread[p.Key] = true
	}
	for _, p := range slices.Concat(l.cfg.GPU.wrong(), l.cfg.Metrics.wrong(), l.cfg.Notify.wrong()) {
		if !l.follows(p.Key, unread) {
			l.problem(l.at[p.Key], p.Key, p.Text)
		}
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(l.cfg.Policy.Validate(), &joined) {
		return
	}
	for _, one := range joined.Unwrap() {
		key, text, _ := strings.Cut(one.Error(), ": ")
		if slices.ContainsFunc(strings.Fields(one.Error()), func(word string) bool { return unread["policy."+strings.Trim(word, ":,")] }) {
			continue
		}
		l.problem(l.where(key, text), "policy."+key, text)
	}
}

// follows reports whether what is wrong with a key may come from what could
// not be read: of itself, of the row that it stands for, or, of a route, of
// the channels that it names.
func (l *loader) follows(key string, unread map[string]bool) bool {
	named := strings.HasPrefix(key, "notify.routes[") && strings.HasSuffix(key, ".channels")
	for bad := range unread {
		if bad == key || strings.HasSuffix(key, "]") && strings.HasPrefix(bad, key+".") || named && l.hidesName(bad) {
			return true
		}
	}
	return false
}

// hidesName reports whether a key that could not be read may hold the name of
// a channel.
func (l *loader) hidesName(bad string) bool {
	rest, channels := strings.CutPrefix(bad, "notify.channels")
	switch {
	case bad == "notify", bad == "notify.channels", channels && strings.HasSuffix(rest, ".name"), channels && strings.HasSuffix(rest, "]"):
		return true
	case channels:
		return l.at[bad] == nil // name: written wrongly
	}
	return strings.HasPrefix(bad, "notify.") && !strings.Contains(bad, "[") && l.at[bad] == nil // channels: written wrongly
}

// where finds the line to blame for a value: its own, else that of the other
// setting in the sentence.
func (l *loader) where(key, text string) *token.Token {
	if tk := l.at["policy."+key]; tk != nil {
		return tk
	}
	for _, other := range slices.Sorted(maps.Keys(l.at)) {
		if slices.Contains(strings.Fields(text), strings.TrimPrefix(other, "policy.")) {
			return l.at[other]
		}
	}
	return nil
}

func empty(n ast.Node) bool {
	if n == nil {
		return true
	}
	t := n.Type()
	return t == ast.NullType || t == ast.CommentType
}

func isSection(key string, set map[string]any) bool {
	for k := range set {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// hint says which key was meant, and where it belongs.
func hint(key string, set map[string]any) string {
	prefix, name := "", key
	if i := strings.LastIndex(key, "."); i >= 0 {
		prefix, name = key[:i+1], key[i+1:]
	}
	var near, far []string
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if _, inline := set[k].(secretInline); inline {
			continue
		}
		rest, here := strings.CutPrefix(k, prefix)
		first, _, deeper := strings.Cut(rest, ".")
		if here && !slices.Contains(near, first) {
			near = append(near, first)
		}
		if !here || deeper {
			far = append(far, k)
		}
	}
	for _, k := range far {
		if section, last, _ := strings.Cut(k, "."); last == name {
			return "; it belongs under " + section + ":"
		}
	}
	if text := meant(name, near); text != "" {
		return text
	}
	if strings.HasSuffix(prefix, "].") {
		return "; there are " + strings.Join(near, ", ")
	}
	return "; `defib config show` lists all"
}

// meant says which of the words was meant, if one is near enough.
func meant(word string, words []string) string {
	if s := suggest.Closest(word, words); s != "" {
		return "; did you mean " + s + "?"
	}
	return ""
}
