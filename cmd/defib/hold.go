package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) holdCmd() *cobra.Command {
	var o api.Order
	var length string
	cmd := &cobra.Command{
		Use:   "hold NAME | --project P | --all",
		Short: "Keep defib from acting; it goes on watching and telling",
		Long: `Keep defib from acting on a container, a compose project or the whole host. It
goes on watching and telling. A hold ends by itself, after --for or a day.

When nothing else works: a file named hold-all beside the socket holds the whole
host as long as it exists.`,
		Example: "  defib hold web --for 1h -m \"new model\"\n  defib hold --project shop\n  defib hold --all",
		Args:    target(&o), ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if length != "" {
				d, err := parseSpan("--for", length)
				if err != nil {
					return err
				}
				if d == 0 {
					return usage("--for: a hold of no length holds nothing", "to end one, say `defib release`")
				}
				o.For = d
			}
			o.Order = policy.OrderHold
			return a.order(cmd.Context(), o)
		},
	}
	targetFlags(cmd, &o)
	cmd.Flags().StringVar(&length, "for", "", "how long, as 30m, 4h or 2d")
	return cmd
}

func (a *app) releaseCmd() *cobra.Command {
	var o api.Order
	cmd := &cobra.Command{
		Use:   "release NAME | --project P | --all",
		Short: "End a hold",
		Long: `End a hold, named as it was set: --all ends the one on the host, not those on
single containers.`,
		Args: target(&o), ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Order = policy.OrderRelease
			return a.order(cmd.Context(), o)
		},
	}
	targetFlags(cmd, &o)
	return cmd
}

func targetFlags(cmd *cobra.Command, o *api.Order) {
	cmd.Flags().StringVar(&o.Project, "project", "", "every container of a compose project")
	cmd.Flags().BoolVar(&o.All, "all", false, "every container of this host")
	cmd.Flags().StringVarP(&o.Why, "message", "m", "", "a reason, for the record")
}

// target wants exactly one of a name, a project and all.
func target(o *api.Order) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		given := len(args)
		if o.Project != "" {
			given++
		}
		if o.All {
			given++
		}
		if given != 1 {
			return usage(fmt.Sprintf("%s takes one of NAME, --project P and --all", cmd.CommandPath()), "")
		}
		if len(args) == 1 {
			o.Unit = args[0]
		}
		return nil
	}
}
