package api

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// TestHistory wants what is on record of a container that has been removed.
func TestHistory(t *testing.T) {
	ago := func(d time.Duration, ev policy.Event, ds ...policy.Decision) watcher.Record {
		ev.At = noon.Add(-d)
		return watcher.Record{Event: ev, Decisions: ds}
	}
	archive := &fakeArchive{
		records: []watcher.Record{
			ago(30*time.Hour, policy.Event{Kind: policy.KindDie, Unit: "ancient"}),
			ago(3*time.Hour, policy.Event{Kind: policy.KindObserved, Unit: "redis", Observation: &policy.Observation{Name: "redis"}}),
			ago(2*time.Hour, policy.Event{Kind: policy.KindTick}, policy.Decision{Unit: "ua/job/1", Name: "ua-job-1"}),
			ago(2*time.Minute, policy.Event{Kind: policy.KindObserved, Unit: "ua/web/1", Observation: &policy.Observation{Name: "ua-web-1"}}),
			ago(time.Minute, policy.Event{Kind: policy.KindDestroy, Unit: "ua/web/1"}),
			ago(0, policy.Event{Kind: policy.KindDie, Unit: "shop/web/1"}),
		},
		incidents: []policy.Incident{{ID: "INC-1", Unit: "old", Name: "old"}, {ID: "INC-2", Unit: "old", Name: "old"}, {ID: "INC-3"}},
	}
	c := serve(t, &fakeLoop{view: viewOf(web())}, archive)
	const never = "no watched container is called "
	for _, x := range []struct {
		name, text, hint string
		events           int // in the last hour; -1: the name is not known
	}{
		{"ua-web-1", `"ua-web-1" is not watched any more`, "`defib events --since 24h ua-web-1` shows what happened to it", 2},
		{"ua/web/1", `"ua/web/1" is not watched any more`, "`defib events --since 24h ua/web/1` shows what happened to it", 2},
		{"ua-job-1", `"ua-job-1" is not watched any more`, "`defib events --since 24h ua-job-1` shows what happened to it", 0},
		{"redis", "redis is not watched: no label", "`defib events --since 24h redis` shows what happened to it", 0},
		{"old", `"old" is not watched any more`, "`defib incident INC-2` shows its newest incident", 0},
		{"ancient", never + `"ancient"`, "`defib status -a` lists what there is", -1},
		{"wbe", never + `"wbe"`, "did you mean web?", -1},
	} {
		_, err := c.Unit(t.Context(), x.name)
		unknown, ok := errors.AsType[*UnknownError](err)
		if !ok || unknown.Text != x.text || unknown.Hint != x.hint {
			t.Errorf("%s: got %+v; want %s, %s", x.name, err, x.text, x.hint)
		}
		var got []string
		err = c.Events(t.Context(), time.Hour, x.name, false, func(l Line) error {
			got = append(got, l.Event.Unit)
			return nil
		})
		if _, unknown := errors.AsType[*UnknownError](err); unknown != (x.events < 0) || len(got) != max(x.events, 0) {
			t.Errorf("events of %s: got %v, %v; want %d", x.name, got, err, x.events)
		}
	}
	var got []string
	err := c.Events(t.Context(), 48*time.Hour, "ancient", false, func(l Line) error {
		got = append(got, l.Event.Unit)
		return nil
	})
	if d := cmp.Diff([]string{"ancient"}, got); err != nil || d != "" {
		t.Errorf("of a time before: %v\n%s", err, d)
	}
}
