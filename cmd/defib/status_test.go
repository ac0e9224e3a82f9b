package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

func TestStatusTables(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"status", []string{"status"}},
		{"status-wide", []string{"status", "-o", "wide"}},
		{"status-all", []string{"status", "-a", "api"}},
		{"status-colour", []string{"status", "--color", "always"}},
		{"status-no-headers", []string{"status", "--no-headers", "lama", "c0ffee0123456789abcdef", "embed"}},
		{"status-name", []string{"status", "-o", "name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "status-no-headers" {
				c.args[3] = "api"
			}
			out, errs, code := d.run(t, c.args...)
			golden(t, c.name, out)
			want := exitNotWell
			if c.name == "status-all" {
				want = exitOK
			}
			if errs != "" || code != want {
				t.Errorf("stderr %q, exit code %d; want none, %d", errs, code, want)
			}
			if len(out) > 16000 {
				t.Errorf("%d bytes: hostile text is not bounded", len(out))
			}
		})
	}
}

// TestMegabyte gives every text of a unit a megabyte of hostile characters.
func TestMegabyte(t *testing.T) {
	x := hostileOf(1 << 20)
	u := policy.Status{
		Key: x, Name: x, Project: x, Container: x, Image: x, State: policy.State(x), Detail: x, Mode: policy.Mode(x), Managed: x,
		Health: x, GPUs: []string{x}, Next: x, Incident: x,
	}
	d := (&daemon{view: &watcher.View{Host: policy.Host{Connected: true, Synced: true}, Units: []policy.Status{u}}}).start(t)
	out, _, _ := d.run(t, "status", "-o", "wide")
	if strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || strings.Count(out, "\n") != 2 || len(out) > 4000 {
		t.Errorf("%d bytes in %d lines: %.500q", len(out), strings.Count(out, "\n"), out)
	}
}

func TestStatusJSON(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	out, _, code := d.run(t, "status", "-o", "json", "lama")
	var st api.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatal(err)
	}
	if st.Version != 1 || len(st.Units) != 1 || st.Units[0].Name != "lama" || st.Units[0].State != policy.Fatal || code != exitNotWell {
		t.Errorf("got %+v, exit code %d", st, code)
	}
}

// TestStatusCode wants 3 for each state that needs attention, and 0 for the
// others.
func TestStatusCode(t *testing.T) {
	d := (&daemon{view: zoo()}).start(t)
	fine := []string{"api", "batch", "new", "quiet"}
	for _, u := range zoo().Units {
		want := exitNotWell
		if slices.Contains(fine, u.Name) {
			want = exitOK
		}
		out, errs, code := d.run(t, "status", "-q", u.Name)
		if code != want || out != "" || errs != "" {
			t.Errorf("%s: exit code %d, printed %q %q; want %d and nothing", u.Name, code, out, errs, want)
		}
	}
}

func TestStatusNotices(t *testing.T) {
	for _, c := range []struct {
		name string
		view *watcher.View
		code int
		want string
	}{
		{
			"nothing watched", &watcher.View{Host: policy.Host{Connected: true, Synced: true}}, 0,
			"No container is watched yet. Add the label defib.enable=true to one, or run defib with --all.\n`defib status -a` shows what there is, and why it is not watched.\n",
		},
		{"never connected", &watcher.View{}, 3, "Docker has not answered yet.\n"},
		{
			"disconnected", &watcher.View{Host: policy.Host{Since: minutes(3), Reason: "connection refused"}}, 3,
			"Docker is out of reach since 3m: connection refused. What is shown is what was known then.\n",
		},
		{"not synced", &watcher.View{Host: policy.Host{Connected: true}}, 0, "Not every container has been looked at yet.\n"},
		{
			"observe, held, panic", &watcher.View{Observe: true, Host: policy.Host{
				Connected: true, Synced: true,
				Holds:  []policy.Hold{{Why: "li holds the host until noon."}},
				Panics: []policy.Panic{{Domain: "host", Since: minutes(1)}},
			}, Units: []policy.Status{{Name: "a", State: policy.Running}}}, 0,
			"Observe mode: defib says what it would do, and does nothing. `defib events` shows it.\n" +
				"Held: li holds the host until noon.\n" +
				"Many containers failed together (host) since 60s: one is repaired first, to see whether that helps.\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := (&daemon{view: c.view}).start(t)
			if _, errs, code := d.run(t, "status"); errs != c.want || code != c.code {
				t.Errorf("got %q, exit code %d; want %q, %d", errs, code, c.want, c.code)
			}
		})
	}
}

// TestWatch appends what changes, and ends with 130 when it is interrupted.
func TestWatch(t *testing.T) {
	changed := zoo()
	changed.Units[0].State = policy.Unhealthy
	d := (&daemon{view: changed, earlier: []*watcher.View{zoo(), zoo()}}).start(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &lineCounter{at: 3, then: cancel}
	a := newApp(nil, out, &bytes.Buffer{}, func(string) string { return d.socket })
	a.color = "never"
	w := &watch{app: a, o: statusOptions{output: "table", names: []string{"api"}}, seen: map[string]string{}}
	tick := make(chan time.Time, 2)
	tick <- noon // nothing changed
	tick <- noon
	if err := w.run(ctx, tick); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	golden(t, "watch", out.buf.String())
	if _, _, code := d.runContext(ctx, "status"); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
}

// lineCounter calls then once so many lines were written.
type lineCounter struct {
	buf  bytes.Buffer
	at   int
	then func()
}

func (l *lineCounter) Write(p []byte) (int, error) {
	n, err := l.buf.Write(p)
	if strings.Count(l.buf.String(), "\n") >= l.at {
		l.then()
	}
	return n, err
}

// TestRedraw wants a screen that is not longer than the terminal.
func TestRedraw(t *testing.T) {
	var out bytes.Buffer
	a := newApp(nil, &out, &bytes.Buffer{}, func(string) string { return "" })
	a.color = "never"
	w := &watch{app: a, o: statusOptions{output: "name"}, term: terminal{width: 40, height: 6}}
	view := zoo()
	if err := w.show(api.Status{Units: view.Units, Host: api.Host{Connected: true, Synced: true}}, nil); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[Hapi\x1b[K\napi-slow\x1b[K\nbatch\x1b[K\nembed\x1b[K\n… 8 more lines\x1b[K\n\x1b[J"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
