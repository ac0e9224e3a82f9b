package journal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	schema = 1 // of what is in the state file; a change of meaning raises it

	stateFile = "state.db"

	bucketMeta      = "meta"
	bucketHost      = "host"
	bucketUnits     = "units"
	bucketIncidents = "incidents"
	keySchema       = "schema"
	keyTally        = "tally"
	keyHost         = "host"
)

// state is the bbolt file. Only one goroutine writes it at a time.
type state struct {
	db    *bolt.DB
	file  *os.File  // the same file, as bbolt opened it
	solid int64     // up to here the disk has given us its blocks
	retry time.Time // not before it is more room asked for
}

// put is one value to store, sealed; a nil value deletes the key.
type put struct {
	bucket, key string
	value       []byte
}

func buckets() []string { return []string{bucketMeta, bucketHost, bucketUnits, bucketIncidents} }

func options(s *state) *bolt.Options {
	return &bolt.Options{
		Timeout:         time.Second,
		FreelistType:    bolt.FreelistArrayType, // takes the lowest free page: the file stays compact, its blocks warm
		InitialMmapSize: 64 << 20,               // address space only; growing it would stop readers
		NoStatistics:    true,
		OpenFile: func(path string, flag int, mode os.FileMode) (f *os.File, err error) {
			s.file, err = os.OpenFile(path, flag, mode)
			return s.file, err
		},
	}
}

// createState makes a state file with puts in it, whole or not at all.
func createState(dir string, puts []put) error {
	path := filepath.Join(dir, stateFile)
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s := &state{}
	db, err := bolt.Open(fresh, 0o600, options(s))
	if err != nil {
		return err
	}
	db.AllocSize = 64 << 10
	err = db.Update(func(tx *bolt.Tx) error { return fill(tx, puts) })
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(dir)
}

func fill(tx *bolt.Tx, puts []put) error {
	for _, name := range buckets() {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	version := seal(bucketMeta, keySchema, 0, []byte(strconv.Itoa(schema)))
	if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(keySchema), version); err != nil {
		return err
	}
	return apply(tx, puts)
}

// apply carries out puts within a transaction and keeps the tally right.
func apply(tx *bolt.Tx, puts []put) error {
	meta := tx.Bucket([]byte(bucketMeta))
	sum := parseTally(meta.Get([]byte(keyTally)))
	for _, p := range puts {
		b, key := tx.Bucket([]byte(p.bucket)), []byte(p.key)
		sum.remove(b.Get(key))
		sum.add(p.value)
		var err error
		if p.value == nil {
			err = b.Delete(key)
		} else {
			err = b.Put(key, p.value)
		}
		if err != nil {
			return fmt.Errorf("store %s %s: %w", p.bucket, p.key, err)
		}
	}
	return meta.Put([]byte(keyTally), sum.seal())
}

