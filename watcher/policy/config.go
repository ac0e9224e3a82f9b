package policy

import (
	"errors"
	"fmt"
	"time"
)

// Config is every number that the policy stands on, and what it watches.
// [Default] gives the value of each and the comment its unit and meaning.
type Config struct {
	All     bool `json:"all"`     // watch every container that did not opt out, for "unhealthy" only
	Observe bool `json:"observe"` // decide and say, never act
	// Sources says where a value that is not the default came from, by its
	// name in JSON: "config.yaml:12", "--observe", "DEFIB_ALL".
	Sources map[string]string `json:"sources,omitempty"`

	StartSeconds time.Duration `json:"start_seconds"`   // a container without a check is up after it
	UnhealthyFor time.Duration `json:"unhealthy_for"`   // how long a GPU container must stay unhealthy before the act
	StartRetries int           `json:"start_retries"`   // useless runs in a row that are followed by another attempt
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

// Validate returns every problem at once, each as "name: what is wrong".
func (c Config) Validate() error {
	var errs []error
	positive := []struct {
		name  string
		value time.Duration
	}{
		{"start_seconds", c.StartSeconds},
		{"backoff_base", c.Base},
		{"backoff_cap", c.Cap},
		{"useful_min", c.UsefulMin},
		{"useful_max", c.UsefulMax},
		{"decay_every", c.DecayEvery},
		{"fatal_retry", c.FatalRetry},
		{"fatal_retry_max", c.FatalMax},
		{"page_after", c.PageAfter},
		{"stateful_stop_timeout", c.StatefulStop},
		{"gpu_startup_deadline", c.GPUDeadline},
		{"gpu_startup_deadline_max", c.GPUCap},
		{"confirm_stop", c.Confirm},
		{"panic_window", c.PanicWindow},
		{"canary_every", c.CanaryEvery},
		{"canary_max", c.CanaryMax},
		{"budget_window", c.BudgetWindow},
		{"gpu_slot_max", c.SlotMax},
		{"hold_for", c.HoldFor},
		{"absent_ttl", c.AbsentTTL},
		{"docker_page_after", c.DockerPage},
	}
	for _, p := range positive {
		if p.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %v must be longer than 0s", p.name, p.value))
		}
	}
	counts := []struct {
		name  string
		value int
	}{{"start_retries", c.StartRetries}, {"budget_min", c.BudgetMin}, {"gpu_budget", c.GPUBudget}, {"max_parallel", c.MaxParallel}}
	for _, p := range counts {
		if p.value < 1 {
			errs = append(errs, fmt.Errorf("%s: %d must be at least 1", p.name, p.value))
		}
	}
	ranges := []struct {
		most, least string
		max, min    time.Duration
	}{
		{"backoff_cap", "backoff_base", c.Cap, c.Base}, {"useful_max", "useful_min", c.UsefulMax, c.UsefulMin},
		{"fatal_retry_max", "fatal_retry", c.FatalMax, c.FatalRetry}, {"canary_max", "canary_every", c.CanaryMax, c.CanaryEvery},
		{"gpu_startup_deadline_max", "gpu_startup_deadline", c.GPUCap, c.GPUDeadline},
	}
	for _, r := range ranges {
		if r.max < r.min {
			errs = append(errs, fmt.Errorf("%s: %v is shorter than %s %v", r.most, r.max, r.least, r.min))
		}
	}
	return errors.Join(errs...)
}
