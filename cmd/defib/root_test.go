package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// TestExitCodes wants the code and the first line of stderr of each way to
// fail.
func TestExitCodes(t *testing.T) {
	gone := []watcher.Record{{Event: policy.Event{At: noon, Kind: policy.KindDie, Unit: "gone"}}}
	d := (&daemon{view: zoo(), answer: func(policy.Command) []policy.Decision { return nil }, records: gone}).start(t)
	for _, c := range []struct {
		args string
		code int
		err  string
	}{
		{"", exitOK, ""},
		{"config", exitOK, ""},
		{"statsu", exitUsage, "defib: there is no command \"statsu\"\n  did you mean defib status?\n"},
		{"statu", exitUsage, "defib: there is no command \"statu\"\n  did you mean defib status?\n"},
		{"gpu", exitUsage, "defib: there is no command \"gpu\"\n  did you mean defib gpus?\n"},
		{"config chek", exitUsage, "defib: there is no command \"chek\"\n  did you mean defib config check?\n"},
		{"status --wide", exitUsage, "defib: unknown flag: --wide\n  `defib --help` lists the commands, and each takes --help too\n"},
		{"status -o xml", exitUsage, "defib: -o: want table, wide, json or name, have \"xml\"\n"},
		{"status --color red", exitUsage, "defib: --color: want auto, always or never, have \"red\"\n"},
		{"status nope", exitUnreachable, "defib: no watched container is called \"nope\"\n  `defib status -a` lists what there is\n"},
		{"status gone", exitUnreachable, "defib: \"gone\" is not watched any more\n  `defib events --since 24h gone` shows what happened to it\n"},
		{"describe gone", exitUnreachable, "defib: \"gone\" is not watched any more\n  `defib events --since 24h gone` shows what happened to it\n"},
		{"events gone", exitOK, ""},
		{"events nope", exitUnreachable, "defib: no watched container is called \"nope\"\n  `defib status -a` lists what there is\n"},
		{"status redis", exitUnreachable, "defib: redis is not watched: no label\n  `defib status -a` shows all that is not watched\n"},
		{"status --socket /nonexistent/s", exitUnreachable, "defib: no defib answers on /nonexistent/s\n  start it by `defib run`, or name its socket by --socket\n"},
		{"describe", exitUsage, "defib: defib describe takes one NAME\n"},
		{"describe lma", exitUnreachable, "defib: no watched container is called \"lma\"\n  did you mean lama?\n"},
		{"describe -o yaml api", exitUsage, "defib: -o: want text or json, have \"yaml\"\n"},
		{"incident", exitUsage, "defib: defib incident takes one ID, such as INC-7F3K\n"},
		{"incident INC-0", exitUnreachable, "defib: there is no incident \"INC-0\"\n  `defib incidents --since 90d` lists all that are kept\n"},
		{"incidents --since never", exitUsage, "defib: --since: want a time such as 30m, 24h or 7d, have \"never\"\n"},
		{"events --since 1y", exitUsage, "defib: --since: want a time such as 30m, 24h or 7d, have \"1y\"\n"},
		{"events a b", exitUsage, "defib: defib events takes one NAME, or none for all\n"},
		{"gpus 7", exitUnreachable, "defib: defib knows of no GPU on this host\n  `defib gpus` says what is known of the driver\n"},
		{"gpus -o yaml", exitUsage, "defib: -o: want table, wide or json, have \"yaml\"\n"},
		{"version -o yaml", exitUsage, "defib: -o: want text or json, have \"yaml\"\n"},
		{"gpus reset", exitUsage, "defib: defib gpus reset takes one GPU\n"},
		{"gpus reset 0 1", exitUsage, "defib: defib gpus reset takes one GPU\n"},
		{"gpus release", exitUsage, "defib: defib gpus release takes one GPU, or all\n"},
		{"gpus release 0", exitUnreachable, "defib: defib knows of no GPU on this host\n  `defib gpus` says what is known of the driver\n"},
		{"gpus --socket /nonexistent/s", exitUnreachable, "defib: no defib answers on /nonexistent/s\n  start it by `defib run`, or name its socket by --socket\n"},
		{"hold", exitUsage, "defib: defib hold takes one of NAME, --project P and --all\n"},
		{"hold a --all", exitUsage, "defib: defib hold takes one of NAME, --project P and --all\n"},
		{"hold api --for 0s", exitUsage, "defib: --for: a hold of no length holds nothing\n  to end one, say `defib release`\n"},
		{"hold --project nope", exitUnreachable, "defib: no watched container belongs to a compose project \"nope\"\n  `defib status -o wide` shows the projects\n"},
		{"restart -y nope", exitUnreachable, "defib: no watched container is called \"nope\"\n  `defib status -a` lists what there is\n"},
		{"run --log-format xml --state-dir /nonexistent/x", exitFailed, "defib: flag --log-format: want auto, text, json, have \"xml\"\n"},
		{"run --config /nonexistent/c.yaml", exitFailed, "defib: read the configuration: open /nonexistent/c.yaml: no such file or directory\n"},
		{"run now", exitUsage, "defib: unknown command \"now\" for \"defib run\"\n  `defib --help` lists the commands, and each takes --help too\n"},
	} {
		_, errs, code := d.run(t, strings.Fields(c.args)...)
		if errs != c.err || code != c.code {
			t.Errorf("defib %s: got %q, %d; want %q, %d", c.args, errs, code, c.err, c.code)
		}
	}
}

