package policy_test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

var update = flag.Bool("update", false, "rewrite the transcripts; read the diff before you commit it")

// TestTranscripts plays every story in testdata against a simulated host. A
// line that starts in the first column is something that happens; the indented
// lines below it are all that the Machine decided and every state it entered.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 50 {
		t.Fatalf("got %d transcripts (%v), want at least 50", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(old), "# ") {
				t.Fatal("a transcript opens with the story it tells")
			}
			got := play(t, string(old))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(old), got); diff != "" {
				t.Errorf("the story went another way (-want +got); if that is meant, run with -update and review the diff:\n%s", diff)
			}
		})
	}
}

// player reads a transcript and writes it anew.
type player struct {
	t     testing.TB
	w     *world
	out   strings.Builder
	state map[string]string
	asks  bool
}

func play(t testing.TB, text string) string {
	t.Helper()
	p := &player{t: t, w: newWorld(policy.Default()), state: map[string]string{}}
	p.w.onStep = p.step
	scan := bufio.NewScanner(strings.NewReader(text))
	for scan.Scan() {
		line := scan.Text()
		if strings.HasPrefix(line, " ") {
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			p.out.WriteString(line + "\n")
			continue
		}
		at, rest, _ := strings.Cut(line, " ")
		d, err := time.ParseDuration(at)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		p.w.advance(epoch.Add(d))
		p.out.WriteString(line + "\n")
		p.command(strings.Fields(rest))
	}
	p.w.advance(p.w.now.Add(time.Minute))
	return p.out.String()
}

func (p *player) clock() string {
	d := p.w.now.Sub(epoch).Round(time.Millisecond)
	return d.String()
}

func (p *player) step(_ policy.Event, ds []policy.Decision) {
	for _, d := range ds {
		if (d.Verb == policy.VerbInspect || d.Verb == policy.VerbPoll || d.Verb == policy.VerbExamine) && !p.asks {
			continue
		}
		who, page := d.Name, ""
		if who == "" {
			who = "host"
		}
		if d.Paged {
			page = " PAGE"
		}
		fmt.Fprintf(&p.out, "  %s  %s %s %s%s: %s\n", p.clock(), who, d.Verb, d.Rule, page, d.Reason)
	}
	for _, s := range p.w.m.Statuses() {
		now := strings.ToUpper(string(s.State))
		if s.Detail != "" {
			now += " (" + s.Detail + ")"
		}
		if p.state[s.Key] != now {
			p.state[s.Key] = now
			fmt.Fprintf(&p.out, "  %s  %s is %s\n", p.clock(), s.Name, now)
		}
	}
}

