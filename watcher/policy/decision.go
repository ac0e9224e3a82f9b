package policy

import (
	"log/slog"
	"time"
)

// Verb is what a Decision wants done.
type Verb string

// Inspect is an ask: read-only, ungated, allowed in observe mode. Restart,
// Start and Stop are acts. Note is the explicit choice not to act, or a change
// that people should read.
const (
	VerbInspect Verb = "inspect"
	VerbRestart Verb = "restart"
	VerbStart   Verb = "start"
	VerbStop    Verb = "stop"
	VerbNote    Verb = "note"
)

// Act reports whether the verb changes the world.
func (v Verb) Act() bool { return v == VerbRestart || v == VerbStart || v == VerbStop }

// Decision is an ask, an act, or the choice not to act, with the stable name
// of the rule that chose it and one sentence for a human.
type Decision struct {
	ID          uint64        `json:"id"`
	At          time.Time     `json:"at"`
	Unit        string        `json:"unit,omitempty"`
	Name        string        `json:"name,omitempty"` // the container's name
	Container   string        `json:"container,omitempty"`
	StartedAt   time.Time     `json:"started_at,omitzero"` // of the incarnation that was judged
	Verb        Verb          `json:"verb"`
	Rule        string        `json:"rule"`
	Reason      string        `json:"reason"`
	StopTimeout time.Duration `json:"stop_timeout,omitempty"` // restart and stop: what to send, always set
	Within      time.Duration `json:"within,omitempty"`       // how long the ask or act may take
	Charged     bool          `json:"charged,omitempty"`      // it costs budget
	Incident    string        `json:"incident,omitempty"`
	Paged       bool          `json:"paged,omitempty"`
}

// LogValue implements [slog.LogValuer].
func (d Decision) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Uint64("id", d.ID), slog.String("container", d.Name), slog.String("verb", string(d.Verb)),
		slog.String("rule", d.Rule), slog.String("reason", d.Reason),
	}
	if d.Incident != "" {
		attrs = append(attrs, slog.String("incident", d.Incident))
	}
	return slog.GroupValue(attrs...)
}
