package api

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// lookBack is how much of the event log is searched for a name that is not
// watched: the whole of it takes seconds to read.
const lookBack = 24 * time.Hour

// past is what is on record of a name, whether or not it is watched now.
type past struct {
	keys   map[string]bool // of the units that were called so
	events bool            // some are in the part of the log that was read
	newest string          // its newest incident; empty: none
}

func (p past) empty() bool { return len(p.keys) == 0 }

// history looks for a name, or a key, among the incidents and in the log.
func (s *Server) history(name string, since time.Time) (past, error) {
	p, name := past{keys: map[string]bool{}}, strings.TrimPrefix(name, "/")
	incidents, err := s.o.Archive.Incidents(time.Time{})
	if err != nil {
		return p, err
	}
	for _, inc := range incidents { // the oldest first
		if name != "" && (inc.Name == name || inc.Unit == name) {
			p.keys[inc.Unit], p.newest = true, inc.ID
		}
	}
	err = s.o.Archive.ReadEvents(since, func(r watcher.Record) error {
		p.take(r, name)
		return nil
	})
	return p, err
}

// take notes the units that a record calls by the name.
func (p *past) take(r watcher.Record, name string) {
	found := func(key, called string) {
		if key != "" && (key == name || called == name) {
			p.keys[key], p.events = true, true
		}
	}
	called := ""
	if o := r.Event.Observation; o != nil {
		called = o.Name
	}
	found(r.Event.Unit, called)
	for _, d := range r.Decisions {
		found(d.Unit, d.Name)
	}
}

// keys finds the units that a person means: the one that is watched, else
// those that were and are on record.
func (s *Server) keys(v *watcher.View, name string, since time.Time) (map[string]bool, error) {
	u, err := Find(v.Units, v.Host.Others, name)
	if err == nil {
		return map[string]bool{u.Key: true}, nil
	}
	if back := s.o.Now().Add(-lookBack); since.After(back) {
		since = back
	}
	p, errPast := s.history(name, since)
	switch {
	case errPast != nil:
		return nil, errPast
	case p.empty():
		return nil, err
	}
	return p.keys, nil
}

// found is [Find] whose error says what is on record of the name.
func (s *Server) found(v *watcher.View, name string) (policy.Status, error) {
	u, err := Find(v.Units, v.Host.Others, name)
	unknown, ok := errors.AsType[*UnknownError](err)
	if !ok {
		return u, err
	}
	p, errPast := s.history(name, s.o.Now().Add(-lookBack))
	if errPast != nil {
		s.o.Log.Warn("look for a name on record", "err", errPast)
		return u, err
	}
	switch {
	case p.events:
		unknown.Hint = fmt.Sprintf("`defib events --since 24h %s` shows what happened to it", name)
	case p.newest != "":
		unknown.Hint = fmt.Sprintf("`defib incident %s` shows its newest incident", p.newest)
	default:
		return u, err
	}
	if !unknown.told {
		unknown.Text = fmt.Sprintf("%q is not watched any more", name)
	}
	return u, unknown
}