// command carries out one line of a story.
func (p *player) command(args []string) {
	w := p.w
	verb, args := args[0], args[1:]
	opts := map[string]string{}
	var words []string
	for _, a := range args {
		if k, v, ok := strings.Cut(a, "="); ok {
			opts[k] = v
		} else {
			words = append(words, a)
		}
	}
	name, text := "", ""
	if len(words) > 0 {
		name, text = words[0], strings.Join(words[1:], " ")
	}
	switch verb {
	case "connect":
		process := policy.Process(name)
		if name == "" {
			process = policy.ProcessUnknown
		}
		if h := opts["healer"]; h != "" {
			w.healers = []policy.Healer{{Name: h, Kind: "autoheal", Label: or(opts["label"], "autoheal")}}
		}
		w.connect(process, p.duration(opts["uptime"]))
	case "disconnect":
		w.disconnect(or(strings.Join(words, " "), "the stream broke"))
	case "config":
		p.configure(opts)
	case "show":
		p.asks = true
	case "run", "exists":
		p.run(verb, name, words, opts)
	case "docker":
		p.docker(words[0], words[1], opts)
	case "engine":
		p.engine(name)
	case "defib":
		p.defib(words, opts)
	case "hold", "release", "restart", "stop", "retry":
		p.order(verb, name, opts)
	case "ack":
		w.deliver(policy.Event{Kind: policy.KindCommand, Command: &policy.Command{
			Order: policy.OrderAck, Incident: name, By: "ann", For: p.duration(opts["for"]), Undo: opts["undo"] == "true",
		}})
	case "fact":
		p.fact(words, opts)
	case "status":
		p.status(name)
	case "times":
		p.times(name)
	case "incidents":
		p.incidents()
	case "clock": // the host's is set back
		w.setBack(p.duration(opts["back"]))
	case "wait":
	case "unseen": // an inspect that failed
		b := w.boxes[name]
		w.deliver(policy.Event{Kind: policy.KindUnseen, Unit: policy.Key(b.name, b.labels), Container: b.id, Generation: w.gen, Read: w.now, Reason: "context deadline exceeded"})
	case "connect-unseen": // connect, but the inspect of one container hangs
		w.gen++
		w.up = true
		w.deliver(policy.Event{Kind: policy.KindSourceUp, Generation: w.gen, Engine: &policy.Engine{Process: policy.ProcessSame}})
		b := w.boxes[name]
		w.deliver(policy.Event{Kind: policy.KindUnseen, Unit: policy.Key(b.name, b.labels), Container: b.id, Generation: w.gen, Read: w.now, Reason: "context deadline exceeded"})
		w.deliver(policy.Event{Kind: policy.KindSynced, Generation: w.gen})
	case "look":
		w.look(w.boxes[name])
	default:
		if !p.gpuCommand(verb, name, opts) {
			p.change(verb, name, text, opts)
		}
	}
}

func (p *player) duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func (p *player) configure(opts map[string]string) {
	c := &p.w.cfg
	for k, v := range opts {
		switch k {
		case "observe":
			c.Observe = v == "true"
		case "all":
			c.All = v == "true"
		case "fatal_retry":
			c.FatalRetry = p.duration(v)
		case "max_parallel":
			c.MaxParallel, _ = strconv.Atoi(v)
		case "reset_offer":
			c.GPUResetOffer = v == "true"
		case "budget_min":
			c.BudgetMin, _ = strconv.Atoi(v)
		default:
			p.t.Fatalf("config %s", k)
		}
	}
	p.w.deliver(policy.Event{Kind: policy.KindConfig, Config: c})
}

// run creates and starts a container; exists only describes one that is there.
func (p *player) run(verb, name string, words []string, opts map[string]string) {
	b := &box{name: name, image: "vllm/vllm-openai:v1", imageID: "sha256:" + or(opts["image"], name), policy: opts["policy"], labels: map[string]string{"defib.enable": "true"}}
	b.load, b.output = p.duration(or(opts["load"], "2s")), "connection refused"
	b.stop, b.logs = p.duration(opts["stop"]), p.duration(opts["logs"])
	b.stopSig, _ = strconv.Atoi(opts["stopsignal"])
	b.retries, _ = strconv.Atoi(opts["retries"])
	b.check = true
	for _, word := range words[1:] {
		switch word {
		case "nocheck":
			b.check = false
		case "deaf":
			b.deaf = true
		case "sick":
			b.sick, b.sticky = true, true
		case "broken":
			b.broken = true
		}
	}
	for k, v := range opts {
		switch k {
		case "ref":
			b.image = v
		case "gpu":
			b.gpus = strings.Split(v, ",")
		case "rm":
			b.autoRemove = v == "true"
		case "claim":
			b.claim = &gpu.Claim{Source: v, All: true, Certain: v == "--gpus"}
		case "mount":
			b.mounts = strings.Split(v, ",")
		case "via":
			delete(b.labels, "defib.enable")
			if v != "none" {
				b.labels[v] = "true"
			}
		case "service":
			b.labels["com.docker.compose.project"], b.labels["com.docker.compose.service"] = "shop", v
		case "needs":
			b.labels["com.docker.compose.depends_on"] = v + ":service_healthy:false"
		case "awaits":
			b.labels["com.docker.compose.depends_on"] = v + ":service_completed_successfully:false"
		case "label":
			for one := range strings.SplitSeq(v, ",") {
				l, value, _ := strings.Cut(one, ":")
				b.labels[l] = value
			}
		}
	}
	p.w.add(b)
	if verb == "run" {
		p.w.start(b, false)
		p.w.look(b)
		return
	}
	b.hasRun = opts["status"] != "created"
	b.status, b.started, b.finished = or(opts["status"], "running"), p.w.now.Add(-p.duration(or(opts["age"], "1h"))), p.w.now
	b.code, _ = strconv.Atoi(opts["code"])
	b.err = strings.ReplaceAll(opts["err"], "_", " ")
	if b.status == "created" {
		b.started = time.Time{}
	}
	if b.status == "running" && b.check && !b.broken {
		b.probes = []policy.Probe{{Start: p.w.now.Add(-time.Second), End: p.w.now}}
		if b.sick {
			b.probes[0].ExitCode, b.probes[0].Output, b.streak = 1, b.output, 6
		}
	}
}

