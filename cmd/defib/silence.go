package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
)

func (a *app) silenceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "silence",
		Short: "Stop the messages about some containers for a time",
		Long: `Stop the messages about some containers for a time. defib goes on watching and
repairing; ` + "`defib hold`" + ` stops that. What is still wrong when a silence ends is told
then.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.silenceAddCmd(), a.silenceListCmd(), a.silenceRemoveCmd())
	return cmd
}

func (a *app) silenceAddCmd() *cobra.Command {
	var o api.SilenceOrder
	var length string
	cmd := &cobra.Command{
		Use:   "add (--unit U | --project P | --label K=V | --rule R) --for 2h -m WHY",
		Short: "Begin a silence",
		Long: `Begin a silence. What is given must all fit; * stands for any text. --unit '*'
silences everything.`,
		Example: "  defib silence add --unit web --for 2h -m \"moving its disk\"\n  defib silence add --project 'shop-*' --for 1d -m \"load test\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.Unit == "" && o.Project == "" && o.Label == "" && o.Rule == "":
				return usage("say what to silence: --unit, --project, --label or --rule", "--unit '*' silences everything")
			case length == "":
				return usage("say how long, such as --for 2h", "a silence always ends, so that none is forgotten")
			case strings.TrimSpace(o.Why) == "":
				return usage("say why, such as -m \"moving its disk\"", "others will wonder about the quiet")
			}
			d, err := someSpan("--for", length)
			if err != nil {
				return err
			}
			o.For = d
			return a.silence(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Unit, "unit", "", "name or key of a container")
	f.StringVar(&o.Project, "project", "", "compose project")
	f.StringVar(&o.Label, "label", "", "label of the container, as key=value or key")
	f.StringVar(&o.Rule, "rule", "", "what is wrong, as defib incident shows it in brackets")
	f.StringVar(&length, "for", "", "how long, as 30m, 4h or 2d")
	f.StringVarP(&o.Why, "message", "m", "", "why, for the others")
	return cmd
}

func (a *app) silence(ctx context.Context, o api.SilenceOrder) error {
	got, err := a.client().Silence(ctx, o)
	if err != nil {
		return err
	}
	s := got.Silence
	fmt.Fprintln(a.out, a.clean(fmt.Sprintf("%s: nothing is told of %s until %s. `defib silence rm %s` ends it.", s.ID, silenced(s), clock(s.Until), s.ID)))
	if got.Note != "" {
		fmt.Fprintln(a.out, a.clean(got.Note+" The silence stands all the same."))
	}
	return nil
}

// silenced says what a silence is about.
func silenced(s notify.Silence) string {
	var parts []string
	for _, p := range []struct{ word, value string }{{"container", s.Unit}, {"project", s.Project}, {"label", s.Label}, {"rule", s.Rule}} {
		if p.value != "" {
			parts = append(parts, p.word+" "+p.value)
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "anything")
}

func (a *app) silenceListCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the silences that have not ended",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("-o", output, "table", "json"); err != nil {
				return err
			}
			got, err := a.client().Silences(cmd.Context())
			switch {
			case err != nil:
				return err
			case output == "json":
				return writeJSON(a.out, got)
			case len(got.Silences) == 0:
				fmt.Fprintln(a.err, "There is no silence.")
				return nil
			}
			t := table{header: []string{"ID", "WHAT", "ENDS IN", "BY", "WHY"}, paint: -1}
			for _, s := range got.Silences {
				t.rows = append(t.rows, []string{s.ID, silenced(s), ago(s.Until, got.At), s.By, s.Why})
			}
			return t.write(a.out, a.terminal(), true, a.clean)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *app) silenceRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rm ID",
		Short: "End a silence: what is still wrong is told now",
		Args:  one("ID, such as S1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			got, err := a.client().Unsilence(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, a.clean(got.Silence.ID+": the silence about "+silenced(got.Silence)+" has ended."))
			return nil
		},
	}
}
