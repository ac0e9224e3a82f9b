package engine

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/defib-dev/defib/watcher/policy"
)

// again runs the next generation of the same engine object.
func again(t *testing.T, e *Engine) *watched {
	t.Helper()
	time.Sleep(time.Second) // the caller's pause
	return watch(t, e)
}

func TestStreamThatWentSilentIsFound(t *testing.T) {
	for _, tc := range []struct {
		name string
		act  func(f *fake)
	}{
		{"open connections go silent, new ones work", func(f *fake) { f.ln.silence() }},
		{"the engine ignores the end of the lease", func(f *fake) { f.mu.Lock(); f.until = true; f.mu.Unlock() }},
		{"the engine hangs", func(f *fake) {
			for _, p := range []string{"/_ping", "/info", "/events", "/containers/json"} {
				f.hang(p, time.Hour)
			}
		}},
	} {
		for _, after := range []time.Duration{time.Second, 24 * time.Second, 31 * time.Second, 10 * time.Minute} {
			t.Run(fmt.Sprintf("%s after %v", tc.name, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t)
					f.run("web")
					w := watch(t, f.engine(Options{}))
					time.Sleep(after)
					tc.act(f)
					w.take()
					began := time.Now()
					err := w.ended()
					if _, ok := errors.AsType[*UnreachableError](err); !ok {
						t.Errorf("Watch returned %v, want an UnreachableError", err)
					}
					limit := 45 * time.Second
					if f.until {
						limit += 25 * time.Second // from the start of the next lease
					}
					if took := time.Since(began); took > limit {
						t.Errorf("found after %v, want at most %v", took, limit)
					}
					if evs := w.take(); evs[len(evs)-1].Kind != policy.KindSourceDown {
						t.Errorf("the last event is %s, want source_down", evs[len(evs)-1].Kind)
					}
				})
			})
		}
	}
}

// The stream is renewed every 25 s; nothing is lost or told twice over that.
func TestLeaseRenewalLosesAndRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web")
		w := watch(t, f.engine(Options{}))
		w.take()
		var want int
		for range 300 {
			f.publish(web, events.ActionPause)
			want++
			time.Sleep(331 * time.Millisecond)
		}
		var got int
		for _, ev := range w.take() {
			if ev.Kind == policy.KindPause {
				got++
				if ev.Replayed {
					t.Error("a live event is marked as replayed")
				}
			}
		}
		if got != want {
			t.Errorf("%d events emitted, want %d", got, want)
		}
		if n := f.called("/events"); n != 5 { // the ring, and four leases
			t.Errorf("%d event requests in 99 s, want 5", n)
		}
		if n := f.streams.Load(); n != 1 {
			t.Errorf("%d streams open, want 1", n)
		}
	})
}

// What an engine says as it shuts down is emitted before source_down.
func TestLastEventsOfAnEngineThatShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web")
		w := watch(t, f.engine(Options{}))
		w.take()
		f.hang("/containers/"+web+"/json", time.Minute)
		f.publish(web, events.ActionKill, "signal", "15")
		f.publish(web, events.ActionDie, "exitCode", "0")
		synctest.Wait()
		f.ln.cut()
		_ = w.ended()
		w.want("kill web signal=15", "die web", "source_down (lost the Docker Engine at unix:///run/fake.sock: it ended the event stream)")
	})
}

func TestRemovedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{})
		web := f.run("web")
		w := watch(t, e)
		f.publish(web, events.ActionPause)
		w.take()
		f.ln.cut()
		_ = w.ended()
		w.take()
		f.remove(web)
		w = again(t, e)
		w.want("source_up same", "synced", "destroy web replayed (the engine does not know it any more)")
	})
}

func TestLookBackOfTheFirstConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web")
		f.publish(web, events.ActionPause)
		time.Sleep(6 * time.Second)
		f.publish(web, events.ActionUnPause)
		time.Sleep(4 * time.Second)
		w := watch(t, f.engine(Options{}))
		w.want("source_up unknown", "unpause web replayed", "observed web running healthy", "synced")
	})
}

