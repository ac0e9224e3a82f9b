package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
)

func (a *app) notifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Try the channels on which people are told, and see what waits",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.notifyTestCmd(), a.notifyPreviewCmd(), a.notifyQueueCmd())
	return cmd
}

func (a *app) notifyTestCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "test [CHANNEL]",
		Short: "Send a test message to one channel, or to all",
		Long: `Send a test message to one channel, or to all. It says that it is a test. What
it sets off at PagerDuty and Alertmanager ends by itself. The exit code is 1 when one failed.`,
		ValidArgsFunction: a.channelNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("notify test takes one CHANNEL, or none for all", "")
			}
			if err := oneOf("-o", output, "table", "json"); err != nil {
				return err
			}
			return a.notifyTest(cmd.Context(), append(args, "")[0], output == "json")
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *app) notifyTest(ctx context.Context, channel string, asJSON bool) error {
	got, err := a.client().TestNotify(ctx, channel)
	if err != nil {
		return err
	}
	t := table{header: []string{"CHANNEL", "TYPE", "TOOK", "RESULT"}, paint: -1, whole: true}
	failed := 0
	for _, r := range got.Results {
		result := "sent"
		if r.Error != "" {
			result = "failed: " + cut(r.Error, errorMost)
			failed++
		}
		t.rows = append(t.rows, []string{r.Channel, r.Type, span(r.Took.Round(time.Millisecond)), result})
	}
	if asJSON {
		err = writeJSON(a.out, got)
	} else {
		err = t.write(a.out, a.terminal(), true, a.clean)
	}
	if err == nil && failed > 0 {
		err = hinted(fmt.Errorf("%d of %s failed", failed, plural(len(got.Results), "channel")), "mend it and try again: the file of a secret is read anew, the configuration when defib restarts")
	}
	return err
}

// errorMost is how much of what a service says is shown, in characters.
const errorMost = 300

// channelNames completes the names of channels.
func (a *app) channelNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	got, err := a.client().Notify(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, c := range got.Channels {
		out = append(out, cobra.CompletionWithDesc(c.Name, c.Type))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) notifyQueueCmd() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "How the channels do, and which messages wait",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("-o", output, "table", "json"); err != nil {
				return err
			}
			got, err := a.client().Notify(cmd.Context())
			switch {
			case err != nil:
				return err
			case output == "json":
				return writeJSON(a.out, got)
			case len(got.Channels) == 0:
				return hinted(errors.New("no channel is configured: nobody is told of anything"), "config.yaml.example shows how, under notify:")
			}
			return a.notifyQueue(got)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *app) notifyQueue(got api.Notify) error {
	if err := channelTable(got.At, got.Channels).write(a.out, a.terminal(), true, a.clean); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	if len(got.Queue) == 0 {
		fmt.Fprintln(a.out, "No message waits.")
		return nil
	}
	t := table{header: []string{"CHANNEL", "INCIDENT", "MESSAGE", "SINCE", "NEXT", "TRIES", "LAST ERROR"}, paint: -1}
	for _, w := range got.Queue {
		next := "now"
		if left := w.NotBefore.Sub(got.At); left >= time.Second {
			next = "in " + span(left.Truncate(time.Second))
		}
		t.rows = append(t.rows, []string{
			w.Channel, w.Incident, string(w.Kind), ago(got.At, w.Since), next, strconv.Itoa(w.Attempts), orDash(w.LastError),
		})
	}
	return t.write(a.out, a.terminal(), true, a.clean)
}

func channelTable(now time.Time, channels []notify.ChannelStatus) table {
	t := table{header: []string{"CHANNEL", "TYPE", "FROM", "STATE", "WAITING", "SENT", "FAILED", "LAST SENT", "LAST ERROR"}, paint: -1}
	for _, c := range channels {
		lastErr := c.LastError
		if c.ParkedWhy != "" {
			lastErr = c.ParkedWhy
		}
		t.rows = append(t.rows, []string{
			c.Name, c.Type, string(c.MinLevel), channelState(c), strconv.Itoa(c.Waiting),
			strconv.FormatUint(c.Sent, 10), strconv.FormatUint(failures(c), 10), ago(now, c.LastSent), orDash(lastErr),
		})
	}
	return t
}

// channelState is how a channel does, in a word.
func channelState(c notify.ChannelStatus) string {
	switch {
	case !c.Parked.IsZero():
		return "PARKED"
	case !c.Refused.IsZero():
		return "REFUSES"
	case !c.Silent.IsZero():
		return "SILENT"
	case c.LastError != "":
		return "FAILING"
	}
	return "OK"
}

func failures(c notify.ChannelStatus) uint64 {
	var n uint64
	for _, k := range c.Failed {
		n += k
	}
	return n
}

// channelTrouble is what people should know of a channel whatever they look
// at.
func channelTrouble(now time.Time, c notify.ChannelStatus) string {
	if !c.Parked.IsZero() {
		return fmt.Sprintf("Channel %s is parked since %s, and tells nobody: %s. Mend the file of its secret, or the configuration and restart defib; `defib notify test %s` tries it.",
			c.Name, ago(now, c.Parked), orDash(cut(c.ParkedWhy, errorMost)), c.Name)
	}
	if !c.Refused.IsZero() {
		return fmt.Sprintf("Channel %s does not take a call for somebody since %s: %s. It goes to every other channel, and is tried again every 30 min; `defib notify queue` shows it.",
			c.Name, ago(now, c.Refused), orDash(cut(c.LastError, errorMost)))
	}
	if !c.Silent.IsZero() {
		return fmt.Sprintf("Channel %s is out of reach since %s: %s. What needs somebody goes to every other channel; `defib notify test %s` tries it.",
			c.Name, ago(now, c.Silent), orDash(cut(c.LastError, errorMost)), c.Name)
	}
	text := fmt.Sprintf("Channel %s: %s, the oldest since %s", c.Name, waits(c.Waiting), ago(now, c.Oldest))
	if c.LastError != "" {
		text += "; the last error: " + cut(c.LastError, errorMost)
	}
	return text + ". `defib notify queue` shows more."
}

func waits(n int) string {
	if n == 1 {
		return "1 message waits"
	}
	return strconv.Itoa(n) + " messages wait"
}
