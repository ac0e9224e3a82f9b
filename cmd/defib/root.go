package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
	"github.com/defib-dev/defib/watcher/engine"
	"github.com/defib-dev/defib/watcher/mask"
)

// The exit codes, those of systemctl and supervisorctl.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotWell     = 3 // status: something does not run well, or was given up
	exitUnreachable = 4 // no daemon answers, or it does not know the name
	exitPermission  = 5
	exitInterrupted = 130
)

// run is the whole program: it carries out one command line and returns the
// exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := newApp(os.Stdin, stdout, stderr, os.Getenv)
	a.environ = os.Environ()
	return a.run(ctx, args)
}

// app is what the commands share.
type app struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	getenv  func(string) string
	environ []string            // all variables, only to find those that are called wrongly
	clean   func(string) string // makes one harmless line of a text

	socket string // --socket
	color  string // --color
	begun  bool   // the command line was understood, and its command runs
}

func newApp(in io.Reader, stdout, stderr io.Writer, getenv func(string) string) *app {
	masker, err := mask.New(nil)
	if err != nil {
		panic(err) // the built-in patterns do not compile
	}
	return &app{in: in, out: stdout, err: stderr, getenv: getenv, clean: masker.Line}
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root() //nolint:contextcheck // cobra hands each command its context
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return a.exit(ctx, root.ExecuteContext(ctx))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "defib",
		Short: "Keeps the containers of this Docker host alive",
		Long: `defib watches the containers of this Docker host. It restarts what has failed,
carefully and with growing pauses, and says what it does and why.

Begin with ` + "`defib run --observe`" + `: it acts on nothing and says what it would do.
It watches containers that carry the label defib.enable=true.`,
		Args: knownCommand, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := oneOf("--color", a.color, "auto", "always", "never"); err != nil {
				return err
			}
			a.begun = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "unix socket of the daemon (default $DEFIB_SOCKET, else the usual place)")
	root.PersistentFlags().StringVar(&a.color, "color", "auto", "auto, always or never")
	root.AddGroup(&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "act", Title: "Act:"},
		&cobra.Group{ID: "hold", Title: "Stop defib from acting:"}, &cobra.Group{ID: "tell", Title: "Messages:"}, &cobra.Group{ID: "daemon", Title: "The daemon:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("look", a.statusCmd(), a.describeCmd(), a.eventsCmd(), a.incidentsCmd(), a.incidentCmd(), a.gpusCmd(), a.explainCmd(), a.metricsCmd())
	add("act", a.restartCmd(), a.stopCmd(), a.retryCmd())
	add("hold", a.holdCmd(), a.releaseCmd())
	add("tell", a.notifyCmd(), a.ackCmd(), a.silenceCmd())
	add("daemon", a.runCmd(), a.configCmd(), a.stateCmd(), a.healthcheckCmd(), a.versionCmd())
	root.AddCommand(a.gpuProbeCmd())
	root.SetGlobalNormalizationFunc(oldNames)
	return root
}

// oldNames: every order takes its reason by -m; --why is what some had before.
func oldNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "why" {
		name = "message"
	}
	return pflag.NormalizedName(name)
}

// knownCommand refuses what is left of the command line when it named none.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden { // not for people
			names = append(names, c.Name())
		}
	}
	hint := "`" + cmd.CommandPath() + " --help` lists the commands"
	if near := suggest.Closest(args[0], names); near != "" {
		hint = "did you mean " + cmd.CommandPath() + " " + near + "?"
	}
	return usage(fmt.Sprintf("there is no command %q", args[0]), hint)
}

// one wants exactly one argument.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage(cmd.CommandPath()+" takes one "+what, "")
		}
		return nil
	}
}

// client talks to the daemon.
func (a *app) client() *api.Client { return api.NewClient(a.socketPath()) }

func (a *app) socketPath() string {
	flags := map[string]string{}
	if a.socket != "" {
		flags["socket"] = a.socket
	}
	return config.ClientSocket(config.Input{Flags: flags, Getenv: a.getenv, UID: os.Getuid(), Exists: exists})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// names completes the names of containers by what the daemon watches.
func (a *app) names(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	st, err := a.client().Status(ctx, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, 0, len(st.Units))
	for _, u := range st.Units {
		out = append(out, cobra.CompletionWithDesc(a.clean(u.Name), stateWord(u)))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// firstName is names for commands that take one.
func (a *app) firstName(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.names(cmd, args, part)
}

// codeError ends the program with a code and, if text is not empty, says why.
type codeError struct {
	code       int
	text, hint string
}

func (e *codeError) Error() string { return e.text }

// quiet ends the program with a code and says nothing more.
func quiet(code int) error { return &codeError{code: code} }

// usage is a mistake in the command line.
func usage(text, hint string) error { return &codeError{exitUsage, text, hint} }

// oneOf wants a flag to have one of two values or more.
func oneOf(flag, have string, want ...string) error {
	if slices.Contains(want, have) {
		return nil
	}
	last := len(want) - 1
	return usage(fmt.Sprintf("%s: want %s or %s, have %q", flag, strings.Join(want[:last], ", "), want[last], have), "")
}

// hinted is an error with the way out of it.
func hinted(err error, hint string) error { return &codeError{exitFailed, err.Error(), hint} }

// exit prints what went wrong and returns the code for it.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	code, hint := a.classify(err)
	if text := err.Error(); text != "" {
		fmt.Fprintln(a.err, "defib: "+a.lines(text))
	}
	if hint != "" {
		fmt.Fprintln(a.err, "  "+a.clean(hint))
	}
	return code
}

// lines cleans a text of several lines.
func (a *app) lines(text string) string {
	out := strings.Split(text, "\n")
	for i := range out {
		out[i] = a.clean(out[i])
	}
	return strings.Join(out, "\n")
}

func (a *app) classify(err error) (code int, hint string) {
	var coded *codeError
	var unreachable *api.UnreachableError
	var unknown *api.UnknownError
	var denied *api.PermissionError
	var refused *api.RefusedError
	var engineDenied *engine.PermissionError
	switch {
	case errors.As(err, &coded):
		return coded.code, coded.hint
	case !a.begun:
		return exitUsage, "`defib --help` lists the commands, and each takes --help too"
	case errors.As(err, &unreachable):
		return exitUnreachable, unreachable.Hint
	case errors.As(err, &unknown):
		return exitUnreachable, unknown.Hint
	case errors.As(err, &denied):
		return exitPermission, denied.Hint
	case errors.As(err, &engineDenied):
		return exitPermission, ""
	case errors.As(err, &refused):
		return exitFailed, refused.Hint
	}
	return exitFailed, ""
}
