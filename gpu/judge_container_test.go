package gpu

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const bugAdvice = "Look for a bug in the program, such as an illegal address; if it stays with the GPU, have the board checked: `nvidia-smi -q -i 0`"

var (
	staleCDI = Judgement{
		Verdict: Hold, Rule: "stale_cdi", Scope: ScopeApp, Page: true,
		Cause:  "it cannot start, since the CDI description of the GPUs is not that of the driver",
		Remedy: "Write the description anew, then start it: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`",
	}
	accessLost = Judgement{
		Verdict: Restart, Rule: "gpu_access_lost", Scope: ScopeApp,
		Cause:  "it has lost access to its GPU, which is well on the host; `systemctl daemon-reload` or `docker update` does that",
		Remedy: "To prevent it, give it the GPU by CDI or by explicit --device nodes, or use Docker's cgroupfs driver: `docker run --device nvidia.com/gpu=all`",
	}
	upgraded = Judgement{
		Verdict: Hold, Rule: "driver_mismatch", Scope: ScopeHost, Clears: ClearDriver, Page: true,
		Cause:  "the NVIDIA driver was upgraded, and its old kernel module still runs; containers that run keep working and are left alone, but none would start",
		Remedy: "Reboot, or stop everything that uses a GPU and load the modules anew: `reboot`",
	}
	noLinks = Judgement{
		Verdict: Wait, Rule: "fabric", Scope: ScopeApp, Clears: ClearReading, For: 5 * time.Minute, Remedy: fabricRemedy,
		Cause: "it reports that the links between the GPUs are not set up yet (CUDA 802)",
	}
)

// own is a restart for a fault of the container's own process.
func own(rule, cause, remedy string) Judgement {
	return Judgement{Verdict: Restart, Rule: rule, Scope: ScopeApp, GPU: "GPU-1", Cause: cause, Remedy: remedy}
}

func (c Case) says(s ...Sign) Case { c.Signs = s; return c }

func (c Case) waited(d time.Duration) Case { c.Waited = d; return c }

// expired is a wait that was waited out.
func expired(j Judgement, after string) Judgement {
	j.Verdict, j.Page, j.For = Hold, true, 0
	j.Cause += ", still so after " + after
	return j
}

