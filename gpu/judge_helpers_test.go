package gpu

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	up   = Driver{State: DriverUp, Version: "580.95.05"}
	h100 = Device{UUID: "GPU-1", Index: 0, Minor: 0, Name: "NVIDIA H100", PCI: "0000:3b:00.0"}
	next = Device{UUID: "GPU-2", Index: 1, Minor: 1, Name: "NVIDIA H100", PCI: "0000:5e:00.0"}
)

const (
	self   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	other  = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	about  = "GPU 0 (NVIDIA H100, 0000:3b:00.0) "
	resets = "Stop what runs on it and reset it: `nvidia-smi --gpu-reset -i 0`"
	linked = "Stop what runs on the GPUs that are linked with it, then reset them all together: `nvidia-smi --gpu-reset`"
)

// well is a reading of a GPU that is well, of a driver that keeps the recovery
// action.
func well() Reading {
	return Reading{UUID: "GPU-1", At: noon, Recovery: new(RecoverNone), Total: 80 * gib}
}

// old is a reading of a driver that does not.
func old() Reading { return Reading{UUID: "GPU-1", At: noon, Total: 80 * gib} }

func state(r Reading, faults ...Fault) State { return State{Device: h100, Reading: &r, Faults: faults} }

func xid(code int) Fault {
	return Fault{At: noon, Kind: FaultXid, Code: code, UUID: "GPU-1", Source: SourceKernel}
}

// by says which process a fault names.
func by(container string, f Fault) Fault {
	f.PID, f.Process, f.Containers = 4242, "VLLM::Worker", []string{container}
	return f
}

func failed(states ...State) Case {
	c := Case{Driver: up, ID: self}
	for _, s := range states {
		c.GPUs = append(c.GPUs, Used{State: s})
	}
	return c
}

// same compares all but the evidence.
func same(t *testing.T, want, got Judgement) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Judgement{}, "Evidence")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// onGPU is a judgement about GPU 0; a hold calls a human.
func onGPU(v Verdict, rule, says, remedy string, clears Clearing) Judgement {
	return Judgement{
		Verdict: v, Rule: rule, Scope: ScopeGPU, GPU: "GPU-1", Cause: about + says, Remedy: remedy,
		Clears: clears, Page: v == Hold,
	}
}

func with(j Judgement, change func(*Judgement)) Judgement {
	change(&j)
	return j
}

func onHost(j *Judgement)  { j.Scope = ScopeHost }
func noKill(j *Judgement)  { j.Scope, j.NoKill = ScopeHost, true }
func several(j *Judgement) { j.Multi = true }

func within(d time.Duration) func(*Judgement) { return func(j *Judgement) { j.For = d } }
