package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	outboxFile     = "outbox.db"
	bucketMeta     = "meta"
	bucketSilences = "silences"
	bucketChannels = "channels" // a bucket for each channel, with its records by key
	keyBornOf      = "born of " // and the name of a channel
	keyPaceOf      = "pace of " // and the name of a channel
	keyLastID      = "last_silence"
	catchUpAtMost  = 24 * time.Hour
)

// store keeps records and silences in outbox.db. It never refuses: when the
// file cannot be used it says so and forgets at the end of the process. What
// is lost then is who was told what, so open incidents are told once more.
type store struct {
	log *slog.Logger

	mu   sync.Mutex
	db   *bolt.DB             // nil: nothing is kept
	bad  bool                 // the last write did not work
	owed func(*bolt.Tx) error // stores the silences; nil: they are stored
}

// kept is what a store holds.
type kept struct {
	records  map[string][]*record // by channel
	paces    map[string]pacing    // by channel
	silences []Silence
	lastID   uint64
}

func newKept() kept { return kept{records: map[string][]*record{}, paces: map[string]pacing{}} }

// pacing is how much a channel may send after a restart: some services lock a
// robot out that sends too much.
type pacing struct {
	Posts tokens `json:"posts"`
	Edits tokens `json:"edits"`
}

// openStore opens dir's outbox. A damaged one is set aside, beside the new
// one. An empty dir keeps nothing.
func openStore(dir string, log *slog.Logger) *store {
	s := &store{log: log}
	if dir == "" {
		return s
	}
	path := filepath.Join(dir, outboxFile)
	err := s.open(path)
	if spoilt(err) {
		log.Error("outbox is damaged and set aside: open incidents are told once more", "aside", path+".damaged", "err", err)
		if err = os.Rename(path, path+".damaged"); err == nil {
			err = s.open(path)
		}
	}
	if err != nil {
		log.Error("outbox cannot be used: notifications go on, and after a restart open incidents are told once more", "err", err)
		s.db = nil
	}
	return s
}