// docker is a person at the docker command line.
func (p *player) docker(verb, name string, opts map[string]string) {
	w := p.w
	b := w.boxes[name]
	timeout := or(opts["t"], "10s")
	switch verb {
	case "stop":
		w.halt(b, p.duration(timeout), true, func() {})
	case "kill":
		run := b.run
		sig, _ := strconv.Atoi(or(opts["signal"], "9"))
		w.event(b, policy.Event{Kind: policy.KindKill, Signal: sig})
		if sig == 9 || sig == 15 {
			b.manual = true
			w.after(10*time.Millisecond, func() {
				if b.run == run {
					w.exit(b, 128+sig, true)
				}
			})
		}
	case "start":
		w.start(b, false)
	case "restart":
		w.halt(b, p.duration(timeout), false, func() {
			w.after(20*time.Millisecond, func() {
				w.start(b, false)
				w.event(b, policy.Event{Kind: policy.KindRestart})
			})
		})
	case "pause", "unpause":
		b.paused, b.resumed = verb == "pause", w.now
		w.event(b, policy.Event{Kind: policy.Kind(verb)})
	case "rm":
		if b.status == "running" {
			w.event(b, policy.Event{Kind: policy.KindKill, Signal: 9})
			w.exit(b, 137, true)
		}
		w.event(b, policy.Event{Kind: policy.KindDestroy})
		delete(w.boxes, name)
	case "rename":
		delete(w.boxes, name)
		old := policy.Key(b.name, b.labels)
		b.name = opts["to"]
		w.boxes[b.name] = b
		w.event(b, policy.Event{Kind: policy.KindRename, Reason: old})
	case "recreate":
		delete(w.boxes, name)
		fresh := *b
		if v := opts["image"]; v != "" {
			fresh.imageID = "sha256:" + v
		}
		w.event(b, policy.Event{Kind: policy.KindKill, Signal: 15})
		w.exit(b, 143, true)
		w.event(b, policy.Event{Kind: policy.KindDestroy})
		fresh.status, fresh.sick, fresh.sticky, fresh.probes, fresh.crashEvery = "created", false, false, nil, 0
		w.add(&fresh)
		w.start(&fresh, false)
		w.look(&fresh)
	default:
		p.t.Fatalf("docker %s", verb)
	}
}

