package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Repair sets a damaged state file aside, makes a new one with everything in
// it that can be read and trusted, and returns what it did and what is lost,
// for people. It does nothing to a file that is sound. The daemon must not be
// running: Repair fails with a *LockedError when it is.
func Repair(dir string) (report string, err error) {
	held, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer held.Close()
	path := filepath.Join(dir, stateFile)
	s, err := openState(dir)
	var damage *DamagedError
	switch {
	case err == nil:
		return path + " is sound. Nothing was changed.\n", s.db.Close()
	case errors.Is(err, os.ErrNotExist):
		return path + " does not exist. Nothing was changed: `defib run` makes a new one.\n", nil
	case !errors.As(err, &damage):
		return "", err
	}
	found, err := rescue(path, damage.Schema != 0)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	aside, err := setAside(path)
	if err != nil {
		return "", fmt.Errorf("set %s aside: %w", path, err)
	}
	if err := createState(dir, found.puts); err != nil {
		return "", fmt.Errorf("make a new state file: %w", full(err))
	}
	return found.report(path, aside, damage), nil
}

// rescued is what could be read of a damaged state file.
type rescued struct {
	puts   []put
	seen   map[[2]string]bool // bucket and key
	lost   []string
	broken int   // values, of those in lost
	said   tally // of what should have been there
}

// rescue reads what it can. Of a file in a newer schema it takes nothing, for
// who knows what that means.
func rescue(path string, newer bool) (rescued, error) {
	r := rescued{seen: map[[2]string]bool{}}
	if newer {
		r.lost = append(r.lost, "everything in it")
		return r, nil
	}
	problems, err := inspect(path, r.take)
	for _, p := range problems {
		if !strings.HasPrefix(p, "the list of free pages") { // which holds nothing of ours
			r.lost = append(r.lost, p)
		}
	}
	if n := r.said.n - len(r.puts) - r.broken; n > 0 {
		r.lost = append(r.lost, fmt.Sprintf("%d records more, which cannot be named", n))
	}
	return r, err
}

func (r *rescued) take(bucket, key string, value []byte) {
	if bucket == bucketMeta && key == keyTally {
		r.said = parseTally(value)
	}
	if bucket == bucketMeta || !slices.Contains(buckets(), bucket) {
		return
	}
	_, body, err := unseal(bucket, key, value)
	if err != nil || !json.Valid(body) {
		r.broken++
		r.lost = append(r.lost, fmt.Sprintf("%q in %s: it does not match its checksum", key, bucket))
		return
	}
	if id := [2]string{bucket, key}; !r.seen[id] {
		r.seen[id] = true
		r.puts = append(r.puts, put{bucket, key, slices.Clone(value)})
	}
}

func (r *rescued) count(bucket string) int {
	n := 0
	for _, p := range r.puts {
		if p.bucket == bucket {
			n++
		}
	}
	return n
}

func (r *rescued) report(path, aside string, damage *DamagedError) string {
	var b strings.Builder
	if damage.Schema != 0 {
		fmt.Fprintf(&b, "%s was written by a newer defib, in schema %d.\n", path, damage.Schema)
	} else {
		fmt.Fprintf(&b, "%s was damaged: %s.\n", path, strings.Join(damage.Problems, "; "))
	}
	fmt.Fprintf(&b, "It is now %s, unchanged.\n", aside)
	host := "the state of the host"
	if r.count(bucketHost) == 0 {
		host = "nothing of the state of the host"
	}
	fmt.Fprintf(&b, "Kept: %s, %d containers, %d incidents.\n", host, r.count(bucketUnits), r.count(bucketIncidents))
	for _, l := range r.lost {
		fmt.Fprintf(&b, "Lost: %s.\n", l)
	}
	if len(r.lost) > 0 {
		b.WriteString("A container whose state is lost is taken for one that is seen for the first time: its retries and delays start anew, " +
			"and it is not started if it is down. Holds set with `defib hold` are part of the state of the host: set them again if that is lost. " +
			"The event log is not touched.\n")
	}
	return b.String()
}

// setAside gives the file a second name under which it stays. At no moment is
// there no state file: a daemon that starts then would begin anew unasked.
func setAside(path string) (string, error) {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.damaged-%d", path, n)
		err := os.Link(path, aside)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		return aside, err
	}
}
