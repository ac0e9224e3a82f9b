package gpu

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	busAdvice = "Stop nothing on it, since that can hang; `reboot`, and cut the power for a minute or reseat the board if it returns"
	bootReset = "Stop what runs on it and reset it, or reboot the host if that hangs: `nvidia-smi --gpu-reset -i 0`"
	newBoard  = "Stop what runs on it and have the board replaced; its record is in `nvidia-smi -q -i 0`"
	endFirst  = "Let what runs on it end, then reset it: `nvidia-smi --gpu-reset -i 0`"
)

var fine = Judgement{Verdict: Restart, GPU: "GPU-1"}

// TestJudgeGPUReading is §0.2 a to d, and f.
func TestJudgeGPUReading(t *testing.T) {
	trouble := func(k Trouble) Reading { return Reading{Trouble: k} }
	asks := func(r Recovery) Reading { return Reading{Recovery: new(r)} }
	fabric := func(f Fabric) Reading { return Reading{Fabric: f} }
	for name, c := range map[string]struct {
		driver Driver
		state  State
		want   Judgement
	}{
		"well":            {up, state(well()), fine},
		"never read":      {up, State{Device: h100}, fine},
		"driver absent":   {Driver{State: DriverAbsent}, State{Device: h100}, fine},
		"driver lost":     {Driver{State: DriverLost}, state(asks(RecoverReset)), onGPU(Hold, "recovery_action", ": the driver asks for a GPU reset", resets, ClearRecovery)},
		"driver mismatch": {Driver{State: DriverMismatch}, State{}, mismatched()},
		"driver hung": {Driver{State: DriverHung}, State{}, Judgement{
			Verdict: Wait, Rule: "driver_hung", Scope: ScopeHost, Clears: ClearDriver, For: time.Minute,
			Cause:  "the NVIDIA driver does not answer",
			Remedy: "See in the kernel log what it hangs on, and reboot if it stays: `dmesg | grep NVRM`",
		}},
		"lost":    {up, state(trouble(TroubleLost)), with(onGPU(Hold, "bus_loss", "has fallen off the bus", busAdvice, ClearReading), noKill)},
		"missing": {up, state(trouble(TroubleMissing)), with(onGPU(Hold, "bus_loss", "has fallen off the bus", busAdvice, ClearReading), noKill)},
		"lost, and an Xid says so": {
			up, state(trouble(TroubleLost), xid(79)),
			with(onGPU(Hold, "bus_loss", "has fallen off the bus (Xid 79)", busAdvice, ClearReading), noKill),
		},
		"reset required": {up, state(trouble(TroubleReset)), onGPU(Hold, "reset_required", "does nothing more until it is reset", resets, ClearReading)},
		"timeout":        {up, state(trouble(TroubleTimeout)), with(onGPU(Wait, "gpu_hung", "does not answer the driver in time", bootReset, ClearReading), within(time.Minute))},
		"unknown error":  {up, state(trouble(TroubleUnknown)), onGPU(Hold, "unknown_error", "answers the driver with an unknown error", bootReset, ClearReading)},
		"not ready":      {up, state(trouble(TroubleNotReady)), with(onGPU(Wait, "not_ready", "is not ready yet", bootReset, ClearReading), within(5*time.Minute))},
		"other trouble":  {up, state(trouble(TroubleOther)), fine},
		"unbound":        {up, state(trouble(TroubleUnbound)), fine},
		"drain P2P": {up, state(asks(RecoverDrainP2P)), with(onGPU(Hold, "recovery_action", ": the driver asks that traffic between GPUs ends",
			"End what uses several GPUs at once, and see whether the driver is content then: `nvidia-smi -q -i 0`", ClearRecovery), several)},
		"drain and reset": {up, state(asks(RecoverDrainReset)), onGPU(Hold, "recovery_action", ": the driver asks for a GPU reset once its work has ended",
			"Let what runs on it end, take no new work, then reset it: `nvidia-smi --gpu-reset -i 0`", ClearRecovery)},
		"IMEX": {up, state(asks(RecoverIMEX)), with(onGPU(Hold, "recovery_action", ": the driver asks for a recovery of its IMEX domain",
			"Recover the IMEX domain on all its hosts: `systemctl restart nvidia-imex`", ClearRecovery), several)},
		"reboot": {up, state(asks(RecoverReboot)), with(onGPU(Hold, "recovery_action", ": the driver asks for a reboot of the host",
			"Reboot as soon as what still serves can be spared: `reboot`", ClearRecovery), onHost)},
		"an action that is new": {up, state(asks(7)), onGPU(Hold, "recovery_action", ": the driver asks for recovery action 7, which defib does not know",
			"Look up what the driver asks for: `nvidia-smi -q -i 0`", ClearRecovery)},
		"remap failed": {up, state(Reading{RemapFailed: true}), onGPU(Hold, "remap_failed", "has broken memory that it can no longer replace", newBoard, ClearReading)},
		"SRAM":         {up, state(Reading{SRAMThreshold: true}), onGPU(Hold, "sram_threshold", "has had too many uncorrectable errors in its SRAM", newBoard, ClearReading)},
		"fabric not started": {up, state(fabric(FabricNotStarted)), with(with(onGPU(Wait, "fabric", "has links to other GPUs that are not set up yet (not started)",
			fabricRemedy, ClearReading), several), within(5*time.Minute))},
		"fabric in progress": {up, state(fabric(FabricInProgress)), with(with(onGPU(Wait, "fabric", "has links to other GPUs that are not set up yet (in progress)",
			fabricRemedy, ClearReading), several), within(5*time.Minute))},
		"fabric failed":    {up, state(fabric(FabricFailed)), with(onGPU(Hold, "fabric", "has links to other GPUs that could not be set up", fabricRemedy, ClearReading), several)},
		"fabric completed": {up, state(fabric(FabricCompleted)), fine},
		"an old fabric":    {up, state(Reading{Trouble: TroubleOther, Fabric: FabricFailed, Hot: true}), fine},
		"hot": {up, state(Reading{Hot: true, Temperature: 92}), with(onGPU(Wait, "hot", "is slowed down for heat (92 °C)",
			"See to its fans and to the air around it: `nvidia-smi -q -d TEMPERATURE,PERFORMANCE -i 0`", ClearReading), within(15*time.Minute))},
		"power brake": {up, state(Reading{PowerBrake: true}), fine},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Cause = strings.Replace(c.want.Cause, " : ", ": ", 1)
			same(t, c.want, JudgeGPU(c.driver, c.state))
		})
	}
}

