package engine

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/defib-dev/defib/watcher/policy"
)

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
		err := w.ended()
		if _, ok := errors.AsType[*UnreachableError](err); !ok {
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
