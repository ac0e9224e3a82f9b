package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/cmd/defib/internal/metrics"
)

func (a *app) metricsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "What Prometheus would read",
		Long: `What Prometheus would read. The daemon serves it as GET /metrics on its socket, and
on the address metrics.listen if one is set.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.client().Metrics(cmd.Context(), a.out)
		},
	}
}

// exposition is what Prometheus reads of a daemon with these settings.
func exposition(s config.Settings, loop metrics.Loop, live api.Live, channels func() []notify.ChannelStatus, log *slog.Logger, now func() time.Time) http.Handler {
	return metrics.Handler(metrics.Options{
		Loop: loop, Now: now, Build: build(), GPU: s.Config.GPU.Enabled, KernelLog: s.Config.GPU.KernelLog != "",
		LiveGPUs: live, Channels: channels, Log: log,
	})
}

// serveMetrics opens metrics.listen, if it is set, and returns what serves it;
// stop hears of its end.
func serveMetrics(ctx context.Context, s config.Settings, h http.Handler, log *slog.Logger, stop func(error)) (func(context.Context), error) {
	if s.Config.Metrics.Listen == "" {
		return func(context.Context) {}, nil
	}
	ln, err := metrics.Listen(ctx, s.Config.Metrics.Listen)
	if err != nil {
		return nil, err
	}
	log.Info("metrics are served", "address", ln.Addr().String())
	return func(ctx context.Context) { stop(metrics.Serve(ctx, ln, h, log)) }, nil
}
