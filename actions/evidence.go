package actions

import (
	"context"
	"sync"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// evidenceTime is how long gathering may take: an engine that hands out no
// logs must not hold up a repair.
const evidenceTime = 2 * time.Second

// logPause lets a stop or restart get through to the container before its log
// is read: reading costs the engine more than the kill does (measured: 7 ms
// on the way to the kill), and what was written before is not lost by waiting.
const logPause = 50 * time.Millisecond

// evidence gathers what an act is about to destroy; the log it reads after
// pause, up to now. What cannot be had is left out; the act goes on without.
// answered: the engine could say how the container is.
func (x *Executor) evidence(ctx context.Context, docker logReader, d policy.Decision, pause time.Duration) (ev *policy.Evidence, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, evidenceTime)
	defer cancel()
	ev = &policy.Evidence{At: x.o.Now()}
	var logs sync.WaitGroup
	until := time.Now() // not of our clock: the engine's log has the system's time
	logs.Go(func() {
		wait(ctx, pause)
		ev.Logs, ev.LogsErr = x.logs(ctx, docker, d, span{until: until})
	})
	answered = x.facts(ctx, d, ev)
	logs.Wait()
	return ev, answered
}

// facts fills in what an inspect says of the run that was judged. Beside a
// stop or restart it may come too late: an end that we caused is no evidence.
func (x *Executor) facts(ctx context.Context, d policy.Decision, ev *policy.Evidence) (answered bool) {
	o := x.o.Inspect(ctx, d).Observation
	if !sameRun(o, d) {
		x.o.Log.Debug("evidence without an inspect", "container", d.Name)
		return o != nil
	}
	if o.Health != nil {
		ev.Probes = o.Health.Log
	}
	if d.Verb == policy.VerbStart || o.Running {
		ev.ExitCode, ev.OOMKilled, ev.Error = o.ExitCode, o.OOMKilled, o.Error
	}
	return true
}

func sameRun(o *policy.Observation, d policy.Decision) bool {
	return o != nil && o.Container == d.Container && (d.StartedAt.IsZero() || o.StartedAt.Equal(d.StartedAt))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
