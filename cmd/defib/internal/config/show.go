package config

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Show writes the settings in effect as a file that Load reads, with the
// source of each value beside it.
func (s Settings) Show(w io.Writer) error {
	var b strings.Builder
	for _, p := range []struct{ name, value string }{
		{"config", s.File},
		{"state-dir", s.StateDir},
		{"socket", s.Socket},
		{"host", s.Host},
		{"log-format", s.LogFormat},
		{"log-level", strings.ToLower(s.LogLevel.String())},
	} {
		if p.value == "" {
			p.value = "none"
		}
		fmt.Fprintf(&b, "# --%-10s %s  (%s)\n", p.name, oneLine(p.value), s.Sources.Of(p.name))
	}
	fmt.Fprintf(&b, "\nversion: %d\n", Version)
	var open []string // the sections that the last line stands in
	for _, f := range fields(&s.Config) {
		path := strings.Split(f.key, ".")
		name := path[len(path)-1]
		open = sections(&b, open, path[:len(path)-1])
		s.entry(&b, strings.Repeat("  ", len(path)-1), f.key, name, f.value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sections writes the headings on the way to path, and returns path.
func sections(b *strings.Builder, open, path []string) []string {
	same := 0
	for same < len(open) && same < len(path) && open[same] == path[same] {
		same++
	}
	if same == 0 {
		b.WriteString("\n")
	}
	for i := same; i < len(path); i++ {
		b.WriteString(strings.Repeat("  ", i) + path[i] + ":\n")
	}
	return path
}

// entry writes one key with its value and source; nothing for a secret that
// the file does not name.
func (s Settings) entry(b *strings.Builder, indent, key, name string, value any) {
	list, isList := value.(rowList)
	if !isList || len(list.each()) == 0 {
		if text := literal(value); text != "" {
			fmt.Fprintf(b, "%-36s # %s\n", indent+name+": "+text, s.Sources.Of(key))
		}
		return
	}
	b.WriteString(indent + name + ":\n")
	for i, row := range list.each() {
		dash := "- "
		for _, f := range row {
			if text := literal(f.value); text != "" && text != `""` && text != "[]" {
				s.entry(b, indent+"  "+dash, fmt.Sprintf("%s[%d].%s", key, i, f.key), f.key, f.value)
				dash = "  "
			}
		}
	}
}

// literal writes a value as YAML.
func literal(v any) string {
	switch v := v.(type) {
	case *bool:
		return strconv.FormatBool(*v)
	case *int:
		return strconv.Itoa(*v)
	case *time.Duration:
		return duration(*v)
	case *string:
		return strconv.Quote(*v)
	case *[]string:
		return quoted(*v)
	case resetOffer:
		return v.word()
	case *choice:
		return strconv.Quote(*v.dst)
	case *words:
		return quoted(*v)
	case secretFile:
		return place(v.File)
	case secretEnv:
		return place(v.Env)
	case secretInline:
		return "" // it never stands there
	case rowList:
		return "[]" // those that hold something are written by entry
	}
	panic(fmt.Sprintf("config: no writer for %T", v))
}

// place names where a secret is; "" when it is nowhere.
func place(where string) string {
	if where == "" {
		return ""
	}
	return strconv.Quote(where)
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func oneLine(s string) string { return strings.Map(plain, s) }
