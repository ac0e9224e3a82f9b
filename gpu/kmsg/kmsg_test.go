package kmsg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

func TestAFaultOfAProcess(t *testing.T) {
	r := newRig(t)
	end := r.watch()
	r.readable()
	r.put(7, 0, "NVRM: GPU at PCI:0000:3b:00: GPU-11111111-2222-3333-4444-555555555555")
	r.put(8, -time.Second, xid(31, 4242)) // the two clocks differ
	same(t, "fault", r.fault(), gpu.Fault{
		At: boot.Add(uptime), Kind: gpu.FaultXid, Code: 31, UUID: "GPU-11111111-2222-3333-4444-555555555555", PCI: "0000:3b:00.0",
		PID: 4242, Process: "VLLM::Worker", Containers: []string{"c1"}, Source: gpu.SourceKernel, Seq: 8, Text: "Ch 00000008",
	})
	end()
	same(t, "log", r.said.String(), "")
}

func TestOnlyTheKernelIsBelieved(t *testing.T) {
	r := newRig(t)
	end := r.watch()
	r.readable()
	r.raw(line(12, 1, 0, xid(79, 1)))                                                 // facility 1: a program wrote it
	r.raw(line(8*300+4, 2, 0, xid(79, 2)))                                            // a facility beyond all
	r.put(3, 0, "overlayfs: '/\\x0aNVRM: Xid (PCI:0000:3b:00): 79, GPU lost' is bad") // a file name
	r.raw(fmt.Sprintf("4,4,%d,c;%s\n", uptime.Microseconds(), xid(79, 4)))            // half a line
	r.raw(" NVRM: Xid (PCI:0000:3b:00): 79, x\n SUBSYSTEM=pci\n")
	r.raw("no record at all\n4,5;\n4,5,x,-;\n4,-5,1,-;\n;;;\n")
	r.put(6, 0, "usb 1-1: NVRM: Xid (PCI:0000:3b:00): 79, x")
	r.put(7, 0, xid(31, 7))
	same(t, "the only fault", r.fault().Seq, uint64(7))
	end()
}

func TestLinesThatOneReadDoesNotEnd(t *testing.T) {
	r := newRig(t)
	end := r.watch()
	r.readable()
	text := line(4, 1, 0, xid(31, 1)) + line(4, 2, 0, xid(43, 2)) + "4,3,0,-;" + strings.Repeat("x", 2*lineMax) + "\n" + line(4, 4, 0, xid(45, 4))
	for len(text) > 0 {
		n := min(len(text), 5000)
		r.raw(text[:n])
		text = text[n:]
	}
	var codes []int
	for range 3 {
		codes = append(codes, r.fault().Code)
	}
	same(t, "codes", codes, []int{31, 43, 45})
	end()
}

func TestAPlainFile(t *testing.T) {
	r := newRig(t)
	r.log = r.newLog(filepath.Join(t.TempDir(), "log"))
	if err := os.WriteFile(r.log.o.Path, []byte(line(4, 1, time.Minute, xid(31, 1))), 0o600); err != nil {
		t.Fatal(err)
	}
	end := r.watch()
	r.readable()
	same(t, "historic, from the beginning", r.fault().Historic, true)
	f, err := os.OpenFile(r.log.o.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, line(4, 2, 0, xid(43, 1)))
	same(t, "historic, from the end", r.fault().Historic, false)
	end()
}

func TestHistory(t *testing.T) {
	r := newRig(t)
	r.put(1, 5*time.Minute, xid(31, 4242))
	r.put(2, 4*time.Minute, strings.ReplaceAll(xid(31, 4242), "VLLM::Worker", "python3"))
	r.put(3, 3*time.Minute, "NVRM: Xid (PCI:0000:3b:00): 94, pid=4242, Contained")
	r.put(4, 0, xid(43, 4242))
	end := r.watch()
	r.readable()
	type short struct {
		Ago        time.Duration
		Historic   bool
		Containers []string
	}
	var got []short
	for range 4 {
		f := r.fault()
		got = append(got, short{boot.Add(uptime).Sub(f.At), f.Historic, f.Containers})
	}
	same(t, "faults", got, []short{
		{5 * time.Minute, true, []string{"c1"}},
		{4 * time.Minute, true, nil}, // the PID has been given to another program
		{3 * time.Minute, true, nil}, // there is no name to tell
		{0, false, []string{"c1"}},
	})
	end()

	again := r.watch() // a record is sent once; what came meanwhile is not historic
	r.put(3, 3*time.Minute, xid(95, 1))
	r.put(5, 0, xid(45, 4242))
	f := r.fault()
	same(t, "the next one", short{0, f.Historic, f.Containers}, short{0, false, []string{"c1"}})
	same(t, "its number", f.Seq, uint64(5))
	again()
}

