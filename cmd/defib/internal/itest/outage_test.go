package itest

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// What happens while the connection is cut is not missed afterwards.
func TestStreamCut(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	p := e.NewProxy(t)
	crash := e.Run(t, Spec{Name: "crash"})
	stop := e.Run(t, Spec{Name: "stop", Restart: "unless-stopped"})
	e.Run(t, Spec{Name: "quiet"})
	d := Start(t, b, Options{Host: p.Host()})
	d.Until(t, soon, "all are up", func(s api.Status) bool { return inState(s, policy.Running) == 3 })
	p.Shut()
	d.UntilState(t, soon, "quiet", policy.Unknown)
	crash.Tell(t, "crash", "3")
	r.Wait(t, soon, "crash", "die", 1)
	stop.Stop(t)
	p.Open(t)
	r.Wait(t, soon, "crash", "start", 2)
	d.UntilState(t, soon, "crash", policy.Running)
	d.UntilState(t, soon, "stop", policy.Stopped)
	d.UntilState(t, soon, "quiet", policy.Running)
	p.Cut() // and a short one, in which nothing happens
	tracer(t, e, r, d)
	wantCounts(t, r, "crash", startedOnce)
	wantCounts(t, r, "stop", map[string]int{"start": 1, "kill": 1, "die": 1, "stop": 1})
	wantCounts(t, r, "quiet", untouched)
}

// An engine that ends, by a restart or by SIGKILL, takes containers down that
// nobody wanted down. All of them come back; what a human stopped does not.
func TestEngineEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Engine, testing.TB){"restarted": (*Engine).Stop, "killed": (*Engine).Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			up := map[string]string{"unless": "unless-stopped", "always": "always", "plain": "no"}
			for name, restart := range up {
				e.Run(t, Spec{Name: name, Restart: container.RestartPolicyMode(restart)})
			}
			human := e.Run(t, Spec{Name: "human", Restart: "unless-stopped"})
			d := Start(t, b, Options{Host: e.Host(), Policy: map[string]string{"confirm_stop": "15s"}})
			d.Until(t, soon, "all are up", func(s api.Status) bool { return inState(s, policy.Running) == 4 })
			human.Stop(t)
			d.Until(t, soon, "the stop counts as a human's", func(s api.Status) bool { return Unit(s, "human").Rule == "wanted_down" })
			end(e, t)
			d.UntilState(t, soon, "unless", policy.Unknown)
			e.Start(t)
			d.Ready(t)
			for name := range up {
				d.UntilState(t, 2*soon, name, policy.Running)
			}
			d.UntilState(t, soon, "human", policy.Stopped)
			tracer(t, e, r, d)
			s := d.Status(t)
			for name := range up {
				if u := Unit(s, name); u.State != policy.Running || u.Restarts24h != 0 {
					t.Errorf("%s: got %s with %d repairs charged; want it running, uncharged", name, u.State, u.Restarts24h)
				}
			}
			if human.Running(t) {
				t.Error("what a human stopped runs again")
			}
			wantActs(t, d, "human")
		})
	}
}

// Without an engine defib waits, and says so.
func TestEngineAbsent(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	c := e.Run(t, Spec{Name: "web", Restart: "always"})
	e.Stop(t)
	d := Launch(t, b, Options{Host: e.Host()})
	d.Until(t, soon, "defib says which engine it waits for", func(s api.Status) bool {
		return !s.Host.Connected && strings.Contains(s.Host.Reason, e.Socket())
	})
	if _, _, code := d.CLI(t, "healthcheck"); code != 1 {
		t.Errorf("healthcheck without an engine: got exit code %d, want 1", code)
	}
	if !strings.Contains(d.Output(), e.Socket()) {
		t.Error("the log does not name the socket that nobody answers on")
	}
	e.Start(t)
	d.UntilState(t, soon, "web", policy.Running)
	if _, text, code := d.CLI(t, "healthcheck"); code != 0 {
		t.Errorf("healthcheck with an engine: got exit code %d (%s), want 0", code, text)
	}
	d.Until(t, soon, "the settling time after the engine's start is over", func(s api.Status) bool { return s.At.After(s.Host.Settle) })
	c.Tell(t, "exit", "0")
	d.UntilState(t, soon, "web", policy.Running)
	tracer(t, e, r, d)
	if !d.Runs() {
		t.Error("defib ended")
	}
}

// Connections that go silent without closing are found within 45 s.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	p := e.NewProxy(t)
	c := e.Run(t, Spec{Name: "web"})
	d := Start(t, b, Options{Host: p.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	if p.Freeze() == 0 {
		t.Fatal("there was no connection to freeze")
	}
	c.Tell(t, "crash", "3")
	died := r.Wait(t, soon, "web", "die", 1)
	back := r.Wait(t, 2*soon, "web", "start", 2)
	took := back.At.Sub(died.At)
	t.Logf("found after %v", took.Round(time.Millisecond))
	if took > soon { // what a busy machine adds is on top
		t.Errorf("found after %v, want about 35s and never more than 45s on a machine that does nothing else", took)
	}
	d.UntilState(t, soon, "web", policy.Running)
	wantCounts(t, r, "web", startedOnce)
}
