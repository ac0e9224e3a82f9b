package itest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/mount"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// A container that ignores SIGTERM, with minutes to stop, delays nobody.
func TestDeafDelaysNobody(t *testing.T) {
	t.Parallel()
	e, r, b := rig(t)
	deaf := e.Run(t, Spec{Name: "deaf", Check: &Check{}, StopTimeout: 5 * time.Minute})
	other := e.Run(t, Spec{Name: "other"})
	d := Start(t, b, Options{Host: e.Host()})
	d.UntilState(t, soon, "deaf", policy.Running)
	d.UntilState(t, soon, "other", policy.Running)
	deaf.Tell(t, "deaf", "")
	deaf.Tell(t, "unhealthy", "")
	r.Wait(t, soon, "deaf", "kill", 1)
	other.Tell(t, "crash", "1")
	died := r.Wait(t, soon, "other", "die", 1)
	back := r.Wait(t, soon, "other", "start", 2)
	t.Logf("from the exit of one to its start while another was being stopped: %v", back.At.Sub(died.At))
	if u := d.UntilState(t, soon, "deaf", policy.Repairing); u.Detail != "restarting" {
		t.Errorf("the deaf one: got %q, want it to be restarting still", u.Detail)
	}
	deaf.Kill(t) // not to wait for the rest of the minutes
}

// Fifty containers that turn unhealthy together are one incident: one is
// repaired first, then all.
func TestStorm(t *testing.T) { // not beside other tests: its figures are printed
	const n = 50
	e, r, b := rig(t)
	names := make([]string, n)
	all := make([]*Container, n)
	e.Image(t, "fakeinfer:one")
	each(n, func(i int) {
		names[i] = fmt.Sprintf("web%02d", i)
		all[i] = e.Run(t, Spec{
			Name: names[i], Image: "fakeinfer:one",
			Check: &Check{Interval: 5 * time.Second, Timeout: 5 * time.Minute, Retries: 1},
		})
	})
	d := Start(t, b, Options{Host: e.Host(), Policy: map[string]string{"panic_window": "60s"}})
	d.Until(t, 2*soon, "all are up", func(s api.Status) bool { return inState(s, policy.Running) == n })

	// Their checks wait in the server, then all fail at the same moment.
	each(n, func(i int) { all[i].Tell(t, "hang", "") })
	r.Until(t, 2*soon, "a waiting check in each", func(seen []Event) bool {
		waiting := map[string]bool{}
		for _, ev := range seen {
			if strings.HasPrefix(ev.Action, "exec_") {
				waiting[ev.Name] = strings.HasPrefix(ev.Action, "exec_start")
			}
		}
		return count(waiting, true) == n
	})
	each(n, func(i int) { all[i].Tell(t, "unhealthy", "") })
	each(n, func(i int) { all[i].Untell(t, "hang") })

	sick := make([]time.Time, n)
	for i, name := range names {
		sick[i] = r.Wait(t, 2*soon, name, "health_status: unhealthy", 1).At
	}
	slices.SortFunc(sick, time.Time.Compare)
	d.Until(t, 3*soon, "all are up again", func(s api.Status) bool {
		return inState(s, policy.Running) == n && len(repaired(r, names)) == n
	})
	stormReport(t, r, names, sick)
	stormActs(t, d, sick)
	stormIncident(t, d, n)
	for _, name := range names {
		wantCounts(t, r, name, restartedOnce)
	}
}

