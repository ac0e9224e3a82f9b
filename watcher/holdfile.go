package watcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const lookEvery = time.Second

// holdFile is a source that watches for a file: while it exists, nothing is
// done on this host. It needs neither the engine nor the socket.
type holdFile struct {
	path string
	held bool
}

// Watch implements [Source]. It looks every second until ctx ends.
func (h *holdFile) Watch(ctx context.Context, out chan<- policy.Event) error {
	for {
		if ev, changed := h.look(); changed {
			select {
			case out <- ev:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !sleepFor(ctx, lookEvery) {
			return ctx.Err()
		}
	}
}

// look returns an event when the file has come or gone since the last look.
// When that cannot be told, the file counts as there: a wish to stop weighs
// more than a repair.
func (h *holdFile) look() (policy.Event, bool) {
	why, file := "", ""
	switch _, err := os.Lstat(h.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		why = fmt.Sprintf("defib cannot tell whether the file %s exists (%v); make its directory readable to let defib act", h.path, err)
	default:
		why, file = fmt.Sprintf("the file %s exists; remove it to let defib act", h.path), h.path
	}
	if h.held == (why != "") {
		return policy.Event{}, false
	}
	h.held = !h.held
	hold := &policy.Hold{Reason: policy.HoldOperator, Scope: policy.ScopeHost, By: "file", File: file, Why: why}
	if h.held {
		return policy.Event{Kind: policy.KindHoldSet, Hold: hold}, true
	}
	hold.Why = fmt.Sprintf("the file %s is gone", h.path)
	return policy.Event{Kind: policy.KindHoldCleared, Hold: hold}, true
}
