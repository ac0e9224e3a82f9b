package policy

import (
	"time"

	"github.com/defib-dev/defib/gpu"
)

// Host is what is remembered of the host as a whole.
type Host struct {
	NextID     uint64    `json:"next_id"`
	Incidents  uint64    `json:"incidents,omitempty"` // opened so far
	FirstID    uint64    `json:"first_id,omitempty"`  // of them, so that hosts that share a chat differ
	BootID     string    `json:"boot_id,omitempty"`
	Connected  bool      `json:"connected,omitempty"`
	Synced     bool      `json:"synced,omitempty"`
	Generation uint64    `json:"generation,omitempty"`
	Engine     Engine    `json:"engine,omitzero"`
	Since      time.Time `json:"since,omitzero"` // of Connected's newest change
	Reason     string    `json:"reason,omitempty"`
	Paged      bool      `json:"paged,omitempty"`    // for this disconnection
	Incident   string    `json:"incident,omitempty"` // the open one about the host
	Settle     time.Time `json:"settle,omitzero"`    // no act before it
	SettleWhy  string    `json:"settle_why,omitempty"`
	Tokens     float64   `json:"tokens"` // repairs that the budget allows now
	TokensAt   time.Time `json:"tokens_at,omitzero"`
	Holds      []Hold    `json:"holds,omitempty"`
	Panics     []Panic   `json:"panics,omitempty"`
	Others     []Other   `json:"others,omitempty"`
	GPU        GPUHost   `json:"gpu,omitzero"`
	Changes    []Change  `json:"changes,omitempty"` // of the last 24 h, oldest first, at most 64
	Now        time.Time `json:"now,omitzero"`      // of the newest event
}

// Snapshot is the whole state of a Machine: what Restore takes up again.
type Snapshot struct {
	Host      Host       `json:"host"`
	Units     []Unit     `json:"units"`     // by Key
	Incidents []Incident `json:"incidents"` // the open ones, by ID
}

// Changes is what must be durable before the decisions of the same steps may
// be carried out.
type Changes struct {
	Host      *Host      // nil when unchanged
	Units     []Unit     // whole records, by Key
	Forgotten []string   // keys of units that are no more
	Incidents []Incident // new revisions, by ID; a closed one is kept for its 90 days
}

// Empty reports whether nothing durable changed.
func (c Changes) Empty() bool {
	return c.Host == nil && len(c.Units) == 0 && len(c.Forgotten) == 0 && len(c.Incidents) == 0
}

// HoldReason names why acts are blocked.
type HoldReason string

// The reasons.
const (
	HoldOperator   HoldReason = "operator"
	HoldGPU        HoldReason = "gpu"
	HoldVRAM       HoldReason = "vram"
	HoldStuck      HoldReason = "stuck"
	HoldDisk       HoldReason = "disk"
	HoldDependency HoldReason = "dependency"
	HoldPanic      HoldReason = "panic"
	HoldBudget     HoldReason = "budget"
	HoldSlot       HoldReason = "slot"
)

// Scope says what a hold covers.
type Scope string

// The scopes. A Target names the unit key, the compose project or the GPU;
// the host has none.
const (
	ScopeUnit    Scope = "unit"
	ScopeProject Scope = "project"
	ScopeGPU     Scope = "gpu"
	ScopeHost    Scope = "host"
)

// Hold is a named reason that blocks acts, never observation.
type Hold struct {
	Reason HoldReason `json:"reason"`
	Scope  Scope      `json:"scope"`
	Target string     `json:"target,omitempty"`
	Since  time.Time  `json:"since,omitzero"`
	Until  time.Time  `json:"until,omitzero"` // zero: until it is cleared
	By     string     `json:"by,omitempty"`
	Why    string     `json:"why,omitempty"`
	Part   string     `json:"part,omitempty"` // of a hold on a GPU: state or fault; each clears by itself
	File   string     `json:"file,omitempty"` // that is the hold: it ends when the file is removed
	// Of a hold on a GPU: what it stands on, and how it ends.
	Judgement *gpu.Judgement `json:"judgement,omitempty"`
}

// Status is a unit as people and programs read it.
type Status struct {
	Key          string    `json:"key"`
	Name         string    `json:"name"`
	Project      string    `json:"project,omitempty"`
	Container    string    `json:"container"`
	Image        string    `json:"image,omitempty"`
	State        State     `json:"state"`
	Detail       string    `json:"detail,omitempty"` // "not ready", "by docker", "restarting" …
	Mode         Mode      `json:"mode"`
	Managed      string    `json:"managed"` // what opted it in: defib.enable, autoheal, deunhealth, --all
	Since        time.Time `json:"since"`
	Rule         string    `json:"rule,omitempty"`
	Reason       string    `json:"reason,omitempty"` // one sentence
	Health       string    `json:"health"`           // healthy, unhealthy, starting, broken check, no check, —
	HealthOutput string    `json:"health_output,omitempty"`
	Restarts24h  int       `json:"restarts_24h"` // repairs charged in the last 24 h
	LastExit     *Exit     `json:"last_exit,omitempty"`
	GPUs         []string  `json:"gpus,omitempty"`           // by index where the driver tells, else as the container names them
	GPUNote      string    `json:"gpu_note,omitempty"`       // how sure that is, and what was seen
	WouldAct     bool      `json:"would_act"`                // if it failed now, or has failed: would defib act?
	WhyNot       []string  `json:"why_not,omitempty"`        // each hold, delay or setting that stops it, as a sentence
	Releases     []string  `json:"releases,omitempty"`       // the commands that end the holds of operators on it
	Next         string    `json:"next,omitempty"`           // "restart", "waiting for you", "watching" …
	NextAt       time.Time `json:"next_at,omitzero"`         // when, if a time is known
	PagesAt      time.Time `json:"pages_at,omitzero"`        // when a human is called if nothing changes
	Incident     string    `json:"incident,omitempty"`       // the open one
	Settings     []Setting `json:"settings,omitempty"`       // the policy in effect, and where each value came from
	Warnings     []string  `json:"warnings,omitempty"`       // labels that made no sense
	Retries      string    `json:"retries,omitempty"`        // "2 of 5"
	ReadyAfter   Duration  `json:"ready_after_ns,omitempty"` // learned time to ready, median

	Labels map[string]string `json:"-"` // of the container, as they are: for routes and silences
}

// Setting is one value of a unit's policy with its source.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // "label defib.unhealthy_for", "config.yaml defaults", "built-in" …
}

// Exit is how a run of a container ended.
type Exit struct {
	At        time.Time `json:"at"`
	Code      int       `json:"code"`
	OOMKilled bool      `json:"oom_killed,omitempty"`
	Error     string    `json:"error,omitempty"` // of a start that failed
}
