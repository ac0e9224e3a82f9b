package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// damage is what is wrong with the file itself, not with the disk.
type damage struct{ error }

// Unwrap returns the cause.
func (d damage) Unwrap() error { return d.error }

// spoilt: the file is damaged.
func spoilt(err error) bool {
	var d damage
	return errors.As(err, &d)
}

// sound: what fn cannot make sense of is damage. What else goes wrong with a
// transaction is the disk, though bbolt loses the disk's own error in places.
func sound(fn func(*bolt.Tx) error) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		if err := fn(tx); err != nil {
			return damage{err}
		}
		return nil
	}
}

// unopened tells a file that is no outbox from one that cannot be read now, or
// that somebody else has open.
func unopened(err error) error {
	var path *fs.PathError
	var errno syscall.Errno
	if errors.Is(err, bolterrors.ErrTimeout) || errors.As(err, &path) || errors.As(err, &errno) {
		return err
	}
	return damage{err}
}

// guarded runs fn. Its panics, those of reading a mapped file that has become
// shorter too, are what bbolt does about a file that is not as it left it.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damage{fmt.Errorf("%v", r)}
		}
	}()
	return fn()
}
