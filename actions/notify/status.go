package notify

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// ChannelStatus is how a channel does. Counters count since the start.
type ChannelStatus struct {
	Name      string            `json:"name"`
	Type      string            `json:"type"`
	Class     Class             `json:"class"`
	MinLevel  policy.Level      `json:"min_level"`
	Parked    time.Time         `json:"parked,omitzero"`      // since when the service refuses its token, or whatever it is sent
	ParkedWhy string            `json:"parked_why,omitempty"` // what the service said
	Refused   time.Time         `json:"refused,omitzero"`     // since when the service does not take a call for somebody
	Silent    time.Time         `json:"silent,omitzero"`      // since when it is out of reach, once the others call in its place
	Waiting   int               `json:"waiting"`              // messages that are due now
	Oldest    time.Time         `json:"oldest,omitzero"`      // since when the oldest of them is
	Sent      uint64            `json:"sent"`
	Failed    map[Reason]uint64 `json:"failed,omitempty"` // attempts that failed
	Dropped   uint64            `json:"dropped"`          // messages that will never be sent: refused, or too old to matter
	LastSent  time.Time         `json:"last_sent,omitzero"`
	LastError string            `json:"last_error,omitempty"` // of the newest failure; empty again once something was sent
	FailedAt  time.Time         `json:"failed_at,omitzero"`
}

// Waiting is a message that is due, or will be.
type Waiting struct {
	Channel   string    `json:"channel"`
	Incident  string    `json:"incident"`
	Kind      Kind      `json:"kind"`
	Since     time.Time `json:"since"`      // when it became due, or will
	NotBefore time.Time `json:"not_before"` // the next attempt
	Attempts  int       `json:"attempts,omitempty"`
	LastError string    `json:"last_error,omitempty"`
}

// Channels says how the channels do, in the order of the configuration.
func (n *Notifier) Channels() []ChannelStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]ChannelStatus, 0, len(n.channels))
	for _, c := range n.channels {
		out = append(out, c.status(n.o.Now()))
	}
	return out
}

func (c *channel) status(now time.Time) ChannelStatus {
	s := ChannelStatus{
		Name: c.Name, Type: c.Type, Class: c.class, MinLevel: c.MinLevel,
		Parked: c.parked, ParkedWhy: c.parkedWhy,
		Sent: c.sent, Failed: maps.Clone(c.failed), Dropped: c.dropped,
		LastSent: c.lastSent, LastError: c.lastErr, FailedAt: c.failedAt,
	}
	if c.stoodIn {
		s.Silent = c.silent
	}
	for _, r := range c.recs {
		if refused := r.Refused.time(); r.uncalled() && c.class != Feed && (s.Refused.IsZero() || refused.Before(s.Refused)) {
			s.Refused = refused
		}
		if r.kind == "" || r.due.after(now) {
			continue
		}
		s.Waiting++
		if since := r.Since.time(); s.Oldest.IsZero() || since.Before(s.Oldest) {
			s.Oldest = since
		}
	}
	return s
}

// Queue returns what waits to be sent, with what is delayed by quiet hours or
// a silence but without reminders to come, by channel and age.
func (n *Notifier) Queue() []Waiting {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Waiting
	for _, c := range n.channels {
		for _, r := range c.recs {
			if r.kind != "" && (!r.due.after(n.o.Now()) || !c.routine(r)) {
				out = append(out, c.waiting(r))
			}
		}
	}
	slices.SortFunc(out, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), a.Since.Compare(b.Since), cmp.Compare(a.Incident, b.Incident))
	})
	return out
}

// routine: it is only sent again, as planned.
func (c *channel) routine(r *record) bool {
	return r.kind == KindRemind || c.class == Alert && r.Here && (r.kind == KindPost || r.Resolved != 0)
}

func (c *channel) waiting(r *record) Waiting {
	return Waiting{
		Channel: c.Name, Incident: r.ID, Kind: r.kind, Since: r.Since.time(),
		NotBefore: max(r.due, r.notBefore).time(), Attempts: r.attempts, LastError: r.lastErr,
	}
}
