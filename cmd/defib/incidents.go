package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) incidentsCmd() *cobra.Command {
	var since, output string
	var open, noHeaders bool
	cmd := &cobra.Command{
		Use:     "incidents",
		Short:   "What went wrong, and how it ended",
		Example: "  defib incidents --since 7d\n  defib incidents --open",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			back, err := parseSpan("--since", since)
			if err != nil {
				return err
			}
			if err := oneOf("-o", output, "table", "json"); err != nil {
				return err
			}
			return a.incidents(cmd.Context(), back, open, output == "json", !noHeaders)
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "24h", "how far back, as 30m, 24h or 7d; open ones are always shown")
	f.BoolVar(&open, "open", false, "only those that are not over")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	f.BoolVar(&noHeaders, "no-headers", false, "without the line of headers")
	return cmd
}

func (a *app) incidents(ctx context.Context, back time.Duration, open, asJSON, headers bool) error {
	got, err := a.client().Incidents(ctx, time.Time{})
	if err != nil {
		return err
	}
	kept := got.Incidents[:0:0]
	for _, inc := range got.Incidents {
		if inc.Closed.IsZero() || !open && inc.Closed.After(got.At.Add(-back)) {
			kept = append(kept, inc)
		}
	}
	got.Incidents = kept
	switch {
	case asJSON:
		return writeJSON(a.out, got)
	case len(kept) == 0 && open:
		fmt.Fprintln(a.err, "Nothing is open. `defib incidents` shows what is over.")
	case len(kept) == 0:
		fmt.Fprintf(a.err, "Nothing went wrong in the last %s. `defib incidents --since 90d` looks further back.\n", span(back))
	default:
		return incidentTable(got.At, kept, true).write(a.out, a.terminal(), headers, a.clean)
	}
	return nil
}

// incidentTable lists incidents; named adds whose they are.
func incidentTable(now time.Time, incidents []policy.Incident, named bool) table {
	t := table{header: []string{"INCIDENT", "OPENED", "LASTED", "LEVEL", "END", "REPAIRS", "CONTAINER", "CAUSE"}, paint: -1}
	if !named {
		t.header = append(t.header[:6:6], "CAUSE")
	}
	for _, inc := range incidents {
		row := []string{inc.ID, clock(inc.Opened), lasted(now, inc), string(inc.Level), ending(inc), strconv.Itoa(inc.Repairs)}
		if named {
			row = append(row, orDash(inc.Name))
		}
		t.rows = append(t.rows, append(row, orDash(inc.Cause)))
	}
	return t
}

func lasted(now time.Time, inc policy.Incident) string {
	if inc.Closed.IsZero() {
		return ago(now, inc.Opened)
	}
	return ago(inc.Closed, inc.Opened)
}

func ending(inc policy.Incident) string {
	switch {
	case inc.Closed.IsZero() && inc.Ack != nil:
		return "open, taken"
	case inc.Closed.IsZero() && inc.NeedsYou:
		return "open, needs you"
	case inc.Closed.IsZero():
		return "open"
	}
	return orDash(inc.End)
}

func (a *app) incidentCmd() *cobra.Command {
	var output string
	var logs int
	cmd := &cobra.Command{
		Use:     "incident ID",
		Short:   "The story of one incident",
		Example: "  defib incident INC-7F3K",
		Args:    one("ID, such as INC-7F3K"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			got, err := a.client().Incident(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case output == "json":
				return writeJSON(a.out, got)
			}
			p := &page{w: a.out, clean: a.clean, now: got.At, term: a.terminal()}
			p.incident(got, logs)
			return p.err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().IntVar(&logs, "logs", 10, "how many of the kept log lines to show")
	return cmd
}

func (p *page) incident(got api.Incident, logs int) {
	inc := got.Incident
	p.line("Incident:", inc.ID+" ("+string(inc.Level)+", "+ending(inc)+")")
	p.line("Container:", inc.Name)
	p.line("Opened:", clock(inc.Opened)+", lasted "+lasted(p.now, inc))
	if !inc.Paged.IsZero() {
		p.line("Paged:", clock(inc.Paged))
	}
	p.line("Taken:", acked(inc))
	p.line("Cause:", because(inc.Cause, inc.Rule))
	p.line("Repairs:", fmt.Sprintf("%d, after %s", inc.Repairs, plural(inc.Failures, "failure")))
	p.line("Follows:", follows(inc))
	for _, c := range inc.Changed {
		p.line("Changed:", c)
	}
	for _, seen := range inc.GPUs {
		p.line("Seen:", seen)
	}
	p.line("Part of:", inc.Parent)
	p.line("Includes:", strings.Join(inc.Children, ", "))
	t := table{header: []string{"AT", "RULE", "WHAT"}, paint: -1, whole: true}
	for _, s := range inc.Steps {
		t.rows = append(t.rows, []string{clock(s.At), s.Rule, s.Text})
	}
	p.table("Steps", t)
	if inc.Evidence != nil {
		p.evidence(inc.Evidence, inc.Rule == "exited", logs)
	}
}

// follows says of how many incidents in a row this one is the newest.
func follows(inc policy.Incident) string {
	if inc.Times < 2 {
		return ""
	}
	return fmt.Sprintf("%s; it is number %d in a row", inc.Root, inc.Times)
}

// evidence is what was kept of the container before the newest repair.
func (p *page) evidence(e *policy.Evidence, exited bool, logs int) {
	p.print("\nKept before the newest repair\n")
	if exited || e.ExitCode != 0 || e.OOMKilled { // one that was running has no exit
		p.line("Exit:", exitWord(&policy.Exit{Code: e.ExitCode, OOMKilled: e.OOMKilled, Error: e.Error}))
	}
	p.line("Error:", e.Error)
	p.table("Checks", probeTable(e.Probes))
	if e.LogsErr != "" {
		p.line("Logs:", "none: "+e.LogsErr)
	}
	logs = min(max(logs, 0), len(e.Logs))
	if logs == 0 {
		return
	}
	head := fmt.Sprintf("\nLast %s", plural(logs, "log line"))
	if logs < len(e.Logs) {
		head += fmt.Sprintf(" of %d (--logs %d shows all)", len(e.Logs), len(e.Logs))
	}
	p.print(head + "\n")
	for _, l := range e.Logs[len(e.Logs)-logs:] {
		p.print("  " + p.clean(l) + "\n")
	}
}

// parseSpan reads a length of time; days may be written 7d.
func parseSpan(flag, s string) (time.Duration, error) {
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if n > 36500 {
			err = errors.New("too long")
		}
		d = time.Duration(n * 24 * float64(time.Hour))
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d < 0 {
		return 0, usage(fmt.Sprintf("%s: want a time such as 30m, 24h or 7d, have %q", flag, s), "")
	}
	return d, nil
}
