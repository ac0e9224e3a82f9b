// Package config reads what people set: the YAML file, the environment and the
// flags of `defib run`, and says of each value where it came from.
package config

import (
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Version is the only version of the file that this program reads.
const Version = 1

// Config is what the YAML file holds.
type Config struct {
	Policy  policy.Config // the sections watch and policy
	GPU     GPU
	API     API
	Metrics Metrics
	Notify  Notify
	Mask    []string // further patterns of secrets, RE2
}

// GPU is the section about GPUs. Its key reset is Policy.GPUResetOffer.
type GPU struct {
	Enabled      bool
	Library      string        // path of libnvidia-ml; empty: the dynamic linker finds it
	KernelLog    string        // where the driver's lines are read; empty: nowhere
	Poll         time.Duration // between two looks at all GPUs
	ResetCommand []string      // run by `defib gpus reset`; {gpu} is the UUID
}

// Metrics is the section about what Prometheus reads.
type Metrics struct {
	Listen string // host:port of a listener of its own; empty: only the socket has them
}

// API is the section about the socket that the commands talk to.
type API struct {
	Group string // owner group of the socket: a name or a number; empty leaves it as it is
}

// Default is what an empty file means.
func Default() Config {
	return Config{
		Policy: policy.Default(),
		GPU: GPU{
			Enabled: true, KernelLog: "/dev/kmsg", Poll: 5 * time.Second,
			ResetCommand: []string{"nvidia-smi", "--gpu-reset", "-i", gpuPlace},
		},
		Notify: defaultNotify(),
	}
}

// Sources says of each key where its value came from: "config.yaml:12",
// "flag --observe", "DEFIB_ALL". A key that is not in it has its default.
type Sources map[string]string

// Of returns the source of one key.
func (s Sources) Of(key string) string {
	if src := s[key]; src != "" {
		return src
	}
	return "default"
}

// field ties a key of the file to the value that it sets.
type field struct {
	key   string // with its section: policy.start_seconds
	value any    // what assign and literal know
}

// fields lists every key, in the order of config.yaml.example, except version.
func fields(c *Config) []field {
	p := &c.Policy
	out := []field{
		{"watch.all", &p.All},
		{"watch.observe", &p.Observe},
		{"policy.start_seconds", &p.StartSeconds},
		{"policy.unhealthy_for", &p.UnhealthyFor},
		{"policy.start_retries", &p.StartRetries},
		{"policy.backoff_base", &p.Base},
		{"policy.backoff_cap", &p.Cap},
		{"policy.useful_min", &p.UsefulMin},
		{"policy.useful_max", &p.UsefulMax},
		{"policy.decay_every", &p.DecayEvery},
		{"policy.fatal_retry", &p.FatalRetry},
		{"policy.fatal_retry_max", &p.FatalMax},
		{"policy.page_after", &p.PageAfter},
		{"policy.docker_page_after", &p.DockerPage},
		{"policy.stateful_stop_timeout", &p.StatefulStop},
		{"policy.gpu_startup_deadline", &p.GPUDeadline},
		{"policy.gpu_startup_deadline_max", &p.GPUCap},
		{"policy.confirm_stop", &p.Confirm},
		{"policy.panic_window", &p.PanicWindow},
		{"policy.panic_pause", &p.PanicPause},
		{"policy.canary_every", &p.CanaryEvery},
		{"policy.canary_max", &p.CanaryMax},
		{"policy.budget_window", &p.BudgetWindow},
		{"policy.budget_min", &p.BudgetMin},
		{"policy.gpu_budget", &p.GPUBudget},
		{"policy.max_parallel", &p.MaxParallel},
		{"policy.gpu_slot_max", &p.SlotMax},
		{"policy.settle", &p.Settle},
		{"policy.settle_boot", &p.SettleBoot},
		{"policy.hold_for", &p.HoldFor},
		{"policy.absent_ttl", &p.AbsentTTL},
		{"gpu.enabled", &c.GPU.Enabled},
		{"gpu.library", &c.GPU.Library},
		{"gpu.kernel_log", &c.GPU.KernelLog},
		{"gpu.poll", &c.GPU.Poll},
		{"gpu.reset", resetOffer{&p.GPUResetOffer}},
		{"gpu.reset_command", (*words)(&c.GPU.ResetCommand)},
		{"api.group", &c.API.Group},
		{"metrics.listen", &c.Metrics.Listen},
	}
	return append(append(out, c.Notify.fields()...), field{"mask", &c.Mask})
}

// duration prints a time.Duration as people write it: 15m, not 15m0s.
func duration(d time.Duration) string {
	s := d.String()
	if len(s) > 2 && s[len(s)-2:] == "0s" && s[len(s)-3] == 'm' {
		s = s[:len(s)-2]
	}
	if len(s) > 2 && s[len(s)-2:] == "0m" && s[len(s)-3] == 'h' {
		s = s[:len(s)-2]
	}
	return s
}