// TestJudgeGPURanks: what counts most is said, whatever comes first.
func TestJudgeGPURanks(t *testing.T) {
	bus := with(onGPU(Hold, "xid_79", "has fallen off the bus (Xid 79)", busAdvice, ClearReset), noKill)
	for name, c := range map[string]struct {
		driver Driver
		state  State
		rule   string
		noKill bool
	}{
		"driver over GPU":                   {Driver{State: DriverMismatch}, state(Reading{RemapFailed: true}), "driver_mismatch", false},
		"driver over bus loss, kill none":   {Driver{State: DriverMismatch}, state(Reading{Trouble: TroubleLost}), "driver_mismatch", true},
		"a hold over a driver that hangs":   {Driver{State: DriverHung}, state(old(), xid(119)), "xid_119", false},
		"trouble over recovery":             {up, state(Reading{Trouble: TroubleReset, Recovery: new(RecoverReset)}), "reset_required", false},
		"recovery over remap":               {up, state(Reading{Recovery: new(RecoverReset), RemapFailed: true}), "recovery_action", false},
		"remap over Xid":                    {up, state(Reading{RemapFailed: true}, xid(48)), "remap_failed", false},
		"recovery over Xid":                 {up, state(Reading{Recovery: new(RecoverReset)}, xid(48)), "recovery_action", false},
		"host over GPU":                     {up, state(Reading{Recovery: new(RecoverReset)}, xid(79)), "xid_79", true},
		"reboot, kill none":                 {up, state(Reading{Recovery: new(RecoverReboot)}, xid(167)), "recovery_action", true},
		"reboot":                            {up, state(Reading{Recovery: new(RecoverReboot)}, xid(48)), "recovery_action", false},
		"Xid over heat":                     {up, state(Reading{Hot: true}, xid(48)), "xid_48", false},
		"all containers over those on many": {up, state(Reading{Recovery: new(RecoverDrainP2P)}, xid(62)), "xid_62", false},
		"a later host Xid over a GPU Xid":   {up, state(old(), xid(48), xid(79)), "xid_79", true},
		"the first of the same scope":       {up, state(old(), xid(119), xid(62)), "xid_119", false},
		"GPU over app":                      {up, state(old(), xid(31), xid(62)), "xid_62", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := JudgeGPU(c.driver, c.state)
			if got.Rule != c.rule || got.NoKill != c.noKill || got.Verdict != Hold {
				t.Errorf("%s %s, no kill %v", got.Verdict, got.Rule, got.NoKill)
			}
		})
	}
	same(t, bus, JudgeGPU(up, state(old(), xid(48), xid(79))))
}

