//go:build cgo

package nvml

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
)

// healthy is what a GPU of the fake driver reads when nothing is set.
func healthy(index int) gpu.Reading {
	none := gpu.RecoverNone
	return gpu.Reading{UUID: fakenvml.UUID(index), Recovery: &none, Total: 85520809984, Temperature: 41, Counted: true, Listed: true}
}

// The driver's list comes with its state, and names everything of a GPU.
func TestDevices(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Blind = func() string { return "cannot see host processes" }
	r.drv.Set("count", 2)
	r.drv.Set("driver", "570.1")
	r.drv.SetGPU(1, "mig", "3:0,5:1")
	r.drv.SetGPU(1, "minor", 7)
	r.drv.SetGPU(1, "pci", "00000001:AF:00.0")
	r.drv.SetGPU(1, "name", "NVIDIA A100")
	got := r.up(t)
	want := []gpu.Device{
		{UUID: fakenvml.UUID(0), Index: 0, Minor: 0, PCI: gpu.Address("00000000:3B:00.0"), Name: "NVIDIA H100 80GB HBM3"},
		{UUID: fakenvml.UUID(1), Index: 1, Minor: 7, PCI: gpu.Address("00000001:AF:00.0"), Name: "NVIDIA A100", MIG: []gpu.MIG{
			{UUID: "MIG-00000001-0000-4000-8000-000000000000", Index: 0, GI: 3, CI: 0},
			{UUID: "MIG-00000001-0000-4000-8000-000000000001", Index: 1, GI: 5, CI: 1},
		}},
	}
	if diff := cmp.Diff(want, got.GPU.Devices); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(gpu.Driver{State: gpu.DriverUp, Version: "570.1", Blind: "cannot see host processes"}, *got.GPU.Driver); diff != "" {
		t.Errorf("driver (-want +got):\n%s", diff)
	}
	r.drv.SetGPU(1, "mig", "3:0")
	if got := r.untilState(t, gpu.DriverUp); len(got.GPU.Devices[1].MIG) != 1 {
		t.Errorf("instances after one was removed: %+v", got.GPU.Devices[1].MIG)
	}
}

