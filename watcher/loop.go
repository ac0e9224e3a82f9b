package watcher

import (
	"context"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	maxBatch  = 256
	heartbeat = 10 * time.Second // the loop turns at least this often
)

// Run takes in facts and carries out what follows from them until ctx ends,
// then waits up to 8 s for acts in flight. It returns nil when everything is
// in the journal. It may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	w.wake = time.NewTimer(0)
	defer w.wake.Stop()
	hold := &holdFile{path: w.o.HoldFile}
	w.turn(ctx, w.opening(hold))
	w.attendAll(ctx, hold)
	for ctx.Err() == nil {
		w.turn(ctx, w.collect(ctx))
	}
	return w.leave(ctx)
}

// opening is the first batch: no source has spoken yet, and the hold-all file
// counts from the start.
func (w *Watcher) opening(hold *holdFile) []message {
	batch := []message{{ev: policy.Event{Kind: policy.KindDaemonStart, BootID: w.o.BootID}}}
	if ev, changed := hold.look(); changed {
		batch = append(batch, message{ev: ev})
	}
	return batch
}

// collect waits until there is something to do and drains what has arrived.
// The loop's own facts go first. An empty batch means that a time has come.
func (w *Watcher) collect(ctx context.Context) []message {
	batch := w.own
	w.own = nil
	if len(batch) == 0 {
		batch = w.sleep(ctx)
	}
	for len(batch) < maxBatch && ctx.Err() == nil {
		select {
		case ev := <-w.events:
			batch = append(batch, message{ev: ev})
		case m := <-w.reports:
			batch = append(batch, m)
		case m := <-w.commands:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// sleep waits for one message, the next time to wake, or the end of ctx.
func (w *Watcher) sleep(ctx context.Context) []message {
	now := w.o.Now()
	w.wake.Reset(w.nextWake(now).Sub(now))
	select {
	case <-ctx.Done():
		return nil
	case <-w.wake.C:
		return nil
	case ev := <-w.events:
		return []message{{ev: ev}}
	case m := <-w.reports:
		return []message{m}
	case m := <-w.commands:
		return []message{m}
	}
}

func (w *Watcher) nextWake(now time.Time) time.Time {
	at := now.Add(heartbeat)
	for _, t := range []time.Time{w.deadline(now), w.viewDue(), w.ledger.due()} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// deadline is when the Machine wants its tick; zero is never. A tick that did
// not move the deadline on must not become a busy loop.
func (w *Watcher) deadline(now time.Time) time.Time {
	at, ok := w.o.Machine.Deadline()
	switch {
	case !ok:
		return time.Time{}
	case w.ticked && !at.After(now):
		return now.Add(time.Millisecond)
	default:
		return at
	}
}

// turn steps a batch, makes it durable, and only then lets go of what was
// decided. A tick that is due comes last: what has happened may have settled
// what it was for.
func (w *Watcher) turn(ctx context.Context, batch []message) {
	w.turned.Store(w.o.Now().UnixNano())
	var decided []policy.Decision
	var answers []reply
	for _, m := range batch {
		ds := w.step(m)
		decided = append(decided, ds...)
		if m.reply != nil {
			answers = append(answers, reply{to: m.reply, decisions: ds})
		}
	}
	decided = append(decided, w.tick()...)
	err := w.commit()
	w.release(ctx, decided, err)
	if err != nil {
		w.cry(decided)
	}
	w.publish(len(answers) > 0 || len(w.changed) > 0)
	w.handOver()
	for _, a := range answers {
		a.to <- answer{a.decisions, err}
	}
	w.tell(batch, decided)
}

// reply is an answer that waits for its commit.
type reply struct {
	to        chan<- answer
	decisions []policy.Decision
}

// step stamps one fact and gives it to the Machine.
func (w *Watcher) step(m message) []policy.Decision {
	m.ev.At = w.o.Now()
	if m.final {
		w.landed(m.by)
	}
	if m.ev.Kind == policy.KindConfig && m.ev.Config != nil {
		w.observe = m.ev.Config.Observe
	}
	w.tally.landed(m)
	ds := w.o.Machine.Step(m.ev)
	w.tally.decided(ds)
	if w.ledger.note(m, ds, w.o.Machine.Changes()) {
		w.stale = true
	}
	return ds
}

func (w *Watcher) tick() []policy.Decision {
	at, ok := w.o.Machine.Deadline()
	w.ticked = ok && !at.After(w.o.Now()) && !w.leaving
	if !w.ticked {
		return nil
	}
	return w.step(message{ev: policy.Event{Kind: policy.KindTick}})
}

// tell writes what was decided and what came of earlier decisions into the
// log. It comes after everything else in a turn: a log may be slow.
func (w *Watcher) tell(batch []message, decided []policy.Decision) {
	for _, m := range batch {
		if m.final {
			w.tellOutcome(m)
		}
	}
	for _, d := range decided {
		switch {
		case d.Verb == policy.VerbInspect:
			w.o.Log.Debug("decided", "decision", d)
		case d.Paged: // somebody must look
			w.o.Log.Error("decided", "decision", d)
		default:
			w.o.Log.Info("decided", "decision", d)
		}
	}
}

func (w *Watcher) tellOutcome(m message) {
	out := m.ev.Outcome
	args := []any{"id", m.by.ID, "container", m.by.Name, "verb", m.by.Verb, "class", out.Class, "took", out.Took}
	if out.Text != "" {
		args = append(args, "err", out.Text)
	}
	switch {
	case m.by.Verb == policy.VerbInspect:
		w.o.Log.Debug("answered", args...)
	case out.Class == policy.OutcomeOK:
		w.o.Log.Info("done", args...)
	default:
		w.o.Log.Warn("not done", args...)
	}
}
