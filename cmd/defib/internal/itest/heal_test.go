package itest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/mount"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// Each failure that a restart cures is cured once, and told.
func TestHeals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		spec      Spec
		tell, arg string
		verb      policy.Verb
		rule      string
		says      string // part of the incident's cause
		seen      map[string]int
	}{
		{"crash", Spec{}, "crash", "3", policy.VerbStart, "exited", "exited with 3", startedOnce},
		{"unhealthy", Spec{Check: &Check{}}, "unhealthy", "", policy.VerbRestart, "unhealthy", "told to be unhealthy", restartedOnce},
		{"probe times out", Spec{Check: &Check{Timeout: 5 * time.Second}}, "hang", "", policy.VerbRestart, "unhealthy", "ran out of time", restartedOnce},
		{"server exits 0", Spec{Check: &Check{}}, "exit", "", policy.VerbStart, "exited", "exited with 0", startedOnce},
		{"out of memory", Spec{Memory: 48 << 20}, "oom", "", policy.VerbStart, "oom", "memory", map[string]int{"start": 2, "die": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			tt.spec.Name = "web"
			c := e.Run(t, tt.spec)
			d := Start(t, b, Options{Host: e.Host()})
			d.UntilState(t, soon, "web", policy.Running)
			c.Tell(t, tt.tell, tt.arg)
			r.Wait(t, soon, "web", "start", 2)
			d.UntilState(t, soon, "web", policy.Running)
			in := d.UntilClosed(t, soon, "web")
			if in.End != "recovered" || in.Rule != tt.rule || in.Repairs != 1 || !strings.Contains(in.Cause, tt.says) {
				t.Errorf("incident: got end %q, rule %q, %d repairs, cause %q; want recovered, %q, 1 and %q in it",
					in.End, in.Rule, in.Repairs, in.Cause, tt.rule, tt.says)
			}
			wantCounts(t, r, "web", tt.seen)
			wantActs(t, d, "web", tt.verb)
		})
	}
}

// What a restart would not help, or is not asked for, is left alone and named.
func TestLeftAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spec  Spec
		args  []string
		tell  string
		state policy.State
		rule  string
		says  string // part of the reason
		seen  map[string]int
	}{
		{
			"probe binary is missing",
			Spec{Check: &Check{Command: []string{"/no-such-probe"}, StartPeriod: time.Second}},
			nil, "", policy.Running, "check_broken", "no-such-probe", untouched,
		},
		{
			"database is unhealthy",
			Spec{Image: "postgres:16", Check: &Check{}},
			nil, "unhealthy", policy.Unhealthy, "stateful", "never restarts", untouched,
		},
		{
			"one-shot is done",
			Spec{},
			nil, "exit", policy.Stopped, "finished", "job is done", exitedByItself,
		},
		{
			"one-shot is done, under --all",
			Spec{Labels: map[string]string{}},
			[]string{"--all"},
			"exit", policy.Stopped, "out_of_reach", "--all", exitedByItself,
		},
		{
			"crash, under --all",
			Spec{Labels: map[string]string{}},
			[]string{"--all"},
			"crash", policy.Stopped, "out_of_reach", "--all", exitedByItself,
		},
		{
			"crash, with an autoheal label",
			Spec{Labels: map[string]string{"autoheal": "true"}},
			nil, "crash", policy.Stopped, "out_of_reach", "autoheal", exitedByItself,
		},
		{
			"crash, observed",
			Spec{Labels: map[string]string{"defib.enable": "true", "defib.mode": "observe"}},
			nil, "crash", policy.Unhealthy, "exited", "exited with 1", exitedByItself,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			tt.spec.Name = "web"
			c := e.Run(t, tt.spec)
			d := Start(t, b, Options{Host: e.Host(), Args: tt.args})
			if tt.tell != "" {
				d.UntilState(t, soon, "web", policy.Running)
				c.Tell(t, tt.tell, "")
			}
			d.Until(t, soon, "web is "+string(tt.state)+" by the rule "+tt.rule, func(s api.Status) bool {
				u := Unit(s, "web")
				return u.State == tt.state && u.Rule == tt.rule && strings.Contains(u.Reason, tt.says)
			})
			tracer(t, e, r, d)
			wantCounts(t, r, "web", tt.seen)
			wantActs(t, d, "web")
		})
	}
}

// Containers that opted out, or never opted in, are not even watched.
func TestNotWatched(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	specs := map[string]Spec{
		"out":  {Labels: map[string]string{"defib.enable": "FALSE"}},
		"out2": {Labels: map[string]string{"autoheal": "False", "defib.enable": "true"}},
	}
	for name, s := range specs {
		s.Name = name
		e.Run(t, s).Tell(t, "crash", "1")
	}
	d := Start(t, b, Options{Host: e.Host(), Args: []string{"--all"}})
	tracer(t, e, r, d)
	others := map[string]string{}
	for _, o := range d.Status(t).Others {
		others[o.Name] = o.Why
	}
	for name := range specs {
		if !strings.Contains(others[name], "opts it out") {
			t.Errorf("%s: got %q, want a reason that it opted out", name, others[name])
		}
		wantCounts(t, r, name, exitedByItself)
	}
}

