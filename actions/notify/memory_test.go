package notify

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// endless has every incident, and keeps none.
type endless struct{ at time.Time }

func (e endless) Incident(id string) (policy.Incident, bool, error) {
	in := policy.Incident{ID: id, Rev: 1, Unit: "llm/" + id + "/1", Name: "c-" + id, Opened: e.at, Level: policy.LevelPage, Rule: "exited", Cause: "it exited with 1", NeedsYou: true}
	in.Evidence = &policy.Evidence{At: e.at, Logs: make([]string, 200)}
	return in, true, nil
}

func (endless) Incidents(time.Time) ([]policy.Incident, error) { return nil, nil }

// bell tells when something was sent.
type bell struct {
	class Class
	sent  chan time.Time
	count atomic.Int64
	down  atomic.Bool
}

func (s *bell) Class() Class { return s.class }

func (s *bell) Send(context.Context, Message) (Receipt, error) {
	if s.down.Load() {
		return nil, &Error{Reason: ReasonNetwork, Err: errHang}
	}
	s.count.Add(1)
	if s.sent != nil {
		s.sent <- time.Now()
	}
	return Receipt{"ts": "1"}, nil
}

func plainOptions(dir string, a Archive, s Sink, l Limit) Options {
	return Options{
		Dir: dir, Channels: []Channel{{Name: "c", Sink: s, Limit: l}}, Archive: a, Log: slog.New(slog.DiscardHandler),
		Story:  func(in policy.Incident) Story { return Story{Host: "h", Incident: in} },
		Render: func(Story, Kind) Text { return Text{} },
	}
}

func started(tb testing.TB, o Options) *Notifier {
	tb.Helper()
	n, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, end := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	tb.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

func ids(n int) []policy.Incident {
	out := make([]policy.Incident, n)
	for i := range out {
		out[i] = policy.Incident{ID: fmt.Sprintf("INC-%05d", i)}
	}
	return out
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// queued waits until n incidents wait to be sent.
func queued(tb testing.TB, n *Notifier, count int) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); n.Channels()[0].Waiting < count; runtime.Gosched() {
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d wait", n.Channels()[0].Waiting, count)
		}
	}
}

func bytesOf10k(tb testing.TB) uint64 {
	s := &bell{class: Feed}
	s.down.Store(true)
	n := started(tb, plainOptions("", endless{time.Now()}, s, Limit{}))
	before := heap()
	n.Wake(ids(10_000))
	queued(tb, n, 10_000)
	after := heap()
	runtime.KeepAlive(n)
	return after - min(before, after)
}

// threadsOf leaves an outbox behind in which a Slack channel has been told of
// count incidents.
func threadsOf(tb testing.TB, dir string, count int, all endless) {
	tb.Helper()
	n, err := Open(plainOptions(dir, all, &bell{class: Threaded}, Limit{}))
	if err != nil {
		tb.Fatal(err)
	}
	rows := make([]row, 0, count)
	for i, in := range ids(count) {
		r := &record{Root: in.ID, Ref: Receipt{slackChannel: "C0123456789", slackFor: "C0123456789", slackTS: fmt.Sprintf("1774000000.%06d", i)}}
		now, _, _ := all.Incident(in.ID)
		r.follow(&now, false)
		r.sent(KindPost, &now, nil, time.Now())
		r.Seen, r.Evidence = 1, true // it looked otherwise: an edit is due, and nothing else
		rows = append(rows, rowOf(r))
	}
	n.store.put("c", pacing{}, rows...)
	if err := n.Close(); err != nil {
		tb.Fatal(err)
	}
}

// bytesOf10kThreads is what 10 000 edits take that wait for Slack, with their
// receipts and the outbox on disk.
func bytesOf10kThreads(tb testing.TB) uint64 {
	dir, all := tb.TempDir(), endless{time.Now()}
	threadsOf(tb, dir, 10_000, all)
	s := &bell{class: Threaded}
	s.down.Store(true)
	before := heap()
	n := started(tb, plainOptions(dir, all, s, Limit{}))
	queued(tb, n, 10_000)
	after := heap()
	if r := n.channels[0].recs["INC-00001"]; r.Ref[slackTS] == "" || r.kind != KindEdit {
		tb.Errorf("it waits as %+v, want an edit with its receipt", r)
	}
	runtime.KeepAlive(n)
	return after - min(before, after)
}

// BenchmarkQueue10k is 10 000 incidents on their way through the queue, with
// what they take while they wait.
func BenchmarkQueue10k(b *testing.B) {
	bytes := bytesOf10k(b)
	for b.Loop() {
		s := &bell{class: Feed, sent: make(chan time.Time, 10_000)}
		n := started(b, plainOptions("", endless{time.Now()}, s, Limit{Posts: Rate{N: 1 << 20, Per: time.Second}}))
		n.Wake(ids(10_000))
		for range 10_000 {
			<-s.sent
		}
	}
	b.ReportMetric(float64(bytes), "waiting-bytes")
}

// reset forgets the roots of the last minute, which would be a storm.
func (n *Notifier) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.channels[0].roots)
	n.channels[0].roots = nil
}

// From a commit to the request to Slack over HTTP, with the words of a real
// message and the outbox on disk.
func TestTheFirstMessageGoesAtOnce(t *testing.T) {
	came := make(chan time.Time, 1)
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came <- time.Now()
		_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.1"}`)
	}))
	defer slack.Close()
	best := time.Hour
	for range 5 { // the machine may be busy with others
		sink, err := NewSlack(SlackOptions{Token: planted, Channel: "C1", APIURL: slack.URL})
		if err != nil {
			t.Fatal(err)
		}
		o := plainOptions(t.TempDir(), endless{time.Now()}, sink, Limit{})
		o.Render = mustWords(t, "en", nil).Render
		n := started(t, o)
		start := time.Now()
		n.Wake(ids(1))
		best = min(best, (<-came).Sub(start))
	}
	if best > 50*time.Millisecond {
		t.Errorf("it took %v from the commit to the request, want less than 50 ms", best)
	}
}