// Every field of a reading, one by one.
func TestReadings(t *testing.T) {
	t.Parallel()
	reset, reboot := gpu.RecoverReset, gpu.RecoverReboot
	tests := []struct {
		name string
		keys map[string]any
		want func(*gpu.Reading)
	}{
		{"healthy", nil, func(*gpu.Reading) {}},
		{"memory", map[string]any{"used": 79 << 30, "total": 80 << 30}, func(r *gpu.Reading) { r.Used, r.Total = 79<<30, 80<<30 }},
		{"no memory of its own", map[string]any{"memory.ret": 3}, func(r *gpu.Reading) { r.Total, r.SharedMemory = 0, true }},
		{"recovery reset", map[string]any{"field.230": 1}, func(r *gpu.Reading) { r.Recovery = &reset }},
		{"recovery reboot", map[string]any{"field.230": 2}, func(r *gpu.Reading) { r.Recovery = &reboot }},
		{"recovery not supported", map[string]any{"field.230.ret": 3}, func(r *gpu.Reading) { r.Recovery = nil }},
		{"no field values", map[string]any{"fields.ret": 3}, func(r *gpu.Reading) { r.Recovery = nil }},
		{"temperature", map[string]any{"temperature": 88}, func(r *gpu.Reading) { r.Temperature = 88 }},
		{"hardware thermal", map[string]any{"reasons": 0x40}, func(r *gpu.Reading) { r.Hot = true }},
		{"software thermal", map[string]any{"reasons": 0x20}, func(r *gpu.Reading) { r.Hot = true }},
		{"slowdown with margin", map[string]any{"reasons": 0x8}, func(*gpu.Reading) {}},
		{"slowdown without margin", map[string]any{"reasons": 0x8, "margin": 0}, func(r *gpu.Reading) { r.Hot = true }},
		{"slowdown at the threshold", map[string]any{"reasons": 0x8, "margin.ret": 3, "temperature": 87}, func(r *gpu.Reading) { r.Hot, r.Temperature = true, 87 }},
		{"power brake", map[string]any{"reasons": 0x88}, func(r *gpu.Reading) { r.PowerBrake = true }},
		{"idle and power cap", map[string]any{"reasons": 0x5}, func(*gpu.Reading) {}},
		{"remap pending", map[string]any{"rows": "1 1 1 0"}, func(r *gpu.Reading) { r.RemapPending = true }},
		{"remap failed", map[string]any{"rows": "1 9 0 1"}, func(r *gpu.Reading) { r.RemapFailed = true }},
		{"rows not supported", map[string]any{"rows.ret": 3}, func(*gpu.Reading) {}},
		{"pages retired", map[string]any{"rows.ret": 3, "retired": 1}, func(r *gpu.Reading) { r.RemapPending = true }},
		{"ecc", map[string]any{"ecc": 12}, func(r *gpu.Reading) { r.Uncorrected = 12 }},
		{"ecc off", map[string]any{"ecc.ret": 3}, func(r *gpu.Reading) { r.Counted = false }},
		{"sram", map[string]any{"sram": 1}, func(r *gpu.Reading) { r.SRAMThreshold = true }},
		{"fabric not started", map[string]any{"fabric": 1}, func(r *gpu.Reading) { r.Fabric = gpu.FabricNotStarted }},
		{"fabric in progress", map[string]any{"fabric": 2}, func(r *gpu.Reading) { r.Fabric = gpu.FabricInProgress }},
		{"fabric completed", map[string]any{"fabric": 3}, func(r *gpu.Reading) { r.Fabric = gpu.FabricCompleted }},
		{"fabric failed", map[string]any{"fabric": 3, "fabric.status": 999}, func(r *gpu.Reading) { r.Fabric = gpu.FabricFailed }},
		{"an extra call fails oddly", map[string]any{"fabric.ret": 999, "sram.ret": 999}, func(*gpu.Reading) {}},
		{"processes", map[string]any{"compute": "42:1000,7", "graphics": "42:10,9:5", "mps": "11:1"}, func(r *gpu.Reading) {
			r.Processes = []gpu.Process{{PID: 7}, {PID: 9, Memory: 5}, {PID: 11, Memory: 1}, {PID: 42, Memory: 1000}}
		}},
		{"processes refused", map[string]any{"compute.ret": 3}, func(r *gpu.Reading) { r.Listed = false }},
	}
	r := newRig(t)
	r.up(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for k, v := range test.keys {
				r.drv.SetGPU(0, k, v)
			}
			want := healthy(0)
			test.want(&want)
			got := r.poll(t, fakenvml.UUID(0))
			if len(got) != 1 {
				t.Fatalf("%d readings, want 1", len(got))
			}
			wantReading(t, got[0], want)
			for k := range test.keys {
				r.drv.UnsetGPU(0, k)
			}
		})
	}
}

// A GPU whose memory is a node of the host, as on GH200.
func TestSharedMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.SetGPU(0, "numa", 1)
	r.up(t)
	want := healthy(0)
	want.SharedMemory = true
	wantReading(t, r.poll(t)[0], want)
}

// A GPU that was slowed down counts so for a while: it is hot again as soon as a
// model is loaded onto it.
func TestCool(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Cool = time.Minute
	now := r.clock()
	r.up(t)
	for _, step := range []struct {
		at         int64
		reasons    int
		hot, brake bool
	}{
		{1000, 0x1, false, false},
		{1005, 0x40, true, false},
		{1010, 0x1, true, false},
		{1030, 0x80, true, true},
		{1064, 0x1, true, true},
		{1065, 0x1, false, true},
		{1090, 0x1, false, false},
	} {
		now.Store(step.at)
		r.drv.SetGPU(0, "reasons", step.reasons)
		if got := r.poll(t)[0]; got.Hot != step.hot || got.PowerBrake != step.brake {
			t.Errorf("at %d: hot %v, braked %v", step.at, got.Hot, got.PowerBrake)
		}
	}
	r.drv.SetGPU(0, "reasons", 0x40)
	r.poll(t)
	r.drv.SetGPU(0, "ret", 999)
	if got := r.poll(t)[0]; got.Hot {
		t.Error("it could not be read, and is said to be hot")
	}
}

