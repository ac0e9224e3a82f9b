package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// events streams what happened and what was decided, one JSON document a line:
// what is on record since ?since=, a time or a span, then, with ?follow=1, what
// comes.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := s.moment(q.Get("since"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	var only map[string]bool
	if name := q.Get("unit"); name != "" {
		v := s.view(w)
		if v == nil {
			return
		}
		if only, err = s.keys(v, name, since); err != nil {
			s.fail(w, err)
			return
		}
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	var feed <-chan watcher.Committed
	if q.Get("follow") != "" {
		feed = s.o.Loop.Subscribe(ctx) // before the record is read, so that nothing falls between
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &stream{w: w, rc: http.NewResponseController(w), enc: json.NewEncoder(w), only: only}
	if err := s.o.Archive.ReadEvents(since, out.past); err != nil {
		s.o.Log.Warn("event stream ended", "err", err)
		return
	}
	if out.last.After(s.o.Now()) { // by a clock that was set back since: nothing of it comes again
		out.last = time.Time{}
	}
	if feed != nil {
		out.live(feed)
	}
}

// stream is one client that reads events.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	enc  *json.Encoder
	only map[string]bool // unit keys; nil: everything
	last time.Time
}

// past writes one record of the event log.
func (s *stream) past(r watcher.Record) error {
	s.last = r.Event.At
	return s.write(watcher.Committed{Record: r})
}

// live writes what comes, without what the log has already said.
func (s *stream) live(feed <-chan watcher.Committed) {
	if s.rc.Flush() != nil {
		return
	}
	for c := range feed {
		if !c.Event.At.After(s.last) {
			continue
		}
		if s.write(c) != nil || s.rc.Flush() != nil {
			return
		}
	}
}

func (s *stream) write(c watcher.Committed) error {
	if s.only != nil && !concerns(c.Record, s.only) {
		if c.Lost == 0 {
			return nil
		}
		c.Record = watcher.Record{Event: policy.Event{At: c.Event.At}} // that something was missed is for everybody
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(sendLimit))
	return s.enc.Encode(Line{Version: Version, Event: c.Event, Decisions: c.Decisions, Lost: c.Lost})
}

// concerns reports whether a record has to do with one of the units.
func concerns(r watcher.Record, units map[string]bool) bool {
	if units[r.Event.Unit] || slices.ContainsFunc(r.Decisions, func(d policy.Decision) bool { return units[d.Unit] }) {
		return true
	}
	if c := r.Event.Command; c != nil {
		return units[c.Unit] || c.Unit == ""
	}
	return r.Event.Unit == "" && r.Event.Kind != policy.KindTick
}