// TestStories are the failures of gpu.md §4, in its order.
func TestStories(t *testing.T) {
	asks := func(r Recovery) Reading { x := well(); x.Recovery = &r; return x }
	lost := Reading{Trouble: TroubleLost, Detail: "GPU is lost"}
	hot := well()
	hot.Hot, hot.Temperature = true, 92
	remap := well()
	remap.RemapPending = true
	worn := well()
	worn.RemapFailed = true
	starting := well()
	starting.Fabric = FabricInProgress
	fatal := xid(149)
	fatal.Severity = SeverityFatal
	nonfatal := xid(149)
	nonfatal.Severity = SeverityNonfatal
	two := State{Device: next, Reading: new(well())}
	heat := with(onGPU(Wait, "hot", "is slowed down for heat (92 °C)", "See to its fans and to the air around it: `nvidia-smi -q -d TEMPERATURE,PERFORMANCE -i 0`", ClearReading), within(15*time.Minute))
	links := with(with(onGPU(Wait, "fabric", "has links to other GPUs that are not set up yet (in progress)", fabricRemedy, ClearReading), several), within(5*time.Minute))
	for _, c := range []struct {
		name string
		Case
		want Judgement
	}{
		{"4.1 access lost", failed(state(well())).says(SignAccessLost), accessLost},
		{"4.2 driver upgraded", Case{Driver: Driver{State: DriverMismatch}, ID: self, Signs: []Sign{SignMismatch}}, upgraded},
		{"4.2 only the start says so", Case{Driver: Driver{State: DriverAbsent}, ID: self, Signs: []Sign{SignMismatch}}, upgraded},
		{"4.2b stale CDI", failed(state(well())).says(SignStaleCDI), staleCDI},
		{"4.3 fallen off the bus", failed(state(lost, xid(79))), with(onGPU(Hold, "bus_loss", "has fallen off the bus (Xid 79)", busAdvice, ClearReading), noKill)},
		{"4.3 the driver asks for a reboot", failed(state(asks(RecoverReboot), xid(79))), with(onGPU(Hold, "recovery_action",
			"has fallen off the bus (Xid 79) and the driver asks for a reboot of the host", "Reboot as soon as what still serves can be spared: `reboot`", ClearRecovery), noKill)},
		{
			"4.4 GSP hang",
			Case{Driver: Driver{State: DriverHung}, ID: self, GPUs: []Used{{State: state(Reading{Trouble: TroubleTimeout}, xid(119))}}},
			onGPU(Hold, "xid_119", "has firmware (GSP) that does not answer (Xid 119)", bootReset, ClearReset),
		},
		{"4.6 contained ECC", failed(state(remap, xid(63), by(self, xid(94)))), own("xid_94", "Xid 94 (contained uncorrectable memory error) of VLLM::Worker (pid 4242) on GPU 0",
			"Let defib restart the program that was hit; if a row remap is pending, reset the GPU at the next maintenance: `nvidia-smi --gpu-reset -i 0`")},
		{"4.7 uncorrectable ECC", failed(state(asks(RecoverReset), xid(48))).says(SignECC), onGPU(Hold, "recovery_action",
			"has an uncorrectable memory error (Xid 48) and the driver asks for a GPU reset", resets, ClearRecovery)},
		{"4.7 an older driver", failed(state(old(), xid(95))).says(SignECC), onGPU(Hold, "xid_95", "has an uncontained memory error (Xid 95)",
			"Trust no result of any program on it; stop what runs on it and reset it: `nvidia-smi --gpu-reset -i 0`", ClearReset)},
		{"4.7 remap failed", failed(state(worn)).says(SignMemory), onGPU(Hold, "remap_failed", "has broken memory that it can no longer replace", newBoard, ClearReading)},
		{"4.8 hot", failed(state(hot)), heat},
		{"4.8 hot for 15 min", failed(state(hot)).waited(15 * time.Minute), expired(heat, "15 min")},
		{"4.9 fabric", failed(state(starting), two), links},
		{"4.9 fabric for 5 min", failed(state(starting), two).waited(5 * time.Minute), expired(links, "5 min")},
		{"4.9 fabric, of no matter on one GPU", failed(state(starting)), Judgement{Verdict: Restart}},
		{"4.9 fabric, CUDA says so on one GPU", failed(state(well())).says(SignFabric), noLinks},
		{"4.9 and for 5 min", failed(state(well())).says(SignFabric).waited(5 * time.Minute), expired(noLinks, "5 min")},
		{"4.10 NVLink, fatal", failed(state(well(), fatal), two).says(SignNVLink), with(onGPU(Hold, "xid_149", "has an NVLink error (Xid 149)", linked, ClearReset), several)},
		{"4.10 NVLink, fatal, one GPU", failed(state(well(), fatal)), Judgement{Verdict: Restart}},
		{"4.10 NVLink, nonfatal", failed(state(well(), nonfatal), two), Judgement{Verdict: Restart}},
		{"4.10 NVLink and NCCL", failed(state(well(), xid(74)), two).says(SignNVLink), with(onGPU(Hold, "xid_74", "has an NVLink error (Xid 74)", linked, ClearReset), several)},
		{"4.10 NVLink once", failed(state(well(), xid(74)), two), Judgement{Verdict: Restart}},
		{"4.11 CUDA 999", failed(state(well())).says(SignAccessLost), accessLost},
		{"4.13 illegal address", failed(state(well(), by(self, xid(31)))).says(SignApp, SignEngineDead), own("xid_31", "Xid 31 (GPU memory page fault) of VLLM::Worker (pid 4242) on GPU 0", bugAdvice)},
		{"4.13 no Xid", failed(state(well())).says(SignApp), Judgement{Verdict: Restart, Cause: "it reports a fault of its own program on the GPU (CUDA 700 to 719)"}},
	} {
		t.Run(c.name, func(t *testing.T) { same(t, c.want, Judge(c.Case)) })
	}
}

