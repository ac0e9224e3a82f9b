package main

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC // what people see is in local time
	os.Exit(m.Run())
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// daemon is a stand-in for a running one: it answers over a real socket.
type daemon struct {
	view      *watcher.View
	earlier   []*watcher.View // shown before view, one each time
	sick      error
	answer    func(policy.Command) []policy.Decision
	after     []watcher.Committed
	incidents []policy.Incident
	records   []watcher.Record
	live      api.Live
	metrics   http.Handler
	notifier  api.Notifier
	commands  chan policy.Command

	socket string
	stdin  string
	env    map[string]string
}

// View is asked by one connection at a time.
func (d *daemon) View() *watcher.View {
	if len(d.earlier) == 0 {
		return d.view
	}
	v := d.earlier[0]
	d.earlier = d.earlier[1:]
	return v
}

func (d *daemon) Healthy(time.Time) error { return d.sick }

func (d *daemon) Do(_ context.Context, cmd policy.Command) ([]policy.Decision, error) {
	d.commands <- cmd
	return d.answer(cmd), nil
}

func (d *daemon) Subscribe(context.Context) <-chan watcher.Committed {
	c := make(chan watcher.Committed, len(d.after))
	for _, r := range d.after {
		c <- r
	}
	close(c)
	return c
}

func (d *daemon) Incidents(time.Time) ([]policy.Incident, error) { return d.incidents, nil }

func (d *daemon) Incident(id string) (policy.Incident, bool, error) {
	for _, inc := range d.incidents {
		if inc.ID == id {
			return inc, true, nil
		}
	}
	return policy.Incident{}, false, nil
}

func (d *daemon) ReadEvents(since time.Time, each func(watcher.Record) error) error {
	for _, r := range d.records {
		if r.Event.At.Before(since) {
			continue
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// start lets the daemon listen until the test ends.
func (d *daemon) start(t *testing.T) *daemon {
	t.Helper()
	d.socket = filepath.Join(t.TempDir(), "s")
	d.commands = make(chan policy.Command, 10)
	ln, err := api.Listen(t.Context(), d.socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	srv := api.New(api.Options{
		Loop: d, Archive: d, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon },
		Build: api.Build{Version: 1, Defib: "v1.2.3", Go: "go1.26"}, LiveGPUs: d.live, Metrics: d.metrics,
		Notifier: d.notifier,
	})
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d
}

// run carries out one command line against the daemon.
func (d *daemon) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return d.runContext(t.Context(), args...)
}

func (d *daemon) runContext(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	env := map[string]string{"DEFIB_SOCKET": d.socket}
	maps.Copy(env, d.env)
	a := newApp(strings.NewReader(d.stdin), &out, &errs, func(k string) string { return env[k] })
	for k, v := range env {
		a.environ = append(a.environ, k+"="+v)
	}
	code = a.run(ctx, args)
	return out.String(), errs.String(), code
}

// golden compares with testdata/name.golden; -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// hostile is what a container may put where text is shown: terminal commands,
// line ends, a text direction, and far too much.
func hostile() string { return hostileOf(1500) }

func hostileOf(n int) string {
	return "\x1b[31mred\x1b[0m\n\tbold\x07\u202egnp.exe " + strings.Repeat("A", n)
}

func minutes(n int) time.Time { return noon.Add(-time.Duration(n) * time.Minute) }

// zoo has one unit in each state.
func zoo() *watcher.View {
	unit := func(name string, s policy.State, u policy.Status) policy.Status {
		u.Key, u.Name, u.State = name, name, s
		if u.Since.IsZero() {
			u.Since = minutes(6)
		}
		if u.Managed == "" {
			u.Managed = policy.ViaEnable
		}
		if u.Mode == "" {
			u.Mode = policy.ModeAct
		}
		if u.Health == "" {
			u.Health = "healthy"
		}
		u.Container, u.Image = "c0ffee0123456789abcdef", "vllm/vllm-openai:v0.11"
		return u
	}
	bad := &policy.Exit{At: minutes(6), Code: 1}
	oom := &policy.Exit{At: minutes(1), Code: 137, OOMKilled: true}
	return &watcher.View{
		At: noon,
		Host: policy.Host{
			Connected: true, Synced: true, Engine: policy.Engine{Name: "gpu-03", Version: "28.5.2"},
			Others: []policy.Other{{Name: "redis", Container: "beef", Why: "no label"}, {Name: "evil", Container: "bad", Why: hostile()}},
		},
		Units: []policy.Status{
			unit("api", policy.Running, policy.Status{Project: "shop", Next: "watching", Since: minutes(60 * 24 * 3)}),
			unit("api-slow", policy.Running, policy.Status{Detail: "not ready", Health: "no check", Next: "watching"}),
			unit("batch", policy.Stopped, policy.Status{Health: "—", Next: "watching", LastExit: &policy.Exit{}, Since: minutes(90)}),
			unit("embed", policy.Backoff, policy.Status{Health: "—", Restarts24h: 1, LastExit: oom, GPUs: []string{"0"}, Next: "restart", NextAt: noon.Add(24 * time.Second), Since: minutes(1), Incident: "INC-7F3K"}),
			unit("held", policy.Held, policy.Status{Detail: "operator", Next: "hold ends", NextAt: noon.Add(time.Hour), Mode: policy.ModeObserve, Managed: policy.ViaAutoheal}),
			unit("lama", policy.Fatal, policy.Status{Health: "unhealthy", Restarts24h: 3, LastExit: bad, GPUs: []string{"2", "3"}, Next: "waiting for you", ReadyAfter: 12 * time.Minute}),
			unit("loop", policy.Backoff, policy.Status{Detail: "by docker", Health: "—", LastExit: &policy.Exit{Code: 127}, Next: "start by Docker"}),
			unit("new", policy.Starting, policy.Status{Health: "starting", Next: "failed start", NextAt: noon.Add(20 * time.Minute)}),
			unit("odd", policy.Unknown, policy.Status{Health: hostile(), Next: "a look at it", NextAt: noon.Add(-time.Second), GPUs: []string{hostile()}}),
			unit("quiet", policy.Paused, policy.Status{Health: "—", Next: "watching"}),
			unit("redo", policy.Repairing, policy.Status{Detail: "restarting", Health: "unhealthy", Next: "outcome", Since: noon.Add(-1500 * time.Millisecond)}),
			unit("sick", policy.Unhealthy, policy.Status{Health: "unhealthy", LastExit: &policy.Exit{Code: 143}, Next: "restart", NextAt: noon.Add(90 * time.Second)}),
		},
	}
}

// wants runs a command and requires what it prints, its exit code, and the one
// order that it gives; the zero order is none.
func (d *daemon) wants(t *testing.T, order policy.Command, out, errs string, code int, args ...string) {
	t.Helper()
	gotOut, gotErrs, gotCode := d.run(t, args...)
	if gotOut != out || gotErrs != errs || gotCode != code {
		t.Errorf("got %q, %q, %d; want %q, %q, %d", gotOut, gotErrs, gotCode, out, errs, code)
	}
	var got policy.Command
	select {
	case got = <-d.commands:
	default:
	}
	got.By = ""
	if diff := cmp.Diff(order, got); diff != "" {
		t.Error(diff)
	}
}