// Fifty containers that die at once are told of in three messages at most, those
// in threads counted. They have no health checks: an old engine may hang over a
// container that dies while its check starts.
func TestStormTold(t *testing.T) { // not beside other tests: at once is to be at once
	const n = 50
	e, _, b := rig(t)
	all := make([]*Container, n)
	e.Image(t, "fakeinfer:one")
	each(n, func(i int) { all[i] = e.Run(t, Spec{Name: fmt.Sprintf("web%02d", i), Image: "fakeinfer:one"}) })
	slack, every := NewInbox(t), NewInbox(t)
	usual := SlackChannel("ops", slack.URL)
	delete(usual.Settings, "min_level")
	d := Start(t, b, Options{
		Host: e.Host(), Policy: map[string]string{"panic_window": "60s"},
		Notify: Notifying(t, "", usual, SlackChannel("every", every.URL)),
	})
	d.Until(t, 2*soon, "all are up", func(s api.Status) bool { return inState(s, policy.Running) == n })
	each(n, func(i int) { all[i].Tell(t, "crash", "3") })
	slack.Until(t, soon, "something", Sent.Root)
	d.Until(t, 3*soon, "all are up again", func(s api.Status) bool { return inState(s, policy.Running) == n && allClosed(t, d) })
	d.UntilTold(t, 2*soon)
	if posts := slack.Count(Sent.Post); posts > 3 {
		t.Errorf("%d deaths made %d messages, those in threads counted; want at most 3", n, posts)
	}
	if roots := every.Count(Sent.Root); roots > 3 {
		t.Errorf("%d deaths made %d messages for who is told everything; want at most 3", n, roots)
	}
	t.Logf("%d deaths: %d messages; %d, and %d in threads, for who is told everything",
		n, slack.Count(Sent.Post), every.Count(Sent.Root), every.Count(Sent.Reply))
}

func allClosed(t *testing.T, d *Daemon) bool {
	t.Helper()
	list := d.Incidents(t)
	for _, in := range list {
		if in.Closed.IsZero() {
			return false
		}
	}
	return len(list) > 0
}

// stormReport prints the measured times.
func stormReport(t *testing.T, r *Recorder, names []string, sick []time.Time) {
	t.Helper()
	var well, last time.Time
	for _, name := range names {
		if ev := r.Wait(t, soon, name, "health_status: healthy", 2); well.IsZero() || ev.At.Before(well) {
			well = ev.At
		}
		if ev := r.Wait(t, soon, name, "restart", 1); ev.At.After(last) {
			last = ev.At
		}
	}
	t.Logf("%d turned unhealthy within %v: canary well after %v, all restarted after %v", len(names),
		sick[len(sick)-1].Sub(sick[0]).Round(time.Millisecond), well.Sub(sick[0]).Round(time.Millisecond), last.Sub(sick[0]).Round(time.Millisecond))
}

// stormActs checks that from the moment on at which so many had failed that it
// was one event nothing was begun until a canary was well.
func stormActs(t *testing.T, d *Daemon, sick []time.Time) {
	t.Helper()
	var before, within int
	var panicked, over time.Time
	for _, dec := range d.Decisions(t) {
		switch {
		case dec.Rule == "panic":
			panicked = dec.At
		case dec.Rule == "panic_over":
			over = dec.At
		case dec.Verb.Act() && panicked.IsZero():
			before++
		case dec.Verb.Act() && over.IsZero():
			within++
		}
	}
	if panicked.IsZero() || over.IsZero() || within != 0 {
		t.Errorf("panic from %v to %v with %d acts in it; want none", panicked, over, within)
	}
	// An engine that is slow to report half of the failures gets more canaries,
	// since by then the acts on the first ones are under way.
	half := sick[len(sick)/2].Sub(sick[0])
	t.Logf("half of the failures were reported within %v; %d acts had begun by then", half.Round(time.Millisecond), before)
	if before == 0 || half < 400*time.Millisecond && before > 3 {
		t.Errorf("%d acts were begun before it was clear that all fail together; want 1 to 3", before)
	}
}

// stormIncident checks that people are told of one thing.
func stormIncident(t *testing.T, d *Daemon, n int) {
	t.Helper()
	var parents []policy.Incident
	children := 0
	for _, in := range d.Incidents(t) {
		if in.Parent == "" {
			parents = append(parents, in)
		} else {
			children++
		}
	}
	if len(parents) != 1 || children != n {
		t.Errorf("got %d incidents on their own and %d under another; want 1 with %d", len(parents), children, n)
	}
}

