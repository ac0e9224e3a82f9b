package metrics

import (
	"cmp"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// gpuDescs are the metrics of GPUs. The label gpu is the index, as nvidia-smi
// has it, or the address of one that the driver no longer lists; defib_gpu_info
// ties it to the UUID. What the driver does not tell has no series.
type gpuDescs struct {
	driverUp, kernelLog, info, held, recovery, temperature, used, total, faults, lastXid *prometheus.Desc
}

func newGPUDescs() gpuDescs {
	return gpuDescs{
		driverUp:    desc("gpu_driver_up", "Whether the GPU driver answers."),
		kernelLog:   desc("kernel_log_readable", "Whether the driver's lines in the kernel log can be read."),
		info:        desc("gpu_info", "Always 1; the labels say which GPU an index is.", "gpu", "uuid", "pci", "model"),
		held:        desc("gpu_held", "Whether nothing is restarted on a GPU, because it is broken.", "gpu"),
		recovery:    desc("gpu_recovery_action", "What the driver wants done to a GPU: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset, 5 recover the IMEX domain.", "gpu"),
		temperature: desc("gpu_temperature_celsius", "Temperature of a GPU.", "gpu"),
		used:        desc("gpu_memory_used_bytes", "Memory of a GPU that is in use.", "gpu"),
		total:       desc("gpu_memory_total_bytes", "Memory of a GPU.", "gpu"),
		faults:      desc("gpu_recent_faults", "Faults of a GPU in the last 24 hours, at most the newest 32, by how far they reach.", "gpu", "class"),
		lastXid:     desc("gpu_last_xid", "Number of the newest Xid of a GPU.", "gpu"),
	}
}

func (d gpuDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.driverUp, d.kernelLog, d.info, d.held, d.recovery, d.temperature, d.used, d.total, d.faults, d.lastXid}
}

func (c *collector) gpus(s sink, v *watcher.View) {
	driver, list := api.Newest(v, c.o.LiveGPUs)
	s.gauge(c.gpu.driverUp, truth(driver.State == gpu.DriverUp))
	if c.o.KernelLog {
		s.gauge(c.gpu.kernelLog, truth(v.Host.GPU.KernelLog == ""))
	}
	seen := map[string]bool{}
	for _, g := range list {
		name := label(strconv.Itoa(g.Index))
		if g.Index < 0 {
			name = label(cmp.Or(g.PCI, g.UUID))
		}
		if seen[name] {
			continue // a series twice would spoil the scrape
		}
		seen[name] = true
		c.oneGPU(s, name, g, faultsOf(v, g.UUID))
	}
}

func (c *collector) oneGPU(s sink, index string, g policy.GPUStatus, faults []gpu.Fault) {
	r := g.Reading
	s.gauge(c.gpu.info, 1, index, label(g.UUID), label(g.PCI), label(g.Name))
	s.gauge(c.gpu.held, truth(g.Hold != nil), index)
	if r.Recovery != nil {
		s.gauge(c.gpu.recovery, float64(*r.Recovery), index)
	}
	if r.Temperature > 0 {
		s.gauge(c.gpu.temperature, float64(r.Temperature), index)
	}
	if r.Total > 0 {
		s.gauge(c.gpu.used, float64(r.Used), index)
		s.gauge(c.gpu.total, float64(r.Total), index)
	}
	n, last := map[string]int{}, 0
	for _, f := range faults {
		n[class(f)]++
		if f.Kind == gpu.FaultXid && f.Code > 0 {
			last = f.Code
		}
	}
	for _, name := range []string{classApp, classGPU, classHost, classOther} {
		s.gauge(c.gpu.faults, float64(n[name]), index, name)
	}
	if last > 0 {
		s.gauge(c.gpu.lastXid, float64(last), index)
	}
}

// The classes of faults.
const (
	classApp   = "app"
	classGPU   = "gpu"
	classHost  = "host"
	classOther = "other" // it reaches nobody, or nobody knows how far
)

func class(f gpu.Fault) string {
	switch f.Kind {
	case gpu.FaultBusLoss, gpu.FaultMismatch:
		return classHost
	case gpu.FaultInit, gpu.FaultSXid, gpu.FaultECC:
		return classGPU
	case gpu.FaultXid:
	}
	switch gpu.Lookup(f.Code).Scope {
	case gpu.ScopeApp:
		return classApp
	case gpu.ScopeGPU:
		return classGPU
	case gpu.ScopeHost:
		return classHost
	case gpu.ScopeNone:
	}
	return classOther
}

func faultsOf(v *watcher.View, uuid string) []gpu.Fault {
	for _, g := range v.Host.GPU.GPUs {
		if g.UUID == uuid {
			return g.Faults
		}
	}
	return nil
}