// What it was cut into is known while a GPU does not answer.
func TestLostMIG(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 2)
	r.drv.SetGPU(1, "mig", "3:0,5:1")
	r.up(t)
	r.drv.Lost(1)
	r.untilReading(t, "lost", func(one gpu.Reading) bool { return one.Trouble == gpu.TroubleLost })
	r.drv.SetGPU(0, "name", "another") // so that the list is told anew
	got := r.untilState(t, gpu.DriverUp).GPU.Devices
	if len(got) != 2 || len(got[1].MIG) != 2 || got[1].MIG[1].GI != 5 {
		t.Errorf("devices: %+v", got)
	}
}

// What each return code says of the GPU that was asked.
func TestReturnCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code int
		want gpu.Trouble
	}{
		{3, ""},
		{13, ""},
		{25, ""},
		{4, gpu.TroubleOther},
		{17, gpu.TroubleOther},
		{11, gpu.TroubleOther},
		{14, gpu.TroubleOther},
		{77, gpu.TroubleOther},
		{10, gpu.TroubleTimeout},
		{15, gpu.TroubleLost},
		{16, gpu.TroubleReset},
		{27, gpu.TroubleNotReady},
		{29, gpu.TroubleNotReady},
		{999, gpu.TroubleUnknown},
	}
	r := newRig(t)
	r.drv.Set("count", 2)
	r.up(t)
	for _, test := range tests {
		r.drv.SetGPU(0, "ret", test.code)
		got := r.poll(t, fakenvml.UUID(0), fakenvml.UUID(1))
		if got[0].Trouble != test.want || (got[0].Detail != "") != (test.want != "") {
			t.Errorf("code %d: trouble %q (%s), want %q", test.code, got[0].Trouble, got[0].Detail, test.want)
		}
		if got[0].Recovery != nil {
			t.Errorf("code %d: recovery %v, want it unknown", test.code, *got[0].Recovery)
		}
		wantReading(t, got[1], healthy(1)) // the other GPU is well
	}
}

// What each return code of the start says of the driver.
func TestInitCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code int
		want gpu.DriverState
	}{
		{9, gpu.DriverAbsent},
		{12, gpu.DriverAbsent},
		{18, gpu.DriverMismatch},
		{4, gpu.DriverLost},
		{17, gpu.DriverLost},
		{999, gpu.DriverLost},
		{15, gpu.DriverLost},
	}
	for _, test := range tests {
		t.Run(string(test.want), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.drv.Set("init.ret", test.code)
			r.start(t)
			got := r.untilState(t, test.want)
			if diff := cmp.Diff(driverOf(test.code), *got.GPU.Driver); diff != "" {
				t.Errorf("code %d (-want +got):\n%s", test.code, diff)
			}
			if _, err := r.Poll(t.Context(), nil); err == nil || err.Error() != got.GPU.Driver.Detail && test.want != gpu.DriverLost {
				t.Errorf("code %d: a poll says %v", test.code, err)
			}
			r.drv.Unset("init.ret") // it is seen without being told
			r.untilState(t, gpu.DriverUp)
		})
	}
}

// A driver that goes while it is used: unloaded, or upgraded.
func TestDriverGoes(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]gpu.DriverState{9: gpu.DriverAbsent, 1: gpu.DriverAbsent, 18: gpu.DriverMismatch} {
		r := newRig(t)
		r.up(t)
		r.drv.Set("init.ret", code)
		r.drv.SetGPU(0, "ret", code)
		if got := r.untilState(t, want); got.GPU.Driver.Version != "580.95.05" {
			t.Errorf("code %d: version %q, want the one that was seen last", code, got.GPU.Driver.Version)
		}
	}
}
