package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"

	"github.com/defib-dev/defib/watcher/policy"
)

// maxSkew is how far an event's time may be off before we believe that one of
// the clocks was set, or stood still with a suspended host.
const maxSkew = 2 * time.Second

// event takes one engine event: emits it if it is about a watched container,
// and asks for the inspect that tells what came of it.
func (s *session) event(ctx context.Context, it item) {
	m := it.message
	if m.Actor.ID == "" || !s.seen.add(keyOf(m)) {
		return
	}
	s.handled(keyOf(m))
	s.heard = it.read
	replayed := time.Unix(0, m.TimeNano).Before(s.subscribed)
	if !replayed {
		s.checkClock(it)
	}
	c, was := s.meet(m)
	if c == nil {
		return
	}
	c.event = it.read
	kind := kindOf(m.Action)
	if c.watched && kind != "" {
		ev := c.translate(kind, it, replayed)
		if was != c.key {
			ev.Reason = was
		}
		s.emit(ctx, ev)
	}
	switch {
	case kind == policy.KindDestroy:
		s.forget(c.id)
	case c.watched && kind != policy.KindKill: // the end that a kill may bring has its own event
		s.pool.add(c.id, true)
	}
}

// meet returns the container that an event is about, under the name that it
// has by now, and the key that it had before; nil when its end has been told.
func (s *session) meet(m events.Message) (c *tracked, was string) {
	id, labels := m.Actor.ID, m.Actor.Attributes // the labels and a little more
	c, name := s.known[id], labels["name"]
	if c == nil {
		if _, gone := s.gone[id]; gone && m.Action != events.ActionCreate && m.Action != events.ActionStart {
			return nil, "" // what is created or started has been called gone too early
		}
		delete(s.gone, id)
		if c = s.add(id, name, labels); m.Action == events.ActionCreate {
			c.hide(labels)
		}
		return c, c.key
	}
	was = c.key
	if name != "" && name != c.name {
		c.rename(name, labels)
	}
	return c, was
}

// kindOf names the fact that an action is; "" for those that are only a
// reason to look.
func kindOf(a events.Action) policy.Kind {
	switch a {
	case events.ActionCreate, events.ActionStart, events.ActionRestart, events.ActionKill, events.ActionStop, events.ActionDie,
		events.ActionOOM, events.ActionPause, events.ActionUnPause, events.ActionRename, events.ActionDestroy:
		return policy.Kind(a) // policy uses Docker's words
	case events.ActionRemove:
		return policy.KindDestroy
	default:
		return ""
	}
}

// translate makes the fact of an engine event. Docker writes the container's
// labels over the attributes of the event itself, so a label named exitCode or
// signal hides the true value; then it stays 0, and the inspect that follows
// knows the exit code.
func (c *tracked) translate(kind policy.Kind, it item, replayed bool) policy.Event {
	ev := policy.Event{
		Kind: kind, Unit: c.key, Container: c.id, Read: it.read, Replayed: replayed,
		EngineTime: time.Unix(0, it.message.TimeNano).UTC(),
	}
	attributes := it.message.Actor.Attributes
	if kind == policy.KindKill && !c.hides.signal {
		ev.Signal = parseSignal(attributes["signal"])
	}
	if kind == policy.KindDie && !c.hides.exitCode {
		ev.ExitCode, _ = strconv.Atoi(attributes["exitCode"])
	}
	return ev
}

// checkClock notices a clock that was set since the connection was made: a
// live event is milliseconds old.
func (s *session) checkClock(it item) {
	at := time.Unix(0, it.message.TimeNano)
	if skew := at.Sub(s.clock.engine(it.read)); skew.Abs() > maxSkew {
		s.o.Log.Warn("the engine's clock and ours have moved apart", "by", skew.Round(time.Millisecond))
		s.clock.offset.Store(int64(at.Sub(it.read)))
	}
}
