package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) gpusCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "gpus [GPU…]",
		Short: "How the GPUs are, and which containers use them",
		Long: `How the GPUs are, which containers use them, and on which defib restarts nothing.

GPU is an index, a UUID or the beginning of one, or a PCI address. The exit code
is 0 when all that is shown is well, 3 when something is not.`,
		Example: "  defib gpus\n  defib gpus -o wide 0\n  defib gpus release 0        once you know that it is well\n  defib explain xid 79        what a number in LAST XID means",
		Args:    cobra.ArbitraryArgs, ValidArgsFunction: a.gpuNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.gpus(cmd.Context(), args, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, wide or json")
	cmd.AddCommand(a.gpusReleaseCmd(), a.gpusResetCmd())
	return cmd
}

func (a *app) gpus(ctx context.Context, names []string, output string) error {
	if err := oneOf("-o", output, "table", "wide", "json"); err != nil {
		return err
	}
	got, err := a.client().GPUs(ctx)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		var chosen []policy.GPUStatus
		for _, name := range names {
			g, err := api.FindGPU(got.GPUs, name)
			if err != nil {
				return err
			}
			chosen = append(chosen, g)
		}
		got.GPUs = chosen
	}
	if err := a.printGPUs(a.out, got, output); err != nil {
		return err
	}
	if !gpusWell(got) {
		return quiet(exitNotWell)
	}
	return nil
}

func (a *app) printGPUs(w io.Writer, got api.GPUs, output string) error {
	if output == "json" {
		return writeJSON(w, got)
	}
	if len(got.GPUs) > 0 {
		if err := gpuTable(got, output == "wide").write(w, a.terminal(), true, a.clean); err != nil {
			return err
		}
	}
	for i, text := range gpuSentences(got) {
		if i == 0 && len(got.GPUs) > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, cut(a.clean(text), textMax))
	}
	return nil
}

// textMax bounds a sentence that holds texts of containers and of the driver.
const textMax = 600

func gpuTable(got api.GPUs, wide bool) table {
	t := table{header: []string{"INDEX", "MODEL", "STATE", "TEMP", "VRAM", "RECOVERY", "LAST XID", "CONTAINERS"}, paint: 2}
	if wide {
		t.header = append(t.header, "UUID", "PCI", "MIG")
	}
	for _, g := range got.GPUs {
		r := g.Reading
		row := []string{
			gpuIndex(g), orDash(g.Name), gpuState(got.Driver, g), temperature(r), memory(r), recovery(r.Recovery),
			lastFault(got.At, g.LastFault), orDash(strings.Join(g.Units, ",")),
		}
		if wide {
			row = append(row, g.UUID, orDash(g.PCI), orDash(migNames(g.MIG)))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// gpuNames completes the indices of GPUs.
func (a *app) gpuNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	got, err := a.client().GPUs(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, 0, len(got.GPUs))
	for _, g := range got.GPUs {
		out = append(out, cobra.CompletionWithDesc(gpuIndex(g), a.clean(g.Name)+" "+gpuState(got.Driver, g)))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// firstGPU is gpuNames for commands that take one.
func (a *app) firstGPU(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.gpuNames(cmd, args, part)
}
