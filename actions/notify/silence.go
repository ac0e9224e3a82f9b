package notify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrNoSilence says that no silence has this ID.
var ErrNoSilence = errors.New("there is no such silence")

// Silence keeps the incidents that it matches untold for a time. What is
// empty matches everything; all that is set must match, and may hold * and ?.
type Silence struct {
	ID      string    `json:"id"`
	Unit    string    `json:"unit,omitempty"` // the container's name, or the unit's key
	Project string    `json:"project,omitempty"`
	Label   string    `json:"label,omitempty"` // key=value, or key alone for any value
	Rule    string    `json:"rule,omitempty"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	From    time.Time `json:"from"` // zero when it is added: now
	Until   time.Time `json:"until"`
}

func (s Silence) check(now time.Time) error {
	switch {
	case s.Unit == "" && s.Project == "" && s.Label == "" && s.Rule == "":
		return errors.New("say what it silences: a unit, a project, a label or a rule (* for all)")
	case s.By == "":
		return errors.New("say who asks for it")
	case s.Why == "":
		return errors.New("say why: others will wonder about the quiet")
	case s.Until.IsZero():
		return errors.New("say when it ends: a silence has to")
	case !s.Until.After(now) || !s.Until.After(s.From):
		return fmt.Errorf("it would end at %s, before it begins", s.Until.Format(time.RFC3339))
	}
	return nil
}

func (s Silence) matches(x topic) bool {
	key, value, _ := strings.Cut(s.Label, "=")
	return x.named(s.Unit) && (s.Project == "" || glob(s.Project, x.Project)) &&
		x.labelled(key, value) && (s.Rule == "" || glob(s.Rule, x.rule))
}

// AddSilence begins a silence and returns it with its ID. Its error is a
// sentence about what it lacks.
func (n *Notifier) AddSilence(s Silence) (Silence, error) {
	now := n.o.Now()
	if s.From.IsZero() {
		s.From = now
	}
	if err := s.check(now); err != nil {
		return Silence{}, err
	}
	n.silencing.Lock()
	defer n.silencing.Unlock()
	n.mu.Lock()
	n.lastID++
	s.ID = fmt.Sprintf("S%d", n.lastID)
	n.mu.Unlock()
	n.setSilences(append(n.Silences(), s))
	return s, nil
}

// Silences returns those that have not ended, the first to end first.
func (n *Notifier) Silences() []Silence {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := slices.DeleteFunc(slices.Clone(n.silences), func(s Silence) bool { return !s.Until.After(n.o.Now()) })
	slices.SortFunc(out, func(a, b Silence) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.ID, b.ID)) })
	return out
}

// RemoveSilence ends a silence, or returns [ErrNoSilence].
func (n *Notifier) RemoveSilence(id string) error {
	n.silencing.Lock()
	defer n.silencing.Unlock()
	list := n.Silences()
	i := slices.IndexFunc(list, func(s Silence) bool { return s.ID == id })
	if i < 0 {
		return fmt.Errorf("remove silence %q: %w", id, ErrNoSilence)
	}
	n.setSilences(slices.Delete(list, i, i+1))
	return nil
}

// setSilences stores the list and has everything looked at anew. The disk is
// waited for without n.mu, which Wake needs.
func (n *Notifier) setSilences(list []Silence) {
	n.mu.Lock()
	n.silences = list
	last := n.lastID
	for _, c := range n.channels {
		c.again()
	}
	n.mu.Unlock()
	n.store.putSilences(list, last)
}

// silencedUntil is when the last of the silences over x ends; zero: none is.
func (n *Notifier) silencedUntil(x topic, now time.Time) time.Time {
	var until time.Time
	for _, s := range n.silences {
		if !s.From.After(now) && s.Until.After(now) && s.Until.After(until) && s.matches(x) {
			until = s.Until
		}
	}
	return until
}
