package kmsg

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// take handles one record that is new.
func (l *Log) take(ctx context.Context, out chan<- policy.Event, r record) {
	if l.seen && r.seq <= l.seq {
		return // it was read before the log was opened again
	}
	l.seen, l.seq = true, r.seq
	// What a driver's message begins with, the driver chose: text that a
	// program slips into another message is never at its beginning.
	if r.facility != 0 || r.part || !strings.HasPrefix(r.text, "NVRM: ") && !strings.HasPrefix(r.text, "nvidia-nvswitch") {
		return
	}
	f, ok := l.parse(r)
	if !ok {
		return
	}
	f.Source, f.Seq, f.At = gpu.SourceKernel, r.seq, l.moment(r.at)
	f.Historic = !l.drained && r.at < l.start
	if !l.sieve.admit(f) {
		return
	}
	l.attribute(&f)
	l.pass(ctx, out, policy.Event{Kind: policy.KindGPUFault, GPU: &policy.GPUFacts{Fault: &f}})
}

// pass sends a fault; those from before our start wait until the last of them
// is known, because only so many are kept.
func (l *Log) pass(ctx context.Context, out chan<- policy.Event, ev policy.Event) {
	if !ev.GPU.Fault.Historic {
		l.flush(ctx, out)
		send(ctx, out, ev)
		return
	}
	if len(l.past) == pastMax {
		l.past = slices.Delete(l.past, 0, 1)
	}
	l.past = append(l.past, ev)
}

// parse reads a message. As a whole first: a program may have put a line end
// into its name. Then by lines, for the driver writes some messages in three.
func (l *Log) parse(r record) (gpu.Fault, bool) {
	if f, ok := gpu.ParseLine(r.text); ok {
		return l.placed(f, r.at), true
	}
	for line := range strings.Lines(r.text) {
		if pci, uuid, ok := gpu.ParseUUID(line); ok && len(l.uuids) < gpusMax {
			l.uuids[pci] = uuid
		}
		if f, ok := gpu.ParseLine(line); ok {
			return l.placed(f, r.at), true
		}
		l.remember(line, r.at)
	}
	return gpu.Fault{}, false
}

// gpusMax bounds the GPUs that are remembered; no machine has as many.
const gpusMax = 256

// remember keeps the address in "NVRM: The NVIDIA GPU 0000:18:00.0", the first
// of three lines, of which only the third says that it has fallen off the bus.
func (l *Log) remember(line string, at time.Duration) {
	rest, ok := strings.CutPrefix(line, "NVRM: The NVIDIA GPU ")
	if !ok {
		return
	}
	word, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	l.named, l.namedAt = gpu.Address(strings.TrimSuffix(word, ":")), at
}

// placed fills in which GPU it is about, as far as earlier lines say it.
func (l *Log) placed(f gpu.Fault, at time.Duration) gpu.Fault {
	if f.Kind == gpu.FaultBusLoss && f.PCI == "" && at-l.namedAt < window {
		f.PCI, l.named = l.named, ""
	}
	if f.UUID == "" && f.PCI != "" {
		f.UUID = l.uuids[f.PCI]
	}
	return f
}

// moment brings a record's time to our clock. The two drift apart, so what was
// not there when we last looked is taken for no older than that.
func (l *Log) moment(at time.Duration) time.Time {
	now := l.o.Now()
	t := now.Add(at - l.o.Boottime())
	if l.drained && t.Before(l.idle) {
		t = l.idle
	}
	if t.After(now) {
		t = now
	}
	return t
}

// attribute asks at once who the process is: it may be about to end. The PID
// of an old line can belong to another process by now; only the name tells.
func (l *Log) attribute(f *gpu.Fault) {
	if f.PID <= 0 || l.o.Process == nil {
		return
	}
	p := l.o.Process(f.PID)
	old := f.Historic || l.o.Now().Sub(f.At) > gpu.WindowAfter
	if old && (p.Name == "" || p.Name != f.Process) {
		return
	}
	f.Containers, f.Unseen = p.Containers, p.Dead && len(p.Containers) == 0
	if f.Process == "" {
		f.Process = p.Name
	}
}
