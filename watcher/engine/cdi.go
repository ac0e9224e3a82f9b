package engine

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/goccy/go-yaml"

	"github.com/defib-dev/defib/gpu"
)

// A specification of nvidia-ctk has some 20 KiB for 8 GPUs.
const (
	cdiFiles = 64      // of one folder
	cdiBytes = 1 << 20 // of one file
)

// cdiFolders are where specifications of CDI devices are; the later win.
func cdiFolders() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// cdiSpec is what is read of a specification, which is YAML or JSON.
type cdiSpec struct {
	Kind    string `yaml:"kind"`
	Devices []struct {
		Name           string `yaml:"name"`
		ContainerEdits struct {
			DeviceNodes []struct {
				Path     string `yaml:"path"`
				HostPath string `yaml:"hostPath"` // where it is Path inside only
			} `yaml:"deviceNodes"`
		} `yaml:"containerEdits"`
	} `yaml:"devices"`
}

// claim works out which GPUs a container asks for.
func (s *session) claim(r container.InspectResponse) *gpu.Claim {
	request := s.gpuRequest(r)
	request.CDI = s.cdiDevice
	return gpu.ClaimOf(request)
}

// cdiDevice returns the device files of an NVIDIA GPU as the specifications
// name it; nil: none does, or they are not here. It is asked only for names
// that say nothing by themselves, so nothing is kept.
func (e *Engine) cdiDevice(name string) []string {
	for _, dir := range slices.Backward(e.cdi) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // there need be none
		}
		for _, entry := range entries[:min(len(entries), cdiFiles)] {
			if files := readCDI(filepath.Join(dir, entry.Name())).files(name); files != nil {
				return files
			}
		}
	}
	return nil
}

// readCDI is empty for what is no specification.
func readCDI(path string) cdiSpec {
	if !slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(path)) {
		return cdiSpec{}
	}
	f, err := os.Open(path)
	if err != nil {
		return cdiSpec{}
	}
	defer f.Close()
	var spec cdiSpec
	text, err := io.ReadAll(io.LimitReader(f, cdiBytes))
	if err != nil || yaml.Unmarshal(text, &spec) != nil {
		return cdiSpec{}
	}
	return spec
}

func (c cdiSpec) files(name string) []string {
	if c.Kind != "nvidia.com/gpu" && !strings.HasSuffix(c.Kind, ".nvidia.com/gpu") {
		return nil
	}
	var out []string
	for _, d := range c.Devices {
		if d.Name != name {
			continue
		}
		for _, node := range d.ContainerEdits.DeviceNodes {
			path := node.HostPath
			if path == "" {
				path = node.Path
			}
			out = append(out, path)
		}
	}
	return out
}