// openState checks the state file from end to end and opens it.
func openState(dir string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	if err := verify(path); err != nil {
		return nil, err
	}
	s := &state{}
	db, err := bolt.Open(path, 0o600, options(s))
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: another program has it open: end that one first", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.db = db
	db.AllocSize = 64 << 10
	if err := s.check(path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// verify checks structure, checksums and schema without bbolt, so that bbolt
// can be let loose on the file.
func verify(path string) error {
	var seen contents
	problems, err := inspect(path, seen.take)
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(seen.version) // no number: no schema of ours, which is 0
	if len(problems) == 0 && n > schema {
		return &DamagedError{Path: path, Schema: n}
	}
	problems = append(problems, seen.broken...)
	if n != schema {
		problems = append(problems, "no schema version")
	}
	if seen.tally != seen.said {
		problems = append(problems, fmt.Sprintf("%d records are there and %d should be, or others", seen.tally.n, seen.said.n))
	}
	if len(problems) > 0 {
		return &DamagedError{Path: path, Problems: problems[:min(len(problems), 3)]}
	}
	return nil
}

// contents is what a walk through a state file came across.
type contents struct {
	version     string
	tally, said tally // of the values that were there, and of those that should be
	broken      []string
}

func (c *contents) take(bucket, key string, value []byte) {
	_, body, err := unseal(bucket, key, value)
	switch {
	case err != nil:
		c.broken = append(c.broken, fmt.Sprintf("%q in %s %v", key, bucket, err))
	case bucket != bucketMeta:
		c.tally.add(value)
	case key == keySchema:
		c.version = string(body)
	case key == keyTally:
		c.said = parseTally(value)
	}
}

// check has bbolt look for what only it knows: pages both free and in use,
// keys out of order.
func (s *state) check(path string) error {
	return s.db.View(func(tx *bolt.Tx) error {
		var problems []string
		for err := range tx.Check() {
			problems = append(problems, err.Error())
		}
		for _, name := range buckets() {
			if tx.Bucket([]byte(name)) == nil {
				problems = append(problems, name+" is missing")
			}
		}
		if len(problems) > 0 {
			return &DamagedError{Path: path, Problems: problems[:min(len(problems), 3)]}
		}
		s.solid = solid(s.file, tx.Size())
		return nil
	})
}

// load reads what a Machine takes up again.
func (s *state) load() (policy.Snapshot, error) {
	var snap policy.Snapshot
	err := errors.Join(
		s.each(bucketHost, func(_ string, _ int64, body []byte) error { return json.Unmarshal(body, &snap.Host) }),
		s.each(bucketUnits, func(_ string, _ int64, body []byte) error { return add(&snap.Units, body) }),
		s.incidents(func(closed int64) bool { return closed == 0 }, &snap.Incidents),
	)
	if err != nil {
		return policy.Snapshot{}, &DamagedError{Path: s.db.Path(), Problems: []string{err.Error()}}
	}
	slices.SortFunc(snap.Units, func(a, b policy.Unit) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(snap.Incidents, func(a, b policy.Incident) int { return strings.Compare(a.ID, b.ID) })
	return snap, nil
}

func add[T any](list *[]T, body []byte) error {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}

// incidents adds to out the incidents whose closing time, in Unix nanoseconds
// and 0 when open, is wanted.
func (s *state) incidents(want func(closed int64) bool, out *[]policy.Incident) error {
	return s.each(bucketIncidents, func(_ string, closed int64, body []byte) error {
		if !want(closed) {
			return nil
		}
		return add(out, body)
	})
}

// each hands every value of a bucket to fn, by key.
func (s *state) each(bucket string, fn func(key string, stamp int64, body []byte) error) error {
	return s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			stamp, body, err := unseal(bucket, string(k), v)
			if err == nil {
				err = fn(string(k), stamp, body)
			}
			if err != nil {
				return fmt.Errorf("%q in %s: %w", k, bucket, err)
			}
			return nil
		})
	})
}

// expired returns the deletion of closed incidents that are older than keep,
// and of the oldest when all of them take more than room bytes.
func (s *state) expired(now time.Time, keep time.Duration, room int64) ([]put, error) {
	type past struct {
		key    string
		closed int64
		size   int64
	}
	var history []past
	total := int64(0)
	err := s.each(bucketIncidents, func(key string, closed int64, body []byte) error {
		if closed != 0 {
			history = append(history, past{key, closed, int64(len(body))})
			total += int64(len(body))
		}
		return nil
	})
	slices.SortFunc(history, func(a, b past) int { return cmp.Compare(a.closed, b.closed) })
	var out []put
	oldest := now.Add(-keep).UnixNano()
	for _, p := range history {
		if p.closed >= oldest && total <= room {
			break
		}
		out = append(out, put{bucket: bucketIncidents, key: p.key})
		total -= p.size
	}
	return out, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// under hands every value whose key starts with prefix to fn.
func (s *state) under(bucket, prefix string, fn func(body []byte) error) error {
	return s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucket)).Cursor()
		for k, v := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			_, body, err := unseal(bucket, string(k), v)
			if err == nil {
				err = fn(body)
			}
			if err != nil {
				return fmt.Errorf("%q in %s: %w", k, bucket, err)
			}
		}
		return nil
	})
}
