package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// statusOptions are the flags of `defib status`.
type statusOptions struct {
	names     []string
	output    string
	watch     bool
	quiet     bool
	noHeaders bool
	all       bool
}

func (a *app) statusCmd() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [NAME…]",
		Short: "How the watched containers are",
		Long: `How the watched containers are, and what happens next to each.

NAME is a container's name, its key, or the beginning of its ID. The exit code
is 0 when all that is shown is well, 3 when something is not.`,
		Example: "  defib status\n  defib status -w\n  defib status -a             what is not watched, and why\n  defib status -o json web",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return a.status(cmd.Context(), o)
		},
		ValidArgsFunction: a.names,
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "table", "table, wide, json or name")
	f.BoolVarP(&o.watch, "watch", "w", false, "keep showing it: redrawn on a terminal, else a line for each change")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing; only the exit code counts")
	f.BoolVar(&o.noHeaders, "no-headers", false, "without the line of headers")
	f.BoolVarP(&o.all, "all", "a", false, "also what is not watched, and why")
	return cmd
}

func (a *app) status(ctx context.Context, o statusOptions) error {
	if err := oneOf("-o", o.output, "table", "wide", "json", "name"); err != nil {
		return err
	}
	if o.watch && !o.quiet {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		return (&watch{app: a, o: o, seen: map[string]string{}}).run(ctx, tick.C)
	}
	st, err := a.fetch(ctx, o)
	if err != nil {
		return err
	}
	if !o.quiet {
		if err := a.printStatus(a.out, st, o); err != nil {
			return err
		}
		if o.output == "table" || o.output == "wide" {
			a.notices(a.err, st, o)
		}
	}
	if !allWell(st) {
		return quiet(exitNotWell)
	}
	return nil
}

// allWell reports whether nothing of what is shown needs attention.
func allWell(st api.Status) bool {
	return st.Host.Connected && !slices.ContainsFunc(st.Units, func(u policy.Status) bool { return !well(u) })
}

// fetch gets the status of the units that were named, or of all.
func (a *app) fetch(ctx context.Context, o statusOptions) (api.Status, error) {
	st, err := a.client().Status(ctx, o.all || len(o.names) > 0)
	if err != nil || len(o.names) == 0 {
		return st, err
	}
	var units []policy.Status
	for _, name := range o.names {
		u, err := api.Find(st.Units, st.Others, name)
		if err != nil { // the daemon knows what is on record of it
			d, err := a.client().Unit(ctx, name)
			if err != nil {
				return st, err
			}
			u = d.Unit
		}
		units = append(units, u)
	}
	st.Units = units
	if !o.all {
		st.Others = nil
	}
	return st, nil
}

func (a *app) printStatus(w io.Writer, st api.Status, o statusOptions) error {
	switch o.output {
	case "json":
		return writeJSON(w, st)
	case "name":
		for _, u := range st.Units {
			fmt.Fprintln(w, a.clean(u.Name))
		}
		return nil
	}
	if len(st.Units) > 0 {
		if err := unitTable(st, o.output == "wide").write(w, a.terminal(), !o.noHeaders, a.clean); err != nil {
			return err
		}
	}
	if len(st.Others) == 0 {
		return nil
	}
	if len(st.Units) > 0 {
		fmt.Fprintln(w)
	}
	return otherTable(st.Others).write(w, a.terminal(), !o.noHeaders, a.clean)
}

func unitTable(st api.Status, wide bool) table {
	t := table{header: []string{"NAME", "STATE", "HEALTH", "SINCE", "RESTARTS", "LAST EXIT", "GPU", "NEXT"}, paint: 1}
	if wide {
		t.header = append(t.header, "POLICY", "IMAGE", "ID", "PROJECT", "INCIDENT")
	}
	for _, u := range st.Units {
		row := []string{
			u.Name, stateWord(u), orDash(u.Health), ago(st.At, u.Since), fmt.Sprint(u.Restarts24h),
			exitWord(u.LastExit), orDash(gpuList(u.GPUs, st.Host.GPUsHeld, ",")), nextWord(st.At, u),
		}
		if wide {
			row = append(row, string(u.Mode)+" "+u.Managed, orDash(u.Image), orDash(shortID(u.Container)), orDash(u.Project), orDash(u.Incident))
		}
		t.rows = append(t.rows, row)
	}
	if !wide && !slices.ContainsFunc(st.Units, func(u policy.Status) bool { return len(u.GPUs) > 0 }) {
		t.drop("GPU") // the room is needed for what comes next
	}
	return t
}

func otherTable(others []policy.Other) table {
	t := table{header: []string{"NOT WATCHED", "WHY"}, paint: -1}
	for _, o := range others {
		t.rows = append(t.rows, []string{o.Name, o.Why})
	}
	return t
}

// notices says what a table cannot: that it is old, empty, or that something
// keeps defib from acting.
func (a *app) notices(w io.Writer, st api.Status, o statusOptions) {
	say := func(format string, args ...any) { fmt.Fprintln(w, a.clean(fmt.Sprintf(format, args...))) }
	h := st.Host
	switch {
	case !h.Connected && h.Reason != "":
		say("Docker is out of reach since %s: %s. What is shown is what was known then.", ago(st.At, h.Since), h.Reason)
	case !h.Connected:
		say("Docker has not answered yet.")
	case !h.Synced:
		say("Not every container has been looked at yet.")
	case len(st.Units) == 0:
		say("No container is watched yet. Add the label defib.enable=true to one, or run defib with --all.")
		if !o.all {
			say("`defib status -a` shows what there is, and why it is not watched.")
		}
	}
	if st.Observe {
		say("Observe mode: defib says what it would do, and does nothing. `defib events` shows it.")
	}
	for i, hold := range h.Holds {
		if !slices.ContainsFunc(h.Holds[:i], func(h policy.Hold) bool { return h.Why == hold.Why }) { // a GPU may be held twice, for one thing
			say("Held: %s.", strings.TrimSuffix(hold.Why, "."))
		}
	}
	for _, p := range h.Panics {
		text := "one is repaired first, to see whether that helps"
		if len(p.Canary) == 0 && p.Next.After(st.At) {
			text = "repairing one did not help, the next is tried in " + span(p.Next.Sub(st.At))
		}
		say("Many containers failed together (%s) since %s: %s.", p.Domain, ago(st.At, p.Since), text)
	}
	for _, c := range st.Channels {
		say("%s", channelTrouble(st.At, c))
	}
	for _, other := range h.Healers {
		say("%s (%s) restarts containers too; what it watches, defib only observes. Stop it to let defib act.", other.Name, other.Kind)
	}
}

// writeJSON prints a document for programs.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