// TestOwnFaults: a fault counts for the container whose process it names.
func TestOwnFaults(t *testing.T) {
	of31 := own("xid_31", "Xid 31 (GPU memory page fault) of VLLM::Worker (pid 4242) on GPU 0", bugAdvice)
	for name, c := range map[string]struct {
		faults []Fault
		want   string
	}{
		"its own":                      {[]Fault{by(self, xid(31))}, "xid_31"},
		"another container's":          {[]Fault{by(other, xid(31))}, ""},
		"nobody's":                     {[]Fault{xid(31)}, ""},
		"the first of two":             {[]Fault{by(self, xid(31)), by(self, xid(13))}, "xid_31"},
		"43 alone":                     {[]Fault{by(self, xid(43)), by(self, xid(45))}, "xid_43"},
		"43 before another":            {[]Fault{by(self, xid(43)), by(self, xid(13))}, "xid_13"},
		"109 with action 0":            {[]Fault{by(self, xid(109))}, "xid_109"},
		"48 that 94 explains":          {[]Fault{xid(48), by(self, xid(94))}, "xid_94"},
		"another's 94 explains 48 too": {[]Fault{xid(48), by(other, xid(94))}, ""},
		"a GPU fault by another's":     {[]Fault{by(other, xid(119))}, "xid_119"},
		"unknown":                      {[]Fault{xid(55)}, "unknown_xid"},
		"unknown, its own":             {[]Fault{by(self, xid(-1))}, "unknown_xid"},
		"unknown, another's":           {[]Fault{by(other, xid(55))}, ""},
		"unknown over its own":         {[]Fault{by(self, xid(31)), xid(200)}, "unknown_xid"},
		"soft":                         {[]Fault{by(self, xid(168))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Judge(failed(state(well(), c.faults...))); got.Rule != c.want {
				t.Errorf("%s %q, want %q", got.Verdict, got.Rule, c.want)
			}
		})
	}
	same(t, of31, Judge(failed(state(well(), by(self, xid(31))))))
	same(t, onGPU(Hold, "unknown_xid", "reported Xid 55, and nobody can say whether a restart would help",
		"See whether `dmesg` says more, and ask NVIDIA's support what it means", ClearReset), Judge(failed(state(well(), xid(55)))))
	same(t, onGPU(Hold, "unknown_xid", "reported an Xid whose number the driver does not tell, and nobody can say whether a restart would help",
		"Look for its number in the kernel log: `dmesg | grep Xid`", ClearReset), Judge(failed(state(well(), xid(-1)))))
}

// TestParts: a fault of one MIG instance is none of the others'.
func TestParts(t *testing.T) {
	inside := by(self, xid(62))
	inside.OnMIG, inside.GI, inside.CI = true, 5, 0
	for name, c := range map[string]struct {
		parts []MIG
		rule  string
	}{
		"the whole GPU":    {nil, "xid_62"},
		"that instance":    {[]MIG{{GI: 1}, {GI: 5}}, "xid_62"},
		"another instance": {[]MIG{{GI: 1}}, ""},
		"another CI":       {[]MIG{{GI: 5, CI: 1}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Judge(Case{Driver: up, ID: self, GPUs: []Used{{State: state(old(), inside), Parts: c.parts}}})
			if got.Rule != c.rule || (len(got.Evidence) > 0) != (c.rule != "") {
				t.Errorf("%q, %q", got.Rule, got.Evidence)
			}
		})
	}
	whole := Judge(Case{Driver: up, ID: self, GPUs: []Used{{State: state(old(), xid(62)), Parts: []MIG{{GI: 1}}}}})
	if whole.Rule != "xid_62" {
		t.Errorf("a fault of the whole GPU: %q", whole.Rule)
	}
}

