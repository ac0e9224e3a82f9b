package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) eventsCmd() *cobra.Command {
	var since, output string
	var follow bool
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "What happened, what defib decided, and why",
		Long: `What happened, what defib decided, and why. NAME may be that of a container that
has been removed: the log is searched for it.`,
		Example: `  defib events --since 10m
  defib events -f web
  defib events -f -o json | jq .decisions`,
		ValidArgsFunction: a.firstName,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("defib events takes one NAME, or none for all", "")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			back, err := parseSpan("--since", since)
			if err != nil {
				return err
			}
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			return a.events(cmd.Context(), strings.Join(args, ""), back, follow, output == "json")
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	f.StringVar(&since, "since", "1h", "how far back to begin, as 30m, 24h or 7d")
	f.StringVarP(&output, "output", "o", "text", "text, or json: one document a line")
	return cmd
}

func (a *app) events(ctx context.Context, name string, back time.Duration, follow, asJSON bool) error {
	c := a.client()
	p := &eventPrinter{w: a.out, clean: a.clean, said: map[string]string{}}
	each := p.print
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		each = func(l api.Line) error { return enc.Encode(l) }
	}
	err := c.Events(ctx, back, name, follow, each)
	switch {
	case err == nil && follow && ctx.Err() == nil:
		return &api.UnreachableError{Text: "the daemon stopped", Hint: "start it by `defib run`"}
	case err == nil && !asJSON && p.lines == 0 && !follow:
		fmt.Fprintf(a.err, "Nothing happened in the last %s. `defib events -f` waits for what comes.\n", span(back))
	}
	return err
}

// eventPrinter writes one line for each fact and each decision.
type eventPrinter struct {
	w     io.Writer
	clean func(string) string
	said  map[string]string // the last observation printed of each unit
	names map[string]string // of units, by key
	lines int
}

func (p *eventPrinter) print(l api.Line) error {
	if l.Lost > 0 {
		if err := p.line(l.Event.At, "", fmt.Sprintf("(%s missed: this reader was slow)", plural(l.Lost, "event"))); err != nil {
			return err
		}
	}
	if text := p.news(l.Event); text != "" {
		if err := p.line(l.Event.At, p.name(l.Event), text); err != nil {
			return err
		}
	}
	for _, d := range l.Decisions {
		if d.Verb == policy.VerbInspect || d.Verb == policy.VerbPoll {
			continue
		}
		if err := p.line(d.At, orKey(d.Name, d.Unit), fmt.Sprintf("=> %s [%s] %s", d.Verb, d.Rule, d.Reason)); err != nil {
			return err
		}
	}
	return nil
}

func (p *eventPrinter) line(at time.Time, name, text string) error {
	p.lines++
	_, err := fmt.Fprintf(p.w, "%s  %-20s  %s\n", clock(at), cut(p.clean(orKey(name, "host")), 40), p.clean(text))
	return err
}

// name is what people call the unit of an event.
func (p *eventPrinter) name(ev policy.Event) string {
	if p.names == nil {
		p.names = map[string]string{}
	}
	if ev.Observation != nil && ev.Unit != "" {
		p.names[ev.Unit] = ev.Observation.Name
	}
	if ev.Command != nil {
		return orKey(ev.Command.Unit, ev.Command.Project)
	}
	return orKey(p.names[ev.Unit], ev.Unit)
}

// news is what a fact says, or "" when it says nothing new to a person.
func (p *eventPrinter) news(ev policy.Event) string {
	text := sentence(ev)
	key := ev.Unit
	switch ev.Kind {
	case policy.KindObserved:
	case policy.KindGPUReading:
		key = "\x00gpus" // no unit is called so
	default:
		return text
	}
	if p.said[key] == text {
		return ""
	}
	p.said[key] = text
	return text
}

func orKey(name, key string) string {
	if name != "" {
		return name
	}
	return key
}

// sentence is a fact in words.
func sentence(ev policy.Event) string {
	switch ev.Kind {
	case policy.KindTick:
		return ""
	case policy.KindDaemonStart:
		return "defib started"
	case policy.KindSourceUp:
		return "connected to Docker" + engineName(ev.Engine)
	case policy.KindSourceDown:
		return "lost Docker: " + ev.Reason
	case policy.KindSynced:
		return "every watched container has been looked at"
	case policy.KindObserved:
		return "is " + seen(ev.Observation)
	case policy.KindUnseen:
		return "cannot be looked at: " + ev.Reason
	case policy.KindDie:
		return "died, " + exitWord(&policy.Exit{Code: ev.ExitCode})
	case policy.KindKill:
		return fmt.Sprintf("got signal %d", ev.Signal)
	case policy.KindOutcome:
		return outcome(ev.Outcome)
	case policy.KindCommand:
		return command(ev.Command)
	case policy.KindConfig:
		return "the configuration changed"
	case policy.KindHoldSet, policy.KindHoldCleared:
		return hold(ev)
	case policy.KindCreate, policy.KindStart, policy.KindRestart, policy.KindStop, policy.KindOOM,
		policy.KindPause, policy.KindUnpause, policy.KindRename, policy.KindDestroy:
		return string(ev.Kind)
	case policy.KindGPUDriver, policy.KindGPUReading, policy.KindGPUFault, policy.KindKernelLog, policy.KindExamined:
		return gpuNews(ev)
	}
	return string(ev.Kind)
}

func engineName(e *policy.Engine) string {
	if e == nil {
		return ""
	}
	return " " + e.Version + " on " + e.Name
}

func seen(o *policy.Observation) string {
	if o == nil {
		return "not described"
	}
	text := o.Status
	if o.Health != nil && o.Running {
		text += ", " + o.Health.Status
	}
	if !o.Running && o.Error != "" {
		text += ": " + o.Error
	}
	return text
}

func outcome(o *policy.Outcome) string {
	if o == nil {
		return "done"
	}
	text := string(o.Class) + " after " + span(o.Took)
	if o.Text != "" {
		text += ": " + o.Text
	}
	return text
}

func command(c *policy.Command) string {
	if c == nil {
		return "an order"
	}
	text := string(c.Order) + " ordered"
	if c.By != "" {
		text += " by " + c.By
	}
	if c.Why != "" {
		text += ": " + c.Why
	}
	return text
}

func hold(ev policy.Event) string {
	verb := "held"
	if ev.Kind == policy.KindHoldCleared {
		verb = "no longer held"
	}
	if ev.Hold == nil {
		return verb
	}
	return fmt.Sprintf("%s (%s): %s", verb, ev.Hold.Reason, ev.Hold.Why)
}
