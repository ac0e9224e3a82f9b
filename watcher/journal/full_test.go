package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// smallDisk mounts a file system of some MiB. Without the right to, the test
// is skipped, or fails when REQUIRE_ENGINE=1.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("defib-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		if os.Getenv("REQUIRE_ENGINE") == "1" {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("a small disk cannot be mounted: %v (run as root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fillDisk takes all the room there is.
func fillDisk(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		n, err := f.Write(make([]byte, size))
		if err != nil && n == 0 {
			size /= 2
		}
	}
	return ballast
}

func TestAFullDiskDoesNotDisarmRepairsAtOnce(t *testing.T) {
	root := smallDisk(t, 16)
	dir := filepath.Join(root, "state")
	j, _ := mustOpen(t, dir, Options{FlushEvery: time.Hour})
	for i := range 50 {
		mustAppend(t, j, record(i, policy.Changes{Units: []policy.Unit{unit(fmt.Sprint("u", i), i)}}))
	}
	j.Flush()
	ballast := fillDisk(t, root)

	// The state of what is known goes on being stored for as long as it takes.
	for i := range 6000 {
		mustAppend(t, j, record(i, policy.Changes{Host: &policy.Host{NextID: uint64(i)}, Units: []policy.Unit{unit(fmt.Sprint("u", i%50), i)}}))
	}
	// New things are stored until the spare room is gone: 1 MiB is left at the least.
	stored, err := growUntilFull(t, j)
	if stored < 20 {
		t.Errorf("only %d reports of 32 kB could be stored", stored)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	again := j.Append([]watcher.Record{record(1, policy.Changes{Incidents: []policy.Incident{bulky("INC-MORE")}})})
	if !errors.Is(again, syscall.ENOSPC) {
		t.Errorf("again: got %v, want ENOSPC", again)
	}
	if j.log.untold == 0 {
		t.Error("no line of the event log was dropped")
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, record(5000, policy.Changes{Incidents: []policy.Incident{bulky("INC-LAST")}}))
	dropped := j.log.untold
	mustClose(t, j)
	gap := fmt.Sprintf("%d lines could not be written here", dropped)
	if lines := logged(t, dir, time.Time{}); !strings.HasPrefix(lines[len(lines)-1], gap) {
		t.Errorf("the event log ends with %q, want %q", lines[len(lines)-1], gap)
	}
	_, snap := mustOpen(t, dir, Options{})
	if got := len(snap.Incidents); got != stored+1 {
		t.Errorf("%d incidents came back, want the %d whose Append returned", got, stored+1)
	}
}

func bulky(id string) policy.Incident {
	in := incident(id, epoch, time.Time{})
	for range 40 {
		in.Steps = append(in.Steps, policy.Step{At: epoch, Rule: "exited", Text: strings.Repeat("x", 800)})
	}
	return in
}

func growUntilFull(t *testing.T, j *Journal) (stored int, err error) {
	t.Helper()
	for ; stored < 10_000; stored++ {
		in := bulky(fmt.Sprintf("INC-%04d", stored))
		if err := j.Append([]watcher.Record{record(stored, policy.Changes{Incidents: []policy.Incident{in}})}); err != nil {
			return stored, err
		}
	}
	t.Fatal("the disk never became full")
	return 0, nil
}

func TestASoundStateOpensOnAFullDisk(t *testing.T) {
	root := smallDisk(t, 8)
	dir := filepath.Join(root, "state")
	j, _ := mustOpen(t, dir, Options{})
	mustAppend(t, j, record(1, policy.Changes{Units: []policy.Unit{unit("web", 1)}}))
	mustClose(t, j)
	fillDisk(t, root)
	j, snap := mustOpen(t, dir, Options{})
	if len(snap.Units) != 1 {
		t.Errorf("got %d units, want 1", len(snap.Units))
	}
	mustAppend(t, j, record(2, policy.Changes{Units: []policy.Unit{unit("web", 2)}}))
}

func TestAFullDiskIsNamedAtTheFirstStart(t *testing.T) {
	root := smallDisk(t, 1)
	fillDisk(t, root)
	_, _, err := Open(filepath.Join(root, "state"), Options{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
}
