package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// greetMax is how many containers of a kind the greeting names.
const greetMax = 20

// settleProcess makes this process a small one that outlives the reader of its
// log.
func settleProcess(getenv func(string) string) {
	signal.Ignore(syscall.SIGPIPE)
	if getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// greeting says at the start what is watched, what is not, and why.
type greeting struct {
	w     *watcher.Watcher
	s     config.Settings
	log   *slog.Logger
	out   io.Writer
	clean func(string) string
	tell  func(ctx context.Context, text string) // tells people; nil: nobody is to know
}

// say waits until every container has been looked at, notes that there was
// contact, then speaks once: in plain text or in one line of the log, and to
// people.
func (g *greeting) say(ctx context.Context, text bool, contact *atomic.Bool) {
	g.log.Info("defib starts", "socket", g.s.Socket, "state_dir", g.s.StateDir, "host", g.s.Host, "observe", g.s.Config.Policy.Observe)
	if text := api.Barred(g.s.Socket, g.s.Config.API.Group); text != "" {
		g.log.Warn("socket out of reach", "problem", text)
	}
	v := g.synced(ctx)
	if v == nil {
		return
	}
	contact.Store(true)
	if text {
		fmt.Fprint(g.out, g.page(v))
	} else {
		g.log.Info("watching", g.attrs(v)...)
	}
	if g.tell != nil {
		g.tell(ctx, inShort(v))
	}
	debug.FreeOSMemory() // the first look at everything is the largest piece of work
}

// synced returns the first view in which every container has been looked at;
// nil when ctx ended before.
func (g *greeting) synced(ctx context.Context) *watcher.View {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for c := range g.w.Subscribe(ctx) {
		if c.Event.Kind == policy.KindSynced {
			break
		}
	}
	for ctx.Err() == nil { // the view follows within 100 ms
		if v := g.w.View(); v != nil && v.Host.Synced {
			return v
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (g *greeting) attrs(v *watcher.View) []any {
	watched, others, healers := []string{}, []string{}, []string{}
	for _, u := range first(v.Units) {
		watched = append(watched, g.clean(u.Name))
	}
	for _, o := range first(v.Host.Others) {
		others = append(others, cut(g.clean(o.Name+": "+o.Why), lastMax))
	}
	for _, h := range first(v.Host.Engine.Healers) {
		healers = append(healers, g.clean(healer(h)))
	}
	return []any{
		"containers", len(v.Units), "watched", watched, "not_containers", len(v.Host.Others), "not_watched", others,
		"healers", healers, "engine", v.Host.Engine.Version, "engine_host", g.clean(v.Host.Engine.Name),
		"gpus", len(v.GPUs), "gpu_driver", string(v.Host.GPU.Driver.State), "gpu_note", g.clean(gpuGreeting(g.s.Config.GPU, v)),
		"socket", g.s.Socket, "observe", v.Observe,
	}
}

func first[T any](list []T) []T { return list[:min(len(list), greetMax)] }

// page is the greeting for people.
func (g *greeting) page(v *watcher.View) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(cut(g.clean(fmt.Sprintf(format, args...)), lastMax) + "\n")
	}
	more := func(n int) {
		if n > greetMax {
			line("    … and %d more: defib status -a", n-greetMax)
		}
	}
	b.WriteString("\n")
	line("defib watches %s of %s (Docker %s)", plural(len(v.Units), "container"), v.Host.Engine.Name, v.Host.Engine.Version)
	for _, u := range first(v.Units) {
		line("    %-24s by %s%s", u.Name, u.Managed, modeNote(v, u))
	}
	more(len(v.Units))
	if len(v.Units) == 0 {
		line("    Add the label defib.enable=true to a container, or use --all.")
	}
	if n := len(v.Host.Others); n > 0 {
		line("It does not watch %s", plural(n, "container"))
		for _, o := range first(v.Host.Others) {
			line("    %-24s %s", o.Name, o.Why)
		}
		more(n)
	}
	for _, h := range first(v.Host.Engine.Healers) {
		line("Another healer runs: %s. defib only observes what it watches too.", healer(h))
	}
	if v.Observe {
		line("Observe mode: it does nothing, and says what it would do.")
	}
	line("%s", gpuGreeting(g.s.Config.GPU, v))
	line("Socket %s. To stop all acts, whatever happens: touch %s", g.s.Socket, holdFile(g.s))
	b.WriteString("\n")
	return b.String()
}

// inShort is the greeting for a chat.
func inShort(v *watcher.View) string {
	s := "It watches " + plural(len(v.Units), "container")
	if n := len(v.GPUs); n > 0 {
		s += " and " + plural(n, "GPU")
	}
	switch n := len(v.Host.Others); n {
	case 0:
	case 1:
		s += "; 1 container is not watched"
	default:
		s += fmt.Sprintf("; %d containers are not watched", n)
	}
	if v.Observe {
		s += "; it only observes"
	}
	return s
}

func healer(h policy.Healer) string {
	on := "on label " + h.Label
	if h.Label == "all" {
		on = "on every container"
	}
	return h.Name + " (" + h.Kind + ", " + on + ")"
}

// modeNote says of one unit that it is only observed, when not all are.
func modeNote(v *watcher.View, u policy.Status) string {
	if u.Mode == policy.ModeAct || v.Observe {
		return ""
	}
	return "; " + strings.Join(u.WhyNot, "; ")
}
