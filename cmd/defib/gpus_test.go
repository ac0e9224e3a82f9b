package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

const gib = 1 << 30

// rack has one GPU in each state.
func rack() *watcher.View {
	v := zoo()
	v.Units[3].GPUs, v.Units[5].GPUs = []string{"0"}, []string{"2", "3"}
	v.Units[5].GPUNote = "asked for by NVIDIA_VISIBLE_DEVICES, which does not say that it uses them"
	v.Host.GPU.Driver = gpu.Driver{State: gpu.DriverUp, Version: "580.95.05", Blind: "defib runs without pid: host"}
	v.Host.GPU.KernelLog = "/dev/kmsg may not be opened; start the container with --device /dev/kmsg --cap-add SYSLOG"
	none, reset := gpu.RecoverNone, gpu.RecoverReset
	add := func(r gpu.Reading, g policy.GPUStatus) {
		n := len(v.GPUs)
		g.Index, g.UUID, g.Name, g.PCI = n, "GPU-3f2a000"+string(rune('0'+n))+"-aaaa-bbbb-cccc-000000000000", "NVIDIA H100 80GB HBM3", "0000:"+string(rune('1'+n))+"b:00.0"
		if r.UUID = g.UUID; r.At.IsZero() {
			r.At = minutes(0)
		}
		if r.Total == 0 && r.Trouble == "" {
			r.Used, r.Total, r.Temperature = 72*gib-1, 80*gib, 61
		}
		g.Reading = r
		v.GPUs = append(v.GPUs, g)
	}
	hold := func(why string) *policy.Hold {
		return &policy.Hold{Reason: policy.HoldGPU, Scope: policy.ScopeGPU, Since: minutes(3), Why: why}
	}
	mended := hold("GPU 2 has an uncorrectable memory error (Xid 48) and the driver asks for a GPU reset")
	mended.Judgement = &gpu.Judgement{Verdict: gpu.Hold, Scope: gpu.ScopeGPU, Clears: gpu.ClearRecovery}
	add(gpu.Reading{Recovery: &none, PowerBrake: true}, policy.GPUStatus{Units: []string{"embed"}})
	add(gpu.Reading{Recovery: &none, Hot: true, Temperature: 92, Used: 1, Total: 80 * gib, RemapPending: true}, policy.GPUStatus{
		LastFault: &gpu.Fault{At: minutes(200), Kind: gpu.FaultSXid, Code: 20034},
		Device:    gpu.Device{MIG: []gpu.MIG{{UUID: "MIG-1", Index: 0, GI: 1}, {UUID: "MIG-2", Index: 1, GI: 2}}},
	})
	add(gpu.Reading{Recovery: &reset}, policy.GPUStatus{
		Units: []string{"lama"}, LastFault: &gpu.Fault{At: minutes(3), Kind: gpu.FaultXid, Code: -1},
		Hold: mended, Incident: "INC-7F3K",
		Clears: "when the driver's recovery action has been none for 15 s, after a reboot, or by `defib gpus release 2`",
	})
	add(gpu.Reading{Trouble: gpu.TroubleLost}, policy.GPUStatus{
		Units: []string{"lama", hostile()}, LastFault: &gpu.Fault{At: minutes(3), Kind: gpu.FaultBusLoss}, Hold: hold(hostile()),
	})
	add(gpu.Reading{}, policy.GPUStatus{Units: []string{"embed", "lama"}, Reset: "stopping"})
	add(gpu.Reading{Trouble: gpu.TroubleNotReady}, policy.GPUStatus{LastFault: &gpu.Fault{At: minutes(9), Kind: gpu.FaultInit}})
	add(gpu.Reading{Trouble: gpu.TroubleUnbound, Detail: "it was taken from the NVIDIA driver; on the bus it belongs to vfio-pci now"}, policy.GPUStatus{LastFault: &gpu.Fault{At: minutes(9), Kind: gpu.FaultECC}})
	return v
}

func TestGPUTables(t *testing.T) {
	d := (&daemon{view: rack()}).start(t)
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"gpus", []string{"gpus"}, exitNotWell},
		{"gpus-wide", []string{"gpus", "-o", "wide", "1", "GPU-3f2a0003"}, exitNotWell},
		{"gpus-colour", []string{"gpus", "--color", "always"}, exitNotWell},
		{"gpus-one", []string{"gpus", "0000:1b:00.0"}, exitOK},
		{"gpus-status", []string{"status", "embed", "lama"}, exitNotWell},
		{"gpus-describe", []string{"describe", "lama"}, exitOK},
	} {
		out, errs, code := d.run(t, c.args...)
		golden(t, c.name, out)
		if errs != "" || code != c.code {
			t.Errorf("%s: stderr %q, exit code %d; want none, %d", c.name, errs, code, c.code)
		}
	}
}

