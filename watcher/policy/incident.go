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
	Project  string    `json:"project,omitempty"` // of compose; the unit may be gone when people are told
	Opened   time.Time `json:"opened"`
	Closed   time.Time `json:"closed,omitzero"`
	End      string    `json:"end,omitempty"` // recovered, stopped, removed, failed (a GPU reset), ended (of several, not all alike)
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
	Ended    Ends      `json:"ended,omitzero"`     // how many of its children ended, by their End
	Evidence *Evidence `json:"evidence,omitempty"` // of the newest failure
	GPUs     []string  `json:"gpus,omitempty"`     // what was seen of its GPUs then, a line each
	Root     string    `json:"root,omitempty"`     // the first of several incidents of one unit that followed each other within 15 min; empty: itself
	Times    int       `json:"times,omitempty"`    // which of them this is, from 2 on; 0: there was none before it
	Changed  []string  `json:"changed,omitempty"`  // what changed in the 24 h before it: image, configuration, driver, boot
	Ack      *Ack      `json:"ack,omitempty"`      // somebody has taken it; nil again once that has expired
}

// Ack is somebody's word that they look after an incident. Until it expires,
// nobody is reminded.
type Ack struct {
	By    string    `json:"by"`
	Why   string    `json:"why,omitempty"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
}

// Change is something that changed on the host, kept for a day: most failures
// have one before them.
type Change struct {
	At   time.Time `json:"at"`
	Unit string    `json:"unit,omitempty"` // empty: the host
	What string    `json:"what"`           // a phrase: "the image is now sha256:3f2a…"
}

// Step is one line of an incident's story.
type Step struct {
	At   time.Time `json:"at"`
	Rule string    `json:"rule"`
	Text string    `json:"text"`
}
