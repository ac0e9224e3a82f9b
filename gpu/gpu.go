// Package gpu says what a fault of an NVIDIA GPU means for the containers on
// it: would a restart help? It is pure; the hardware is read by gpu/nvml and
// gpu/kmsg. Read [Judge] first.
package gpu

import (
	"slices"
	"time"
)

// Device is one GPU as the driver lists it.
type Device struct {
	UUID  string `json:"uuid"`           // GPU-…; the key, since an index may change over a reboot
	Index int    `json:"index"`          // of NVML and nvidia-smi
	Minor int    `json:"minor"`          // N of /dev/nvidiaN; -1: not known
	PCI   string `json:"pci,omitempty"`  // 0000:3b:00.0, lower case; see [Address]
	Name  string `json:"name,omitempty"` // the model
	MIG   []MIG  `json:"mig,omitempty"`  // the instances it is cut into
}

// MIG is one instance of a GPU that is cut into several.
type MIG struct {
	UUID  string `json:"uuid"` // MIG-…
	Index int    `json:"index"`
	GI    int    `json:"gi"` // GPU instance
	CI    int    `json:"ci"` // compute instance
}

// Recovery is what the driver itself wants done to a GPU: NVML's field 230,
// which drivers from 565 on keep, and the value in the line of Xid 154.
type Recovery int

// The values of nvmlDeviceGpuRecoveryAction_t.
const (
	RecoverNone       Recovery = 0
	RecoverReset      Recovery = 1
	RecoverReboot     Recovery = 2
	RecoverDrainP2P   Recovery = 3
	RecoverDrainReset Recovery = 4
	RecoverIMEX       Recovery = 5
)

// Trouble is why a GPU could not be read.
type Trouble string

// The troubles.
const (
	TroubleLost     Trouble = "lost"           // NVML 15: as Xid 79
	TroubleReset    Trouble = "reset_required" // NVML 16
	TroubleTimeout  Trouble = "timeout"        // the driver did not answer in time
	TroubleMissing  Trouble = "missing"        // on the PCI bus or known before, and NVML does not list it any more
	TroubleUnbound  Trouble = "unbound"        // taken from the driver by a human's hand, such as for a virtual machine
	TroubleUnknown  Trouble = "unknown_error"  // NVML 999
	TroubleNotReady Trouble = "not_ready"      // NVML 27, 29: wait
	TroubleOther    Trouble = "other"          // Detail says which code
)

// Fabric is how far the links between the GPUs of an NVSwitch machine are set
// up. Empty: there are none, or it is not known.
type Fabric string

// The states of NVML's fabric info that are not "none".
const (
	FabricNotStarted Fabric = "not_started"
	FabricInProgress Fabric = "in_progress"
	FabricCompleted  Fabric = "completed"
	FabricFailed     Fabric = "failed" // completed, with a status that is not success
)

// Reading is what one look at one GPU showed. What the driver does not know
// is nil or zero: "unknown", never "well".
type Reading struct {
	UUID          string    `json:"uuid"`
	At            time.Time `json:"at"`
	Trouble       Trouble   `json:"trouble,omitempty"` // the rest is then old or empty
	Detail        string    `json:"detail,omitempty"`  // of the trouble
	Recovery      *Recovery `json:"recovery,omitempty"`
	Used          uint64    `json:"used,omitempty"`           // bytes of memory, without what the driver reserves
	Total         uint64    `json:"total,omitempty"`          // bytes
	SharedMemory  bool      `json:"shared_memory,omitempty"`  // with the CPU (GH200): Used does not fall when a process ends
	Temperature   int       `json:"temperature,omitempty"`    // °C
	Hot           bool      `json:"hot,omitempty"`            // slowed down for heat
	PowerBrake    bool      `json:"power_brake,omitempty"`    // slowed down from outside: power supply or cable
	RemapPending  bool      `json:"remap_pending,omitempty"`  // a memory row is replaced at the next reset
	RemapFailed   bool      `json:"remap_failed,omitempty"`   // no rows left: the board is to be replaced
	SRAMThreshold bool      `json:"sram_threshold,omitempty"` // too many uncorrectable errors in SRAM
	Uncorrected   uint64    `json:"uncorrected,omitempty"`    // ECC errors since the driver was loaded
	Counted       bool      `json:"counted,omitempty"`        // Uncorrected was read; where there is no ECC it never is
	Fabric        Fabric    `json:"fabric,omitempty"`
	// Processes are those that hold memory on it. Listed tells an empty list
	// from one that was not asked for; PIDs that the driver hides from our
	// namespace are not in it, see Driver.Blind.
	Processes []Process `json:"processes,omitempty"`
	Listed    bool      `json:"listed,omitempty"`
}

// Process is one process on a GPU.
type Process struct {
	PID        int      `json:"pid"`
	Name       string   `json:"name,omitempty"`       // of its program; chosen by it, so not to be trusted
	Memory     uint64   `json:"memory,omitempty"`     // bytes; 0: not known
	Containers []string `json:"containers,omitempty"` // IDs in its cgroup path, outermost first; see [ContainerIDs]
	Dead       bool     `json:"dead,omitempty"`       // it has ended, or is a zombie, and the driver still lists it
}

// DriverState says whether the driver can be asked.
type DriverState string

// The states. Empty: not yet known.
const (
	DriverUp       DriverState = "up"
	DriverAbsent   DriverState = "absent"   // no driver or library, or a build without GPU support: no GPU knowledge
	DriverMismatch DriverState = "mismatch" // NVML 18: it was upgraded and the old module still runs
	DriverHung     DriverState = "hung"     // it misses its deadlines
	DriverLost     DriverState = "lost"     // the probe died or was let go; it comes back
)

