package policy

import (
	"fmt"
	"slices"

	"github.com/defib-dev/defib/gpu"
)

// This file finds out that a GPU is to blame for what looks like faults of the
// programs on it.

// The same fault of applications on one GPU, though different containers met
// it and were restarted for it: the GPU itself is to blame.
const (
	blameLimit = 3
	blameUnits = 2
)

// repeats reports that a GPU, not the container, is to blame for a fault.
func (m *Machine) repeats(u *unit, uuid string, code int) bool {
	i := m.gpuIndex(uuid)
	if i < 0 {
		return false
	}
	n, units := 0, map[string]bool{u.Key: true}
	for _, b := range m.host.GPU.GPUs[i].Blamed {
		if b.Code == code && m.now.Sub(b.At) < keepFaults && b.At.After(m.host.GPU.GPUs[i].Cleared) {
			n++
			units[b.Unit] = true
		}
	}
	return n >= blameLimit && len(units) >= blameUnits
}

// ownFault notes a fault of a process of a watched container: its end, which
// may have been seen already, is put down to it.
func (m *Machine) ownFault(g *GPU, f gpu.Fault) {
	u, _ := m.ownerOf(f.Containers)
	if u == nil || f.At.Before(u.Run.Began) {
		return
	}
	u.Run.Own = &RunFault{At: f.At, GPU: g.UUID, Code: f.Code}
	m.touch(u)
	if u.Last.Restarting {
		m.blameRun(u)
	}
}

// blameRun puts the end of a run down to the fault shortly before it. Docker
// itself restarts the container; when the GPU is to blame, it is held.
func (m *Machine) blameRun(u *unit) {
	f := u.Run.Own
	if f == nil || u.Run.Blamed || m.now.Sub(f.At) > gpu.WindowBefore+gpu.WindowAfter {
		return
	}
	if m.repeats(u, f.GPU, f.Code) {
		m.holdRepeat(f.GPU, f.Code)
	}
	m.blame(u, f.GPU, f.Code)
}

// blame notes that u is restarted for a fault of an application; once per run.
func (m *Machine) blame(u *unit, uuid string, code int) {
	i := m.gpuIndex(uuid)
	if i < 0 || code == 0 || u.Run.Blamed {
		return
	}
	u.Run.Blamed = true
	m.touch(u)
	g := &m.host.GPU.GPUs[i]
	kept := slices.Clone(g.Blamed)
	kept = slices.DeleteFunc(kept, func(b Blame) bool { return m.now.Sub(b.At) >= keepFaults })
	kept = append(kept, Blame{At: m.now, Code: code, Unit: u.Key})
	g.Blamed = kept[max(0, len(kept)-maxFaults):]
	m.touchHost()
}

// holdRepeat holds a GPU on which the same fault comes again and again.
func (m *Machine) holdRepeat(uuid string, code int) {
	row := gpu.Lookup(code)
	m.holdGPU(uuid, partFault, gpu.Judgement{
		Verdict: gpu.Hold, Rule: "xid_repeats", Scope: gpu.ScopeGPU, GPU: uuid, Clears: gpu.ClearReset, Page: true,
		Cause: fmt.Sprintf("GPU %s shows Xid %d (%s) again and again, in different containers that were restarted for it; that speaks for the GPU, not for them",
			m.gpuName(uuid), code, row.Meaning),
		Remedy: "Test the GPU with `dcgmi diag -r 3`, reset or replace it, and then run `defib gpus release " + m.gpuName(uuid) + "`",
	})
}
