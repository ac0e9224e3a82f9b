package journal

import (
	"errors"
	"os"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// spare is how much room the state file keeps beyond what it uses, really
	// written, so that a disk that is full does not disarm repairs at once; at
	// spareLow it is made up again. It lies in the file itself, for a reserve
	// that is set free when the disk is full is taken by whatever filled it.
	// Where nothing is ever overwritten in place (btrfs, ZFS) it helps less.
	spare     = 2 << 20
	spareLow  = 1 << 20
	spareWait = 30 * time.Second // from one vain attempt to the next
)

// commit stores puts in one transaction: durable when it returns nil.
func (s *state) commit(puts []put, at time.Time) error {
	need := int64(0)
	for _, p := range puts {
		need += int64(len(p.value))
	}
	var short error
	err := s.db.Update(func(tx *bolt.Tx) error {
		short = s.reserve(tx.Size(), need, at)
		return apply(tx, puts)
	})
	if err != nil {
		return full(errors.Join(err, short))
	}
	return nil
}

// reserve makes up the spare room when it runs low. That it cannot be had is
// no failure: what is left of it, and pages that were freed, are used first.
func (s *state) reserve(used, need int64, at time.Time) error {
	if s.solid >= used+2*need+spareLow || at.Before(s.retry) && s.solid >= used+2*need {
		return nil
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	from, to := max(s.solid, used), used+2*need+spare
	if err := zero(s.file, from, to); err != nil {
		s.retry = at.Add(spareWait)
		return errors.Join(err, s.file.Truncate(max(info.Size(), from)))
	}
	s.solid = to
	return nil
}

// zero writes zeros, for only what was written is sure to have its blocks.
func zero(f *os.File, from, to int64) error {
	zeros := make([]byte, 64<<10)
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// solid is how far the file's blocks are really there: to its end, unless it
// has holes.
func solid(f *os.File, used int64) int64 {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 < st.Size {
		return used
	}
	return st.Size
}
