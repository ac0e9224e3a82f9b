package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/watcher/journal"
)

func (a *app) stateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "Mend the state directory",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	repair := &cobra.Command{
		Use:   "repair",
		Short: "Set a damaged state file aside, and say what is lost",
		Long: `Set a damaged state file aside, and say what is lost. The daemon must be
stopped. It never does this by itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := config.StateDir(a.input(cmd.Flags()))
			if err != nil {
				return err
			}
			report, err := journal.Repair(dir)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, a.lines(strings.TrimSpace(report)))
			return nil
		},
	}
	repair.Flags().String("state-dir", "", "where state is kept")
	cmd.AddCommand(repair)
	return cmd
}
