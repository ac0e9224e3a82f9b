package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/gpu/nvml"
)

// The probe holds little: a few hundred bytes for each GPU and process. Its
// heap is kept small, since it runs as long as the daemon does.
const (
	probeMemory = 8 << 20 // bytes of heap at which Go collects in earnest
	probeGC     = 25      // per cent of growth between two collections
)

// gpuProbeCmd is the child that the daemon starts to talk to the NVIDIA
// driver. Its stdout belongs to the protocol.
func (a *app) gpuProbeCmd() *cobra.Command {
	var o nvml.ServeOptions
	cmd := &cobra.Command{
		Use:    "gpu-probe",
		Short:  "Talk to the NVIDIA driver on behalf of the daemon, which starts this itself",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			debug.SetMemoryLimit(probeMemory)
			debug.SetGCPercent(probeGC)
			return nvml.Serve(cmd.Context(), a.in, a.out, o)
		},
	}
	cmd.Flags().StringVar(&o.Library, "library", "", "path of libnvidia-ml.so.1")
	return cmd
}
