package main

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/actions"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/engine"
	"github.com/defib-dev/defib/watcher/journal"
	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

func (a *app) runCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch the containers of this host, and repair what has failed",
		Long: `Watch the containers of this host, and repair what has failed.

Watched are containers with one of the labels defib.enable=true, autoheal=true
and deunhealth.restart.on.unhealthy=true; with --all every one that does not opt
out. Begin with --observe: it does nothing and says what it would do.

Every flag has a variable: --state-dir is DEFIB_STATE_DIR. A flag beats the
variable, which beats the file of --config.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settings(cmd.Flags())
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), s)
		},
	}
	daemonFlags(cmd.Flags())
	return cmd
}

// serve is the daemon: everything is made here, in the order in which each
// needs the one before. It returns nil when ctx ended.
func (a *app) serve(ctx context.Context, s config.Settings) error {
	log := a.openLog(s)
	settleProcess(a.getenv)
	now := watcher.Clock()
	masker, err := mask.New(s.Config.Mask)
	if err != nil {
		return err
	}
	jr, saved, err := journal.Open(s.StateDir, journal.Options{Mask: masker, Log: log, Now: now()})
	if err != nil {
		return err
	}
	defer jr.Close() // a second Close does nothing
	eng, err := engine.New(engine.Options{
		Host: s.Host, Log: log, Mask: masker.Line, Watch: optIn(s.Config.Policy), Now: now, Generation: saved.Host.Generation,
	})
	if err != nil {
		return err
	}
	loop := &lateLoop{}
	gpus, err := newGPUs(s, loop.view, log, now)
	if err != nil {
		return err
	}
	tell, err := newTelling(s, a.getenv, jr, loop, masker.Line, log, now)
	if err != nil {
		return err
	}
	defer tell.close() // a second one does nothing, either
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	first := &firstContact{Source: eng, refused: stop}
	w := watcher.New(watcher.Options{
		Machine: policy.Restore(s.Config.Policy, numbered(saved, hostName()+s.StateDir)), Journal: jr, Sources: append(gpus.sources(), first),
		Executor: actions.New(gpus.execute(s, actions.Options{
			Engine: docker(eng), Exec: execer(eng), Inspect: eng.Inspect, Mask: masker, Log: log, Now: now,
		})),
		Log: log, Now: now, BootID: bootID(), Observe: s.Config.Policy.Observe,
		HoldFile: holdFile(s), Told: tell.told(), Alarm: tell.alarm(), Calm: tell.calm(),
	})
	loop.w = w
	ln, err := api.Listen(ctx, s.Socket, s.Config.API.Group)
	if err != nil {
		return err
	}
	scrape := exposition(s, w, gpus.live(), tell.channels(), log, now)
	srv := api.New(api.Options{
		Loop: w, Archive: archive{jr, s.StateDir}, Log: log, Now: now, Build: build(), LiveGPUs: gpus.live(), Metrics: scrape,
		Notifier: tell.server(),
	})
	hello := &greeting{w: w, s: s, log: log, out: a.err, clean: masker.Line, tell: tell.hello(s.Config.Notify)}
	figures, err := serveMetrics(ctx, s, scrape, log, stop)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	err = together(ctx, stop, w.Run, figures, gpus.run, tell.run,
		func(ctx context.Context) { stop(srv.Serve(ctx, ln)) },
		func(ctx context.Context) { hello.say(ctx, a.textLogs(s), &first.made) })
	return errors.Join(err, tell.close(), jr.Close())
}

// together runs main with what goes on beside it, and ends that with it. Its
// error is main's, and why ctx was ended if that was no wish of ours.
func together(ctx context.Context, stop func(error), main func(context.Context) error, beside ...func(context.Context)) error {
	var owned sync.WaitGroup
	for _, run := range beside {
		owned.Go(func() { run(ctx) })
	}
	err := main(ctx)
	stop(nil)
	owned.Wait()
	if why := context.Cause(ctx); !errors.Is(why, context.Canceled) {
		err = errors.Join(err, why)
	}
	return err
}

// firstContact ends defib when the engine can never be used as things stand:
// it refuses us, or is of the wrong age. One that is absent is waited for, and
// once there was contact everything is.
type firstContact struct {
	watcher.Source
	refused func(error)
	made    atomic.Bool
}

// Watch implements [watcher.Source].
func (f *firstContact) Watch(ctx context.Context, out chan<- policy.Event) error {
	err := f.Source.Watch(ctx, out)
	var denied *engine.PermissionError
	var age *engine.VersionError
	if !f.made.Load() && (errors.As(err, &denied) || errors.As(err, &age)) {
		f.refused(err)
	}
	return err
}

// archive is the journal as the commands read it.
type archive struct {
	*journal.Journal
	dir string
}

// ReadEvents implements [api.Archive].
func (a archive) ReadEvents(since time.Time, each func(watcher.Record) error) error {
	a.Flush() // what was committed in the last second
	return journal.ReadEvents(a.dir, since, each)
}

// docker hands the actions the client of the present connection.
func docker(eng *engine.Engine) func() actions.Docker {
	return func() actions.Docker {
		if c := eng.Client(); c != nil {
			return c
		}
		return nil
	}
}

// execer hands them the same to run a health check with.
func execer(eng *engine.Engine) func() actions.Execer {
	return func() actions.Execer {
		if c := eng.Client(); c != nil {
			return c
		}
		return nil
	}
}

// holdFile stops every act as long as it exists; it works when nothing else
// does.
func holdFile(s config.Settings) string { return filepath.Join(filepath.Dir(s.Socket), "hold-all") }

// numbered lets incidents begin elsewhere on each host: whoever takes one in a
// chat that several share is not to take another's.
func numbered(saved policy.Snapshot, of string) policy.Snapshot {
	if saved.Host.Incidents == 0 && saved.Host.FirstID == 0 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(of)) // never fails
		saved.Host.FirstID = uint64(h.Sum32())
	}
	return saved
}

// bootID tells one boot of the host from the next; "" where the kernel does
// not say.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// openLog is the log of a daemon that starts. It begins with the variables that
// are not known, for one of them may have been meant to keep it from acting.
func (a *app) openLog(s config.Settings) *slog.Logger {
	log := a.logger(s)
	for _, text := range config.Unknown(a.environ, &s.Config.Notify) {
		log.Warn("unknown variable", "problem", a.clean(text))
	}
	return log
}

// logger writes to stderr: text on a terminal, JSON otherwise.
func (a *app) logger(s config.Settings) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.LogLevel}
	if a.textLogs(s) {
		return slog.New(slog.NewTextHandler(a.err, o))
	}
	return slog.New(slog.NewJSONHandler(a.err, o))
}

func (a *app) textLogs(s config.Settings) bool {
	return s.LogFormat == "text" || s.LogFormat == "auto" && isTerminal(a.err)
}
