package watcher

import (
	"maps"
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	retryJournal = 5 * time.Second
	maxUnsaved   = 1024 // records kept in memory while the journal refuses
)

// ledger is what stands between the steps and the journal: everything since
// the last commit that succeeded. State is never lost in it, only merged; of
// the records of a long refusal the newest are kept.
type ledger struct {
	journal Journal
	records []Record
	changes changes
	refused error     // the journal's newest answer; nil while it works
	retryAt time.Time // next attempt after a refusal
	lost    int       // records dropped during the refusal
}

// note takes up one step. It reports whether the step is worth a record.
func (l *ledger) note(m message, ds []policy.Decision, c policy.Changes) bool {
	if len(ds) == 0 && c.Empty() && !news(m) {
		return false
	}
	l.changes.add(c)
	l.records = append(l.records, Record{Event: m.ev, Decisions: ds})
	if over := len(l.records) - maxUnsaved; over > 0 && l.refused != nil {
		l.records = slices.Delete(l.records, 0, over)
		l.lost += over
	}
	return true
}

// news reports whether an event is worth a record even though it changed
// nothing. The others come by the hundred on a quiet host, and while its engine
// is away.
func news(m message) bool {
	switch m.ev.Kind {
	case policy.KindOutcome:
		return m.by.Verb.Act()
	case policy.KindObserved, policy.KindUnseen, policy.KindTick, policy.KindSourceDown:
		return false
	default:
		return true
	}
}

// commit makes everything noted durable in one append and returns the records
// that now are. After a refusal it waits until retryAt with the next attempt.
func (l *ledger) commit(now time.Time) ([]Record, error) {
	if len(l.records) == 0 {
		return nil, nil
	}
	if l.refused != nil && now.Before(l.retryAt) {
		return nil, l.refused
	}
	l.records[len(l.records)-1].Changes = l.changes.flat()
	if err := l.journal.Append(l.records); err != nil {
		l.refused, l.retryAt = err, now.Add(retryJournal)
		l.records[len(l.records)-1].Changes = policy.Changes{}
		return nil, err
	}
	done := l.records
	l.records, l.changes, l.refused = nil, newChanges(), nil
	return done, nil
}

// due is when the next attempt after a refusal is to be made; zero when the
// journal works.
func (l *ledger) due() time.Time {
	if l.refused == nil {
		return time.Time{}
	}
	return l.retryAt
}

// changes merges the Changes of many steps; the later one wins.
type changes struct {
	host      *policy.Host
	units     map[string]policy.Unit
	forgotten map[string]bool
	incidents map[string]policy.Incident
}

func newChanges() changes {
	return changes{units: map[string]policy.Unit{}, forgotten: map[string]bool{}, incidents: map[string]policy.Incident{}}
}

func (c *changes) add(step policy.Changes) {
	if step.Host != nil {
		c.host = step.Host
	}
	for _, key := range step.Forgotten {
		delete(c.units, key)
		c.forgotten[key] = true
	}
	for _, u := range step.Units {
		delete(c.forgotten, u.Key)
		c.units[u.Key] = u
	}
	for _, in := range step.Incidents {
		c.incidents[in.ID] = in
	}
}

func (c *changes) flat() policy.Changes {
	out := policy.Changes{Host: c.host, Forgotten: slices.Sorted(maps.Keys(c.forgotten))}
	for _, key := range slices.Sorted(maps.Keys(c.units)) {
		out.Units = append(out.Units, c.units[key])
	}
	for _, id := range slices.Sorted(maps.Keys(c.incidents)) {
		out.Incidents = append(out.Incidents, c.incidents[id])
	}
	return out
}
