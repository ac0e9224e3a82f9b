package proc

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// glance is how often a process is looked at where the kernel cannot tell of
// its end: before Linux 5.3, or where a seccomp profile forbids pidfd_open.
const glance = 50 * time.Millisecond

// AwaitExit waits until a process has ended, with all its threads, and reports
// true; false: ctx ended before, or the process cannot be seen from here. A
// zombie has ended.
func (t *Table) AwaitExit(ctx context.Context, pid int) bool {
	if t.blind != "" || pid <= 0 {
		<-ctx.Done()
		return false
	}
	start := t.startOf(pid)
	if start == 0 {
		p, err := t.reader().read(pid, 0)
		if err != nil {
			return overOrNever(ctx, err)
		}
		start = t.note(p).start
	}
	if t.over(pid, start) {
		return true
	}
	if t.o.Root == defaultRoot {
		if exited, ok := t.awaitNotice(ctx, pid, start); ok {
			return exited
		}
	}
	return t.awaitGlance(ctx, pid, start)
}

// overOrNever is for a process that cannot be read: it is gone, or not ours to
// see.
func overOrNever(ctx context.Context, err error) bool {
	if gone(err) {
		return true
	}
	<-ctx.Done()
	return false
}

// startOf is the start of a process that is known and has not been found to be
// gone; 0: none is.
func (t *Table) startOf(pid int) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.live[pid]; e != nil {
		return e.start
	}
	return 0
}

// over reports whether the process that began at start has ended.
func (t *Table) over(pid int, start uint64) bool {
	r := t.reader()
	p, err := r.stat(r.dir(pid))
	if err != nil {
		return gone(err)
	}
	return p.start != start || p.dead() && !r.threadLives(pid)
}

// awaitNotice lets the kernel tell. ok is false where it cannot.
func (t *Table) awaitNotice(ctx context.Context, pid int, start uint64) (exited, ok bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errors.Is(err, unix.ESRCH), errors.Is(err, unix.ESRCH)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the poller takes it
		_ = unix.Close(fd)
		return false, false
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if t.over(pid, start) { // the PID may have been given to another one before we held it
		return true, true
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return false, false
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	err = conn.Read(func(fd uintptr) bool { return readable(int(fd)) })
	return err == nil, err == nil || ctx.Err() != nil
}

func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor is small
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

func (t *Table) awaitGlance(ctx context.Context, pid int, start uint64) bool {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for !t.over(pid, start) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
