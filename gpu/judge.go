package gpu

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// The correlation window around a failure, from gpu.md: the line of a fault
// comes before or shortly after the exit that it causes.
const (
	WindowBefore = 30 * time.Second
	WindowAfter  = 10 * time.Second
	Settle       = 2 * time.Second // Xid 154 and 79 come after what they follow
)

// State is all that is known of one GPU when a verdict is taken.
type State struct {
	Device  Device
	Reading *Reading // the newest; nil: it was never read
	Faults  []Fault  // within the window, oldest first; historic ones are left out by the caller
}

// Judgement is a verdict with what a human needs to know of it.
type Judgement struct {
	Verdict  Verdict       `json:"verdict"`
	Rule     string        `json:"rule"`               // xid_79, recovery_action, remap_failed, vram, hot, fabric, gpu_access_lost …
	Scope    Scope         `json:"scope,omitempty"`    // of a hold: one container, one GPU, every GPU
	GPU      string        `json:"gpu,omitempty"`      // UUID of the GPU it is about
	Cause    string        `json:"cause,omitempty"`    // one line, no full stop
	Evidence []string      `json:"evidence,omitempty"` // what it stands on: lines and readings
	Remedy   string        `json:"remedy,omitempty"`   // what a human should do, one sentence with the one command in backquotes
	Clears   Clearing      `json:"clears,omitempty"`   // of a hold
	NoKill   bool          `json:"no_kill,omitempty"`  // a stop or kill can hang for ever: send none
	Multi    bool          `json:"multi,omitempty"`    // it concerns only containers that use several GPUs
	Page     bool          `json:"page,omitempty"`     // a human is needed now
	For      time.Duration `json:"for,omitempty"`      // of a wait: after it a human is called
}

// ResetMends reports whether j holds a GPU for what a reset of it mends.
func (j *Judgement) ResetMends() bool {
	asked := j.Clears == ClearRecovery || j.Clears == ClearReset || strings.Contains(j.Remedy, "--gpu-reset")
	return j.Verdict == Hold && j.Scope == ScopeGPU && !j.NoKill && asked
}

// Case is what is known of a container that has failed.
type Case struct {
	Driver Driver
	GPUs   []Used
	Down   bool     // it has exited, so its memory should be free
	ID     string   // the container's full ID
	Gone   []string // what it asks for and is not there; see Mapping, also for Unread
	Unread []string
	Signs  []Sign        // of its last log lines, its check's output and its start's error
	Start  []Sign        // those of its start's error, which is the engine's word
	Waited time.Duration // since it first failed, for the waits that are bounded
}

// Used is a GPU of the container. Faults in it that carry another container's
// process are no reason for this one.
type Used struct {
	State
	Parts []MIG // the instances it uses; none: the whole GPU
}

// JudgeGPU says what the state of one GPU means for every container on it. Its
// verdict is Hold, Wait, or, when nothing is wrong with the GPU itself, Restart
// (app-scope faults are for [Judge]). What is not urgent is in its Evidence.
func JudgeGPU(d Driver, s State) Judgement {
	l := newLook(d, s)
	j, ok := worst(append(driverFindings(d), l.findings()...))
	if !ok {
		j = Judgement{Verdict: Restart, GPU: s.Device.UUID}
	}
	j.Evidence = bounded(append(driverEvidence(d), l.evidence("")...))
	return j
}

// worst picks the finding that counts: a hold over a wait, then the wider
// scope, then one that concerns every container, then the first.
func worst(found []Judgement) (Judgement, bool) {
	if len(found) == 0 {
		return Judgement{}, false
	}
	j := slices.MinFunc(found, func(a, b Judgement) int {
		return cmp.Or(
			cmp.Compare(urgency(a.Verdict), urgency(b.Verdict)),
			cmp.Compare(reach(a.Scope), reach(b.Scope)),
			cmp.Compare(few(a.Multi), few(b.Multi)))
	})
	j.NoKill = slices.ContainsFunc(found, func(f Judgement) bool { return f.NoKill })
	return j, true
}

func urgency(v Verdict) int {
	if v == Hold {
		return 0
	}
	return 1
}

func reach(s Scope) int {
	return slices.Index([]Scope{ScopeHost, ScopeGPU, ScopeApp, ScopeNone}, s)
}

func few(multi bool) int {
	if multi {
		return 1
	}
	return 0
}
