package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is how many ticks of /proc make a second, on every architecture that
// defib is built for (USER_HZ).
const ticks = 100

// sinceSlack is how much a process may seem to be older than it is: the kernel
// counts in ticks, and the clocks are read one after the other.
const sinceSlack = time.Second

// grip is one process that is held, so that its PID cannot be taken for
// another's.
type grip interface {
	alive() bool
	kill() error
	close()
}

// End ends a process that defib itself started in a container with `docker exec`,
// at since or later, and what that process started. It ends nothing else: the
// process is held first, then still must say that it is that one yet, and /proc
// that it is in the container, young enough, and not of the container's own
// program. The error says in a sentence why it was left alone; nil: it has ended.
func (t *Table) End(pid int, in string, since time.Time, still func() bool) error {
	switch {
	case t.blind != "":
		return errors.New(t.blind)
	case pid <= 1 || in == "":
		return errors.New("its process is not known")
	}
	g, err := t.grip(pid)
	if err != nil {
		return left(err)
	}
	defer g.close()
	if !still() {
		return nil
	}
	p, err := t.reader().read(pid, 0)
	switch {
	case gone(err), err == nil && !g.alive():
		return nil
	case err != nil:
		return err
	case p.innermost() != in, p.depth > 1 && p.inner == 1:
		return errors.New("its process is not what defib started")
	case time.Duration(p.start)*time.Second/ticks < t.boottime()-time.Since(since)-sinceSlack: //nolint:gosec // a time since boot
		return errors.New("its process is older than what defib started")
	case t.Own(pid):
		return errors.New("its process is one of the container's own program")
	}
	below, err := t.below(p)
	defer release(below)
	if err != nil {
		return err
	}
	if err := g.kill(); err != nil {
		return left(err)
	}
	for _, child := range below {
		err = errors.Join(err, left(child.kill()))
	}
	return err
}

// left is why a process could not be ended; nil when it has.
func left(err error) error {
	switch {
	case err == nil, gone(err):
		return nil
	case errors.Is(err, unix.EPERM):
		return errors.New("defib may not end it; run it as root with CAP_KILL")
	}
	return fmt.Errorf("it cannot be ended: %w", err)
}

func release(held []grip) {
	for _, g := range held {
		g.close()
	}
}

// below holds what a process started, and what these started, as long as it is in
// the same container.
func (t *Table) below(first process) (held []grip, err error) {
	names, err := list(t.o.Root)
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	r := t.reader()
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, err := r.stat(r.dir(pid)); err == nil {
				children[p.parent] = append(children[p.parent], pid)
			}
		}
	}
	for next := []process{first}; len(next) > 0; next = next[1:] {
		for _, pid := range children[next[0].pid] {
			if p, g := t.holdChild(pid, next[0]); g != nil {
				held, next = append(held, g), append(next, p)
			}
		}
	}
	return held, nil
}

// holdChild returns nothing for what is no child of that parent.
func (t *Table) holdChild(pid int, parent process) (process, grip) {
	g, err := t.grip(pid)
	if err != nil {
		return process{}, nil
	}
	p, err := t.reader().read(pid, 0)
	if err != nil || p.parent != parent.pid || p.start < parent.start || p.innermost() != parent.innermost() || !g.alive() {
		g.close()
		return process{}, nil
	}
	return p, g
}

// boottime is the clock of the starts in /proc.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// pidfd is a grip of the kernel's own, which there is from Linux 5.3 on.
type pidfd struct{ *os.File }

func gripPID(pid int) (grip, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	return pidfd{os.NewFile(uintptr(fd), "pidfd")}, nil
}

func (p pidfd) alive() bool { return !readable(int(p.Fd())) }
func (p pidfd) kill() error { return unix.PidfdSendSignal(int(p.Fd()), unix.SIGKILL, nil, 0) }
func (p pidfd) close()      { _ = p.Close() }
