// Package watcher runs the one loop of defib: facts in, decisions out, durable
// before anything is done. See [Watcher.Run].
package watcher

import (
	"context"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Source watches one part of the world and reports facts about it.
type Source interface {
	// Watch emits facts, source_up first and source_down last, and returns
	// when its connection broke or ctx ended. The caller calls it again.
	Watch(ctx context.Context, out chan<- policy.Event) error
}

// Executor carries out one decision and returns when its outcome is known.
// Facts that it meets on the way (the answer to an ask) go to report.
type Executor interface {
	Execute(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome
}

// Journal keeps records. A batch is durable when Append returns nil.
type Journal interface {
	Append(batch []Record) error
}

// Record is one step: the fact, what was decided, and what is changed by it.
type Record struct {
	Event     policy.Event      `json:"event"`
	Decisions []policy.Decision `json:"decisions,omitempty"`
	// Changes are the state records to store, of the whole batch; only the
	// last record of a batch has them. They are not part of the event log.
	Changes policy.Changes `json:"-"`
}

// View is what people and programs may read: immutable, rebuilt after changes.
type View struct {
	At        time.Time         `json:"at"`
	Host      policy.Host       `json:"host"`
	Observe   bool              `json:"observe,omitempty"`
	Units     []policy.Status   `json:"units"`     // by name
	Incidents []policy.Incident `json:"incidents"` // the open ones, oldest first
}
