package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/watcher/policy"
)

// tracked is what the loop remembers of one container, to tell which answers
// say something new. Most of it is only kept of watched ones.
type tracked struct {
	id, name, key string
	watched       bool
	why           string                          // it is not
	hides         struct{ signal, exitCode bool } // labels of these names

	added     time.Time // on our clock, as all below
	event     time.Time // the newest was read
	inspected time.Time // the newest inspect was sent

	// What the newest observation said; seen is false without one.
	seen, running     bool
	status, health    string
	exitCode          int
	started, finished time.Time // on the engine's clock
}

// add takes up a container that nothing was known of.
func (s *session) add(id, name string, labels map[string]string) *tracked {
	k := &tracked{id: id, added: s.o.Now()}
	k.rename(name, labels)
	s.verdict(k, labels)
	s.known[id] = k
	return k
}

// rename sets the name, and the key that may depend on it.
func (k *tracked) rename(name string, labels map[string]string) {
	k.name, k.key = name, policy.Key(name, labels)
}

// verdict says whether a container is watched. Labels are those of a list or
// an inspect, or the attributes of an event, which hold them all.
func (s *session) verdict(k *tracked, labels map[string]string) {
	via, why := s.o.Watch(labels)
	if self := s.self[k.id]; self != "" {
		via, why = "", self
	}
	k.watched, k.why = via != "", why
}

// hide notes the labels that hide attributes of events.
func (k *tracked) hide(labels map[string]string) {
	_, k.hides.signal = labels["signal"]
	_, k.hides.exitCode = labels["exitCode"]
}

// learn keeps what an observation said.
func (k *tracked) learn(ev policy.Event) {
	o := ev.Observation
	k.name, k.key, k.seen = o.Name, ev.Unit, true
	k.running, k.status, k.exitCode = o.Running && !o.Restarting, o.Status, o.ExitCode
	k.started, k.finished, k.health = o.StartedAt, o.FinishedAt, ""
	if o.Health != nil {
		k.health = o.Health.Status
	}
}

// differs reports whether a list entry says something else than the newest
// observation, and so that an event was missed.
func (k *tracked) differs(sum container.Summary, engineNow time.Time) bool {
	if !k.seen || sum.State != k.status || nameOf(sum) != k.name {
		return true
	}
	st := parseStatus(sum.Status)
	since := k.started
	if st.ended {
		since = k.finished
		if st.exitCode != k.exitCode {
			return true
		}
	}
	switch {
	case st.health != "" && st.health != k.health:
		return true
	case st.atMost > 0 && !since.IsZero() && engineNow.Sub(since) > st.atMost+statusSlack:
		return true // it ended and started again, unseen
	}
	// A start that failed leaves no event and no trace in the list.
	return sum.State == container.StateCreated && engineNow.Sub(time.Unix(sum.Created, 0)) < freshCreated
}

const (
	statusSlack  = 5 * time.Second
	freshCreated = 10 * time.Minute
)

// unwatched are the containers that are not watched, by name, and why.
func (s *session) unwatched() []policy.Other {
	var others []policy.Other
	for _, k := range s.known {
		if !k.watched {
			others = append(others, policy.Other{Name: k.name, Container: k.id, Why: k.why})
		}
	}
	slices.SortFunc(others, func(a, b policy.Other) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Container, b.Container))
	})
	return others
}
