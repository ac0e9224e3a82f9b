package kmsg

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/gpu"
)

func TestMessagesOfSeveralLines(t *testing.T) {
	bus := []string{
		"NVRM: The NVIDIA GPU 0000:18:00.0",
		"NVRM: (PCI ID: 10de:20b0) installed in this system has",
		"NVRM: fallen off the bus and is not responding to commands.",
	}
	for _, tc := range []struct {
		name  string
		lines []string
		want  []gpu.Fault
	}{
		{"in one record", []string{strings.Join(bus, `\x0a`)}, []gpu.Fault{{Kind: gpu.FaultBusLoss, PCI: "0000:18:00.0"}}},
		{"in three records", bus, []gpu.Fault{{Kind: gpu.FaultBusLoss, PCI: "0000:18:00.0"}}},
		{"without the first", bus[2:], []gpu.Fault{{Kind: gpu.FaultBusLoss}}},
		{"a mismatch", []string{`NVRM: API mismatch: the client 'nvidia-smi' (pid 12)\x0aNVRM: has the version 570.1`}, []gpu.Fault{{Kind: gpu.FaultMismatch, PID: 12, Process: "nvidia-smi"}}},
		{"a name with a line end", []string{`NVRM: Xid (PCI:0000:3b:00): 31, pid=5, name=V\x0aNVRM: x, Ch 1`}, []gpu.Fault{{Kind: gpu.FaultXid, Code: 31, PCI: "0000:3b:00.0", PID: 5, Process: "VNVRM: x"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			var steps []read
			for i, text := range tc.lines {
				steps = append(steps, read{text: line(3, i, 0, text)})
			}
			got := faults(r.device(steps...))
			for i := range got {
				got[i] = gpu.Fault{Kind: got[i].Kind, Code: got[i].Code, PCI: got[i].PCI, PID: got[i].PID, Process: got[i].Process}
			}
			same(t, "faults", got, tc.want)
		})
	}
}

func TestAnOldNameIsNotTheGPUOfABusLoss(t *testing.T) {
	r := newRig(t)
	got := faults(r.device(
		read{text: line(3, 1, 2*time.Second, "NVRM: The NVIDIA GPU 0000:18:00.0 (PCI ID: 10de:20b0) is not supported")},
		read{text: line(3, 2, 0, "NVRM: fallen off the bus and is not responding to commands.")},
	))
	same(t, "GPU", got[0].PCI, "")
}

func TestAStorm(t *testing.T) {
	r := newRig(t)
	now := boot.Add(uptime)
	r.log.o.Now = func() time.Time { return now }
	r.device() // all that was there has been read
	var steps []read
	for i := range 10_000 {
		steps = append(steps, read{text: line(4, i, 0, xid(31, i%100+1))})
	}
	steps = append(steps, read{text: line(4, 20_000, 0, strings.Replace(xid(79, 1), ":3b:", ":af:", 1))})
	got := faults(r.device(steps...))
	same(t, "faults", len(got), mostEach+1)
	same(t, "the first", got[0].PID, 1)
	same(t, "the last of this GPU", got[mostEach-1].PID, mostEach)
	same(t, "that of another GPU", got[mostEach].PCI, "0000:af:00.0")
	same(t, "asked for", len(r.asked), mostEach+1)
	if want := `msg="a storm of GPU faults in the kernel log: those that repeat, or are too many, are left out" left_out=9950`; !strings.Contains(r.said.String(), want) {
		t.Errorf("the log says %q, want %q in it", r.said.String(), want)
	}

	now = now.Add(time.Second)
	r.log.idle = now
	again := faults(r.device(read{text: line(4, 30_000, 0, xid(31, 3))}))
	same(t, "faults a second later", len(again), 1)
}

func TestWhatIsTheSame(t *testing.T) {
	const gone = "NVRM: Xid (PCI:0000:3b:00): "
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{gone + "31, pid=1, name=a, x", gone + "31, pid=1, name=b, y", 1},
		{gone + "31, pid=1, name=a, x", gone + "31, pid=2, name=a, x", 2},
		{gone + "31, pid=1, name=a, x", gone + "43, pid=1, name=a, x", 2},
		{gone + "154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", gone + "154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot Required)", 2},
		{gone + "94, pid=1, Contained. RST: No, D-RST: No", gone + "94, pid=1, Contained. RST: Yes, D-RST: No", 2},
		{gone + "149, NETIR_LINK_EVT Nonfatal XC0", gone + "149, NETIR_LINK_EVT Fatal XC0", 2},
		{"NVRM: Xid (PCI:0000:3b:00 GPU-I:01): 31, pid=1, name=a, x", "NVRM: Xid (PCI:0000:3b:00 GPU-I:02): 31, pid=1, name=a, x", 2},
	} {
		t.Run(fmt.Sprint(tc.a[len("NVRM: Xid "):], tc.want), func(t *testing.T) {
			r := newRig(t)
			got := faults(r.device(read{text: line(4, 1, 0, tc.a)}, read{text: line(4, 2, 0, tc.b)}))
			same(t, "faults", len(got), tc.want)
		})
	}
}

func TestTheSieveIsBounded(t *testing.T) {
	s := newSieve()
	for i := range 3 * keysMax {
		s.admit(gpu.Fault{PCI: fmt.Sprint(i), At: boot})
		if len(s.last) > keysMax || len(s.each) > keysMax {
			t.Fatalf("%d faults and %d GPUs are remembered", len(s.last), len(s.each))
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(line(4, 1, 0, xid(31, 4242))))
	f.Add([]byte(`6,339,5140900,-,caller=T1;NVRM: a\x0ab\`))
	f.Add([]byte("30,1,18446744073709551615,c;x"))
	f.Add([]byte(" SUBSYSTEM=pci"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parseRecord(b)
		if !ok {
			same(t, "what is no record", r == record{}, true)
			return
		}
		if len(r.text) > textMax || r.at < 0 || r.at > maxUptime {
			t.Errorf("%d bytes at %v", len(r.text), r.at)
		}
		again, ok := parseRecord(fmt.Appendf(nil, "%d,%d,%d,-;%s", r.facility<<3, r.seq, r.at.Microseconds(), escape(r.text)))
		if !ok || again.text != r.text && len(r.text) <= textMax/4 || again.seq != r.seq || again.facility != r.facility {
			t.Errorf("%+v comes back as %+v", r, again)
		}
	})
}

// escape writes a text as the kernel does.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c >= 127 || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// BenchmarkFault is the way of one line from the pipe to the one who waits
// for it: it must be well below 10 ms.
func BenchmarkFault(b *testing.B) {
	r := newRig(b)
	var now atomic.Int64 // each fault comes a while after the one before it
	r.log.o.Now = func() time.Time { return boot.Add(time.Duration(now.Load())) }
	r.log.o.Boottime = func() time.Duration { return time.Duration(now.Load()) }
	end := r.watch()
	r.readable()
	seq := 0
	for b.Loop() {
		seq++
		at := time.Duration(now.Add(int64(window)))
		r.raw(fmt.Sprintf("4,%d,%d,-;NVRM: Xid (PCI:0000:3b:00): 31, pid=%d, name=x, y\n", seq, at.Microseconds(), seq))
		if f := r.fault(); f.PID != seq {
			b.Fatal(f)
		}
	}
	end()
}

// BenchmarkOtherLine is what a line that is none of ours costs.
func BenchmarkOtherLine(b *testing.B) {
	r := newRig(b)
	text := []byte(line(6, 1, 0, "br-5f1: port 3(veth12ab) entered blocking state"))
	for b.Loop() {
		r.log.feed(b.Context(), r.out, text)
	}
}
