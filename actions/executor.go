// Package actions carries out what the policy decided. It touches the world
// and chooses nothing. Read [Executor.Execute] first.
package actions

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

var _ watcher.Executor = (*Executor)(nil)

// Docker is the slice of the engine's client that the acts use. The kill API
// is not in it on purpose.
type Docker interface {
	logReader
	ContainerRestart(ctx context.Context, id string, o container.StopOptions) error
	ContainerStart(ctx context.Context, id string, o container.StartOptions) error
	ContainerStop(ctx context.Context, id string, o container.StopOptions) error
}

type logReader interface {
	ContainerLogs(ctx context.Context, id string, o container.LogsOptions) (io.ReadCloser, error)
}

// Options are what an Executor is made of. All must be set but Now and what is
// about GPUs: without it, an ask is answered with what else can be learned.
type Options struct {
	Engine  func() Docker                                             // the client of the present connection; nil while there is none
	Inspect func(ctx context.Context, d policy.Decision) policy.Event // answers an ask: an observed or unseen event
	Mask    *mask.Masker
	Log     *slog.Logger
	Now     func() time.Time // the clock of the watcher; nil is time.Now

	GPU          GPUs
	Process      Processes
	Exec         func() Execer // as Engine
	ResetCommand []string      // of a GPU; {gpu} is its UUID
}

// Executor carries out decisions. It keeps nothing between them and may carry
// out any number at a time.
type Executor struct{ o Options }

// New returns an Executor.
func New(o Options) *Executor {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Executor{o: o}
}

// Execute implements [watcher.Executor]. It ends within d.Within, whatever
// the engine does.
func (x *Executor) Execute(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	began := x.o.Now()
	ctx, cancel := context.WithTimeout(ctx, d.Within)
	defer cancel()
	out := x.route(ctx, d, report)
	out.Took = x.o.Now().Sub(began)
	return out
}

func (x *Executor) route(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	switch d.Verb {
	case policy.VerbInspect:
		return x.inspect(ctx, d, report)
	case policy.VerbExamine:
		return x.examine(ctx, d, report)
	case policy.VerbPoll:
		return x.poll(ctx, d, report)
	case policy.VerbResetGPU:
		return x.reset(ctx, d)
	case policy.VerbRestart, policy.VerbStart, policy.VerbStop:
		return x.act(ctx, d)
	case policy.VerbNote:
		return policy.Outcome{Class: policy.OutcomeOK}
	default:
		return failed("%s %s: this defib does not know how to do that", d.Verb, d.Name)
	}
}

// inspect answers an ask. The answer is the event; the outcome only says that
// there was one.
func (x *Executor) inspect(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	ev := x.o.Inspect(ctx, d)
	report(ev)
	if ev.Kind == policy.KindUnseen {
		return failed("inspect %s: %s", d.Name, ev.Reason)
	}
	return policy.Outcome{Class: policy.OutcomeOK}
}

func failed(format string, args ...any) policy.Outcome {
	return policy.Outcome{Class: policy.OutcomeFailed, Text: fmt.Sprintf(format, args...)}
}
