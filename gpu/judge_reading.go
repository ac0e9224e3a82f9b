package gpu

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// How long something that may pass is waited for before a human is called,
// from gpu.md §4.8, §4.9 and §2.2; the first is how long a reset takes.
const (
	hungFor   = time.Minute
	fabricFor = 5 * time.Minute
	readyFor  = 5 * time.Minute
	hotFor    = 15 * time.Minute
)

// look is one look at one GPU.
type look struct {
	State
	driver Driver
	parts  []MIG     // that are looked at; none: the whole GPU
	signs  []Sign    // of the container that it is looked at for
	action *Recovery // what the driver asks for; nil: not known
	faulty bool      // action is known from a fault alone: no reading tells it
	open   []Fault   // those that the driver has not reported to be dealt with
}

func newLook(d Driver, s State) *look {
	l := &look{State: s, driver: d, open: s.Faults}
	l.action, l.faulty = s.action()
	for i := range s.Faults {
		if s.Faults[i].Settles() {
			l.open = s.Faults[i+1:]
		}
	}
	return l
}

// action is the newest word of the driver on what it wants done, and whether it
// is only in a fault (Xid 154). A reading that could not be taken may hold an
// old one: that nothing is to be done is not believed then.
func (s State) action() (r *Recovery, fault bool) {
	var last Fault
	for _, f := range s.Faults {
		if f.Kind == FaultXid && f.Code == xidState && f.Recovery != nil {
			last = f
		}
	}
	read := s.Reading
	if read == nil || read.Recovery == nil {
		return last.Recovery, last.Recovery != nil
	}
	if read.Trouble != "" && *read.Recovery == RecoverNone || last.Recovery != nil && !read.At.IsZero() && last.At.After(read.At) {
		return last.Recovery, false
	}
	return read.Recovery, false
}

// unasked reports whether the driver is known to want nothing done.
func (l *look) unasked() bool { return l.action != nil && *l.action == RecoverNone }

// findings are all that is wrong with the GPU itself, in the order of evidence
// (gpu.md §0): the driver's own word, what stays, faults, what passes.
func (l *look) findings() []Judgement {
	var out []Judgement
	for _, find := range [...]func() (Judgement, bool){l.trouble, l.recovery, l.board, l.fabric} {
		if j, ok := find(); ok {
			out = append(out, j)
		}
	}
	out = append(out, l.faultFindings()...)
	if j, ok := l.heat(); ok {
		out = append(out, j)
	}
	return out
}

// driverFindings are what is wrong with the driver as a whole.
func driverFindings(d Driver) []Judgement {
	switch d.State {
	case DriverMismatch:
		return []Judgement{mismatched()}
	case DriverHung:
		return []Judgement{{
			Verdict: Wait, Rule: "driver_hung", Scope: ScopeHost, Clears: ClearDriver, For: hungFor,
			Cause:  "the NVIDIA driver does not answer",
			Remedy: "See in the kernel log what it hangs on, and reboot if it stays: `dmesg | grep NVRM`",
		}}
	case DriverUp, DriverAbsent, DriverLost:
	}
	return nil
}

func mismatched() Judgement {
	return Judgement{
		Verdict: Hold, Rule: "driver_mismatch", Scope: ScopeHost, Clears: ClearDriver, Page: true,
		Cause:  "the NVIDIA driver was upgraded, and its old kernel module still runs; containers that run keep working and are left alone, but none would start",
		Remedy: "Reboot, or stop everything that uses a GPU and load the modules anew: `reboot`",
	}
}

// about is a hold on this GPU that its readings end.
func (l *look) about(rule, says, remedy string) Judgement {
	return Judgement{
		Verdict: Hold, Rule: rule, Scope: ScopeGPU, GPU: l.Device.UUID, Clears: ClearReading, Page: true,
		Cause: l.title() + " " + says, Remedy: l.fill(remedy),
	}
}

// passing makes a hold something that is waited for first.
func passing(j Judgement, within time.Duration) (Judgement, bool) {
	j.Verdict, j.For, j.Page = Wait, within, false
	return j, true
}

func (l *look) trouble() (Judgement, bool) {
	if l.Reading == nil {
		return Judgement{}, false
	}
	switch l.Reading.Trouble {
	case TroubleLost, TroubleMissing:
		return l.busLoss(), true
	case TroubleReset:
		return l.about("reset_required", "does nothing more until it is reset", reset), true
	case TroubleTimeout:
		return passing(l.about("gpu_hung", "does not answer the driver in time", resetOrBoot), hungFor)
	case TroubleUnknown:
		return l.about("unknown_error", "answers the driver with an unknown error", resetOrBoot), true
	case TroubleNotReady:
		return passing(l.about("not_ready", "is not ready yet", resetOrBoot), readyFor)
	case TroubleOther, TroubleUnbound:
	}
	return Judgement{}, false
}

