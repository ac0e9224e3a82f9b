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

func (a *app) describeCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:               "describe NAME",
		Short:             "All about one container: why it is so, and what comes next",
		Args:              one("NAME"),
		ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.describe(cmd.Context(), args[0], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func (a *app) describe(ctx context.Context, name, output string) error {
	if err := oneOf("-o", output, "text", "json"); err != nil {
		return err
	}
	d, err := a.client().Unit(ctx, name)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(a.out, d)
	}
	p := &page{w: a.out, clean: a.clean, now: d.At, term: a.terminal()}
	p.unit(d)
	return p.err
}

// page writes labelled lines.
type page struct {
	w     io.Writer
	clean func(string) string
	now   time.Time
	term  terminal
	err   error
}

// line writes one label and its value; nothing when the value is empty.
func (p *page) line(label, value string) {
	if value = p.clean(value); value != "" {
		p.print(fmt.Sprintf("%-13s %s\n", label, value))
	}
}

func (p *page) print(text string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, text)
	}
}

func (p *page) table(title string, t table) {
	if len(t.rows) == 0 || p.err != nil {
		return
	}
	p.print("\n" + title + "\n")
	if p.err == nil {
		p.err = t.write(p.w, p.term, true, p.clean)
	}
}

func (p *page) unit(d api.Unit) {
	u := d.Unit
	state := stateWord(u)
	p.line("Name:", u.Name)
	painted := state
	if p.term.colour {
		painted = paint(state, 0, state)
	}
	p.print(fmt.Sprintf("%-13s %s since %s (%s)\n", "State:", painted, clock(u.Since), ago(p.now, u.Since)))
	p.line("Why:", because(u.Reason, u.Rule))
	p.line("Would act:", wouldAct(u))
	for _, why := range u.WhyNot {
		p.line("", "- "+why)
	}
	p.line("Next:", nextWord(p.now, u))
	p.line("Pages:", pages(p.now, u))
	p.line("You can:", waysOut(u))
	p.line("Incident:", u.Incident)
	for _, inc := range d.Incidents {
		if inc.ID == u.Incident {
			p.line("Taken:", acked(inc))
		}
	}
	p.line("Health:", strings.TrimPrefix(u.Health, "—"))
	p.line("Last check:", u.HealthOutput)
	p.line("Last exit:", lastExit(p.now, u.LastExit))
	p.line("Restarts:", restarts(u))
	if u.ReadyAfter > 0 {
		p.line("Ready after:", span(u.ReadyAfter)+" (median)")
	}
	p.identity(d)
	p.settings(u)
	p.table("Last incidents", incidentTable(d.At, d.Incidents, false))
	p.checks(d.Incidents)
}

// waysOut are the commands that end a wait: nothing that one must know by heart.
func waysOut(u policy.Status) string {
	leave := fmt.Sprintf("`defib stop %s` leaves it down", u.Name)
	switch {
	case u.State == policy.Held && u.Detail == string(policy.HoldOperator):
		out := fmt.Sprintf("`defib restart --force %s` passes the hold; %s", u.Name, leave)
		if len(u.Releases) > 0 {
			out = fmt.Sprintf("`%s` ends the hold; %s", strings.Join(u.Releases, " && "), out)
		}
		return out
	case u.State == policy.Held && (u.Detail == string(policy.HoldGPU) || u.Detail == string(policy.HoldVRAM) || u.Detail == string(policy.HoldStuck)):
		return fmt.Sprintf("`defib gpus` shows its GPU; `defib restart --force %s` restarts it all the same; %s", u.Name, leave)
	case u.State == policy.Held, u.State == policy.Backoff:
		return fmt.Sprintf("`defib restart %s` does not wait; %s", u.Name, leave)
	case u.State == policy.Fatal:
		return fmt.Sprintf("`defib retry %s` tries again; %s", u.Name, leave)
	}
	return ""
}

func (p *page) identity(d api.Unit) {
	u := d.Unit
	p.line("Mode:", string(u.Mode)+", opted in by "+u.Managed)
	p.line("Key:", u.Key)
	p.line("Project:", u.Project)
	p.line("Container:", shortID(u.Container))
	p.line("Image:", u.Image)
	p.gpus(d)
	for _, w := range u.Warnings {
		p.line("Warning:", w)
	}
}

func (p *page) settings(u policy.Status) {
	t := table{header: []string{"NAME", "VALUE", "SOURCE"}, paint: -1}
	for _, s := range u.Settings {
		t.rows = append(t.rows, []string{s.Name, s.Value, s.Source})
	}
	p.table("Settings", t)
}

// checks shows the health checks that were kept of the newest failure.
func (p *page) checks(incidents []policy.Incident) {
	if len(incidents) == 0 || incidents[0].Evidence == nil {
		return
	}
	p.table("Last checks before the newest repair", probeTable(incidents[0].Evidence.Probes))
}

func probeTable(probes []policy.Probe) table {
	t := table{header: []string{"ENDED", "TOOK", "EXIT", "OUTPUT"}, paint: -1, whole: true}
	for _, c := range probes {
		t.rows = append(t.rows, []string{clock(c.End), span(c.End.Sub(c.Start)), fmt.Sprint(c.ExitCode), orDash(c.Output)})
	}
	return t
}

func because(reason, rule string) string {
	if rule == "" {
		return reason
	}
	return strings.TrimSpace(reason + " [" + rule + "]")
}

// wouldAct answers whether defib acts on the unit's failures.
func wouldAct(u policy.Status) string {
	switch {
	case u.WouldAct:
		return "yes"
	case len(u.WhyNot) == 0:
		return "no"
	}
	return "no, because:"
}

// pages says when a human is called if nothing changes.
func pages(now time.Time, u policy.Status) string {
	if u.PagesAt.IsZero() {
		return ""
	}
	if left := u.PagesAt.Sub(now); left >= time.Second {
		return "in " + span(left.Truncate(time.Second)) + ", if nothing changes"
	}
	return "now"
}

func lastExit(now time.Time, e *policy.Exit) string {
	if e == nil {
		return ""
	}
	text := exitWord(e)
	if !e.At.IsZero() {
		text += ", " + ago(now, e.At) + " ago"
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return text
}

func restarts(u policy.Status) string {
	text := fmt.Sprintf("%d in 24 h", u.Restarts24h)
	if u.Retries != "" {
		text += "; retry " + u.Retries
	}
	return text
}
