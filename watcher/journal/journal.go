// Package journal keeps what defib must not forget: the state of every unit,
// durable before anything is done about it, and a log of what happened.
//
// The state directory holds
//
//	lock                    who works in it
//	state.db                bbolt: units, host, incidents
//	state.db.damaged-N      what [Repair] has set aside
//	events/NNNNNNNN.jsonl   the event log, oldest first
//
// Secrets are masked before anything is written. Only the names by which
// units are found again are written as they are.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

// Options are what Open needs beside the directory. Zero values mean the
// defaults in the comments.
type Options struct {
	Mask          *mask.Masker  // the built-in patterns
	Log           *slog.Logger  // silent
	Now           time.Time     // when it is opened; zero: nothing is too old yet
	KeepIncidents time.Duration // after closing; 90 days
	IncidentBytes int64         // of all closed ones, so that a host that flaps for weeks does not fill its disk with reports; 64 MiB
	SegmentBytes  int64         // of one file of the event log; 16 MiB
	LogBytes      int64         // of the whole event log; 256 MiB
	LogAge        time.Duration // of its oldest line; 14 days
	FlushEvery    time.Duration // how long a line may wait in memory; 1 s
}

func (o Options) withDefaults() (Options, error) {
	if o.Mask == nil {
		m, err := mask.New(nil)
		if err != nil {
			return o, err
		}
		o.Mask = m
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.KeepIncidents, 90*24*time.Hour)
	orDefault(&o.IncidentBytes, 64<<20)
	orDefault(&o.SegmentBytes, 16<<20)
	orDefault(&o.LogBytes, 256<<20)
	orDefault(&o.LogAge, 14*24*time.Hour)
	orDefault(&o.FlushEvery, time.Second)
	return o, nil
}

func orDefault[T time.Duration | int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Journal is an open state directory. It implements [watcher.Journal].
type Journal struct {
	o     Options
	lock  *os.File
	state *state
	log   *eventLog

	mu     sync.Mutex // guards what follows, and that there is one writer
	enc    encoder
	day    int64 // of the newest record, since 1970: once a day what is too old goes
	closed bool

	stop chan struct{}
	done sync.WaitGroup
}

var _ watcher.Journal = (*Journal)(nil)

// Open takes the state directory for this process, makes it when it is not
// there, and returns what a Machine takes up again. It fails with a
// *LockedError when another process has it and a *DamagedError when the state
// cannot be trusted.
func Open(dir string, o Options) (*Journal, policy.Snapshot, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, policy.Snapshot{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, policy.Snapshot{}, fmt.Errorf("make state directory: %w", err)
	}
	held, err := lock(dir)
	if err != nil {
		return nil, policy.Snapshot{}, err
	}
	j := &Journal{o: o, lock: held, enc: encoder{mask: o.Mask}, day: day(o.Now), stop: make(chan struct{})}
	snap, err := j.open(dir)
	if err != nil {
		return nil, policy.Snapshot{}, errors.Join(err, held.Close())
	}
	j.done.Go(j.flushAlways)
	return j, snap, nil
}

func (j *Journal) open(dir string) (snap policy.Snapshot, err error) {
	if _, err := os.Lstat(filepath.Join(dir, stateFile)); errors.Is(err, os.ErrNotExist) {
		if err := createState(dir, nil); err != nil {
			return snap, fmt.Errorf("make state file in %s: %w", dir, full(err))
		}
	}
	if j.state, err = openState(dir); err != nil {
		return snap, err
	}
	if err := j.prune(); err != nil {
		return snap, errors.Join(err, j.state.db.Close())
	}
	if snap, err = j.state.load(); err != nil {
		return snap, errors.Join(err, j.state.db.Close())
	}
	j.log = openEvents(dir, j.o)
	return snap, nil
}

// prune forgets at open what is too old. Having no room for that is no reason
// not to start.
func (j *Journal) prune() error {
	if j.o.Now.IsZero() {
		return nil
	}
	old, err := j.state.expired(j.o.Now, j.o.KeepIncidents, j.o.IncidentBytes)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		if err := j.state.commit(old, j.o.Now); err != nil {
			j.o.Log.Warn("old incidents could not be removed", "err", err)
		}
	}
	return nil
}

