package gpu

import (
	"slices"
	"strings"
)

const (
	idDigits = 64 // of a container ID of Docker and Podman
	maxDepth = 16 // IDs kept; each is a level of containers within containers
)

// ContainerIDs returns the container IDs in the text of /proc/PID/cgroup,
// outermost first, without repetition. Which of them is a container of this
// engine, the engine knows: a process may make cgroups of any name below its
// own, so the outermost that is known counts.
func ContainerIDs(cgroup string) []string {
	var ids []string
	for line := range strings.Lines(cgroup) {
		_, rest, _ := strings.Cut(line, ":") // number:controllers:path
		_, path, _ := strings.Cut(rest, ":")
		for len(ids) < maxDepth {
			id, after := nextID(path)
			if id == "" {
				break
			}
			if path = after; !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// nextID finds the first run of exactly as many hexadecimal digits as an ID
// has, and what comes after it.
func nextID(path string) (id, after string) {
	start := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && isHex(path[i]) {
			continue
		}
		if i-start == idDigits {
			return path[start:i], path[i:]
		}
		start = i + 1
	}
	return "", ""
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
