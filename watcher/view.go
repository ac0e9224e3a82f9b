package watcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	viewEvery = 100 * time.Millisecond
	stuck     = 30 * time.Second // the loop has not turned for so long: something blocks it
)

// View returns what is known, at most 100 ms old while the loop turns; nil
// before [Watcher.Run] has begun. It never blocks.
func (w *Watcher) View() *View { return w.view.Load() }

// Seen is closed once there is a View.
func (w *Watcher) Seen() <-chan struct{} { return w.seen }

// Healthy reports why defib does not do its work, in one sentence: the loop
// is stuck, or Docker is out of reach. It never blocks. now is of the clock
// in Options.
func (w *Watcher) Healthy(now time.Time) error {
	v := w.view.Load()
	if v == nil {
		return errors.New("defib is still starting")
	}
	if idle := now.Sub(time.Unix(0, w.turned.Load())); idle > stuck {
		return fmt.Errorf("the loop has been stuck for %v; is the disk of the state directory slow or full?", idle.Round(time.Second))
	}
	if !v.Host.Connected {
		return fmt.Errorf("docker is out of reach: %s", v.Host.Reason)
	}
	return nil
}

// publish rebuilds the view if it is out of date, and not more often than
// every 100 ms unless somebody waits for it.
func (w *Watcher) publish(now bool) {
	at := w.o.Now()
	if !now && !w.viewedAt.IsZero() && (!w.stale || at.Before(w.viewDue())) {
		return
	}
	r := w.o.Machine.Report()
	w.view.Store(&View{
		At: at, Observe: w.observe, Host: r.Host, Units: r.Units, Incidents: r.Incidents, GPUs: r.GPUs,
		Acts: w.tally.list(), Pages: w.tally.pages,
	})
	if w.viewedAt.IsZero() {
		close(w.seen)
	}
	w.stale, w.viewedAt = false, at
}

// viewDue is when the view is to be rebuilt; zero when it is up to date.
func (w *Watcher) viewDue() time.Time {
	if !w.stale {
		return time.Time{}
	}
	return w.viewedAt.Add(viewEvery)
}

// Do gives an operator's order to the Machine and returns what it decided,
// once that is durable; the decisions are carried out meanwhile. With an error
// from the journal the order stands in memory, but no act of it is done. Once
// defib is ending, the error is [ErrStopping].
func (w *Watcher) Do(ctx context.Context, cmd policy.Command) ([]policy.Decision, error) {
	reply := make(chan answer, 1)
	select {
	case w.commands <- message{ev: policy.Event{Kind: policy.KindCommand, Command: &cmd}, reply: reply}:
	case <-w.closing:
		return nil, ErrStopping
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", cmd.Order, ctx.Err())
	}
	select {
	case a := <-reply:
		if a.err != nil {
			return a.decisions, fmt.Errorf("%s: it cannot be recorded, so nothing is done to a container and it is forgotten when defib restarts: %w", cmd.Order, a.err)
		}
		return a.decisions, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", cmd.Order, ctx.Err())
	}
}