// Append stores what the last record of the batch says has changed, durable
// when it returns nil, and hands every record to the event log. Which records
// are worth a line there is for the caller to choose. When it fails, none of
// the batch was taken, so that it can be given again; the error is
// syscall.ENOSPC to errors.Is when there is no room. That the event log cannot
// be written is no failure: lines of it are lost, and one of kind [KindGap] says
// how many once it can be again.
func (j *Journal) Append(batch []watcher.Record) error {
	if len(batch) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errors.New("write state: the journal is closed")
	}
	last := batch[len(batch)-1]
	if err := j.store(last.Changes, last.Event.At); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	for _, r := range batch {
		line, err := j.enc.encode(r)
		j.log.add(line, err, r.Event.At)
	}
	return nil
}

func (j *Journal) store(c policy.Changes, at time.Time) error {
	if c.Empty() {
		return nil
	}
	puts, err := j.puts(c)
	if err != nil {
		return err
	}
	today := day(at)
	if today != j.day { // together with the rest: it costs no commit of its own
		old, err := j.state.expired(at, j.o.KeepIncidents, j.o.IncidentBytes)
		if err != nil {
			return err
		}
		puts = append(puts, old...)
	}
	if err := j.state.commit(puts, at); err != nil {
		return err
	}
	j.day = today
	return nil
}

// puts encodes changes, ready to be stored.
func (j *Journal) puts(c policy.Changes) ([]put, error) {
	var out []put
	var errs []error
	add := func(bucket, key string, stamp int64, v any) {
		body, err := j.enc.encode(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", bucket, key, err))
			return
		}
		out = append(out, put{bucket, key, seal(bucket, key, stamp, body)})
	}
	if c.Host != nil {
		add(bucketHost, keyHost, 0, c.Host)
	}
	for _, key := range c.Forgotten {
		out = append(out, put{bucket: bucketUnits, key: safeKey(key)})
	}
	for i := range c.Units {
		add(bucketUnits, safeKey(c.Units[i].Key), 0, &c.Units[i])
	}
	for i := range c.Incidents {
		in := &c.Incidents[i]
		add(bucketIncidents, incidentKey(j.o.Mask, in), stampOf(in.Closed), in)
	}
	return out, errors.Join(errs...)
}

func day(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// Flush writes out what waits to be, so that readers of the event log see all
// that Append has taken.
func (j *Journal) Flush() { j.log.flush() }

// flushAlways does it every FlushEvery, until Close.
func (j *Journal) flushAlways() {
	ticker := time.NewTicker(j.o.FlushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-ticker.C:
			j.log.flush()
		}
	}
}

// Incidents returns the open incidents and those closed since a time, oldest
// first.
func (j *Journal) Incidents(since time.Time) ([]policy.Incident, error) {
	var out []policy.Incident
	from := since.UnixNano()
	if since.IsZero() {
		from = 0
	}
	err := j.state.incidents(func(closed int64) bool { return closed == 0 || closed >= from }, &out)
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	slices.SortStableFunc(out, func(a, b policy.Incident) int { return a.Opened.Compare(b.Opened) })
	return out, nil
}

// Incident returns the newest incident of an ID, and whether there is one.
func (j *Journal) Incident(id string) (in policy.Incident, ok bool, err error) {
	var found []policy.Incident
	err = j.state.under(bucketIncidents, incidentPrefix(j.o.Mask, id), func(body []byte) error { return add(&found, body) })
	if err != nil {
		return policy.Incident{}, false, fmt.Errorf("read incident %s: %w", id, err)
	}
	for _, f := range found {
		if !ok || f.Opened.After(in.Opened) {
			in, ok = f, true
		}
	}
	return in, ok, nil
}

// Close writes the event log out and lets go of the directory. It may be
// called again.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	close(j.stop)
	j.done.Wait()
	err := errors.Join(j.log.close(), j.state.db.Close(), j.lock.Close())
	if err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
