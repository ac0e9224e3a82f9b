package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// logged are the exit codes, which number the records, of the events of dir;
// a gap is its reason.
func logged(tb testing.TB, dir string, from time.Time) []string {
	tb.Helper()
	out := []string{}
	for _, r := range records(tb, dir, from) {
		out = append(out, short(r))
	}
	return out
}

func records(tb testing.TB, dir string, from time.Time) (out []watcher.Record) {
	tb.Helper()
	err := ReadEvents(dir, from, func(r watcher.Record) error {
		out = append(out, r)
		return nil
	})
	if err != nil {
		tb.Fatalf("ReadEvents: %v", err)
	}
	return out
}

func short(r watcher.Record) string {
	if r.Event.Kind == KindGap {
		return r.Event.Reason
	}
	return fmt.Sprint(r.Event.ExitCode)
}

func segmentNames(tb testing.TB, dir string) []string {
	tb.Helper()
	found, err := listSegments(filepath.Join(dir, eventsDir))
	if err != nil {
		tb.Fatal(err)
	}
	out := []string{}
	for _, s := range found {
		out = append(out, filepath.Base(s.path))
	}
	return out
}

func at(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }

func TestEventsComeBack(t *testing.T) {
	dir := t.TempDir()
	if got := logged(t, dir, time.Time{}); len(got) != 0 {
		t.Errorf("before the first start: got %v, want none", got)
	}
	j, _ := mustOpen(t, dir, Options{})
	want := []watcher.Record{record(1, policy.Changes{}), record(2, policy.Changes{})}
	want[1].Event.Observation = &policy.Observation{Container: "c", Labels: map[string]string{"a": "<b>&\"c\""}}
	mustAppend(t, j, want...)
	mustClose(t, j)
	var got []watcher.Record
	if err := ReadEvents(dir, time.Time{}, func(r watcher.Record) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	stop := errors.New("enough")
	if err := ReadEvents(dir, time.Time{}, func(watcher.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the reader", err)
	}
}

func TestEventsAreFlushedEachSecond(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j, _ := mustOpen(t, dir, Options{})
		mustAppend(t, j, record(1, policy.Changes{}))
		time.Sleep(time.Second - 1)
		synctest.Wait()
		if got := logged(t, dir, time.Time{}); len(got) != 0 {
			t.Errorf("before a second: got %v, want none", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if diff := cmp.Diff([]string{"1"}, logged(t, dir, time.Time{})); diff != "" {
			t.Errorf("after a second (-want +got):\n%s", diff)
		}
		mustClose(t, j)
	})
}

func TestManyEventsAreWrittenAtOnce(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{FlushEvery: time.Hour})
	r := record(1, policy.Changes{})
	r.Event.Reason = strings.Repeat("x", 1000)
	for range 200 {
		mustAppend(t, j, r)
	}
	if got := len(logged(t, dir, time.Time{})); got < 100 || got == 200 {
		t.Errorf("%d of 200 lines are in the file, want most", got)
	}
}

func TestEventsFromATimeOn(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{SegmentBytes: 500})
	for i := range 9 {
		mustAppend(t, j, record(i, policy.Changes{}))
	}
	mustClose(t, j)
	if diff := cmp.Diff([]string{"6", "7", "8"}, logged(t, dir, at(6))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSegmentsAreBoundedInSizeAndNumber(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{SegmentBytes: 1000, LogBytes: 3000})
	for i := range 100 {
		mustAppend(t, j, record(i, policy.Changes{}))
	}
	mustClose(t, j)
	found, err := listSegments(filepath.Join(dir, eventsDir))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, s := range found {
		if s.size > 1000 {
			t.Errorf("%s has %d bytes, want at most 1000", s.path, s.size)
		}
		total += s.size
	}
	if total > 3000 || total < 2000 {
		t.Errorf("%d bytes in all, want almost 3000", total)
	}
	got := logged(t, dir, time.Time{})
	for i, code := range got {
		if want := fmt.Sprint(100 - len(got) + i); code != want {
			t.Fatalf("record %d is %s, want %s: the newest, without a gap", i, code, want)
		}
	}
}

func TestALineLongerThanASegmentHasOneOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{SegmentBytes: 300})
	long := record(2, policy.Changes{})
	long.Event.Others = make([]policy.Other, 100)
	mustAppend(t, j, record(1, policy.Changes{}), long, record(3, policy.Changes{}))
	mustClose(t, j)
	if diff := cmp.Diff([]string{"1", "2", "3"}, logged(t, dir, time.Time{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"00000001.jsonl", "00000002.jsonl", "00000003.jsonl"}, segmentNames(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOldEventsAreRemoved(t *testing.T) {
	const day = 24 * 60 * 60
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{FlushEvery: time.Hour})
	for i := range 20 {
		mustAppend(t, j, record(i*day, policy.Changes{}))
		j.Flush()
	}
	mustClose(t, j)
	got := logged(t, dir, time.Time{})
	if first := fmt.Sprint(5 * day); got[0] != first || len(got) != 15 {
		t.Errorf("got %d lines from second %s on, want 15 from %s on", len(got), got[0], first)
	}
	mustOpen(t, dir, Options{Now: epoch.Add(40 * day * time.Second)})
	if got := segmentNames(t, dir); len(got) != 0 {
		t.Errorf("opened much later: got %v, want none", got)
	}
}

func TestATornLineIsCutOff(t *testing.T) {
	for _, tail := range []string{`{"event":{"at":"2025-11-22T`, "\x00\x00\x00", "not JSON\n", "\x00\x00\n"} {
		t.Run(fmt.Sprintf("%q", tail), func(t *testing.T) {
			dir := t.TempDir()
			j, _ := mustOpen(t, dir, Options{})
			mustAppend(t, j, record(1, policy.Changes{}))
			mustClose(t, j)
			path := segmentPath(filepath.Join(dir, eventsDir), 1)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(whole, tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"1"}, logged(t, dir, time.Time{})); diff != "" {
				t.Errorf("before the next start (-want +got):\n%s", diff)
			}
			j, _ = mustOpen(t, dir, Options{})
			mustAppend(t, j, record(2, policy.Changes{}))
			mustClose(t, j)
			if diff := cmp.Diff([]string{"1", "2"}, logged(t, dir, time.Time{})); diff != "" {
				t.Errorf("after it (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"00000001.jsonl"}, segmentNames(t, dir)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStateIsKeptWhenTheEventLogCannotBe(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, eventsDir)
	if err := os.WriteFile(blocked, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	j, _ := mustOpen(t, dir, Options{FlushEvery: time.Hour})
	r := record(1, policy.Changes{Units: []policy.Unit{unit("web", 1)}})
	r.Event.Others = make([]policy.Other, 8000) // 300 kB: three fit into what waits in memory
	for range 5 {
		mustAppend(t, j, r)
	}
	if got := j.log.untold; got != 2 {
		t.Errorf("%d lines were dropped, want 2", got)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	j.Flush()
	mustAppend(t, j, record(9, policy.Changes{}))
	mustClose(t, j)
	gap := fmt.Sprintf("2 lines could not be written here: mkdir %s: not a directory", blocked)
	if diff := cmp.Diff([]string{"1", "1", "1", gap, "9"}, logged(t, dir, time.Time{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, snap := mustOpen(t, dir, Options{}); len(snap.Units) != 1 {
		t.Errorf("got %d units, want 1", len(snap.Units))
	}
}