// Driver is what is known of the driver as a whole.
type Driver struct {
	State   DriverState `json:"state"`
	Version string      `json:"version,omitempty"`
	Detail  string      `json:"detail,omitempty"` // one sentence when it is not up
	Blind   string      `json:"blind,omitempty"`  // why processes cannot be told apart; empty: they can
	// Partial: it shows only some of the host's GPUs, those that defib's own
	// container was given. What an index of the host stands for is then not
	// known.
	Partial bool `json:"partial,omitempty"`
	// Unloaded: it is absent because its kernel module is not loaded, and not
	// because its library cannot be found. Loading it resets every GPU.
	Unloaded bool `json:"unloaded,omitempty"`
}

// FaultKind sorts what the kernel log and NVML report.
type FaultKind string

// The kinds.
const (
	FaultXid      FaultKind = "xid"
	FaultSXid     FaultKind = "sxid"         // of an NVSwitch
	FaultBusLoss  FaultKind = "bus_loss"     // a GPU fell off the bus and no Xid says so: as Xid 79
	FaultInit     FaultKind = "init_failed"  // RmInitAdapter failed
	FaultMismatch FaultKind = "api_mismatch" // a client is of another version than the kernel module
	FaultECC      FaultKind = "ecc"          // its count of uncorrectable memory errors rose, which says nothing by itself
)

// Where a fault was reported.
const (
	SourceNVML   = "nvml"
	SourceKernel = "kernel"
	SourceBoth   = "both"
)

// Severity is the word that NVLink and NVSwitch faults carry.
type Severity string

// The severities; most faults have none.
const (
	SeverityFatal    Severity = "fatal"
	SeverityNonfatal Severity = "nonfatal"
)

// Fault is one report of trouble with a GPU.
type Fault struct {
	At         time.Time `json:"at"` // when it was reported, on our clock
	Kind       FaultKind `json:"kind"`
	Code       int       `json:"code,omitempty"` // of an Xid or SXid; 0: none, -1: an Xid whose number NVML hides (999)
	UUID       string    `json:"uuid,omitempty"` // empty when only PCI is known
	PCI        string    `json:"pci,omitempty"`  // as [Address] writes it
	GI         int       `json:"gi,omitempty"`   // MIG instance; meaningful when OnMIG
	CI         int       `json:"ci,omitempty"`   // -1: any of the GPU instance
	OnMIG      bool      `json:"on_mig,omitempty"`
	PID        int       `json:"pid,omitempty"`        // on the host; 0: not known
	Process    string    `json:"process,omitempty"`    // its name, chosen by it
	Containers []string  `json:"containers,omitempty"` // IDs in the cgroup path of PID, outermost first
	Unseen     bool      `json:"unseen,omitempty"`     // PID had ended before it could be looked at: whose it was is not known
	Source     string    `json:"source"`
	Seq        uint64    `json:"seq,omitempty"`      // of the kernel's record; with the boot it is unique
	Historic   bool      `json:"historic,omitempty"` // logged before defib began to watch
	Text       string    `json:"text,omitempty"`     // the rest of the line
	Severity   Severity  `json:"severity,omitempty"`
	Recovery   *Recovery `json:"recovery,omitempty"`  // of Xid 154: the new value
	Reset      *bool     `json:"reset,omitempty"`     // RST of Xid 94 and 95
	Drain      *bool     `json:"drain,omitempty"`     // D-RST: drain, then reset
	Caused     int       `json:"caused_by,omitempty"` // the Xid that this one follows, when the line says so
}

// Touches reports whether the fault is about any of these instances; none
// stand for the whole GPU.
func (f *Fault) Touches(parts []MIG) bool {
	return !f.OnMIG || len(parts) == 0 || slices.ContainsFunc(parts, func(m MIG) bool {
		return m.GI == f.GI && (f.CI < 0 || m.CI == f.CI)
	})
}

// Settles reports whether the driver says with f that nothing is to be done to
// the GPU any more (Xid 154 with the value 0): what was reported before has been
// dealt with.
func (f *Fault) Settles() bool {
	return f.Kind == FaultXid && f.Code == xidState && f.Recovery != nil && *f.Recovery == RecoverNone
}

// Scope is how far a fault reaches.
type Scope string

// The scopes, in the order of their precedence.
const (
	ScopeNone Scope = ""
	ScopeApp  Scope = "app" // only the process that it names
	ScopeGPU  Scope = "gpu"
	ScopeHost Scope = "host" // only a reboot or hands on the machine help
)

// Verdict answers: would a restart help?
type Verdict string

// The verdicts.
const (
	Restart  Verdict = "restart"
	Recreate Verdict = "recreate" // what it asks for is gone; a restart asks for the same again
	Wait     Verdict = "wait"     // it will pass, or it is paged at the end of the wait
	Hold     Verdict = "hold"     // nothing that is done to a container helps
	Note     Verdict = "note"     // evidence, no reason to do anything
)

// Clearing says what ends a hold.
type Clearing string

// The ways. All of them also end by `defib gpus release` and with a new boot.
const (
	ClearRecovery Clearing = "recovery" // the driver's recovery action reads 0 in 3 polls over 15 s
	ClearReset    Clearing = "reset"    // a reset or driver reload was seen; for faults that leave no state to read
	ClearDriver   Clearing = "driver"   // the driver answers, and its library is of its version
	ClearReading  Clearing = "reading"  // what was read (lost, remap, fabric, heat, memory) reads well again
)
