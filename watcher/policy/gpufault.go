package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file takes in faults: what the kernel log and NVML report of a GPU.

const (
	keepFaults = 24 * time.Hour
	maxFaults  = 32              // per GPU
	sameFault  = 2 * time.Second // NVML and the kernel log report one fault within it
)

// gpuFault takes in one report of trouble.
func (m *Machine) gpuFault(ev Event) {
	if ev.GPU == nil || ev.GPU.Fault == nil {
		return
	}
	f := *ev.GPU.Fault
	if f.Kind == gpu.FaultMismatch {
		m.say("api_mismatch", "the kernel log says that a client of another driver version was turned away: "+f.Text)
		return
	}
	if f.Kind == gpu.FaultSXid {
		m.switchFault(f)
		return
	}
	g := m.gpuOf(&f)
	if g == nil {
		m.nowhere(f)
		return
	}
	if m.known(g, f) {
		return
	}
	m.keepFault(g, f)
	if f.Historic {
		return
	}
	m.sayFault(g, f)
	if f.Settles() {
		m.content(g)
	}
	m.weigh(g, f)
}

// content: the driver says that nothing needs to be done to a GPU any more.
func (m *Machine) content(g *GPU) {
	if h, held := m.gpuHold(g.UUID, partFault); held && h.Judgement.Scope == gpu.ScopeGPU && !h.Judgement.NoKill {
		m.freeGPU(g.UUID, partFault, "gpu_cleared", "the driver says that "+m.gpuTitle(g.UUID)+" needs no recovery any more")
	}
}

// gpuOf finds the GPU of a fault. One that the driver does not list is filed
// under its address.
func (m *Machine) gpuOf(f *gpu.Fault) *GPU {
	for i := range m.host.GPU.GPUs {
		if g := &m.host.GPU.GPUs[i]; f.UUID != "" && g.UUID == f.UUID || f.PCI != "" && g.PCI == f.PCI {
			f.UUID, f.PCI = g.UUID, cmp.Or(g.PCI, f.PCI)
			return g
		}
	}
	key := cmp.Or(f.UUID, f.PCI)
	if key == "" || len(m.host.GPU.GPUs) >= 64 {
		return nil
	}
	list := append(slices.Clone(m.host.GPU.GPUs), GPU{Device: gpu.Device{UUID: key, PCI: f.PCI, Index: -1, Minor: -1}})
	m.host.GPU.GPUs = list
	m.touchHost()
	return &list[len(list)-1]
}

// known reports whether a fault has been reported already: by the other
// source, or by the kernel log before defib was restarted. What the second
// report adds is kept.
func (m *Machine) known(g *GPU, f gpu.Fault) bool {
	for i := range g.Faults {
		old := g.Faults[i]
		if f.Seq != 0 && old.Seq == f.Seq {
			return true
		}
		twin := old.Kind == f.Kind && old.Code == f.Code && old.Source != f.Source && old.At.Sub(f.At).Abs() <= sameFault
		if !twin || old.Source == gpu.SourceBoth {
			continue
		}
		faults := slices.Clone(g.Faults)
		faults[i] = merged(old, f)
		g.Faults = faults
		m.touchHost()
		if old.PID == 0 && faults[i].PID != 0 && !f.Historic {
			m.weigh(g, faults[i])
		}
		return true
	}
	return false
}

func merged(a, b gpu.Fault) gpu.Fault {
	historic := a.Historic && b.Historic // who tells it late does not make it old
	if b.Source == gpu.SourceKernel {
		b.At, a = a.At, b // the kernel's line says more
	}
	a.Source, a.Historic = gpu.SourceBoth, historic
	return a
}

func (m *Machine) keepFault(g *GPU, f gpu.Fault) {
	var kept []gpu.Fault
	for _, old := range g.Faults {
		if m.now.Sub(old.At) < keepFaults {
			kept = append(kept, old)
		}
	}
	kept = append(kept, f)
	slices.SortStableFunc(kept, func(a, b gpu.Fault) int { return a.At.Compare(b.At) })
	if len(kept) > maxFaults { // a storm of lesser ones must not hide a grave one
		least := 0
		for i := range kept {
			if gravity(kept[i]) < gravity(kept[least]) {
				least = i
			}
		}
		kept = slices.Delete(kept, least, least+1)
	}
	g.Faults = kept
	m.touchHost()
}

