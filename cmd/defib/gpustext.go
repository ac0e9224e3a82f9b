package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// The states of a GPU as people read them. Anything but well is told apart by
// the sentences below the table.
const (
	gpuWell      = "WELL"
	gpuHeld      = "HELD"
	gpuHot       = "HOT"
	gpuLost      = "LOST"
	gpuResetting = "RESETTING"
	gpuUnbound   = "UNBOUND" // by a human's hand
	gpuUnknown   = "UNKNOWN"
)

// gpuState is the worst that is known of a GPU.
func gpuState(d gpu.Driver, g policy.GPUStatus) string {
	r := g.Reading
	switch {
	case g.Reset != "":
		return gpuResetting
	case r.Trouble == gpu.TroubleLost, r.Trouble == gpu.TroubleMissing:
		return gpuLost
	case g.Hold != nil:
		return gpuHeld
	case r.Trouble == gpu.TroubleUnbound:
		return gpuUnbound
	case d.State != gpu.DriverUp, r.Trouble != "", r.At.IsZero():
		return gpuUnknown
	case r.Hot:
		return gpuHot
	}
	return gpuWell
}

// gpusWell reports whether nothing of what is shown needs attention. A host
// without a driver is well.
func gpusWell(got api.GPUs) bool {
	if s := got.Driver.State; s == gpu.DriverMismatch || s == gpu.DriverHung || s == gpu.DriverLost {
		return false
	}
	return !slices.ContainsFunc(got.GPUs, func(g policy.GPUStatus) bool {
		s := gpuState(got.Driver, g)
		return s != gpuWell && s != gpuUnbound
	})
}

func temperature(r gpu.Reading) string {
	if r.Temperature == 0 {
		return "-"
	}
	return strconv.Itoa(r.Temperature) + "°C"
}

// memory is used and total memory: 71.8/79.6 GiB.
func memory(r gpu.Reading) string {
	if r.Total == 0 {
		return "-"
	}
	return gibibytes(r.Used) + "/" + gibibytes(r.Total) + " GiB"
}

func gibibytes(n uint64) string { return strconv.FormatFloat(float64(n)/(1<<30), 'f', 1, 64) }

// recovery is what the driver itself wants done to a GPU, in short.
func recovery(r *gpu.Recovery) string {
	if r == nil {
		return "-"
	}
	switch *r {
	case gpu.RecoverNone:
		return "none"
	case gpu.RecoverReset:
		return "reset"
	case gpu.RecoverReboot:
		return "reboot"
	case gpu.RecoverDrainP2P:
		return "drain P2P"
	case gpu.RecoverDrainReset:
		return "drain, reset"
	case gpu.RecoverIMEX:
		return "recover IMEX"
	}
	return strconv.Itoa(int(*r))
}

// gpuIndex is how people name a GPU; one that the driver no longer lists has no
// index.
func gpuIndex(g policy.GPUStatus) string {
	if g.Index < 0 {
		return g.UUID
	}
	return strconv.Itoa(g.Index)
}

// lastFault is the newest fault with its age: 79 GPU has fallen off the bus, 3m
// ago.
func lastFault(now time.Time, f *gpu.Fault) string {
	if f == nil {
		return "-"
	}
	age := ", " + ago(now, f.At) + " ago"
	return cut(faultName(*f), cellMax-len(age)) + age
}

func faultName(f gpu.Fault) string {
	switch {
	case f.Kind == gpu.FaultXid && f.Code < 0:
		return "? the driver does not say which"
	case f.Kind == gpu.FaultXid:
		return strings.TrimSpace(strconv.Itoa(f.Code) + " " + gpu.Lookup(f.Code).Meaning)
	case f.Kind == gpu.FaultSXid:
		return fmt.Sprintf("SXid %d of an NVSwitch", f.Code)
	case f.Kind == gpu.FaultBusLoss:
		return "fell off the bus, without an Xid"
	case f.Kind == gpu.FaultInit:
		return "could not be initialised"
	case f.Kind == gpu.FaultECC:
		return "uncorrectable memory errors"
	}
	return strings.ReplaceAll(string(f.Kind), "_", " ")
}

func migNames(mig []gpu.MIG) string {
	var out []string
	for _, m := range mig {
		out = append(out, fmt.Sprintf("%d (%s)", m.Index, m.UUID))
	}
	return strings.Join(out, ", ")
}

// gpuSentences say what a table cannot.
func gpuSentences(got api.GPUs) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if text := driverSentence(got.Driver, len(got.GPUs)); text != "" {
		say("%s", text)
	}
	for _, g := range got.GPUs {
		switch name := "GPU " + gpuIndex(g); {
		case g.Reset != "":
			say("%s is being reset: %s", name, resetWord(g.Reset))
		case g.Hold != nil:
			say("%s is held since %s: %s %s", name, ago(got.At, g.Hold.Since), sentenceOf(g.Hold.Why, "it is broken"), holdEnds(g))
		case g.Reading.Trouble == gpu.TroubleUnbound:
			say("%s is not looked at: %s", name, sentenceOf(g.Reading.Detail, "it was taken from the driver"))
		case g.Reading.Trouble != "":
			say("%s could not be read: %s", name, sentenceOf(cmp.Or(g.Reading.Detail, strings.ReplaceAll(string(g.Reading.Trouble), "_", " ")), ""))
		}
		for _, text := range readingNotes(g.Reading) {
			say("GPU %s: %s", gpuIndex(g), text)
		}
	}
	if text := got.KernelLog; text != "" && got.Driver.State != gpu.DriverAbsent {
		say("Kernel log: %s", sentenceOf(text, ""))
	}
	if text := got.Driver.Blind; text != "" && got.Driver.State != gpu.DriverAbsent {
		say("Blind to processes: %s", sentenceOf(text, ""))
	}
	if got.Driver.Partial {
		say("%s", upperFirst(sentenceOf(partial, "")))
	}
	if slices.ContainsFunc(got.GPUs, func(g policy.GPUStatus) bool {
		return g.Hold != nil && g.Hold.Judgement != nil && g.Hold.Judgement.ResetMends()
	}) {
		say("So that a reset works, defib lets the driver go between its looks, which are 30 s apart.")
	}
	return out
}

