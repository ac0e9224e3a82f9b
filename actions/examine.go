package actions

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// GPUs is what the asks and a reset need of the driver.
type GPUs interface {
	// Poll reads GPUs now, with their processes; its error says in a sentence
	// why the driver cannot be asked.
	Poll(ctx context.Context, uuids []string) ([]gpu.Reading, error)
	// Release lets the driver go, which a reset needs, until Resume.
	Release(ctx context.Context) error
	Resume()
}

// Processes tells of the host's processes.
type Processes interface {
	// AwaitExit waits for the end of a process; false: ctx ended before.
	AwaitExit(ctx context.Context, pid int) bool
	// Own reports whether the program of a container started it itself, and
	// not somebody with `docker exec`.
	Own(pid int) bool
	// End ends a process that was started in a container, not before since, by
	// `docker exec`, and what that started; still says whether it is that one
	// yet. The error says in a sentence why it is left alone.
	End(pid int, in string, since time.Time, still func() bool) error
}

// spare is what an ask keeps of its time to hand in the answer.
const spare = 500 * time.Millisecond

// readTime is how long the driver is waited for, and how old its answer may get
// while the rest of an examination takes its time: what has changed since, it
// has told.
const readTime = 5 * time.Second

// poll answers a question about GPUs. Without an answer of the driver there is
// none: what is known must do.
func (x *Executor) poll(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	readings, err := x.readings(ctx, d)
	if err != nil {
		return failed("poll the GPU: %v", err)
	}
	report(policy.Event{Kind: policy.KindGPUReading, Decision: d.ID, GPU: &policy.GPUFacts{Readings: readings}})
	return policy.Outcome{Class: policy.OutcomeOK}
}

func (x *Executor) readings(ctx context.Context, d policy.Decision) ([]gpu.Reading, error) {
	if x.o.GPU == nil {
		return nil, errNoGPUs
	}
	ctx, cancel := context.WithTimeout(ctx, min(readTime, d.Within-spare))
	defer cancel()
	return x.o.GPU.Poll(ctx, d.GPUs)
}

// examine looks at a container and its GPUs from all sides at once. What
// cannot be learned in time is left out of the answer.
func (x *Executor) examine(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	ctx, cancel := context.WithTimeout(ctx, d.Within-spare)
	defer cancel()
	e, began := &policy.Examination{}, time.Now()
	var all sync.WaitGroup
	all.Go(func() { x.confirm(ctx, d, e) })
	if len(d.GPUs) > 0 {
		all.Go(func() { e.Readings, _ = x.readings(ctx, d) }) // no reading is an answer, too
	}
	if d.Logs {
		all.Go(func() { e.Signs, e.SignLine = x.signs(ctx, d) })
	}
	all.Wait()
	if time.Since(began) > readTime {
		e.Readings = nil
	}
	report(policy.Event{Kind: policy.KindExamined, Unit: d.Unit, Container: d.Container, Decision: d.ID, Examination: e})
	return policy.Outcome{Class: policy.OutcomeOK}
}

// confirm looks for what says that a fault broke the container: its health
// check fails, or its process ends. Either is enough.
func (x *Executor) confirm(ctx context.Context, d policy.Decision, e *policy.Examination) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var both sync.WaitGroup
	if d.Check {
		both.Go(func() {
			e.Check, e.CheckErr = x.check(ctx, d)
			if e.Check != nil && e.Check.ExitCode != 0 {
				stop()
			}
		})
	}
	if d.PID > 0 && x.o.Process != nil {
		both.Go(func() {
			// Whose it is must be known before it is gone.
			own := x.o.Process.Own(d.PID)
			ctx, cancel := context.WithTimeout(ctx, d.PIDWithin)
			defer cancel()
			if x.o.Process.AwaitExit(ctx, d.PID) && (own || x.o.Process.Own(d.PID)) {
				e.PIDExited = true
				stop()
			}
		})
	}
	both.Wait()
}

// lead is how much earlier than the start that the engine reports a program
// can have written its first line: the engine takes the time once it runs.
const lead = 250 * time.Millisecond

// ofRun is the time of the run that is asked about, up to now.
func ofRun(d policy.Decision) span {
	when := span{until: time.Now()}
	if !d.StartedAt.IsZero() {
		when.since = d.StartedAt.Add(-lead)
	}
	return when
}

// signs looks for sentences about GPUs in the last lines that this run of the
// container wrote.
func (x *Executor) signs(ctx context.Context, d policy.Decision) ([]gpu.Sign, string) {
	docker := x.o.Engine()
	if docker == nil {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, evidenceTime)
	defer cancel()
	lines, _ := x.logs(ctx, docker, d, ofRun(d))
	signs := gpu.Signs(strings.Join(lines, "\n"))
	if len(signs) == 0 {
		return nil, ""
	}
	for _, line := range slices.Backward(lines) {
		if len(gpu.Signs(line)) > 0 {
			return signs, line
		}
	}
	return signs, ""
}
