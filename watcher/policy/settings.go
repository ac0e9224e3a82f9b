package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is what is done for one unit, resolved from its labels over Config.
type Policy struct {
	Via          string // what opted it in
	Mode         Mode
	ModeWhy      string
	Server       bool          // an exit 0 is a failure too
	Job          bool          // an exit 0 is its end
	Stateful     string        // the database it was taken for; empty: none
	StopTimeout  time.Duration // 0: the container's own
	StartSeconds time.Duration
	UnhealthyFor time.Duration
	Deadline     time.Duration // for a start; 0: worked out
	PageAfter    time.Duration
	StartRetries int
	Needs        []Need
}

// Need is a dependency that compose wrote into the container's labels.
type Need struct {
	Project, Service, Condition string
}

// Everything reports whether defib heals exits too, not only "unhealthy".
func (p *Policy) Everything() bool { return p.Via == ViaEnable }

// resolver reads labels one by one and notes where each value came from.
type resolver struct {
	labels   map[string]string
	sources  map[string]string // of the configuration
	settings []Setting
	warnings []string
}

// Resolve works out the policy of a container, with the source of each value
// and a warning for every label that makes no sense.
func (c Config) Resolve(o *Observation) (Policy, []Setting, []string) {
	r := &resolver{labels: o.Labels, sources: c.Sources}
	p := Policy{}
	p.Via, _ = c.OptIn(o.Labels)
	r.optedIn(p.Via)
	p.Mode, p.ModeWhy = r.mode(c.Observe)
	r.kind(&p, o.Image)
	p.StopTimeout = r.stopTimeout()
	p.StartSeconds = r.duration("defib.start_seconds", c.StartSeconds)
	p.UnhealthyFor = r.duration("defib.unhealthy_for", c.UnhealthyFor)
	p.Deadline = r.duration("defib.startup_deadline", 0)
	p.PageAfter = r.duration("defib.page_after", c.PageAfter)
	p.StartRetries = r.retries(c.StartRetries)
	p.Needs = needs(o.Labels)
	r.unknown()
	return p, r.settings, r.warnings
}

func (r *resolver) set(name, value, label string) {
	source := r.source(name)
	if label != "" {
		source = "label " + label
	}
	r.settings = append(r.settings, Setting{Name: name, Value: value, Source: source})
}

func (r *resolver) optedIn(via string) {
	s := Setting{Name: "opted in by", Value: via, Source: "label " + via}
	if via == ViaAll {
		s.Source = r.sourceOr("all", "--all")
	}
	r.settings = append(r.settings, s)
}

func (r *resolver) source(name string) string { return r.sourceOr(name, "built-in") }

func (r *resolver) sourceOr(name, otherwise string) string {
	if s := r.sources[name]; s != "" {
		return s
	}
	return otherwise
}

func (r *resolver) warn(label, problem string) {
	r.warnings = append(r.warnings, fmt.Sprintf("label %s=%s %s", label, clip(r.labels[label]), problem))
}

func (r *resolver) mode(observe bool) (Mode, string) {
	switch v := strings.ToLower(strings.TrimSpace(r.labels["defib.mode"])); {
	case observe:
		r.settings = append(r.settings, Setting{Name: "mode", Value: "observe", Source: r.sourceOr("observe", "--observe")})
		return ModeObserve, "defib runs in observe mode (" + r.sourceOr("observe", "--observe") + ")"
	case v == "observe":
		r.set("mode", v, "defib.mode")
		return ModeObserve, "its label defib.mode=observe says so"
	case v != "" && v != "act":
		r.warn("defib.mode", "is not act or observe; act is used")
	}
	r.set("mode", "act", "")
	return ModeAct, ""
}

// kind reads what sort of program it is: server, job or database.
func (r *resolver) kind(p *Policy, image string) {
	switch v := strings.ToLower(strings.TrimSpace(r.labels["defib.type"])); v {
	case "server":
		p.Server = true
		r.set("type", v, "defib.type")
	case "job":
		p.Job = true
		r.set("type", v, "defib.type")
	case "":
	default:
		r.warn("defib.type", "is not server or job; it is ignored")
	}
	switch v := strings.ToLower(strings.TrimSpace(r.labels["defib.policy"])); v {
	case "stateful":
		p.Stateful = "stateful service"
		r.set("policy", v, "defib.policy")
	case "stateless":
		r.set("policy", v, "defib.policy")
	case "":
		if p.Stateful = database(image); p.Stateful != "" {
			r.settings = append(r.settings, Setting{Name: "policy", Value: "stateful", Source: "built-in, for the image " + p.Stateful})
		}
	default:
		r.warn("defib.policy", "is not stateful or stateless; it is ignored")
	}
	if r.labels["com.docker.compose.oneoff"] == "True" {
		p.Job = true
		r.set("type", "job", "com.docker.compose.oneoff")
	}
}

