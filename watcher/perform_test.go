package watcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestIdleShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.run(t)
		if took, err := r.end(); took != 0 || err != nil {
			t.Errorf("Run ended after %v with %v, want at once without an error", took, err)
		}
		if _, err := r.w.Do(t.Context(), policy.Command{Order: policy.OrderRetry}); !errors.Is(err, ErrStopping) {
			t.Errorf("Do after the end returned %v, want ErrStopping", err)
		}
	})
}

func TestShutdownWaitsForActs(t *testing.T) {
	for _, tc := range []struct {
		name      string
		lasts     time.Duration
		deaf      bool // does not end when it is told to
		want      time.Duration
		wantSteps []string
	}{
		{"that end in time", 3 * time.Second, false, 3 * time.Second, []string{"daemon_start", "observed:web", "outcome#1:ok"}},
		{"for eight seconds at most", time.Hour, false, 7500 * time.Millisecond, []string{"daemon_start", "observed:web"}},
		{"even when they do not listen", 9 * time.Second, true, 8 * time.Second, []string{"daemon_start", "observed:web"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig()
				r.machine.on = func(ev policy.Event) []policy.Decision {
					if ev.Kind == policy.KindObserved {
						return []policy.Decision{act(1, policy.VerbRestart, "web")}
					}
					if ev.Kind == policy.KindOutcome { // the next one in the queue
						return []policy.Decision{act(2, policy.VerbRestart, "db"), act(3, policy.VerbInspect, "web")}
					}
					return nil
				}
				var started []uint64
				r.opts.Executor = executorFunc(func(ctx context.Context, d policy.Decision, _ func(policy.Event)) policy.Outcome {
					started = append(started, d.ID)
					if tc.deaf {
						ctx = context.WithoutCancel(ctx)
					}
					sleepFor(ctx, tc.lasts)
					return policy.Outcome{Class: policy.OutcomeOK}
				})
				r.run(t)
				r.emit(unhealthy("web"))
				took, err := r.end()
				if took != tc.want || err != nil {
					t.Errorf("Run ended after %v with %v, want %v without an error", took, err, tc.want)
				}
				if diff := cmp.Diff(tc.wantSteps, r.machine.seen()); diff != "" {
					t.Errorf("steps (-want +got):\n%s", diff)
				}
				time.Sleep(time.Minute)
				if want := []uint64{1}; !cmp.Equal(started, want) {
					t.Errorf("started %v, want no new step after %v", started, want)
				}
			})
		})
	}
}

func TestShutdownDropsAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.machine.on = decides(map[string]policy.Decision{"web": act(1, policy.VerbInspect, "web")})
		r.opts.Executor = executorFunc(func(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
			<-ctx.Done()
			report(policy.Event{Kind: policy.KindUnseen, Unit: d.Unit})
			return policy.Outcome{Class: policy.OutcomeFailed}
		})
		r.run(t)
		r.emit(unhealthy("web"))
		took, err := r.end()
		if took != 0 || err != nil {
			t.Errorf("Run ended after %v with %v, want at once without an error", took, err)
		}
		if diff := cmp.Diff([]string{"daemon_start", "observed:web"}, r.machine.seen()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}

func TestSourcesThatTalkToTheEndDoNotHoldItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.opts.Sources = []Source{sourceFunc(func(ctx context.Context, out chan<- policy.Event) error {
			<-ctx.Done()
			for range 3 * maxBatch {
				out <- policy.Event{Kind: policy.KindSourceDown}
			}
			return ctx.Err()
		})}
		r.run(t)
		if took, err := r.end(); took != 0 || err != nil {
			t.Errorf("Run ended after %v with %v, want at once without an error", took, err)
		}
		if diff := cmp.Diff([]string{"daemon_start"}, r.machine.seen()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}
