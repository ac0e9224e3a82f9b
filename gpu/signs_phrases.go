package gpu

// phrases are the exact words, in lower case, that tell a sign: the names and
// sentences of CUDA's own errors, and what engines and NVIDIA's container tools
// say (gpu.md §4.1 to §4.14).
func phrases(s Sign) []string {
	switch s {
	case SignAccessLost:
		return []string{
			"failed to initialize nvml: unknown error",
			"cudaerrornodevice", "cuda_error_no_device", "no cuda-capable device is detected", "no cuda gpus are available",
			"cudaerrorunknown", "cuda_error_unknown", "cuda error: unknown error", "cuda unknown error",
		}
	case SignMismatch:
		return []string{
			"driver/library version mismatch", "cudaerrorsystemdrivermismatch", "cuda_error_system_driver_mismatch",
			"system has unsupported display driver / cuda driver combination",
		}
	case SignStaleCDI:
		return []string{"unresolvable cdi devices"}
	case SignFabric:
		return []string{"cudaerrorsystemnotready", "cuda_error_system_not_ready", "cuda error: system not yet initialized"}
	case SignMemory:
		return []string{
			"cuda out of memory", "cuda error: out of memory", "cudaerrormemoryallocation", "cuda_error_out_of_memory",
			"is less than desired gpu memory utilization",
		}
	case SignECC:
		return []string{"cudaerroreccuncorrectable", "cuda_error_ecc_uncorrectable", "uncorrectable ecc error encountered"}
	case SignContained:
		return []string{"cudaerrorcontained", "cuda_error_contained", "invalid access of peer gpu memory over nvlink or a hardware error"}
	case SignNVLink:
		return []string{
			"cudaerrornvlinkuncorrectable", "cuda_error_nvlink_uncorrectable", "uncorrectable nvlink error detected",
			"ncclsystemerror",
		}
	case SignUnavailable:
		return []string{
			"cudaerrordevicesunavailable", "cudaerrordeviceunavailable", "cuda_error_device_unavailable",
			"cuda-capable device(s) is/are busy or unavailable", "all cuda-capable devices are busy or unavailable",
		}
	case SignApp:
		return appPhrases()
	case SignEngineDead:
		return []string{
			"enginedeaderror", "enginecore encountered a fatal error", // vLLM
			"received sigquit from a child process", "watchdog timeout", // SGLang
			"shardfailed", // TGI
		}
	case SignStartFailed:
		return []string{"nvidia-container-cli:", "could not select device driver", "failed to inject cdi devices", "nvidia-container-runtime-hook"}
	}
	return nil
}

// appPhrases are CUDA 700, 702, 710 and 714 to 719.
func appPhrases() []string {
	return []string{
		"cudaerrorillegaladdress", "cuda_error_illegal_address", "an illegal memory access was encountered",
		"cudaerrorlaunchtimeout", "cuda_error_launch_timeout", "the launch timed out and was terminated",
		"cudaerrorassert", "cuda_error_assert", "device-side assert triggered",
		"cudaerrorhardwarestackerror", "cuda_error_hardware_stack_error", "cuda error: hardware stack error",
		"cudaerrorillegalinstruction", "cuda_error_illegal_instruction", "an illegal instruction was encountered",
		"cudaerrormisalignedaddress", "cuda_error_misaligned_address", "cuda error: misaligned address",
		"cudaerrorinvalidaddressspace", "cuda_error_invalid_address_space", "operation not supported on global/shared address space",
		"cudaerrorinvalidpc", "cuda_error_invalid_pc", "cuda error: invalid program counter",
		"cudaerrorlaunchfailure", "cuda_error_launch_failed", "unspecified launch failure",
	}
}
