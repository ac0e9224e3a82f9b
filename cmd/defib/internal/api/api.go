// Package api is what the commands and the daemon say to each other: JSON over
// HTTP on a unix socket. Everything under /v1 keeps its meaning.
package api

import (
	"time"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// Version is the version of every document here.
const Version = 1

// Host is what people and programs may know of the host as a whole.
type Host struct {
	Connected     bool            `json:"connected"` // to Docker
	Synced        bool            `json:"synced"`    // every watched container has been looked at since
	Since         time.Time       `json:"since,omitzero"`
	Reason        string          `json:"reason,omitempty"` // why it is not connected
	Engine        string          `json:"engine,omitempty"` // the host's name, as Docker has it
	EngineVersion string          `json:"engine_version,omitempty"`
	Settle        time.Time       `json:"settle,omitzero"` // no act before it
	SettleWhy     string          `json:"settle_why,omitempty"`
	RepairsLeft   int             `json:"repairs_left"` // by the budget, now
	Holds         []policy.Hold   `json:"holds,omitempty"`
	Panics        []policy.Panic  `json:"panics,omitempty"`
	Healers       []policy.Healer `json:"healers,omitempty"`
	GPUsHeld      []string        `json:"gpus_held,omitempty"` // those on which nothing is restarted, by index
}

// Status answers GET /v1/status.
type Status struct {
	Version int             `json:"version"`
	At      time.Time       `json:"at"`
	Observe bool            `json:"observe"`
	Host    Host            `json:"host"`
	Units   []policy.Status `json:"units"`            // by name
	Others  []policy.Other  `json:"others,omitempty"` // what is not watched; only with ?all=1
	// Channels are those that are parked, or on which messages wait.
	Channels []notify.ChannelStatus `json:"channels,omitempty"`
}

// Unit answers GET /v1/units/{name}.
type Unit struct {
	Version   int               `json:"version"`
	At        time.Time         `json:"at"`
	Observe   bool              `json:"observe"`
	Host      Host              `json:"host"`
	Unit      policy.Status     `json:"unit"`
	Incidents []policy.Incident `json:"incidents"` // the last 5, newest first
	// GPUs are those that it uses, or may use.
	GPUs []policy.GPUStatus `json:"gpus,omitempty"`
}

// GPUs answers GET /v1/gpus.
type GPUs struct {
	Version   int                `json:"version"`
	At        time.Time          `json:"at"`
	Driver    gpu.Driver         `json:"driver"`
	KernelLog string             `json:"kernel_log,omitempty"` // why the kernel log cannot be read
	GPUs      []policy.GPUStatus `json:"gpus"`                 // by index
}

// Incidents answers GET /v1/incidents.
type Incidents struct {
	Version   int               `json:"version"`
	At        time.Time         `json:"at"`
	Incidents []policy.Incident `json:"incidents"` // newest first
}

// Incident answers GET /v1/incidents/{id}.
type Incident struct {
	Version  int             `json:"version"`
	At       time.Time       `json:"at"`
	Incident policy.Incident `json:"incident"`
}

// Line is one line of GET /v1/events. Where only a loss is to be told, because
// what came after it is about another unit, its event has a time and no kind.
type Line struct {
	Version   int               `json:"version"`
	Event     policy.Event      `json:"event"`
	Decisions []policy.Decision `json:"decisions,omitempty"`
	Lost      int               `json:"lost,omitempty"` // events missed before this one, because the reader was slow
}

// Order is the body of POST /v1/command.
type Order struct {
	policy.Command      // By is set by the server
	Wait           bool `json:"wait,omitempty"` // restart, stop, gpu_reset: answer when its outcome is known
}

// Result is what came of an order.
type Result string

// The results.
const (
	Done    Result = "done"
	Begun   Result = "begun"   // an act is under way; nobody waited for it
	Refused Result = "refused" // nothing was done, Text says why
	Failed  Result = "failed"  // it was tried
)

// Answer answers POST /v1/command.
type Answer struct {
	Version   int               `json:"version"`
	Result    Result            `json:"result"`
	Text      string            `json:"text"` // a sentence
	Took      time.Duration     `json:"took_ns,omitempty"`
	Decisions []policy.Decision `json:"decisions,omitempty"`
	Unit      *policy.Status    `json:"unit,omitempty"` // after it
	GPU       *policy.GPUStatus `json:"gpu,omitempty"`  // after it
}

// Health answers GET /v1/health, with status 503 when OK is false.
type Health struct {
	Version int    `json:"version"`
	OK      bool   `json:"ok"`
	Text    string `json:"text"`
}

// Build answers GET /v1/version.
type Build struct {
	Version  int    `json:"version"`
	Defib    string `json:"defib"` // of the program
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	PID      int    `json:"pid,omitempty"` // of the daemon
}

// problem is the body of every answer that is not 200.
type problem struct {
	Version int    `json:"version"`
	Error   string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}

// hostOf is what may be told of the host in a view.
func hostOf(v *watcher.View) Host {
	h := v.Host
	return Host{
		Connected: h.Connected, Synced: h.Synced, Since: h.Since, Reason: h.Reason,
		Engine: h.Engine.Name, EngineVersion: h.Engine.Version,
		Settle: h.Settle, SettleWhy: h.SettleWhy, RepairsLeft: int(h.Tokens),
		Holds: h.Holds, Panics: h.Panics, Healers: h.Engine.Healers, GPUsHeld: held(v.GPUs),
	}
}