// A check that never passed is worth one restart; then it is named and the
// container runs on.
func TestCheckNeverPassed(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	c := e.Create(t, Spec{Name: "web", Env: []string{"FAKE_STICKY=1"}, Check: &Check{StartPeriod: time.Second}})
	c.Tell(t, "unhealthy", "")
	c.Start(t)
	d := Start(t, b, Options{Host: e.Host()})
	r.Wait(t, 2*soon, "web", "restart", 1)
	u := d.UntilState(t, 2*soon, "web", policy.Fatal)
	if !strings.Contains(u.Reason, "has never passed: ") || !strings.Contains(u.Reason, "told to be unhealthy") {
		t.Errorf("reason: got %q, want the check named with its output", u.Reason)
	}
	tracer(t, e, r, d)
	wantCounts(t, r, "web", restartedOnce)
	if !c.Running(t) {
		t.Error("it does not run any more; want it left running")
	}
}

// A crash loop ends in FATAL, with a page; when its cause has gone, a
// half-open retry brings the container back.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		spec Spec
		acts []policy.Verb // until it gives up
	}{
		{"ours", Spec{}, []policy.Verb{policy.VerbStart, policy.VerbStart, policy.VerbStart}},
		{"of Docker's policy", Spec{Restart: "always"}, []policy.Verb{policy.VerbStop}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			tt.spec.Name, tt.spec.Env = "web", []string{"FAKE_STICKY=1"}
			c := e.Run(t, tt.spec)
			d := Start(t, b, Options{Host: e.Host(), Policy: map[string]string{
				"start_retries": "2", "fatal_retry": "15s", "useful_min": "1s",
			}})
			var up time.Time // as defib saw it, which counts
			d.Until(t, soon, "web has been useful", func(s api.Status) bool {
				if up.IsZero() && Unit(s, "web").State == policy.Running {
					up = s.At
				}
				return !up.IsZero() && s.At.Sub(up) > 1100*time.Millisecond
			})
			c.Tell(t, "crash", "1")
			u := d.UntilState(t, 2*soon, "web", policy.Fatal)
			wantActs(t, d, "web", tt.acts...)
			if u.Next != "half-open retry" || c.Running(t) {
				t.Errorf("next: got %q, running %v; want a half-open retry of a dead container", u.Next, c.Running(t))
			}
			c.Untell(t, "crash")
			d.UntilState(t, soon, "web", policy.Running)
			in := d.UntilClosed(t, soon, "web")
			if in.End != "recovered" || in.Level != policy.LevelPage || in.Paged.IsZero() {
				t.Errorf("incident: got end %q, level %q, paged %v; want recovered after a page", in.End, in.Level, in.Paged)
			}
			wantActs(t, d, "web", append(tt.acts, policy.VerbStart)...)
			_ = r
		})
	}
}

// Docker abandons `restart: always` for good when a start fails. defib goes on
// trying until the cause has gone.
func TestStartFails(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	source := filepath.Join(shortDir(t), "weights")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	c := e.Run(t, Spec{
		Name: "web", Restart: "always",
		Mounts: []mount.Mount{{Type: mount.TypeBind, Source: source, Target: "/weights"}},
	})
	d := Start(t, b, Options{Host: e.Host(), Policy: map[string]string{"start_retries": "100", "backoff_cap": "500ms"}})
	d.UntilState(t, soon, "web", policy.Running)
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	c.Tell(t, "crash", "1")
	// The engine says nothing of a start that failed: the next look at all of
	// them, every 30 s, finds it.
	d.Until(t, 2*soon, "two starts have failed, and why is said", func(s api.Status) bool {
		u := Unit(s, "web")
		return u.State == policy.Backoff && u.Restarts24h >= 2 && strings.Contains(u.Reason, "could not start it")
	})
	if c.Running(t) {
		t.Fatal("it runs without its bind source; the test proves nothing")
	}
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Wait(t, soon, "web", "start", 2)
	d.UntilState(t, soon, "web", policy.Running)
	d.UntilClosed(t, soon, "web")
	wantCounts(t, r, "web", startedOnce)
}

// What recovers by itself while its repair waits is not restarted.
func TestRecoversWhileWaiting(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	c := e.Run(t, Spec{Name: "web", Check: &Check{}})
	d := Start(t, b, Options{Host: e.Host(), Policy: map[string]string{"backoff_base": "2m"}})
	d.UntilState(t, soon, "web", policy.Running)
	c.Tell(t, "unhealthy", "")
	r.Wait(t, soon, "web", "health_status: healthy", 2) // restarted at once
	d.UntilState(t, soon, "web", policy.Running)
	c.Tell(t, "unhealthy", "")
	d.UntilState(t, soon, "web", policy.Backoff)
	c.Tell(t, "recover", "")
	d.UntilState(t, soon, "web", policy.Running)
	tracer(t, e, r, d)
	wantCounts(t, r, "web", restartedOnce)
	wantActs(t, d, "web", policy.VerbRestart)
}

// A container whose health flaps faster than Docker's retries is not touched.
func TestFlappingBelowTheThreshold(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	c := e.Run(t, Spec{Name: "web", Check: &Check{Retries: 4}})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	c.Tell(t, "flap", "3")
	r.Until(t, 2*soon, "ten checks of a flapping web", func(seen []Event) bool {
		checks := 0
		for _, ev := range seen {
			if ev.Name == "web" && strings.HasPrefix(ev.Action, "exec_die") {
				checks++
			}
		}
		return checks > 10
	})
	tracer(t, e, r, d)
	wantCounts(t, r, "web", untouched)
}
