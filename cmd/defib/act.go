package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) restartCmd() *cobra.Command {
	var o api.Order
	var yes, noWait bool
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "Restart a container now; it gets full retries",
		Long: `Restart a container now, or start it when it is down. It gets full retries.

An order passes the pauses and the budget that defib keeps to by itself. A hold
on the container stops it, unless it is forced.`,
		Args: one("NAME"), ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Order, o.Unit, o.Wait = policy.OrderRestart, args[0], !noWait
			if !yes {
				if err := a.confirm(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			return a.order(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Force, "force", false, "even when it is held")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	f.StringVarP(&o.Why, "message", "m", "", "a reason, for the record")
	return cmd
}

func (a *app) stopCmd() *cobra.Command {
	var o api.Order
	var noWait bool
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a container and leave it down",
		Long: `Stop a container and leave it down. On one that is down already it means: do
not start it again. (docker stop leaves no trace on such a one.)

One on a GPU that is lost is not stopped unless that is forced: the stop can
hang for good.`,
		Args: one("NAME"), ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Order, o.Unit, o.Wait = policy.OrderStop, args[0], !noWait
			return a.order(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Force, "force", false, "even when the stop can hang")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	cmd.Flags().StringVarP(&o.Why, "message", "m", "", "a reason, for the record")
	return cmd
}

func (a *app) retryCmd() *cobra.Command {
	o := api.Order{Command: policy.Command{Order: policy.OrderRetry}}
	cmd := &cobra.Command{
		Use:   "retry NAME",
		Short: "Try again what was given up, with full retries",
		Args:  one("NAME"), ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Unit = args[0]
			return a.order(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVarP(&o.Why, "message", "m", "", "a reason, for the record")
	return cmd
}

// confirm asks before something that runs is touched.
func (a *app) confirm(ctx context.Context, name string) error {
	d, err := a.client().Unit(ctx, name)
	if err != nil {
		return err
	}
	costs := ""
	if t := loading(d.Unit); t != "" {
		costs = " " + upperFirst(t) + "."
	}
	return a.ask(ctx, fmt.Sprintf("%s is %s since %s, health %s.%s Restart it?",
		d.Unit.Name, stateWord(d.Unit), ago(d.At, d.Unit.Since), orDash(d.Unit.Health), costs), "restart")
}

// ask wants a yes on a terminal, and refuses where there is none. what names
// the order in that refusal.
func (a *app) ask(ctx context.Context, question, what string) error {
	if f, ok := a.in.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return usage(what+" asks first, and there is nobody to ask", "say --yes to have it done without a question")
	}
	fmt.Fprint(a.err, a.clean(question)+" [y/N] ")
	answer := make(chan string, 1)
	go func() { // ends with the program at the latest: a read of a terminal cannot be called off
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			line = ""
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s := <-answer:
		if s != "y" && s != "yes" {
			return hinted(errors.New("nothing was done"), "")
		}
	}
	return nil
}

// order gives an order and says what came of it.
func (a *app) order(ctx context.Context, o api.Order) error {
	got, err := a.client().Do(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(a.err, interrupted(o))
		}
		return err
	}
	name := about(o, got)
	switch got.Result {
	case api.Refused:
		return hinted(fmt.Errorf("%s %s: %s", orderWord(o), name, got.Text), "")
	case api.Failed:
		return hinted(fmt.Errorf("%s %s: %s", orderWord(o), name, got.Text), failedHint(o, name))
	case api.Begun:
		fmt.Fprintln(a.out, a.clean(begun(o, got, name)))
	case api.Done:
		fmt.Fprintln(a.out, a.clean(done(o, got, name)))
	}
	return nil
}

// interrupted is the sentence for an order whose answer was not waited for: the
// loop may have taken it, or be stuck on a slow disk and never do.
func interrupted(o api.Order) string {
	shows := "defib status"
	switch {
	case o.GPU != "":
		shows = "defib gpus"
	case o.Incident != "":
		shows = "defib incidents"
	}
	return "It is not known whether the order was taken; `" + shows + "` shows it."
}

// orderWord is an order as people say it.
func orderWord(o api.Order) string {
	if o.Order == policy.OrderReset {
		return "reset"
	}
	return string(o.Order)
}

func failedHint(o api.Order, name string) string {
	if o.Order == policy.OrderReset {
		return "`defib gpus` shows how it is now, `defib events` what was done"
	}
	return "`defib describe " + name + "` shows what comes next"
}

// begun is the sentence for an order that nobody waited for.
func begun(o api.Order, got api.Answer, name string) string {
	text := fmt.Sprintf("%s: %s is under way.", name, orderWord(o))
	if o.Order == policy.OrderReset {
		if got.Text != "" {
			text = sentenceOf(got.Text, "")
		}
		text += " `defib gpus` shows how far it is."
	}
	return text
}

// about names what an order was about.
func about(o api.Order, got api.Answer) string {
	switch {
	case got.Unit != nil:
		return got.Unit.Name
	case got.GPU != nil:
		return "GPU " + gpuIndex(*got.GPU)
	case o.Incident != "":
		return incidentID(o.Incident)
	case o.GPU == api.AllGPUs:
		return "every GPU"
	case o.GPU != "":
		return "GPU " + o.GPU
	case o.All:
		return "the host"
	case o.Project != "":
		return "project " + o.Project
	}
	return o.Unit
}

// done is the sentence for an order that was carried out.
func done(o api.Order, got api.Answer, name string) string {
	if o.Order == policy.OrderAck {
		return ackDone(o, got.Text)
	}
	verb := map[policy.Order]string{policy.OrderRestart: "restarted", policy.OrderStop: "stopped"}[o.Order]
	if verb == "" || got.Text != "" {
		return sentenceOf(got.Text, string(o.Order)+": done")
	}
	text := fmt.Sprintf("%s: %s in %s.", name, verb, span(got.Took.Round(100*time.Millisecond)))
	if o.Order == policy.OrderRestart {
		text += " `defib status -w` shows how it comes up."
	}
	return text
}

// sentenceOf ends a text with a full stop, and has one for an empty text.
func sentenceOf(text, otherwise string) string {
	if text == "" {
		text = otherwise
	}
	return strings.TrimSuffix(text, ".") + "."
}

// upperFirst begins text, which is not empty, with a capital.
func upperFirst(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[n:]
}
