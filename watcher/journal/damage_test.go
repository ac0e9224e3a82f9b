package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// filled makes a state directory with enough in it for branches, overflow
// pages and free pages, and returns what it holds.
func filled(t *testing.T) (dir string, snap policy.Snapshot) {
	t.Helper()
	dir = t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	for round := range 3 {
		var c policy.Changes
		c.Host = &policy.Host{NextID: uint64(round)}
		for i := range 40 {
			c.Units = append(c.Units, unit(fmt.Sprintf("unit-%02d", i), round))
		}
		big := incident("INC-BIG", epoch, time.Time{})
		big.Evidence = &policy.Evidence{At: epoch}
		for range 200 {
			big.Evidence.Logs = append(big.Evidence.Logs, strings.Repeat("x", 100))
		}
		c.Incidents = []policy.Incident{big, incident("INC-SMALL", epoch, time.Time{}), incident("INC-OLD", epoch, at(60))}
		mustAppend(t, j, record(round, c))
	}
	mustClose(t, j)
	j, snap = mustOpen(t, dir, Options{})
	mustClose(t, j)
	return dir, snap
}

func stateBytes(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withState makes a state directory around the bytes of a state file.
func withState(t *testing.T, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// used is how much of a state file is in use.
func used(t *testing.T, dir string) int {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im := &image{file: f, size: 1 << 40}
	if !im.readMeta() {
		t.Fatal(im.problems)
	}
	return int(im.meta.high) * int(im.meta.pageSize)
}

// A flipped bit anywhere is either found, or was nowhere that matters. It
// never changes what is read and never ends the process.
func TestFlippedBitsAreFound(t *testing.T) {
	dir, want := filled(t)
	sound, end := stateBytes(t, dir), used(t, dir)
	f, err := os.OpenFile(filepath.Join(dir, stateFile), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(1, 2))
	found := 0
	for i := range 500 {
		place := r.IntN(end)
		if i%3 == 0 {
			place = place/4096*4096 + r.IntN(200) // the numbers that pages begin with
		}
		if _, err := f.WriteAt([]byte{sound[place] ^ 1<<r.IntN(8)}, int64(place)); err != nil {
			t.Fatal(err)
		}
		if refused(t, dir, want) {
			found++
		}
		if t.Failed() {
			t.Fatalf("after a flip in byte %d", place)
		}
		if _, err := f.WriteAt(sound[place:place+1], int64(place)); err != nil {
			t.Fatal(err)
		}
	}
	if found < 100 {
		t.Errorf("only %d of 500 were found", found)
	}
}

// refused reports whether the state file is found to be damaged, and
// complains if it is not and anything but want is read from it.
func refused(t *testing.T, dir string, want policy.Snapshot) bool {
	t.Helper()
	s, err := openState(dir)
	if _, ok := errors.AsType[*DamagedError](err); ok {
		return true
	}
	if err != nil {
		t.Errorf("%v, want a DamagedError", err)
		return false
	}
	got, err := s.load()
	if err := errors.Join(err, s.db.Close()); err != nil {
		t.Errorf("load: %v", err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
	}
	return false
}

func TestDamageIsNeverReplacedSilently(t *testing.T) {
	dir, _ := filled(t)
	sound := stateBytes(t, dir)
	page := int(binary.NativeEndian.Uint32(sound[pageHeader+8:]))
	tests := []struct {
		name   string
		state  []byte
		report string // what Repair says of what is kept
	}{
		{"empty", nil, "Kept: nothing of the state of the host, 0 containers, 0 incidents."},
		{"text", []byte("hello, world"), "Kept: nothing of the state of the host, 0 containers, 0 incidents."},
		{"zeros", make([]byte, 64<<10), "Kept: nothing of the state of the host, 0 containers, 0 incidents."},
		{"cut short", sound[:3*page], "Kept: nothing of the state of the host, 0 containers, 0 incidents."},
		{"first header gone", append(make([]byte, page), sound[page:]...), "Kept: the state of the host, 40 containers, 3 incidents."},
		{"one unit changed", []byte(strings.ReplaceAll(string(sound), `{"key":"unit-07"`, `{"key":"unit-99"`)), "Kept: the state of the host, 39 containers, 3 incidents."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := withState(t, tt.state)
			_, _, err := Open(dir, Options{})
			var damage *DamagedError
			if !errors.As(err, &damage) || !strings.Contains(err.Error(), "defib state repair") {
				t.Fatalf("got %v, want a DamagedError with the way out", err)
			}
			if diff := cmp.Diff(tt.state, stateBytes(t, dir), cmpBytes()); diff != "" {
				t.Errorf("the file was changed")
			}
			report, err := Repair(dir)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(report, tt.report) || !strings.Contains(report, stateFile+".damaged-1, unchanged") {
				t.Errorf("got report %q, want it to say %q", report, tt.report)
			}
			aside, err := os.ReadFile(filepath.Join(dir, stateFile+".damaged-1"))
			if err != nil || string(aside) != string(tt.state) {
				t.Errorf("the file that was set aside differs, or %v", err)
			}
			mustOpen(t, dir, Options{})
		})
	}
}

func cmpBytes() cmp.Option {
	return cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })
}

func TestRepairKeepsWhatCanBeRead(t *testing.T) {
	dir, want := filled(t)
	sound := string(stateBytes(t, dir))
	dir = withState(t, []byte(strings.ReplaceAll(sound, `{"key":"unit-07"`, `{"key":"unit-99"`)))
	report, err := Repair(dir)
	if err != nil {
		t.Fatal(err)
	}
	if line := `Lost: "unit-07" in units: it does not match its checksum.`; !strings.Contains(report, line) {
		t.Errorf("got report %q, want it to say %q", report, line)
	}
	_, got := mustOpen(t, dir, Options{})
	want.Units = append(want.Units[:7:7], want.Units[8:]...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRepairSetsEveryDamagedFileAside(t *testing.T) {
	dir := withState(t, []byte("first"))
	if _, err := Repair(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"state.db.damaged-1": "first", "state.db.damaged-2": "second"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestRepairLeavesASoundFileAlone(t *testing.T) {
	dir, _ := filled(t)
	before := stateBytes(t, dir)
	report, err := Repair(dir)
	if want := filepath.Join(dir, stateFile) + " is sound. Nothing was changed.\n"; err != nil || report != want {
		t.Errorf("got %q, %v, want %q", report, err, want)
	}
	if string(before) != string(stateBytes(t, dir)) {
		t.Error("it was changed")
	}
	report, err = Repair(t.TempDir())
	if err != nil || !strings.Contains(report, "does not exist") {
		t.Errorf("without a file: got %q, %v", report, err)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	dir, _ := filled(t)
	path := filepath.Join(dir, stateFile)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(keySchema), seal(bucketMeta, keySchema, 0, []byte("2")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	_, _, err = Open(dir, Options{})
	want := path + " was written by a newer defib (schema 2, this one knows 1): start that version again, or set the file aside and begin anew with `defib state repair`"
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	report, err := Repair(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(report, "Lost: everything in it.") {
		t.Errorf("got report %q", report)
	}
	if _, snap := mustOpen(t, dir, Options{}); len(snap.Units) != 0 {
		t.Errorf("got %d units, want none", len(snap.Units))
	}
}