// partial is what is missed where defib sees only some of the GPUs.
const partial = "defib's container was given only some of the GPUs of this host, so a container that asks for one by its index " +
	"counts as on it only once its processes are seen there; give defib all GPUs, or ask for them by UUID"

// resetWord says how far a reset is.
func resetWord(phase string) string {
	switch policy.ResetPhase(phase) {
	case policy.ResetStopping:
		return "its containers are being stopped."
	case policy.ResetRunning:
		return "the reset command runs."
	case policy.ResetVerifying:
		return "the driver is asked how it is."
	}
	return sentenceOf(phase, "under way")
}

// holdEnds says how a hold ends.
func holdEnds(g policy.GPUStatus) string {
	return "The hold ends " + sentenceOf(g.Clears, "by `defib gpus release "+gpuIndex(g)+"`")
}

// driverSentence says how the driver is when it is not simply up with GPUs;
// "" when it is.
func driverSentence(d gpu.Driver, gpus int) string {
	detail := func(otherwise string) string { return sentenceOf(d.Detail, otherwise) }
	switch d.State {
	case gpu.DriverUp:
		if gpus == 0 {
			return "The driver " + d.Version + " is up and lists no GPU."
		}
		return ""
	case gpu.DriverAbsent:
		return upperFirst(detail("there is no driver, so GPUs are not looked at"))
	case gpu.DriverMismatch:
		return "The driver was changed while it ran: " + detail("its library and its kernel module are of different versions; reboot, or reload the module")
	case gpu.DriverHung:
		return "The driver does not answer: " + detail("it misses its deadlines")
	case gpu.DriverLost:
		return "The driver is not asked at the moment: " + detail("it is asked again soon")
	}
	return "The driver has not been asked, or has not answered yet."
}

// readingNotes are what a reading shows that is no hold and yet should be known.
func readingNotes(r gpu.Reading) []string {
	var out []string
	for _, n := range []struct {
		is   bool
		text string
	}{
		{r.Hot, "it has slowed down for heat; look at its airflow."},
		{r.PowerBrake, "it is slowed down from outside; look at the power supply and its cables."},
		{r.RemapPending, "a row of memory is replaced at the next reset; until then it is safe to use."},
		{r.RemapFailed, "no rows of memory are left to replace a bad one; have the board replaced."},
		{r.SRAMThreshold, "there were too many uncorrectable errors in its SRAM; have the board replaced."},
		{r.Fabric == gpu.FabricNotStarted || r.Fabric == gpu.FabricInProgress, "the links to the other GPUs are not up yet; is nvidia-fabricmanager running?"},
		{r.Fabric == gpu.FabricFailed, "the links to the other GPUs have failed; see the log of nvidia-fabricmanager."},
	} {
		if n.is {
			out = append(out, n.text)
		}
	}
	return out
}

// gpuList lists the GPUs of a container, with a mark on those that are held.
func gpuList(gpus, held []string, sep string) string {
	out := make([]string, len(gpus))
	for i, name := range gpus {
		if out[i] = name; slices.Contains(held, name) {
			out[i] += " (held)"
		}
	}
	return strings.Join(out, sep)
}

// gpus tells of the GPUs of a container: which, how sure that is, and what
// keeps it from being restarted on them.
func (p *page) gpus(d api.Unit) {
	p.line("GPU:", gpuList(d.Unit.GPUs, d.Host.GPUsHeld, ", "))
	p.line("GPU note:", d.Unit.GPUNote)
	for _, g := range d.GPUs {
		if g.Hold != nil {
			text := fmt.Sprintf("GPU %s, since %s: %s %s", gpuIndex(g), ago(p.now, g.Hold.Since), sentenceOf(g.Hold.Why, "it is broken"), holdEnds(g))
			p.line("GPU hold:", cut(p.clean(text), textMax))
		}
	}
}

// gpuGreeting says in one line what defib can know of the GPUs.
func gpuGreeting(c config.GPU, v *watcher.View) string {
	d := v.Host.GPU.Driver
	switch {
	case !c.Enabled:
		return "GPUs are not looked at: gpu.enabled is false."
	case d.State != gpu.DriverUp || len(v.GPUs) == 0:
		return driverSentence(d, len(v.GPUs))
	}
	text := fmt.Sprintf("It looks at %s (driver %s)", plural(len(v.GPUs), "GPU"), d.Version)
	switch {
	case c.KernelLog == "":
		text += ", not at the kernel log: gpu.kernel_log is empty"
	case v.Host.GPU.KernelLog != "":
		text += ", not at the kernel log: " + v.Host.GPU.KernelLog
	default:
		text += " and at the kernel log"
	}
	if d.Blind != "" {
		text += "; " + d.Blind
	}
	if d.Partial {
		text += "; " + partial
	}
	return sentenceOf(text, "")
}
