package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/defib-dev/defib/gpu"
)

// onGPU reports whether u is treated as one that loads a model onto a GPU.
func (u *unit) onGPU() bool { return len(u.gpus) > 0 }

// mapGPUs works out which GPUs u uses. A claim that is not certain (privileged,
// "all" out of an image), or none at all, counts only where its processes were
// seen, once there is a driver to see them.
func (m *Machine) mapGPUs(u *unit) {
	u.gpus, u.mapping = nil, gpu.Mapping{}
	c := u.Last.GPU
	inv := m.inventory()
	switch {
	case len(inv.Devices) == 0:
		if c != nil && (c.Certain || c.Source != "privileged") {
			u.gpus = c.Names()
		}
		return
	case c == nil:
		c = &gpu.Claim{All: true}
	}
	u.mapping = c.Resolve(inv)
	for _, use := range u.mapping.GPUs {
		if u.mapping.Certain || u.seenOn(use.UUID) {
			u.gpus = append(u.gpus, use.UUID)
		}
	}
	if u.mapping.Certain {
		u.gpus = append(u.gpus, u.mapping.Gone...) // it uses GPUs, though they are not there
		u.gpus = append(u.gpus, u.mapping.Unread...)
	}
}

// inventory is every GPU that a claim may be about.
func (m *Machine) inventory() gpu.Inventory {
	inv := gpu.Inventory{Partial: m.host.GPU.Driver.Partial}
	for i := range m.host.GPU.GPUs {
		if g := &m.host.GPU.GPUs[i]; g.Reading.Trouble != gpu.TroubleUnbound {
			inv.Devices = append(inv.Devices, g.Device)
		}
	}
	return inv
}

// devices are the GPUs that the driver lists.
func (m *Machine) devices() []gpu.Device {
	var out []gpu.Device
	for i := range m.host.GPU.GPUs {
		if g := &m.host.GPU.GPUs[i]; g.UUID != g.PCI { // not one of which only the address is known
			out = append(out, g.Device)
		}
	}
	return out
}

// remap brings every unit in line with a changed list of GPUs.
func (m *Machine) remap() {
	for _, key := range sortedKeys(m.units) {
		m.refile(m.units[key])
		m.compareGPUs(m.units[key])
	}
	m.kick = true
}

// compareGPUs says when u came up with other GPUs than before: an index, a
// number of them or "all" may mean others after a boot, and fewer.
func (m *Machine) compareGPUs(u *unit) {
	if !u.mapping.Certain || !u.Last.Running {
		return
	}
	var now []string
	for _, use := range u.mapping.GPUs {
		now = append(now, use.UUID)
	}
	had := u.HadGPUs
	if slices.Equal(had, now) {
		return
	}
	u.HadGPUs = now
	m.touch(u)
	if len(had) == 0 || len(now) == 0 {
		return
	}
	m.note(u, "other_gpus", fmt.Sprintf("it has other GPUs than before, asked for by %s: GPU %s, in the place of %d",
		u.Last.GPU.Source, strings.Join(m.gpuNames(now), ", "), len(had)))
}

// refile files u anew under the GPUs that it uses.
func (m *Machine) refile(u *unit) {
	m.leaveDomains(u)
	m.mapGPUs(u)
	if u.policy.Via != "" {
		m.joinDomains(u)
	}
}

// seenOn: its processes were on that GPU in this run or the one before.
func (u *unit) seenOn(uuid string) bool {
	return slices.Contains(u.Run.GPUs, uuid) || slices.Contains(u.SeenGPUs, uuid)
}

// startFault: the engine could not start it, and names a GPU as the reason.
func (u *unit) startFault() bool {
	return u.Last.Error != "" && len(gpu.Signs(u.Last.Error)) > 0
}

// standsOn reports whether a hold on a GPU (allGPUs: on every one) is about u.
func (u *unit) standsOn(target string) bool {
	if target == allGPUs {
		return u.onGPU() || u.Last.GPU != nil && u.startFault()
	}
	if slices.Contains(u.gpus, target) || slices.Contains(u.gpus, allGPUs) {
		return true
	}
	return u.startFault() && slices.ContainsFunc(u.mapping.GPUs, func(use gpu.Use) bool { return use.UUID == target })
}

// usersOf are the watched containers on a GPU, by key.
func (m *Machine) usersOf(uuid string) []*unit {
	var out []*unit
	for _, key := range sortedKeys(m.units) {
		if u := m.units[key]; u.Gone.IsZero() && u.standsOn(uuid) {
			out = append(out, u)
		}
	}
	return out
}

// ownerOf finds the watched container among the IDs of a process, outermost
// first. known is true when any of them is a container of this engine.
func (m *Machine) ownerOf(ids []string) (u *unit, name string) {
	for _, id := range ids {
		for _, u := range m.units {
			if u.Last.Container == id {
				return u, u.Name
			}
		}
		for _, o := range m.host.Others {
			if o.Container == id {
				return nil, o.Name
			}
		}
	}
	return nil, ""
}

// gpuIndex finds a GPU by its key, or by its address, which is the key of one
// that does not tell its name; -1 when there is none.
func (m *Machine) gpuIndex(uuid string) int {
	return slices.IndexFunc(m.host.GPU.GPUs, func(g GPU) bool { return g.UUID == uuid || g.PCI != "" && g.PCI == uuid })
}

// findGPU finds the GPU that an operator names: by index, UUID, a unique
// beginning of one, or PCI address.
func (m *Machine) findGPU(name string) *GPU {
	var found *GPU
	for i := range m.host.GPU.GPUs {
		g := &m.host.GPU.GPUs[i]
		switch {
		case strconv.Itoa(g.Index) == name, g.UUID == name, g.PCI != "" && g.PCI == gpu.Address(name):
			return g
		case len(name) > 4 && strings.HasPrefix(g.UUID, name):
			if found != nil {
				return nil
			}
			found = g
		}
	}
	return found
}

// gpuName is how people read the key of a GPU.
func (m *Machine) gpuName(key string) string {
	i := m.gpuIndex(key)
	switch {
	case i < 0:
		return key
	case m.host.GPU.GPUs[i].Index >= 0:
		return strconv.Itoa(m.host.GPU.GPUs[i].Index)
	}
	return cmp.Or(m.host.GPU.GPUs[i].PCI, key)
}

func (m *Machine) gpuNames(keys []string) []string {
	var names []string
	for _, key := range keys {
		names = append(names, m.gpuName(key))
	}
	return names
}

// unitNames lists containers for a sentence.
func unitNames(units []*unit) string {
	var names []string
	for _, u := range units {
		names = append(names, u.Name)
	}
	return strings.Join(names, ", ")
}
