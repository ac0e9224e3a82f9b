package itest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// defib is killed after it has written down what it is about to do and before
// the engine hears of it. The next start does it, once.
func TestKilledBeforeTheAct(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, tell, path string
		spec             Spec
		seen             map[string]int
	}{
		{"start", "crash", "/start", Spec{}, startedOnce},
		{"restart", "unhealthy", "/restart", Spec{Check: &Check{}}, restartedOnce},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, r, b := rig(t)
			p := e.NewProxy(t)
			tt.spec.Name = "web"
			c := e.Run(t, tt.spec)
			d := Start(t, b, Options{Host: p.Host()})
			d.UntilState(t, soon, "web", policy.Running)
			held := p.Hold(tt.path)
			c.Tell(t, tt.tell, "")
			select {
			case <-held:
			case <-time.After(soon):
				t.Fatalf("defib did not ask for a %s", tt.name)
			}
			d.Kill(t)
			p.Release()
			d.Again(t)
			// A restart that was under way is given its time before it is tried again.
			r.Wait(t, 2*soon, "web", "start", 2)
			d.UntilState(t, soon, "web", policy.Running)
			tracer(t, e, r, d)
			wantCounts(t, r, "web", tt.seen)
		})
	}
}

// defib is killed while the engine carries out its restart. The next start
// sees it through and does not restart again.
func TestKilledDuringTheAct(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	c := e.Run(t, Spec{Name: "web", Check: &Check{}, StopTimeout: 3 * time.Second})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	c.Tell(t, "deaf", "")
	c.Tell(t, "unhealthy", "")
	r.Wait(t, soon, "web", "kill", 1)
	d.Kill(t)
	d.Again(t)
	d.Ready(t)
	r.Wait(t, soon, "web", "restart", 1)
	d.UntilState(t, soon, "web", policy.Running)
	in := d.UntilClosed(t, soon, "web")
	if in.End != "recovered" {
		t.Errorf("the incident's end: got %q, want recovered", in.End)
	}
	tracer(t, e, r, d)
	wantCounts(t, r, "web", map[string]int{"start": 2, "restart": 1, "kill": 2, "stop": 1, "die": 1})
}

// SIGTERM ends an idle defib at once, and none of its containers.
func TestSigterm(t *testing.T) { // not beside other tests: its time is printed
	e, r, b := rig(t)
	e.Run(t, Spec{Name: "web"})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	code, took := d.Stop(t)
	t.Logf("it ended after %v", took.Round(time.Millisecond))
	if code != 0 || took > 5*time.Second { // less than any wait that a fault would add
		t.Errorf("got exit code %d after %v; want 0 within 1s on a machine that does nothing else", code, took)
	}
	wantCounts(t, r, "web", untouched)
}

// Two on one state directory: the second says so and leaves the first alone.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	first := Start(t, b, Options{Host: e.Host()})
	second := Launch(t, b, Options{Host: e.Host(), StateDir: first.StateDir})
	if code := second.Ended(t, soon); code == 0 {
		t.Error("the second: got exit code 0")
	}
	if out := second.Output(); !strings.Contains(out, first.StateDir) {
		t.Errorf("the second said %q; want the state directory named", out)
	}
	tracer(t, e, r, first)
}

// The file hold-all stops every act until it is removed.
func TestHoldAll(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	c := e.Run(t, Spec{Name: "web"})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "web", policy.Running)
	file := filepath.Join(filepath.Dir(d.Socket), "hold-all")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Until(t, soon, "the hold is seen", func(s api.Status) bool { return len(s.Host.Holds) == 1 })
	c.Tell(t, "crash", "3")
	u := d.UntilState(t, soon, "web", policy.Held)
	if !strings.Contains(u.Reason+strings.Join(u.WhyNot, " "), "hold-all") {
		t.Errorf("reason: got %q, %q; want the file named", u.Reason, u.WhyNot)
	}
	wantCounts(t, r, "web", exitedByItself)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.Wait(t, soon, "web", "start", 2)
	d.UntilState(t, soon, "web", policy.Running)
	wantCounts(t, r, "web", startedOnce)
}
