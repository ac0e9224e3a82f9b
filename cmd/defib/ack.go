package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) ackCmd() *cobra.Command {
	o := api.Order{Command: policy.Command{Order: policy.OrderAck}}
	var length string
	cmd := &cobra.Command{
		Use:   "ack INCIDENT",
		Short: "Say that you look after an incident: nobody is reminded of it",
		Long: `Say that you look after an incident. Messages that can be changed show so, and
nobody is reminded until it ends, after --for or 4 hours; then who is called by an
alert is called anew. It changes nothing of what defib does; for that there is
` + "`defib hold`" + `.`,
		Example: "  defib ack INC-7F3K -m \"swapping the board\" --for 2h\n  defib ack INC-7F3K --undo",
		Args:    one("INCIDENT, such as INC-7F3K"), ValidArgsFunction: a.openIncidents,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Incident = args[0]
			if length != "" {
				d, err := someSpan("--for", length)
				if err != nil {
					return err
				}
				o.For = d
			}
			return a.order(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Why, "message", "m", "", "what you do about it, for the others")
	f.StringVar(&length, "for", "", "how long, as 30m, 4h or 2d (default 4h)")
	f.BoolVar(&o.Undo, "undo", false, "take it back: reminders go on")
	return cmd
}

// someSpan reads a length of time that is not nothing.
func someSpan(flag, s string) (time.Duration, error) {
	d, err := parseSpan(flag, s)
	if err == nil && d == 0 {
		err = usage(flag+": want a length of time, such as 2h", "")
	}
	return d, err
}

// openIncidents completes the IDs of what is open.
func (a *app) openIncidents(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	got, err := a.client().Incidents(cmd.Context(), time.Time{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, inc := range got.Incidents {
		if inc.Closed.IsZero() {
			out = append(out, cobra.CompletionWithDesc(inc.ID, a.clean(inc.Name+": "+inc.Cause)))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// ackDone is the sentence for an acknowledgement that was taken.
func ackDone(o api.Order, text string) string {
	id := incidentID(o.Incident)
	if text == "" {
		text = "taken"
	}
	if o.Undo {
		return id + ": " + sentenceOf(text, "")
	}
	return id + ": " + sentenceOf(text, "") + " Nobody is reminded of it until then; `defib ack " + id + " --undo` takes it back."
}

// incidentID is an incident's ID as it is written: INC-7F3K for 7f3k.
func incidentID(s string) string {
	s = strings.ToUpper(s)
	if !strings.HasPrefix(s, "INC-") {
		s = "INC-" + s
	}
	return s
}

// acked says who looks after an incident; "" when nobody does.
func acked(inc policy.Incident) string {
	if inc.Ack == nil {
		return ""
	}
	text := "by " + inc.Ack.By + " until " + clock(inc.Ack.Until)
	if inc.Ack.Why != "" {
		text += ": " + inc.Ack.Why
	}
	return text
}
