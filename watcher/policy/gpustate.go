package policy

import (
	"time"

	"github.com/defib-dev/defib/gpu"
)

// GPUHost is what is remembered of the GPUs of the host.
type GPUHost struct {
	Driver    gpu.Driver `json:"driver,omitzero"`
	Since     time.Time  `json:"since,omitzero"`       // of Driver.State
	KernelLog string     `json:"kernel_log,omitempty"` // why it cannot be read
	GPUs      []GPU      `json:"gpus,omitempty"`       // by index
	Reset     *GPUReset  `json:"reset,omitempty"`      // under way
	Known     string     `json:"known,omitempty"`      // the version of the driver that last answered; empty: none ever did
	GPUTold              // of the driver, and of all GPUs together
}

// GPUTold is what people were told of a GPU, and what they said to that.
type GPUTold struct {
	Incident string    `json:"incident,omitempty"` // the open one about it
	Paged    time.Time `json:"paged,omitzero"`     // when a human was last called about it
	PageAt   time.Time `json:"page_at,omitzero"`   // a human is called then, if it is still held
	CloseAt  time.Time `json:"close_at,omitzero"`  // nothing holds it: its incident is closed then
	Waived   []string  `json:"waived,omitempty"`   // the findings of holds that an operator released; they are not set again at once
}

// GPU is all that is remembered of one GPU.
type GPU struct {
	gpu.Device
	Reading  gpu.Reading `json:"reading,omitzero"`   // the newest
	Faults   []gpu.Fault `json:"faults,omitempty"`   // of the last 24 h, at most 32, oldest first
	Blamed   []Blame     `json:"blamed,omitempty"`   // restarts for a fault of an application, of the last 24 h
	JudgeAt  time.Time   `json:"judge_at,omitzero"`  // its state is to be judged then, on a fresh reading
	LookAt   time.Time   `json:"look_at,omitzero"`   // it is held, and looked at then whatever is heard of it
	Ask      uint64      `json:"ask,omitempty"`      // the question in flight
	AskUntil time.Time   `json:"ask_until,omitzero"` // unanswered then, what is known must do
	Zeros    int         `json:"zeros,omitempty"`    // readings in a row, while it is held, in which it is well
	ZeroFrom time.Time   `json:"zero_from,omitzero"` // the first of them
	Cleared  time.Time   `json:"cleared,omitzero"`   // what was reported before it has been dealt with
	Flaps    int         `json:"flaps,omitempty"`    // how often of late it was let go and held again
	GPUTold
}

// Blame is one restart that a fault of an application led to.
type Blame struct {
	At   time.Time `json:"at"`
	Code int       `json:"code"`
	Unit string    `json:"unit"`
}

// ResetPhase is how far a GPU reset has come.
type ResetPhase string

// The phases.
const (
	ResetStopping  ResetPhase = "stopping"  // the containers on it end
	ResetRunning   ResetPhase = "resetting" // the reset command runs
	ResetVerifying ResetPhase = "verifying" // the driver is asked how the GPU is
)

// GPUReset is a reset that an operator asked for.
type GPUReset struct {
	GPU      string     `json:"gpu"` // UUID
	By       string     `json:"by"`
	Phase    ResetPhase `json:"phase"`
	Since    time.Time  `json:"since"`
	Decision uint64     `json:"decision,omitempty"` // of the reset command
	Next     time.Time  `json:"next,omitzero"`      // verifying: the driver is asked again then
	Unsure   bool       `json:"unsure,omitempty"`   // defib was ended while the command was to run
	Units    []string   `json:"units,omitempty"`    // stopped for it
	Incident string     `json:"incident,omitempty"`
}

// GPUStatus is a GPU as people and programs read it.
type GPUStatus struct {
	gpu.Device
	Reading   gpu.Reading `json:"reading"`
	LastFault *gpu.Fault  `json:"last_fault,omitempty"`
	Meaning   string      `json:"meaning,omitempty"` // of the last fault
	Units     []string    `json:"units,omitempty"`   // names of the watched containers that use it, or may
	Hold      *Hold       `json:"hold,omitempty"`
	Clears    string      `json:"clears,omitempty"` // how the hold ends, one sentence
	Reset     string      `json:"reset,omitempty"`  // of one under way: how far it is
	Incident  string      `json:"incident,omitempty"`
}
