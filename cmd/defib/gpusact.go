package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) gpusReleaseCmd() *cobra.Command {
	o := api.Order{Command: policy.Command{Order: policy.OrderRelease}}
	cmd := &cobra.Command{
		Use:   "release GPU | all",
		Short: "End the hold on a GPU: you know that it is well",
		Long: `End the hold on a GPU: you know that it is well. What failed on it is repaired
again. When it breaks again, it is held again. all ends the holds on every GPU,
such as after a change of the driver.`,
		Args: one("GPU, or all"), ValidArgsFunction: a.firstGPU,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.GPU = args[0]
			return a.order(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVarP(&o.Why, "message", "m", "", "a reason, for the record")
	return cmd
}

func (a *app) gpusResetCmd() *cobra.Command {
	o := api.Order{Command: policy.Command{Order: policy.OrderReset}}
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset GPU",
		Short: "Reset a GPU: stop its containers, reset it, start them again",
		Long: `Reset a GPU: stop the watched containers that use it, reset it, see whether the
driver says that it is well, and start them again. Other programs that use it
must be stopped by you, or the reset fails. defib never does this by itself.

What is run is gpu.reset_command; see config.yaml.example.`,
		Args: one("GPU"), ValidArgsFunction: a.firstGPU,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.GPU = args[0]
			if !yes {
				if err := a.confirmReset(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			return a.order(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.Force, "force", false, "even when programs use it that defib does not manage, or what it stops would be held by another GPU")
	f.BoolVar(&o.Wait, "wait", false, "wait until it is known how it ended")
	f.StringVarP(&o.Why, "message", "m", "", "a reason, for the record")
	return cmd
}

// confirmReset asks before containers are stopped, names them, and says what
// their start costs.
func (a *app) confirmReset(ctx context.Context, name string) error {
	got, err := a.client().GPUs(ctx)
	if err != nil {
		return err
	}
	g, err := api.FindGPU(got.GPUs, name)
	if err != nil {
		return err
	}
	stops := "No watched container uses it."
	if len(g.Units) > 0 {
		names, err := a.withCosts(ctx, g.Units)
		if err != nil {
			return err
		}
		stops = "Stopped for it, and started again after it: " + strings.Join(names, ", ") + "."
	}
	text := fmt.Sprintf("GPU %s (%s) is %s. %s Reset it?", gpuIndex(g), orDash(g.Name), gpuState(got.Driver, g), stops)
	return a.ask(ctx, text, "a reset")
}

// withCosts adds to the names of containers how long they load, where that is
// long.
func (a *app) withCosts(ctx context.Context, names []string) ([]string, error) {
	got, err := a.client().Status(ctx, true)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(names)
	for i, name := range names {
		j := slices.IndexFunc(got.Units, func(u policy.Status) bool { return u.Name == name })
		if j < 0 {
			continue
		}
		if t := loading(got.Units[j]); t != "" {
			out[i] = name + " (" + t + ")"
		}
	}
	return out, nil
}
