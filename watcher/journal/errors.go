package journal

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// LockedError says that another process works in the state directory.
type LockedError struct {
	Dir  string
	PID  int    // 0 when it did not say
	Host string // on which that number is a process: in a container, the container's ID
}

// Error implements error.
func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d on %s", e.PID, e.Host)
	}
	return fmt.Sprintf("state directory %s is in use by %s: stop that one first, or give this one a directory of its own with --state-dir", e.Dir, who)
}

// DamagedError says that the state cannot be trusted. The file is left as it
// is; [Repair] is the way out.
type DamagedError struct {
	Path     string
	Problems []string // what was found, the first of possibly many
	Schema   int      // not 0: nothing is damaged, a newer defib wrote it in this schema
}

// Error implements error.
func (e *DamagedError) Error() string {
	if e.Schema != 0 {
		return fmt.Sprintf("%s was written by a newer defib (schema %d, this one knows %d): start that version again, or set the file aside and begin anew with `defib state repair`", e.Path, e.Schema, schema)
	}
	return fmt.Sprintf("%s is damaged (%s): it is left as it is; `defib state repair` sets it aside, keeps what can be read and says what is lost", e.Path, strings.Join(e.Problems, "; "))
}

// full makes every way of having no room look like a full disk.
func full(err error) error {
	if errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
	}
	return err
}
