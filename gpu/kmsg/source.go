package kmsg

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// source is an open log.
type source interface {
	read(p []byte) (int, error)     // errIdle: there is nothing at present
	wait(ctx context.Context) error // until there may be more, or ctx ends
	live() bool                     // what comes after errIdle was logged after it
	close()
}

var errIdle = errors.New("nothing to read")

// glance is how often a plain file is looked at: it cannot be waited for.
const glance = 5 * time.Millisecond

// file is a device, a pipe or a plain file.
type file struct {
	*os.File
	pollable bool
	device   bool
}

func openPath(path string) (source, error) {
	if path == "" {
		return nil, errOff
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	mode := os.O_RDONLY
	if info.Mode()&os.ModeNamedPipe != 0 {
		mode = os.O_RDWR // a pipe that we hold open ourselves never ends
	}
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &file{File: f, pollable: f.SetReadDeadline(time.Time{}) == nil, device: info.Mode()&os.ModeCharDevice != 0}, nil
}

// live implements source. Into a pipe or file somebody else may copy old lines.
func (f *file) live() bool { return f.device }

func (f *file) close() { _ = f.Close() }

// read never blocks. It goes around os.File, which would not say when there is
// nothing.
func (f *file) read(p []byte) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var failed error
	err = conn.Control(func(fd uintptr) { n, failed = unix.Read(int(fd), p) })
	switch {
	case err != nil:
		return 0, err
	case errors.Is(failed, unix.EAGAIN):
		return 0, errIdle
	case failed != nil:
		return 0, &os.PathError{Op: "read", Path: f.Name(), Err: failed}
	case n == 0 && f.pollable:
		return 0, io.ErrUnexpectedEOF
	case n == 0:
		return 0, errIdle
	}
	return n, nil
}

func (f *file) wait(ctx context.Context) error {
	if !f.pollable {
		pause(ctx, glance)
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	_ = f.SetReadDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	err = conn.Read(func(fd uintptr) bool { return readable(int(fd)) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor is small
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}
