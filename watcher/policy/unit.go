package policy

import (
	"time"

	"github.com/defib-dev/defib/gpu"
)

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

// Crashed is the Detail of a STOPPED unit that failed, and whose opt-in does
// not ask for exits to be healed.
const Crashed = "crashed"

// Mode says whether a unit's failures lead to acts.
type Mode string

// The modes.
const (
	ModeAct     Mode = "act"
	ModeObserve Mode = "observe"
)

// Duration is a time.Duration; JSON holds nanoseconds.
type Duration = time.Duration

// Unit is all that is remembered of one supervised container under its stable
// identity. It is plain JSON: the state file and Restore share it.
type Unit struct {
	Key     string    `json:"key"`
	Name    string    `json:"name"` // the container's
	Project string    `json:"project,omitempty"`
	Version string    `json:"version,omitempty"` // image digest and configuration; a new one clears the counters
	State   State     `json:"state"`
	Detail  string    `json:"detail,omitempty"` // restarting, starting, stopping, by docker, not ready
	Since   time.Time `json:"since"`
	Rule    string    `json:"rule,omitempty"` // what put it into State
	// Before is the state in which it was last seen, when State is UNKNOWN.
	Before      State     `json:"before,omitempty"`
	BeforeSince time.Time `json:"before_since,omitzero"`
	Reason      string    `json:"reason,omitempty"`

	// What people want of it.
	WantDown bool      `json:"want_down,omitempty"` // a human stopped it; once it is gone: nobody misses it
	Stop     *StopSeen `json:"stop,omitempty"`      // somebody is stopping it, not yet certain
	Undo     time.Time `json:"undo,omitzero"`       // somebody stopped it during our restart: stop it again then
	Restarts int       `json:"restarts,omitempty"`  // events of a restart since that restart of ours: more than one show that it was half of theirs

	// What is known of it.
	Seen       bool        `json:"seen,omitempty"`        // observed in this generation
	Read       time.Time   `json:"read,omitzero"`         // when the inspect behind Last was sent
	EventRead  time.Time   `json:"event_read,omitzero"`   // of the newest engine event applied
	Last       Observation `json:"last"`                  // the newest observation that stands
	Run        Run         `json:"run"`                   // the incarnation in Last
	Check      Check       `json:"check,omitzero"`        // what this version's health check ever said
	TTR        []Duration  `json:"ttr,omitempty"`         // the last 10 times to ready of this version
	LastExit   *Exit       `json:"last_exit,omitempty"`   // the newest end of a run
	OOM        time.Time   `json:"oom,omitzero"`          // the newest oom event
	EngineHit  bool        `json:"engine_hit,omitempty"`  // it was up when its engine process ended …
	HitStopped bool        `json:"hit_stopped,omitempty"` // … but for a stop just before, by somebody or by that engine
	Ours       bool        `json:"ours,omitempty"`        // our own act left it down
	OursFor    string      `json:"ours_for,omitempty"`    // … for the sake of its GPU: gpu_held, gpu_reset, gpu_reset_undo
	SeenGPUs   []string    `json:"seen_gpus,omitempty"`   // UUIDs of the GPUs that its run before this one was seen on
	HadGPUs    []string    `json:"had_gpus,omitempty"`    // UUIDs of the GPUs that what it asks for stood for when it last came up
	Gone       time.Time   `json:"gone,omitzero"`         // its container was removed
	LeftAt     time.Time   `json:"left_at,omitzero"`      // it was ready until then
	WasUp      bool        `json:"was_up,omitempty"`      // defib has seen it run
	PausedAt   time.Time   `json:"paused_at,omitzero"`    // its timers stand still since

	// What has gone wrong and what was tried.
	Failure    *Failure    `json:"failure,omitempty"`     // the failed verdict that stands
	Level      int         `json:"level,omitempty"`       // charged repairs not yet forgotten; sets the delay
	Streak     int         `json:"streak,omitempty"`      // useless incarnations in a row; leads to FATAL
	Early      int         `json:"early,omitempty"`       // … and beside them those that Docker began too soon for them to count
	CountedAt  time.Time   `json:"counted_at,omitzero"`   // when Streak was last raised
	FromUseful bool        `json:"from_useful,omitempty"` // the streak follows a useful run: the first attempt was for the end of that
	Credit     Duration    `json:"credit,omitempty"`      // ready time not yet turned into a lower level
	Repairs    []time.Time `json:"repairs,omitempty"`     // charged, of the last 24 h
	Pardoned   time.Time   `json:"pardoned,omitzero"`     // what was before it does not count against the unit
	Paced      []time.Time `json:"paced,omitempty"`       // the newest of them that made the next one later
	Throttled  bool        `json:"throttled,omitempty"`
	Giveup     *Giveup     `json:"giveup,omitempty"`      // FATAL: stays until a useful run
	Op         *Op         `json:"op,omitempty"`          // the act in flight
	Ask        *Ask        `json:"ask,omitempty"`         // the question in flight
	Freed      bool        `json:"freed,omitempty"`       // let go by a canary: the next act costs no budget
	Slot       time.Time   `json:"slot,omitzero"`         // it is loading: its GPUs are taken until then
	Suspect    *Suspect    `json:"suspect,omitempty"`     // a fault names it, not yet confirmed
	Suspects   []Suspect   `json:"suspects,omitempty"`    // and other processes of it, which wait their turn
	Curing     string      `json:"curing,omitempty"`      // the GPU finding that its newest repair is for
	Cleared    time.Time   `json:"cleared,omitzero"`      // when a fault that named it was last looked into, for nothing …
	ClearedPID int         `json:"cleared_pid,omitempty"` // … and of which process

	// When it is looked at again, and whether it waits at the gate.
	Wake    time.Time `json:"wake,omitzero"`
	Waiting bool      `json:"waiting,omitempty"`

	// What people were told.
	DownSince time.Time `json:"down_since,omitzero"` // not ready though it should run
	Paged     bool      `json:"paged,omitempty"`     // for this downtime
	Incident  string    `json:"incident,omitempty"`  // the open one
	Past      *Past     `json:"past,omitempty"`      // the incident before it
	Said      string    `json:"said,omitempty"`      // the newest of the notes that are said once, and its incident
	Refused   time.Time `json:"refused,omitzero"`    // when Docker last refused a stop
	PagedFor  string    `json:"paged_for,omitempty"` // the incident, and what a human was called for in it, such as a finding about its GPU
}

