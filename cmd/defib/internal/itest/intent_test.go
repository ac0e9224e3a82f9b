package itest

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// human is something that a person does to a container, with what the engine
// sees of it beside the first start, and what is to be its state for good.
type human struct {
	name  string
	do    func(*Container, testing.TB)
	seen  map[string]int
	state policy.State // "" when it is gone
}

// humans are the ways to mean it. Nothing in them leaves a container that
// defib may start.
func humans() []human {
	return []human{
		{"stop", (*Container).Stop, map[string]int{"start": 1, "kill": 1, "die": 1, "stop": 1}, policy.Stopped},
		{"kill", (*Container).Kill, map[string]int{"start": 1, "kill": 1, "die": 1}, policy.Stopped},
		{"pause", (*Container).Pause, map[string]int{"start": 1, "pause": 1}, policy.Paused},
		{"rm", (*Container).Remove, map[string]int{"start": 1, "kill": 1, "die": 1, "destroy": 1}, ""},
		{"restart", (*Container).Restart, map[string]int{"start": 2, "kill": 1, "die": 1, "stop": 1, "restart": 1}, policy.Running},
	}
}

// What a human does stays done, and counts for nothing: before defib is
// started for the first time, while it runs, and while it is away.
func TestHumanIntent(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "during", "away"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			containers := map[string]*Container{}
			for _, h := range humans() {
				for _, restart := range []string{"no", "unless-stopped"} {
					name := h.name + "-" + restart
					containers[name] = e.Run(t, Spec{Name: name, Image: "fakeinfer:one", Restart: container.RestartPolicyMode(restart)})
				}
			}
			act := func() {
				for _, h := range humans() {
					h.do(containers[h.name+"-no"], t)
					h.do(containers[h.name+"-unless-stopped"], t)
				}
			}
			d := whileDefibIs(t, when, e, b, act)
			for _, h := range humans() {
				for _, restart := range []string{"no", "unless-stopped"} {
					name := h.name + "-" + restart
					d.Until(t, soon, name+" is as the human left it", func(s api.Status) bool {
						u := Unit(s, name)
						return u.State == h.state && u.Detail != "stopping" && u.Restarts24h == 0
					})
				}
			}
			tracer(t, e, r, d)
			for _, h := range humans() {
				for _, restart := range []string{"no", "unless-stopped"} {
					name := h.name + "-" + restart
					wantCounts(t, r, name, h.seen)
					wantActs(t, d, name)
					if u := Unit(d.Status(t), name); u.State != h.state {
						t.Errorf("%s: got state %q in the end, want %q", name, u.State, h.state)
					}
				}
			}
		})
	}
}

// whileDefibIs lets a human act before defib's first start, during its run, or
// while it is away after a kill.
func whileDefibIs(t *testing.T, when string, e *Engine, b *Binaries, act func()) *Daemon {
	t.Helper()
	if when == "before" {
		act()
		return Start(t, b, Options{Host: e.Host()})
	}
	d := Start(t, b, Options{Host: e.Host()})
	d.Until(t, soon, "all are up", func(s api.Status) bool {
		for _, u := range s.Units {
			if u.State != policy.Running {
				return false
			}
		}
		return len(s.Units) > 0
	})
	if when == "away" {
		d.Kill(t)
		act()
		d.Again(t)
		d.Ready(t)
		return d
	}
	act()
	return d
}

// A human who steps in while defib is repairing wins.
func TestHumanDuringRepair(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		do    func(*Container, testing.TB)
		state policy.State
		runs  bool
	}{
		{"stop", (*Container).Stop, policy.Stopped, false},
		{"kill", (*Container).Kill, policy.Stopped, false},
		{"rm", (*Container).Remove, "", false},
		{"restart", (*Container).Restart, policy.Running, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			c := e.Run(t, Spec{Name: "web", Check: &Check{}, StopTimeout: 4 * time.Second})
			d := Start(t, b, Options{Host: e.Host()})
			d.UntilState(t, soon, "web", policy.Running)
			c.Tell(t, "deaf", "")
			c.Tell(t, "unhealthy", "")
			r.Wait(t, soon, "web", "kill", 1) // defib's restart has begun
			tt.do(c, t)
			d.Until(t, 2*soon, "web is as the human wanted it", func(s api.Status) bool {
				u := Unit(s, "web")
				return u.State == tt.state && u.Detail != "stopping"
			})
			tracer(t, e, r, d)
			if got := Unit(d.Status(t), "web").State; got != tt.state {
				t.Errorf("state in the end: got %q, want %q", got, tt.state)
			}
			if tt.state != "" && c.Running(t) != tt.runs {
				t.Errorf("running in the end: got %v, want %v", !tt.runs, tt.runs)
			}
		})
	}
}
