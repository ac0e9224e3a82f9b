package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

var errSilent = errors.New("the event stream went silent")

// reorder is how far apart the times of two events may be that the engine
// publishes in the wrong order: it stamps an event before it queues it.
const reorder = time.Second

// actions are those that change a container's state. Podman says remove for
// destroy, and takes die for its died.
func actions() []events.Action {
	return []events.Action{
		events.ActionCreate, events.ActionStart, events.ActionRestart, events.ActionKill, events.ActionStop,
		events.ActionDie, events.ActionOOM, events.ActionPause, events.ActionUnPause, events.ActionRename,
		events.ActionUpdate, events.ActionDestroy, events.ActionRemove, events.ActionHealthStatus,
	}
}

// eventFilter makes the engine send only these. The value health_status makes
// Docker compare prefixes, and none of the others is the prefix of an exec_
// event: health checks alone make hundreds of those a second.
func eventFilter() filters.Args {
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for _, a := range actions() {
		args.Add("event", string(a))
	}
	return args
}

// relevant says the same of an event that was not filtered.
func relevant(m events.Message) bool {
	return m.Type == events.ContainerEventType && (isHealth(m.Action) || slices.Contains(actions(), m.Action))
}

// read follows the engine's events until the stream breaks, and calls opened
// when the first answer has come.
//
// Every request asks the engine to end the stream after a lease. One that
// ends in time is asked for again, from a little before its newest event; one
// that does not has gone silent without closing. No other call can tell that:
// new connections may work while an old one is dead.
func (s *session) read(ctx context.Context, since time.Time, opened func()) error {
	for {
		newest, err := s.lease(ctx, since, opened)
		if err != nil {
			return err
		}
		if newest = newest.Add(-reorder); newest.After(since) {
			since = newest
		}
	}
}

// lease reads one stream to its end and returns the engine's time of the
// newest event in it.
func (s *session) lease(ctx context.Context, since time.Time, opened func()) (newest time.Time, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Lease+s.o.Deadline, errSilent)
	began := time.Now()
	messages, errs := s.cli.Events(ctx, events.ListOptions{
		Since: stamp(since), Until: stamp(s.clock.engine(s.o.Now()).Add(s.o.Lease)), Filters: eventFilter(),
	})
	opened()
	defer func() {
		cancel()
		for range errs { // until the client's own goroutine has ended
		}
	}()
	for {
		select {
		case m := <-messages:
			if !s.queue.push(m) {
				return newest, s.classify("GET /events", fmt.Errorf("%d events wait to be handled", queueMax))
			}
			if at := time.Unix(0, m.TimeNano); at.After(newest) {
				newest = at
			}
		case err := <-errs:
			return newest, s.leaseEnd(ctx, time.Since(began), err)
		}
	}
}

// leaseEnd tells the end that was asked for, nil, from all others.
func (s *session) leaseEnd(ctx context.Context, took time.Duration, err error) error {
	switch {
	case errors.Is(err, io.EOF) && took >= s.o.Lease/2:
		return nil
	case errors.Is(context.Cause(ctx), errSilent):
		return &UnreachableError{Host: s.host, Err: errSilent}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &UnreachableError{Host: s.host, Err: errors.New("it ended the event stream")}
	}
	return s.classify("GET /events", err)
}

// stamp writes an engine time as the API reads it.
func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
