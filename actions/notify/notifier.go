package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Archive is where committed incidents are kept: the journal.
type Archive interface {
	// Incident returns the newest revision of an incident, and whether there
	// is one.
	Incident(id string) (policy.Incident, bool, error)
	// Incidents returns the open ones and those closed since a time.
	Incidents(since time.Time) ([]policy.Incident, error)
}

// Refresher is a Sink whose service forgets what it is not told again:
// Alertmanager. What fires is sent again that often, and what is over for
// five more minutes.
type Refresher interface{ Refresh() time.Duration }

// Channel is one place to send to, and what it wants.
type Channel struct {
	Name     string
	Type     string // as the configuration calls it: slack, webhook …
	Sink     Sink
	Again    func() (Sink, error) // makes Sink from its secrets as they are now; nil: it stays as it is
	MinLevel policy.Level         // empty: warn
	Limit    Limit
}

// Facts is what routes and silences may ask of a unit.
type Facts struct {
	Project string
	Labels  map[string]string
}

// Options say whom to tell, and how. Archive, Story, Render and Log are
// required.
type Options struct {
	Dir         string // of outbox.db; empty: nothing is kept over a restart
	Channels    []Channel
	Routes      []Route
	Archive     Archive
	Facts       func(unit string) (Facts, bool) // of a unit by its key, at once; nil: routes and silences know only names and rules
	Story       func(policy.Incident) Story     // fills in the host, the unit, its GPUs and the children
	Render      func(Story, Kind) Text
	Settled     func() bool // whether the units have been looked at since the start; nil: they have
	Quiet       Quiet
	RemindAfter time.Duration // 0: 30 min; negative: never
	RemindMax   int           // reminders per incident; 0: 3; negative: none
	Log         *slog.Logger
	Now         func() time.Time // nil: time.Now
}

func (o Options) withDefaults() (Options, error) {
	if o.Archive == nil || o.Story == nil || o.Render == nil || o.Log == nil {
		return o, errors.New("set Archive, Story, Render and Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RemindAfter == 0 {
		o.RemindAfter = 30 * time.Minute
	}
	if o.RemindMax == 0 {
		o.RemindMax = 3
	}
	return o, nil
}

// Notifier tells every channel what it is due. Its methods may be called by
// many goroutines.
type Notifier struct {
	o        Options
	store    *store
	born     map[string]time.Time // since when there are records of a channel
	channels []*channel

	silencing sync.Mutex // held while silences change, before mu

	mu       sync.Mutex // guards what follows, and all of the channels but their sinks
	silences []Silence
	lastID   uint64 // of a silence
	alarm    *alarm // nil: there was none
	settled  bool   // what is known of the units is of now
}

// Open reads what the channels have been told. A damaged outbox is set aside
// and one that cannot be used is done without: both are logged, neither is an
// error. An error is a mistake in o.
func Open(o Options) (*Notifier, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open notifications: %w", err)
	}
	n := &Notifier{o: o, settled: o.Settled == nil}
	if err := n.addChannels(); err != nil {
		return nil, fmt.Errorf("open notifications: %w", err)
	}
	n.store = openStore(o.Dir, o.Log)
	n.load()
	n.Calm() // an alarm of before, unless it is raised again
	return n, nil
}

func (n *Notifier) addChannels() error {
	seen := map[string]bool{}
	for _, c := range n.o.Channels {
		switch {
		case c.Name == "" || c.Sink == nil:
			return errors.New("every channel needs a name and a sink")
		case seen[c.Name]:
			return fmt.Errorf("two channels are named %s: give one another name", c.Name)
		}
		seen[c.Name] = true
		n.channels = append(n.channels, newChannel(n, c))
	}
	for _, r := range n.o.Routes {
		for _, name := range r.Channels {
			if !seen[name] {
				return fmt.Errorf("a route leads to channel %s, which there is not", name)
			}
		}
	}
	return nil
}

// load takes up the records and silences of the store.
func (n *Notifier) load() {
	kept := n.store.load()
	n.silences, n.lastID = kept.silences, kept.lastID
	names := make([]string, 0, len(n.channels))
	for _, c := range n.channels {
		names = append(names, c.Name)
		c.posts.resume(kept.paces[c.Name].Posts, n.o.Now())
		c.edits.resume(kept.paces[c.Name].Edits, n.o.Now())
		for _, r := range kept.records[c.Name] {
			r.notAfter(stampOf(n.o.Now()))
			c.recs[r.Root] = r
			n.alarmedBefore(r)
			if len(r.Members) > 0 && (c.storm == nil || r.Opened > c.storm.Opened) {
				c.storm = r
			}
		}
	}
	n.born = n.store.begin(names, n.o.Now())
}

// Run sends until ctx ends. It is called once, when Facts and Story know the
// units: routes and silences go by what they say.
func (n *Notifier) Run(ctx context.Context) error {
	if err := n.catchUp(); err != nil {
		n.o.Log.Error("open incidents cannot be read: they are told when they change", "err", err)
	}
	var wg sync.WaitGroup
	if n.o.Settled != nil {
		wg.Go(func() { n.settle(ctx) })
	}
	for _, c := range n.channels {
		wg.Go(func() { c.run(ctx) })
	}
	wg.Wait()
	return nil
}

// catchUp plans anew what is open, and what closed while nobody was told.
func (n *Notifier) catchUp() error {
	now := n.o.Now()
	first := now
	for _, born := range n.born {
		if born.Before(first) {
			first = born
		}
	}
	since := later(first, now.Add(-catchUpAtMost))
	incidents, err := n.o.Archive.Incidents(since)
	if err != nil {
		return fmt.Errorf("read incidents: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.channels {
		for i := range incidents {
			if in := &incidents[i]; in.Closed.IsZero() || !in.Closed.Before(later(n.born[c.Name], since)) {
				c.dirty[in.ID] = in.Parent != ""
			}
		}
		c.again()
	}
	if n.alarm != nil { // not every channel may know of it
		n.look(alarmID)
	}
	return nil
}

// Wake says that incidents have new revisions, which are in the archive. It
// never waits.
func (n *Notifier) Wake(changed []policy.Incident) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.channels {
		for i := range changed {
			c.dirty[changed[i].ID] = changed[i].Parent != ""
		}
		c.nudge()
	}
}

// Close lets go of the outbox, after Run has ended.
func (n *Notifier) Close() error {
	n.mu.Lock()
	if n.alarm != nil {
		n.alarm.stands()
	}
	n.mu.Unlock()
	return n.store.close()
}
