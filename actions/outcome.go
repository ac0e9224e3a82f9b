package actions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/defib-dev/defib/watcher/policy"
)

// outcome says what came of a call. The engine's "already started" and
// "already stopped" are no errors: the client takes 304 for success.
func (x *Executor) outcome(d policy.Decision, err error, evidence *policy.Evidence) policy.Outcome {
	class, text := x.classify(d, err)
	if text != "" {
		text = fmt.Sprintf("%s %s: %s", d.Verb, d.Name, text)
	}
	return policy.Outcome{Class: class, Text: text, Evidence: evidence}
}

func (x *Executor) classify(d policy.Decision, err error) (policy.Class, string) {
	if err == nil {
		return policy.OutcomeOK, ""
	}
	said := x.said(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return policy.OutcomeFailed, fmt.Sprintf("no answer from Docker within %v; whether it was done, the next inspect tells", d.Within.Round(time.Second))
	case errors.Is(err, context.Canceled):
		return policy.OutcomeFailed, "defib ended before Docker answered; whether it was done, the next inspect tells"
	case unkillable(said):
		return policy.OutcomeStuck, said
	case errdefs.IsNotFound(err) && strings.Contains(strings.ToLower(said), "no such container"):
		// A network or image that is missing is a 404 too.
		return policy.OutcomeGone, said
	case brokeOff(err):
		return policy.OutcomeFailed, said + "; the connection broke before Docker answered: whether it was done, the next inspect tells"
	default:
		return policy.OutcomeFailed, said
	}
}

// said is an error in the engine's words, as one masked line.
func (x *Executor) said(err error) string {
	return x.o.Mask.Line(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
}

// unkillable recognises, by the engine's words, that SIGKILL did not end the
// process.
func unkillable(said string) bool {
	return strings.Contains(said, "did not receive an exit event") || strings.Contains(said, "is zombie and can not be killed")
}

// brokeOff reports whether the call may have reached the engine although its
// answer did not reach us.
func brokeOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
