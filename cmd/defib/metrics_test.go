package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/config"
)

func TestMetricsCommand(t *testing.T) {
	d := &daemon{view: rack()}
	s := config.Settings{Config: config.Default()}
	d.metrics = exposition(s, d, nil, nil, slog.New(slog.DiscardHandler), func() time.Time { return noon })
	d.start(t)
	out, errs, code := d.run(t, "metrics")
	for _, line := range []string{"defib_docker_connected 1", `defib_gpu_held{gpu="2"} 1`, `defib_container_state{container="lama",state="fatal"} 1`} {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("%q is missing", line)
		}
	}
	if errs != "" || code != exitOK {
		t.Errorf("got %q, %d", errs, code)
	}
	if _, errs, code := d.run(t, "metrics", "--socket", "/nonexistent/s"); code != exitUnreachable || !strings.HasPrefix(errs, "defib: no defib answers on /nonexistent/s\n") {
		t.Errorf("got %q, %d", errs, code)
	}
}

// TestMetricsListen serves on the address of the settings until it is stopped.
func TestMetricsListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		t.Fatal(err)
	}
	log := &output{want: "address=", seen: make(chan struct{})}
	s := config.Settings{Config: config.Default()}
	ctx, stop := context.WithCancelCause(t.Context())
	var owned sync.WaitGroup
	serve := func() error {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "defib_x 1\n") })
		run, err := serveMetrics(ctx, s, h, slog.New(slog.NewTextHandler(log, nil)), stop)
		if err == nil {
			owned.Go(func() { run(ctx) })
		}
		return err
	}
	if err := serve(); err != nil || log.String() != "" {
		t.Errorf("without an address: got %v, %q", err, log)
	}
	s.Config.Metrics.Listen = taken.Addr().String()
	if err := serve(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v, want that it is in use", err)
	}
	_ = taken.Close()
	if err := serve(); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Config.Metrics.Listen+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "defib_x 1\n" {
		t.Errorf("got %q, %v", body, err)
	}
	_ = resp.Body.Close()
	stop(nil)
	owned.Wait()
}
