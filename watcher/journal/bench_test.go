package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// BenchmarkAppend measures what stands between a decision and its release:
// "one" stores the host and one unit among 300, the usual case; "storm" 50
// units and incidents in one batch; "nothing" has no changes. The floor is two
// syncs of one page, what bbolt makes of a commit at the least.
func BenchmarkAppend(b *testing.B) {
	for _, bb := range []struct {
		name  string
		batch int
	}{{"one", 1}, {"storm", 50}} {
		b.Run(bb.name, func(b *testing.B) {
			j := benchJournal(b)
			n := 0
			for b.Loop() {
				n++
				mustAppend(b, j, benchBatch(bb.batch, n)...)
			}
		})
	}
	b.Run("nothing", func(b *testing.B) {
		j := benchJournal(b)
		for b.Loop() {
			mustAppend(b, j, record(1, policy.Changes{}))
		}
	})
	b.Run("floor", benchFloor)
}

func benchJournal(b *testing.B) *Journal {
	j, _ := mustOpen(b, b.TempDir(), Options{LogBytes: 32 << 20})
	var c policy.Changes
	for i := range 300 {
		c.Units = append(c.Units, unit(fmt.Sprintf("project/service-%d/1", i), 0))
	}
	mustAppend(b, j, record(0, c))
	return j
}

func benchBatch(size, n int) []watcher.Record {
	c := policy.Changes{Host: &policy.Host{NextID: uint64(n)}}
	var batch []watcher.Record
	for i := range size {
		c.Units = append(c.Units, unit(fmt.Sprintf("project/service-%d/1", (n+i*7)%300), n))
		if size > 1 {
			c.Incidents = append(c.Incidents, incident(fmt.Sprintf("INC-%d", i), epoch, time.Time{}))
		}
		batch = append(batch, record(n, policy.Changes{}))
	}
	batch[size-1].Changes = c
	return batch
}

func benchFloor(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	for b.Loop() {
		for off := range 2 {
			if _, err := f.WriteAt(page, int64(off)*4096); err != nil {
				b.Fatal(err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkOpen opens a state of 1 000 units and 1 000 incidents with logs.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	j, _ := mustOpen(b, dir, Options{})
	var c policy.Changes
	for i := range 1000 {
		c.Units = append(c.Units, unit(fmt.Sprintf("project/service-%d/1", i), 0))
		in := incident(fmt.Sprintf("INC-%d", i), epoch, at(60))
		in.Evidence = &policy.Evidence{At: epoch}
		for line := range 200 {
			in.Evidence.Logs = append(in.Evidence.Logs, fmt.Sprintf("INFO 11-22 00:15:01 engine.py:%d] Avg prompt throughput: 12.3, Running: 3 reqs", line))
		}
		c.Incidents = append(c.Incidents, in)
	}
	mustAppend(b, j, record(0, c))
	mustClose(b, j)
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		j, _, err := Open(dir, Options{Now: epoch})
		if err != nil {
			b.Fatal(err)
		}
		mustClose(b, j)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
}
