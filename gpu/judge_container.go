package gpu

import (
	"slices"
	"strings"
	"time"
)

// trial is the case of one container, with a look at each of its GPUs.
type trial struct {
	Case
	looks []*look
}

// Judge says what would help a container that has failed: the worst that is
// wrong with any of its GPUs first (host over GPU over application), then what
// is wrong with the container. A wait that has lasted becomes a hold.
func Judge(c Case) Judgement {
	t := trial{Case: c}
	for _, u := range c.GPUs {
		l := newLook(c.Driver, u.State)
		l.parts, l.signs = u.Parts, c.Signs
		t.looks = append(t.looks, l)
	}
	j, ok := worst(t.ofGPUs())
	if !ok {
		j = t.ofContainer()
	}
	j.Evidence = t.evidence()
	return j
}

// ofGPUs are the findings about the driver and the GPUs that concern this
// container: one on a single GPU needs no links.
func (t *trial) ofGPUs() []Judgement {
	found := driverFindings(t.Driver)
	for _, l := range t.looks {
		found = append(found, l.findings()...)
	}
	if len(t.looks) < 2 {
		found = slices.DeleteFunc(found, func(j Judgement) bool { return j.Multi })
	}
	for i, j := range found {
		found[i] = outlasted(j, t.Waited)
	}
	return found
}

// outlasted makes a wait that was waited out a hold, and calls a human.
func outlasted(j Judgement, waited time.Duration) Judgement {
	if j.Verdict != Wait || waited < j.For {
		return j
	}
	j.Cause += ", still so after " + lasts(j.For)
	j.Verdict, j.Page, j.For = Hold, true, 0
	return j
}

func (t *trial) ofContainer() Judgement {
	for _, find := range [...]func() (Judgement, bool){
		t.gone, t.unread, t.unknownXid, t.ecc, t.staleCDI, t.mismatch, t.fabric, t.memory, t.powerBrake, t.accessLost, t.ownFault,
	} {
		if j, ok := find(); ok {
			return outlasted(j, t.Waited)
		}
	}
	j := Judgement{Verdict: Restart}
	for _, s := range t.Signs {
		if j.Cause == "" {
			j.Cause = reports(s)
		}
	}
	return j
}

func (t *trial) has(s Sign) bool { return slices.Contains(t.Signs, s) }

// gone: a restart asks for the same again.
func (t *trial) gone() (Judgement, bool) {
	return Judgement{
		Verdict: Recreate, Rule: "gpu_gone", Scope: ScopeApp, Page: true,
		Cause:  "what it asks for is not there any more: " + listed(t.Gone),
		Remedy: "Name a GPU that is there in its compose file or its command, then recreate it: `docker compose up -d --force-recreate`",
	}, len(t.Gone) > 0
}

// unread: a human has been called about the GPU that does not answer.
func (t *trial) unread() (Judgement, bool) {
	return Judgement{
		Verdict: Hold, Rule: "gpu_unread", Scope: ScopeApp, Clears: ClearReading,
		Cause:  "what it asks for is not found while a GPU of this host does not answer, and may be that one: " + listed(t.Unread),
		Remedy: "See which GPU it is and what it takes, most often a reboot: `defib gpus`",
	}, len(t.Unread) > 0
}

func listed(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, plain(n, 2*nameRunes))
	}
	return strings.Join(out, ", ")
}

// unknownXid: nobody can say whether a restart would help, so nobody tries.
func (t *trial) unknownXid() (Judgement, bool) {
	for _, l := range t.looks {
		for _, f := range l.open {
			row := rowOf(f)
			if f.Kind != FaultXid || row.Known || l.elsewhere(f) || foreign(f, t.ID) {
				continue
			}
			j := l.about("unknown_xid", "reported "+faultLabel(f)+", and nobody can say whether a restart would help", row.Advice)
			j.Clears = ClearReset
			return j, true
		}
	}
	return Judgement{}, false
}

// ecc: its program ended of a memory error that the GPU counted, and neither
// an Xid nor the driver's own word says what is to be done, as with old
// drivers. Each start would end in the same (gpu.md §4.7).
func (t *trial) ecc() (Judgement, bool) {
	if !t.has(SignECC) {
		return Judgement{}, false
	}
	for _, l := range t.looks {
		if l.action == nil && !l.has(94) && slices.ContainsFunc(l.open, func(f Fault) bool { return f.Kind == FaultECC }) {
			j := l.about("ecc", "has counted uncorrectable memory errors, and a program on it ended of one (CUDA 214)", support)
			j.Clears = ClearReset
			return j, true
		}
	}
	return Judgement{}, false
}