// gravity orders faults by how much a verdict depends on them.
func gravity(f gpu.Fault) int {
	row := gpu.Lookup(f.Code)
	switch {
	case f.Historic:
		return 0
	case f.Kind == gpu.FaultECC:
		return 1
	case f.Kind != gpu.FaultXid || row.Verdict == gpu.Hold:
		return 3
	case row.Verdict == gpu.Restart:
		return 2
	}
	return 1
}

// sayFault tells of a fault, but not of a storm of the same.
func (m *Machine) sayFault(g *GPU, f gpu.Fault) {
	for _, old := range g.Faults[:len(g.Faults)-1] {
		same := old.Kind == f.Kind && old.Code == f.Code && (old.PID == f.PID || gravity(f) < 2)
		if same && f.At.Sub(old.At).Abs() < time.Minute {
			return
		}
	}
	m.sayIn(g.Incident, "gpu_fault", fmt.Sprintf("GPU %s: %s", m.gpuName(g.UUID), m.faultText(f)))
}

// faultText is a fault in one phrase: "Xid 31, GPU memory page fault, of
// VLLM::Worker (pid 4242) in chat".
func (m *Machine) faultText(f gpu.Fault) string {
	var b strings.Builder
	switch f.Kind {
	case gpu.FaultXid:
		if f.Code > 0 {
			fmt.Fprintf(&b, "Xid %d, ", f.Code)
		}
		b.WriteString(gpu.Lookup(f.Code).Meaning)
	case gpu.FaultSXid:
		fmt.Fprintf(&b, "NVSwitch SXid %d (%s)", f.Code, f.Severity)
	case gpu.FaultBusLoss:
		b.WriteString("it has fallen off the bus")
	case gpu.FaultInit:
		b.WriteString("the driver could not initialise it")
	case gpu.FaultECC:
		b.WriteString("uncorrectable memory errors")
	case gpu.FaultMismatch:
		b.WriteString("a client is of another driver version")
	}
	if f.PID == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, ", of %s (pid %d)", clip(cmp.Or(f.Process, "a process")), f.PID)
	if _, name := m.ownerOf(f.Containers); name != "" {
		b.WriteString(" in " + name)
	} else if f.Unseen {
		b.WriteString(", which had ended before it could be seen whose it was")
	} else if m.host.GPU.Driver.Blind == "" {
		b.WriteString(" outside every container that defib knows")
	}
	return b.String()
}

// nowhere: a fault that names no GPU is told, and every GPU looked at.
func (m *Machine) nowhere(f gpu.Fault) {
	if f.Historic {
		return
	}
	m.say("gpu_fault", "a GPU that the kernel does not name: "+m.faultText(f))
	for i := range m.host.GPU.GPUs {
		if g := &m.host.GPU.GPUs[i]; g.Index >= 0 {
			m.judgeSoon(g)
		}
	}
}

// switchFault: a fault of the switch between GPUs concerns every container
// that uses several.
func (m *Machine) switchFault(f gpu.Fault) {
	if f.Historic {
		return
	}
	m.say("gpu_fault", m.faultText(f))
	j := gpu.JudgeGPU(answering(), gpu.State{Device: gpu.Device{Index: -1}, Faults: []gpu.Fault{f}})
	if j.Verdict == gpu.Hold {
		m.waive(allGPUs)
		m.holdGPU(allGPUs, partFault, j)
	}
}

// weigh decides what a fault calls for: a look at the GPU, or at the container
// whose process it names.
func (m *Machine) weigh(g *GPU, f gpu.Fault) {
	row := gpu.Lookup(f.Code)
	if f.Kind == gpu.FaultXid && row.Known && row.Scope == gpu.ScopeApp && row.Verdict == gpu.Restart {
		m.ownFault(g, f)
		m.suspect(g, f)
	}
	if f.Kind != gpu.FaultXid && f.Kind != gpu.FaultECC || row.Verdict == gpu.Hold {
		m.waive(g.UUID)
	}
	if f.Kind == gpu.FaultXid && row.Verdict == gpu.Hold && row.Soft {
		m.tellSoft(g, f)
	}
	m.judgeSoon(g)
}

// judgeSoon sets a verdict on a GPU for when what follows a fault is known. One
// that is set already stands: a storm must not put it off.
func (m *Machine) judgeSoon(g *GPU) {
	if g.JudgeAt.IsZero() || g.Zeros > 0 {
		g.JudgeAt = m.now.Add(gpu.Settle)
	}
	m.touchHost()
}
