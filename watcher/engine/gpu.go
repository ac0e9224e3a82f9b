package engine

import (
	"cmp"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/gpu"
)

// gpuMounts is where NVIDIA's toolkit looks for the names of GPUs.
const gpuMounts = "/var/run/nvidia-container-devices/"

// gpuRequest is what an inspect says that bears on GPUs.
func (s *session) gpuRequest(r container.InspectResponse) gpu.Request {
	h := r.HostConfig
	out := gpu.Request{
		Runtime: cmp.Or(h.Runtime, s.runtime), Env: gpuEnv(r.Config.Env), Mounts: gpuTargets(h), Privileged: h.Privileged,
	}
	for _, d := range h.DeviceRequests {
		out.DeviceRequests = append(out.DeviceRequests, gpu.DeviceRequest{
			Driver: d.Driver, Count: d.Count, IDs: d.DeviceIDs, Capabilities: d.Capabilities,
		})
	}
	for _, d := range h.Devices {
		out.Devices = append(out.Devices, d.PathOnHost)
	}
	return out
}

// gpuEnv leaves only the variables that say something of GPUs; the others may
// be secrets.
func gpuEnv(env []string) []string {
	var out []string
	for _, line := range env {
		switch name, _, _ := strings.Cut(line, "="); name {
		case "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "CUDA_VERSION", "NVIDIA_REQUIRE_CUDA":
			out = append(out, line)
		}
	}
	return out
}

// gpuTargets are the places where /dev/null is mounted to name a GPU.
func gpuTargets(h *container.HostConfig) []string {
	var out []string
	for _, b := range h.Binds {
		target, ok := strings.CutPrefix(b, "/dev/null:")
		if target, _, _ = strings.Cut(target, ":"); ok && strings.HasPrefix(target, gpuMounts) {
			out = append(out, target)
		}
	}
	for _, m := range h.Mounts {
		if m.Source == "/dev/null" && strings.HasPrefix(m.Target, gpuMounts) {
			out = append(out, m.Target)
		}
	}
	return out
}
