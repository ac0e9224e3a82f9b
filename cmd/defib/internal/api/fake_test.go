package api

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeLoop is a watcher that answers what it is told to.
type fakeLoop struct {
	view  *watcher.View
	sick  error
	do    func(cmd policy.Command) ([]policy.Decision, error)
	after []watcher.Committed // records that follow a command, or a subscription

	mu   sync.Mutex
	cmds []policy.Command
}

func (f *fakeLoop) View() *watcher.View     { return f.view }
func (f *fakeLoop) Healthy(time.Time) error { return f.sick }

func (f *fakeLoop) Do(_ context.Context, cmd policy.Command) ([]policy.Decision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cmds = append(f.cmds, cmd)
	if f.do == nil {
		return nil, nil
	}
	return f.do(cmd)
}

// Subscribe gives the records, then closes: the daemon has stopped.
func (f *fakeLoop) Subscribe(context.Context) <-chan watcher.Committed {
	c := make(chan watcher.Committed, len(f.after))
	for _, r := range f.after {
		c <- r
	}
	close(c)
	return c
}

type fakeArchive struct {
	incidents []policy.Incident
	records   []watcher.Record
	err       error
}

func (f *fakeArchive) Incidents(since time.Time) ([]policy.Incident, error) {
	var out []policy.Incident
	for _, inc := range f.incidents {
		if inc.Closed.IsZero() || !inc.Closed.Before(since) {
			out = append(out, inc)
		}
	}
	return out, f.err
}

func (f *fakeArchive) Incident(id string) (policy.Incident, bool, error) {
	for _, inc := range f.incidents {
		if inc.ID == id {
			return inc, true, f.err
		}
	}
	return policy.Incident{}, false, f.err
}

func (f *fakeArchive) ReadEvents(since time.Time, each func(watcher.Record) error) error {
	for _, r := range f.records {
		if r.Event.At.Before(since) {
			continue
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return f.err
}

// serve runs a server on a socket and returns a client of it. Both end with
// the test.
func serve(t *testing.T, loop Loop, archive Archive) *Client {
	t.Helper()
	return serveWith(t, Options{Loop: loop, Archive: archive})
}

func serveWith(t *testing.T, o Options) *Client {
	t.Helper()
	o.Log, o.Now, o.Build = slog.New(slog.DiscardHandler), func() time.Time { return noon }, Build{Version: Version, Defib: "test"}
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	srv := New(o)
	go func() { done <- srv.Serve(ctx, ln) }()
	c := NewClient(path)
	t.Cleanup(func() {
		c.http.Transport.(*http.Transport).CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return c
}

func web() policy.Status {
	return policy.Status{Key: "shop/web/1", Name: "web", Project: "shop", Container: "c0ffee0123456789", State: policy.Running}
}

func viewOf(units ...policy.Status) *watcher.View {
	return &watcher.View{
		At: noon, Units: units,
		Host: policy.Host{
			Connected: true, Synced: true, Tokens: 5.9, Engine: policy.Engine{Name: "gpu-03", Version: "28.5.2"},
			Others: []policy.Other{{Name: "redis", Container: "beef00", Why: "no label"}},
		},
	}
}
