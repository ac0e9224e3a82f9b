package gpu

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	outer = strings.Repeat("0123456789abcdef", 4)
	inner = strings.Repeat("fedcba9876543210", 4)
)

func TestContainerIDs(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"v1 cgroupfs", "5:devices:/docker/" + outer + "\n4:cpu,cpuacct:/docker/" + outer + "\n", []string{outer}},
		{"v1 systemd", "5:devices:/system.slice/docker-" + outer + ".scope\n1:name=systemd:/system.slice/docker-" + outer + ".scope\n", []string{outer}},
		{"v2 cgroupfs", "0::/docker/" + outer + "\n", []string{outer}},
		{"v2 systemd", "0::/system.slice/docker-" + outer + ".scope\n", []string{outer}},
		{"rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + outer + ".scope", []string{outer}},
		{"custom parent", "0::/ai.slice/ai-vllm.slice/docker-" + outer + ".scope\n", []string{outer}},
		{"custom parent of cgroupfs", "0::/models/" + outer + "/payload\n", []string{outer}},
		{"another cgroup namespace", "0::/../" + outer + "\n", []string{outer}},
		{"podman", "0::/machine.slice/libpod-" + outer + ".scope/container\n", []string{outer}},
		{"containerd", "0::/system.slice:docker:" + outer + "\n", []string{outer}},
		{"Docker in Docker", "0::/docker/" + outer + "/docker/" + inner + "\n", []string{outer, inner}},
		{"nested on v1, only some controllers", "9:pids:/docker/" + outer + "\n5:devices:/docker/" + outer + "/docker/" + inner + "\n", []string{outer, inner}},
		{"outermost first, not by name", "0::/docker/" + inner + "/docker/" + outer, []string{inner, outer}},
		{"a name beside it", "0::/docker/" + outer + "/" + outer + "\n", []string{outer}},
		{"none", "0::/user.slice/user-1000.slice/session-2.scope\n", nil},
		{"root", "0::/\n", nil},
		{"a digit too few", "0::/docker/" + outer[1:], nil},
		{"a digit too many", "0::/docker/" + outer + "0", nil},
		{"twice as many digits", "0::/docker/" + outer + inner, nil},
		{"capitals", "0::/docker/" + strings.ToUpper(outer), nil},
		{"not in a path", outer + ":" + outer + ":/", nil},
		{"no cgroup file", outer, nil},
		{"empty", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ContainerIDs(tc.text)); diff != "" {
				t.Errorf("IDs in %q (-want +got):\n%s", tc.text, diff)
			}
		})
	}
}

// TestContainerIDsBounded: a process may nest cgroups of names of its own.
func TestContainerIDsBounded(t *testing.T) {
	path := "0::/docker/" + outer
	for i := range 100 {
		path += "/" + strings.Repeat(string("0123456789"[i%10]), 62) + string("abcdef0123"[i/10]) + "a"
	}
	got := ContainerIDs(path)
	if len(got) != maxDepth || got[0] != outer {
		t.Errorf("%d IDs, the first %s; want %d, the first %s", len(got), got[0], maxDepth, outer)
	}
}

func FuzzContainerIDs(f *testing.F) {
	f.Add("0::/docker/" + outer + "/docker/" + inner)
	f.Add("5:devices:/system.slice/docker-" + outer + ".scope\n0::/../" + inner)
	f.Fuzz(func(t *testing.T, text string) {
		seen := map[string]bool{}
		for _, id := range ContainerIDs(text) {
			if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || !strings.Contains(text, id) || seen[id] {
				t.Errorf("%q in the IDs of %q", id, text)
			}
			seen[id] = true
		}
		if len(seen) > maxDepth {
			t.Errorf("%d IDs", len(seen))
		}
	})
}
