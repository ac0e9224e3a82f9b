package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

var epoch = time.Date(2025, 11, 22, 10, 0, 0, 0, time.UTC)

func mustOpen(tb testing.TB, dir string, o Options) (*Journal, policy.Snapshot) {
	tb.Helper()
	j, snap, err := Open(dir, o)
	if err != nil {
		tb.Fatalf("Open: %v", err)
	}
	tb.Cleanup(func() {
		if err := j.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return j, snap
}

func mustAppend(tb testing.TB, j *Journal, batch ...watcher.Record) {
	tb.Helper()
	if err := j.Append(batch); err != nil {
		tb.Fatalf("Append: %v", err)
	}
}

func mustClose(tb testing.TB, j *Journal) {
	tb.Helper()
	if err := j.Close(); err != nil {
		tb.Fatalf("Close: %v", err)
	}
}

// record is one of a container that died, at a number of seconds after epoch.
func record(second int, c policy.Changes) watcher.Record {
	at := epoch.Add(time.Duration(second) * time.Second)
	return watcher.Record{
		Event:     policy.Event{At: at, Kind: policy.KindDie, Unit: "web", ExitCode: second},
		Decisions: []policy.Decision{{ID: uint64(second), At: at, Verb: policy.VerbNote, Rule: "exited", Reason: "it exited"}},
		Changes:   c,
	}
}

func unit(key string, level int) policy.Unit {
	return policy.Unit{
		Key: key, Name: strings.ReplaceAll(key, "/", "-"), State: policy.Running, Since: epoch, Reason: "healthy since 61 s",
		Last: policy.Observation{
			Container: strings.Repeat("c0ffee", 10), Image: "vllm/vllm-openai:v0.11", Status: "running", Running: true,
			Labels: map[string]string{"defib.enable": "true", "com.docker.compose.project": "p"}, StartedAt: epoch,
			Health: &policy.Health{Status: "healthy", Log: []policy.Probe{{Start: epoch, End: epoch, Output: "OK\nfine\n"}}},
		},
		Level: level, TTR: []time.Duration{time.Minute},
	}
}

func incident(id string, opened, closed time.Time) policy.Incident {
	return policy.Incident{
		ID: id, Rev: 1, Unit: "web", Name: "web", Opened: opened, Closed: closed, Level: policy.LevelWarn,
		Rule: "exited", Cause: "it exited with 1", Steps: []policy.Step{{At: opened, Rule: "exited", Text: "it exited with 1"}},
	}
}

func TestStateComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j, snap := mustOpen(t, dir, Options{})
	if diff := cmp.Diff(policy.Snapshot{}, snap); diff != "" {
		t.Errorf("a new state (-want +got):\n%s", diff)
	}
	host := policy.Host{NextID: 7, Connected: true, Tokens: 5.5, TokensAt: epoch}
	mustAppend(t, j,
		record(0, policy.Changes{Units: []policy.Unit{unit("ignored", 1)}}), // only the last record's are taken
		record(1, policy.Changes{
			Host: &host, Units: []policy.Unit{unit("a/web/1", 1), unit("b", 0), unit("c", 0)},
			Incidents: []policy.Incident{incident("INC-2222", epoch, time.Time{}), incident("INC-1111", epoch, time.Time{})},
		}))
	mustAppend(t, j, record(2, policy.Changes{
		Units: []policy.Unit{unit("a/web/1", 2)}, Forgotten: []string{"b", "never known"},
		Incidents: []policy.Incident{incident("INC-2222", epoch, epoch.Add(time.Minute))},
	}))
	mustClose(t, j)

	_, snap = mustOpen(t, dir, Options{})
	want := policy.Snapshot{
		Host: host, Units: []policy.Unit{unit("a/web/1", 2), unit("c", 0)},
		Incidents: []policy.Incident{incident("INC-1111", epoch, time.Time{})},
	}
	if diff := cmp.Diff(want, snap); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKeysOfAnyKindComeBack(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	units := []policy.Unit{unit("", 0), unit("é", 0), unit(strings.Repeat("x", 70000), 0)}
	mustAppend(t, j, record(1, policy.Changes{Units: units}))
	mustClose(t, j)
	j, snap := mustOpen(t, dir, Options{})
	if diff := cmp.Diff([]policy.Unit{units[0], units[2], units[1]}, snap.Units); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mustAppend(t, j, record(2, policy.Changes{Forgotten: []string{"", "é", strings.Repeat("x", 70000)}}))
	mustClose(t, j)
	if _, snap = mustOpen(t, dir, Options{}); len(snap.Units) != 0 {
		t.Errorf("got %d units, want all forgotten", len(snap.Units))
	}
}

func TestNothingIsCommittedWithoutChanges(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	before := transaction(t, dir)
	mustAppend(t, j, record(1, policy.Changes{Units: []policy.Unit{unit("web", 0)}}), record(2, policy.Changes{}))
	mustAppend(t, j)
	if got := transaction(t, dir); got != before {
		t.Errorf("transaction %d, want %d as before", got, before)
	}
	mustAppend(t, j, record(3, policy.Changes{Host: &policy.Host{}}))
	if got := transaction(t, dir); got != before+1 {
		t.Errorf("transaction %d, want %d", got, before+1)
	}
}

// transaction is the number of the newest one in the state file.
func transaction(tb testing.TB, dir string) uint64 {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, stateFile))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	im := &image{file: f, size: info.Size()}
	if !im.readMeta() {
		tb.Fatal(im.problems)
	}
	return im.meta.txid
}

