package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/journal"
	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

// BenchmarkDecisionToSlack is from a decision to the request to Slack, over HTTP
// on loopback, with an empty queue: the commit to the journal on disk, the
// hand-over, the words and the sink of the daemon, each as it is in use.
func BenchmarkDecisionToSlack(b *testing.B) {
	came := make(chan time.Time, 1)
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came <- time.Now()
		_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.1"}`)
	}))
	defer slack.Close()
	var total, worst time.Duration
	n := 0
	for b.Loop() {
		took := decisionToSlack(b, slack.URL, came)
		total, worst = total+took, max(worst, took)
		n++
	}
	b.ReportMetric(float64(total.Microseconds())/float64(n)/1000, "ms/request")
	b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
}

// decisionToSlack begins with an outbox of its own: many roots in a minute are a
// storm, which waits for more.
func decisionToSlack(b *testing.B, slack string, came <-chan time.Time) time.Duration {
	b.Helper()
	dir := b.TempDir()
	masker, err := mask.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	jr, _, err := journal.Open(dir, journal.Options{Mask: masker, Log: log, Now: time.Now()})
	if err != nil {
		b.Fatal(err)
	}
	defer jr.Close()
	cfg, src, err := config.Parse("c.yaml", fmt.Appendf(nil, "notify: {channels: [{name: ops, type: slack, token_env: TOKEN, channel: C1, api_url: %q}]}\n", slack))
	if err != nil {
		b.Fatal(err)
	}
	tell, err := newTelling(config.Settings{Config: cfg, Sources: src, StateDir: dir}, lookup(map[string]string{"TOKEN": "xoxb-1"}), jr, &lateLoop{}, asItIs, log, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var owned sync.WaitGroup
	owned.Go(func() { tell.run(ctx) })
	now := time.Now().UTC()
	inc := policy.Incident{
		ID: "INC-7F3K", Rev: 1, Unit: "web", Name: "web", Opened: now, Level: policy.LevelPage, Rule: "gave_up", Cause: "it exited with 1", NeedsYou: true, Paged: now,
		Steps:    []policy.Step{{At: now, Rule: "gave_up", Text: "it exited with 1"}},
		Evidence: &policy.Evidence{At: now, ExitCode: 1, Logs: make([]string, 200)},
	}
	start := time.Now()
	if err := jr.Append([]watcher.Record{{Event: policy.Event{At: now, Kind: policy.KindTick}, Changes: policy.Changes{Incidents: []policy.Incident{inc}}}}); err != nil {
		b.Fatal(err)
	}
	tell.told()([]policy.Incident{inc})
	took := (<-came).Sub(start)
	stop()
	owned.Wait()
	if err := tell.close(); err != nil {
		b.Fatal(err)
	}
	return took
}
