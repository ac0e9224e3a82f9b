package policy_test

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// cards are the GPUs of the simulated host, and what is said of them.
type cards struct {
	driver   gpu.Driver
	list     []*card
	ended    map[int]bool // processes
	own      map[int]bool // processes that a container's own program started
	resetErr string
	hang     bool // the driver answers nothing
	seq      uint64
}

type card struct {
	device  gpu.Device
	reading gpu.Reading
	after   gpu.Reading // what a reset leaves
}

func newCards() *cards { return &cards{ended: map[int]bool{}, own: map[int]bool{}} }

// plug puts GPUs into the host.
func (c *cards) plug(n int) {
	for i := len(c.list); i < n; i++ {
		uuid := fmt.Sprintf("GPU-%08d-0000-0000-0000-000000000000", i)
		d := gpu.Device{UUID: uuid, Index: i, Minor: i, PCI: fmt.Sprintf("0000:%02x:00.0", 0x3b+i), Name: "NVIDIA H100"}
		none := gpu.RecoverNone
		c.list = append(c.list, &card{device: d, reading: gpu.Reading{UUID: uuid, Total: 80 << 30, Recovery: &none, Temperature: 40, Listed: true}})
	}
}

func (c *cards) devices() []gpu.Device {
	var out []gpu.Device
	for _, card := range c.list {
		out = append(out, card.device)
	}
	return out
}

// read is what a poll of these GPUs answers now.
func (w *world) read(uuids []string) []gpu.Reading {
	var out []gpu.Reading
	for _, uuid := range uuids {
		for _, card := range w.cards.list {
			if card.device.UUID == uuid {
				r := card.reading
				r.At = w.now
				r.Processes = append([]gpu.Process(nil), r.Processes...)
				out = append(out, r)
			}
		}
	}
	return out
}

func (w *world) tellDriver() {
	d := w.cards.driver
	facts := &policy.GPUFacts{Driver: &d}
	if d.State == gpu.DriverUp {
		facts.Devices = w.cards.devices()
	}
	w.deliver(policy.Event{Kind: policy.KindGPUDriver, GPU: facts})
}

// tellCard is the driver's own report of a change.
func (w *world) tellCard(c *card) {
	w.deliver(policy.Event{Kind: policy.KindGPUReading, GPU: &policy.GPUFacts{Readings: w.read([]string{c.device.UUID})}})
}

// lookAtGPUs answers what the Machine asks of the GPUs.
func (w *world) lookAtGPUs(d policy.Decision) {
	m := w.m
	answer := func(after time.Duration, ev policy.Event) {
		w.after(after, func() {
			if w.m == m {
				ev.Decision = d.ID
				w.deliver(ev)
			}
		})
	}
	switch d.Verb {
	case policy.VerbPoll:
		if w.cards.hang || w.cards.driver.State != gpu.DriverUp {
			answer(d.Within, policy.Event{Kind: policy.KindOutcome, Outcome: &policy.Outcome{Class: policy.OutcomeFailed, Text: "the driver did not answer in time"}})
			return
		}
		w.after(20*time.Millisecond, func() {
			if w.m == m {
				w.deliver(policy.Event{Kind: policy.KindGPUReading, Decision: d.ID, GPU: &policy.GPUFacts{Readings: w.read(d.GPUs)}})
			}
		})
	case policy.VerbExamine:
		w.examine(d, m)
	case policy.VerbResetGPU:
		out := policy.Outcome{Class: policy.OutcomeOK}
		if w.cards.resetErr != "" {
			out = policy.Outcome{Class: policy.OutcomeFailed, Text: w.cards.resetErr}
		} else {
			w.after(4*time.Second, func() { w.resetCard(d.GPUs[0]) })
		}
		answer(5*time.Second, policy.Event{Kind: policy.KindOutcome, Outcome: &out})
	default:
	}
}

func (w *world) resetCard(uuid string) {
	for _, c := range w.cards.list {
		if c.device.UUID == uuid {
			c.reading = c.after
			if c.reading.UUID == "" {
				none := gpu.RecoverNone
				c.reading = gpu.Reading{UUID: uuid, Total: 80 << 30, Recovery: &none, Temperature: 35, Listed: true}
			}
		}
	}
}