func (r *resolver) stopTimeout() time.Duration {
	for _, label := range []string{"defib.stop_timeout", "autoheal.stop.timeout"} {
		v, ok := r.labels[label]
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && n >= 0 && n <= 3600 {
			r.set("stop_timeout", (time.Duration(n) * time.Second).String(), label)
			return max(time.Duration(n)*time.Second, time.Millisecond)
		}
		if d, err := time.ParseDuration(strings.TrimSpace(v)); err == nil && d >= 0 && d <= time.Hour {
			r.set("stop_timeout", d.String(), label)
			return max(d, time.Millisecond)
		}
		r.warn(label, "is not a time between 0s and 1h; the container's own is used")
	}
	r.set("stop_timeout", "the container's own", "")
	return 0
}

func (r *resolver) duration(label string, or time.Duration) time.Duration {
	name := strings.TrimPrefix(label, "defib.")
	if v, ok := r.labels[label]; ok {
		if d, err := time.ParseDuration(strings.TrimSpace(v)); err == nil && d > 0 && d <= 24*time.Hour {
			r.set(name, d.String(), label)
			return d
		}
		r.warn(label, "is not a time such as 30s or 15m; "+or.String()+" is used")
	}
	if or > 0 {
		r.set(name, or.String(), "")
	}
	return or
}

// retries reads a number of attempts; a label may lower it, never raise it.
func (r *resolver) retries(limit int) int {
	const label = "defib.start_retries"
	if v, ok := r.labels[label]; ok {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err == nil && n >= 1 && n <= limit {
			r.set("start_retries", strconv.Itoa(n), label)
			return n
		}
		r.warn(label, fmt.Sprintf("is not a number from 1 to %d; %d is used (a label can lower a limit, not raise it)", limit, limit))
	}
	r.set("start_retries", strconv.Itoa(limit), "")
	return limit
}

// Labels returns the labels that configure a container, with their prefix.
func Labels() []string {
	return []string{
		LabelEnable, labelID, "defib.mode", "defib.page_after", "defib.policy", "defib.runbook", "defib.start_retries",
		"defib.start_seconds", "defib.startup_deadline", "defib.stop_timeout", "defib.test", "defib.type", "defib.unhealthy_for",
	}
}

func (r *resolver) unknown() {
	for _, label := range sortedKeys(r.labels) {
		if strings.HasPrefix(label, "defib.") && !slices.Contains(Labels(), label) {
			r.warnings = append(r.warnings, fmt.Sprintf("label %s is not known to this version of defib; it is ignored", clip(label)))
		}
	}
	if v, ok := r.labels[LabelEnable]; ok && !isTrue(v) && !isFalse(v) {
		r.warn(LabelEnable, "is neither true nor false; it is ignored")
	}
	if id, ok := r.labels[labelID]; ok && !printable(id) {
		r.warn(labelID, "must be 1 to 128 printable characters without spaces; the container's name is used")
	}
}

// needs reads the label com.docker.compose.depends_on, a comma list of
// service:condition:restart. It names services of the same project.
func needs(labels map[string]string) []Need {
	var out []Need
	project := labels["com.docker.compose.project"]
	for item := range strings.SplitSeq(labels["com.docker.compose.depends_on"], ",") {
		parts := strings.Split(item, ":")
		if project == "" || parts[0] == "" {
			continue
		}
		n := Need{Project: project, Service: parts[0], Condition: "service_started"}
		if len(parts) > 1 {
			n.Condition = parts[1]
		}
		out = append(out, n)
	}
	return out
}

// database returns the name of the database that an image reference is of.
// They lose data when they are killed in the wrong moment, and an unhealthy
// one is often only busy.
func database(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToLower(name)
	switch name {
	case "postgres", "postgresql", "postgis", "timescaledb", "pgvector", "mysql", "mariadb", "percona", "mongo", "mongodb",
		"redis", "valkey", "keydb", "clickhouse", "clickhouse-server", "elasticsearch", "opensearch", "etcd", "minio",
		"cassandra", "scylla", "cockroach", "cockroachdb", "influxdb", "rabbitmq", "kafka", "zookeeper", "consul", "vault",
		"qdrant", "milvus", "weaviate", "neo4j", "couchdb", "mssql", "oracle", "nats", "memgraph":
		return name
	}
	return ""
}
