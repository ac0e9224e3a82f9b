package gpu

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// inventory is the GPUs that are there, by index.
type inventory []Device

// Resolve finds the GPUs that a claim is about.
func (c *Claim) Resolve(all Inventory) Mapping {
	r := resolving{Inventory: all, sorted: all.sort(), m: Mapping{Certain: c.Certain}}
	if c.All {
		r.uses = r.sorted.seated()
	}
	for n := range c.First {
		r.take(strconv.Itoa(n), byIndex)
	}
	for _, id := range c.IDs {
		r.take(id, formOf(id))
	}
	for _, n := range c.Minors {
		r.take(minorPath(n), byMinor)
	}
	slices.Sort(r.m.Gone)
	r.m.Gone = slices.Compact(r.m.Gone)
	slices.Sort(r.m.Unread)
	r.m.GPUs = c.narrow(r.sorted, r.sorted.gather(r.uses))
	return r.m
}

// form is a way to name a GPU.
type form int

const (
	byIndex form = iota // 0, 0:1
	byUUID              // GPU-…, MIG-…, also the beginning of one
	byMinor             // /dev/nvidia0
	byName              // what else somebody thought of
)

func formOf(id string) form {
	_, isIndex := index(id)
	_, _, isPair := pair(id, ":")
	switch {
	case isIndex, isPair:
		return byIndex
	case fold(id, "GPU-"), fold(id, "MIG-"):
		return byUUID
	}
	return byName
}

// resolving is a claim on its way to a mapping.
type resolving struct {
	Inventory
	sorted inventory
	uses   []Use
	m      Mapping
}

// take adds what a name stands for, or says why there is nothing.
func (r *resolving) take(name string, f form) {
	found := r.sorted.find(name)
	r.uses = append(r.uses, found...)
	switch {
	case f == byName, f == byIndex && r.Partial: // it may be any of them
		r.m.Certain = false
		r.uses = append(r.uses, r.sorted.seated()...)
	case len(found) > 1: // a prefix of several: which one, only the driver's tools know
		r.m.Certain = false
	case len(found) == 1:
	case r.Partial: // one that is not shown to us
		r.m.Certain = false
	case slices.ContainsFunc(r.Devices, f.hides):
		r.m.Unread = append(r.m.Unread, name)
	default:
		r.m.Gone = append(r.m.Gone, name)
	}
}

// hides reports whether a GPU may be one that is sought by that form and does
// not answer to it.
func (f form) hides(d Device) bool {
	switch f {
	case byIndex:
		return d.Index < 0 || d.nameless() // whose instances are not known, either
	case byMinor:
		return d.Minor < 0
	case byUUID, byName:
	}
	return d.nameless()
}

// nameless: only its address is known.
func (d *Device) nameless() bool { return d.PCI != "" && d.UUID == d.PCI }

func (all Inventory) sort() inventory {
	return slices.SortedStableFunc(slices.Values(all.Devices), func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.UUID, b.UUID))
	})
}

// seated is every GPU but those of which the driver does not tell even the
// index.
func (inv inventory) seated() []Use {
	return inv.where(func(d Device) bool { return d.Index >= 0 || !d.nameless() })
}

// find is what a name stands for: nothing, one GPU or instance, or all that a
// prefix fits.
func (inv inventory) find(id string) []Use {
	if n, ok := index(id); ok {
		return inv.where(func(d Device) bool { return d.Index == n })
	}
	if n, ok := index(strings.TrimPrefix(id, minorPrefix)); ok {
		return inv.where(func(d Device) bool { return d.Minor == n })
	}
	if number, part, ok := pair(id, ":"); ok {
		return inv.parts(func(d Device, m MIG) bool { return d.Index == number && m.Index == part })
	}
	if fold(id, "MIG-") {
		return inv.instance(id)
	}
	if !fold(id, "GPU-") || len(id) == len("GPU-") {
		return nil
	}
	if exact := inv.where(func(d Device) bool { return strings.EqualFold(d.UUID, id) }); exact != nil {
		return exact
	}
	return inv.where(func(d Device) bool { return fold(d.UUID, id) })
}

