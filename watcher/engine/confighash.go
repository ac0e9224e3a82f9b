package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
)

// configured is what people change when they change a container's
// configuration. Not in it: what differs between two creations of the same
// (names, IDs, host name, addresses, the donor of a shared namespace), what
// tools keep book of in labels, and the restart policy, which docker update
// sets on a running container.
type configured struct {
	Image       string                  `json:"image"`
	User        string                  `json:"user"`
	WorkingDir  string                  `json:"working_dir"`
	Cmd         []string                `json:"cmd"`
	Entrypoint  []string                `json:"entrypoint"`
	Env         []string                `json:"env"`
	Labels      map[string]string       `json:"labels"`
	Check       *container.HealthConfig `json:"check"`
	StopSignal  string                  `json:"stop_signal"`
	StopTimeout time.Duration           `json:"stop_timeout"`
	Binds       []string                `json:"binds"`
	Mounts      []mount.Mount           `json:"mounts"`
	Volumes     []string                `json:"volumes"`
	Ports       nat.PortMap             `json:"ports"`
	Privileged  bool                    `json:"privileged"`
	Runtime     string                  `json:"runtime"`
	ShmSize     int64                   `json:"shm_size"`
	Resources   container.Resources     `json:"resources"` // with devices and device requests
}

// configHash is a short hash that two containers of the same image reference
// and configuration share.
func configHash(r container.InspectResponse) string {
	c, h := r.Config, r.HostConfig
	text, err := json.Marshal(configured{
		Image: c.Image, User: c.User, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal,
		Cmd: c.Cmd, Entrypoint: c.Entrypoint, Env: sorted(c.Env), Labels: ownLabels(c.Labels), Check: c.Healthcheck,
		Binds: sorted(h.Binds), Mounts: h.Mounts, Volumes: sortedKeys(c.Volumes), Ports: h.PortBindings,
		Privileged: h.Privileged, Runtime: h.Runtime, ShmSize: h.ShmSize,
		StopTimeout: stopTimeout(c.StopTimeout), Resources: h.Resources,
	})
	if err != nil {
		return "" // plain data: it cannot fail
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// ownLabels leaves out those that compose and defib write for themselves.
func ownLabels(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(k, _ string) bool {
		switch k {
		case "defib.op", "defib.replaces", "defib.name", "defib.was", "defib.deps":
			return true
		}
		return strings.HasPrefix(k, "com.docker.compose.")
	})
	return out
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
