package actions

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/watcher/policy"
)

// defaultStop is Docker's own. It is what a decision without a stop timeout
// gets: 0 would be a kill without warning, and a negative one would never end.
const defaultStop = 10 * time.Second

// act restarts, starts or stops a container.
func (x *Executor) act(ctx context.Context, d policy.Decision) policy.Outcome {
	docker := x.o.Engine()
	if docker == nil {
		return failed("%s %s: not carried out, Docker is out of reach", d.Verb, d.Name)
	}
	if d.Verb == policy.VerbStart {
		return x.start(ctx, docker, d)
	}
	return x.halt(ctx, docker, d)
}

// start looks at what is left of the dead container first: nothing in it
// changes any more, and a start overwrites it.
func (x *Executor) start(ctx context.Context, docker Docker, d policy.Decision) policy.Outcome {
	evidence, _ := x.evidence(ctx, docker, d, 0)
	err := docker.ContainerStart(ctx, d.Container, container.StartOptions{})
	return x.outcome(d, err, evidence)
}

// askTime is what a stop or restart keeps of its time to ask what came of it.
const askTime = 5 * time.Second

// halt sends a stop or restart at once and gathers evidence beside it: every
// millisecond before the call is downtime.
func (x *Executor) halt(whole context.Context, docker Docker, d policy.Decision) policy.Outcome {
	d.Within -= askTime
	ctx, cancel := context.WithTimeout(whole, d.Within)
	defer cancel()
	var evidence *policy.Evidence
	var answered bool
	var beside sync.WaitGroup
	beside.Go(func() { evidence, answered = x.evidence(ctx, docker, d, logPause) })
	o := container.StopOptions{Timeout: new(stopSeconds(d.StopTimeout))}
	var err error
	if d.Verb == policy.VerbRestart {
		err = docker.ContainerRestart(ctx, d.Container, o)
	} else {
		err = docker.ContainerStop(ctx, d.Container, o)
	}
	beside.Wait()
	out := x.outcome(d, err, evidence)
	if answered && errors.Is(err, context.DeadlineExceeded) && x.outlives(whole, d) {
		out.Class = policy.OutcomeStuck
	}
	return out
}

// outlives: a process that is there so long after its stop timeout does not die,
// where the engine answers now and did when it was to be stopped. Else it may be
// the engine that hangs, and it has only now begun.
func (x *Executor) outlives(ctx context.Context, d policy.Decision) bool {
	o := x.o.Inspect(ctx, d).Observation
	return sameRun(o, d) && o.Running
}

// stopSeconds is a stop timeout as the API takes it: whole seconds, never
// less than what was decided.
func stopSeconds(d time.Duration) int {
	if d <= 0 {
		d = defaultStop
	}
	return int(math.Ceil(d.Seconds()))
}
