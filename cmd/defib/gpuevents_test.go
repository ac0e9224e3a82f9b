package main

import (
	"testing"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

func TestGPUEvents(t *testing.T) {
	reset := gpu.RecoverReset
	bad := []gpu.Reading{{UUID: "GPU-1", Recovery: &reset, Hot: true}, {UUID: "GPU-2"}, {UUID: "GPU-3", Trouble: gpu.TroubleNotReady}}
	facts := func(kind policy.Kind, f policy.GPUFacts) policy.Event { return policy.Event{Kind: kind, GPU: &f} }
	exam := func(e policy.Examination) policy.Event {
		return policy.Event{Kind: policy.KindExamined, Unit: "llm", Examination: &e}
	}
	var records []watcher.Record
	for i, ev := range []policy.Event{
		facts(policy.KindGPUDriver, policy.GPUFacts{Driver: &gpu.Driver{State: gpu.DriverUp, Version: "580.95.05"}, Devices: make([]gpu.Device, 2)}),
		facts(policy.KindGPUDriver, policy.GPUFacts{Driver: &gpu.Driver{State: gpu.DriverHung, Detail: "no answer for 5 s"}}),
		facts(policy.KindGPUFault, policy.GPUFacts{Fault: &gpu.Fault{Kind: gpu.FaultXid, Code: -1, UUID: "GPU-1"}}),
		facts(policy.KindGPUFault, policy.GPUFacts{Fault: &gpu.Fault{Kind: gpu.FaultSXid, Code: 20034, PCI: "0000:05:00.0", PID: 42, Process: hostile(), Historic: true, Text: "Fatal, Link 63"}}),
		facts(policy.KindGPUFault, policy.GPUFacts{Fault: &gpu.Fault{Kind: gpu.FaultBusLoss, PID: 7}}),
		facts(policy.KindGPUReading, policy.GPUFacts{Readings: []gpu.Reading{{UUID: "GPU-2"}}}),
		facts(policy.KindGPUReading, policy.GPUFacts{Readings: bad}),
		facts(policy.KindGPUReading, policy.GPUFacts{Readings: bad}), // said already
		{Kind: policy.KindGPUReading},
		{Kind: policy.KindKernelLog, Reason: "permission denied"},
		{Kind: policy.KindKernelLog},
		exam(policy.Examination{}),
		exam(policy.Examination{Check: &policy.Probe{ExitCode: 1}, PIDExited: true, SignLine: "CUDA error: an illegal memory access", Readings: bad[2:]}),
		exam(policy.Examination{Check: &policy.Probe{}}),
		exam(policy.Examination{CheckErr: "the container is not running"}),
	} {
		ev.At = minutes(20 - i)
		records = append(records, watcher.Record{Event: ev})
	}
	records[0].Decisions = []policy.Decision{
		{At: minutes(20), Verb: policy.VerbPoll, Rule: "settle", Reason: "not shown"},
		{At: minutes(20), Verb: policy.VerbExamine, Name: "llm", Rule: "xid_31", Reason: "does it still serve?"},
	}
	out, errs, code := (&daemon{view: zoo(), records: records}).start(t).run(t, "events")
	golden(t, "gpus-events", out)
	if errs != "" || code != exitOK {
		t.Errorf("stderr %q, exit code %d", errs, code)
	}
}
