package nvml

import (
	"fmt"

	"github.com/defib-dev/defib/gpu"
)

// The return codes of NVML that mean something here, by the numbers of nvml.h.
const (
	codeUninitialized   = 1
	codeNotSupported    = 3
	codeNoPermission    = 4
	codeNotFound        = 6
	codeDriverNotLoaded = 9
	codeTimeout         = 10
	codeIRQ             = 11
	codeLibraryNotFound = 12
	codeNoFunction      = 13
	codeInforom         = 14
	codeLost            = 15
	codeResetRequired   = 16
	codeOS              = 17
	codeMismatch        = 18
	codeVersion         = 25
	codeNotReady        = 27
	codeInvalidState    = 29
	codeUnknown         = 999
)

// trouble is what a return code says of the GPU that was asked. A feature that
// is missing is none.
func trouble(code int) (gpu.Trouble, string) {
	switch code {
	case 0, codeNotSupported, codeNoFunction, codeVersion:
		return "", ""
	case codeLost:
		return gpu.TroubleLost, "it has fallen off the bus (NVML 15)"
	case codeResetRequired:
		return gpu.TroubleReset, "the driver says that it must be reset (NVML 16)"
	case codeTimeout:
		return gpu.TroubleTimeout, "the driver gave up waiting for it (NVML 10)"
	case codeNotFound:
		return gpu.TroubleMissing, "the driver does not list it any more (NVML 6)"
	case codeUnknown:
		return gpu.TroubleUnknown, "unknown error (NVML 999)"
	case codeNotReady, codeInvalidState:
		return gpu.TroubleNotReady, fmt.Sprintf("it is not ready (NVML %d)", code)
	case codeNoPermission, codeOS:
		return gpu.TroubleOther, fmt.Sprintf("its device node is closed to defib (NVML %d)", code)
	case codeIRQ:
		return gpu.TroubleOther, "the kernel has trouble with its interrupts (NVML 11)"
	case codeInforom:
		return gpu.TroubleOther, "its InfoROM is corrupt (NVML 14)"
	}
	return gpu.TroubleOther, fmt.Sprintf("the driver answers with the code %d of NVML", code)
}

// driverOf is what a return code says of the whole driver.
func driverOf(code int) gpu.Driver {
	switch code {
	case 0:
		return gpu.Driver{State: gpu.DriverUp}
	case codeLibraryNotFound:
		return gpu.Driver{State: gpu.DriverAbsent, Detail: "the NVIDIA driver's library libnvidia-ml.so.1 is not here, so GPUs are not looked at; in a container set NVIDIA_DRIVER_CAPABILITIES=utility, on the host name the file by gpu.library"}
	case codeDriverNotLoaded, codeUninitialized:
		return gpu.Driver{State: gpu.DriverAbsent, Unloaded: true, Detail: "the NVIDIA kernel module is not loaded, so GPUs are not looked at; `modprobe nvidia` loads it"}
	case codeMismatch:
		return gpu.Driver{State: gpu.DriverMismatch, Detail: "the NVIDIA driver was upgraded and the old kernel module still runs (NVML 18); reboot, or stop what uses the GPUs and load the module anew"}
	case codeNoPermission, codeOS:
		return gpu.Driver{State: gpu.DriverLost, Detail: fmt.Sprintf("the device nodes of the GPUs are closed to defib (NVML %d); give its container the GPUs anew by recreating it", code)}
	case codeUnknown:
		return gpu.Driver{State: gpu.DriverLost, Detail: "the NVIDIA driver answers with an unknown error (NVML 999); when `nvidia-smi` works on the host, recreate defib's container, which has lost its GPUs"}
	}
	return gpu.Driver{State: gpu.DriverLost, Detail: fmt.Sprintf("the NVIDIA driver does not start up: code %d of NVML; see whether `nvidia-smi` works on the host", code)}
}

// fatal reports whether a return code means that the driver as a whole cannot
// be asked any more: it was unloaded, or upgraded.
func fatal(code int) bool {
	return code == codeDriverNotLoaded || code == codeUninitialized || code == codeMismatch
}
