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
	section := ""
	for _, f := range fields(&s.Config) {
		head, key, ok := strings.Cut(f.key, ".")
		if !ok {
			head, key = "", f.key
		}
		if head != section && head != "" {
			fmt.Fprintf(&b, "\n%s:\n", head)
		} else if head != section {
			b.WriteString("\n")
		}
		section = head
		line := key + ": " + literal(f.value)
		if head != "" {
			line = "  " + line
		}
		fmt.Fprintf(&b, "%-36s # %s\n", line, s.Sources.Of(f.key))
	}
	_, err := io.WriteString(w, b.String())
	return err
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
		quoted := make([]string, len(*v))
		for i, s := range *v {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	panic(fmt.Sprintf("config: no writer for %T", v))
}

func oneLine(s string) string { return strings.Map(plain, s) }
