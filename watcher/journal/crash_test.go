package journal

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

const childDir = "DEFIB_JOURNAL_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// appendForever is what the killed process does: it appends without end and
// says the number of each append once that has returned.
func appendForever(dir string) {
	j, snap, err := Open(dir, Options{FlushEvery: 5 * time.Millisecond, SegmentBytes: 64 << 10})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	for n := snap.Host.NextID + 1; ; n++ {
		if err := j.Append([]watcher.Record{record(int(n), numbered(n))}); err != nil {
			fmt.Println("append:", err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

// numbered are changes that all say their number, in pages far from each
// other.
func numbered(n uint64) policy.Changes {
	c := policy.Changes{Host: &policy.Host{NextID: n}}
	for i := range n%7 + 1 {
		c.Units = append(c.Units, unit(fmt.Sprintf("unit-%d", (n+i*5)%40), int(n)))
	}
	in := incident(fmt.Sprintf("INC-%d", n%50), epoch, time.Time{})
	in.Cause = strings.Repeat("x", int(n*997%9000))
	c.Incidents = []policy.Incident{in}
	if n%5 == 0 {
		c.Forgotten = []string{fmt.Sprintf("unit-%d", (n+20)%40)}
	}
	return c
}

// A process that is killed at any moment leaves a state that opens, holds
// exactly the appends that returned, and at most the one that had not yet.
func TestKilledProcess(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	total := uint64(0)
	for round := range 20 {
		said := runAndKill(t, dir, 1+r.IntN(120), time.Duration(r.IntN(2000))*time.Microsecond)
		j, snap, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got := snap.Host.NextID; got != said && got != said+1 {
			t.Fatalf("round %d: append %d is the newest in the state, and %d had returned", round, got, said)
		}
		checkUnits(t, snap)
		mustClose(t, j)
		checkLog(t, dir, snap.Host.NextID)
		total = snap.Host.NextID
	}
	if total < 20 {
		t.Errorf("only %d appends in 20 rounds", total)
	}
}

// runAndKill starts a child, kills it some time after it has said a number of
// appends, and returns the number of the last append that returned.
func runAndKill(t *testing.T, dir string, appends int, after time.Duration) (last uint64) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		last = n
		if i == appends {
			time.AfterFunc(after, func() { _ = child.Process.Kill() }) // Wait says whether it worked
		}
	}
	if err := child.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("child ended with %v", err)
	}
	return last
}

// checkUnits replays the appends and compares.
func checkUnits(t *testing.T, snap policy.Snapshot) {
	t.Helper()
	want := map[string]int{}
	for n := uint64(1); n <= snap.Host.NextID; n++ {
		c := numbered(n)
		for _, key := range c.Forgotten {
			delete(want, key)
		}
		for _, u := range c.Units {
			want[u.Key] = u.Level
		}
	}
	if len(snap.Units) != len(want) {
		t.Errorf("%d units, want %d", len(snap.Units), len(want))
	}
	for _, u := range snap.Units {
		if want[u.Key] != u.Level {
			t.Errorf("unit %s is of append %d, want %d", u.Key, u.Level, want[u.Key])
		}
	}
}

// checkLog requires the event log to be in order. A killed process loses what
// it had not flushed: those numbers are missing, the others stand once.
func checkLog(t *testing.T, dir string, newest uint64) {
	t.Helper()
	last := 0
	err := ReadEvents(dir, time.Time{}, func(r watcher.Record) error {
		if r.Event.ExitCode <= last || r.Event.ExitCode > int(newest) {
			t.Errorf("record %d after %d in the event log", r.Event.ExitCode, last)
		}
		last = r.Event.ExitCode
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
