package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/engine"
	"github.com/defib-dev/defib/watcher/policy"
)

// output is a writer that tells when something was written to it.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{} // closed once want was written
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	had := strings.Contains(o.buf.String(), o.want)
	n, err := o.buf.Write(p)
	if !had && strings.Contains(o.buf.String(), o.want) {
		close(o.seen)
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// TestRunWithoutEngine starts the real daemon where no engine is: it says so,
// answers, keeps a second one out, and ends with 0 when it is told to.
func TestRunWithoutEngine(t *testing.T) {
	dir := t.TempDir()
	none := "unix://" + filepath.Join(dir, "no-engine")
	env := map[string]string{"DEFIB_STATE_DIR": dir, "DEFIB_HOST": none, "DEFIB_SOCKET_GROUP": strconv.Itoa(os.Getgid())}
	command := func(ctx context.Context, errs *output, args ...string) (string, int) {
		var out bytes.Buffer
		a := newApp(nil, &out, errs, func(k string) string { return env[k] })
		a.environ = []string{"DEFIB_OBSERV=1"}
		code := a.run(ctx, args)
		return out.String(), code
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &output{want: "source lost", seen: make(chan struct{})}
	ended := make(chan int)
	go func() {
		_, code := command(ctx, log, "run", "--observe")
		ended <- code
	}()
	select {
	case <-log.seen:
	case code := <-ended:
		t.Fatalf("exit code %d: %s", code, log)
	}
	if !strings.Contains(log.String(), "no Docker Engine at "+none) {
		t.Errorf("the log does not name the engine:\n%s", log)
	}
	if !strings.Contains(log.String(), "the variable DEFIB_OBSERV is not known and does nothing; did you mean DEFIB_OBSERVE?") {
		t.Errorf("the log does not name the unknown variable:\n%s", log)
	}
	errs := &output{want: "\n", seen: make(chan struct{})}
	if _, code := command(t.Context(), errs, "status"); code != exitNotWell || !strings.HasPrefix(errs.String(), "Docker is out of reach since ") {
		t.Errorf("status: got %q, %d", errs, code)
	}
	errs = &output{want: "\n", seen: make(chan struct{})}
	if _, code := command(t.Context(), errs, "run"); code != exitFailed || !strings.Contains(errs.String(), "is in use by process") {
		t.Errorf("a second daemon: got %q, %d", errs, code)
	}
	errs = &output{want: "\n", seen: make(chan struct{})}
	if out, code := command(t.Context(), errs, "events", "-o", "json"); code != exitOK || !strings.Contains(out, `"kind":"daemon_start"`) {
		t.Errorf("events: got %q, %q, %d", out, errs, code)
	}
	errs = &output{want: "\n", seen: make(chan struct{})}
	if _, code := command(t.Context(), errs, "state", "repair"); code != exitFailed || !strings.Contains(errs.String(), "is in use by process") {
		t.Errorf("repair beside it: got %q, %d", errs, code)
	}
	began := time.Now()
	stop()
	if code := <-ended; code != exitOK || time.Since(began) > 5*time.Second {
		t.Errorf("exit code %d after %v: %s", code, time.Since(began), log)
	}
	if !strings.Contains(log.String(), " is closed to it: name another place by --socket") {
		t.Errorf("the log does not say that a group cannot reach a socket in the state directory:\n%s", log)
	}
	errs = &output{want: "\n", seen: make(chan struct{})}
	if out, code := command(t.Context(), errs, "state", "repair"); code != exitOK || !strings.Contains(out, "is sound. Nothing was changed.") {
		t.Errorf("repair after it: got %q, %q, %d", out, errs, code)
	}
}

func TestSocketTaken(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	d.env = map[string]string{"DEFIB_STATE_DIR": t.TempDir(), "DEFIB_HOST": "unix:///nonexistent/s"}
	_, errs, code := d.run(t, "run")
	if want := "defib: another defib answers on " + d.socket + ": stop it, or give another path by --socket\n"; errs != want || code != exitFailed {
		t.Errorf("got %q, %d; want %q", errs, code, want)
	}
}

// brokenSource is an engine that cannot be used.
type brokenSource struct{ err error }

func (b brokenSource) Watch(context.Context, chan<- policy.Event) error { return b.err }

// TestFirstContact ends the daemon for what will not pass by itself, and only
// before the first contact.
func TestFirstContact(t *testing.T) {
	denied := &engine.PermissionError{Host: "unix:///s", Err: errors.New("permission denied")}
	for _, c := range []struct {
		name string
		err  error
		made bool
		code int // 0: it goes on
	}{
		{"no permission", denied, false, exitPermission},
		{"no permission, later", denied, true, 0},
		{"too old", &engine.VersionError{Host: "unix:///s", Engine: "1.18"}, false, exitFailed},
		{"absent", &engine.UnreachableError{Host: "unix:///s", Err: errors.New("gone")}, false, 0},
	} {
		var refused error
		f := &firstContact{Source: brokenSource{c.err}, refused: func(err error) { refused = err }}
		f.made.Store(c.made)
		if err := f.Watch(t.Context(), nil); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want the source's error", c.name, err)
		}
		code := 0
		if refused != nil {
			var errs bytes.Buffer
			a := newApp(nil, &errs, &errs, func(string) string { return "" })
			a.begun = true
			code = a.exit(t.Context(), refused)
		}
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, code, c.code)
		}
	}
}

