package policy

import "time"

// Config is every number that the policy stands on, and what it watches.
// [Default] gives the value of each and the comment its unit and meaning.
type Config struct {
	All     bool `json:"all"`     // watch every container that did not opt out, for "unhealthy" only
	Observe bool `json:"observe"` // decide and say, never act
	// GPUResetOffer: a page about a GPU that needs a reset offers `defib gpus
	// reset`, not only the commands for a human.
	GPUResetOffer bool `json:"gpu_reset_offer,omitempty"`
	// Sources says where a value that is not the default came from, by its
	// name in JSON: "config.yaml:12", "--observe", "DEFIB_ALL".
	Sources map[string]string `json:"sources,omitempty"`

	StartSeconds time.Duration `json:"start_seconds"`   // a container without a check is up after it
	UnhealthyFor time.Duration `json:"unhealthy_for"`   // how long a GPU container must stay unhealthy before the act
	StartRetries int           `json:"start_retries"`   // useless runs in a row that are followed by another attempt; not what Docker tries sooner than defib
	Base         time.Duration `json:"backoff_base"`    // first delay; doubles with each level
	Cap          time.Duration `json:"backoff_cap"`     // longest delay
	UsefulMin    time.Duration `json:"useful_min"`      // a run is useful when ready for the median time to ready, at least this …
	UsefulMax    time.Duration `json:"useful_max"`      // … and at most this
	DecayEvery   time.Duration `json:"decay_every"`     // of ready time lowers the level by one (or 2 × time to ready, if longer)
	FatalRetry   time.Duration `json:"fatal_retry"`     // first half-open retry of a dead unit after giving up; doubles …
	FatalMax     time.Duration `json:"fatal_retry_max"` // … up to this
	PageAfter    time.Duration `json:"page_after"`      // of downtime (or 1.5 × time to ready, if longer)

	StatefulStop time.Duration `json:"stateful_stop_timeout"`    // least stop timeout for a database
	GPUDeadline  time.Duration `json:"gpu_startup_deadline"`     // least startup deadline of a GPU unit
	GPUCap       time.Duration `json:"gpu_startup_deadline_max"` // and its longest

	Confirm      time.Duration `json:"confirm_stop"`  // a stop seen counts as a human's after it
	PanicWindow  time.Duration `json:"panic_window"`  // failures within it are one event
	PanicPause   time.Duration `json:"panic_pause"`   // wait from the second failure on, so that the fraction is known
	CanaryEvery  time.Duration `json:"canary_every"`  // first wait after a failed canary; doubles …
	CanaryMax    time.Duration `json:"canary_max"`    // … up to this
	BudgetWindow time.Duration `json:"budget_window"` // max(BudgetMin, 1.5 × units) repairs in it
	BudgetMin    int           `json:"budget_min"`
	GPUBudget    int           `json:"gpu_budget"`        // repairs per GPU per hour
	MaxParallel  int           `json:"max_parallel"`      // repairs at a time
	SlotMax      time.Duration `json:"gpu_slot_max"`      // a GPU loads one unit at a time for at most this, or p95 time to ready
	Settle       time.Duration `json:"settle"`            // no act after an engine restart
	SettleBoot   time.Duration `json:"settle_boot"`       // nor after boot
	HoldFor      time.Duration `json:"hold_for"`          // an operator's hold without a time ends after it
	AbsentTTL    time.Duration `json:"absent_ttl"`        // a removed unit is remembered, for its return
	DockerPage   time.Duration `json:"docker_page_after"` // an engine out of reach pages after it
}

// Default is what defib does without configuration.
func Default() Config {
	return Config{
		StartSeconds: 10 * time.Second, UnhealthyFor: 30 * time.Second, StartRetries: 5,
		Base: 10 * time.Second, Cap: 5 * time.Minute,
		UsefulMin: time.Minute, UsefulMax: 10 * time.Minute, DecayEvery: 10 * time.Minute,
		FatalRetry: 30 * time.Minute, FatalMax: 6 * time.Hour, PageAfter: 15 * time.Minute,
		StatefulStop: 120 * time.Second, GPUDeadline: 20 * time.Minute, GPUCap: time.Hour,
		Confirm: 15 * time.Second, PanicWindow: time.Minute, PanicPause: 500 * time.Millisecond,
		CanaryEvery: 5 * time.Minute, CanaryMax: 30 * time.Minute,
		BudgetWindow: 10 * time.Minute, BudgetMin: 6, GPUBudget: 3, MaxParallel: 16, SlotMax: 5 * time.Minute,
		Settle: 30 * time.Second, SettleBoot: 120 * time.Second, HoldFor: 24 * time.Hour,
		AbsentTTL: 10 * time.Minute, DockerPage: 5 * time.Minute,
	}
}