func (s *store) open(path string) error {
	err := guarded(func() error {
		db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistArrayType})
		if err != nil {
			return unopened(err)
		}
		s.db = db
		if err := s.check(); err != nil {
			return errors.Join(err, db.Close())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return nil
}

// check writes only where something is missing: a file on a full disk can still
// say what is silenced, and who was told what.
func (s *store) check() error {
	err := s.db.View(sound(found))
	if errors.Is(err, bolterrors.ErrTxNotWritable) {
		return s.db.Update(sound(found))
	}
	return err
}

// found makes what a new file lacks, and reads all of an old one.
func found(tx *bolt.Tx) error {
	for _, name := range []string{bucketMeta, bucketSilences, bucketChannels} {
		if tx.Bucket([]byte(name)) != nil {
			continue
		}
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	k := newKept()
	return readAll(tx, &k)
}

func readAll(tx *bolt.Tx, k *kept) error {
	if err := readMeta(tx.Bucket([]byte(bucketMeta)), k); err != nil {
		return err
	}
	err := tx.Bucket([]byte(bucketSilences)).ForEach(func(_, v []byte) error {
		k.silences = append(k.silences, Silence{})
		return json.Unmarshal(v, &k.silences[len(k.silences)-1])
	})
	if err != nil {
		return fmt.Errorf("read silences: %w", err)
	}
	channels := tx.Bucket([]byte(bucketChannels))
	return channels.ForEachBucket(func(name []byte) error {
		return channels.Bucket(name).ForEach(func(key, v []byte) error {
			r := &record{}
			if err := json.Unmarshal(v, r); err != nil {
				return fmt.Errorf("read record %q: %w", key, err)
			}
			k.records[string(name)] = append(k.records[string(name)], r)
			return nil
		})
	})
}

func readMeta(meta *bolt.Bucket, k *kept) error {
	if last := meta.Get([]byte(keyLastID)); last != nil {
		if err := json.Unmarshal(last, &k.lastID); err != nil {
			return fmt.Errorf("read the number of silences: %w", err)
		}
	}
	return meta.ForEach(func(key, v []byte) error {
		name, ok := strings.CutPrefix(string(key), keyPaceOf)
		if !ok {
			return nil
		}
		var p pacing
		if err := json.Unmarshal(v, &p); err != nil {
			return fmt.Errorf("read how fast %q sent: %w", name, err)
		}
		k.paces[name] = p
		return nil
	})
}

// load returns all that is kept.
func (s *store) load() kept {
	k := newKept()
	s.use("read the outbox", func(db *bolt.DB) error {
		return db.View(sound(func(tx *bolt.Tx) error { return readAll(tx, &k) }))
	})
	return k
}

// row is a record on its way to the store; a nil value removes it.
type row struct {
	key   string
	value []byte
}

func rowOf(r *record) row {
	b, err := json.Marshal(r)
	if err != nil {
		return row{} // it cannot fail: there is nothing in a record that has no JSON
	}
	return row{r.Root, b}
}

// put reports whether the rows need not be put again: they are stored, or
// nothing ever is.
func (s *store) put(channel string, p pacing, rows ...row) bool {
	if len(rows) == 0 {
		return s.pay()
	}
	pace, err := json.Marshal(p)
	if err != nil {
		return true // it cannot fail: these are numbers
	}
	return s.write(func(tx *bolt.Tx) error {
		if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(keyPaceOf+channel), pace); err != nil {
			return err
		}
		b, err := tx.Bucket([]byte(bucketChannels)).CreateBucketIfNotExists([]byte(channel))
		if err != nil {
			return err
		}
		return putRows(b, rows)
	})
}

func putRows(b *bolt.Bucket, rows []row) error {
	for _, r := range rows {
		if r.value == nil {
			if err := b.Delete([]byte(r.key)); err != nil {
				return err
			}
		} else if err := b.Put([]byte(r.key), r.value); err != nil {
			return err
		}
	}
	return nil
}

// putSilences stores the list, now or with what is stored next.
func (s *store) putSilences(list []Silence, last uint64) {
	s.mu.Lock()
	s.owed = func(tx *bolt.Tx) error { return putSilences(tx, list, last) }
	s.mu.Unlock()
	s.pay()
}

func putSilences(tx *bolt.Tx, list []Silence, last uint64) error {
	if err := tx.DeleteBucket([]byte(bucketSilences)); err != nil {
		return err
	}
	b, err := tx.CreateBucket([]byte(bucketSilences))
	if err != nil {
		return err
	}
	rows := make([]row, 0, len(list))
	for _, x := range list {
		v, err := json.Marshal(x)
		if err != nil {
			return err
		}
		rows = append(rows, row{x.ID, v})
	}
	n, err := json.Marshal(last)
	if err != nil {
		return err
	}
	return errors.Join(putRows(b, rows), tx.Bucket([]byte(bucketMeta)).Put([]byte(keyLastID), n))
}

// pay stores silences that are not yet.
func (s *store) pay() bool {
	s.mu.Lock()
	owed := s.owed != nil
	s.mu.Unlock()
	return !owed || s.write(func(*bolt.Tx) error { return nil })
}

// write stores what fn does, and the silences with it when they are not yet.
func (s *store) write(fn func(*bolt.Tx) error) bool {
	return s.use("write to the outbox", func(db *bolt.DB) error {
		err := db.Update(sound(func(tx *bolt.Tx) error {
			if s.owed == nil {
				return fn(tx)
			}
			return errors.Join(s.owed(tx), fn(tx))
		}))
		if err == nil {
			s.owed = nil
		}
		return err
	})
}

// use runs fn on the file, if there is one, and reports whether there is no use
// in doing so again. Damage found now means to go on without it; a full disk
// may pass. Either is logged once.
func (s *store) use(what string, fn func(*bolt.DB) error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return true
	}
	err := guarded(func() error { return fn(s.db) })
	switch {
	case err == nil:
		s.bad = false
	case spoilt(err):
		s.log.Error("outbox is damaged: notifications go on without it", "doing", what, "err", err)
		s.db = nil
	default:
		if !s.bad {
			s.bad = true
			s.log.Error("outbox refuses: after a restart some messages may be sent again, and silences be as they were", "doing", what, "err", err)
		}
		return false
	}
	return true
}

func (s *store) close() error {
	s.pay()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := guarded(s.db.Close)
	s.db = nil
	if err != nil {
		return fmt.Errorf("close the outbox: %w", err)
	}
	return nil
}
