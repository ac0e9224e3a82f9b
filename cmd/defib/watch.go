package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
)

// watch is `defib status --watch`.
type watch struct {
	app  *app
	o    statusOptions
	term terminal
	once bool              // something has been shown
	seen map[string]string // what was last printed of each unit, by key
}

// run shows the status at once and again at each tick, until ctx ends.
func (w *watch) run(ctx context.Context, tick <-chan time.Time) error {
	w.term = w.app.terminal()
	for {
		st, err := w.app.fetch(ctx, w.o)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.show(st, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
		}
	}
}

func (w *watch) show(st api.Status, err error) error {
	if w.term.width > 0 && w.o.output != "json" && (w.once || err == nil) {
		w.once = true
		return w.redraw(st, err)
	}
	if err != nil {
		return err
	}
	return w.appendChanges(st)
}

// redraw shows everything in place of what the terminal shows. A daemon that
// is away for a moment is said, and asked again.
func (w *watch) redraw(st api.Status, err error) error {
	var b strings.Builder
	if err != nil {
		b.WriteString(w.app.clean(err.Error()) + "\n")
	} else {
		_ = w.app.printStatus(&b, st, w.o) // a builder takes all
		w.app.notices(&b, st, w.o)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	if most := w.term.height - 2; most > 0 && len(lines)-1 > most {
		hidden := len(lines) - 1 - most
		lines = append(lines[:most], fmt.Sprintf("… %d more lines\n", hidden))
	}
	text := strings.ReplaceAll(strings.Join(lines, ""), "\n", "\x1b[K\n")
	_, werr := fmt.Fprint(w.app.out, "\x1b[H"+text+"\x1b[J")
	return werr
}

// appendChanges prints the units that differ from what was printed of them.
func (w *watch) appendChanges(st api.Status) error {
	changed := st.Units[:0:0]
	for _, u := range st.Units {
		mark := strings.Join([]string{stateWord(u), u.Health, exitWord(u.LastExit), u.Next, fmt.Sprint(u.Restarts24h)}, "|")
		if w.seen[u.Key] != mark {
			changed = append(changed, u)
		}
		w.seen[u.Key] = mark
	}
	o := w.o
	o.noHeaders = o.noHeaders || w.once
	if len(changed) == 0 && w.once {
		return nil
	}
	w.once = true
	st.Units, st.Others = changed, nil
	return w.app.printStatus(w.app.out, st, o)
}
