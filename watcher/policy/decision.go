package policy

import (
	"log/slog"
	"time"
)

// Verb is what a Decision wants done.
type Verb string

// Inspect, Examine and Poll are asks: read-only, ungated, allowed in observe
// mode. Restart, Start, Stop and ResetGPU are acts. Note is the explicit choice
// not to act, or a change that people should read.
const (
	VerbInspect  Verb = "inspect"
	VerbExamine  Verb = "examine" // GPUs, Check, PID, Logs of a unit; answered by KindExamined
	VerbPoll     Verb = "poll"    // GPUs; answered by KindGPUReading, or not at all
	VerbRestart  Verb = "restart"
	VerbStart    Verb = "start"
	VerbStop     Verb = "stop"
	VerbResetGPU Verb = "reset_gpu" // GPUs, one; no unit: let NVML go and run the reset command
	VerbNote     Verb = "note"
)

// Act reports whether the verb changes the world.
func (v Verb) Act() bool {
	return v == VerbRestart || v == VerbStart || v == VerbStop || v == VerbResetGPU
}

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
	GPUs        []string      `json:"gpus,omitempty"`       // UUIDs: to poll, examine or reset
	Check       bool          `json:"check,omitempty"`      // examine: run the container's own health check once
	Logs        bool          `json:"logs,omitempty"`       // examine: look for signs in the last log lines
	PID         int           `json:"pid,omitempty"`        // examine: wait for its end, unless the check has failed …
	PIDWithin   time.Duration `json:"pid_within,omitempty"` // … for so long
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
