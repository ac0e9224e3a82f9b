package itest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// Labels that make no sense are named, and what they were about keeps its
// default.
func TestLabelsWithoutSense(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	labels := map[string]string{
		"defib.enable": "true", "defib.start_retries": "banana", "defib.unhealthy_for": "-3s",
		"defib.stop_timeout": "a while", "defib.mode": "reckless", "defib.colour": "green",
	}
	c := e.Run(t, Spec{Name: "web", Labels: labels})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	out, _, code := d.CLI(t, "describe", "web")
	for label := range labels {
		if label != "defib.enable" && !strings.Contains(out, "label "+label) {
			t.Errorf("describe does not name %s:\n%s", label, out)
		}
	}
	if code != 0 {
		t.Errorf("describe: got exit code %d", code)
	}
	c.Tell(t, "crash", "3")
	r.Wait(t, soon, "web", "start", 2)
	d.UntilState(t, soon, "web", policy.Running)
}

// Control characters, colours, secrets and a megabyte of text in what a
// container brings along never reach a table, a log line or the journal.
func TestHostileText(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	const red, secret = "\x1b[31mred\x1b[0m\a\r", "hunter2hunter2"
	c := e.Run(t, Spec{Name: "web", Check: &Check{}, Labels: map[string]string{
		"defib.enable": "true", "defib.id": "web" + red, "defib.mode": red, "defib.start_retries": strings.Repeat("x", 1<<20),
		"com.docker.compose.project": red + strings.Repeat("y", 1<<10), "note": strings.Repeat("z", 1<<20),
	}})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	c.Tell(t, "unhealthy", red+" password="+secret+"\nsecond line "+red+strings.Repeat("w", 1<<16))
	r.Wait(t, soon, "web", "restart", 1)
	d.UntilClosed(t, soon, "web")

	said := map[string]string{"the log": d.Output()}
	for _, command := range [][]string{
		{"status", "-o", "wide"},
		{"status", "-o", "json"},
		{"describe", "web"},
		{"events", "--since", "1h"},
		{"incidents"},
		{"incident", d.Incidents(t)[0].ID},
	} {
		out, errs, code := d.CLI(t, command...)
		if code != 0 {
			t.Errorf("defib %v: got exit code %d: %s", command, code, errs)
		}
		said["defib "+strings.Join(command, " ")] = out
	}
	files, err := filepath.Glob(filepath.Join(d.StateDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	d.Stop(t)
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), secret) {
			t.Errorf("%s holds the secret", filepath.Base(file))
		}
	}
	for what, text := range said {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret", what)
		}
		if i := strings.IndexFunc(text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }); i >= 0 {
			t.Errorf("%s has a control character: %q", what, text[max(0, i-40):min(len(text), i+40)])
		}
		for line := range strings.Lines(text) {
			if len(line) > 16<<10 {
				t.Errorf("%s has a line of %d bytes", what, len(line))
			}
		}
	}
}

// Without permission for the socket defib says what is missing and how to get
// it.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	e, _, b := rig(t)
	if err := os.Chmod(e.dir, 0o755); err != nil { // the socket itself is 0660
		t.Fatal(err)
	}
	dir := shortDir(t)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "defib")
	if err := exec.CommandContext(t.Context(), "cp", b.Defib, binary).Run(); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{StateDir: dir, Socket: filepath.Join(dir, "defib.sock"), binary: binary}
	cmd := exec.CommandContext(t.Context(), binary, "run", "--host", e.Host(), "--state-dir", dir, "--log-format", "json")
	cmd.Env = cleanEnv()
	cmd.Stdout, cmd.Stderr = d, d
	p, err := followAs(cmd, &syscall.Credential{Uid: 65534, Gid: 65534})
	if err != nil {
		t.Fatal(err)
	}
	d.proc, d.Client = p, api.NewClient(d.Socket)
	t.Cleanup(func() { _, _ = d.end(syscall.SIGTERM) }) // it may have ended by itself
	said := func() bool {
		out := d.Output()
		return strings.Contains(out, "permission") && strings.Contains(out, e.Socket()) && strings.Contains(out, "docker")
	}
	for deadline := time.Now().Add(soon); !said(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say that it lacks permission, for what, and the way out:\n%s", d.Output())
		}
	}
}

// An engine that is too old is named with its version; defib does not guess.
func TestEngineTooOld(t *testing.T) {
	t.Parallel()
	RequireEngine(t)
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(shortDir(t), "old.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	old := &httptest.Server{Listener: l, Config: &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.18")
			if strings.HasSuffix(r.URL.Path, "/_ping") {
				_, _ = w.Write([]byte("OK"))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"message":"client is newer than server (client API version: 1.24, server API version: 1.18)"}`))
		}),
	}}
	old.Start()
	defer old.Close()
	d := Launch(t, b, Options{Host: "unix://" + sock})
	if code := d.Ended(t, soon); code == 0 {
		t.Error("got exit code 0")
	}
	if out := d.Output(); !strings.Contains(out, "1.18") || !strings.Contains(out, "upgrade") {
		t.Errorf("it does not say which version it met, and the way out:\n%s", out)
	}
}

// A full disk under the journal is said, stops repairs rather than leaving
// them unrecorded, and is over when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	dir := shortDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	c := e.Run(t, Spec{Name: "web"})
	d := Start(t, b, Options{Host: e.Host(), StateDir: dir})
	d.UntilState(t, soon, "web", policy.Running)
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	for n := 2; n < 5; n++ { // the spare room does for some repairs, or none
		c.Tell(t, "crash", "3")
		s := d.Until(t, soon, "web is up again, or held for the disk", func(s api.Status) bool {
			u := Unit(s, "web")
			return u.State == policy.Held || u.State == policy.Running && r.Counts("web", "start")["start"] == n
		})
		if u := Unit(s, "web"); u.State == policy.Held {
			if !strings.Contains(u.Reason+strings.Join(u.WhyNot, " "), "disk") {
				t.Errorf("held for %q, %q; want the disk named", u.Reason, u.WhyNot)
			}
			break
		}
		d.UntilClosed(t, soon, "web")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	d.UntilState(t, 2*soon, "web", policy.Running)
	tracer(t, e, r, d)
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; block = block[:len(block)/2] {
		for {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}