func TestPodman(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.headers["Libpod-Api-Version"] = "5.8.2"
		e := f.engine(Options{})
		web := f.run("web")
		w := watch(t, e)
		if evs := w.take(); evs[0].Engine.Version != "20.10.24+dfsg1 (Podman)" {
			t.Errorf("version %q", evs[0].Engine.Version)
		}
		f.change(web, health(container.Unhealthy))
		f.publish(web, "health_status") // the status is in a field that the client drops
		w.want("observed web running unhealthy")
		f.change(web, exited(0))
		f.publish(web, events.ActionDie, "exitCode", "0")
		w.take()
		f.remove(web)
		f.publish(web, events.ActionRemove, "name", "web", "defib.enable", "true")
		w.want("destroy web")
		f.ln.cut()
		_ = w.ended()
		w.take()
		w = again(t, e)
		w.want("source_up same", "synced") // no process that could be another one
	})
}

func TestEngineClock(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.skew = skew
				web := f.run("web")
				f.publish(web, events.ActionPause)
				time.Sleep(4 * time.Second)
				w := watch(t, f.engine(Options{}))
				evs := w.take()
				if got := say(evs); got != "source_up unknown\npause web replayed\nobserved web running healthy\nsynced" {
					t.Fatalf("emitted %q", got)
				}
				if up := evs[2].Observation.Uptime; up != 4*time.Second {
					t.Errorf("uptime %v, want 4s", up)
				}
				time.Sleep(time.Minute)
				if f.streams.Load() != 1 {
					t.Error("the stream did not outlive its leases")
				}
				w.want()
				// The engine's clock is set; an event shows it.
				f.mu.Lock()
				f.skew += 10 * time.Minute
				f.mu.Unlock()
				f.change(web, func(c *container.InspectResponse) { c.State.StartedAt = f.now().Format(time.RFC3339Nano) })
				f.publish(web, events.ActionStart)
				w.take()
				time.Sleep(10 * time.Second)
				f.publish(web, events.ActionUnPause)
				evs = w.take()
				if up := evs[len(evs)-1].Observation.Uptime; up != 10*time.Second {
					t.Errorf("uptime after the clock was set %v, want 10s", up)
				}
			})
		})
	}
}

// Docker writes labels over the attributes of an event.
func TestHostileLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web", "signal", "15", "exitCode", "0", "name", "other", "defib.id", "bad\x1b[31mid",
			"com.docker.compose.project", "a b", "com.docker.compose.service", strings.Repeat("x", 1<<20), "big", strings.Repeat("y", 1<<20))
		w := watch(t, f.engine(Options{}))
		w.take()
		f.publish(web, events.ActionKill, "signal", "10")
		f.change(web, exited(3))
		f.publish(web, events.ActionDie, "exitCode", "3")
		evs := w.take()
		if got := say(evs); got != "kill web\ndie web\nobserved web exited" {
			t.Errorf("emitted %q", got)
		}
		o := evs[2].Observation
		size := 0
		for k, v := range o.Labels {
			size += len(k) + len(v)
		}
		if o.ExitCode != 3 || size > maxLabels || len(o.Labels["big"]) != maxLabelValue || o.Labels["defib.enable"] != "true" {
			t.Errorf("exit code %d, %d bytes of labels, %d of big", o.ExitCode, size, len(o.Labels["big"]))
		}
	})
}

// A watcher that nobody reads any more still ends.
func TestWatchEndsWithoutAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.ln.denyWith(http.ErrServerClosed)
		began := time.Now()
		_ = f.engine(Options{}).Watch(t.Context(), make(chan policy.Event))
		if took := time.Since(began); took != lastWord {
			t.Errorf("ended after %v, want %v", took, lastWord)
		}
	})
}