func inState(s api.Status, state policy.State) int {
	n := 0
	for _, u := range s.Units {
		if u.State == state {
			n++
		}
	}
	return n
}

func count[K, V comparable](m map[K]V, v V) int {
	n := 0
	for _, have := range m {
		if have == v {
			n++
		}
	}
	return n
}

func repaired(r *Recorder, names []string) []string {
	var out []string
	for _, name := range names {
		if r.Counts(name, "restart")["restart"] > 0 {
			out = append(out, name)
		}
	}
	return out
}

// each calls f for 0 to n-1, eight at a time.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// trio runs three containers that share a mount. The first two fail together;
// told is what the first one, the canary, is told before.
func trio(t *testing.T, told string) (first, second *Container, e *Engine, r *Recorder, d *Daemon) {
	t.Helper()
	e, r, b := rig(t)
	models := []mount.Mount{{Type: mount.TypeBind, Source: shortDir(t), Target: "/models"}}
	sticky := []string{"FAKE_STICKY=1"}
	first = e.Run(t, Spec{Name: "first", Check: &Check{}, Mounts: models, Env: sticky})
	second = e.Run(t, Spec{Name: "second", Check: &Check{}, Mounts: models})
	e.Run(t, Spec{Name: "third", Check: &Check{}, Mounts: models})
	d = Start(t, b, Options{Host: e.Host(), Policy: map[string]string{"panic_window": "60s"}})
	d.Until(t, soon, "all three are up", func(s api.Status) bool { return inState(s, policy.Running) == 3 })
	if told != "" {
		first.Tell(t, told, "")
	}
	first.Tell(t, "crash", "1")
	r.Wait(t, soon, "first", "die", 1)
	first.Untell(t, "crash")
	second.Tell(t, "crash", "1")
	return first, second, e, r, d
}

// Two of three that share a mount: one is repaired, and when it is well the
// other. The third is not touched.
func TestCanaryFirst(t *testing.T) {
	t.Parallel()
	_, _, _, r, d := trio(t, "")
	well := r.Wait(t, soon, "first", "health_status: healthy", 2)
	back := r.Wait(t, soon, "second", "start", 2)
	if back.At.Before(well.At) {
		t.Errorf("the second was started %v before the canary was well", well.At.Sub(back.At))
	}
	t.Logf("the second was started %v after the canary was well", back.At.Sub(well.At))
	d.Until(t, soon, "all three are up", func(s api.Status) bool { return inState(s, policy.Running) == 3 })
	d.UntilClosed(t, soon, "second")
	stormIncident(t, d, 2)
	wantCounts(t, r, "first", startedOnce)
	wantCounts(t, r, "second", startedOnce)
	wantCounts(t, r, "third", untouched)
}

// A canary that can prove nothing any more is replaced by the other one.
func TestCanaryReplaced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(*testing.T, *Container, *Daemon)
	}{
		{"removed", func(t *testing.T, c *Container, _ *Daemon) { c.Remove(t) }},
		{"stopped", func(t *testing.T, c *Container, _ *Daemon) { c.Stop(t) }},
		{"held", func(t *testing.T, c *Container, d *Daemon) {
			d.Order(t, policy.Command{Order: policy.OrderHold, Unit: c.Name, Why: "a test"})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first, _, _, r, d := trio(t, "unhealthy") // it never gets well
			r.Wait(t, soon, "first", "start", 2)
			d.UntilState(t, soon, "second", policy.Held)
			wantCounts(t, r, "second", exitedByItself)
			tt.do(t, first, d)
			r.Wait(t, soon, "second", "start", 2)
			d.UntilState(t, soon, "second", policy.Running)
			wantCounts(t, r, "second", startedOnce)
			wantCounts(t, r, "third", untouched)
		})
	}
}
