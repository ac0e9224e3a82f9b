package nvml

import "time"

// ServeOptions is what the child is made of; all of it has defaults.
type ServeOptions struct {
	Library  string        // path of libnvidia-ml.so.1; empty: where the loader finds it
	PCIPath  string        // the kernel's list of devices; /sys/bus/pci/devices
	ProcPath string        // the driver's list of GPUs; /proc/driver/nvidia/gpus
	Wait     time.Duration // one wait for events, which cannot be cut short; 1 s
	Grace    time.Duration // in which, after Wait, every call must have returned at the end; 2 s
}

func (o ServeOptions) withDefaults() ServeOptions {
	if o.PCIPath == "" {
		o.PCIPath = busPath
	}
	if o.ProcPath == "" {
		o.ProcPath = "/proc/driver/nvidia/gpus"
	}
	if o.Wait <= 0 {
		o.Wait = time.Second
	}
	if o.Grace <= 0 {
		o.Grace = 2 * time.Second
	}
	return o
}
