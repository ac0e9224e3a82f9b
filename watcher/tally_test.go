package watcher

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestTheViewCountsActsAndPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		page := act(4, policy.VerbNote, "web")
		page.Paged = true
		r.machine.on = func(ev policy.Event) []policy.Decision {
			if ev.Kind != policy.KindDie {
				return nil
			}
			return []policy.Decision{act(1, policy.VerbRestart, "web"), act(2, policy.VerbRestart, "web"), act(3, policy.VerbInspect, "web"), page}
		}
		r.opts.Executor = executorFunc(func(_ context.Context, d policy.Decision, _ func(policy.Event)) policy.Outcome {
			if d.ID == 1 {
				return policy.Outcome{Class: policy.OutcomeFailed}
			}
			return policy.Outcome{Class: policy.OutcomeOK}
		})
		r.run(t)
		r.emit(policy.Event{Kind: policy.KindDie, Unit: "web"})
		time.Sleep(time.Second)
		synctest.Wait()
		v := r.w.View()
		want := []ActCount{{policy.VerbRestart, policy.OutcomeFailed, 1}, {policy.VerbRestart, policy.OutcomeOK, 1}}
		if diff := cmp.Diff(want, v.Acts); diff != "" || v.Pages != 1 {
			t.Errorf("%d pages, want 1; acts (-want +got):\n%s", v.Pages, diff)
		}
		r.mustEnd(t)
	})
}
