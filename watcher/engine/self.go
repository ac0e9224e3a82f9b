package engine

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

const (
	whySelf    = "it is defib itself"
	whyCarrier = "it carries defib's connection to Docker"
)

// findSelf returns the IDs of defib's own container and of the one that
// carries its connection, and remembers not to watch them.
func (s *session) findSelf(list []container.Summary) []string {
	own := s.ownIDs()
	s.self = make(map[string]string)
	i := slices.IndexFunc(list, func(c container.Summary) bool { return slices.Contains(own, c.ID) })
	var me *container.Summary
	if i >= 0 { // an ID that the engine does not know is one of an engine around it
		me = &list[i]
		s.self[me.ID] = whySelf
	}
	if u, err := url.Parse(s.host); err == nil && u.Scheme != "unix" {
		for i := range list {
			if c := &list[i]; s.self[c.ID] == "" && carries(c, me, u) {
				s.self[c.ID] = whyCarrier
			}
		}
	}
	return sortedKeys(s.self)
}

// carries reports whether the engine's address leads to container c: to a port
// that it publishes on this host, to its IP address, or to its name or compose
// service. In a container such a name only works on a network that both share.
func carries(c, me *container.Summary, u *url.URL) bool {
	name := u.Hostname()
	if c.State != container.StateRunning || name == "" {
		return false
	}
	if slices.Contains([]string{"localhost", "127.0.0.1", "::1", "host.docker.internal"}, name) {
		return slices.ContainsFunc(c.Ports, func(p container.Port) bool {
			return p.PublicPort != 0 && strconv.Itoa(int(p.PublicPort)) == u.Port()
		})
	}
	theirs := networks(c)
	for _, e := range theirs {
		if e != nil && (e.IPAddress == name || e.GlobalIPv6Address == name) {
			return true
		}
	}
	if nameOf(*c) != name && c.Labels["com.docker.compose.service"] != name {
		return false
	}
	return me == nil || slices.ContainsFunc(sortedKeys(theirs), func(n string) bool { _, ok := networks(me)[n]; return ok })
}

func networks(c *container.Summary) map[string]*network.EndpointSettings {
	if c.NetworkSettings == nil {
		return nil
	}
	return c.NetworkSettings.Networks
}

// ownIDs are container IDs that this process may run in: the engine mounts
// files of a container's own folder over three in its /etc, and most cgroups
// are named after it. Other mounts name other containers.
func (s *session) ownIDs() []string {
	var ids []string
	folder := regexp.MustCompile(`containers/([0-9a-f]{64})/`)
	for line := range strings.Lines(s.readProc("self/mountinfo")) {
		f := strings.Fields(line)
		if len(f) < 5 || !slices.Contains([]string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}, f[4]) {
			continue
		}
		if m := folder.FindStringSubmatch(f[3]); m != nil {
			ids = append(ids, m[1])
		}
	}
	group := regexp.MustCompile(`[0-9a-f]{64}`)
	for line := range strings.Lines(s.readProc("self/cgroup")) {
		ids = append(ids, group.FindAllString(line, -1)...)
	}
	return ids
}

func (s *session) readProc(name string) string {
	text, err := os.ReadFile(filepath.Join(s.proc, name))
	if err != nil {
		return ""
	}
	return string(text)
}
