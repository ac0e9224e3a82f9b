package policy

import (
	"errors"
	"fmt"
	"time"
)

// Validate returns every problem at once, each as "name: what is wrong".
func (c Config) Validate() error {
	return errors.Join(append(append(c.durations(), c.counts()...), c.ranges()...)...)
}

// durations: none may be zero, for zero never means "unlimited".
func (c Config) durations() (errs []error) {
	for _, p := range []struct {
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
	} {
		if p.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %v must be longer than 0s", p.name, p.value))
		}
	}
	return errs
}

func (c Config) counts() (errs []error) {
	for _, p := range []struct {
		name  string
		value int
	}{
		{"start_retries", c.StartRetries},
		{"budget_min", c.BudgetMin},
		{"gpu_budget", c.GPUBudget},
		{"max_parallel", c.MaxParallel},
	} {
		if p.value < 1 {
			errs = append(errs, fmt.Errorf("%s: %d must be at least 1", p.name, p.value))
		}
	}
	return errs
}

func (c Config) ranges() (errs []error) {
	for _, r := range []struct {
		most, least string
		max, min    time.Duration
	}{
		{"backoff_cap", "backoff_base", c.Cap, c.Base},
		{"useful_max", "useful_min", c.UsefulMax, c.UsefulMin},
		{"fatal_retry_max", "fatal_retry", c.FatalMax, c.FatalRetry},
		{"canary_max", "canary_every", c.CanaryMax, c.CanaryEvery},
		{"gpu_startup_deadline_max", "gpu_startup_deadline", c.GPUCap, c.GPUDeadline},
	} {
		if r.max < r.min {
			errs = append(errs, fmt.Errorf("%s: %v is shorter than %s %v", r.most, r.max, r.least, r.min))
		}
	}
	return errs
}
