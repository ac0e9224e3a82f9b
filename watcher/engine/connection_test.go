package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/google/go-cmp/cmp"

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
					var gone *UnreachableError
					if !errors.As(err, &gone) {
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

func TestReconnectToTheSameProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{})
		web := f.run("web")
		w := watch(t, e)
		w.take()
		f.publish(web, events.ActionPause)
		w.take()
		f.ln.cut()
		var gone *UnreachableError
		if err := w.ended(); !errors.As(err, &gone) {
			t.Errorf("Watch returned %v, want an UnreachableError", err)
		}
		w.take()
		time.Sleep(2 * time.Second)
		f.publish(web, events.ActionKill, "signal", "15")
		f.change(web, exited(0))
		f.publish(web, events.ActionDie, "exitCode", "0")
		w = again(t, e)
		w.want("source_up same", "kill web signal=15 replayed", "die web replayed", "observed web exited", "synced")
	})
}

func TestReconnectToANewProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{})
		web := f.run("web")
		w := watch(t, e)
		f.publish(web, events.ActionPause)
		w.take()
		f.reborn()
		_ = w.ended()
		w.take()
		time.Sleep(time.Second)
		f.publish(web, events.ActionKill, "signal", "9") // it cleans up what its crash left over
		f.change(web, exited(137))
		f.publish(web, events.ActionDie, "exitCode", "137")
		w = again(t, e)
		w.want("source_up new", "kill web signal=9 replayed", "die web exit=137 replayed", "observed web exited", "synced")
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

func TestAnotherEngineAtTheSameAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{})
		web := f.run("web")
		w := watch(t, e)
		f.publish(web, events.ActionPause)
		w.take()
		e.engineID = "the one before"
		f.ln.cut()
		_ = w.ended()
		w.take()
		f.remove(web)
		w = again(t, e)
		w.want("source_up new", "synced") // what is not here was never removed
	})
}

func TestJudgeRing(t *testing.T) {
	key := func(n int64) eventKey { return eventKey{id: "c", action: "start", nano: n} }
	ring := func(from, to int64) (keys []eventKey) {
		for n := from; n < to; n++ {
			keys = append(keys, key(n))
		}
		return keys
	}
	for _, tc := range []struct {
		name   string
		marker eventKey
		ring   []eventKey
		want   policy.Process
	}{
		{"marker in the ring", key(50), ring(1, 100), policy.ProcessSame},
		{"marker in a full ring", key(200), ring(1, 257), policy.ProcessSame},
		{"few newer events, marker gone", key(50), ring(60, 100), policy.ProcessNew},
		{"empty ring, marker known", key(50), nil, policy.ProcessNew},
		{"full ring of newer events", key(50), ring(60, 316), policy.ProcessUnknown},
		{"nearly full", key(50), ring(60, 270), policy.ProcessUnknown},
		{"older events, marker gone: clocks lie", key(50), ring(40, 50), policy.ProcessUnknown},
		{"no marker", eventKey{}, ring(1, 100), policy.ProcessUnknown},
		{"same time, another event", eventKey{id: "d", action: "start", nano: 50}, ring(50, 60), policy.ProcessUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := judgeRing(tc.marker, tc.ring); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// Where the ring has forgotten the marker, containers that ran on tell.
func TestProcessWhereTheRingHasForgotten(t *testing.T) {
	restarted := func(c *container.InspectResponse) { c.State.StartedAt = time.Now().Format(time.RFC3339Nano) }
	for _, tc := range []struct {
		name string
		away func(f *fake, web string)
		want policy.Process
	}{
		{"all ran on", func(*fake, string) {}, policy.ProcessSame},
		{"one that is not watched ran on", func(f *fake, web string) { f.change(web, exited(1)) }, policy.ProcessSame},
		{"all were started again", func(f *fake, web string) { f.change(web, restarted); f.change(idOf("job"), restarted) }, policy.ProcessNew},
		{"all ended", func(f *fake, web string) { f.change(web, exited(1)); f.change(idOf("job"), exited(1)) }, policy.ProcessNew},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				e := f.engine(Options{})
				web := f.run("web")
				f.run("job", "defib.enable", "no")
				w := watch(t, e)
				f.publish(web, events.ActionPause)
				time.Sleep(time.Hour)
				w.take()
				f.ln.cut()
				_ = w.ended()
				time.Sleep(time.Minute)
				f.noise(ringMax)
				tc.away(f, web)
				w = again(t, e)
				if got := w.take()[0].Engine.Process; got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
			})
		})
	}
}

