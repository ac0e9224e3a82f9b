package itest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
)

// contestant is a program that restarts what is unhealthy. start returns when
// it watches the engine behind the socket.
type contestant struct {
	name  string
	start func(b *testing.B, socket string) *runner
}

// runner is a contestant that runs.
type runner struct {
	opened time.Time // when the process was started
	pid    int
	stop   func()
}

// defib runs with its limits at their defaults and a new state directory for
// every start.
func (k *bench) defib() contestant {
	return contestant{"defib", func(b *testing.B, socket string) *runner {
		b.Helper()
		dir := shortDir(b)
		d := &Daemon{StateDir: dir, Socket: filepath.Join(dir, "defib.sock"), binary: k.bin.Defib}
		d.Client = api.NewClient(d.Socket)
		d.args = []string{"run", "--host", "unix://" + socket, "--state-dir", dir, "--socket", d.Socket}
		d.Again(b)
		d.Ready(b)
		return &runner{d.Opened, d.proc.cmd.Process.Pid, func() { d.Stop(b) }}
	}}
}

// bare is the floor, with so many restarts at a time.
func (k *bench) bare(slots int) contestant {
	return contestant{"floor", func(b *testing.B, socket string) *runner {
		b.Helper()
		cmd := exec.Command(k.floor, socket, strconv.Itoa(slots)) //nolint:noctx // the benchmark ends it by a signal
		said := &firstLine{said: make(chan struct{})}
		cmd.Stdout, cmd.Stderr = said, said
		run := &runner{opened: time.Now()}
		p, err := follow(cmd)
		if err != nil {
			b.Fatalf("start the floor: %v", err)
		}
		run.pid = cmd.Process.Pid
		run.stop = func() {
			if err := p.end(syscall.SIGTERM, 5*time.Second); err != nil {
				b.Errorf("stop the floor: %v", err)
			}
		}
		select {
		case <-said.said:
		case <-time.After(20 * time.Second):
			run.stop()
			b.Fatalf("the floor does not watch: %s", said.buf.String())
		}
		return run
	}}
}

// firstLine keeps what a program writes, and tells when the first line is
// complete.
type firstLine struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	said chan struct{}
}

func (l *firstLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := bytes.IndexByte(l.buf.Bytes(), '\n') >= 0
	l.buf.Write(p)
	if !before && bytes.IndexByte(p, '\n') >= 0 {
		close(l.said)
	}
	return len(p), nil
}

// cpu is the time that the process has spent on processors, exact to the
// nanosecond where the kernel keeps it so.
func (r *runner) cpu(b *testing.B) time.Duration {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", r.pid))
	if err != nil || len(tasks) == 0 {
		b.Fatalf("find the threads of process %d: it is gone, or /proc has no schedstat", r.pid)
	}
	var sum int64
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatalf("%s: %v", path, err)
		}
		sum += n
	}
	return time.Duration(sum)
}

// rss is the process's resident memory in MiB.
func (r *runner) rss(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("process %d has no VmRSS", r.pid)
	return 0
}

// sample is one figure, measured several times.
type sample []float64

// at is the q-th quantile, 0 to 1: the smallest value that so many do not
// exceed.
func (s sample) at(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(int(float64(len(s))*q+0.999999)-1, 0)]
}

func (s sample) median() float64 { return s.at(0.5) }

func (s *sample) add(v float64) { *s = append(*s, v) }

func (s *sample) addTime(d time.Duration, unit time.Duration) { s.add(float64(d) / float64(unit)) }

// verdict says of a figure whether it is what is wanted, and by how much it is
// missed.
func verdict(what string, got, most float64, unit string) string {
	if got <= most {
		return fmt.Sprintf("  met     %s: %.4g %s, wanted at most %.4g", what, got, unit, most)
	}
	return fmt.Sprintf("  MISSED  %s: %.4g %s, wanted at most %.4g: %.4g too much", what, got, unit, most, got-most)
}

// report prints a block of lines, with what else the machine had to do.
func report(b *testing.B, lines ...string) {
	b.Helper()
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%s\n  (load of the machine %s)", strings.Join(lines, "\n"), strings.Join(strings.Fields(string(load))[:2], ", "))
	b.ReportMetric(0, "ns/op") // of no meaning here
}

// fsync is the median time, in ms, that the disk of the state directories
// takes to make one write durable.
func fsync(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(shortDir(b), "fsync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var took sample
	for i := range 100 {
		began := time.Now()
		if _, err := f.WriteAt(page, int64(i)*4096); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		took.addTime(time.Since(began), time.Millisecond)
	}
	return took.median()
}
