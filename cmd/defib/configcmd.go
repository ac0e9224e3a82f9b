package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/defib-dev/defib/cmd/defib/internal/config"
)

func (a *app) configCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, or show what is in effect",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configCheckCmd(), a.configShowCmd())
	return cmd
}

func (a *app) configCheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Look for mistakes in a file, all at once",
		Long: `Look for mistakes in a file, by default the one that DEFIB_CONFIG names, and whether
every secret, group and template that it names can be read and used. Needs no
daemon, and sends nothing. Run it as the daemon runs: it warns of what is not
there, and of variables that are not known.`,
		RunE: func(_ *cobra.Command, args []string) error {
			file := a.getenv(config.Env("config"))
			if len(args) > 0 {
				file = args[0]
			}
			if file == "" || len(args) > 1 {
				return usage("config check takes one FILE", "config.yaml.example in the sources shows what it may hold")
			}
			return a.check(file)
		},
	}
}

// mistakes prints the problems of a file as they are, with their places at the
// beginning of a line.
func (a *app) mistakes(err error) error {
	var ps config.FileErrors
	if !errors.As(err, &ps) {
		return err
	}
	fmt.Fprintln(a.err, ps.Error())
	return hinted(mistaken(len(ps)), "")
}

func (a *app) configShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "What `defib run` would use with these flags, and where each value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settings(cmd.Flags())
			if err != nil {
				return err
			}
			return s.Show(a.out)
		},
	}
	daemonFlags(cmd.Flags())
	return cmd
}

// daemonFlags are the settings that `defib run` takes. Each has a variable:
// DEFIB_STATE_DIR is --state-dir.
func daemonFlags(f *pflag.FlagSet) {
	f.String("config", "", "configuration file; see config.yaml.example")
	f.String("state-dir", "", "where state is kept (default /var/lib/defib for root, else ~/.local/state/defib); the socket goes there too unless --socket says where")
	f.String("socket-group", "", "group that may use the socket, as a name or a number")
	f.String("host", "", "the Docker engine (default $DOCKER_HOST, else unix:///var/run/docker.sock)")
	f.Bool("all", false, "watch every container that does not opt out")
	f.Bool("observe", false, "say what would be done, and do nothing")
	f.String("log-format", "", "auto, text or json (default auto: text on a terminal, else json)")
	f.String("log-level", "", "debug, info, warn or error (default info)")
}

// input is what settings are resolved from, with the flags that were given.
func (a *app) input(f *pflag.FlagSet) config.Input {
	given := map[string]string{}
	f.Visit(func(flag *pflag.Flag) { given[flag.Name] = flag.Value.String() })
	return config.Input{Flags: given, Getenv: a.getenv, UID: os.Getuid(), Exists: exists}
}

// settings resolves what the daemon runs with.
func (a *app) settings(f *pflag.FlagSet) (config.Settings, error) {
	s, err := config.Resolve(a.input(f))
	if err != nil {
		return s, a.mistakes(err)
	}
	return s, nil
}