// examine waits for the end of a process, as the real one does.
func (w *world) examine(d policy.Decision, m *policy.Machine) {
	began := w.now
	var look func()
	look = func() {
		b := w.byID(d.Container)
		if w.m != m || b == nil {
			return
		}
		e := &policy.Examination{Signs: b.signs}
		if !w.cards.hang && w.cards.driver.State == gpu.DriverUp {
			e.Readings = w.read(d.GPUs)
		}
		if d.Check && b.check && b.status == "running" {
			e.Check = &policy.Probe{Start: w.now, End: w.now, Output: b.output}
			if b.sick {
				e.Check.ExitCode = 1
			}
		}
		e.PIDExited = d.PID > 0 && w.cards.ended[d.PID] && w.cards.own[d.PID]
		failed := e.Check != nil && e.Check.ExitCode != 0
		if d.PID > 0 && !e.PIDExited && !failed && w.now.Sub(began) < d.PIDWithin-time.Second {
			w.after(100*time.Millisecond, look)
			return
		}
		w.deliver(policy.Event{Kind: policy.KindExamined, Unit: d.Unit, Container: d.Container, Decision: d.ID, Examination: e})
	}
	logs := 30 * time.Millisecond
	if b := w.byID(d.Container); b != nil {
		logs = cmp.Or(b.logs, logs)
	}
	w.after(logs, look)
}

// gpuCommand carries out a line of a story that is about GPUs.
func (p *player) gpuCommand(verb, name string, opts map[string]string) bool {
	w := p.w
	switch verb {
	case "driver":
		w.cards.driver = gpu.Driver{State: gpu.DriverState(name), Version: or(opts["version"], "580.95"), Detail: strings.ReplaceAll(opts["why"], "_", " ")}
		n, _ := strconv.Atoi(opts["cards"])
		w.cards.plug(n)
		w.cards.hang = name == "hung"
		mig, _ := strconv.Atoi(opts["mig"])
		for i := range mig {
			d := &w.cards.list[0].device
			d.MIG = append(d.MIG, gpu.MIG{UUID: fmt.Sprintf("MIG-%d", i), Index: i, GI: i})
		}
		w.tellDriver()
		for _, c := range w.cards.list {
			if w.cards.driver.State == gpu.DriverUp && opts["quiet"] == "" {
				w.tellCard(c)
			}
		}
	case "nameless": // it has fallen off the bus before defib started: its address is all that is told
		c := p.card(name)
		c.device.UUID, c.device.Index = c.device.PCI, -1
		c.reading = gpu.Reading{UUID: c.device.PCI, Trouble: gpu.TroubleLost}
	case "unplug": // the last of them
		w.cards.list = w.cards.list[:len(w.cards.list)-1]
	case "card":
		c := p.card(name)
		before := c.reading.Uncorrected
		p.setCard(c, opts)
		if c.reading.Uncorrected > before { // as the probe tells it
			f := gpu.Fault{At: w.now, Kind: gpu.FaultECC, UUID: c.device.UUID, PCI: c.device.PCI, Source: gpu.SourceNVML}
			w.deliver(policy.Event{Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &f}})
		}
		w.tellCard(c)
	case "process":
		p.process(p.card(name), opts)
	case "ends":
		pid, _ := strconv.Atoi(name)
		w.cards.ended[pid] = true
	case "xid":
		n, _ := strconv.Atoi(or(opts["times"], "1"))
		for i := range n { // each of another process
			p.xid(p.card(name), opts, i)
		}
	case "sxid":
		code, _ := strconv.Atoi(or(opts["code"], "20034"))
		f := gpu.Fault{At: w.now, Kind: gpu.FaultSXid, Code: code, PCI: "0000:05:00.0", Severity: gpu.SeverityFatal, Source: gpu.SourceKernel, Seq: w.cards.seq + 1000}
		w.cards.seq++
		w.deliver(policy.Event{Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &f}})
	case "blind":
		w.cards.driver.Blind = strings.ReplaceAll(opts["why"], "_", " ")
		w.tellDriver()
	case "remig":
		d := &p.card(name).device
		d.MIG = nil
		for i := range 2 {
			d.MIG = append(d.MIG, gpu.MIG{UUID: fmt.Sprintf("MIG-new%d", i), Index: i, GI: i})
		}
		w.tellDriver()
	case "sign":
		b := w.boxes[name]
		b.signs = nil
		if s := opts["is"]; s != "" {
			b.signs = []gpu.Sign{gpu.Sign(s)}
		}
	case "gpu-reset":
		w.cards.resetErr = strings.ReplaceAll(opts["err"], "_", " ")
		w.deliver(policy.Event{Kind: policy.KindCommand, Command: &policy.Command{Order: policy.OrderReset, GPU: name, By: "ann", Force: opts["force"] == "true"}})
	case "gpu-release":
		w.deliver(policy.Event{Kind: policy.KindCommand, Command: &policy.Command{Order: policy.OrderRelease, GPU: name, By: "ann"}})
	case "gpus":
		p.gpus()
	default:
		return false
	}
	return true
}

