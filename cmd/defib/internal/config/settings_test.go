package config

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPrecedence sets one value in more and more places; the strongest wins.
func TestPrecedence(t *testing.T) {
	file := write(t, "watch: {all: true, observe: true}\napi: {group: fromfile}\n")
	for _, c := range []struct {
		name              string
		flags             map[string]string
		getenv            func(string) string
		all               bool
		source, group, by string
	}{
		{"default", nil, env(), false, "default", "", "default"},
		{"file", map[string]string{"config": file}, env(), true, "config.yaml:1", "fromfile", "config.yaml:2"},
		{"file by env", nil, env("DEFIB_CONFIG", file), true, "config.yaml:1", "fromfile", "config.yaml:2"},
		{"env", nil, env("DEFIB_CONFIG", file, "DEFIB_ALL", "false", "DEFIB_SOCKET_GROUP", "fromenv"), false, "DEFIB_ALL", "fromenv", "DEFIB_SOCKET_GROUP"},
		{
			"flag",
			map[string]string{"all": "true", "socket-group": "fromflag"},
			env("DEFIB_CONFIG", file, "DEFIB_ALL", "false", "DEFIB_SOCKET_GROUP", "fromenv"), true, "flag --all", "fromflag", "flag --socket-group",
		},
		{"flag says no", map[string]string{"all": "false", "config": file}, env(), false, "flag --all", "fromfile", "config.yaml:2"},
		{"empty env", nil, env("DEFIB_ALL", ""), false, "default", "", "default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Resolve(Input{Flags: c.flags, Getenv: c.getenv})
			if err != nil {
				t.Fatal(err)
			}
			if s.Config.Policy.All != c.all || s.Sources.Of("watch.all") != c.source {
				t.Errorf("all: got %v by %s, want %v by %s", s.Config.Policy.All, s.Sources.Of("watch.all"), c.all, c.source)
			}
			if s.Config.API.Group != c.group || s.Sources.Of("api.group") != c.by {
				t.Errorf("group: got %q by %s, want %q by %s", s.Config.API.Group, s.Sources.Of("api.group"), c.group, c.by)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	const run, state = "/run/user/1000", "/home/li/.local/state/defib"
	home := []string{"HOME", "/home/li", "XDG_RUNTIME_DIR", run}
	type places struct{ State, Socket, Host string }
	for _, c := range []struct {
		name  string
		uid   int
		flags map[string]string
		env   []string
		want  places
	}{
		{"root", 0, nil, nil, places{"/var/lib/defib", "/run/defib/defib.sock", dockerHost}},
		{"user", 1000, nil, home, places{state, run + "/defib/defib.sock", dockerHost}},
		{"user without runtime directory", 1000, nil, home[:2], places{state, state + "/defib.sock", dockerHost}},
		{"state home", 1000, nil, []string{"XDG_STATE_HOME", "/s"}, places{"/s/defib", "/s/defib/defib.sock", dockerHost}},
		{"relative state home does not count", 1000, nil, []string{"XDG_STATE_HOME", "s", "HOME", "/home/li"}, places{state, state + "/defib.sock", dockerHost}},
		{"state directory carries the socket", 0, map[string]string{"state-dir": "/a"}, nil, places{"/a", "/a/defib.sock", dockerHost}},
		{"so by env", 1000, nil, append([]string{"DEFIB_STATE_DIR", "/a"}, home...), places{"/a", "/a/defib.sock", dockerHost}},
		{"socket given too", 0, map[string]string{"state-dir": "/a"}, []string{"DEFIB_SOCKET", "/b.sock"}, places{"/a", "/b.sock", dockerHost}},
		{"DOCKER_HOST", 0, nil, []string{"DOCKER_HOST", "tcp://a:2375"}, places{"/var/lib/defib", "/run/defib/defib.sock", "tcp://a:2375"}},
		{"DEFIB_HOST", 0, nil, []string{"DOCKER_HOST", "tcp://a:2375", "DEFIB_HOST", "tcp://b:2375"}, places{"/var/lib/defib", "/run/defib/defib.sock", "tcp://b:2375"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Resolve(Input{Flags: c.flags, Getenv: env(c.env...), UID: c.uid})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, places{s.StateDir, s.Socket, s.Host}); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestClientSocket(t *testing.T) {
	const own = "/run/user/1000/defib/defib.sock"
	home := env("HOME", "/home/li", "XDG_RUNTIME_DIR", "/run/user/1000")
	there := func(paths ...string) func(string) bool {
		return func(p string) bool { return slices.Contains(paths, p) }
	}
	for _, c := range []struct {
		name string
		in   Input
		want string
	}{
		{"flag", Input{Flags: map[string]string{"socket": "/x"}, Getenv: env("DEFIB_SOCKET", "/y")}, "/x"},
		{"env", Input{Getenv: env("DEFIB_SOCKET", "/y")}, "/y"},
		{"state directory", Input{Getenv: env("DEFIB_STATE_DIR", "/a")}, "/a/defib.sock"},
		{"root", Input{Getenv: env(), Exists: there()}, systemSocket},
		{"own daemon", Input{UID: 1000, Getenv: home, Exists: there(own, systemSocket)}, own},
		{"only the system's", Input{UID: 1000, Getenv: home, Exists: there(systemSocket)}, systemSocket},
		{"none", Input{UID: 1000, Getenv: home, Exists: there()}, own},
		{"no home", Input{UID: 1000, Getenv: env(), Exists: there()}, systemSocket},
	} {
		if got := ClientSocket(c.in); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	_, err := Resolve(Input{UID: 1000, Getenv: env("DEFIB_ALL", "perhaps", "DEFIB_LOG_FORMAT", "jsn"), Flags: map[string]string{"log-level": "loud"}})
	want := strings.Join([]string{
		`DEFIB_ALL: want true or false, have "perhaps"`,
		`DEFIB_LOG_FORMAT: want auto, text, json, have "jsn"; did you mean json?`,
		`flag --log-level: want debug, info, warn, error, have "loud"`,
		"there is no home directory to keep state in: give --state-dir",
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestLogSettings(t *testing.T) {
	s, err := Resolve(Input{Getenv: env("DEFIB_LOG_FORMAT", "JSON", "DEFIB_LOG_LEVEL", "warn")})
	if err != nil || s.LogFormat != "json" || s.LogLevel != slog.LevelWarn {
		t.Errorf("got %q, %v, %v; want json, WARN", s.LogFormat, s.LogLevel, err)
	}
}

// TestShowIsLoadable prints settings and reads them again.
func TestShowIsLoadable(t *testing.T) {
	file := write(t, "policy: {backoff_cap: 90m, settle_boot: 1m30s, budget_min: 9}\ngpu: {reset: ask, reset_command: ['a\"b', '{gpu}']}\nmask: [\"a\\\\d+\", 'b\"c']\napi: {group: '7'}\n")
	s, err := Resolve(Input{Flags: map[string]string{"config": file, "observe": "true"}, Getenv: env()})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Show(&out); err != nil {
		t.Fatal(err)
	}
	got, _, err := Parse("shown", out.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if want := "flag --observe"; s.Config.Policy.Sources["observe"] != want {
		t.Errorf("source of observe: got %q, want %q", s.Config.Policy.Sources["observe"], want)
	}
	s.Config.Policy.Sources = nil // where a value came from is not part of what is shown
	if d := cmp.Diff(s.Config, got); d != "" {
		t.Error(d)
	}
	for _, line := range []string{
		"# --host       unix:///var/run/docker.sock  (default)",
		"  observe: true                      # flag --observe",
		"  backoff_cap: 1h30m                 # config.yaml:1",
		"  settle_boot: 1m30s                 # config.yaml:1",
		"  page_after: 15m                    # default",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%q is missing in:\n%s", line, out.String())
		}
	}
}
