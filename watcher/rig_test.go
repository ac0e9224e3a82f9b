package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

var errDisk = errors.New("no space left on device")

// script is a Machine whose answers a test writes down.
type script struct {
	mu       sync.Mutex
	steps    []policy.Event
	on       func(ev policy.Event) []policy.Decision // nil: nothing is ever decided
	change   func(ev policy.Event) policy.Changes    // nil: nothing ever changes
	deadline time.Time                               // a tick moves it on by every; zero every ends it
	every    time.Duration
	host     policy.Host
	views    int // how often Report was asked for
}

func (s *script) Step(ev policy.Event) []policy.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, ev)
	if ev.Kind == policy.KindTick {
		s.deadline = s.deadline.Add(s.every)
		if s.every == 0 {
			s.deadline = time.Time{}
		}
	}
	if s.on == nil {
		return nil
	}
	return s.on(ev)
}

func (s *script) Changes() policy.Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.change == nil {
		return policy.Changes{}
	}
	return s.change(s.steps[len(s.steps)-1])
}

func (s *script) Deadline() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline, !s.deadline.IsZero()
}

func (s *script) Report() policy.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views++
	return policy.Report{Host: s.host}
}

// seen returns the events so far as one short word each.
func (s *script) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, ev := range s.steps {
		out = append(out, word(ev))
	}
	return out
}

func word(ev policy.Event) string {
	switch {
	case ev.Outcome != nil:
		return fmt.Sprintf("outcome#%d:%s", ev.Decision, ev.Outcome.Class)
	case ev.Hold != nil:
		return fmt.Sprintf("%s:%s", ev.Kind, ev.Hold.Reason)
	case ev.Command != nil:
		return "command:" + string(ev.Command.Order)
	case ev.Unit != "":
		return fmt.Sprintf("%s:%s", ev.Kind, ev.Unit)
	default:
		return string(ev.Kind)
	}
}

// ledgerBook is a Journal in memory.
type ledgerBook struct {
	mu      sync.Mutex
	batches [][]Record
	err     error
	gate    chan struct{} // when set, Append waits for it
	tries   []time.Time
}

func (b *ledgerBook) Append(batch []Record) error {
	b.mu.Lock()
	gate := b.gate
	b.tries = append(b.tries, time.Now())
	b.mu.Unlock()
	if gate != nil {
		<-gate
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.batches = append(b.batches, slices.Clone(batch))
	return nil
}

func (b *ledgerBook) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// written returns each batch as the words of its events.
func (b *ledgerBook) written() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, batch := range b.batches {
		var words []string
		for _, r := range batch {
			words = append(words, word(r.Event))
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

type executorFunc func(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome

func (f executorFunc) Execute(ctx context.Context, d policy.Decision, report func(policy.Event)) policy.Outcome {
	return f(ctx, d, report)
}

type sourceFunc func(ctx context.Context, out chan<- policy.Event) error

func (f sourceFunc) Watch(ctx context.Context, out chan<- policy.Event) error { return f(ctx, out) }

// tap is a Source that passes on what a test gives it.
type tap chan policy.Event

func (p tap) Watch(ctx context.Context, out chan<- policy.Event) error {
	for {
		select {
		case ev := <-p:
			out <- ev
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// logBook is a place for log lines that a test reads while others write.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBook) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.buf.String(), "\n"), "\n")
}

// rig is a Watcher among fakes. Fields may be set before run.
type rig struct {
	machine  *script
	book     *ledgerBook
	log      *logBook
	tap      tap
	opts     Options
	w        *Watcher
	began    time.Time
	stop     context.CancelFunc
	finished chan error
}

func newRig() *rig {
	r := &rig{machine: &script{}, book: &ledgerBook{}, log: &logBook{}, tap: make(tap), finished: make(chan error, 1)}
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	r.opts = Options{
		Machine: r.machine, Journal: r.book, Sources: []Source{r.tap}, BootID: "boot",
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: noTime})),
		Executor: executorFunc(func(context.Context, policy.Decision, func(policy.Event)) policy.Outcome {
			return policy.Outcome{Class: policy.OutcomeOK}
		}),
	}
	return r
}

// run starts the Watcher inside a bubble and waits until it is idle.
func (r *rig) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r.stop, r.began = cancel, time.Now()
	r.w = New(r.opts)
	go func() { r.finished <- r.w.Run(ctx) }()
	t.Cleanup(cancel)
	synctest.Wait()
}

// end stops the Watcher and returns how long that took and what Run said.
func (r *rig) end() (time.Duration, error) {
	at := time.Now()
	r.stop()
	err := <-r.finished
	return time.Since(at), err
}

// mustEnd stops the Watcher and requires that it ends well.
func (r *rig) mustEnd(t *testing.T) {
	t.Helper()
	if _, err := r.end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// emit hands in one fact and waits until all that follows from it is done.
func (r *rig) emit(ev policy.Event) {
	r.tap <- ev
	synctest.Wait()
}

func unhealthy(unit string) policy.Event {
	return policy.Event{Kind: policy.KindObserved, Unit: unit}
}

func act(id uint64, verb policy.Verb, unit string) policy.Decision {
	return policy.Decision{ID: id, Unit: unit, Name: unit, Verb: verb, Rule: "unhealthy", Reason: unit + " is unhealthy", Within: 40 * time.Second}
}

// decides returns a script that answers an observation of the unit so named.
func decides(by map[string]policy.Decision) func(policy.Event) []policy.Decision {
	return func(ev policy.Event) []policy.Decision {
		if d, ok := by[ev.Unit]; ok && ev.Kind == policy.KindObserved {
			return []policy.Decision{d}
		}
		return nil
	}
}
