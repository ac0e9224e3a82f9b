//go:build cgo

package nvml

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/defib-dev/defib/gpu"
)

// maxProcesses bounds the list of one GPU.
const maxProcesses = 1024

// look is one look at one GPU.
type look struct {
	*server
	nvml.Device
	r    *gpu.Reading
	gone int // the code of a driver that is gone
}

// read looks at one GPU. What its driver does not know stays unknown. code is
// that of a driver which is gone as a whole.
func (s *server) read(d *device, processes bool) (r gpu.Reading, code int) {
	r = gpu.Reading{UUID: d.UUID, SharedMemory: d.shared}
	if !d.listed {
		r.Trouble, r.Detail = gpu.TroubleMissing, "the driver does not list it any more"
		if t, detail := trouble(int(d.code)); t != "" {
			r.Trouble, r.Detail = t, detail
		}
		return r, 0
	}
	l := &look{server: s, Device: d.handle, r: &r}
	steps := []func(){l.memory, l.temperature, l.recovery, l.clocks, l.rows, l.ecc, l.sram, l.fabric}
	if processes {
		steps = append(steps, l.processes)
	}
	for _, step := range steps {
		step()
		if l.gone != 0 || r.Trouble == gpu.TroubleLost {
			break // each further call could wait for a GPU that does not answer
		}
	}
	return r, l.gone
}

// core is for calls that work on every GPU that is well: their codes are about
// the GPU. It reports whether there is an answer.
func (l *look) core(ret nvml.Return) bool {
	if fatal(int(ret)) {
		l.gone = int(ret)
		return false
	}
	if t, detail := trouble(int(ret)); t != "" && (l.r.Trouble == "" || t == gpu.TroubleLost) {
		l.r.Trouble, l.r.Detail = t, detail
	}
	return ret == nvml.SUCCESS
}

// extra is for calls that not every GPU takes: only what cannot be about the
// feature is about the GPU.
func (l *look) extra(ret nvml.Return) bool {
	if ret == nvml.ERROR_GPU_IS_LOST || ret == nvml.ERROR_RESET_REQUIRED || fatal(int(ret)) {
		l.core(ret)
	}
	return ret == nvml.SUCCESS
}

func (l *look) memory() {
	if l.has["nvmlDeviceGetMemoryInfo_v2"] {
		m, ret := l.GetMemoryInfo_v2()
		if l.core(ret) {
			l.r.Used, l.r.Total = m.Used, m.Total
			return
		}
		if ret != nvml.ERROR_NOT_SUPPORTED && ret != nvml.ERROR_ARGUMENT_VERSION_MISMATCH {
			return
		}
	}
	if !l.has["nvmlDeviceGetMemoryInfo"] {
		return
	}
	m, ret := l.GetMemoryInfo() // counts what is reserved as used
	if l.core(ret) {
		l.r.Used, l.r.Total = m.Used, m.Total
	} else if ret == nvml.ERROR_NOT_SUPPORTED { // it has none of its own
		l.r.SharedMemory = true
	}
}

func (l *look) temperature() {
	if l.has["nvmlDeviceGetTemperatureV"] {
		if t, ret := l.GetTemperatureV().V1(); l.core(ret) {
			l.r.Temperature = int(t.Temperature)
			return
		}
	}
	if l.r.Trouble == "" && l.has["nvmlDeviceGetTemperature"] {
		if t, ret := l.GetTemperature(nvml.TEMPERATURE_GPU); l.core(ret) {
			l.r.Temperature = int(t)
		}
	}
}

// recovery asks for what the driver itself wants done; drivers from 565 on
// know.
func (l *look) recovery() {
	if !l.has["nvmlDeviceGetFieldValues"] {
		return
	}
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION, NvmlReturn: uint32(nvml.ERROR_NOT_SUPPORTED)}}
	if !l.extra(l.GetFieldValues(values)) || values[0].NvmlReturn != uint32(nvml.SUCCESS) {
		return
	}
	n := binary.NativeEndian.Uint64(values[0].Value[:])
	if values[0].ValueType == uint32(nvml.VALUE_TYPE_UNSIGNED_INT) || values[0].ValueType == uint32(nvml.VALUE_TYPE_SIGNED_INT) {
		n = uint64(binary.NativeEndian.Uint32(values[0].Value[:]))
	}
	r := gpu.Recovery(n) //nolint:gosec // a small number
	l.r.Recovery = &r
}

