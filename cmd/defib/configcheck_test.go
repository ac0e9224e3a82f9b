package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestConfigCheckSaysAllAtOnce wants everything that is wrong in one run, and
// nothing of a sound file.
func TestConfigCheckSaysAllAtOnce(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	dir := t.TempDir()
	file, words := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "words")
	for _, c := range []struct {
		name, text string
		env        map[string]string
		code       int
		out        string
		err        []string // lines without their excerpts
	}{
		{
			"all of it", `
api: {group: no-such-group}
gpu: {library: /nope.so}
notify:
  locale: de
  quiet_hours: night
  timezone: Mars
  templates: ` + words + `
  channels:
    - {name: a b, type: webhook, url_env: NOT_SET}
    - {name: c, type: webhook, url_file: ` + dir + `/none}
  routes:
    - {channels: [d]}
`,
			map[string]string{"DEFIB_OBSERV": "1"},
			exitFailed, "",
			[]string{
				file + `:5:11: notify.locale: want en or zh, have "de"`,
				file + `:6:3: notify.quiet_hours: want two times of day that differ, such as 23:00-07:00, have "night"`,
				file + `:7:3: notify.timezone: there is no time zone "Mars"; want a name such as Asia/Shanghai, or UTC`,
				file + `:10:8: notify.channels[0].name: want at most 40 letters, digits, dashes, dots and underscores`,
				file + `:13:8: notify.routes[0].channels: there is no channel "d"; did you mean c?`,
				"c.yaml:10: notify.channels[0].url_env: the variable NOT_SET is not set",
				"c.yaml:11: notify.channels[1].url_file: read its file: open " + dir + "/none: no such file or directory",
				`c.yaml:2: api.group: there is no group "no-such-group" for the socket: make it, or set api.group to another one or to a number`,
				"notify.templates: stat " + words + ": no such file or directory",
				"warning: the variable DEFIB_OBSERV is not known and does nothing; did you mean DEFIB_OBSERVE?",
				"warning: c.yaml:3: gpu.library: there is no file /nope.so here; where it is missing, no GPU is found",
				"defib: 7 mistakes in the configuration, and secrets are missing",
				"the daemon needs them under the same names; run this as it runs",
			},
		},
		{
			"a channel beside one without its secret",
			"notify: {channels: [{name: a, type: webhook, url_env: U}, {name: b, type: webhook, url_env: NOT_SET}]}\n",
			map[string]string{"U": "nowhere"},
			exitFailed, "",
			[]string{
				"c.yaml:1: notify.channels[1].url_env: the variable NOT_SET is not set",
				"channel a: ",
				"defib: 1 mistake in the configuration, and secrets are missing",
				"the daemon needs them under the same names; run this as it runs",
			},
		},
		{"warnings are no mistakes", "gpu: {library: /nope.so}\n", nil, exitOK, file + ": no mistakes\n", []string{
			"warning: c.yaml:1: gpu.library: there is no file /nope.so here; where it is missing, no GPU is found",
		}},
		{"no GPU is wanted", "gpu: {enabled: false, library: /nope.so}\napi: {group: '0'}\n", nil, exitOK, file + ": no mistakes\n", nil},
		{"templates at no place", "notify: {templates: words}\n", nil, exitFailed, "", []string{
			file + `:1:10: notify.templates: want a directory that begins with /, have "words"`,
			"defib: 1 mistake in the configuration",
		}},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		d.env = c.env
		out, errs, code := d.run(t, "config", "check", file)
		var got []string
		for line := range strings.Lines(errs) {
			line = strings.TrimSpace(line)
			if i := strings.Index(line, "channel a: "); i >= 0 {
				line = line[:i+len("channel a: ")]
			}
			if line != "^" && !strings.Contains(line, " | ") {
				got = append(got, line)
			}
		}
		if diff := cmp.Diff(c.err, got); out != c.out || code != c.code || diff != "" {
			t.Errorf("%s: got %q, %d; want %q, %d\n%s", c.name, out, code, c.out, c.code, diff)
		}
	}
}