// A quiet host: no event ever came, so the newest of the ring is the marker.
func TestMarkerOfAQuietHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.noise(3)
		time.Sleep(time.Minute)
		e := f.engine(Options{})
		w := watch(t, e)
		w.take()
		f.ln.cut()
		_ = w.ended()
		w = again(t, e)
		w.want("source_up same", "synced")
		f.reborn()
		_ = w.ended()
		w = again(t, e)
		w.want("source_up new", "synced")
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

func TestNobodyReadsTheEvents(t *testing.T) {
	q := newQueue(time.Now)
	for i := range queueMax {
		if !q.push(events.Message{Action: events.ActionStart, TimeNano: int64(i)}) {
			t.Fatalf("full after %d events", i)
		}
	}
	if q.push(events.Message{Action: events.ActionStart}) {
		t.Error("the queue grows without bound")
	}
	if n := len(q.take()); n != queueMax {
		t.Errorf("%d events taken, want %d", n, queueMax)
	}
	for range 3 * queueMax {
		if !q.push(events.Message{Action: events.ActionHealthStatusUnhealthy, Actor: events.Actor{ID: "a"}}) {
			t.Fatal("health events of one container fill the queue")
		}
	}
	if n := len(q.take()); n != 1 {
		t.Errorf("%d health events of one container wait, want 1", n)
	}
}

