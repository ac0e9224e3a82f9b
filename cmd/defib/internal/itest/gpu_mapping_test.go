package itest

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
)

// Which GPUs a container asks for, from what a real engine says of it, for each
// form that the engine takes. None is started: there is nothing to give them.
func TestGPUMapping(t *testing.T) {
	t.Parallel()
	asks := func(d container.DeviceRequest) func(*container.Config, *container.HostConfig) {
		return func(_ *container.Config, h *container.HostConfig) { h.DeviceRequests = []container.DeviceRequest{d} }
	}
	gpus := func(count int, ids ...string) func(*container.Config, *container.HostConfig) {
		return asks(container.DeviceRequest{Count: count, DeviceIDs: ids, Capabilities: [][]string{{"gpu"}}})
	}
	devices := func(paths ...string) func(*container.Config, *container.HostConfig) {
		return func(_ *container.Config, h *container.HostConfig) {
			for _, p := range paths {
				h.Devices = append(h.Devices, container.DeviceMapping{PathOnHost: p, PathInContainer: p, CgroupPermissions: "rwm"})
			}
		}
	}
	visible := func(list string) func(*container.Config, *container.HostConfig) {
		return func(c *container.Config, h *container.HostConfig) {
			h.Runtime, c.Env = "nvidia", append(c.Env, "NVIDIA_VISIBLE_DEVICES="+list)
		}
	}
	const unsure = ", which does not say that it uses them"
	forms := []struct {
		name string
		form func(*container.Config, *container.HostConfig)
		gpus []string
		note string
		must bool // every engine takes it
	}{
		{"gpus-all", gpus(-1), []string{"0", "1", "2"}, "asked for by --gpus", true},
		{"gpus-count", gpus(2), []string{"0", "1"}, "asked for by --gpus", true},
		{"gpus-index", gpus(0, "2", "0"), []string{"0", "2"}, "asked for by --gpus", true},
		{"gpus-uuid", gpus(0, fakenvml.UUID(1)), []string{"1"}, "asked for by --gpus", true},
		{"gpus-mig", gpus(0, "2:1"), []string{"2"}, "asked for by --gpus", true},
		{"gpus-mig-uuid", gpus(0, "MIG-00000002-0000-4000-8000-000000000000"), []string{"2"}, "asked for by --gpus", true},
		{"gpus-gone", gpus(0, "7"), []string{"7"}, "asked for by --gpus; not there: 7", true},
		{"cdi-index", asks(container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=1"}}), []string{"1"}, "asked for by cdi", false},
		{"cdi-all", asks(container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}), []string{"0", "1", "2"}, "asked for by cdi", false},
		{"cdi-own", asks(container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=mine"}}), nil, "asked for by cdi" + unsure, false},
		{"devices", devices("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia5"), []string{"0", "1"}, "asked for by --device", true}, // by minor number
		{"privileged", func(_ *container.Config, h *container.HostConfig) { h.Privileged = true }, nil, "asked for by privileged" + unsure, true},
		{"env", visible("1," + fakenvml.UUID(2)), []string{"1", "2"}, "asked for by NVIDIA_VISIBLE_DEVICES", true},
		{"env-all", visible("all"), nil, "asked for by NVIDIA_VISIBLE_DEVICES" + unsure, true},
		{"env-none", visible("none"), nil, "", true},
		{"other-runtime", func(c *container.Config, _ *container.HostConfig) {
			c.Env = append(c.Env, "NVIDIA_VISIBLE_DEVICES=all")
		}, nil, "", true},
		{"narrowed", func(c *container.Config, h *container.HostConfig) {
			gpus(-1)(c, h)
			c.Env = append(c.Env, "CUDA_VISIBLE_DEVICES=1")
		}, []string{"1"}, "asked for by --gpus", true},
	}
	g := NewGPUs(t, 3)
	g.SetGPU(2, "mig", "3:0,5:0")
	g.SetGPU(1, "minor", 5)
	g.SetGPU(2, "minor", 2)
	e, _, b := rig(t)
	refused := map[string]bool{}
	for _, f := range forms {
		if err := e.declare(t, f.name, f.form); err != nil && f.must {
			t.Errorf("%s: the engine refuses it: %v", f.name, err)
			refused[f.name] = true
		} else if err != nil {
			t.Logf("%s: not shown, the engine refuses it: %v", f.name, err)
			refused[f.name] = true
		}
	}
	d := Start(t, b, g.Options(e, apart(), nil))
	g.Up(t, d, 3)
	s := d.Until(t, soon, "all are seen", func(s api.Status) bool { return len(s.Units) == len(forms)-len(refused) })
	for _, f := range forms {
		if u := Unit(s, f.name); !refused[f.name] && (!slices.Equal(u.GPUs, f.gpus) || u.GPUNote != f.note && !strings.HasPrefix(u.GPUNote, f.note+";")) {
			t.Errorf("%s: GPUs %q (%s), want %q (%s)", f.name, u.GPUs, u.GPUNote, f.gpus, f.note)
		}
	}
}

// declare creates a container that is not started.
func (e *Engine) declare(t *testing.T, name string, form func(*container.Config, *container.HostConfig)) error {
	t.Helper()
	image := "fakeinfer:" + name
	e.Image(t, image)
	config := &container.Config{Image: image, Labels: map[string]string{Label: t.Name(), "defib.enable": "true"}}
	host := &container.HostConfig{NetworkMode: "none"}
	form(config, host)
	_, err := e.Client.ContainerCreate(t.Context(), config, host, nil, nil, name)
	return err
}
