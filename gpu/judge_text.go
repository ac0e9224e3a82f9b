package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	nameRunes = 32  // of a name that a process chose
	lineRunes = 100 // of a kernel line
	mostLines = 8   // of faults, and of processes

	// Evidence goes into incidents, which people read in a chat.
	evidenceRunes = 250 // of a line, at most
	evidenceLines = 20
)

// plain makes text of others fit for a line: printable, at most n characters,
// and without the marks that commands are set in.
func plain(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '`':
			return '\''
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, s[:min(len(s), 8*n)])
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		s = strings.TrimSpace(string(r[:n])) + "…"
	}
	return s
}

// title is how people know the GPU: GPU 0 (NVIDIA H100, 0000:3b:00.0).
func (l *look) title() string {
	var more []string
	for _, s := range []string{l.Device.Name, l.Device.PCI} {
		if s = plain(s, 2*nameRunes); s != "" && l.short() != "GPU "+s {
			more = append(more, s)
		}
	}
	if more == nil {
		return l.short()
	}
	return l.short() + " (" + strings.Join(more, ", ") + ")"
}

func (l *look) short() string {
	if s := l.called(); s != "" {
		return "GPU " + s
	}
	return "a GPU"
}

// called is what the driver's tools take for the GPU.
func (l *look) called() string {
	if l.Device.Index >= 0 {
		return strconv.Itoa(l.Device.Index)
	}
	return cmp.Or(l.Device.PCI, l.Device.UUID)
}

// fill writes which GPU it is into a command; where that is not known, the
// command is for all of them.
func (l *look) fill(advice string) string {
	if l.called() == "" {
		return strings.ReplaceAll(advice, " -i <index>", "")
	}
	return strings.ReplaceAll(advice, "<index>", l.called())
}

// predicate is what a row says of a GPU, to go on from its name.
func predicate(r Row) string { return strings.TrimPrefix(r.Meaning, "GPU ") }

// rowOf is what is known of a fault; only an Xid has a row of its own.
func rowOf(f Fault) Row {
	switch f.Kind {
	case FaultBusLoss:
		return Lookup(xidBus)
	case FaultInit:
		return Lookup(xidInit)
	case FaultXid:
		return Lookup(f.Code)
	case FaultSXid:
		v := Note
		if f.Severity == SeverityFatal {
			v = Hold
		}
		return Row{Verdict: v, Scope: ScopeGPU}
	case FaultECC:
		return Row{Verdict: Note, Scope: ScopeGPU}
	case FaultMismatch:
	}
	return Row{Verdict: Note}
}

func meant(f Fault) string {
	switch f.Kind {
	case FaultSXid:
		if f.Severity != "" {
			return string(f.Severity) + " error of an NVSwitch"
		}
		return "error of an NVSwitch"
	case FaultMismatch:
		return "a program whose driver library is of another version than the kernel module"
	case FaultECC:
		return "uncorrectable memory errors"
	case FaultXid, FaultBusLoss, FaultInit:
	}
	return rowOf(f).Meaning
}

// coded is the number of a fault in brackets, for the end of a sentence.
func coded(f Fault) string {
	if n := numbered(f); n != "" {
		return " (" + n + ")"
	}
	return ""
}

func numbered(f Fault) string {
	switch {
	case f.Kind == FaultXid && f.Code > 0:
		return "Xid " + strconv.Itoa(f.Code)
	case f.Kind == FaultSXid && f.Code > 0:
		return "SXid " + strconv.Itoa(f.Code)
	}
	return ""
}

func xidRule(f Fault) string { return "xid_" + strconv.Itoa(f.Code) }

// faultLabel names a fault and who caused it: Xid 31 (GPU memory page fault) of
// VLLM::Worker (pid 4242).
func faultLabel(f Fault) string {
	s := meant(f)
	if n := numbered(f); n != "" && (f.Kind != FaultXid || Lookup(f.Code).Known) {
		s = n + " (" + s + ")"
	} else if n != "" {
		s = n
	}
	if f.PID > 0 {
		s += " of " + procName(f.Process, f.PID)
	}
	return s
}

// procName names a process: VLLM::Worker (pid 4242).
func procName(name string, pid int) string {
	if name = plain(name, nameRunes); name == "" {
		return "pid " + strconv.Itoa(pid)
	}
	return fmt.Sprintf("%s (pid %d)", name, pid)
}

// driverEvidence says why the driver cannot be asked.
func driverEvidence(d Driver) []string {
	if d.Detail == "" {
		return nil
	}
	return []string{"driver: " + plain(d.Detail, lineRunes)}
}

// evidence is what was seen of the GPU. Faults of another container's process
// are left out when own, a container's ID, is given.
func (l *look) evidence(own string) []string {
	var out []string
	for _, f := range l.Faults {
		if !l.elsewhere(f) && !foreign(f, own) {
			out = append(out, l.faultLines(f)...)
		}
	}
	if n := len(out) - mostLines; n > 0 {
		out = append(out[:mostLines], fmt.Sprintf("%s: and %d more faults", l.short(), n))
	}
	for _, s := range l.readingLines() {
		out = append(out, l.short()+": "+s)
	}
	return out
}

// foreign reports whether a fault concerns only a process of another container.
func foreign(f Fault, own string) bool {
	row := rowOf(f)
	return own != "" && (row.Scope == ScopeApp || f.Kind == FaultXid && !row.Known) && len(f.Containers) > 0 && !slices.Contains(f.Containers, own)
}

// faultLines are the fault, and what should be done of it at the next
// maintenance.
func (l *look) faultLines(f Fault) []string {
	s := l.short() + ": " + faultLabel(f)
	if t := plain(f.Text, lineRunes); t != "" {
		s += ": " + t
	}
	if row := rowOf(f); row.Soft {
		return []string{s, l.short() + ": " + l.fill(row.Advice)}
	}
	return []string{s}
}

// bounded keeps as much evidence as people read.
func bounded(lines []string) []string {
	if n := len(lines) - evidenceLines; n > 0 {
		return append(lines[:evidenceLines], fmt.Sprintf("and %d more lines", n))
	}
	return lines
}

func (l *look) readingLines() []string {
	r := l.Reading
	if r == nil {
		return nil
	}
	var out []string
	say := func(when bool, s string) {
		if when {
			out = append(out, s)
		}
	}
	detail := plain(r.Detail, lineRunes)
	say(r.Trouble != "" && detail == "", "it could not be read ("+strings.ReplaceAll(string(r.Trouble), "_", " ")+")")
	say(r.Trouble != "" && detail != "", "it could not be read: "+detail)
	if l.action != nil {
		out = append(out, fmt.Sprintf("recovery action %d", *l.action))
	}
	say(r.Uncorrected > 0, fmt.Sprintf("%d uncorrectable memory errors since the driver was loaded", r.Uncorrected))
	say(r.RemapPending, "a bad row of memory is replaced at the next reset, which can wait for the next maintenance")
	say(r.RemapFailed, "a bad row of memory could not be replaced")
	say(r.SRAMThreshold, "its SRAM has had more uncorrectable errors than NVIDIA allows")
	say(r.Hot, fmt.Sprintf("slowed down for heat at %d °C", r.Temperature))
	say(r.PowerBrake, "slowed down from outside: look at the power supply and at the board's power cables")
	return out
}

// lasts prints a time that was waited: 60 s, 15 min.
func lasts(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min", int(d.Minutes()))
}
