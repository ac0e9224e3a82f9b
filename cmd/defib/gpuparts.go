package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/defib-dev/defib/actions"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/gpu/kmsg"
	"github.com/defib-dev/defib/gpu/nvml"
	"github.com/defib-dev/defib/gpu/proc"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// gpuParts are what knows of GPUs: the driver's probe, the kernel log, and whose
// the processes on them are.
type gpuParts struct {
	probe *nvml.Probe
	log   *kmsg.Log
	procs *proc.Table
}

// newGPUs makes the parts; nil when the configuration says that there are no
// GPUs to care for. Without a driver they cost next to nothing. view is the
// newest that the watcher knows; nil: nothing yet.
func newGPUs(s config.Settings, view func() *watcher.View, log *slog.Logger, now func() time.Time) (*gpuParts, error) {
	if !s.Config.GPU.Enabled {
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	g := &gpuParts{}
	g.procs = proc.New(proc.Options{Now: now})
	o := nvml.Options{
		Command: []string{self, "gpu-probe"}, Every: s.Config.GPU.Poll, Log: log, Now: now,
		Process: g.procs.Lookup, Blind: g.procs.Blind, Apart: func() bool { return resetAsked(view()) },
	}
	if lib := s.Config.GPU.Library; lib != "" { // who names the library knows that there is one
		o.Command = append(o.Command, "--library", lib)
		o.DevicePath = lib
	}
	g.probe = nvml.New(o)
	g.log = kmsg.New(kmsg.Options{Path: s.Config.GPU.KernelLog, Process: g.procs.Lookup, Now: now, Log: log})
	return g, nil
}

// resetAsked reports whether a human was asked to reset a GPU, or may do so: it
// is held for what that mends. The driver is then to be let go between looks.
func resetAsked(v *watcher.View) bool {
	return v != nil && slices.ContainsFunc(v.Host.Holds, func(h policy.Hold) bool {
		return h.Reason == policy.HoldGPU && h.Judgement != nil && h.Judgement.ResetMends()
	})
}

// sources are what the watcher follows.
func (g *gpuParts) sources() []watcher.Source {
	if g == nil {
		return nil
	}
	return []watcher.Source{g.probe, &late{Source: g.log, from: g.probe.Found()}}
}

// run keeps the table of processes until ctx ends, from when there is a driver.
func (g *gpuParts) run(ctx context.Context) {
	if g == nil {
		return
	}
	select {
	case <-g.probe.Found():
		g.procs.Run(ctx)
	case <-ctx.Done():
	}
}

// live is what is fresher than the view; nil: nothing is.
func (g *gpuParts) live() api.Live {
	if g == nil {
		return nil
	}
	return g.probe.Latest
}

// execute adds what the actions need of GPUs.
func (g *gpuParts) execute(s config.Settings, o actions.Options) actions.Options {
	if g != nil {
		o.GPU, o.Process, o.ResetCommand = g.probe, g.procs, s.Config.GPU.ResetCommand
	}
	return o
}

// late is a source that is of no use until something else is there: the kernel
// log of a host without a driver says nothing of GPUs.
type late struct {
	watcher.Source
	from <-chan struct{}
}

// Watch implements [watcher.Source].
func (l *late) Watch(ctx context.Context, out chan<- policy.Event) error {
	select {
	case <-l.from:
		return l.Source.Watch(ctx, out)
	case <-ctx.Done():
		return ctx.Err()
	}
}
