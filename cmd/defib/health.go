package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
)

// healthPatience is how long `defib healthcheck` waits: less than the 5 s of the
// image's HEALTHCHECK, so that Docker has its reason and not only a timeout.
const healthPatience = 4 * time.Second

func (a *app) healthcheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Whether the daemon does its work, for a HEALTHCHECK",
		Long:  "Exit code 0 when the daemon does its work, 1 when it does not: it does not\nanswer, its loop is stuck, or Docker is out of reach.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), healthPatience)
			defer cancel()
			h, err := a.client().Health(ctx)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				err = fmt.Errorf("the daemon has not answered for %v", healthPatience)
				fallthrough
			case err != nil:
				return hinted(err, "")
			case !h.OK:
				return hinted(errors.New(h.Text), "")
			}
			fmt.Fprintln(a.out, a.clean(h.Text))
			return nil
		},
	}
}

func (a *app) versionCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "The version of this command and of the daemon",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			own := build()
			daemon, err := a.client().Build(cmd.Context())
			if output == "json" {
				out := map[string]any{"version": api.Version, "command": own}
				if err == nil {
					out["daemon"] = daemon
				}
				return writeJSON(a.out, out)
			}
			fmt.Fprintln(a.out, "command ", buildLine(own))
			if err != nil {
				fmt.Fprintln(a.out, "daemon   none:", a.clean(err.Error()))
				return nil
			}
			fmt.Fprintln(a.out, "daemon  ", a.clean(buildLine(daemon)))
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// build describes this program.
func build() api.Build {
	b := api.Build{Version: api.Version, Defib: "unknown", Go: runtime.Version(), PID: os.Getpid()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Defib = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value[:min(len(s.Value), 12)]
		}
	}
	return b
}

func buildLine(b api.Build) string {
	line := "defib " + b.Defib + ", " + b.Go
	if b.Revision != "" {
		line += ", revision " + b.Revision
	}
	return line
}
