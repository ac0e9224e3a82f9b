package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
)

// specYAML is of nvidia-ctk 1.17, cut to one device, under a name of somebody's
// own.
const specYAML = `cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
devices:
- name: left
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia1
    - path: /dev/dri/card2
    hooks:
    - hookName: createContainer
      path: /usr/bin/nvidia-cdi-hook
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
`

// specJSON renames a device inside, and takes the place of one above.
const specJSON = `{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[
{"name":"inside","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia0","hostPath":"/dev/nvidia3"}]}},
{"name":"left","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia2"}]}},
{"name":"empty","containerEdits":{}}]}`

const specOther = `{"kind":"amd.com/gpu","devices":[{"name":"red","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia5"}]}}]}`

func TestCDIDevice(t *testing.T) {
	early, late := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(early, "nvidia.yaml"): specYAML,
		filepath.Join(early, "amd.json"):    specOther,
		filepath.Join(early, "broken.yaml"): "kind: [nvidia.com/gpu\n\tdevices:",
		filepath.Join(early, "notes.txt"):   specJSON,
		filepath.Join(late, "mine.json"):    specJSON,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(folders []string, name string) *gpu.Claim {
		s := bare(t, "")
		s.cdi = folders
		return s.claim(container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{HostConfig: &container.HostConfig{
				Resources: container.Resources{DeviceRequests: []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=" + name}}}},
			}},
			Config: &container.Config{},
		})
	}
	minor := func(n int) *gpu.Claim { return &gpu.Claim{Source: "cdi", Minors: []int{n}, Certain: true} }
	named := func(id string) *gpu.Claim { return &gpu.Claim{Source: "cdi", IDs: []string{id}, Certain: true} }
	for _, tc := range []struct {
		name    string
		folders []string
		want    *gpu.Claim
	}{
		{"left", []string{early}, minor(1)},
		{"left", []string{early, late}, minor(2)},
		{"inside", []string{early, late}, minor(3)},
		{"empty", []string{early, late}, named("empty")},
		{"red", []string{early, late}, named("red")},
		{"0", []string{early, late}, named("0")}, // it says enough by itself
		{"left", []string{filepath.Join(early, "missing")}, named("left")},
		{"left", nil, named("left")},
	} {
		if diff := cmp.Diff(tc.want, claim(tc.folders, tc.name)); diff != "" {
			t.Errorf("%s in %q (-want +got):\n%s", tc.name, tc.folders, diff)
		}
	}
}
