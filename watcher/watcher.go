// Package watcher runs the one loop of defib: facts in, decisions out, durable
// before anything is done. See [Watcher.Run].
package watcher

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
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

// Machine is the policy as the loop drives it; [policy.Machine] is the one
// that runs. Only the loop's goroutine ever calls it, but others read what it
// returned: a later step must not change that.
type Machine interface {
	Step(ev policy.Event) []policy.Decision
	Deadline() (time.Time, bool)
	Changes() policy.Changes // what became dirty since the last call
	Report() policy.Report
}

// View is what people and programs may read: immutable, rebuilt after changes.
type View struct {
	At        time.Time          `json:"at"`
	Host      policy.Host        `json:"host"`
	Observe   bool               `json:"observe,omitempty"`
	Units     []policy.Status    `json:"units"`          // by name
	Incidents []policy.Incident  `json:"incidents"`      // the open ones, oldest first
	GPUs      []policy.GPUStatus `json:"gpus,omitempty"` // by index
	// Acts and Pages count since the start: what was done, by how it ended, and
	// the calls for a human.
	Acts  []ActCount `json:"-"`
	Pages uint64     `json:"-"`
}

// ErrStopping is the answer to a command that came too late.
var ErrStopping = errors.New("defib is stopping; give the command again once it runs")

// Options are what a Watcher is made of. Machine, Journal, Executor and Log
// must be set.
type Options struct {
	Machine  Machine
	Journal  Journal
	Executor Executor
	Sources  []Source
	Log      *slog.Logger
	Now      func() time.Time  // the one clock, shared with sources and executor; nil is Clock()
	BootID   string            // of the host; goes into the first event
	Observe  bool              // shown in the View; a config event would change it
	HoldFile string            // while this file exists nothing is done; empty: no such file
	Alarm    func(text string) // tells people without the journal what it refuses; must not block; may be nil
	Calm     func()            // it refuses no more; must not block; may be nil
	// Told hands over the newest revision of every incident that a commit made
	// durable. It must not block; may be nil.
	Told func([]policy.Incident)
}

// Watcher is the one loop: it owns the Machine, and every goroutine that it
// starts. Its exported methods may be called from anywhere.
type Watcher struct {
	o        Options
	events   chan policy.Event // from sources
	reports  chan message      // from the executor
	commands chan message      // from Do
	closing  chan struct{}     // closed when ctx has ended: no more commands
	quit     chan struct{}     // closed when the loop reads no more
	feed     *feed
	view     atomic.Pointer[View]
	seen     chan struct{}  // closed when there is a view
	turned   atomic.Int64   // when the newest turn of the loop began, Unix nanoseconds
	owned    sync.WaitGroup // sources, executions

	// What follows belongs to the loop's goroutine.
	wake     *time.Timer
	own      []message         // facts that the loop itself found, for its next turn
	flights  map[uint64]flight // executions whose outcome has not come
	leaving  bool              // ctx has ended: record, but release nothing
	observe  bool
	ticked   bool              // the last turn made a tick
	stale    bool              // the view is older than the state
	viewedAt time.Time         // of the view
	changed  []policy.Incident // by the newest commit, not yet handed over
	ledger   ledger
	tally    tally
}

// message is one event on its way into the loop.
type message struct {
	ev    policy.Event
	by    policy.Decision // what was executed, when ev came out of it
	final bool            // ev is its outcome
	reply chan<- answer   // of a command
}

type answer struct {
	decisions []policy.Decision
	err       error
}

// New returns a Watcher that has not started; see [Watcher.Run].
func New(o Options) *Watcher {
	if o.Now == nil {
		o.Now = Clock()
	}
	return &Watcher{
		o: o, observe: o.Observe, flights: map[uint64]flight{},
		events: make(chan policy.Event, maxBatch), reports: make(chan message, maxBatch), commands: make(chan message),
		closing: make(chan struct{}), quit: make(chan struct{}),
		seen: make(chan struct{}), feed: newFeed(), ledger: ledger{journal: o.Journal, changes: newChanges()},
	}
}

// Clock returns a clock that is immune to steps of the system's: it counts
// from now on with the monotonic clock. Its times are UTC and equal to
// themselves after a round trip through JSON.
func Clock() func() time.Time {
	start := time.Now().UTC()
	return func() time.Time { return start.Add(time.Since(start)).Round(0) }
}
