package watcher

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestTold: incidents are handed over once they are durable, in their newest
// revision, and what calls for a human meanwhile goes out directly.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		rev := 0
		r.machine.change = func(ev policy.Event) policy.Changes {
			if ev.Kind != policy.KindObserved {
				return policy.Changes{}
			}
			rev++
			return policy.Changes{Incidents: []policy.Incident{{ID: "INC-1", Rev: rev}}}
		}
		paged := act(7, policy.VerbNote, "web")
		paged.Paged = true
		r.machine.on = decides(map[string]policy.Decision{"web": paged})
		var told []int
		var alarms []string
		r.opts.Told = func(list []policy.Incident) { told = append(told, list[0].Rev) }
		r.opts.Alarm = func(text string) { alarms = append(alarms, text) }
		calms := 0
		r.opts.Calm = func() { calms++ }
		r.run(t)
		r.emit(unhealthy("db"))
		r.book.refuse(errDisk)
		r.emit(unhealthy("db"))
		r.emit(unhealthy("web"))
		if want := []int{1}; !cmp.Equal(told, want) {
			t.Errorf("told %v while the journal refuses, want %v", told, want)
		}
		if calms != 0 {
			t.Error("it was said that things are recorded again, and they are not")
		}
		r.book.refuse(nil)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if calms != 1 {
			t.Errorf("it was said %d times that things are recorded again, want once", calms)
		}
		if want := []int{1, 3}; !cmp.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		if !slices.Contains(alarms, "web: web is unhealthy") || !strings.HasPrefix(alarms[0], "defib keeps watching but repairs nothing") {
			t.Errorf("alarms %q", alarms)
		}
		r.mustEnd(t)
	})
}