func TestAppendAfterCloseIsRefused(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), Options{})
	mustClose(t, j)
	if err := j.Append([]watcher.Record{record(1, policy.Changes{})}); err == nil {
		t.Error("got no error")
	}
}

func TestIncidents(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), Options{})
	hour := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	old := incident("INC-OLD", hour(1), hour(2))
	late := incident("INC-LATE", hour(0), hour(9))
	open := incident("INC-OPEN", hour(5), time.Time{})
	again := incident("INC-OLD", hour(7), hour(8)) // the same short ID, given a second time
	mustAppend(t, j, record(1, policy.Changes{Incidents: []policy.Incident{old, late, open, again}}))
	open.Rev, open.Repairs = 2, 1
	mustAppend(t, j, record(2, policy.Changes{Incidents: []policy.Incident{open}}))

	for _, tt := range []struct {
		since time.Time
		want  []policy.Incident
	}{
		{time.Time{}, []policy.Incident{late, old, open, again}},
		{hour(8), []policy.Incident{late, open, again}},
		{hour(10), []policy.Incident{open}},
	} {
		got, err := j.Incidents(tt.since)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("since %v (-want +got):\n%s", tt.since, diff)
		}
	}
	for _, tt := range []struct {
		id   string
		want policy.Incident
		ok   bool
	}{{"INC-OLD", again, true}, {"INC-OPEN", open, true}, {"INC-", policy.Incident{}, false}, {"", policy.Incident{}, false}} {
		got, ok, err := j.Incident(tt.id)
		if err != nil || ok != tt.ok {
			t.Fatalf("Incident(%q): %v, %v, want %v", tt.id, ok, err, tt.ok)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Incident(%q) (-want +got):\n%s", tt.id, diff)
		}
	}
}

func ids(tb testing.TB, j *Journal) []string {
	tb.Helper()
	all, err := j.Incidents(time.Time{})
	if err != nil {
		tb.Fatal(err)
	}
	out := []string{}
	for _, in := range all {
		out = append(out, in.ID)
	}
	return out
}

func TestOldIncidentsAreForgotten(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{Now: epoch})
	mustAppend(t, j, record(0, policy.Changes{Incidents: []policy.Incident{
		incident("INC-1", epoch.Add(-91*day), epoch.Add(-90*day)), // 90 days old to the second
		incident("INC-2", epoch.Add(-91*day), epoch.Add(-88*day)),
		incident("INC-3", epoch.Add(-90*day), time.Time{}), // open
	}}))
	change := policy.Changes{Host: &policy.Host{}}
	mustAppend(t, j, record(10, change)) // the same day: nothing is looked for
	if diff := cmp.Diff([]string{"INC-1", "INC-2", "INC-3"}, ids(t, j)); diff != "" {
		t.Errorf("on the day (-want +got):\n%s", diff)
	}
	mustAppend(t, j, record(24*60*60, change))
	if diff := cmp.Diff([]string{"INC-2", "INC-3"}, ids(t, j)); diff != "" {
		t.Errorf("the next day (-want +got):\n%s", diff)
	}
	mustClose(t, j)
	j, _ = mustOpen(t, dir, Options{Now: epoch.Add(30 * day)})
	if diff := cmp.Diff([]string{"INC-3"}, ids(t, j)); diff != "" {
		t.Errorf("opened a month later (-want +got):\n%s", diff)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	var all []policy.Incident
	for i := range 4 {
		in := incident(fmt.Sprintf("INC-%d", i), epoch, epoch.Add(time.Duration(4-i)*time.Minute))
		in.Cause = strings.Repeat("x", 1000)
		all = append(all, in)
	}
	all = append(all, incident("INC-OPEN", epoch, time.Time{}))
	mustAppend(t, j, record(1, policy.Changes{Incidents: all}))
	mustClose(t, j)
	j, _ = mustOpen(t, dir, Options{Now: epoch.Add(time.Hour), IncidentBytes: 3000}) // two of them fit
	if diff := cmp.Diff([]string{"INC-0", "INC-1", "INC-OPEN"}, ids(t, j)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSecondProcessIsTold(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	_, _, err := Open(dir, Options{})
	host, _ := os.Hostname()
	want := &LockedError{Dir: dir, PID: os.Getpid(), Host: host}
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("got %v, want a LockedError", err)
	}
	if diff := cmp.Diff(want, locked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text := fmt.Sprintf("state directory %s is in use by process %d on %s: stop that one first, or give this one a directory of its own with --state-dir", dir, os.Getpid(), host)
	if err.Error() != text {
		t.Errorf("got  %q\nwant %q", err, text)
	}
	if _, err := Repair(dir); !errors.As(err, &locked) {
		t.Errorf("Repair: got %v, want a LockedError", err)
	}
	mustClose(t, j)
	mustOpen(t, dir, Options{})
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	j, _ := mustOpen(t, dir, Options{})
	mustAppend(t, j, record(1, policy.Changes{Host: &policy.Host{}}))
	mustClose(t, j)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadersAndTheWriterDoNotMeet(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{FlushEvery: time.Millisecond, SegmentBytes: 10_000, LogBytes: 50_000})
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := j.Incidents(time.Time{})
				_, _, err2 := j.Incident("INC-1")
				err3 := ReadEvents(dir, time.Time{}, func(watcher.Record) error { return nil })
				if err := errors.Join(err, err2, err3); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 60 {
		mustAppend(t, j, record(i, policy.Changes{Incidents: []policy.Incident{bulky(fmt.Sprintf("INC-%d", i%20))}}))
	}
	close(stop)
	readers.Wait()
}