// clocks says whether it is slowed down, and why.
func (l *look) clocks() {
	var reasons uint64
	ret := nvml.ERROR_NOT_SUPPORTED
	switch {
	case l.has["nvmlDeviceGetCurrentClocksEventReasons"]:
		reasons, ret = l.GetCurrentClocksEventReasons()
	case l.has["nvmlDeviceGetCurrentClocksThrottleReasons"]: // before 535
		reasons, ret = l.GetCurrentClocksThrottleReasons()
	}
	if !l.extra(ret) {
		return
	}
	l.r.PowerBrake = reasons&nvml.ClocksThrottleReasonHwPowerBrakeSlowdown != 0
	l.r.Hot = reasons&(nvml.ClocksThrottleReasonHwThermalSlowdown|nvml.ClocksEventReasonSwThermalSlowdown) != 0 ||
		reasons&nvml.ClocksThrottleReasonHwSlowdown != 0 && l.atLimit()
}

// atLimit: there is no margin left to the temperature at which it slows down.
func (l *look) atLimit() bool {
	if l.has["nvmlDeviceGetMarginTemperature"] {
		if m, ret := l.GetMarginTemperature(); l.extra(ret) {
			return m.MarginTemperature <= 0
		}
	}
	if !l.has["nvmlDeviceGetTemperatureThreshold"] || l.r.Temperature == 0 {
		return false
	}
	limit, ret := l.GetTemperatureThreshold(nvml.TEMPERATURE_THRESHOLD_SLOWDOWN)
	return l.extra(ret) && l.r.Temperature >= int(limit)
}

// rows is about broken memory: rows that are replaced, or, before Ampere,
// pages that are taken out of use.
func (l *look) rows() {
	if l.has["nvmlDeviceGetRemappedRows"] {
		if _, _, pending, failed, ret := l.GetRemappedRows(); l.extra(ret) {
			l.r.RemapPending, l.r.RemapFailed = pending, failed
			return
		}
	}
	if l.has["nvmlDeviceGetRetiredPagesPendingStatus"] {
		if pending, ret := l.GetRetiredPagesPendingStatus(); l.extra(ret) {
			l.r.RemapPending = pending == nvml.FEATURE_ENABLED
		}
	}
}

func (l *look) ecc() {
	if l.has["nvmlDeviceGetTotalEccErrors"] {
		if n, ret := l.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); l.extra(ret) {
			l.r.Uncorrected, l.r.Counted = n, true
		}
	}
}

func (l *look) sram() {
	if l.has["nvmlDeviceGetSramEccErrorStatus"] {
		if s, ret := l.GetSramEccErrorStatus(); l.extra(ret) {
			l.r.SRAMThreshold = s.BThresholdExceeded != 0
		}
	}
}

func (l *look) fabric() {
	var state uint8
	var status uint32
	ret := nvml.ERROR_NOT_SUPPORTED
	switch {
	case l.has["nvmlDeviceGetGpuFabricInfoV"]:
		var info nvml.GpuFabricInfo_v2
		info, ret = l.GetGpuFabricInfoV().V2()
		state, status = info.State, info.Status
	case l.has["nvmlDeviceGetGpuFabricInfo"]:
		var info nvml.GpuFabricInfo
		info, ret = l.GetGpuFabricInfo()
		state, status = info.State, info.Status
	}
	if !l.extra(ret) {
		return
	}
	switch {
	case state == nvml.GPU_FABRIC_STATE_NOT_STARTED:
		l.r.Fabric = gpu.FabricNotStarted
	case state == nvml.GPU_FABRIC_STATE_IN_PROGRESS:
		l.r.Fabric = gpu.FabricInProgress
	case state == nvml.GPU_FABRIC_STATE_COMPLETED && status == uint32(nvml.SUCCESS):
		l.r.Fabric = gpu.FabricCompleted
	case state == nvml.GPU_FABRIC_STATE_COMPLETED:
		l.r.Fabric = gpu.FabricFailed
	}
}

// processes lists who holds memory, by PID. A process can be on several lists.
func (l *look) processes() {
	memory := map[int]uint64{}
	note := func(list []nvml.ProcessInfo, ret nvml.Return) {
		if !l.core(ret) {
			return
		}
		for _, p := range list {
			if p.Pid == 0 || len(memory) >= maxProcesses {
				continue
			}
			used := p.UsedGpuMemory
			if used == ^uint64(0) { // not known
				used = 0
			}
			memory[int(p.Pid)] = max(memory[int(p.Pid)], used)
		}
		l.r.Listed = true
	}
	if l.any("nvmlDeviceGetComputeRunningProcesses") {
		note(l.GetComputeRunningProcesses())
	}
	if l.r.Listed && l.any("nvmlDeviceGetGraphicsRunningProcesses") {
		note(l.GetGraphicsRunningProcesses())
	}
	if l.r.Listed && l.any("nvmlDeviceGetMPSComputeRunningProcesses") {
		note(l.GetMPSComputeRunningProcesses())
	}
	for pid, used := range memory {
		l.r.Processes = append(l.r.Processes, gpu.Process{PID: pid, Memory: used})
	}
	slices.SortFunc(l.r.Processes, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
}