func TestPool(t *testing.T) {
	p := newPool()
	for i := range 20 {
		p.add(fmt.Sprint("slow", i), false)
	}
	p.add("slow19", true) // asked for by an event after all
	p.add("web", true)
	p.add("web", false)
	var got []string
	for id, ok := p.next(); ok; id, ok = p.next() {
		got = append(got, id)
	}
	want := []string{"slow19", "web", "slow0", "slow1", "slow2", "slow3", "slow4", "slow5", "slow6", "slow7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("may run (-want +got):\n%s", diff)
	}
	p.add("web", true)
	p.add("web", true)
	p.finish("slow0")
	p.finish("web")
	got = nil
	for id, ok := p.next(); ok; id, ok = p.next() {
		got = append(got, id)
	}
	if diff := cmp.Diff([]string{"web", "slow8"}, got); diff != "" {
		t.Errorf("may run next (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	unreachable := func(err error) bool { var e *UnreachableError; return errors.As(err, &e) }
	permission := func(err error) bool { var e *PermissionError; return errors.As(err, &e) }
	version := func(err error) bool { var e *VersionError; return errors.As(err, &e) }
	for _, tc := range []struct {
		name   string
		set    func(f *fake)
		is     func(error) bool
		text   string
		within time.Duration
	}{
		{"no socket", func(f *fake) { f.ln.denyWith(syscall.ENOENT) }, unreachable, "no Docker Engine at unix:///run/fake.sock: the socket does not exist; start Docker, mount the socket into defib's container, or name another with --host", 0},
		{"nobody listens", func(f *fake) { f.ln.denyWith(syscall.ECONNREFUSED) }, unreachable, "no Docker Engine at unix:///run/fake.sock: nothing listens there; start Docker (systemctl start docker) or name another address with --host", 0},
		{"no permission", func(f *fake) { f.ln.denyWith(fs.ErrPermission) }, permission, "no permission to use the Docker socket /run/fake.sock: run defib as root or as a member of the socket's group", 0},
		{"no answer", func(f *fake) { f.hang("/_ping", time.Hour) }, unreachable, "the Docker Engine at unix:///run/fake.sock does not answer in time; look at its log (journalctl -u docker) and at the network between", 5 * time.Second},
		{"no stream", func(f *fake) { f.hang("/events", time.Hour) }, unreachable, "the Docker Engine at unix:///run/fake.sock does not answer in time; look at its log (journalctl -u docker) and at the network between", 10 * time.Second},
		{"too old", func(f *fake) { f.headers["Api-Version"] = "1.22" }, version, "the Docker Engine at unix:///run/fake.sock is too old (API 1.22): defib needs API 1.24, Docker 1.12 or newer: upgrade Docker", 0},
		{"too old to say so", func(f *fake) {
			delete(f.headers, "Api-Version")
			f.refuse["/info"] = "400 client is newer than server (client API version: 1.24, server API version: 1.20)"
		}, version, "the Docker Engine at unix:///run/fake.sock is too old (API unknown): defib needs API 1.24, Docker 1.12 or newer: upgrade Docker", 0},
		{"too new", func(f *fake) {
			f.headers["Api-Version"] = "1.99"
			f.refuse["/info"] = "400 client version 1.51 is too old. Minimum supported API version is 1.60, please upgrade your client to a newer version"
		}, version, "the Docker Engine at unix:///run/fake.sock no longer speaks the API versions that this defib knows (Error response from daemon: client version 1.51 is too old. Minimum supported API version is 1.60, please upgrade your client to a newer version): upgrade defib", 0},
		{"a proxy refuses", func(f *fake) { f.refuse["/info"] = "403 Forbidden" }, permission, "the proxy before the Docker Engine at unix:///run/fake.sock refuses GET /info: allow it there (defib reads /_ping, /info, /events and /containers, and restarts with POST /containers)", 0},
		{"a proxy refuses the ping", func(f *fake) { f.refuse["/_ping"] = "403 Forbidden" }, permission, "the proxy before the Docker Engine at unix:///run/fake.sock refuses GET /_ping: allow it there (defib reads /_ping, /info, /events and /containers, and restarts with POST /containers)", 0},
		{"no Docker Engine", func(f *fake) { f.refuse["/_ping"] = "404 x" }, unreachable, `lost the Docker Engine at unix:///run/fake.sock: its ping says 404 Not Found: {"message":"x"}`, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				tc.set(f)
				began := time.Now()
				w := watch(t, f.engine(Options{}))
				err := w.ended()
				if took := time.Since(began); took != tc.within {
					t.Errorf("returned after %v, want %v", took, tc.within)
				}
				if !tc.is(err) {
					t.Errorf("Watch returned a %T", err)
				}
				if got := Explain(err); got != tc.text {
					t.Errorf("explained as\n%s\nwant\n%s", got, tc.text)
				}
				w.want("source_down (" + tc.text + ")")
			})
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	ok := Options{Watch: func(map[string]string) (string, string) { return "", "" }, Now: time.Now}
	for host, want := range map[string]string{
		"ssh://gpu-03":           `docker host "ssh://gpu-03": ssh:// is not supported; use unix:// or tcp:// (for ssh, forward the socket first: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST)`,
		"/var/run/docker.sock":   `docker host "/var/run/docker.sock": write it as unix:///path/to/docker.sock or tcp://name:port`,
		"unix:///var/run/d.sock": "",
		"tcp://10.0.0.1:2376":    "",
	} {
		o := ok
		o.Host = host
		if _, err := New(o); fmt.Sprint(err) != cmpOr(want, "<nil>") {
			t.Errorf("%s: %v, want %s", host, err, want)
		}
	}
	t.Setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
	e, err := New(ok)
	if err != nil || e.Host() != "unix:///run/user/1000/docker.sock" {
		t.Errorf("DOCKER_HOST: %v", err)
	}
	t.Setenv("DOCKER_CERT_PATH", t.TempDir())
	ok.Host = "tcp://10.0.0.1:2376"
	if _, err := New(ok); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing TLS files: %v", err)
	}
}

func cmpOr(s, or string) string {
	if s == "" {
		return or
	}
	return s
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
