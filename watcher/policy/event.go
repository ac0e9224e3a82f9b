package policy

import (
	"time"

	"github.com/defib-dev/defib/gpu"
)

// Kind names a fact. Facts that Docker reports as events keep Docker's own
// word for them.
type Kind string

// The facts. The comment names the fields that each kind uses beside At.
const (
	KindDaemonStart Kind = "daemon_start" // BootID: this process took over from the one that wrote the state
	KindSourceUp    Kind = "source_up"    // Generation, Engine: a connection to one engine process stands
	KindSourceDown  Kind = "source_down"  // Reason: it broke
	KindSynced      Kind = "synced"       // Generation, Others, Engine (its Healers): every watched container has been observed once
	KindObserved    Kind = "observed"     // Unit, Container, Generation, Read, Observation, and Decision when asked for
	KindUnseen      Kind = "unseen"       // Unit, Container, Generation, Read, Reason, Decision: an inspect failed
	KindCreate      Kind = "create"       // Unit, Container, Generation, Read, EngineTime, as all below
	KindStart       Kind = "start"
	KindRestart     Kind = "restart"
	KindKill        Kind = "kill" // and Signal
	KindStop        Kind = "stop"
	KindDie         Kind = "die" // and ExitCode
	KindOOM         Kind = "oom"
	KindPause       Kind = "pause"
	KindUnpause     Kind = "unpause"
	KindRename      Kind = "rename" // and Reason: the key of the unit before it
	KindDestroy     Kind = "destroy"
	KindOutcome     Kind = "outcome"      // Unit, Decision, Outcome
	KindCommand     Kind = "command"      // Command
	KindConfig      Kind = "config"       // Config: a changed configuration takes effect; nothing emits it yet
	KindHoldSet     Kind = "hold_set"     // Hold: a fact found elsewhere (GPU, disk) that blocks acts
	KindHoldCleared Kind = "hold_cleared" // Hold (its Reason, Scope and Target): that fact has ended
	KindTick        Kind = "tick"         // the Deadline has come
	KindGPUDriver   Kind = "gpu_driver"   // GPU.Driver, and GPU.Devices when it is up: the driver's state has changed
	KindGPUReading  Kind = "gpu_reading"  // GPU.Readings: something in them has changed, or Decision asked
	KindGPUFault    Kind = "gpu_fault"    // GPU.Fault: NVML or the kernel log reports one
	KindKernelLog   Kind = "kernel_log"   // Reason: why the kernel log cannot be read; empty: it is
	KindExamined    Kind = "examined"     // Unit, Container, Decision, Examination
)

// Event is one fact, stamped once, by the loop, as it arrives. It is plain
// JSON, so that yesterday's events can be played again.
type Event struct {
	At         time.Time `json:"at"`
	Kind       Kind      `json:"kind"`
	Unit       string    `json:"unit,omitempty"`
	Container  string    `json:"container,omitempty"` // full ID
	Decision   uint64    `json:"decision,omitempty"`  // whose answer or outcome this is
	Generation uint64    `json:"generation,omitempty"`
	// Read is when an engine event was read off the stream, or when the call
	// behind an observation was sent; both on the clock of At. An observation
	// sent before the newest event of its unit was read says nothing new.
	Read time.Time `json:"read,omitzero"`
	// EngineTime is the engine's own time of an engine event.
	EngineTime  time.Time    `json:"engine_time,omitzero"`
	Replayed    bool         `json:"replayed,omitempty"` // out of the engine's look-back, not live
	Signal      int          `json:"signal,omitempty"`
	ExitCode    int          `json:"exit_code,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	BootID      string       `json:"boot_id,omitempty"`
	Engine      *Engine      `json:"engine,omitempty"`
	Observation *Observation `json:"observation,omitempty"`
	Outcome     *Outcome     `json:"outcome,omitempty"`
	Command     *Command     `json:"command,omitempty"`
	Hold        *Hold        `json:"hold,omitempty"`
	Config      *Config      `json:"config,omitempty"`
	Others      []Other      `json:"others,omitempty"`
	GPU         *GPUFacts    `json:"gpu,omitempty"`
	Examination *Examination `json:"examination,omitempty"`
}

// GPUFacts is what was learned of the GPUs; which fields are set, Kind says.
type GPUFacts struct {
	Driver   *gpu.Driver   `json:"driver,omitempty"`
	Devices  []gpu.Device  `json:"devices,omitempty"`
	Readings []gpu.Reading `json:"readings,omitempty"`
	Fault    *gpu.Fault    `json:"fault,omitempty"`
}

// Examination answers [VerbExamine].
type Examination struct {
	Readings []gpu.Reading `json:"readings,omitempty"` // of Decision.GPUs, read just now, with processes; none: no driver answered
	Check    *Probe        `json:"check,omitempty"`    // the container's own health check, run once by us; nil: it has none, or was not asked for
	CheckErr string        `json:"check_err,omitempty"`
	// PIDExited: Decision.PID has ended, and it was one of the container's own
	// processes, started by its program and not by a `docker exec`.
	PIDExited bool       `json:"pid_exited,omitempty"`
	Signs     []gpu.Sign `json:"signs,omitempty"`     // of the last log lines
	SignLine  string     `json:"sign_line,omitempty"` // the newest line that has one, masked
}

// Process says whether a new connection reached the same engine process as
// the one before it.
type Process string

// The answers. Unknown is treated with the caution that both need.
const (
	ProcessSame    Process = "same"    // kills replayed from its look-back are what people did meanwhile
	ProcessNew     Process = "new"     // kills in its look-back are its own, from its start
	ProcessUnknown Process = "unknown" // the look-back holds no proof either way
)

// Engine is what a new connection learned of the engine and its host.
type Engine struct {
	ID          string        `json:"id,omitempty"`
	Name        string        `json:"name,omitempty"`
	Version     string        `json:"version,omitempty"`
	APIVersion  string        `json:"api_version,omitempty"`
	Process     Process       `json:"process"`
	LiveRestore bool          `json:"live_restore,omitempty"`
	Uptime      time.Duration `json:"uptime,omitempty"` // of the host; 0 when it cannot be told
	Self        []string      `json:"self,omitempty"`   // IDs of defib's own container and of the one that carries its connection
	Healers     []Healer      `json:"healers,omitempty"`
}

// Healer is another program on the host that restarts containers.
type Healer struct {
	Name  string `json:"name"`  // its container
	Kind  string `json:"kind"`  // autoheal, deunhealth, docker-guardian, defib
	Label string `json:"label"` // the label it acts on; "all" when it acts on every container
}

// Other is a container that is not watched, and why.
type Other struct {
	Name      string `json:"name"`
	Container string `json:"container"`
	Why       string `json:"why"`
}

// Observation is what one inspect call said of one container. Times in it are
// the engine's; Uptime carries what the engine's clock says of StartedAt over
// to ours.
type Observation struct {
	Container     string            `json:"container"`
	Name          string            `json:"name"`
	Image         string            `json:"image,omitempty"`
	ImageID       string            `json:"image_id,omitempty"`
	ConfigHash    string            `json:"config_hash,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Created       time.Time         `json:"created,omitzero"`
	Status        string            `json:"status"`
	Running       bool              `json:"running,omitempty"`
	Paused        bool              `json:"paused,omitempty"`
	Restarting    bool              `json:"restarting,omitempty"` // Docker's policy is about to start it again; Running is true too
	ExitCode      int               `json:"exit_code,omitempty"`
	OOMKilled     bool              `json:"oom_killed,omitempty"`
	Error         string            `json:"error,omitempty"` // State.Error: a start that failed
	StartedAt     time.Time         `json:"started_at,omitzero"`
	FinishedAt    time.Time         `json:"finished_at,omitzero"`
	Uptime        time.Duration     `json:"uptime,omitempty"` // since StartedAt, by the engine's clock; 0 when not running
	RestartCount  int               `json:"restart_count,omitempty"`
	RestartPolicy string            `json:"restart_policy,omitempty"`
	AutoRemove    bool              `json:"auto_remove,omitempty"`
	StopSignal    int               `json:"stop_signal,omitempty"`  // 0 is SIGTERM
	StopTimeout   time.Duration     `json:"stop_timeout,omitempty"` // 0 is Docker's 10 s
	Health        *Health           `json:"health,omitempty"`
	GPU           *gpu.Claim        `json:"gpu,omitempty"` // nil: it asks for none
	Mounts        []string          `json:"mounts,omitempty"`
}