func (l *look) busLoss() Judgement {
	row := Lookup(xidBus)
	says := predicate(row)
	if l.has(xidBus) {
		says += " (Xid 79)"
	}
	j := l.about("bus_loss", says, row.Advice)
	j.Scope, j.NoKill = ScopeHost, true
	return j
}

// recovery is what the driver itself asks for.
func (l *look) recovery() (Judgement, bool) {
	if l.action == nil || *l.action == RecoverNone {
		return Judgement{}, false
	}
	asks, remedy := "asks for recovery action "+strconv.Itoa(int(*l.action))+", which defib does not know", "Look up what the driver asks for: `nvidia-smi -q -i <index>`"
	j := l.about("recovery_action", "", "")
	switch *l.action {
	case RecoverReset:
		asks, remedy = "asks for a GPU reset", reset
	case RecoverReboot:
		j.Scope = ScopeHost
		asks, remedy = "asks for a reboot of the host", "Reboot as soon as what still serves can be spared: `reboot`"
	case RecoverDrainP2P:
		j.Multi = true
		asks, remedy = "asks that traffic between GPUs ends", "End what uses several GPUs at once, and see whether the driver is content then: `nvidia-smi -q -i <index>`"
	case RecoverDrainReset:
		asks, remedy = "asks for a GPU reset once its work has ended", "Let what runs on it end, take no new work, then reset it: `nvidia-smi --gpu-reset -i <index>`"
	case RecoverIMEX:
		j.Multi = true
		asks, remedy = "asks for a recovery of its IMEX domain", "Recover the IMEX domain on all its hosts: `systemctl restart nvidia-imex`"
	case RecoverNone:
	}
	if j.Clears = ClearRecovery; l.faulty {
		j.Clears = ClearReset // a driver that keeps no recovery action never says that it is 0
	}
	j.Cause, j.Remedy = l.explained(asks), l.fill(remedy)
	return j, true
}

// explained says what the driver asks for, and the fault that it is for.
func (l *look) explained(asks string) string {
	f, ok := l.explains()
	switch {
	case !ok:
		return l.title() + ": the driver " + asks
	case strings.HasPrefix(meant(f), "GPU ") && rowOf(f).Scope != ScopeApp:
		return l.title() + " " + strings.TrimPrefix(meant(f), "GPU ") + coded(f) + " and the driver " + asks
	}
	return l.title() + " reported " + faultLabel(f) + " and the driver " + asks
}

// board is what only a new board mends.
func (l *look) board() (Judgement, bool) {
	const replace = "Stop what runs on it and have the board replaced; its record is in `nvidia-smi -q -i <index>`"
	switch r := l.Reading; {
	case r == nil:
	case r.RemapFailed:
		return l.about("remap_failed", "has broken memory that it can no longer replace", replace), true
	case r.SRAMThreshold:
		return l.about("sram_threshold", "has had too many uncorrectable errors in its SRAM", replace), true
	}
	return Judgement{}, false
}

// fabric is the set-up of the links between the GPUs.
func (l *look) fabric() (Judgement, bool) {
	if l.Reading == nil || l.Reading.Trouble != "" {
		return Judgement{}, false
	}
	var j Judgement
	switch l.Reading.Fabric {
	case FabricNotStarted, FabricInProgress:
		j, _ = passing(l.about("fabric", "has links to other GPUs that are not set up yet ("+strings.ReplaceAll(string(l.Reading.Fabric), "_", " ")+")", fabricRemedy), fabricFor)
	case FabricFailed:
		j = l.about("fabric", "has links to other GPUs that could not be set up", fabricRemedy)
	case FabricCompleted:
	}
	j.Multi = true
	return j, j.Rule != ""
}

const fabricRemedy = "See that the fabric manager runs and is of the driver's version: `systemctl restart nvidia-fabricmanager`"

// heat passes, but a restart loads a model onto a GPU that is hot already.
func (l *look) heat() (Judgement, bool) {
	if l.Reading == nil || !l.Reading.Hot || l.Reading.Trouble != "" {
		return Judgement{}, false
	}
	says := "is slowed down for heat"
	if t := l.Reading.Temperature; t != 0 {
		says += fmt.Sprintf(" (%d °C)", t)
	}
	return passing(l.about("hot", says, "See to its fans and to the air around it: `nvidia-smi -q -d TEMPERATURE,PERFORMANCE -i <index>`"), hotFor)
}
