package policy_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestClockSetBackBetweenTwoStarts fills every time of the state with one that
// lies ahead, and sets the clock back. A new field must be told to move, or be
// named here among those that stay.
func TestClockSetBackBetweenTwoStarts(t *testing.T) {
	ahead, by := epoch.Add(time.Hour), 8*time.Hour
	saved := policy.Snapshot{}
	fill(reflect.ValueOf(&saved).Elem(), ahead)
	saved.Host.Now = epoch
	saved.Host.Engine.Healers = nil // it would only stand in the way
	u := &saved.Units[0]
	u.Read, u.EventRead, u.Since, u.Past.Closed = epoch, epoch, epoch, epoch
	m := policy.Restore(policy.Default(), saved)
	m.Step(policy.Event{At: epoch.Add(-by), Kind: policy.KindDaemonStart, BootID: saved.Host.BootID})
	var stay []string
	late := func(path string, at time.Time) {
		if at.After(ahead.Add(-by)) {
			stay = append(stay, path)
		}
	}
	walk("", reflect.ValueOf(m.Snapshot()), late)
	slices.Sort(stay)
	want := []string{ // what people were told, and what the engine tells
		".Incidents.Ack.At", ".Incidents.Closed",
		".Incidents.Evidence.At", ".Incidents.Evidence.Probes.End", ".Incidents.Evidence.Probes.Start",
		".Incidents.Opened", ".Incidents.Paged", ".Incidents.Steps.At",
		".Units.Failure.Probe", ".Units.Last.Created", ".Units.Last.FinishedAt",
		".Units.Last.Health.Log.End", ".Units.Last.Health.Log.Start", ".Units.Last.StartedAt",
		".Units.Op.StartedAt", ".Units.Op.TermAt", ".Units.Run.StartedAt", ".Units.Stop.Engine",
	}
	if diff := cmp.Diff(want, slices.Compact(stay)); diff != "" {
		t.Errorf("times that did not move back with the clock (-want +got):\n%s", diff)
	}
}

// fill gives every time under v a value, and what holds times one of its kind.
func fill(v reflect.Value, at time.Time) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(at))
	case v.Kind() == reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, at)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), at)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), at)
	case v.Kind() == reflect.String:
		v.SetString("x")
	}
}

// walk visits every time under v.
func walk(path string, v reflect.Value, visit func(string, time.Time)) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		visit(path, v.Interface().(time.Time))
	case v.Kind() == reflect.Struct:
		for name, field := range v.Fields() {
			walk(path+"."+name.Name, field, visit)
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		walk(path, v.Elem(), visit)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			walk(path, v.Index(i), visit)
		}
	}
}

// TestOvertakenAnswerAsksNoMore: what the engine says once it has been asked
// may be older than its newest event, too; asking at once again would flood it.
func TestOvertakenAnswerAsksNoMore(t *testing.T) {
	w := newWorld(policy.Default())
	asked := 0
	w.onStep = func(_ policy.Event, ds []policy.Decision) {
		for _, d := range ds {
			if d.Verb == policy.VerbInspect {
				asked++
			}
		}
	}
	w.connect(policy.ProcessSame, 0)
	b := w.add(&box{name: "web", imageID: "i", labels: map[string]string{"defib.enable": "true"}})
	w.start(b, false)
	w.advance(epoch.Add(time.Minute))
	w.deliver(policy.Event{Kind: policy.KindPause, Unit: "web", Container: b.id, Generation: w.gen, Read: w.now.Add(time.Hour)})
	w.look(b)
	w.advance(w.now.Add(10 * time.Second))
	if asked != 1 {
		t.Errorf("got %d questions in 10 s, want 1", asked)
	}
}
