package policy

import (
	"slices"
	"strings"
)

// domainHost is the domain that every unit belongs to.
const domainHost = "host"

// joinDomains files u under everything that it shares with others: a fault in
// any of these makes several units fail at once.
func (m *Machine) joinDomains(u *unit) {
	u.domains = append(u.domains[:0], domainHost)
	for _, src := range u.Last.Mounts {
		u.domains = append(u.domains, "mount:"+src)
	}
	for _, id := range u.gpus {
		u.domains = append(u.domains, "gpu:"+id)
	}
	if u.onGPU() {
		u.domains = append(u.domains, "gpu:")
	}
	for _, n := range u.policy.Needs {
		u.domains = append(u.domains, "parent:"+n.Project+"/"+n.Service)
	}
	if u.Last.ImageID != "" {
		u.domains = append(u.domains, "image:"+u.Last.ImageID)
	}
	if s := u.Last.Labels["com.docker.compose.service"]; s != "" && u.Project != "" && !oneOff(&u.Last) {
		u.domains = append(u.domains, "service:"+u.Project+"/"+s)
	}
	for _, d := range u.domains {
		list := m.domains[d]
		if i, found := slices.BinarySearchFunc(list, u, byKey); !found {
			m.domains[d] = slices.Insert(list, i, u)
		}
	}
}

func byKey(a, b *unit) int { return strings.Compare(a.Key, b.Key) }

func (m *Machine) leaveDomains(u *unit) {
	for _, d := range u.domains {
		list := m.domains[d]
		if i, found := slices.BinarySearchFunc(list, u, byKey); found {
			m.domains[d] = slices.Delete(list, i, i+1)
		}
		if len(m.domains[d]) == 0 {
			delete(m.domains, d)
		}
	}
	u.domains = u.domains[:0]
}

// panics reports whether a common fault of the domain's members is one event.
func panics(domain string) bool {
	return !strings.HasPrefix(domain, "service:") && domain != "gpu:"
}

// tally counts the members of a domain that are up or were within the panic
// window, and those of them that have failed in it, for no cause that is known.
func (m *Machine) tally(domain string) (members, failed int) {
	for _, u := range m.domains[domain] {
		switch {
		case u.WantDown || !u.Gone.IsZero() || u.Stop != nil:
		case isUp(u):
			members++
		case m.failedJustNow(u):
			members++
			if !m.gpuExplains(u) {
				failed++
			}
		}
	}
	return members, failed
}

func (m *Machine) failedJustNow(u *unit) bool {
	return !u.LeftAt.IsZero() && m.now.Sub(u.LeftAt) < m.cfg.PanicWindow
}

// gpuExplains: a GPU that u stands on is held, or has had a fault that is being
// judged, which says more than that several failed together.
func (m *Machine) gpuExplains(u *unit) bool {
	if _, held := m.standing(u, HoldGPU); held {
		return true
	}
	return slices.ContainsFunc(u.gpus, func(uuid string) bool {
		i := m.gpuIndex(uuid)
		return i >= 0 && !m.host.GPU.GPUs[i].JudgeAt.IsZero() && m.host.GPU.GPUs[i].Zeros == 0
	})
}

func (m *Machine) sharing(domain string) string {
	kind, what, ok := strings.Cut(domain, ":")
	if !ok {
		return " on this host"
	}
	switch kind {
	case "mount":
		return " that share the mount " + what
	case "gpu":
		return " on GPU " + m.gpuName(what)
	case "image":
		return " of one image"
	}
	return " that need " + what
}