// engine is what happens to the Docker engine itself.
func (p *player) engine(what string) {
	w := p.w
	switch what {
	case "shutdown": // systemctl stop docker: the same events as a person's stops
		for _, name := range sorted(w.boxes) {
			b := w.boxes[name]
			if b.status == "running" {
				w.event(b, policy.Event{Kind: policy.KindKill, Signal: 15})
				w.exit(b, 143, true)
			}
		}
		w.after(2*time.Second, func() { w.disconnect("unexpected EOF") })
	case "killed": // kill -9 dockerd; containers live on until it is back
		w.disconnect("unexpected EOF")
		for _, name := range sorted(w.boxes) {
			if b := w.boxes[name]; b.status == "running" {
				b.status, b.code, b.finished, b.run = "exited", 137, w.now, b.run+1
			}
		}
	case "boot": // the policies that hold bring theirs back
		for _, name := range sorted(w.boxes) {
			if b := w.boxes[name]; b.policy == "always" && b.status == "exited" {
				w.start(b, true)
				b.restarts = 0
			}
		}
	default:
		p.t.Fatalf("engine %s", what)
	}
}

func sorted(m map[string]*box) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sortStrings(out)
	return out
}

func (p *player) defib(words []string, opts map[string]string) {
	switch words[0] {
	case "killed":
		p.w.alive, p.w.up = false, false
	case "lame":
		p.w.lame = true
	case "starts":
		p.w.restartDefib(or(opts["boot"], p.w.boot))
	}
}

func (p *player) order(verb, name string, opts map[string]string) {
	c := &policy.Command{Order: policy.Order(verb), By: or(opts["by"], "ann"), For: p.duration(opts["for"]), Force: opts["force"] == "true"}
	switch {
	case name == "all":
		c.All = true
	case opts["project"] != "":
		c.Project = opts["project"]
	default:
		c.Unit = name
	}
	p.w.deliver(policy.Event{Kind: policy.KindCommand, Command: c})
}

// fact is a hold that another part of defib found: "fact set gpu 0 why=…".
func (p *player) fact(words []string, opts map[string]string) {
	h := &policy.Hold{Reason: policy.HoldReason(words[1]), Scope: policy.ScopeHost, Why: strings.ReplaceAll(opts["why"], "_", " ")}
	if len(words) > 2 {
		h.Scope, h.Target = policy.ScopeGPU, words[2]
	}
	if words[1] == "operator" {
		h.By, h.File = "file", opts["file"]
	}
	kind := policy.KindHoldSet
	if words[0] == "clear" {
		kind = policy.KindHoldCleared
	}
	p.w.deliver(policy.Event{Kind: kind, Hold: h})
}

func (p *player) status(name string) {
	s, ok := p.w.m.Status(p.key(name))
	if !ok {
		fmt.Fprintf(&p.out, "  no such unit\n")
		return
	}
	fmt.Fprintf(&p.out, "  %s: %s; next: %s", strings.ToUpper(string(s.State)), s.Reason, s.Next)
	if !s.NextAt.IsZero() {
		fmt.Fprintf(&p.out, " in %s", s.NextAt.Sub(p.w.now))
	}
	fmt.Fprintf(&p.out, "; repairs in 24 h: %d\n", s.Restarts24h)
	for _, why := range append(s.WhyNot, s.Warnings...) {
		fmt.Fprintf(&p.out, "    %s\n", why)
	}
	for _, command := range s.Releases {
		fmt.Fprintf(&p.out, "    `%s`\n", command)
	}
}

// times are the times that people read of a unit.
func (p *player) times(name string) {
	s, _ := p.w.m.Status(p.key(name))
	at := func(t time.Time) string { return t.Sub(epoch).Round(time.Millisecond).String() }
	fmt.Fprintf(&p.out, "  %s since %s", strings.ToUpper(string(s.State)), at(s.Since))
	if s.LastExit != nil {
		fmt.Fprintf(&p.out, "; exit %d at %s", s.LastExit.Code, at(s.LastExit.At))
	}
	for _, in := range p.w.m.OpenIncidents() {
		if in.ID == s.Incident {
			fmt.Fprintf(&p.out, "; %s from %s", in.ID, at(in.Opened))
		}
	}
	if !s.PagesAt.IsZero() {
		fmt.Fprintf(&p.out, "; calls a human at %s", at(s.PagesAt))
	}
	p.out.WriteString("\n")
}

