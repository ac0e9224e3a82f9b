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
	f.StringVar(&o.Why, "why", "", "a reason, for the record")
	return cmd
}

func (a *app) stopCmd() *cobra.Command {
	var o api.Order
	var noWait bool
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a container and leave it down",
		Long: `Stop a container and leave it down. On one that is down already it means: do
not start it again. (docker stop leaves no trace on such a one.)`,
		Args: one("NAME"), ValidArgsFunction: a.firstName,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Order, o.Unit, o.Wait = policy.OrderStop, args[0], !noWait
			return a.order(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	cmd.Flags().StringVar(&o.Why, "why", "", "a reason, for the record")
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
	cmd.Flags().StringVar(&o.Why, "why", "", "a reason, for the record")
	return cmd
}

// confirm asks before something that runs is touched.
func (a *app) confirm(ctx context.Context, name string) error {
	d, err := a.client().Unit(ctx, name)
	if err != nil {
		return err
	}
	if f, ok := a.in.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return usage("restart asks first, and there is nobody to ask", "say -y to restart without a question")
	}
	fmt.Fprintf(a.err, "%s is %s since %s, health %s. Restart it? [y/N] ",
		a.clean(d.Unit.Name), stateWord(d.Unit), ago(d.At, d.Unit.Since), orDash(a.clean(d.Unit.Health)))
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
		if ctx.Err() != nil && o.Wait {
			fmt.Fprintln(a.err, "The order stands; `defib status` shows how it goes.")
		}
		return err
	}
	name := about(o, got)
	switch got.Result {
	case api.Refused:
		return hinted(fmt.Errorf("%s %s: %s", o.Order, name, got.Text), "")
	case api.Failed:
		return hinted(fmt.Errorf("%s %s: %s", o.Order, name, got.Text), "`defib describe "+name+"` shows what comes next")
	case api.Begun:
		fmt.Fprintln(a.out, a.clean(fmt.Sprintf("%s: %s is under way.", name, o.Order)))
	case api.Done:
		fmt.Fprintln(a.out, a.clean(done(o, got, name)))
	}
	return nil
}

// about names what an order was about.
func about(o api.Order, got api.Answer) string {
	switch {
	case got.Unit != nil:
		return got.Unit.Name
	case o.All:
		return "the host"
	case o.Project != "":
		return "project " + o.Project
	}
	return o.Unit
}

// done is the sentence for an order that was carried out.
func done(o api.Order, got api.Answer, name string) string {
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
