package notify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const beatURL = "https://hc-ping.com/SECRETPATH-1234"

// logged returns a log and what was written to it: level and message.
func logged() (*slog.Logger, func() []string) {
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), func() []string { return strings.Split(strings.TrimSpace(b.String()), "\n") }
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, log := &fakeService{}, slog.New(slog.DiscardHandler)
		var alive atomic.Value
		alive.Store("")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			Heartbeat{URL: beatURL, Alive: func() error {
				if why := alive.Load().(string); why != "" {
					return errors.New(why)
				}
				return nil
			}, HTTP: f.client(), Log: log}.Run(ctx)
			close(done)
		}()
		after := func(d time.Duration) int {
			time.Sleep(d)
			synctest.Wait()
			return f.count()
		}
		got := []int{after(0), after(59 * time.Second), after(time.Second), after(3 * time.Minute)}
		alive.Store("the loop hangs")
		got = append(got, after(5*time.Minute))
		alive.Store("")
		got = append(got, after(time.Minute))
		if d := cmp.Diff([]int{1, 1, 2, 5, 5, 6}, got); d != "" {
			t.Error(d)
		}
		if r := f.last(t); r.Method != "GET" || r.URL != beatURL {
			t.Errorf("got %+v", r)
		}
		cancel()
		<-done
		if n := after(time.Hour); n != 6 {
			t.Errorf("%d heartbeats after the end", n)
		}
	})
}

// A start that takes a while delays the first heartbeat no longer than that, and
// is no news; one that never ends is.
func TestHeartbeatAtTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		beats []int // after 10 s, 1 min, 1 min 11 s
		log   string
	}{
		"soon":  {3 * time.Second, []int{1, 1, 2}, ""},
		"never": {time.Hour, []int{0, 0, 0}, `level=WARN msg="no heartbeat is sent; its service will call somebody" err="defib is still starting"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, start := &fakeService{}, time.Now()
				log, lines := logged()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					Heartbeat{URL: beatURL, HTTP: f.client(), Log: log, Alive: func() error {
						if time.Since(start) < c.takes {
							return errors.New("defib is still starting")
						}
						return nil
					}}.Run(ctx)
					close(done)
				}()
				var got []int
				for _, d := range []time.Duration{10 * time.Second, 50 * time.Second, 11 * time.Second} {
					time.Sleep(d) // in the bubble
					synctest.Wait()
					got = append(got, f.count())
				}
				cancel()
				<-done
				if d := cmp.Diff(c.beats, got); d != "" {
					t.Error(d)
				}
				if got := strings.Join(lines(), "\n"); got != c.log {
					t.Errorf("it says %s", got)
				}
			})
		})
	}
}

// What is wrong without being an emergency goes along, where it is taken.
func TestHeartbeatNote(t *testing.T) {
	for name, takes := range map[string]bool{"a service that takes it": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			var got []string
			rt := roundTrip(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				got = append(got, r.Method+" "+string(body))
				res := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}
				if r.Method == http.MethodPost && !takes {
					res.StatusCode = http.StatusMethodNotAllowed
				}
				return res, err
			})
			note := "ops is parked"
			h := Heartbeat{URL: beatURL, Note: func() string { return note }}
			client := &http.Client{Transport: rt}
			err := h.beat(t.Context(), client)
			note = ""
			if err := errors.Join(err, h.beat(t.Context(), client)); err != nil {
				t.Error(err)
			}
			want := []string{"POST ops is parked", "GET "}
			if !takes {
				want = []string{"POST ops is parked", "GET ", "GET "}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestHeartbeatLogsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeService{}
		log, lines := logged()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			Heartbeat{URL: beatURL, Every: time.Second, HTTP: f.client(), Log: log}.Run(ctx)
			close(done)
		}()
		step := func(status int, err error) {
			f.set(status, err)
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		step(200, nil)
		step(503, nil)
		step(0, errors.New("no route to SECRETPATH-1234"))
		step(0, errors.New("no route from another port"))
		step(200, nil)
		cancel()
		<-done
		want := []string{
			`level=WARN msg="no heartbeat is sent; its service will call somebody" err="the service has a fault of its own (HTTP 503 Service Unavailable)"`,
			`level=WARN msg="no heartbeat is sent; its service will call somebody" err="Get \"https://hc-ping.com/…\": no route to [redacted]"`,
			`level=INFO msg="the heartbeat is sent again"`,
		}
		if d := cmp.Diff(want, lines()); d != "" {
			t.Error(d)
		}
	})
}

// A service that takes the connection and says nothing does not stop the ticks,
// and the end does not wait for it.
func TestHeartbeatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeService{hang: true}
		log, lines := logged()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		c := f.client()
		c.Timeout = 20 * time.Second
		go func() {
			Heartbeat{URL: beatURL, HTTP: c, Log: log}.Run(ctx)
			close(done)
		}()
		time.Sleep(2*time.Minute + time.Second)
		if n := f.count(); n != 3 {
			t.Errorf("%d tries in two minutes", n)
		}
		start := time.Now()
		cancel()
		<-done
		if time.Since(start) != 0 || len(lines()) != 1 {
			t.Errorf("it ended after %v; it logged %q", time.Since(start), lines())
		}
	})
}

func TestHeartbeatURL(t *testing.T) {
	if err := (Heartbeat{URL: beatURL}).Check(); err != nil {
		t.Error(err)
	}
	err := Heartbeat{URL: "hc-ping.com/SECRETPATH"}.Check()
	if err == nil {
		t.Fatal("it is taken")
	}
	wantNoSecret(t, err, "SECRETPATH")
}