// key is the unit of the container of that name.
func (p *player) key(name string) string {
	for _, s := range p.w.m.Statuses() {
		if s.Name == name {
			return s.Key
		}
	}
	return name
}

func (p *player) incidents() {
	list := p.w.m.OpenIncidents()
	if len(list) == 0 {
		p.out.WriteString("  none open\n")
	}
	for _, in := range list {
		fmt.Fprintf(&p.out, "  %s %s %s: %s (%d repairs, %d steps", in.ID, in.Name, in.Level, in.Cause, in.Repairs, len(in.Steps))
		if in.Times > 0 {
			fmt.Fprintf(&p.out, ", time %d of %s", in.Times, in.Root)
		}
		if in.NeedsYou {
			p.out.WriteString(", needs a human")
		}
		if in.Ack != nil {
			fmt.Fprintf(&p.out, ", taken by %s", in.Ack.By)
		}
		for _, change := range in.Changed {
			fmt.Fprintf(&p.out, ", after %q", change)
		}
		if in.Parent != "" {
			fmt.Fprintf(&p.out, ", part of %s", in.Parent)
		}
		if len(in.Children) > 0 {
			fmt.Fprintf(&p.out, ", with %s", strings.Join(in.Children, " "))
		}
		p.out.WriteString(")\n")
	}
}

// change is something that happens inside a container.
func (p *player) change(verb, name, text string, opts map[string]string) {
	w := p.w
	for n := range strings.SplitSeq(name, ",") {
		b := w.boxes[n]
		if b == nil {
			p.t.Fatalf("%s: no container %q", verb, n)
		}
		p.changeOne(verb, b, text, opts)
	}
}

func (p *player) changeOne(verb string, b *box, text string, opts map[string]string) {
	w := p.w
	switch verb {
	case "refuse-stop":
		b.stopErr = "permission denied"
	case "hide-signal": // as Podman does
		b.hideSignal = true
	case "soon": // it crashes so soon after its next start
		b.crashEvery, b.crashCode = p.duration(opts["every"]), 1
	case "sick": // its check fails from now on; a restart cures it unless sticky
		b.sick, b.sticky, b.output = true, opts["sticky"] == "true", or(text, b.output)
		w.probe(b)
	case "probe":
		w.probe(b)
	case "quiet-sick": // and no check has run since
		b.sick = true
	case "mended": // and no check has run since
		b.sick, b.sticky = false, false
	case "times-out":
		b.timeout = true
		w.probe(b)
	case "broken":
		b.broken = true
		w.probe(b)
	case "well":
		b.sick, b.sticky, b.timeout, b.broken = false, false, false, false
		if b.status == "running" {
			w.probe(b)
		}
	case "crash":
		code, _ := strconv.Atoi(or(opts["code"], "1"))
		w.exit(b, code, false)
	case "oom":
		w.event(b, policy.Event{Kind: policy.KindOOM})
		switch opts["child"] {
		case "28": // engines from 28 on set the flag for a child, too
			b.oom = true
		case "":
			b.oom = true
			w.exit(b, 137, false)
		}
	case "finished": // what the engine says of its end
		b.finished = epoch.Add(p.duration(opts["at"]))
	case "loop": // it crashes some time after every start
		b.crashEvery, b.crashCode = p.duration(opts["every"]), 1
		if c := opts["code"]; c != "" {
			b.crashCode, _ = strconv.Atoi(c)
		}
		w.exit(b, b.crashCode, false)
	case "calm":
		b.crashEvery = 0
	case "cannot-start":
		b.startErr = or(text, "no such file: /models")
	case "can-start":
		b.startErr = ""
	case "stuck":
		b.stuck = true
	case "late-start":
		b.lateStart = true
	case "late-stop":
		b.lateStop = true
	case "hung":
		b.hung = true
		w.look(b)
	case "deaf":
		b.deaf = true
	default:
		p.t.Fatalf("unknown line %q", verb)
	}
}