// instance finds a MIG-<uuid>, or the form of old drivers, MIG-GPU-<uuid>/gi/ci.
func (inv inventory) instance(id string) []Use {
	if parent, rest, ok := strings.Cut(id[len("MIG-"):], "/"); ok {
		gi, ci, ok := pair(rest, "/")
		return inv.parts(func(d Device, m MIG) bool {
			return strings.EqualFold(m.UUID, id) || ok && strings.EqualFold(d.UUID, parent) && m.GI == gi && m.CI == ci
		})
	}
	if len(id) == len("MIG-") {
		return nil
	}
	if exact := inv.parts(func(_ Device, m MIG) bool { return strings.EqualFold(m.UUID, id) }); exact != nil {
		return exact
	}
	return inv.parts(func(_ Device, m MIG) bool { return fold(m.UUID, id) })
}

// where is every whole GPU for which ok holds.
func (inv inventory) where(ok func(d Device) bool) []Use {
	var out []Use
	for _, d := range inv {
		if ok(d) {
			out = append(out, Use{UUID: d.UUID})
		}
	}
	return out
}

// parts is every instance for which ok holds.
func (inv inventory) parts(ok func(d Device, m MIG) bool) []Use {
	var out []Use
	for _, d := range inv {
		for _, m := range d.MIG {
			if ok(d, m) {
				out = append(out, Use{UUID: d.UUID, Parts: []MIG{m}})
			}
		}
	}
	return out
}

// gather brings uses in order: by index, each GPU once. The whole of a GPU has
// all of its instances.
func (inv inventory) gather(uses []Use) []Use {
	var out []Use
	for _, d := range inv {
		used, whole := false, false
		var parts []MIG
		for _, u := range uses {
			if u.UUID == d.UUID {
				used, whole = true, whole || len(u.Parts) == 0
				parts = append(parts, u.Parts...)
			}
		}
		if whole {
			parts = nil
		}
		if used {
			slices.SortFunc(parts, compareParts)
			out = append(out, Use{UUID: d.UUID, Parts: slices.Compact(parts)})
		}
	}
	return out
}

func compareParts(a, b MIG) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.GI, b.GI), cmp.Compare(a.CI, b.CI), cmp.Compare(a.UUID, b.UUID))
}

// narrow leaves what CUDA_VISIBLE_DEVICES lets through. CUDA reads it up to the
// first that is not there. When nothing is left so, the variable was hardly
// meant for CUDA, and it lets everything through.
func (c *Claim) narrow(inv inventory, uses []Use) []Use {
	if len(c.Visible) == 0 {
		return uses
	}
	if c.hidden() {
		return nil
	}
	seats, known := inv.seats(uses)
	var seen []Use
	for _, item := range c.Visible {
		n, isNumber := index(item)
		var found []Use
		switch {
		case !isNumber:
			found = common(uses, inv.find(item))
		case !known:
			return uses
		case n < len(seats):
			found = seats[n : n+1]
		}
		if len(found) == 0 {
			break
		}
		seen = append(seen, found...)
	}
	if len(seen) == 0 {
		return uses
	}
	return inv.gather(seen)
}

// seats is what the numbers in a container stand for. The driver counts the
// GPUs that a container sees in the order of the bus, as for the indices,
// however they were asked for. With different models CUDA counts the fastest
// first, and nobody here knows which that is: not known.
func (inv inventory) seats(uses []Use) (out []Use, known bool) {
	var model string
	for i, u := range uses {
		d := inv[slices.IndexFunc(inv, func(d Device) bool { return d.UUID == u.UUID })]
		if i > 0 && d.Name != model {
			return nil, false
		}
		model = d.Name
		if len(u.Parts) == 0 {
			out = append(out, u)
		}
		for _, p := range u.Parts {
			out = append(out, Use{UUID: u.UUID, Parts: []MIG{p}})
		}
	}
	return out, true
}

// common is what of found lies within uses.
func common(uses, found []Use) []Use {
	var out []Use
	for _, f := range found {
		for _, u := range uses {
			switch {
			case u.UUID != f.UUID:
			case len(u.Parts) == 0:
				out = append(out, f)
			case len(f.Parts) == 0:
				out = append(out, u)
			case slices.Contains(u.Parts, f.Parts[0]):
				out = append(out, f)
			}
		}
	}
	return out
}

// fold reports whether s begins with prefix, whatever the case of its letters.
func fold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// pair reads two numbers with sep between them.
func pair(s, sep string) (a, b int, ok bool) {
	left, right, _ := strings.Cut(s, sep)
	a, aok := index(left)
	b, bok := index(right)
	return a, b, aok && bok
}
