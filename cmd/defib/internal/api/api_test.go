package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

func TestFind(t *testing.T) {
	units := []policy.Status{
		web(),
		{Key: "db", Name: "db", Container: "c0ffc0de"},
		{Key: "c0ffee", Name: "odd", Container: "aa00"},
		{Key: "db2", Name: "shop/web/1", Container: "bb00"}, // a name beats another's key
	}
	others := []policy.Other{
		{Name: "redis", Container: "beef00", Why: "no label"},
		{Name: "c0ffee01", Container: "9900", Why: "no label"}, // a name beats the ID of what is watched
		{Name: "cache", Container: "c0ffee02", Why: "no label"},
	}
	for _, c := range []struct{ name, want, err string }{
		{"web", "shop/web/1", ""},
		{"/web", "shop/web/1", ""},
		{"shop/web/1", "db2", ""},
		{"c0ffee", "c0ffee", ""},
		{"c0ffee012", "shop/web/1", ""},
		{"C0FFC", "db", ""},
		{"c0ff", "", `"c0ff" begins the ID of 3 containers|give more of the ID, or the name`},
		{"c0ffee0", "", `"c0ffee0" begins the ID of 2 containers|give more of the ID, or the name`},
		{"c0ffee01", "", "c0ffee01 is not watched: no label|`defib status -a` shows all that is not watched"},
		{"bb0", "", "no watched container is called \"bb0\"|did you mean db?"}, // too short for an ID
		{"wbe", "", `no watched container is called "wbe"|did you mean web?`},
		{"redis", "", "redis is not watched: no label|`defib status -a` shows all that is not watched"},
		{"BEEF", "", "redis is not watched: no label|`defib status -a` shows all that is not watched"},
		{"", "", "no watched container is called \"\"|`defib status -a` lists what there is"},
		{"redsi", "", "no watched container is called \"redsi\"|did you mean redis?"},
		{"postgres-main", "", "no watched container is called \"postgres-main\"|`defib status -a` lists what there is"},
	} {
		u, err := Find(units, others, c.name)
		got := ""
		if unknown, ok := errors.AsType[*UnknownError](err); ok {
			got = unknown.Text + "|" + unknown.Hint
		}
		if u.Key != c.want || got != c.err {
			t.Errorf("Find(%q) = %q, %q; want %q, %q", c.name, u.Key, got, c.want, c.err)
		}
	}
}