// Run is one incarnation: (container ID, StartedAt) and what it has shown.
type Run struct {
	StartedAt time.Time `json:"started_at,omitzero"` // the engine's time; identity only
	Began     time.Time `json:"began,omitzero"`      // the same on our clock
	By        string    `json:"by,omitempty"`        // defib, docker, engine, somebody
	Healthy   bool      `json:"healthy,omitempty"`   // its check has passed
	ReadyAt   time.Time `json:"ready_at,omitzero"`   // on our clock
	Unpaused  time.Time `json:"unpaused,omitzero"`   // when it last was, on our clock
	Died      bool      `json:"died,omitempty"`      // its die event was seen
	Counted   bool      `json:"counted,omitempty"`   // its end has been charged to Streak …
	Early     bool      `json:"early,omitempty"`     // … or rather to Early
	Settled   bool      `json:"settled,omitempty"`   // its ready time has been turned into Credit
	Cohort    int       `json:"cohort,omitempty"`    // GPU units that started within a minute of it, itself included
	GPUs      []string  `json:"gpus,omitempty"`      // UUIDs of the GPUs that its processes were seen on
	Fault     *RunFault `json:"fault,omitempty"`     // a GPU fault that broke it, confirmed
	Own       *RunFault `json:"own,omitempty"`       // the newest fault that names a process of it
	Blamed    bool      `json:"blamed,omitempty"`    // its end has been entered under Blamed of a GPU
	NoStart   string    `json:"no_start,omitempty"`  // what Docker said when it was to be started again, in vain
}

// RunFault is a fault of a GPU in a run.
type RunFault struct {
	At   time.Time `json:"at"`
	GPU  string    `json:"gpu"` // UUID
	Code int       `json:"code"`
	Text string    `json:"text,omitempty"`
}

// Past is an incident that is closed: one that follows soon continues it.
type Past struct {
	Root   string    `json:"root"`
	Times  int       `json:"times"`
	Closed time.Time `json:"closed"`
}

// Suspect is a fault that names a unit, until it is confirmed or not.
type Suspect struct {
	At    time.Time `json:"at"`
	GPU   string    `json:"gpu"` // UUID
	Code  int       `json:"code"`
	PID   int       `json:"pid,omitempty"` // 0: not known
	Text  string    `json:"text"`
	Due   time.Time `json:"due"`           // it is looked into then
	Ask   uint64    `json:"ask,omitempty"` // the question in flight
	Until time.Time `json:"until,omitzero"`
}

