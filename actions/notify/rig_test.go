package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// archive is a journal in memory.
type archive struct {
	mu  sync.Mutex
	all map[string]policy.Incident
	err error
}

func (a *archive) Incident(id string) (policy.Incident, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in, ok := a.all[id]
	return in, ok, a.err
}

func (a *archive) Incidents(since time.Time) ([]policy.Incident, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []policy.Incident
	for _, in := range a.all {
		if in.Closed.IsZero() || !in.Closed.Before(since) {
			out = append(out, in)
		}
	}
	return out, a.err
}

// fakeSink writes down what it is sent, as "at kind incident level".
type fakeSink struct {
	class Class
	start time.Time

	mu    sync.Mutex
	got   []string
	msgs  []Message
	fail  func(Message) error // nil: takes everything
	calls int
}

func (s *fakeSink) Class() Class { return s.class }

func (s *fakeSink) Send(ctx context.Context, m Message) (Receipt, error) {
	s.mu.Lock()
	fail := s.fail
	s.calls++
	s.mu.Unlock()
	if fail != nil {
		if err := fail(m); err != nil {
			if errors.Is(err, errHang) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.msgs = append(s.msgs, m)
	s.got = append(s.got, s.line(m))
	if m.Kind == KindPost || m.Kind == KindAlarm {
		return Receipt{"ts": fmt.Sprint(len(s.msgs))}, nil
	}
	return nil, nil
}

var errHang = errors.New("hang")

func (s *fakeSink) line(m Message) string {
	words := []string{time.Since(s.start).Round(time.Second).String(), string(m.Kind)}
	if in := m.Story.Incident; in.ID != "" {
		words = append(words, in.ID, string(in.Level))
		if !in.Closed.IsZero() {
			words = append(words, "over")
		}
	}
	if m.Ref != nil {
		words = append(words, "re:"+m.Ref["ts"])
	}
	if m.Text.Urgent {
		words = append(words, "!")
	}
	if m.Kind == KindStep {
		for _, st := range m.Story.Incident.Steps {
			words = append(words, st.Text)
		}
	}
	return strings.Join(words, " ")
}

func (s *fakeSink) failing(f func(Message) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// take returns what was sent since the last call.
func (s *fakeSink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// refreshing is an Alertmanager.
type refreshing struct{ *fakeSink }

func (refreshing) Refresh() time.Duration { return time.Minute }

// paced is DingTalk.
type paced struct{ *fakeSink }

func (paced) Limit() Limit { return (*dingTalk)(nil).Limit() }

// desk is a Notifier with all that it needs, in a bubble with a fake clock.
type desk struct {
	t     *testing.T
	o     Options
	arch  *archive
	n     *Notifier
	end   context.CancelFunc
	done  chan error
	start time.Time
	log   strings.Builder
}

func newDesk(t *testing.T, channels ...Channel) *desk {
	d := &desk{t: t, arch: &archive{all: map[string]policy.Incident{}}, start: time.Now()}
	d.o = Options{
		Channels: channels, Archive: d.arch, RemindAfter: -1,
		Story:  func(in policy.Incident) Story { return Story{Host: "gpu-03", Incident: in} },
		Render: func(s Story, _ Kind) Text { return Text{Title: s.Incident.Cause} },
		Log:    slog.New(slog.NewTextHandler(&d.log, nil)),
	}
	for _, c := range channels {
		sinkOf(c).start = d.start
	}
	return d
}

func sinkOf(c Channel) *fakeSink {
	switch s := c.Sink.(type) {
	case refreshing:
		return s.fakeSink
	case paced:
		return s.fakeSink
	}
	return c.Sink.(*fakeSink)
}

func to(name string, class Class, level policy.Level) Channel {
	return Channel{Name: name, Type: string(class), Sink: &fakeSink{class: class}, MinLevel: level}
}

func (d *desk) open() *desk {
	d.t.Helper()
	n, err := Open(d.o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.n = n
	ctx, end := context.WithCancel(d.t.Context())
	d.end, d.done = end, make(chan error, 1)
	go func() { d.done <- n.Run(ctx) }()
	synctest.Wait()
	return d
}

// kill ends the notifier without a chance to write anything.
func (d *desk) kill() {
	d.t.Helper()
	d.end()
	if err := <-d.done; err != nil {
		d.t.Error(err)
	}
	if err := d.n.Close(); err != nil {
		d.t.Error(err)
	}
}

// commit stores revisions and wakes the notifier.
func (d *desk) commit(ins ...policy.Incident) {
	d.arch.mu.Lock()
	for _, in := range ins {
		d.arch.all[in.ID] = in
	}
	d.arch.mu.Unlock()
	d.n.Wake(ins)
	synctest.Wait()
}

func (d *desk) wait(t time.Duration) {
	time.Sleep(t) // in the bubble
	synctest.Wait()
}

// sent checks what a channel was sent since the last check.
func (d *desk) sent(c Channel, want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, sinkOf(c).take()); diff != "" {
		d.t.Errorf("channel %s (-want +got):\n%s", c.Name, diff)
	}
}

func (d *desk) sentKinds(c Channel) []Kind {
	s := sinkOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Kind, 0, len(s.msgs))
	for _, m := range s.msgs {
		out = append(out, m.Kind)
	}
	return out
}

// trouble is an open incident as it begins now.
func trouble(id string, level policy.Level) policy.Incident {
	now := time.Now()
	return policy.Incident{
		ID: id, Rev: 1, Unit: "llm/" + id + "/1", Name: "c-" + id, Opened: now, Level: level, Rule: "exited", Cause: "it exited with 1",
		Steps: []policy.Step{{At: now, Rule: "exited", Text: "exited"}}, NeedsYou: level == policy.LevelPage,
	}
}

// grow returns the next revision, with a step.
// follows is an incident of a unit that fails again soon after x was over.
func follows(x policy.Incident, id string, level policy.Level) policy.Incident {
	y := trouble(id, level)
	y.Root, y.Times = x.ID, 2
	return y
}

func grow(in policy.Incident, text string) policy.Incident {
	in.Rev++
	in.Steps = append(slices.Clip(in.Steps), policy.Step{At: time.Now(), Rule: "restart", Text: text})
	return in
}

func page(in policy.Incident) policy.Incident {
	in = grow(in, "gave up")
	in.Level, in.NeedsYou, in.Paged = policy.LevelPage, true, time.Now()
	return in
}

func over(in policy.Incident) policy.Incident {
	in = grow(in, "recovered")
	in.Closed, in.End, in.NeedsYou = time.Now(), "recovered", false
	return in
}

func in(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