// TestJudgeOrder: what is wrong with the container, in the order that counts.
func TestJudgeOrder(t *testing.T) {
	hot := well()
	hot.Hot = true
	gone := Judgement{
		Verdict: Recreate, Rule: "gpu_gone", Scope: ScopeApp, Page: true,
		Cause:  "what it asks for is not there any more: GPU-3f, /dev/nvidia7",
		Remedy: "Name a GPU that is there in its compose file or its command, then recreate it: `docker compose up -d --force-recreate`",
	}
	c := failed(state(well(), xid(55))).says(SignStaleCDI, SignFabric, SignAccessLost)
	c.Gone, c.Unread = []string{"GPU-3f", "/dev/nvidia7\n"}, []string{"1"}
	same(t, gone, Judge(c))
	for i, rule := range []string{"gpu_gone", "gpu_unread", "unknown_xid", "stale_cdi", "fabric", "gpu_access_lost", ""} {
		if got := Judge(c); got.Rule != rule {
			t.Errorf("%d: %q, want %q", i, got.Rule, rule)
		}
		switch i {
		case 0:
			c.Gone = nil
		case 1:
			same(t, Judgement{
				Verdict: Hold, Rule: "gpu_unread", Scope: ScopeApp, Clears: ClearReading,
				Cause:  "what it asks for is not found while a GPU of this host does not answer, and may be that one: 1",
				Remedy: "See which GPU it is and what it takes, most often a reboot: `defib gpus`",
			}, Judge(c))
			c.Unread = nil
		case 2:
			c.GPUs = failed(state(well())).GPUs
		default:
			c.Signs = c.Signs[min(1, len(c.Signs)):]
		}
	}
	for rule, c := range map[string]Case{
		"hot":      {Driver: up, Gone: []string{"1"}, GPUs: failed(state(hot)).GPUs},
		"xid_79":   {Driver: up, GPUs: failed(state(old(), xid(48)), State{Device: next, Faults: []Fault{xid(79)}}).GPUs},
		"gpu_gone": {Driver: Driver{State: DriverAbsent}, Gone: []string{"1"}},
	} {
		if got := Judge(c); got.Rule != rule {
			t.Errorf("%q, want %q", got.Rule, rule)
		}
	}
}

// TestECC is §4.7 on a driver that neither keeps a recovery action nor reports
// an Xid: the program's word and a count that rose together.
func TestECC(t *testing.T) {
	rose := Fault{At: noon, Kind: FaultECC, UUID: "GPU-1", Source: SourceNVML}
	want := onGPU(Hold, "ecc", "has counted uncorrectable memory errors, and a program on it ended of one (CUDA 214)",
		"Stop what runs on it, reset it, and ask NVIDIA's support if it returns: `nvidia-smi --gpu-reset -i 0`", ClearReset)
	same(t, want, Judge(failed(state(old(), rose)).says(SignECC)))
	same(t, with(want, func(j *Judgement) {
		j.GPU, j.Cause = "GPU-2", "GPU 1 (NVIDIA H100, 0000:5e:00.0)"+want.Cause[len(about)-1:]
	}),
		with(Judge(failed(state(old()), State{Device: next, Reading: new(old()), Faults: []Fault{rose}}).says(SignECC)), func(j *Judgement) { j.Remedy = want.Remedy }))
	for name, c := range map[string]Case{
		"nothing was counted":    failed(state(old())).says(SignECC),
		"the program is silent":  failed(state(old(), rose)).says(SignApp),
		"the driver is content":  failed(state(well(), rose)).says(SignECC),
		"it was contained":       failed(state(old(), rose, by(self, xid(94)))).says(SignECC),
		"it has been dealt with": failed(state(old(), rose, settled())).says(SignECC),
	} {
		if got := Judge(c); got.Verdict != Restart {
			t.Errorf("%s: %s %s", name, got.Verdict, got.Rule)
		}
	}
	if got := JudgeGPU(up, state(old(), rose)); got.Verdict != Restart || !slices.Contains(got.Evidence, "GPU 0: uncorrectable memory errors") {
		t.Errorf("by itself it is evidence: %+v", got)
	}
}

// settled is the driver's word that nothing is to be done any more.
func settled() Fault {
	f := xid(xidState)
	f.Recovery = new(RecoverNone)
	return f
}

