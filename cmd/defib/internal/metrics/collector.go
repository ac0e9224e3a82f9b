package metrics

import (
	"slices"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// maxContainers bounds the containers that have series of their own; what is
// beyond shares the label other.
const (
	maxContainers = 200
	other         = "other"
	maxLabel      = 128 // characters
)

// collector turns the view into metrics.
type collector struct {
	o Options

	build     *prometheus.Desc
	healthy   *prometheus.Desc
	connected *prometheus.Desc
	paused    *prometheus.Desc
	observe   *prometheus.Desc
	incidents *prometheus.Desc
	state     *prometheus.Desc
	since     *prometheus.Desc
	restarts  *prometheus.Desc
	acts      *prometheus.Desc
	pages     *prometheus.Desc
	gpu       gpuDescs
	notify    notifyDescs
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("defib_"+name, help, labels, nil)
}

func newCollector(o Options) *collector {
	return &collector{
		o:         o,
		build:     desc("build_info", "Always 1; the labels say which defib runs.", "version", "revision", "goversion"),
		healthy:   desc("healthy", "Whether defib does its work: its loop turns and Docker answers."),
		connected: desc("docker_connected", "Whether Docker answers."),
		paused:    desc("paused", "Whether an operator holds the whole host, so that nothing is repaired."),
		observe:   desc("observe", "Whether defib only says what it would do."),
		incidents: desc("incidents_open", "Open incidents by their level.", "level"),
		state:     desc("container_state", "Whether a watched container is in a state; of other, how many are.", "container", "state"),
		since:     desc("container_state_since_timestamp_seconds", "When a watched container came into its state.", "container"),
		restarts:  desc("container_recent_restarts", "Repairs of a watched container in the last 24 hours, without those that people asked for.", "container"),
		acts:      desc("actions_total", "What defib has done to containers and GPUs since its start, by how it ended.", "action", "result"),
		pages:     desc("pages_total", "Calls for a human since the start of defib."),
		gpu:       newGPUDescs(),
		notify:    newNotifyDescs(),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	own := []*prometheus.Desc{c.build, c.healthy, c.connected, c.paused, c.observe, c.incidents, c.state, c.since, c.restarts, c.acts, c.pages}
	for _, d := range slices.Concat(own, c.gpu.all(), c.notify.all()) {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := sink{out}
	s.gauge(c.build, 1, label(c.o.Build.Defib), label(c.o.Build.Revision), label(c.o.Build.Go))
	s.gauge(c.healthy, truth(c.o.Loop.Healthy(c.o.Now()) == nil))
	if c.o.Channels != nil {
		c.channels(s, c.o.Channels())
	}
	v := c.o.Loop.View()
	if v == nil {
		return // it is still starting
	}
	s.gauge(c.connected, truth(v.Host.Connected))
	s.gauge(c.paused, truth(slices.ContainsFunc(v.Host.Holds, func(h policy.Hold) bool {
		return h.Scope == policy.ScopeHost && h.Reason == policy.HoldOperator
	})))
	s.gauge(c.observe, truth(v.Observe))
	c.counts(s, v)
	c.openIncidents(s, v.Incidents)
	c.containers(s, v.Units)
	if c.o.GPU {
		c.gpus(s, v)
	}
}

// counts tells of every action and result, so that a rate has a first zero.
func (c *collector) counts(s sink, v *watcher.View) {
	n := map[watcher.ActCount]uint64{}
	for _, a := range v.Acts {
		n[watcher.ActCount{Verb: a.Verb, Class: a.Class}] = a.N
	}
	verbs := []policy.Verb{policy.VerbRestart, policy.VerbStart, policy.VerbStop}
	if c.o.GPU {
		verbs = append(verbs, policy.VerbResetGPU)
	}
	for _, verb := range verbs {
		for _, class := range []policy.Class{policy.OutcomeOK, policy.OutcomeFailed, policy.OutcomeStuck, policy.OutcomeGone} {
			s.counter(c.acts, n[watcher.ActCount{Verb: verb, Class: class}], string(verb), string(class))
		}
	}
	s.counter(c.pages, v.Pages)
}

func (c *collector) openIncidents(s sink, open []policy.Incident) {
	for _, level := range []policy.Level{policy.LevelInfo, policy.LevelWarn, policy.LevelPage} {
		n := 0
		for _, in := range open {
			if in.Level == level {
				n++
			}
		}
		s.gauge(c.incidents, float64(n), string(level))
	}
}

// row is what is told of one container, or of all that share a label.
type row struct {
	states   map[policy.State]int
	since    float64 // Unix seconds; 0: not told
	restarts int
}

func (c *collector) containers(s sink, units []policy.Status) {
	rows := map[string]*row{}
	var names []string
	for _, u := range units {
		name := label(u.Name)
		if rows[name] == nil && len(names) >= maxContainers {
			name = other
		}
		r := rows[name]
		if r == nil {
			r = &row{states: map[policy.State]int{}}
			rows[name] = r
			names = append(names, name)
		}
		r.states[u.State]++
		r.restarts += u.Restarts24h
		if name != other && !u.Since.IsZero() {
			r.since = float64(u.Since.UnixMilli()) / 1000
		}
	}
	for _, name := range names {
		c.container(s, name, rows[name])
	}
}

func (c *collector) container(s sink, name string, r *row) {
	for _, state := range []policy.State{
		policy.Unknown, policy.Stopped, policy.Starting, policy.Running, policy.Unhealthy,
		policy.Repairing, policy.Backoff, policy.Held, policy.Fatal, policy.Paused,
	} {
		s.gauge(c.state, float64(r.states[state]), name, string(state))
	}
	if r.since > 0 {
		s.gauge(c.since, r.since, name)
	}
	s.gauge(c.restarts, float64(r.restarts), name)
}

// sink takes what is known now: nothing is counted here.
type sink struct{ out chan<- prometheus.Metric }

// counter is for what others count from their start on.
func (s sink) counter(d *prometheus.Desc, value uint64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (s sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// label makes a text that others chose fit to be a label: short, and nothing
// that a terminal obeys. It is valid UTF-8, without which a scrape fails.
func label(s string) string {
	r := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s[:min(len(s), 4*maxLabel)]))
	return string(r[:min(len(r), maxLabel)])
}
