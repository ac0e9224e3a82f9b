package policy

import (
	"container/heap"
	"time"
)

// timers is a heap of units by the time at which each wants to be looked at.
type timers []*unit

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	if !t[i].wake.Equal(t[j].wake) {
		return t[i].wake.Before(t[j].wake)
	}
	return t[i].Key < t[j].Key
}

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push implements [heap.Interface].
func (t *timers) Push(x any) {
	u := x.(*unit)
	u.index = len(*t)
	*t = append(*t, u)
}

// Pop implements [heap.Interface].
func (t *timers) Pop() any {
	old := *t
	u := old[len(old)-1]
	u.index = -1
	*t = old[:len(old)-1]
	return u
}

// schedule sets when u is looked at again; zero is never.
func (m *Machine) schedule(u *unit, at time.Time) {
	u.wake = at
	switch {
	case at.IsZero() && u.index >= 0:
		heap.Remove(&m.timers, u.index)
	case at.IsZero():
	case u.index >= 0:
		heap.Fix(&m.timers, u.index)
	default:
		heap.Push(&m.timers, u)
	}
}