func TestStatus(t *testing.T) {
	c := serve(t, &fakeLoop{view: viewOf(web())}, &fakeArchive{})
	want := Status{
		Version: 1, At: noon, Units: []policy.Status{web()},
		Host: Host{Connected: true, Synced: true, Engine: "gpu-03", EngineVersion: "28.5.2", RepairsLeft: 5},
	}
	got, err := c.Status(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	want.Others = viewOf().Host.Others
	if got, err = c.Status(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStarting(t *testing.T) {
	c := serve(t, &fakeLoop{}, &fakeArchive{})
	_, err := c.Status(t.Context(), false)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != http.StatusServiceUnavailable {
		t.Errorf("got %v, want a refusal with 503", err)
	}
}

func TestUnitAndIncidents(t *testing.T) {
	var all []policy.Incident
	for i := range 7 {
		all = append(all, policy.Incident{ID: fmt.Sprintf("INC-%d", i), Unit: "shop/web/1", Closed: noon.Add(-time.Duration(i) * time.Hour)})
	}
	all = append([]policy.Incident{{ID: "INC-X", Unit: "db"}}, all...)
	slices.Reverse(all) // the archive gives the oldest first
	c := serve(t, &fakeLoop{view: viewOf(web())}, &fakeArchive{incidents: all})

	u, err := c.Unit(t.Context(), "shop/web/1")
	if err != nil || u.Unit.Name != "web" || len(u.Incidents) != 5 || u.Incidents[0].ID != "INC-0" {
		t.Errorf("got %+v, %v; want web with the newest 5 incidents", u, err)
	}
	got, err := c.Incidents(t.Context(), noon.Add(-2*time.Hour))
	if err != nil || len(got.Incidents) != 4 || got.Incidents[0].ID != "INC-X" {
		t.Errorf("got %v, %v; want 4 from INC-X on", got.Incidents, err)
	}
	inc, err := c.Incident(t.Context(), "inc-x")
	if err != nil || inc.Incident.ID != "INC-X" {
		t.Errorf("got %+v, %v; want INC-X", inc, err)
	}
	var unknown *UnknownError
	if _, err := c.Incident(t.Context(), "INC/../9"); !errors.As(err, &unknown) {
		t.Errorf("got %v, want an UnknownError", err)
	}
	if _, err := c.Unit(t.Context(), "wbe"); !errors.As(err, &unknown) || unknown.Hint != "did you mean web?" {
		t.Errorf("got %v, want an UnknownError with a suggestion", err)
	}
}

func TestArchiveFails(t *testing.T) {
	c := serve(t, &fakeLoop{view: viewOf(web())}, &fakeArchive{err: errors.New("disk is gone")})
	_, err := c.Incidents(t.Context(), time.Time{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != 500 || refused.Text != "disk is gone" {
		t.Errorf("got %v, want the archive's words", err)
	}
}

func TestHealth(t *testing.T) {
	loop := &fakeLoop{}
	c := serve(t, loop, &fakeArchive{})
	if h, err := c.Health(t.Context()); err != nil || !h.OK {
		t.Errorf("got %+v, %v; want OK", h, err)
	}
	loop.sick = errors.New("Docker is out of reach: connection refused")
	h, err := c.Health(t.Context())
	if err != nil || h.OK || h.Text != "Docker is out of reach: connection refused" {
		t.Errorf("got %+v, %v; want the reason", h, err)
	}
}

func TestUnknownRoute(t *testing.T) {
	c := serve(t, &fakeLoop{}, &fakeArchive{})
	_, err := get[Status](t.Context(), c, "/v2/status")
	var unknown *UnknownError
	if !errors.As(err, &unknown) || !strings.HasPrefix(unknown.Text, "this daemon does not know GET /v2/status") {
		t.Errorf("got %v", err)
	}
}

func TestEvents(t *testing.T) {
	at := func(s int) time.Time { return noon.Add(time.Duration(s-10) * time.Second) } // 10 is now
	rec := func(s int, unit string) watcher.Record {
		return watcher.Record{Event: policy.Event{At: at(s), Kind: policy.KindDie, Unit: unit}}
	}
	command := watcher.Record{Event: policy.Event{At: at(4), Kind: policy.KindCommand, Command: &policy.Command{Order: policy.OrderStop, Unit: "db"}}}
	tick := watcher.Record{Event: policy.Event{At: at(5), Kind: policy.KindTick}, Decisions: []policy.Decision{{Unit: "shop/web/1"}}}
	loop := &fakeLoop{view: viewOf(web(), policy.Status{Name: "db", Key: "db"}), after: []watcher.Committed{
		{Record: rec(2, "shop/web/1")}, // the log has it already
		{Record: rec(3, "db")},
		{Record: command},
		{Record: tick},
		{Record: watcher.Record{Event: policy.Event{At: at(6), Kind: policy.KindSynced}}},
		{Record: rec(7, "db"), Lost: 3},
	}}
	c := serve(t, loop, &fakeArchive{records: []watcher.Record{rec(0, "db"), rec(1, "db"), rec(2, "shop/web/1")}})
	for _, x := range []struct {
		name   string
		back   time.Duration
		unit   string
		follow bool
		want   string
	}{
		{"all that was", time.Hour, "", false, "0 1 2"},
		{"since", 9 * time.Second, "", false, "1 2"},
		{"and what comes", 8 * time.Second, "", true, "2 3 4 5 6 7"},
		{"of one unit", time.Hour, "web", true, "2 5 6 7"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var got []string
			lost := 0
			err := c.Events(t.Context(), x.back, x.unit, x.follow, func(l Line) error {
				got = append(got, fmt.Sprint(int(l.Event.At.Sub(at(0))/time.Second)))
				lost += l.Lost
				if x.unit != "" && l.Event.Unit == "db" {
					t.Errorf("%+v is another's", l.Event)
				}
				return nil
			})
			if err != nil || strings.Join(got, " ") != x.want {
				t.Errorf("got %v, %v; want %s", got, err, x.want)
			}
			if x.follow && lost != 3 {
				t.Errorf("got %d lost, want 3", lost)
			}
		})
	}
	t.Run("unknown unit", func(t *testing.T) {
		var unknown *UnknownError
		if err := c.Events(t.Context(), time.Hour, "nope", false, nil); !errors.As(err, &unknown) {
			t.Errorf("got %v, want an UnknownError", err)
		}
	})
	t.Run("a reader that has enough", func(t *testing.T) {
		enough := errors.New("enough")
		if err := c.Events(t.Context(), time.Hour, "", false, func(Line) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("got %v, want its own error", err)
		}
	})
}

// TestEventsAfterTheClockWasSetBack: what was recorded by the clock before is
// later than all that comes.
func TestEventsAfterTheClockWasSetBack(t *testing.T) {
	at := func(at time.Time) watcher.Record {
		return watcher.Record{Event: policy.Event{At: at, Kind: policy.KindSynced}}
	}
	loop := &fakeLoop{view: viewOf(web()), after: []watcher.Committed{{Record: at(noon)}}}
	c := serve(t, loop, &fakeArchive{records: []watcher.Record{at(noon.Add(8 * time.Hour))}})
	got := 0
	err := c.Events(t.Context(), time.Minute, "", true, func(Line) error { got++; return nil })
	if err != nil || got != 2 {
		t.Errorf("got %d events, %v; want what was and what comes", got, err)
	}
}

func TestClientErrors(t *testing.T) {
	c := NewClient("/nonexistent/s")
	_, err := c.Status(t.Context(), false)
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || unreachable.Text != "no defib answers on /nonexistent/s" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an UnreachableError", err)
	}
	var denied *PermissionError
	if err := c.broken(t.Context(), &os.PathError{Op: "dial", Err: os.ErrPermission}); !errors.As(err, &denied) {
		t.Errorf("got %v, want a PermissionError", err)
	}
	for seen, want := range map[error]string{
		nil:              "use sudo, or set api.group to a group of yours and restart defib",
		os.ErrPermission: "use sudo, or give defib a place of the socket that is open to you by --socket, and a group of yours by api.group",
	} {
		if err := forbidden("/run/s", seen); err.Hint != want {
			t.Errorf("%v: got %q, want %q", seen, err.Hint, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx, false); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}
