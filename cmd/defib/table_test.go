package main

import (
	"bytes"
	"testing"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestTableIsCutToTheTerminal(t *testing.T) {
	tab := table{header: []string{"NAME", "STATE"}, rows: [][]string{{"a", "FATAL"}, {"long-name", "RUNNING (not ready)"}}, paint: 1}
	var out bytes.Buffer
	clean := func(s string) string { return s }
	if err := tab.write(&out, terminal{width: 14, colour: true}, true, clean); err != nil {
		t.Fatal(err)
	}
	want := "NAME       ST…\na          \x1b[31mFA…\x1b[0m\nlong-name  \x1b[33mRU…\x1b[0m\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestColourChoice(t *testing.T) {
	for _, c := range []struct {
		flag string
		env  map[string]string
		want bool
	}{
		{"auto", nil, false}, // not a terminal
		{"always", map[string]string{"NO_COLOR": "1"}, true},
		{"never", map[string]string{"CLICOLOR_FORCE": "1"}, false},
		{"auto", map[string]string{"CLICOLOR_FORCE": "1"}, true},
		{"auto", map[string]string{"CLICOLOR_FORCE": "0"}, false},
		{"auto", map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, false},
	} {
		a := newApp(nil, &bytes.Buffer{}, &bytes.Buffer{}, func(k string) string { return c.env[k] })
		a.color = c.flag
		if got := a.terminal().colour; got != c.want {
			t.Errorf("--color %s with %v: got %v, want %v", c.flag, c.env, got, c.want)
		}
	}
}

func TestExitWord(t *testing.T) {
	for _, c := range []struct {
		exit *policy.Exit
		want string
	}{
		{nil, "-"},
		{&policy.Exit{}, "0 clean"},
		{&policy.Exit{Code: 1}, "1 error"},
		{&policy.Exit{Code: 137}, "137 SIGKILL"},
		{&policy.Exit{Code: 137, OOMKilled: true}, "137 OOMKilled"},
		{&policy.Exit{Code: 1, OOMKilled: true}, "1 OOMKilled"},
		{&policy.Exit{Code: 128, Error: "no such file"}, "128 start failed"},
		{&policy.Exit{Code: 139}, "139 SIGSEGV"},
		{&policy.Exit{Code: 200}, "200 error"},
	} {
		if got := exitWord(c.exit); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestParseSpan(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"30m", "30m"},
		{"7d", "7d"},
		{"1.5d", "36h"},
		{"90s", "90s"},
		{"0", "0s"},
		{"24h", "24h"},
		{"3h12m", "3h12m"},
		{"1500ms", "1.5s"},
		{"", "error"},
		{"soon", "error"},
		{"-1h", "error"},
		{"-1d", "error"},
		{"1e300d", "error"},
		{"NaNd", "error"},
		{"d", "error"},
	} {
		d, err := parseSpan("--since", c.in)
		got := span(d)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.in, got, c.want)
		}
	}
}
