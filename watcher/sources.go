package watcher

import (
	"context"
	"errors"
	"time"
)

const (
	retrySource    = 500 * time.Millisecond // doubles …
	retrySourceMax = 5 * time.Second        // … up to this
	steady         = 10 * time.Second       // a source that was up for it starts anew
)

// attendAll starts what looks at the world.
func (w *Watcher) attendAll(ctx context.Context, hold *holdFile) {
	if w.o.HoldFile != "" {
		w.owned.Go(func() { w.attend(ctx, hold) })
	}
	for _, s := range w.o.Sources {
		w.owned.Go(func() { w.attend(ctx, s) })
	}
}

// attend calls a source again whenever it returns, and says once why it did:
// an engine that is absent for a night is one line in the log.
func (w *Watcher) attend(ctx context.Context, s Source) {
	wait, said := retrySource, ""
	for {
		began := time.Now()
		err := s.Watch(ctx, w.events)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steady {
			wait, said = retrySource, ""
		}
		if err == nil {
			err = errors.New("it ended without a reason")
		}
		if text := err.Error(); text != said {
			w.o.Log.Warn("source lost, trying again until it answers", "err", err)
			said = text
		}
		if !sleepFor(ctx, wait) {
			return
		}
		wait = min(2*wait, retrySourceMax)
	}
}

// sleepFor reports whether d passed before ctx ended.
func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
