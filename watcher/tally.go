package watcher

import (
	"cmp"
	"maps"
	"slices"

	"github.com/defib-dev/defib/watcher/policy"
)

// ActCount is how many acts of a kind ended so since the start.
type ActCount struct {
	Verb  policy.Verb
	Class policy.Class
	N     uint64
}

// tally counts what the loop has done since the start, for those who draw
// rates of it. It belongs to the loop's goroutine.
type tally struct {
	acts  map[ActCount]uint64 // N is 0 in the keys
	pages uint64
}

// landed counts an act whose outcome is known.
func (t *tally) landed(m message) {
	if !m.final || !m.by.Verb.Act() {
		return
	}
	if t.acts == nil {
		t.acts = map[ActCount]uint64{}
	}
	t.acts[ActCount{Verb: m.by.Verb, Class: m.ev.Outcome.Class}]++
}

// decided counts the calls for a human among what was decided.
func (t *tally) decided(ds []policy.Decision) {
	for _, d := range ds {
		if d.Paged {
			t.pages++
		}
	}
}

// list is the acts by verb and class.
func (t *tally) list() []ActCount {
	keys := slices.SortedFunc(maps.Keys(t.acts), func(a, b ActCount) int {
		return cmp.Or(cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Class, b.Class))
	})
	for i, k := range keys {
		keys[i].N = t.acts[k]
	}
	return keys
}
