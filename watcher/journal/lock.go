package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes the state directory for this process until the file is closed.
// The kernel lets go of it when the process dies, however that happens.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(holder(dir, f), f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock state directory %s: %w", dir, err), f.Close())
	}
	sign(f)
	return f, nil
}

// holder reads who signed the lock.
func holder(dir string, f *os.File) error {
	e := &LockedError{Dir: dir}
	if _, err := fmt.Fscanf(f, "%d %s", &e.PID, &e.Host); err != nil {
		e.PID, e.Host = 0, "" // it has only just taken it, or the disk is full
	}
	return e
}

// sign writes who holds the lock. A full disk must not keep the daemon from
// starting, so that this fails does not matter.
func sign(f *os.File) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d %s\n", os.Getpid(), host)
	}
}
