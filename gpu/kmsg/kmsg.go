// Package kmsg reads GPU faults from the kernel log, which names the process
// that NVML does not. Read [Log.Watch] first.
package kmsg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

const (
	retry    = 5 * time.Minute // a log that cannot be opened is tried again
	reopen   = time.Second     // one that broke off is opened again
	pastMax  = 256             // faults from before our start that are kept
	readSize = 32 << 10        // of one read; a record has 8 KiB at most (CONSOLE_EXT_LOG_MAX)
	lineMax  = 64 << 10        // of a line that does not end; what is longer is no record
	skipsMax = 1000            // reads without a record; a log that gives no more is broken
)

// Options are what a Log is made of. Log must be set.
type Options struct {
	Path     string                    // /dev/kmsg, or a pipe or file with the same lines; empty: it is switched off
	Process  func(pid int) gpu.Process // who it is, as known now; nil: nobody knows
	Now      func() time.Time          // nil: time.Now
	Boottime func() time.Duration      // since boot, on the clock of the records; nil: CLOCK_MONOTONIC
	Log      *slog.Logger              // what was left out of a storm
}

// Log is the kernel's log as a source of faults.
type Log struct {
	o     Options
	said  *string // what was last said of being able to read
	sieve sieve
	open  func() (source, error)
	pause func(time.Duration) <-chan time.Time

	start   time.Duration // since boot, when defib started
	drained bool          // what comes now was logged after idle
	idle    time.Time     // when there was nothing to be read, the last time
	seen    bool
	seq     uint64 // of the newest record, when seen
	uuids   map[string]string
	named   string         // the GPU in the first of the three lines of a bus loss …
	namedAt time.Duration  // … and when it was logged
	past    []policy.Event // historic faults, until drained
	rest    []byte         // a line that has not ended
}

// New returns a Log. What was logged before is history to it.
func New(o Options) *Log {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Boottime == nil {
		o.Boottime = boottime
	}
	return &Log{
		o: o, start: o.Boottime(), open: func() (source, error) { return openPath(o.Path) }, pause: time.After,
		sieve: newSieve(), uuids: map[string]string{},
	}
}

// boottime is the clock of printk, nearly: that one is not slewed by NTP and
// drifts away from it over weeks.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Watch implements watcher.Source. It sends a fault as soon as its line is
// there, those from before [New] marked historic, and a kernel_log
// event whenever it has become able or unable to read. It returns only when
// ctx ends, and is to be called by one goroutine at a time; called again, it
// goes on where it ended.
func (l *Log) Watch(ctx context.Context, out chan<- policy.Event) error {
	for ctx.Err() == nil {
		wait := retry
		progress, err := l.follow(ctx, out)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case progress:
			l.o.Log.Warn("the kernel log broke off, opening it again", "err", err)
			wait = reopen
		default:
			l.tell(ctx, out, explain(l.o.Path, err))
		}
		select {
		case <-ctx.Done():
		case <-l.pause(wait):
		}
	}
	return ctx.Err()
}

var errOff = errors.New("no path is set")

// explain says what is lost and how to get it.
func explain(path string, err error) string {
	const lost = "so GPU faults come without the process that caused them, and what was logged before defib started is not known"
	switch {
	case errors.Is(err, errOff):
		return "The kernel log is switched off, " + lost + ": set gpu.kernel_log to /dev/kmsg."
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s is not there, %s: start defib's container with `--device /dev/kmsg --cap-add SYSLOG`.", path, lost)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s may not be read, %s: run defib as root with CAP_SYSLOG, in Docker with `--device /dev/kmsg --cap-add SYSLOG`.", path, lost)
	default:
		return fmt.Sprintf("%s cannot be read (%v), %s: defib tries again every %d min.", path, err, lost, int(retry.Minutes()))
	}
}

// tell says whether the log can be read, when that has changed.
func (l *Log) tell(ctx context.Context, out chan<- policy.Event, reason string) {
	if l.said != nil && *l.said == reason {
		return
	}
	if send(ctx, out, policy.Event{Kind: policy.KindKernelLog, Reason: reason}) {
		l.said = &reason
	}
}

// send reports whether the event was taken before ctx ended.
func send(ctx context.Context, out chan<- policy.Event, ev policy.Event) bool {
	select {
	case out <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// follow reads the log until it breaks or ctx ends, and reports whether there
// was anything new in it.
func (l *Log) follow(ctx context.Context, out chan<- policy.Event) (progress bool, err error) {
	s, err := l.open()
	if err != nil {
		return false, err
	}
	defer s.close()
	defer l.sieve.say(l.o.Log)
	before, had := l.seq, l.seen
	l.rest = nil
	err = l.read(ctx, out, s)
	return l.seen && (!had || l.seq != before), err
}

func (l *Log) read(ctx context.Context, out chan<- policy.Event, s source) error {
	buf, skips := make([]byte, readSize), 0
	for ctx.Err() == nil {
		n, err := s.read(buf)
		switch {
		case errors.Is(err, errIdle):
			l.tell(ctx, out, "")
			if err := l.rested(ctx, out, s); err != nil {
				return err
			}
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINVAL):
			// Records were overwritten before we came, or one is longer than
			// the kernel says it can be: the next read goes on behind them.
			l.rest = nil
			if skips++; skips > skipsMax {
				return err
			}
			l.o.Log.Debug("records of the kernel log are lost", "err", err)
		case err != nil:
			return err
		default:
			skips = 0
			l.tell(ctx, out, "")
			l.feed(ctx, out, buf[:n])
		}
	}
	return ctx.Err()
}

// rested takes note that all has been read, and waits for more.
func (l *Log) rested(ctx context.Context, out chan<- policy.Event, s source) error {
	l.flush(ctx, out)
	l.drained, l.idle = s.live(), l.o.Now()
	l.sieve.report(l.o.Log, l.idle)
	if l.sieve.left == 0 {
		return s.wait(ctx)
	}
	soon, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	return s.wait(soon)
}

// flush sends what was logged before our start.
func (l *Log) flush(ctx context.Context, out chan<- policy.Event) {
	for _, ev := range l.past {
		send(ctx, out, ev)
	}
	l.past = nil
}

// feed cuts what was read into lines. /dev/kmsg gives one record at a time, a
// pipe as much as there is.
func (l *Log) feed(ctx context.Context, out chan<- policy.Event, p []byte) {
	for len(p) > 0 {
		line, after, ended := bytes.Cut(p, []byte("\n"))
		p = after
		if len(l.rest) > 0 || !ended {
			l.rest = append(l.rest, line[:min(len(line), max(lineMax-len(l.rest), 0))]...)
			line = l.rest
		}
		if !ended {
			return
		}
		if r, ok := parseRecord(line); ok {
			l.take(ctx, out, r)
		}
		l.rest = l.rest[:0]
	}
}