func TestGPUJSON(t *testing.T) {
	d := (&daemon{view: rack()}).start(t)
	d.live = nil
	out, _, code := d.run(t, "gpus", "-o", "json", "2")
	var got api.GPUs
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := api.GPUs{Version: 1, At: noon, Driver: rack().Host.GPU.Driver, KernelLog: rack().Host.GPU.KernelLog, GPUs: rack().GPUs[2:3]}
	if diff := cmp.Diff(want, got); diff != "" || code != exitNotWell {
		t.Errorf("exit code %d, %s", code, diff)
	}
}

// TestNoGPU wants one true sentence and the code for each state of the driver.
func TestNoGPU(t *testing.T) {
	for _, c := range []struct {
		driver gpu.Driver
		gpus   bool
		code   int
		want   string
	}{
		{gpu.Driver{}, false, exitOK, "The driver has not been asked, or has not answered yet.\n"},
		{gpu.Driver{State: gpu.DriverUp, Version: "580"}, false, exitOK, "The driver 580 is up and lists no GPU.\n"},
		{gpu.Driver{State: gpu.DriverAbsent, Detail: "this defib was built without GPU support"}, false, exitOK, "This defib was built without GPU support.\n"},
		{gpu.Driver{State: gpu.DriverAbsent, Detail: "there is none", Blind: "defib runs without pid: host"}, false, exitOK, "There is none.\n"},
		{gpu.Driver{State: gpu.DriverUp, Version: "580", Partial: true}, false, exitOK, "The driver 580 is up and lists no GPU.\n" + upperFirst(partial) + ".\n"},
		{gpu.Driver{State: gpu.DriverHung}, false, exitNotWell, "The driver does not answer: it misses its deadlines.\n"},
		{gpu.Driver{State: gpu.DriverMismatch}, false, exitNotWell, "The driver was changed while it ran: its library and its kernel module are of different versions; reboot, or reload the module.\n"},
		{gpu.Driver{State: gpu.DriverLost, Detail: "let go for a GPU reset"}, false, exitNotWell, "The driver is not asked at the moment: let go for a GPU reset.\n"},
		{gpu.Driver{State: gpu.DriverLost}, false, exitNotWell, "The driver is not asked at the moment: it is asked again soon.\n"},
		{gpu.Driver{State: gpu.DriverLost}, true, exitNotWell, "INDEX  MODEL  STATE    TEMP  VRAM  RECOVERY  LAST XID  CONTAINERS\n0      A100   UNKNOWN  -     -     -         -         -\n\nThe driver is not asked at the moment: it is asked again soon.\n"},
	} {
		v := zoo()
		v.Host.GPU.Driver = c.driver
		if c.gpus {
			v.GPUs = []policy.GPUStatus{{Device: gpu.Device{Name: "A100"}, Reading: gpu.Reading{At: noon}}}
		}
		d := (&daemon{view: v}).start(t)
		if out, errs, code := d.run(t, "gpus"); out != c.want || errs != "" || code != c.code {
			t.Errorf("%+v: got %q, %q, %d; want %q, %d", c.driver, out, errs, code, c.want, c.code)
		}
	}
}

func TestGPUOrders(t *testing.T) {
	note := func(rule, reason string) []policy.Decision {
		return []policy.Decision{{ID: 7, Verb: policy.VerbNote, Rule: rule, Reason: reason}}
	}
	after := func(ds []policy.Decision) []watcher.Committed {
		return []watcher.Committed{{Record: watcher.Record{Event: policy.Event{Kind: policy.KindGPUReading}, Decisions: ds}}}
	}
	const uuid2 = "GPU-3f2a0002-aaaa-bbbb-cccc-000000000000"
	begun := note("gpu_reset", "gpu_reset by uid 0 of GPU 2: its containers are stopped first: lama")
	const asks = "GPU 2 (NVIDIA H100 80GB HBM3) is HELD. Stopped for it, and started again after it: lama (loading takes about 12m). Reset it? [y/N] "
	for _, c := range []struct {
		name   string
		args   []string
		stdin  string
		answer []policy.Decision
		after  []watcher.Committed
		want   policy.Command
		out    string
		err    string
		code   int
	}{
		{
			"release",
			[]string{"gpus", "release", "2", "--why", "reseated"},
			"", note("released", "GPU 2 is no longer held"), nil,
			policy.Command{Order: policy.OrderRelease, GPU: uuid2, Why: "reseated"},
			"GPU 2 is no longer held.\n", "", exitOK,
		},
		{
			"release all",
			[]string{"gpus", "release", "all"},
			"", note("refused", "every GPU is not held"), nil,
			policy.Command{Order: policy.OrderRelease, GPU: "all"},
			"", "defib: release every GPU: every GPU is not held\n", exitFailed,
		},
		{
			"reset",
			[]string{"gpus", "reset", "-y", "2"},
			"", begun, nil,
			policy.Command{Order: policy.OrderReset, GPU: uuid2},
			"gpu_reset by uid 0 of GPU 2: its containers are stopped first: lama. `defib gpus` shows how far it is.\n", "", exitOK,
		},
		{
			"reset, asked",
			[]string{"gpus", "reset", "2", "--wait", "--force"},
			"y\n", begun, after(note("gpu_reset_done", "GPU 2 was reset and is well")),
			policy.Command{Order: policy.OrderReset, GPU: uuid2, Force: true},
			"GPU 2 was reset and is well.\n", asks, exitOK,
		},
		{
			"reset, no",
			[]string{"gpus", "reset", "2"},
			"no\n", begun, nil,
			policy.Command{},
			"", asks + "defib: nothing was done\n", exitFailed,
		},
		{
			"reset fails",
			[]string{"gpus", "reset", "-y", "--wait", "2"},
			"", begun, after(note("gpu_reset_failed", "GPU 2 could not be reset: it is in use")),
			policy.Command{Order: policy.OrderReset, GPU: uuid2},
			"",
			"defib: reset GPU 2: GPU 2 could not be reset: it is in use\n  `defib gpus` shows how it is now, `defib events` what was done\n", exitFailed,
		},
		{
			"reset refused",
			[]string{"gpus", "reset", "-y", "2"},
			"", note("refused", "defib runs in observe mode"), nil,
			policy.Command{Order: policy.OrderReset, GPU: uuid2},
			"", "defib: reset GPU 2: defib runs in observe mode\n", exitFailed,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := (&daemon{view: rack(), answer: func(policy.Command) []policy.Decision { return c.answer }, after: c.after, stdin: c.stdin}).start(t)
			d.wants(t, c.want, c.out, c.err, c.code, c.args...)
		})
	}
}

