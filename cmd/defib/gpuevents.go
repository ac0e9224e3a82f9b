package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// gpuNews is a fact about GPUs in words; "" when it says nothing to a person.
func gpuNews(ev policy.Event) string {
	switch {
	case ev.Kind == policy.KindKernelLog && ev.Reason != "":
		return "the kernel log cannot be read: " + ev.Reason
	case ev.Kind == policy.KindKernelLog:
		return "the kernel log is read"
	case ev.Kind == policy.KindExamined:
		return examined(ev.Examination)
	case ev.GPU == nil:
		return ""
	case ev.GPU.Driver != nil:
		return driverNews(*ev.GPU.Driver, len(ev.GPU.Devices))
	case ev.GPU.Fault != nil:
		return faultNews(*ev.GPU.Fault)
	}
	return readingsNews(ev.GPU.Readings)
}

func driverNews(d gpu.Driver, gpus int) string {
	if d.State == gpu.DriverUp && gpus > 0 {
		return fmt.Sprintf("the GPU driver %s is up, with %s", d.Version, plural(gpus, "GPU"))
	}
	return strings.TrimSuffix(driverSentence(d, gpus), ".")
}

// faultNews is one fault with where and whose it is.
func faultNews(f gpu.Fault) string {
	text := faultName(f)
	if f.Kind == gpu.FaultXid {
		text = "Xid " + text
	}
	text = "GPU " + cmp.Or(f.PCI, f.UUID, "?") + ": " + text
	if f.PID > 0 {
		text += fmt.Sprintf(", of %s (pid %d)", cmp.Or(f.Process, "a process"), f.PID)
	}
	if f.Historic {
		text += ", from before defib's start"
	}
	if f.Text != "" {
		text += ": " + f.Text
	}
	return text
}

// readingsNews names the GPUs on which something is to be seen.
func readingsNews(readings []gpu.Reading) string {
	var out []string
	for _, r := range readings {
		var what []string
		if r.Trouble != "" {
			what = append(what, strings.ReplaceAll(string(r.Trouble), "_", " "))
		}
		if r.Recovery != nil && *r.Recovery != gpu.RecoverNone {
			what = append(what, "the driver wants: "+recovery(r.Recovery))
		}
		for _, note := range readingNotes(r) {
			what = append(what, strings.TrimSuffix(note, "."))
		}
		if len(what) > 0 {
			out = append(out, r.UUID+": "+strings.Join(what, "; "))
		}
	}
	return strings.Join(out, "; ")
}

// examined says what an examination of a container showed.
func examined(e *policy.Examination) string {
	if e == nil {
		return "was examined"
	}
	var out []string
	switch {
	case e.CheckErr != "":
		out = append(out, "its check tells nothing: "+e.CheckErr)
	case e.Check != nil && e.Check.ExitCode == 0:
		out = append(out, "its check passes")
	case e.Check != nil:
		out = append(out, fmt.Sprintf("its check fails with %d", e.Check.ExitCode))
	}
	if e.PIDExited {
		out = append(out, "the process has ended")
	}
	if e.SignLine != "" {
		out = append(out, "its log says: "+e.SignLine)
	}
	if text := readingsNews(e.Readings); text != "" {
		out = append(out, text)
	}
	return strings.TrimSuffix("was examined: "+strings.Join(out, "; "), ": ")
}
