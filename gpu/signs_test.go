package gpu

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSigns(t *testing.T) {
	for text, want := range map[string][]Sign{
		// What engines, CUDA and NVIDIA's tools print.
		"Failed to initialize NVML: Unknown Error":                                                         {SignAccessLost},
		"RuntimeError: No CUDA GPUs are available":                                                         {SignAccessLost},
		"CUDA error: no CUDA-capable device is detected":                                                   {SignAccessLost},
		"cuda driver library init failure: 999":                                                            {SignAccessLost},
		"RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment":          {SignAccessLost},
		"rank 3: error code 999 while starting CUDA":                                                       {SignAccessLost},
		"cudaGetDeviceCount() failed with error 100":                                                       {SignAccessLost},
		"Failed to initialize NVML: Driver/library version mismatch":                                       {SignMismatch},
		"nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown": {SignMismatch},
		"Error 803: system has unsupported display driver / cuda driver combination":                       {SignMismatch},
		"CUDA error 803": {SignMismatch},
		"CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all":                                            {SignStaleCDI},
		"failed to fulfil mount request: open /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.535.54.03: no such file or directory": {SignStaleCDI},
		"mount /usr/lib64/libcuda.so.550.54.15: No such file or directory":                                                    {SignStaleCDI},
		"CUDA initialization: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized":              {SignFabric},
		"CUDA error: system not yet initialized":                                                                              {SignFabric},
		"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.":                                             {SignMemory},
		"CUDA error 2: out of memory": {SignMemory},
		"ValueError: Free memory on device (10.2/79.1 GiB) on startup is less than desired GPU memory utilization (0.9, 71.2 GiB).": {SignMemory},
		"CUDA error: uncorrectable ECC error encountered": {SignECC},
		"cudaErrorECCUncorrectable":                       {SignECC},
		"CUDA error (214)":                                {SignECC},
		"CUDA_ERROR_CONTAINED":                            {SignContained},
		"CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error": {SignContained},
		"CUDA failure 220": {SignNVLink},
		"NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error (run with NCCL_DEBUG=INFO for details)": {SignNVLink},
		"CUDA error: CUDA-capable device(s) is/are busy or unavailable":                                           {SignUnavailable},
		"CUDA error code=46(cudaErrorDevicesUnavailable)":                                                         {SignUnavailable},
		"RuntimeError: CUDA error: an illegal memory access was encountered":                                      {SignApp},
		"CUDA error 700 at kernel.cu:55":                                                                          {SignApp},
		"CUDA error: 702":                                                                                         {SignApp},
		"cudaErrorIllegalAddress":                                                                                 {SignApp},
		"CUDA_ERROR_LAUNCH_FAILED":                                                                                {SignApp},
		"RuntimeError: CUDA error: device-side assert triggered":                                                  {SignApp},
		"CUDA error: unspecified launch failure":                                                                  {SignApp},
		"cudaErrorMisalignedAddress: misaligned address":                                                          {SignApp},
		"cuda err #716.": {SignApp},
		"vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.": {SignEngineDead},
		"ERROR core.py:515] EngineCore encountered a fatal error.":                    {SignEngineDead},
		"Received sigquit from a child process. It usually means the child failed.":   {SignEngineDead},
		"Watchdog timeout (self.watchdog_timeout=300)":                                {SignEngineDead},
		"ERROR text_generation_launcher: Shard 0 crashed":                             {SignEngineDead},
		"ShardFailed": {SignEngineDead},
		"nvidia-container-cli: device error: 0: unknown device: unknown": {SignStartFailed},
		`could not select device driver "" with capabilities: [[gpu]]`:   {SignStartFailed},

		// Several lines, several signs, in the order of the constants.
		"EngineDeadError\nCUDA error: device-side assert triggered\nCUDA error 214\nEngineDeadError": {SignECC, SignApp, SignEngineDead},
		"nvidia-container-cli: x\nunresolvable CDI devices":                                          {SignStaleCDI},

		// Plain numbers and other people's errors.
		"":                                       nil,
		"served 700 requests, 999 tokens":        nil,
		"HTTP error 700":                         nil,
		"error code 999":                         nil,
		"loaded 802 layers onto cuda:0":          nil,
		"CUDA graph capture took 214 s":          nil,
		"CUDA errors: 700":                       nil,
		"CUDA error 7000":                        nil,
		"CUDA error 700ms":                       nil,
		"CUDA error 2.5":                         nil,
		"CUDA error 701":                         nil,
		"CUDA error":                             nil,
		"unhandled system error in the parser":   nil,
		"open /tmp/x: no such file or directory": nil,
		"shard 12 crashes, shard crashed":        nil,
		"failed\ncuda\nerror code 700":           nil,
	} {
		if diff := cmp.Diff(want, Signs(text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
		if diff := cmp.Diff(want, Signs("12:00:01 INFO "+strings.ToUpper(text)+"\r\n")); diff != "" {
			t.Errorf("in capitals: %q (-want +got):\n%s", text, diff)
		}
	}
}

// What stands behind the first 4 KiB of a line is not read.
func TestSignsLongLine(t *testing.T) {
	if got := Signs(strings.Repeat("x", signLine) + "EngineDeadError"); got != nil {
		t.Errorf("%v", got)
	}
	if got := Signs(strings.Repeat("x", signLine-15) + "EngineDeadError"); !slices.Equal(got, []Sign{SignEngineDead}) {
		t.Errorf("%v", got)
	}
}

func FuzzSigns(f *testing.F) {
	f.Add("CUDA error 700")
	f.Add("Shard 0 crashed\nerror code 999 CUDA\n")
	f.Add("cuda" + strings.Repeat("cuda error ", 400))
	f.Add("\xff\xfecuda error \x00 700")
	f.Fuzz(func(t *testing.T, text string) {
		got := Signs(text)
		if !slices.Equal(slices.Compact(slices.Clone(got)), got) || len(got) > 12 {
			t.Fatalf("%v", got)
		}
		for _, s := range got { // a sign stays when the text goes on
			if s != SignStartFailed && !slices.Contains(Signs(text+"\nmore"), s) {
				t.Fatalf("%s is lost", s)
			}
		}
		if len(text) < signLine-1 && !slices.Contains(Signs(text+"\nenginedeaderror"), SignEngineDead) {
			t.Fatal("a line hides the next")
		}
	})
}

func BenchmarkSigns(b *testing.B) {
	for name, line := range map[string]string{
		"plain": strings.Repeat("INFO 12:00:01 request served in 12 ms; ", 105),
		"cuda":  strings.Repeat("cuda error cuda err ", 204),
	} {
		text := strings.Repeat(line+"\n", 200)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if Signs(text) != nil {
					b.Fatal("a sign")
				}
			}
		})
	}
}