// TestPowerBrake: a GPU that is slowed down from outside makes a container slow,
// and a restart does not help that; one that has ended is started.
func TestPowerBrake(t *testing.T) {
	braked := well()
	braked.PowerBrake = true
	want := with(onGPU(Wait, "power_brake", "is slowed down from outside",
		"Look at the power supply and at the board's power cables: `nvidia-smi -q -d PERFORMANCE,POWER -i 0`", ClearReading), within(15*time.Minute))
	c := failed(state(braked))
	same(t, want, Judge(c))
	same(t, expired(want, "15 min"), Judge(c.waited(15*time.Minute)))
	c.Down = true
	same(t, Judgement{Verdict: Restart}, Judge(c))
	braked.Trouble = TroubleOther
	same(t, Judgement{Verdict: Restart}, Judge(failed(state(braked))))
}

// TestOutlasted: of two waits the one that was waited out counts.
func TestOutlasted(t *testing.T) {
	hot := well()
	hot.Hot = true
	c := failed(state(hot), State{Device: next, Reading: &Reading{Trouble: TroubleTimeout}})
	for waited, want := range map[time.Duration]Judgement{
		0: {Verdict: Wait, Rule: "hot"}, time.Minute: {Verdict: Hold, Rule: "gpu_hung", Page: true}, 15 * time.Minute: {Verdict: Hold, Rule: "hot", Page: true},
	} {
		got := Judge(c.waited(waited))
		if diff := cmp.Diff(want, Judgement{Verdict: got.Verdict, Rule: got.Rule, Page: got.Page}); diff != "" {
			t.Errorf("%v (-want +got):\n%s", waited, diff)
		}
	}
	hung := Judge(Case{Driver: Driver{State: DriverHung}, Waited: time.Minute})
	if hung.Verdict != Hold || hung.Scope != ScopeHost || hung.Cause != "the NVIDIA driver does not answer, still so after 60 s" {
		t.Errorf("%+v", hung)
	}
}

// TestAccessLost: only when the GPU is known to be well.
func TestAccessLost(t *testing.T) {
	for _, c := range []Case{
		failed(state(Reading{Trouble: TroubleOther})),
		failed(State{Device: h100}),
		{Driver: Driver{State: DriverLost}, GPUs: failed(state(well())).GPUs},
	} {
		same(t, Judgement{Verdict: Restart, Cause: "it reports that it cannot reach its GPU"}, Judge(c.says(SignAccessLost)))
	}
	same(t, accessLost, Judge(failed().says(SignAccessLost))) // its GPUs are not known, as of a privileged one
	same(t, Judgement{Verdict: Restart, Cause: "it reports that driver and library are of different versions"}, Judge(failed(state(well())).says(SignMismatch)))
}

// TestReports: every sign has a sentence, and a GPU of which little is known a
// name.
func TestReports(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []Sign{
		SignAccessLost, SignMismatch, SignStaleCDI, SignFabric, SignMemory, SignECC, SignContained, SignNVLink,
		SignUnavailable, SignApp, SignEngineDead, SignStartFailed, "new\x1b",
	} {
		if r := reports(s); seen[r] || len(r) < 10 || s == "new\x1b" && r != "it reports new" {
			t.Errorf("%s: %q", s, r)
		}
		seen[reports(s)] = true
	}
	for _, c := range []struct {
		device     Device
		name, with string
	}{
		{Device{Index: 3}, "GPU 3", " -i 3"},
		{Device{Index: 3, UUID: "GPU-1", PCI: "0000:3b:00.0"}, "GPU 3 (0000:3b:00.0)", " -i 3"},
		{Device{Index: -1, UUID: "GPU-1", PCI: "0000:3b:00.0"}, "GPU 0000:3b:00.0", " -i 0000:3b:00.0"},
		{Device{Index: -1, UUID: "GPU-1"}, "GPU GPU-1", " -i GPU-1"},
		{Device{Index: -1}, "a GPU", ""},
	} {
		got := JudgeGPU(up, State{Device: c.device, Faults: []Fault{xid(62)}})
		if want := c.name + " has a halted internal controller (Xid 62)"; got.Cause != want {
			t.Errorf("%q, want %q", got.Cause, want)
		}
		if want := "Stop what runs on it and reset it: `nvidia-smi --gpu-reset" + c.with + "`"; got.Remedy != want {
			t.Errorf("%q, want %q", got.Remedy, want)
		}
	}
}
