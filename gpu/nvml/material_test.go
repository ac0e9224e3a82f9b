package nvml

import (
	"testing"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// What is news, and what is not.
func TestMaterial(t *testing.T) {
	t.Parallel()
	none, reset := gpu.RecoverNone, gpu.RecoverReset
	base := func() gpu.Reading {
		again := none
		return gpu.Reading{
			UUID: "GPU-1", At: time.Unix(1, 0), Recovery: &again, Used: 50, Total: 100, Temperature: 40, Listed: true,
			Processes: []gpu.Process{{PID: 1, Containers: []string{"a"}}, {PID: 2}},
		}
	}
	tests := []struct {
		name   string
		change func(*gpu.Reading)
		want   bool
	}{
		{"nothing", func(*gpu.Reading) {}, false},
		{"its time", func(r *gpu.Reading) { r.At = time.Unix(2, 0) }, false},
		{"temperature", func(r *gpu.Reading) { r.Temperature = 80 }, false},
		{"5 % of memory", func(r *gpu.Reading) { r.Used = 55 }, false},
		{"more memory", func(r *gpu.Reading) { r.Used = 56 }, true},
		{"less memory", func(r *gpu.Reading) { r.Used = 44 }, true},
		{"all of the memory", func(r *gpu.Reading) { r.Total = 101 }, true},
		{"trouble", func(r *gpu.Reading) { r.Trouble = gpu.TroubleReset }, true},
		{"recovery", func(r *gpu.Reading) { r.Recovery = &reset }, true},
		{"recovery unknown", func(r *gpu.Reading) { r.Recovery = nil }, true},
		{"hot", func(r *gpu.Reading) { r.Hot = true }, true},
		{"power brake", func(r *gpu.Reading) { r.PowerBrake = true }, true},
		{"remap pending", func(r *gpu.Reading) { r.RemapPending = true }, true},
		{"remap failed", func(r *gpu.Reading) { r.RemapFailed = true }, true},
		{"SRAM", func(r *gpu.Reading) { r.SRAMThreshold = true }, true},
		{"ECC", func(r *gpu.Reading) { r.Uncorrected = 1 }, true},
		{"fabric", func(r *gpu.Reading) { r.Fabric = gpu.FabricFailed }, true},
		{"processes in another order", func(r *gpu.Reading) { r.Processes[0], r.Processes[1] = r.Processes[1], r.Processes[0] }, false},
		{"memory of a process", func(r *gpu.Reading) { r.Processes[0].Memory = 9 }, false},
		{"a process more", func(r *gpu.Reading) { r.Processes = append(r.Processes, gpu.Process{PID: 3}) }, true},
		{"a process less", func(r *gpu.Reading) { r.Processes = r.Processes[:1] }, true},
		{"a process died", func(r *gpu.Reading) { r.Processes[1].Dead = true }, true},
		{"a process's container", func(r *gpu.Reading) { r.Processes[1].Containers = []string{"b"} }, true},
		{"processes not asked for", func(r *gpu.Reading) { r.Processes, r.Listed = nil, false }, false},
	}
	for _, test := range tests {
		b := base()
		test.change(&b)
		if got := material(base(), b); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	lost, other := base(), base()
	lost.Trouble, lost.Used = gpu.TroubleLost, 0
	again := gpu.Reading{UUID: "GPU-1", Trouble: gpu.TroubleLost, Detail: "in other words"}
	if material(lost, again) {
		t.Error("a GPU that is lost is lost; what was not read is no news")
	}
	other.Trouble, other.Detail = gpu.TroubleOther, "a"
	again = other
	again.Detail = "b"
	if !material(other, again) {
		t.Error("another code is news")
	}
}
