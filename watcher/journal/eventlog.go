package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// KindGap is the kind of the line that the event log holds in place of lines
// that could not be written. Its Reason says how many.
const KindGap policy.Kind = "log_gap"

const (
	bufferSoft = 64 << 10       // bytes that are written out without waiting for the ticker
	bufferHard = 1 << 20        // kept while nothing can be written; what comes beyond is dropped
	segmentAge = 24 * time.Hour // a segment is ended after it, so that age can be told by the day
)

// eventLog writes the segments of the event log. Nothing that goes wrong in
// it is fatal: it drops lines and says how many.
type eventLog struct {
	o   Options
	dir string

	mu       sync.Mutex // guards everything that follows
	segments []segment  // oldest first
	file     *os.File   // of the last one; nil before the first line
	buf      []byte     // whole lines not yet written
	at       time.Time  // of the newest record
	failed   error      // why the last write failed; nil when it did not
	day      int64      // of at, since 1970: what is too old goes once a day
	untold   uint64     // lines dropped, not yet in a gap line
}

type segment struct {
	n     uint64
	path  string
	size  int64
	first time.Time // of its first line, or of the file when that cannot be read; zero before the first line
}

// openEvents takes up the event log. A line that a crash has cut short is cut
// off.
func openEvents(stateDir string, o Options) *eventLog {
	l := &eventLog{o: o, dir: filepath.Join(stateDir, eventsDir)}
	var err error
	if l.segments, err = listSegments(l.dir); err == nil && len(l.segments) > 0 {
		err = l.resume(&l.segments[len(l.segments)-1])
	}
	if err != nil {
		o.Log.Warn("event log goes on in a new file", "err", err)
	}
	if !o.Now.IsZero() {
		l.maintainLocked(o.Now)
	}
	return l
}

// resume opens the newest segment for writing after its last whole line.
func (l *eventLog) resume(last *segment) error {
	f, err := os.OpenFile(last.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	end, err := lastLineEnd(f, last.size)
	if err == nil && end < last.size {
		err = f.Truncate(end)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, last.size = f, end
	return nil
}

// add takes up one line, or the error that kept it from being made.
func (l *eventLog) add(line []byte, err error, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
	if day(at) != l.day {
		l.maintainLocked(at)
	}
	if len(l.buf) >= bufferSoft && l.failed == nil {
		l.flushLocked()
	}
	if err != nil || len(l.buf) > 0 && len(l.buf)+len(line) > bufferHard {
		l.untold++
		return
	}
	l.buf = append(append(l.buf, line...), '\n')
}

func (l *eventLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

// flushLocked writes out what waits, and says what was lost before.
func (l *eventLog) flushLocked() {
	lost := l.untold
	err := l.writeLocked()
	if err == nil && lost > 0 {
		if l.buf, err = l.gapLocked(); err == nil {
			l.untold = 0
			err = l.writeLocked()
		}
	}
	switch {
	case err != nil && l.failed == nil:
		l.o.Log.Warn("event log cannot be written: lines may be lost, repairs go on", "err", err)
	case err == nil && l.failed != nil:
		l.o.Log.Info("event log works again", "lines_lost", lost)
	}
	l.failed = err
}

func (l *eventLog) gapLocked() ([]byte, error) {
	why := fmt.Sprintf("%d lines could not be written here", l.untold)
	if l.failed != nil {
		why += ": " + l.failed.Error()
	}
	e := encoder{mask: l.o.Mask}
	line, err := e.encode(watcher.Record{Event: policy.Event{At: l.at, Kind: KindGap, Reason: why}})
	return append(line, '\n'), err
}

// writeLocked writes the buffer, in as many segments as it takes.
func (l *eventLog) writeLocked() error {
	for len(l.buf) > 0 {
		last, err := l.roomLocked()
		if err != nil {
			return err
		}
		n := wholeLines(l.buf, l.o.SegmentBytes-last.size)
		if _, err := l.file.WriteAt(l.buf[:n], last.size); err != nil {
			return errors.Join(err, l.file.Truncate(last.size))
		}
		if last.size == 0 {
			last.first, _ = timeOf(l.buf)
		}
		last.size += int64(n)
		l.buf = l.buf[:copy(l.buf, l.buf[n:])]
	}
	return nil
}

// wholeLines is how many bytes of the lines in b fit, and at least the first.
func wholeLines(b []byte, room int64) int {
	if int64(len(b)) <= room {
		return len(b)
	}
	if i := bytes.LastIndexByte(b[:max(room, 0)], '\n'); i >= 0 {
		return i + 1
	}
	return bytes.IndexByte(b, '\n') + 1
}

// roomLocked returns the segment that the next line goes to.
func (l *eventLog) roomLocked() (*segment, error) {
	if l.file != nil {
		last := &l.segments[len(l.segments)-1]
		first := int64(bytes.IndexByte(l.buf, '\n') + 1)
		if last.size == 0 || last.size+first <= l.o.SegmentBytes {
			return last, nil
		}
		l.endLocked()
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	next := uint64(1)
	if n := len(l.segments); n > 0 {
		next = l.segments[n-1].n + 1
	}
	path := segmentPath(l.dir, next)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	l.file = f
	l.segments = append(l.segments, segment{n: next, path: path})
	l.removeLocked(l.at)
	return &l.segments[len(l.segments)-1], nil
}

// endLocked ends the newest segment.
func (l *eventLog) endLocked() {
	_ = l.file.Close() // all is written; what a network disk might say here comes too late
	l.file = nil
}

// maintainLocked ends a segment that is a day old and removes what is too old.
func (l *eventLog) maintainLocked(now time.Time) {
	l.day = day(now)
	if l.file != nil {
		if first := l.segments[len(l.segments)-1].first; !first.IsZero() && now.Sub(first) >= segmentAge {
			l.endLocked()
		}
	}
	l.removeLocked(now)
}

// removeLocked removes the oldest segments: those that hold lines older than
// LogAge, and as many as it takes to leave room for a whole new one. The one
// that is being written stays.
func (l *eventLog) removeLocked(now time.Time) {
	total := int64(0)
	for _, s := range l.segments {
		total += s.size
	}
	for len(l.segments) > 0 {
		s := l.segments[0]
		tooOld := !s.first.IsZero() && now.Sub(s.first) > l.o.LogAge
		writing := l.file != nil && len(l.segments) == 1
		if writing || !tooOld && total+l.o.SegmentBytes <= l.o.LogBytes {
			return
		}
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.o.Log.Warn("old events could not be removed", "err", err)
			return
		}
		total -= s.size
		l.segments = l.segments[1:]
	}
}

func (l *eventLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
	if l.file == nil {
		return l.failed
	}
	return errors.Join(l.failed, l.file.Sync(), l.file.Close())
}