// TestNobodyToAsk refuses a reset without --yes where nobody reads the question.
func TestNobodyToAsk(t *testing.T) {
	d := (&daemon{view: rack()}).start(t)
	in, err := os.Create(filepath.Join(t.TempDir(), "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out, errs bytes.Buffer
	code := newApp(in, &out, &errs, func(string) string { return "" }).run(t.Context(), []string{"gpus", "reset", "0", "--socket", d.socket})
	want := "defib: a reset asks first, and there is nobody to ask\n  say --yes to have it done without a question\n"
	if errs.String() != want || code != exitUsage || len(d.commands) != 0 {
		t.Errorf("got %q, %d and %d orders; want %q, %d and none", errs.String(), code, len(d.commands), want, exitUsage)
	}
}

func TestGPUCompletion(t *testing.T) {
	d := (&daemon{view: rack()}).start(t)
	if out, _, _ := d.run(t, "__complete", "gpus", "reset", ""); out[:len("0\tNVIDIA H100 80GB HBM3 WELL\n1\tNVIDIA H100 80GB HBM3 HOT\n")] != "0\tNVIDIA H100 80GB HBM3 WELL\n1\tNVIDIA H100 80GB HBM3 HOT\n" {
		t.Errorf("got %q", out)
	}
	if out, _, _ := d.run(t, "__complete", "gpus", "reset", "0", ""); out != ":4\n" {
		t.Errorf("a second GPU: got %q", out)
	}
}

func TestGPUGreeting(t *testing.T) {
	on := config.Default().GPU
	blind := on
	blind.KernelLog = ""
	up := gpu.Driver{State: gpu.DriverUp, Version: "580.95.05"}
	unsure := up
	unsure.Blind = "defib runs without pid: host"
	for _, c := range []struct {
		cfg    config.GPU
		driver gpu.Driver
		log    string
		want   string
	}{
		{config.GPU{}, up, "", "GPUs are not looked at: gpu.enabled is false."},
		{on, gpu.Driver{State: gpu.DriverAbsent, Detail: "there is no /dev/nvidiactl"}, "", "There is no /dev/nvidiactl."},
		{on, up, "", "It looks at 1 GPU (driver 580.95.05) and at the kernel log."},
		{on, up, "you may not read it.", "It looks at 1 GPU (driver 580.95.05), not at the kernel log: you may not read it."},
		{blind, unsure, "", "It looks at 1 GPU (driver 580.95.05), not at the kernel log: gpu.kernel_log is empty; defib runs without pid: host."},
	} {
		v := &watcher.View{GPUs: make([]policy.GPUStatus, 1), Host: policy.Host{GPU: policy.GPUHost{Driver: c.driver, KernelLog: c.log}}}
		if got := gpuGreeting(c.cfg, v); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestRecoveryWords(t *testing.T) {
	want := []string{"none", "reset", "reboot", "drain P2P", "drain, reset", "recover IMEX", "6"}
	for i, word := range want {
		if r := gpu.Recovery(i); recovery(&r) != word {
			t.Errorf("%d: got %q, want %q", i, recovery(&r), word)
		}
	}
	if got := lastFault(noon, &gpu.Fault{At: noon.Add(-90 * time.Second), Kind: gpu.FaultMismatch}); got != "api mismatch, 90s ago" {
		t.Errorf("got %q", got)
	}
}