// The driver may come long after defib has started, and only then is the log
// read: what was logged in between is no history.
func TestHistoryEndsWithTheStartOfDefib(t *testing.T) {
	since := uptime
	r := newRig(t)
	r.log.o.Boottime = func() time.Duration { return since }
	r.log.o.Now = func() time.Time { return boot.Add(since) }
	r.put(1, time.Second, xid(79, 1))
	since += time.Minute
	r.raw(line(4, 2, -30*time.Second, strings.ReplaceAll(xid(31, 4242), "VLLM::Worker", "python3")))
	r.raw(line(4, 3, -59*time.Second, strings.ReplaceAll(xid(31, 4242), "VLLM::Worker", "python3")))
	end := r.watch()
	defer end()
	r.readable()
	same(t, "before it", r.fault().Historic, true)
	f := r.fault()
	same(t, "after it", f.Historic, false)
	same(t, "of a PID that was given to another program meanwhile", f.Containers, []string(nil))
	f = r.fault()
	same(t, "just now, of one that changed its name", f.Containers, []string{"c1"})
}

func TestOnlyTheEndOfALongHistoryIsKept(t *testing.T) {
	r := newRig(t)
	var steps []read
	for i := range 2000 {
		steps = append(steps, read{text: line(4, i, time.Hour-time.Duration(i)*time.Second, xid(31, i))})
	}
	got := faults(r.device(steps...))
	same(t, "faults", len(got), pastMax)
	same(t, "the first", got[0].PID, 2000-pastMax)
	same(t, "the last", got[pastMax-1].PID, 1999)
}

// The clock of the records runs slower than ours, and we know it as soon as
// all that was there has been read.
func TestARecordIsNoOlderThanTheLastLook(t *testing.T) {
	r := newRig(t)
	now := boot.Add(uptime)
	r.log.o.Now = func() time.Time { return now }
	r.device(read{text: line(4, 1, time.Minute, xid(31, 1))})
	now = now.Add(3 * time.Second)
	got := faults(r.device(read{text: line(4, 2, time.Minute, xid(43, 1))}))
	same(t, "faults", len(got), 1)
	same(t, "historic", got[0].Historic, false)
	same(t, "time", got[0].At, now.Add(-3*time.Second))
}

func TestLostRecords(t *testing.T) {
	r := newRig(t)
	got := r.device(
		read{text: line(4, 1, 0, xid(31, 1))},
		read{text: "4,2,1,-;NVRM: Xid (PCI:00"}, // cut by what follows
		read{err: &fs.PathError{Op: "read", Path: "/dev/kmsg", Err: unix.EPIPE}},
		read{err: unix.EINVAL},
		read{err: unix.EINTR},
		read{text: line(4, 90, 0, xid(43, 1))},
	)
	var seqs []uint64
	for _, f := range faults(got) {
		seqs = append(seqs, f.Seq)
	}
	same(t, "records", seqs, []uint64{1, 90})
}

func TestALogThatGivesNoMoreIsBroken(t *testing.T) {
	r := newRig(t)
	var steps []read
	for range skipsMax + 1 {
		steps = append(steps, read{err: unix.EINVAL})
	}
	pauses := 0
	r.log.pause = func(d time.Duration) <-chan time.Time {
		pauses++
		same(t, "pause", d, retry)
		steps = nil
		return closed()
	}
	r.log.open = func() (source, error) { return &reads{steps: steps}, nil }
	same(t, "events", r.collect(), []policy.Event{
		{Kind: policy.KindKernelLog, Reason: explain(r.path, unix.EINVAL)},
		{Kind: policy.KindKernelLog},
	})
	same(t, "pauses", pauses, 1)
}

