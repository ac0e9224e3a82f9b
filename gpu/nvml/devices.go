//go:build cgo

package nvml

import (
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/defib-dev/defib/gpu"
)

// device is a GPU as the child knows it.
type device struct {
	gpu.Device
	handle nvml.Device
	listed bool        // handle is one
	shared bool        // its memory is the CPU's, too
	code   nvml.Return // why the driver gives no handle; SUCCESS: it does not list it
}

// maxMIG bounds the instances of one GPU; NVIDIA's have at most 7, or 4 × 2.
const maxMIG = 32

// symbols finds out what the library of this driver has. Calling one that it
// lacks ends the process.
func (s *server) symbols() {
	s.has = map[string]bool{}
	for _, name := range []string{
		"nvmlDeviceGetMinorNumber", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetNumaNodeId",
		"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
		"nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v3",
		"nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v3",
		"nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows", "nvmlDeviceGetRetiredPagesPendingStatus",
		"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetSramEccErrorStatus",
		"nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureThreshold",
		"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
		"nvmlDeviceGetGpuFabricInfo", "nvmlDeviceGetGpuFabricInfoV",
		"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
		"nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId",
		"nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents", "nvmlEventSetCreate", "nvmlEventSetFree",
		"nvmlEventSetWait", "nvmlEventSetWait_v2",
	} {
		s.has[name] = s.lib.Extensions().LookupSymbol(name) == nil
	}
}

// any reports whether the library has one of the versions of a call, of which
// go-nvml takes the newest.
func (s *server) any(name string) bool { return s.has[name] || s.has[name+"_v2"] || s.has[name+"_v3"] }

// enumerate lists the GPUs anew. code is that of a driver which is gone.
func (s *server) enumerate() (code int) {
	count, ret := s.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return int(ret)
	}
	var list, silent []*device
	partial := false
	for i := range count {
		_ = s.out.say(message{Op: opWorking, Place: i + 1}) // each may take seconds; a lost owner is seen elsewhere
		handle, ret := s.lib.DeviceGetHandleByIndex(i)
		switch {
		case fatal(int(ret)):
			return int(ret)
		case ret == nvml.ERROR_NO_PERMISSION: // not given to this container
			partial = true
		case ret != nvml.SUCCESS:
			silent = append(silent, &device{Device: gpu.Device{Index: i}, code: ret})
		default:
			list = append(list, s.describe(i, handle))
		}
	}
	unlisted, more := s.unlisted(list, silent)
	s.list, s.partial = slices.Concat(list, unlisted), partial || more
	return 0
}

// describe asks what does not change. A GPU that cannot even tell its UUID
// goes by the one that it had, or by its address.
func (s *server) describe(index int, handle nvml.Device) *device {
	d := &device{handle: handle, listed: true, Device: gpu.Device{Index: index, Minor: -1}}
	if info, ret := handle.GetPciInfo(); ret == nvml.SUCCESS {
		d.PCI = gpu.Address(text(info.BusId[:]))
	}
	if uuid, ret := handle.GetUUID(); ret == nvml.SUCCESS {
		d.UUID = uuid
	} else {
		d.UUID = s.knownAs(index, d.PCI)
	}
	if name, ret := handle.GetName(); ret == nvml.SUCCESS {
		d.Name = name
	}
	if s.has["nvmlDeviceGetMinorNumber"] {
		if minor, ret := handle.GetMinorNumber(); ret == nvml.SUCCESS {
			d.Minor = minor
		}
	}
	if s.has["nvmlDeviceGetNumaNodeId"] {
		_, ret := handle.GetNumaNodeId() // only GPUs whose memory is a node of the host have one
		d.shared = ret == nvml.SUCCESS
	}
	mig, known := s.instances(handle)
	d.MIG = mig
	if old := s.byUUID(d.UUID); old != nil && old.listed { // what it does not say while it is lost
		d.Device = fill(d.Device, old.Device)
		if !known {
			d.MIG = old.MIG
		}
	}
	return d
}

func fill(d, old gpu.Device) gpu.Device {
	if d.PCI == "" {
		d.PCI = old.PCI
	}
	if d.Name == "" {
		d.Name = old.Name
	}
	if d.Minor < 0 {
		d.Minor = old.Minor
	}
	return d
}

func (s *server) knownAs(index int, pci string) string {
	for _, old := range s.list {
		if old.listed && (old.Index == index || pci != "" && old.PCI == pci) {
			return old.UUID
		}
	}
	return pci
}

// instances are those into which the GPU is cut; known: it can say so.
func (s *server) instances(handle nvml.Device) (out []gpu.MIG, known bool) {
	for _, name := range []string{"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId"} {
		if !s.has[name] {
			return nil, true
		}
	}
	if mode, _, ret := handle.GetMigMode(); ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		t, _ := trouble(int(ret))
		return nil, t == ""
	}
	most, ret := handle.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil, false
	}
	for i := range min(most, maxMIG) {
		part, ret := handle.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		uuid, ret := part.GetUUID()
		gi, giRet := part.GetGpuInstanceId()
		ci, ciRet := part.GetComputeInstanceId()
		if ret == nvml.SUCCESS && giRet == nvml.SUCCESS && ciRet == nvml.SUCCESS {
			out = append(out, gpu.MIG{UUID: uuid, Index: i, GI: gi, CI: ci})
		}
	}
	return out, true
}

// unlisted are the GPUs that are on the bus, and bound to the driver, and of
// which NVML lists none or gives no handle (silent). When these are as many,
// they are the same: both are in the order of the bus. more: there are others,
// which this container was not given.
func (s *server) unlisted(list, silent []*device) (out []*device, more bool) {
	bound, more := s.bus.devices()
	for _, d := range bound {
		if slices.ContainsFunc(list, func(l *device) bool { return l.PCI == d.PCI || l.UUID == d.UUID }) {
			continue
		}
		u := &device{Device: d}
		if n := len(silent); n > 0 {
			u.code = silent[n-1].code
		}
		out = append(out, u)
	}
	for i, u := range out {
		if len(out) == len(silent) {
			u.Index, u.code = silent[i].Index, silent[i].code
		}
		for _, old := range s.list { // it was listed before in our life
			if old.PCI == u.PCI && old.Index >= 0 {
				u.Device = old.Device
			}
		}
	}
	return out, more || len(silent) > len(out)
}

func (s *server) byUUID(uuid string) *device {
	for _, d := range s.list {
		if d.UUID == uuid {
			return d
		}
	}
	return nil
}

// find returns the GPU with a UUID; one without a handle when it is unknown. One
// that went by its address before it was listed may still be asked for so.
func (s *server) find(uuid string) *device {
	if d := s.byUUID(uuid); d != nil {
		return d
	}
	for _, d := range s.list {
		if d.PCI == uuid {
			asked := *d
			asked.UUID = uuid
			return &asked
		}
	}
	return &device{Device: gpu.Device{UUID: uuid, Index: -1, Minor: -1}}
}

func sameList(a, b []*device) bool {
	return slices.EqualFunc(a, b, func(x, y *device) bool { return x.listed == y.listed && equalDevices(x.Device, y.Device) })
}

// text reads a C string.
func text(b []int8) string {
	var out strings.Builder
	for _, c := range b {
		if c == 0 {
			break
		}
		out.WriteByte(byte(c))
	}
	return out.String()
}