// Exam is a look at a unit that has failed, and at its GPUs.
type Exam struct {
	Ask       uint64        `json:"ask,omitempty"` // the question in flight
	Until     time.Time     `json:"until,omitzero"`
	At        time.Time     `json:"at,omitzero"` // of the answer
	Judgement gpu.Judgement `json:"judgement,omitzero"`
	WaitFrom  time.Time     `json:"wait_from,omitzero"` // it has been told to wait by the same rule since
	Paged     bool          `json:"paged,omitempty"`
}

// Check is what the health check of one version has shown over all its runs.
type Check struct {
	Passed bool `json:"passed,omitempty"`
	Tried  bool `json:"tried,omitempty"` // never passed, and the one restart that this allows was made
}

// Failure is a failed verdict.
type Failure struct {
	At     time.Time `json:"at"`
	Rule   string    `json:"rule"` // unhealthy, exited, start_failed, start_timeout, engine_restart, repair_failed …
	Text   string    `json:"text"`
	Verb   Verb      `json:"verb,omitempty"` // what would help; empty when only a human can
	Due    time.Time `json:"due"`            // the act is due
	Again  time.Time `json:"again,omitzero"` // held: the hold is looked at again
	Probe  time.Time `json:"probe,omitzero"` // End of the failing check it stands on, engine's time
	Free   bool      `json:"free,omitempty"` // not charged: an engine or host restart, a retry after giving up
	FromOK bool      `json:"from_ok,omitempty"`
	Exam   *Exam     `json:"exam,omitempty"` // of a unit with a GPU; never changed in place
}

// Op is an act in flight. It ends with its outcome and an inspect asked after.
type Op struct {
	ID        uint64    `json:"id"`
	Verb      Verb      `json:"verb"`
	Rule      string    `json:"rule"`
	Container string    `json:"container"`
	StartedAt time.Time `json:"started_at,omitzero"` // of the incarnation it acts on
	At        time.Time `json:"at"`
	Timeout   Duration  `json:"timeout"` // the stop timeout it sends
	Operator  bool      `json:"operator,omitempty"`
	Charged   bool      `json:"charged,omitempty"`
	Freed     bool      `json:"freed,omitempty"`    // a canary let it go, so that it cost no budget
	Terms     int       `json:"terms,omitempty"`    // stop signals seen during it
	Kills     int       `json:"kills,omitempty"`    // SIGKILLs seen during it
	Restarts  int       `json:"restarts,omitempty"` // restart events seen during it
	Foreign   bool      `json:"foreign,omitempty"`  // more stop signals than it caused
	TermAt    time.Time `json:"term_at,omitzero"`   // first stop signal, engine's time
	Done      time.Time `json:"done,omitzero"`      // its outcome came; an inspect sent later ends it
	Outcome   Class     `json:"outcome,omitempty"`
	Text      string    `json:"text,omitempty"`
	Orphan    bool      `json:"orphan,omitempty"` // the process that issued it is gone
}

// Ask is a question in flight.
type Ask struct {
	ID     uint64    `json:"id"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`             // unanswered then, it is asked again
	ForAct bool      `json:"for_act,omitempty"` // an act waits for it: it holds a slot
}

// StopSeen is a stop signal or stop event that was not ours.
type StopSeen struct {
	At         time.Time `json:"at"`
	Signal     int       `json:"signal,omitempty"`
	Generation uint64    `json:"generation"`
	Until      time.Time `json:"until"`           // no exit by then: it was no stop
	Down       time.Time `json:"down,omitzero"`   // the exit that followed
	Engine     time.Time `json:"engine,omitzero"` // its newest signal, engine time
}

// Giveup is FATAL and its half-open retries.
type Giveup struct {
	At    time.Time `json:"at"`
	Rule  string    `json:"rule"`
	Text  string    `json:"text"`
	N     int       `json:"n"`              // half-open retries made
	Retry time.Time `json:"retry,omitzero"` // the next; zero when only a human can help
	Paged time.Time `json:"paged,omitzero"`
	Open  bool      `json:"open"` // FATAL now; false after a healthy verdict, until the run proves useful
}

// Panic is one event that many failures are part of.
type Panic struct {
	Domain   string    `json:"domain"` // host, mount:…, gpu:…, image:…, parent:…
	Since    time.Time `json:"since"`
	Canary   []string  `json:"canary,omitempty"`   // keys of units whose repair decides
	CanaryAt time.Time `json:"canary_at,omitzero"` // the admitted number doubles each minute from here
	Next     time.Time `json:"next,omitzero"`      // after a failed canary
	Failed   int       `json:"failed,omitempty"`   // canaries that failed
	Incident string    `json:"incident,omitempty"`
	Paged    bool      `json:"paged,omitempty"`
}