func TestNoPermission(t *testing.T) {
	var errs strings.Builder
	a := newApp(nil, &errs, &errs, os.Getenv)
	a.begun = true
	code := a.exit(t.Context(), &api.PermissionError{Text: "you may not use the socket /run/s", Hint: "use sudo"})
	if want := "defib: you may not use the socket /run/s\n  use sudo\n"; errs.String() != want || code != exitPermission {
		t.Errorf("got %q, %d; want %q, %d", errs.String(), code, want, exitPermission)
	}
}

func TestHealthcheck(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	if out, _, code := d.run(t, "healthcheck"); code != exitOK || out != "defib watches, and Docker answers\n" {
		t.Errorf("got %q, %d", out, code)
	}
	d.sick = errors.New("Docker is out of reach: connection refused")
	if _, errs, code := d.run(t, "healthcheck"); code != exitFailed || errs != "defib: Docker is out of reach: connection refused\n" {
		t.Errorf("got %q, %d", errs, code)
	}
	if _, errs, code := d.run(t, "healthcheck", "--socket", "/nonexistent/s"); code != exitFailed || errs != "defib: no defib answers on /nonexistent/s\n" {
		t.Errorf("got %q, %d", errs, code)
	}
}

// The health check of the image says why it fails before Docker ends it.
func TestHealthcheckOfTheImage(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "HEALTHCHECK")
	_, rest, _ = strings.Cut(rest, "--timeout=")
	limit, err := time.ParseDuration(strings.Fields(rest + " none")[0])
	if err != nil || limit < healthPatience+time.Second {
		t.Errorf("Docker's limit is %v, %v, and ours %v", limit, err, healthPatience)
	}
}

func TestVersion(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	out, _, code := d.run(t, "version")
	if code != exitOK || !strings.HasSuffix(out, "\ndaemon   defib v1.2.3, go1.26\n") || !strings.HasPrefix(out, "command  defib ") {
		t.Errorf("got %q, %d", out, code)
	}
	out, _, code = d.run(t, "version", "--socket", "/nonexistent/s")
	if code != exitOK || !strings.HasSuffix(out, "\ndaemon   none: no defib answers on /nonexistent/s\n") {
		t.Errorf("got %q, %d", out, code)
	}
}

// A state file is mended without a look at the configuration: only the
// directory counts.
func TestStateRepair(t *testing.T) {
	d := (&daemon{env: map[string]string{"DEFIB_CONFIG": "/nonexistent/c.yaml", "DEFIB_ALL": "perhaps"}}).start(t)
	dir := t.TempDir()
	out, errs, code := d.run(t, "state", "repair", "--state-dir", dir)
	if want := dir + "/state.db does not exist. "; !strings.HasPrefix(out, want) || errs != "" || code != exitOK {
		t.Errorf("got %q, %q, %d; want %q, %d", out, errs, code, want, exitOK)
	}
}

// TestCompletion asks as a shell does.
func TestCompletion(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	out, _, _ := d.run(t, "__complete", "restart", "")
	if !strings.HasPrefix(out, "api\tRUNNING\napi-slow\tRUNNING (not ready)\n") || !strings.HasSuffix(out, ":4\n") {
		t.Errorf("got %q", out)
	}
	if out, _, _ := d.run(t, "__complete", "restart", "api", ""); out != ":4\n" {
		t.Errorf("a second name: got %q", out)
	}
	if out, _, code := d.run(t, "completion", "bash"); code != exitOK || !strings.Contains(out, "__complete") {
		t.Errorf("completion bash: exit code %d, %d bytes", code, len(out))
	}
}

func TestConfigCommands(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(good, []byte("watch: {observe: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("policy:\n  settle: 5\nwatsh: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := d.run(t, "config", "check", good); code != exitOK || out != good+": no mistakes\n" {
		t.Errorf("got %q, %q, %d", out, errs, code)
	}
	_, errs, code := d.run(t, "config", "check", bad)
	want := bad + ":2:11: policy.settle: want a time with its unit, such as 5s or 5m; a bare number says neither\n" +
		"    2 |   settle: 5\n                  ^\n" +
		bad + ":3:1: watsh: no such setting; did you mean watch?\n    3 | watsh: {}\n        ^\n" +
		"defib: 2 mistakes in the configuration\n"
	if errs != want || code != exitFailed {
		t.Errorf("got %q, %d; want %q", errs, code, want)
	}
	if _, errs, code := d.run(t, "config", "check"); code != exitUsage || !strings.HasPrefix(errs, "defib: config check takes one FILE\n") {
		t.Errorf("got %q, %d", errs, code)
	}
	d.env = map[string]string{"DEFIB_CONFIG": good, "DEFIB_ALL": "true", "DEFIB_STATE_DIR": "/s", "DEFIB_SOCKET": ""}
	out, errs, code := d.run(t, "config", "show", "--observe=false", "--log-level", "debug")
	for _, line := range []string{
		"# --config     " + good + "  (DEFIB_CONFIG)", "# --state-dir  /s  (DEFIB_STATE_DIR)", "# --socket     /s/defib.sock  (default)",
		"# --log-level  debug  (flag --log-level)",
		"  all: true                          # DEFIB_ALL", "  observe: false                     # flag --observe",
	} {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("%q is missing in:\n%s", line, out)
		}
	}
	if errs != "" || code != exitOK {
		t.Errorf("got %q, %d", errs, code)
	}
}