func (p *player) card(name string) *card {
	i, err := strconv.Atoi(name)
	if err != nil || i >= len(p.w.cards.list) {
		p.t.Fatalf("no GPU %q", name)
	}
	return p.w.cards.list[i]
}

func (p *player) setCard(c *card, opts map[string]string) {
	r := &c.reading
	for k, v := range opts {
		n, _ := strconv.Atoi(v)
		switch k {
		case "recovery":
			to := gpu.Recovery(n)
			if r.Recovery = &to; v == "unknown" {
				r.Recovery = nil
			}
		case "trouble":
			r.Trouble = gpu.Trouble(v)
		case "hot":
			r.Hot = v == "true"
		case "used":
			r.Used = uint64(n) << 30
		case "errors":
			r.Uncorrected, r.Counted = uint64(n), true
		case "remap_failed":
			r.RemapFailed = v == "true"
		case "fabric":
			r.Fabric = gpu.Fabric(v)
		default:
			p.t.Fatalf("card %s", k)
		}
	}
}

// process puts a process on a GPU, or takes it off.
func (p *player) process(c *card, opts map[string]string) {
	pid, _ := strconv.Atoi(opts["pid"])
	var kept []gpu.Process
	for _, proc := range c.reading.Processes {
		if proc.PID != pid {
			kept = append(kept, proc)
		} else {
			c.reading.Used -= proc.Memory
		}
	}
	if opts["gone"] == "" {
		mem, _ := strconv.Atoi(or(opts["mem"], "60"))
		proc := gpu.Process{PID: pid, Name: or(opts["name"], "VLLM::Worker"), Memory: uint64(mem) << 30, Dead: opts["dead"] == "true"}
		if b := p.w.boxes[opts["in"]]; b != nil {
			proc.Containers = []string{b.id}
		}
		kept = append(kept, proc)
		c.reading.Used += proc.Memory
		p.w.cards.own[pid] = opts["side"] == ""
	}
	c.reading.Processes = kept
	p.w.tellCard(c)
}

func (p *player) xid(c *card, opts map[string]string, nth int) {
	w := p.w
	code, _ := strconv.Atoi(opts["code"])
	pid, _ := strconv.Atoi(opts["pid"])
	pid += nth
	w.cards.seq++
	f := gpu.Fault{At: w.now, Kind: gpu.FaultXid, Code: code, PCI: c.device.PCI, PID: pid, Source: gpu.SourceKernel, Seq: w.cards.seq, Historic: opts["historic"] == "true"}
	f.Severity = gpu.Severity(opts["severity"])
	if to := opts["recovery"]; to != "" {
		n, _ := strconv.Atoi(to)
		action := gpu.Recovery(n)
		f.Recovery = &action
	}
	if ago := p.duration(opts["ago"]); ago > 0 {
		f.At = w.now.Add(-ago)
	}
	if gi := opts["gi"]; gi != "" {
		f.OnMIG, f.CI = true, -1
		f.GI, _ = strconv.Atoi(gi)
	}
	f.Unseen = opts["unseen"] == "true"
	if pid != 0 {
		f.Process = or(opts["name"], "VLLM::Worker")
	}
	if b := w.boxes[opts["in"]]; b != nil {
		f.Containers = []string{b.id}
	}
	if opts["source"] == "nvml" || opts["source"] == "both" {
		n := gpu.Fault{At: w.now, Kind: gpu.FaultXid, Code: code, UUID: c.device.UUID, Source: gpu.SourceNVML}
		w.deliver(policy.Event{Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &n}})
	}
	if opts["source"] != "nvml" {
		w.deliver(policy.Event{Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &f}})
	}
}

// gpus prints what `defib gpus` would tell.
func (p *player) gpus() {
	for _, g := range p.w.m.GPUs() {
		fmt.Fprintf(&p.out, "  GPU %d: containers %s", g.Index, or(strings.Join(g.Units, ","), "none"))
		if g.Meaning != "" {
			fmt.Fprintf(&p.out, "; last fault: %s", g.Meaning)
		}
		if g.Hold != nil {
			fmt.Fprintf(&p.out, "; held, ends %s", g.Clears)
		}
		if g.Reset != "" {
			fmt.Fprintf(&p.out, "; reset: %s", g.Reset)
		}
		p.out.WriteString("\n")
	}
}