// powerBrake makes it slow, and a restart does not help that. One that has
// ended is better started and slow than down.
func (t *trial) powerBrake() (Judgement, bool) {
	for _, l := range t.looks {
		if r := l.Reading; !t.Down && r != nil && r.PowerBrake && r.Trouble == "" {
			return passing(l.about("power_brake", "is slowed down from outside",
				"Look at the power supply and at the board's power cables: `nvidia-smi -q -d PERFORMANCE,POWER -i <index>`"), hotFor)
		}
	}
	return Judgement{}, false
}

// staleCDI: the description of the devices is that of an older driver.
func (t *trial) staleCDI() (Judgement, bool) {
	return Judgement{
		Verdict: Hold, Rule: "stale_cdi", Scope: ScopeApp, Page: true,
		Cause:  "it cannot start, since the CDI description of the GPUs is not that of the driver",
		Remedy: "Write the description anew, then start it: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`",
	}, t.has(SignStaleCDI)
}

// mismatch: who opened the driver before its upgrade goes on with the library
// that fits the old module, as the probe does, while the engine loads the new one
// for each start. What a container says itself may be about its own library.
func (t *trial) mismatch() (Judgement, bool) {
	return mismatched(), t.has(SignMismatch) && t.Driver.State != DriverUp || slices.Contains(t.Start, SignMismatch)
}

// fabric: what it says itself counts for a container on one GPU too, since
// CUDA starts on none before the links are set up.
func (t *trial) fabric() (Judgement, bool) {
	j := Judgement{
		Rule: "fabric", Scope: ScopeApp, Clears: ClearReading, Remedy: fabricRemedy,
		Cause: "it reports that the links between the GPUs are not set up yet (CUDA 802)",
	}
	j, _ = passing(j, fabricFor)
	return j, t.has(SignFabric)
}

// accessLost: its cgroup forgot the GPU, and a start writes it anew.
func (t *trial) accessLost() (Judgement, bool) {
	unread := func(l *look) bool { return l.Reading == nil || l.Reading.Trouble != "" }
	if !t.has(SignAccessLost) || t.Driver.State != DriverUp || slices.ContainsFunc(t.looks, unread) {
		return Judgement{}, false
	}
	return Judgement{
		Verdict: Restart, Rule: "gpu_access_lost", Scope: ScopeApp,
		Cause:  "it has lost access to its GPU, which is well on the host; `systemctl daemon-reload` or `docker update` does that",
		Remedy: "To prevent it, give it the GPU by CDI or by explicit --device nodes, or use Docker's cgroupfs driver: `docker run --device nvidia.com/gpu=all`",
	}, true
}

// ownFault is the first fault of a process of this container; the reset of a
// channel (43) counts only alone.
func (t *trial) ownFault() (Judgement, bool) {
	var found Judgement
	for _, l := range t.looks {
		for _, f := range l.Faults {
			row := rowOf(f)
			acts := row.Verdict == Restart || row.Verdict == Hold && !row.Soft
			if f.Kind != FaultXid || f.Code == xidState || !acts && f.Code != 43 || l.elsewhere(f) || !slices.Contains(f.Containers, t.ID) {
				continue
			}
			j := Judgement{
				Verdict: Restart, Rule: xidRule(f), Scope: ScopeApp, GPU: l.Device.UUID,
				Cause: faultLabel(f) + " on " + l.short(), Remedy: l.fill(row.Advice),
			}
			if acts {
				return j, true
			}
			found = j
		}
	}
	return found, found.Rule != ""
}

// evidence is all that was seen, of every GPU and of the container.
func (t *trial) evidence() []string {
	out := driverEvidence(t.Driver)
	for _, l := range t.looks {
		out = append(out, l.evidence(t.ID)...)
		if t.Down || t.has(SignMemory) {
			out = append(out, l.inUse(t.ID)...)
		}
	}
	for _, s := range t.Signs {
		out = append(out, reports(s))
	}
	return bounded(out)
}

// reports says what a sign tells.
func reports(s Sign) string {
	switch s {
	case SignAccessLost:
		return "it reports that it cannot reach its GPU"
	case SignMismatch:
		return "it reports that driver and library are of different versions"
	case SignStaleCDI:
		return "it reports that its CDI devices or a library of the driver are missing"
	case SignFabric:
		return "it reports that the links between the GPUs are not set up yet (CUDA 802)"
	case SignMemory:
		return "it reports that there is not enough GPU memory"
	case SignECC:
		return "it reports an uncorrectable memory error (CUDA 214)"
	case SignContained:
		return "it reports a contained hardware error (CUDA 226)"
	case SignNVLink:
		return "it reports an error of the links between the GPUs (CUDA 220 or NCCL)"
	case SignUnavailable:
		return "it reports that its GPU is busy or unavailable (CUDA 46)"
	case SignApp:
		return "it reports a fault of its own program on the GPU (CUDA 700 to 719)"
	case SignEngineDead:
		return "its inference engine reports that it is dead"
	case SignStartFailed:
		return "it could not start with its GPU"
	}
	return "it reports " + plain(string(s), nameRunes)
}