func TestALogThatBreaksOffIsOpenedAgain(t *testing.T) {
	r := newRig(t)
	sources := [][]read{
		{{text: line(4, 1, 0, xid(31, 1))}, {err: unix.EIO}},
		{{text: line(4, 1, 0, xid(31, 1))}, {text: line(4, 2, 0, xid(43, 1))}},
	}
	var waits []time.Duration
	r.log.pause = func(d time.Duration) <-chan time.Time { waits = append(waits, d); return closed() }
	r.log.open = func() (source, error) {
		s := &reads{steps: sources[0]}
		sources = sources[1:]
		return s, nil
	}
	var seqs []uint64
	for _, f := range faults(r.collect()) {
		seqs = append(seqs, f.Seq)
	}
	same(t, "records", seqs, []uint64{1, 2})
	same(t, "pauses", waits, []time.Duration{reopen})
}

func TestALogThatCannotBeOpened(t *testing.T) {
	r := newRig(t)
	answers := []error{
		&fs.PathError{Op: "open", Path: "/dev/kmsg", Err: unix.ENOENT},
		&fs.PathError{Op: "open", Path: "/dev/kmsg", Err: unix.ENOENT},
		&fs.PathError{Op: "open", Path: "/dev/kmsg", Err: unix.EPERM},
		errors.New("strange"), nil,
	}
	r.log.o.Path = "/dev/kmsg"
	r.log.pause = func(time.Duration) <-chan time.Time { return closed() }
	r.log.open = func() (source, error) {
		err := answers[0]
		answers = answers[1:]
		return &reads{}, err
	}
	const lost = "so GPU faults come without the process that caused them, and what was logged before defib started is not known"
	same(t, "events", r.collect(), []policy.Event{
		{Kind: policy.KindKernelLog, Reason: "/dev/kmsg is not there, " + lost + ": start defib's container with `--device /dev/kmsg --cap-add SYSLOG`."},
		{Kind: policy.KindKernelLog, Reason: "/dev/kmsg may not be read, " + lost + ": run defib as root with CAP_SYSLOG, in Docker with `--device /dev/kmsg --cap-add SYSLOG`."},
		{Kind: policy.KindKernelLog, Reason: "/dev/kmsg cannot be read (strange), " + lost + ": defib tries again every 5 min."},
		{Kind: policy.KindKernelLog},
	})
}

func TestNoPath(t *testing.T) {
	r := newRig(t)
	r.log = r.newLog("")
	end := r.watch()
	same(t, "reason", r.next().Reason, "The kernel log is switched off, so GPU faults come without the process that caused them, and what was logged before defib started is not known: set gpu.kernel_log to /dev/kmsg.")
	end()
}

func closed() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// The kernel's own device, where there is one that may be read.
func TestTheRealLog(t *testing.T) {
	r := newRig(t)
	s, err := openPath("/dev/kmsg")
	if err != nil {
		if os.Getenv("REQUIRE_ENGINE") == "1" { // which takes root, as this does
			t.Fatalf("REQUIRE_ENGINE=1, but no kernel log: %v", err)
		}
		t.Skipf("no kernel log: %v", err)
	}
	defer s.close()
	same(t, "live", s.live(), true)
	records, buf := 0, make([]byte, readSize)
	for {
		n, err := s.read(buf)
		if errors.Is(err, errIdle) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(buf[:n]), "\n")
		if p, ok := parseRecord([]byte(head)); !ok || p.at > boottime()+time.Hour {
			t.Errorf("a record reads %+v, %v: %q", p, ok, head)
		}
		records++
	}
	if records == 0 {
		t.Error("the kernel has logged nothing")
	}
	r.log = New(Options{Path: "/dev/kmsg", Log: r.log.o.Log})
	end := r.watch()
	if ev := r.next(); ev.Kind != policy.KindKernelLog || ev.Reason != "" {
		t.Errorf("the first event is %+v", ev)
	}
	end() // which must end the wait for more
}
