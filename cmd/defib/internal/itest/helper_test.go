package itest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// wantCounts compares what the engine saw happen to a container since it was
// created, whoever did it.
func wantCounts(t *testing.T, r *Recorder, name string, want map[string]int) {
	t.Helper()
	got := r.Counts(name, "start", "restart", "kill", "stop", "die", "pause", "unpause", "destroy")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what happened to %s (-want +got):\n%s", name, diff)
	}
}

// Once counts: what the engine sees of one start, and of one repair of each
// kind after it.
var (
	untouched      = map[string]int{"start": 1}
	exitedByItself = map[string]int{"start": 1, "die": 1}
	startedOnce    = map[string]int{"start": 2, "die": 1}
	restartedOnce  = map[string]int{"start": 2, "restart": 1, "kill": 1, "stop": 1, "die": 1}
)

// tracer is a container that fails and is repaired, to show that defib has
// dealt with all that came before: what it did not do to others by then, it
// does not do.
func tracer(t *testing.T, e *Engine, r *Recorder, d *Daemon) {
	t.Helper()
	c := e.Run(t, Spec{Name: "tracer"})
	d.UntilState(t, soon, c.Name, policy.Running)
	c.Tell(t, "crash", "3")
	r.Wait(t, soon, c.Name, "start", 2)
	d.UntilState(t, soon, c.Name, policy.Running)
}

// wantActs compares the acts on one container that defib says it decided.
func wantActs(t *testing.T, d *Daemon, name string, want ...policy.Verb) {
	t.Helper()
	var got []policy.Verb
	for _, act := range d.Acts(t) {
		if act.Name == name {
			got = append(got, act.Verb)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("acts on %s (-want +got):\n%s", name, diff)
	}
}
