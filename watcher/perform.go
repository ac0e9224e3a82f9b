package watcher

import (
	"context"
	"fmt"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	margin = 2 * time.Second         // an execution that keeps its own time is over before we end it
	grace  = 7500 * time.Millisecond // acts in flight are waited for when ctx has ended
	parted = 500 * time.Millisecond  // what has been cancelled must have ended by then
)

// flight is a decision that is being carried out.
type flight struct {
	by     policy.Decision
	cancel context.CancelFunc
}

// release lets go of decisions. refused is why they could not be recorded: an
// ask changes nothing in the world and goes ahead, an act does not.
func (w *Watcher) release(ctx context.Context, decided []policy.Decision, refused error) {
	for _, d := range decided {
		switch {
		case d.Verb == policy.VerbNote:
		case w.leaving || ctx.Err() != nil:
			w.o.Log.Debug("left to the next start", "decision", d)
		case d.Verb.Act() && refused != nil:
			w.refuse(d, refused)
		default:
			w.perform(ctx, d)
		}
	}
}

// perform carries out one decision in a goroutine of its own. An act outlives
// ctx; an ask does not, for nobody needs its answer then.
func (w *Watcher) perform(ctx context.Context, d policy.Decision) {
	if d.Verb.Act() {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, d.Within+margin)
	w.flights[d.ID] = flight{by: d, cancel: cancel}
	w.owned.Go(func() {
		out := w.o.Executor.Execute(ctx, d, func(ev policy.Event) { w.deliver(message{ev: ev, by: d}) })
		w.deliver(message{ev: outcomeOf(d, out), by: d, final: true})
	})
}

func (w *Watcher) deliver(m message) {
	select {
	case w.reports <- m:
	case <-w.quit:
	}
}

// landed forgets a flight: its outcome has come.
func (w *Watcher) landed(d policy.Decision) {
	if f, ok := w.flights[d.ID]; ok {
		f.cancel()
		delete(w.flights, d.ID)
	}
}

// leave ends the run: it records the outcomes of acts in flight as long as it
// may wait for them. The others are open in the journal; the next start looks
// what became of them.
func (w *Watcher) leave(ctx context.Context) error {
	close(w.closing)
	w.leaving = true
	w.awaitActs(ctx)
	close(w.quit)
	for _, f := range w.flights {
		f.cancel()
		if f.by.Verb.Act() {
			w.o.Log.Warn("still in flight, left to the next start", "decision", f.by)
		}
	}
	err := w.lastWords(ctx)
	w.awaitOwned()
	w.feed.end()
	return err
}

// lastWords records what is not yet recorded, if the journal will have it.
func (w *Watcher) lastWords(ctx context.Context) error {
	batch := w.own
	w.own, w.ledger.retryAt = nil, time.Time{}
	w.turn(ctx, batch)
	if err := w.ledger.refused; err != nil {
		return fmt.Errorf("record the last state: %w", err)
	}
	return nil
}

// awaitActs takes in what acts report until none is in flight. Facts from
// sources and answers to asks are dropped: the next start sees for itself.
func (w *Watcher) awaitActs(ctx context.Context) {
	over := time.NewTimer(grace)
	defer over.Stop()
	for w.acting() {
		select {
		case <-over.C:
			return
		case <-w.events:
		case m := <-w.reports:
			if m.by.Verb.Act() {
				w.turn(ctx, []message{m})
			}
		}
	}
}

func (w *Watcher) acting() bool {
	for _, f := range w.flights {
		if f.by.Verb.Act() {
			return true
		}
	}
	return false
}

// awaitOwned waits for every goroutine that the watcher started; all have been
// told to end. One that does not listen is left behind, and named.
func (w *Watcher) awaitOwned() {
	ended := make(chan struct{})
	go func() { w.owned.Wait(); close(ended) }()
	over := time.NewTimer(parted)
	defer over.Stop()
	for {
		select {
		case <-ended:
			return
		case <-w.events: // a source must not hang on its last words
		case <-over.C:
			w.o.Log.Warn("a source or an execution does not end; defib ends without it")
			return
		}
	}
}
