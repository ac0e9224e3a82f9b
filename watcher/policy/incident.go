package policy

import "time"

// Level says how loudly an incident is told.
type Level string

// The levels.
const (
	LevelInfo Level = "info" // repaired by itself, quickly
	LevelWarn Level = "warn" // look at it in working hours
	LevelPage Level = "page" // somebody must look now
)

// Incident is everything from a unit's first departure from healthy to its
// recovery, a human's stop, or its removal. Each change raises Rev.
type Incident struct {
	ID       string    `json:"id"` // INC-7F3K: short enough to say aloud
	Rev      int       `json:"rev"`
	Unit     string    `json:"unit,omitempty"` // empty: the host, or several units together
	Name     string    `json:"name"`
	Opened   time.Time `json:"opened"`
	Closed   time.Time `json:"closed,omitzero"`
	End      string    `json:"end,omitempty"` // recovered, stopped, removed
	Level    Level     `json:"level"`
	Rule     string    `json:"rule"`
	Cause    string    `json:"cause"`              // one line
	Repairs  int       `json:"repairs,omitempty"`  // acts charged to it
	Failures int       `json:"failures,omitempty"` // failed verdicts in it
	Steps    []Step    `json:"steps"`              // oldest first, at most 50: the first and the newest
	Paged    time.Time `json:"paged,omitzero"`
	NeedsYou bool      `json:"needs_you,omitempty"` // nothing more happens by itself
	Parent   string    `json:"parent,omitempty"`    // the correlated incident it belongs to
	Children []string  `json:"children,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"` // of the newest failure
}

// Step is one line of an incident's story.
type Step struct {
	At   time.Time `json:"at"`
	Rule string    `json:"rule"`
	Text string    `json:"text"`
}