func TestGreetingForAChat(t *testing.T) {
	one := &watcher.View{Units: make([]policy.Status, 1), Host: policy.Host{Others: make([]policy.Other, 1)}}
	many := &watcher.View{Observe: true, Units: make([]policy.Status, 14), GPUs: make([]policy.GPUStatus, 4), Host: policy.Host{Others: make([]policy.Other, 3)}}
	for want, v := range map[string]*watcher.View{
		"It watches 0 containers":                                                             {},
		"It watches 1 container; 1 container is not watched":                                  one,
		"It watches 14 containers and 4 GPUs; 3 containers are not watched; it only observes": many,
	} {
		if got := inShort(v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestGreeting(t *testing.T) {
	v := zoo()
	v.Host.Engine.Healers = []policy.Healer{{Name: "autoheal", Kind: "autoheal", Label: "all"}, {Name: "old", Kind: "deunhealth", Label: policy.LabelDeunhealth}}
	v.Units[4].WhyNot = []string{"it is only observed: autoheal restarts it too"}
	for i := range 30 {
		v.Host.Others = append(v.Host.Others, policy.Other{Name: "job-" + string(rune('a'+i%26)), Why: "no label"})
	}
	g := &greeting{s: config.Settings{Socket: "/run/defib/defib.sock"}, clean: newApp(nil, nil, nil, nil).clean}
	g.s.Config.GPU.Enabled = true
	v.Host.GPU.Driver = gpu.Driver{State: gpu.DriverAbsent, Detail: "there is no /dev/nvidiactl, so no NVIDIA driver runs"}
	golden(t, "greeting", g.page(v))
	v.Host.GPU.Driver = gpu.Driver{}
	g.s.Config.GPU.Enabled = false
	golden(t, "greeting-empty", g.page(&watcher.View{Observe: true, Host: policy.Host{Engine: policy.Engine{Name: "gpu-03", Version: "28.5.2"}}}))

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("watching", g.attrs(v)...)
	if n := strings.Count(log.String(), "\n"); n != 1 || log.Len() > 8000 {
		t.Errorf("%d lines of %d bytes", n, log.Len())
	}
	if !strings.Contains(log.String(), `"autoheal (autoheal, on every container)"`) {
		t.Errorf("the healers are missing: %s", log.String())
	}
}

func TestSettingsOfFlags(t *testing.T) {
	a := newApp(nil, nil, nil, func(k string) string { return map[string]string{"DEFIB_STATE_DIR": "/s", "DEFIB_ALL": "1"}[k] })
	cmd := a.runCmd()
	if err := cmd.Flags().Parse([]string{"--all=false", "--log-format", "text"}); err != nil {
		t.Fatal(err)
	}
	s, err := a.settings(cmd.Flags())
	if err != nil {
		t.Fatal(err)
	}
	got := []any{s.Config.Policy.All, s.StateDir, s.Socket, s.LogFormat}
	if d := cmp.Diff([]any{false, "/s", "/s/defib.sock", "text"}, got); d != "" {
		t.Error(d)
	}
}

func TestBuild(t *testing.T) {
	if b := build(); b.Version != api.Version || b.Defib == "" || b.Go == "" {
		t.Errorf("got %+v", b)
	}
}

// Incidents of two hosts have different IDs; what a host has begun goes on.
func TestNumbered(t *testing.T) {
	a, b := numbered(policy.Snapshot{}, "gpu-01/var/lib/defib"), numbered(policy.Snapshot{}, "gpu-02/var/lib/defib")
	if a.Host.FirstID == b.Host.FirstID || a.Host.FirstID == 0 {
		t.Errorf("got %d and %d, want two that differ", a.Host.FirstID, b.Host.FirstID)
	}
	for _, saved := range []policy.Snapshot{{Host: policy.Host{Incidents: 3}}, {Host: policy.Host{FirstID: 7}}} {
		if got := numbered(saved, "gpu-01/var/lib/defib"); got.Host.FirstID != saved.Host.FirstID {
			t.Errorf("%+v: got %d", saved.Host, got.Host.FirstID)
		}
	}
}