// Health is the HEALTHCHECK of a container and what it last said.
type Health struct {
	Status        string        `json:"status"` // starting, healthy, unhealthy
	FailingStreak int           `json:"failing_streak,omitempty"`
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"start_period,omitempty"`
	Retries       int           `json:"retries,omitempty"`
	Log           []Probe       `json:"log,omitempty"` // at most 5, oldest first, of this or an earlier run
}

// Probe is one run of a health check. ExitCode -1 is a probe that ran out of
// time, or that the engine could not run at all.
type Probe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exit_code"`
	Output   string    `json:"output,omitempty"`
}

// Class sorts the outcomes of an act.
type Class string

// The classes.
const (
	OutcomeOK     Class = "ok"
	OutcomeFailed Class = "failed" // the engine refused or the start failed; Text says why
	OutcomeStuck  Class = "stuck"  // SIGKILL did not end it
	OutcomeGone   Class = "gone"   // no such container
)

// Outcome is what came of an act or an ask.
type Outcome struct {
	Class    Class         `json:"class"`
	Text     string        `json:"text,omitempty"`
	Took     time.Duration `json:"took,omitempty"`
	Evidence *Evidence     `json:"evidence,omitempty"`
}

// Evidence is what is kept of a container before an act destroys it.
type Evidence struct {
	At        time.Time `json:"at"`
	ExitCode  int       `json:"exit_code,omitempty"`
	OOMKilled bool      `json:"oom_killed,omitempty"`
	Error     string    `json:"error,omitempty"`
	Probes    []Probe   `json:"probes,omitempty"`
	Logs      []string  `json:"logs,omitempty"` // the last 200 lines, masked
	LogsErr   string    `json:"logs_err,omitempty"`
}

// Order is what an operator asks for.
type Order string

// The orders.
const (
	OrderRestart Order = "restart"
	OrderStop    Order = "stop"
	OrderRetry   Order = "retry"
	OrderHold    Order = "hold"
	OrderRelease Order = "release"
	OrderAck     Order = "ack"       // of Incident, For a time; with Undo it is taken back
	OrderReset   Order = "gpu_reset" // of GPU; Release of a GPU's hold takes GPU, too
)

// Command is an operator's order. Exactly one of Unit, Project and All names
// what it is about; restart, stop and retry take a Unit, a release may take a
// GPU instead and a reset must.
type Command struct {
	Order    Order         `json:"order"`
	Unit     string        `json:"unit,omitempty"`
	Project  string        `json:"project,omitempty"`
	All      bool          `json:"all,omitempty"`
	Incident string        `json:"incident,omitempty"`
	Undo     bool          `json:"undo,omitempty"`
	GPU      string        `json:"gpu,omitempty"` // index, UUID, a unique beginning of one, or PCI address
	Force    bool          `json:"force,omitempty"`
	For      time.Duration `json:"for,omitempty"`
	By       string        `json:"by,omitempty"`
	Why      string        `json:"why,omitempty"`
}
