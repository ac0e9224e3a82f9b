package nvml

import (
	"cmp"
	"slices"

	"github.com/defib-dev/defib/gpu"
)

// materialMemory is the part of a GPU's memory, as a divisor, by which its use
// must change to be news: 5 %.
const materialMemory = 20

// material reports whether b says something that a, reported before, does not.
// The temperature and small changes of memory are for display only.
func material(a, b gpu.Reading) bool {
	switch {
	case a.Trouble != b.Trouble || b.Trouble == gpu.TroubleOther && a.Detail != b.Detail:
		return true
	case b.Trouble == gpu.TroubleLost || b.Trouble == gpu.TroubleMissing || b.Trouble == gpu.TroubleTimeout || b.Trouble == gpu.TroubleUnbound:
		return false // the rest was not read
	}
	return !sameRecovery(a.Recovery, b.Recovery) ||
		a.Hot != b.Hot || a.PowerBrake != b.PowerBrake ||
		a.RemapPending != b.RemapPending || a.RemapFailed != b.RemapFailed ||
		a.SRAMThreshold != b.SRAMThreshold || a.Uncorrected != b.Uncorrected ||
		a.Fabric != b.Fabric || a.SharedMemory != b.SharedMemory || a.Total != b.Total ||
		max(a.Used, b.Used)-min(a.Used, b.Used) > b.Total/materialMemory ||
		b.Listed && (!a.Listed || !sameProcesses(a.Processes, b.Processes))
}

func sameRecovery(a, b *gpu.Recovery) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// sameProcesses: the same ones, of the same containers, and those that live
// are the same. The driver lists them in no order.
func sameProcesses(a, b []gpu.Process) bool {
	return slices.EqualFunc(byPID(a), byPID(b), func(x, y gpu.Process) bool {
		return x.PID == y.PID && x.Dead == y.Dead && slices.Equal(x.Containers, y.Containers)
	})
}

func byPID(list []gpu.Process) []gpu.Process {
	return slices.SortedFunc(slices.Values(list), func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
}

func equalDevices(a, b gpu.Device) bool {
	return a.UUID == b.UUID && a.Index == b.Index && a.Minor == b.Minor && a.PCI == b.PCI && a.Name == b.Name &&
		slices.Equal(a.MIG, b.MIG)
}

// compareDevices puts those without an index last.
func compareDevices(a, b gpu.Device) int {
	return cmp.Or(cmp.Compare(uint(a.Index), uint(b.Index)), cmp.Compare(a.UUID, b.UUID)) //nolint:gosec // -1 becomes the last
}