// TestRecoveryIsExplained: the worst fault in the window says what for.
func TestRecoveryIsExplained(t *testing.T) {
	const asks = " and the driver asks for a GPU reset"
	for want, faults := range map[string][]Fault{
		"GPU 0 (NVIDIA H100, 0000:3b:00.0) has an uncorrectable memory error (Xid 48)" + asks:                                        {xid(31), xid(63), xid(48), xid(62), xid(154)},
		"GPU 0 (NVIDIA H100, 0000:3b:00.0) reported Xid 94 (contained uncorrectable memory error) of VLLM::Worker (pid 4242)" + asks: {xid(63), by(self, xid(94))},
		"GPU 0 (NVIDIA H100, 0000:3b:00.0) reported SXid 20034 (fatal error of an NVSwitch)" + asks:                                  {{Kind: FaultSXid, Code: 20034, Severity: SeverityFatal}},
		"GPU 0 (NVIDIA H100, 0000:3b:00.0) could not be initialised" + asks:                                                          {{Kind: FaultInit}},
		"GPU 0 (NVIDIA H100, 0000:3b:00.0): the driver asks for a GPU reset":                                                         {xid(63), xid(45), xid(168), {Kind: FaultMismatch}},
	} {
		if got := JudgeGPU(up, state(Reading{Recovery: new(RecoverReset)}, faults...)).Cause; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestXid154 counts as the driver's own word when no reading is newer.
func TestXid154(t *testing.T) {
	changed := func(after time.Duration, r Recovery) Fault {
		f := xid(154)
		f.At, f.Recovery = noon.Add(after), &r
		return f
	}
	stale := well()
	stale.Trouble = TroubleTimeout
	for name, c := range map[string]struct {
		state  State
		rule   string
		clears Clearing
	}{
		"no reading":                 {State{Device: h100, Faults: []Fault{changed(0, RecoverReset)}}, "recovery_action", ClearReset},
		"a driver without the field": {state(old(), changed(0, RecoverReset)), "recovery_action", ClearReset},
		"the newest counts":          {state(old(), changed(0, RecoverReset), changed(1, RecoverNone)), "", ""},
		"and the other way round":    {state(old(), changed(0, RecoverNone), changed(1, RecoverReset)), "recovery_action", ClearReset},
		"after the reading":          {state(well(), changed(time.Second, RecoverReset)), "recovery_action", ClearRecovery},
		"before the reading":         {state(well(), changed(-time.Second, RecoverReset)), "", ""},
		"the reading failed":         {state(stale, changed(-time.Second, RecoverReset)), "recovery_action", ClearRecovery},
		"without a value":            {state(old(), xid(154)), "", ""},
		"zero, after an Xid":         {state(old(), xid(119), changed(1, RecoverNone)), "", ""},
		"zero, before an Xid":        {state(old(), changed(-1, RecoverNone), xid(119)), "xid_119", ClearReset},
	} {
		t.Run(name, func(t *testing.T) {
			if got := JudgeGPU(up, c.state); got.Rule != c.rule || got.Clears != c.clears {
				t.Errorf("%s, clears %q", got.Rule, got.Clears)
			}
		})
	}
}

// TestFaultExceptions are the exceptions of §1.2 and §1.3, each with its
// opposite. An empty rule: no hold.
func TestFaultExceptions(t *testing.T) {
	flags := func(code int, rst, drain *bool) Fault {
		f := xid(code)
		f.Reset, f.Drain = rst, drain
		return f
	}
	severe := func(code int, s Severity) Fault {
		f := xid(code)
		f.Severity = s
		return f
	}
	switched := func(s Severity) Fault { return Fault{Kind: FaultSXid, Code: 20034, Severity: s} }
	to := func(r Recovery) Fault {
		f := xid(xidState)
		f.Recovery = &r
		return f
	}
	yes, no := new(true), new(false)
	for name, c := range map[string]struct {
		state State
		rule  string
	}{
		"48":                                {state(old(), xid(48)), "xid_48"},
		"48 alone, action 0":                {state(well(), xid(48)), "xid_48"},
		"48 with 94, action 0":              {state(well(), xid(48), xid(94)), ""},
		"48 with 63 and details, action 0":  {state(well(), xid(48), xid(171), xid(172), xid(63), xid(45), xid(154)), ""},
		"48 with 94, action not known":      {state(old(), xid(48), xid(94)), "xid_48"},
		"48 with 94 and 31, action 0":       {state(well(), xid(48), xid(94), xid(31)), "xid_48"},
		"48 with 94 and unknown, action 0":  {state(well(), xid(48), xid(94), xid(55)), "xid_48"},
		"48 with 94 and bus loss, action 0": {state(well(), xid(48), xid(94), Fault{Kind: FaultBusLoss}), "bus_loss"},
		"172":                               {state(old(), xid(172)), "xid_172"},
		"109":                               {state(old(), xid(109)), "xid_109"},
		"109, action 0":                     {state(well(), xid(109)), ""},
		"156":                               {state(old(), xid(156)), "xid_156"},
		"156, action 0":                     {state(well(), xid(156)), ""},
		"157, action 0":                     {state(well(), xid(157)), "xid_157"},
		"94":                                {state(old(), xid(94)), ""},
		"94 RST no":                         {state(old(), flags(94, no, no)), ""},
		"94 RST yes":                        {state(old(), flags(94, yes, no)), "xid_94"},
		"94 D-RST yes":                      {state(old(), flags(94, no, yes)), "xid_94"},
		"94 RST yes, action 0":              {state(well(), flags(94, yes, no)), ""},
		"95":                                {state(old(), xid(95)), "xid_95"},
		"95 RST yes":                        {state(old(), flags(95, yes, no)), "xid_95"},
		"95 RST no":                         {state(old(), flags(95, no, no)), "xid_95"},
		"95 D-RST yes":                      {state(old(), flags(95, no, yes)), "xid_95"},
		"95 RST no, action 0":               {state(well(), flags(95, no, no)), ""},
		"95 D-RST yes, action 0":            {state(well(), flags(95, no, yes)), "xid_95"},
		"95, action 0":                      {state(well(), xid(95)), "xid_95"},
		"62, then the driver is content":    {state(old(), xid(62), to(RecoverNone)), ""},
		"62 after the driver was content":   {state(old(), to(RecoverNone), xid(62)), "xid_62"},
		"79, then the driver is content":    {state(old(), Fault{Kind: FaultBusLoss}, xid(79), to(RecoverNone)), ""},
		"74 once":                           {state(old(), xid(74)), ""},
		"74 twice":                          {state(old(), xid(74), xid(74)), "xid_74"},
		"74 with 72":                        {state(old(), xid(74), xid(72)), "xid_74"},
		"74 with 31":                        {state(old(), xid(74), xid(31)), ""},
		"144 fatal":                         {state(well(), severe(144, SeverityFatal)), "xid_144"},
		"150 nonfatal":                      {state(old(), severe(150, SeverityNonfatal)), ""},
		"149 without a word":                {state(old(), xid(149)), "xid_149"},
		"149 without a word, action 0":      {state(well(), xid(149)), ""},
		"SXid fatal":                        {state(well(), switched(SeverityFatal)), "sxid"},
		"SXid nonfatal":                     {state(old(), switched(SeverityNonfatal)), ""},
		"bus loss":                          {state(well(), Fault{Kind: FaultBusLoss}), "bus_loss"},
		"init failed":                       {state(well(), Fault{Kind: FaultInit}), "init_failed"},
		"API mismatch beside a driver":      {state(well(), Fault{Kind: FaultMismatch}), ""},
		"168, told only":                    {state(old(), xid(168)), ""},
		"142, told only":                    {state(old(), xid(142)), ""},
		"unknown, for Judge to say":         {state(old(), xid(55)), ""},
		"hidden, for Judge to say":          {state(old(), xid(-1)), ""},
		"167, action 0":                     {state(well(), xid(167)), "xid_167"},
	} {
		t.Run(name, func(t *testing.T) {
			got := JudgeGPU(up, c.state)
			if got.Rule != c.rule || (got.Verdict == Hold) != (c.rule != "") {
				t.Errorf("%s %q, want %q", got.Verdict, got.Rule, c.rule)
			}
			if got.Verdict == Hold && (got.Clears != ClearReset || !got.Page) {
				t.Errorf("clears %q, page %v", got.Clears, got.Page)
			}
		})
	}
}

// TestFaultWords: the words of holds that stand on a fault alone.
func TestFaultWords(t *testing.T) {
	drained := xid(95)
	drained.Drain = new(true)
	resetting := xid(94)
	resetting.Reset = new(true)
	for _, c := range []struct {
		fault Fault
		want  Judgement
	}{
		{xid(167), with(onGPU(Hold, "xid_167", "has a fatal PCIe timeout (Xid 167)", busAdvice, ClearReset), noKill)},
		{xid(54), with(onGPU(Hold, "xid_54", "has no auxiliary power (Xid 54)", "Shut the host down with `poweroff`, and plug in the power cables of the board", ClearReset), onHost)},
		{xid(119), onGPU(Hold, "xid_119", "has firmware (GSP) that does not answer (Xid 119)", bootReset, ClearReset)},
		{drained, onGPU(Hold, "xid_95", "has an uncontained memory error (Xid 95)", endFirst, ClearReset)},
		{resetting, onGPU(Hold, "xid_94", "has a contained memory error that needs a reset (Xid 94)", resets, ClearReset)},
		{Fault{Kind: FaultBusLoss}, with(onGPU(Hold, "bus_loss", "has fallen off the bus", busAdvice, ClearReset), noKill)},
		{Fault{Kind: FaultInit}, onGPU(Hold, "init_failed", "could not be initialised", bootReset, ClearReset)},
		{Fault{Kind: FaultSXid, Code: 20034, Severity: SeverityFatal}, with(onGPU(Hold, "sxid", "is linked by a switch that has a fatal error (SXid 20034)", linked, ClearReset), several)},
	} {
		same(t, c.want, JudgeGPU(up, state(old(), c.fault)))
	}
}

// TestEveryXid: JudgeGPU does with each number what its row says.
func TestEveryXid(t *testing.T) {
	for code := -1; code <= lastXid+1; code++ {
		row := Lookup(code)
		want := Restart
		if row.Verdict == Hold && !row.Soft && code != 74 && code != 154 {
			want = Hold
		}
		got := JudgeGPU(up, state(old(), xid(code)))
		if got.Verdict != want || want == Hold && got.Scope != row.Scope {
			t.Errorf("Xid %d: %s %s", code, got.Verdict, got.Scope)
		}
	}
}

func TestResetMends(t *testing.T) {
	lost, boot, worn := well(), well(), well()
	lost.Trouble, boot.Recovery, worn.RemapFailed = TroubleLost, new(RecoverReboot), true
	stuck := well()
	stuck.Trouble = TroubleReset
	for name, c := range map[string]struct {
		state State
		want  bool
	}{
		"well":               {state(well()), false},
		"recovery action":    {state(Reading{Recovery: new(RecoverReset)}), true},
		"a reboot":           {state(boot), false},
		"a fault":            {state(old(), xid(62)), true},
		"fallen off the bus": {state(lost), false},
		"PCIe timeout":       {state(old(), xid(167)), false},
		"reset required":     {state(stuck), true},
		"a new board":        {state(worn), false},
		"a wait":             {state(Reading{Trouble: TroubleTimeout}), false},
	} {
		if j := JudgeGPU(up, c.state); j.ResetMends() != c.want {
			t.Errorf("%s: %+v", name, j)
		}
	}
}

// TestEvidence: what is not urgent is told.
func TestEvidence(t *testing.T) {
	r := well()
	r.RemapPending, r.PowerBrake, r.Uncorrected = true, true, 3
	hostile := xid(31)
	hostile.PID, hostile.Process, hostile.Text = 7, "`rm`\x1b[31m\u202eexe\xff"+strings.Repeat("é", 40), "Ch 8\n\tVA 0x7f"
	got := JudgeGPU(Driver{State: DriverLost, Detail: "the probe died"}, state(r, xid(63), hostile, xid(168)))
	want := []string{
		"driver: the probe died",
		"GPU 0: Xid 63 (a bad row of memory was marked for replacement)",
		"GPU 0: Xid 31 (GPU memory page fault) of 'rm' [31m exe�éééééééééééééééééé… (pid 7): Ch 8 VA 0x7f",
		"GPU 0: Xid 168 (GPU has lost part of its memory)",
		"GPU 0: Expect that a model no longer fits after a restart, and have the board checked at the next maintenance: `nvidia-smi -q -d MEMORY -i 0`",
		"GPU 0: recovery action 0",
		"GPU 0: 3 uncorrectable memory errors since the driver was loaded",
		"GPU 0: a bad row of memory is replaced at the next reset, which can wait for the next maintenance",
		"GPU 0: slowed down from outside: look at the power supply and at the board's power cables",
	}
	if diff := cmp.Diff(want, got.Evidence); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	same(t, fine, got)
	long := xid(168)
	long.Text = strings.Repeat("word ", 100)
	for _, line := range JudgeGPU(up, state(r, long)).Evidence {
		if n := len([]rune(line)); n > evidenceRunes {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	many := make([]Fault, 32)
	for i := range many {
		many[i] = xid(45)
	}
	if e := JudgeGPU(up, state(old(), many...)).Evidence; len(e) != mostLines+1 || e[mostLines] != "GPU 0: and 24 more faults" {
		t.Errorf("%d lines, the last: %s", len(e), e[len(e)-1])
	}
	s := state(old(), many...)
	if e := Judge(failed(s, s, s)).Evidence; len(e) != evidenceLines+1 || e[evidenceLines] != "and 7 more lines" {
		t.Errorf("%d lines, the last: %s", len(e), e[len(e)-1])
	}
}
