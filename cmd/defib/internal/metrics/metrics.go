// Package metrics shows what is known as Prometheus reads it. Everything is
// collected at the time of a scrape: nothing is counted here, and a series ends
// with what it is about.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
)

// Loop is what is asked of the watcher.
type Loop interface {
	View() *watcher.View
	Healthy(now time.Time) error
}

// Options are what the metrics are made of.
type Options struct {
	Loop      Loop
	Now       func() time.Time // the loop's clock
	Build     api.Build
	GPU       bool                          // GPUs are looked at
	KernelLog bool                          // the kernel log is to be read
	LiveGPUs  api.Live                      // fresher than the view; may be nil
	Channels  func() []notify.ChannelStatus // on which people are told; may be nil
	Log       *slog.Logger
}

// Handler answers GET /metrics.
func Handler(o Options) http.Handler {
	return promhttp.HandlerFor(registry(o), promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn), EnableOpenMetrics: true,
		MaxRequestsInFlight: maxScrapes, ErrorHandling: promhttp.ContinueOnError,
	})
}

func registry(o Options) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(o)) // fails only for what is registered twice
	return r
}

const (
	maxScrapes = 4
	patience   = 10 * time.Second // for a client to say what it wants, and to take it
	parting    = 500 * time.Millisecond
)

// Listen opens the listener of metrics.listen.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %s: %w; choose another metrics.listen", address, err)
	}
	return ln, nil
}

// Serve answers GET /metrics, and nothing else, until ctx ends. It closes ln.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	srv := &http.Server{
		Handler: mux, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	if srv.Shutdown(end) != nil {
		_ = srv.Close() // they had their half second
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
