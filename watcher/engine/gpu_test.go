package engine

import (
	"testing"
	"testing/synctest"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
)

const gpuA, gpuB = "GPU-3f2a1b0c-1111-2222-3333-444444444444", "GPU-77777777-1111-2222-3333-444444444444"

// TestGPURequest follows an inspect all the way to the GPUs. The answers are
// those of Docker 20.10 to a 28.2 client, cut to what is read; those of
// runtime*, default-runtime, cdi-all and cdi-mig, which need an NVIDIA runtime
// or a newer engine, are written after the API's documentation. Every image
// has NVIDIA_VISIBLE_DEVICES=all in it, as CUDA's have.
func TestGPURequest(t *testing.T) {
	m0 := gpu.MIG{UUID: "MIG-aaaa0000-1111-2222-3333-444444444444", Index: 0, GI: 3}
	m1 := gpu.MIG{UUID: "MIG-aaaa1111-1111-2222-3333-444444444444", Index: 1, GI: 5}
	devices := []gpu.Device{
		{UUID: gpuA, Index: 0, Minor: 1}, // minor numbers are not the indices
		{UUID: gpuB, Index: 1, Minor: 0, MIG: []gpu.MIG{m0, m1}},
	}
	a, b, parts := gpu.Use{UUID: gpuA}, gpu.Use{UUID: gpuB}, gpu.Use{UUID: gpuB, Parts: []gpu.MIG{m0, m1}}
	certain := func(uses ...gpu.Use) gpu.Mapping { return gpu.Mapping{GPUs: uses, Certain: true} }
	maybe := gpu.Mapping{GPUs: []gpu.Use{a, b}}
	inspects := testdata[map[string]container.InspectResponse](t, "gpu.json")
	for _, tc := range []struct {
		name, runtime string
		source        string
		want          gpu.Mapping
	}{
		{"all", "runc", "--gpus", certain(a, b)},
		{"count", "runc", "--gpus", certain(a, b)},
		{"devices", "runc", "--gpus", certain(a, b)},
		{"uuid", "runc", "--gpus", certain(a)},
		{"mig", "runc", "--gpus", certain(parts)},
		{"caps", "runc", "--gpus", certain(b)},
		{"cdi", "runc", "cdi", certain(a)},
		{"cdi-all", "runc", "cdi", certain(a, b)},
		{"cdi-mig", "runc", "cdi", certain(parts)},
		{"minor", "runc", "--device", certain(a)},
		{"mount", "nvidia", "mount", certain(a, b)},
		{"privileged", "runc", "privileged", maybe},
		{"runtime", "runc", "NVIDIA_VISIBLE_DEVICES", certain(b)},
		{"runtime-all", "runc", "NVIDIA_VISIBLE_DEVICES", maybe},
		{"default-runtime", "nvidia", "NVIDIA_VISIBLE_DEVICES", maybe},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := bare(t, "")
			s.runtime = tc.runtime
			c := s.observe(inspects[tc.name], at("2026-11-22T04:00:00Z")).GPU
			if c == nil {
				t.Fatal("it asks for no GPU")
			}
			if c.Source != tc.source {
				t.Errorf("source %q, want %q", c.Source, tc.source)
			}
			if diff := cmp.Diff(tc.want, c.Resolve(gpu.Inventory{Devices: devices})); diff != "" {
				t.Errorf("GPUs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoGPU(t *testing.T) {
	inspects := testdata[map[string]container.InspectResponse](t, "gpu.json")
	for name, runtime := range map[string]string{"none": "nvidia", "default-runtime": "runc"} { // an explicit runtime is not the default
		s := bare(t, "")
		s.runtime = runtime
		if c := s.observe(inspects[name], at("2026-11-22T04:00:00Z")).GPU; c != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestGPURequestHoldsNoSecret: only what names GPUs leaves the engine.
func TestGPURequestHoldsNoSecret(t *testing.T) {
	r := testdata[map[string]container.InspectResponse](t, "gpu.json")["runtime"]
	r.HostConfig.Binds = []string{"/dev/null:" + gpuMounts + "0:ro", "/secret:" + gpuMounts + "1", "/dev/null:/etc/x"}
	r.HostConfig.Mounts = []mount.Mount{
		{Source: "/dev/null", Target: gpuMounts + "2"}, {Source: "/secret", Target: gpuMounts + "3"}, {Source: "/dev/null", Target: "/etc/y"},
	}
	want := gpu.Request{
		Runtime: "nvidia", Env: []string{"NVIDIA_VISIBLE_DEVICES=1", "CUDA_VISIBLE_DEVICES=0"},
		Mounts: []string{gpuMounts + "0", gpuMounts + "2"},
	}
	if diff := cmp.Diff(want, bare(t, "").gpuRequest(r)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// TestDefaultRuntimeIsLearned: the runtime that the engine says is its default
// counts for a container that names none.
func TestDefaultRuntimeIsLearned(t *testing.T) {
	for runtime, want := range map[string]*gpu.Claim{
		"nvidia": {Source: "NVIDIA_VISIBLE_DEVICES", All: true}, "": nil, // as recorded: runc
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.runtime = runtime
			f.change(f.run("vllm"), func(c *container.InspectResponse) {
				c.HostConfig.Runtime, c.Config.Env = "", []string{"NVIDIA_VISIBLE_DEVICES=all"}
			})
			var got []*gpu.Claim
			for _, ev := range watch(t, f.engine(Options{})).take() {
				if ev.Observation != nil {
					got = append(got, ev.Observation.GPU)
				}
			}
			if diff := cmp.Diff([]*gpu.Claim{want}, got); diff != "" {
				t.Errorf("default runtime %q (-want +got):\n%s", runtime, diff)
			}
		})
	}
}
