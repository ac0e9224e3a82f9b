package itest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defib-dev/defib/watcher/policy"
)

// commands returns the lines of a Markdown file's sh blocks, without comments.
func commands(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			inside = line == "```sh"
			continue
		}
		command, _, _ := strings.Cut(line, " # ")
		if inside && strings.TrimSpace(command) != "" {
			out = append(out, strings.TrimSpace(command))
		}
	}
	return out
}

// Every command of the README works as it is written.
func TestReadme(t *testing.T) {
	t.Parallel()
	e, _, b := rig(t)
	e.Run(t, Spec{Name: "web"})
	bin := t.TempDir()
	if err := os.Symlink(b.Defib, filepath.Join(bin, "defib")); err != nil {
		t.Fatal(err)
	}
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	ran := 0
	for _, line := range commands(t, filepath.Join(b.Root, "README.md")) {
		switch {
		case line == "make check":
			line = "make -n check" // which runs this test
		case strings.HasPrefix(line, "go run ./cmd/defib run"):
			line += " --help" // every other test runs it
		case strings.HasPrefix(line, "defib run"):
			flags := strings.Fields(line)[2:]
			t.Run(line, func(t *testing.T) { observed(t, flags) })
			continue
		}
		d.UntilState(t, soon, "web", policy.Running) // also after its restart
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir = b.Root
		cmd.Env = append(cleanEnv(), "DEFIB_SOCKET="+d.Socket, "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		refused := line == "defib retry web" && strings.Contains(string(out), "nothing to retry") // it is well
		if err != nil && !refused {
			t.Errorf("$ %s\n%s%v", line, out, err)
		}
		ran++
	}
	if ran < 10 {
		t.Errorf("only %d commands were found", ran)
	}
	d.UntilState(t, soon, "web", policy.Stopped)
}

// observed checks that a daemon with these flags says what it would do, and
// does nothing.
func observed(t *testing.T, flags []string) {
	t.Helper()
	e, _, b := rig(t)
	c := e.Run(t, Spec{Name: "observed"})
	d := Start(t, b, Options{Host: e.Host(), Args: flags})
	d.UntilState(t, soon, "observed", policy.Running)
	c.Tell(t, "crash", "3")
	u := d.UntilState(t, soon, "observed", policy.Unhealthy)
	if u.Mode != policy.ModeObserve || c.Running(t) {
		t.Errorf("defib run %s: mode %s, running %v; want it observed and left down", flags, u.Mode, c.Running(t))
	}
	wantActs(t, d, "observed")
}
