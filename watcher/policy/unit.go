package policy

import "time"

// State is what a unit is in, in Supervisor's words where it has one.
type State string

// The states.
const (
	Unknown   State = "unknown"
	Stopped   State = "stopped"
	Starting  State = "starting"
	Running   State = "running"
	Unhealthy State = "unhealthy"
	Repairing State = "repairing"
	Backoff   State = "backoff"
	Held      State = "held"
	Fatal     State = "fatal"
	Paused    State = "paused"
)

// Mode says whether a unit's failures lead to acts.
type Mode string

// The modes.
const (
	ModeAct     Mode = "act"
	ModeObserve Mode = "observe"
)

// Unit is all that is remembered of one supervised container under its stable
// identity. It is plain JSON: state file, page and command line share it.
type Unit struct {
	Key       string    `json:"key"`
	Name      string    `json:"name"`
	Project   string    `json:"project,omitempty"`
	State     State     `json:"state"`
	Detail    string    `json:"detail,omitempty"` // restarting, starting, stopping, by docker, not ready
	Since     time.Time `json:"since"`
	Rule      string    `json:"rule,omitempty"` // what put it into State
	Reason    string    `json:"reason,omitempty"`
	WantDown  bool      `json:"want_down,omitempty"` // a human stopped it, or its job is done
	Seen      bool      `json:"seen,omitempty"`      // observed in this generation
	EventRead time.Time `json:"event_read,omitzero"` // of the newest engine event applied
	Last      Observation
	Run       Run           `json:"run"`
	Check     Check         `json:"check,omitzero"`
	Level     int           `json:"level,omitempty"`       // charged repairs not yet forgotten; sets the delay
	Streak    int           `json:"streak,omitempty"`      // useless incarnations in a row; leads to FATAL
	Credit    time.Duration `json:"credit,omitempty"`      // ready time not yet turned into a lower level
	Repairs   []time.Time   `json:"repairs,omitempty"`     // charged, of the last 24 h
	Throttled bool          `json:"throttled,omitempty"`   // 20 repairs in 24 h: one per 30 min
	TTR       []Duration    `json:"ttr,omitempty"`         // the last 10 times to ready of this version
	Failure   *Failure      `json:"failure,omitempty"`     // the failed verdict that stands
	Op        *Op           `json:"op,omitempty"`          // the act in flight
	Ask       *Ask          `json:"ask,omitempty"`         // the question in flight
	Stop      *StopSeen     `json:"stop,omitempty"`        // somebody is stopping it, or did, not yet certain
	Ours      bool          `json:"ours,omitempty"`        // our own act left it down
	EngineHit bool          `json:"engine_hit,omitempty"`  // it was up when its engine process ended
	Giveup    *Giveup       `json:"giveup,omitempty"`      // FATAL, and what follows from it
	DownSince time.Time     `json:"down_since,omitzero"`   // not ready though it should run
	Paged     bool          `json:"paged,omitempty"`       // for this downtime
	Gone      time.Time     `json:"gone,omitzero"`         // its container was removed
	Incident  string        `json:"incident,omitempty"`    // the open one
	Fixed     string        `json:"fixed,omitempty"`       // the container whose start failure has a standing note
	LastExit  *Exit         `json:"last_exit,omitempty"`   // the newest end of a run
	SaidRule  string        `json:"said_rule,omitempty"`   // the newest note, said once
	Canary    bool          `json:"canary,omitempty"`      // its repair proves the way for others
	Slot      time.Time     `json:"slot,omitzero"`         // its GPUs are taken for loading until then
	Touched   time.Time     `json:"touched,omitzero"`      // by an operator, newest
	Lost      string        `json:"lost,omitempty"`        // the newest exit happened while nobody watched
	Budgeted  bool          `json:"budget_free,omitempty"` // released by a canary: the next act costs no budget
	Retry     time.Time     `json:"retry,omitzero"`        // no further ask or act before it
}

// Duration is a time.Duration that reads as seconds in JSON.
type Duration = time.Duration
