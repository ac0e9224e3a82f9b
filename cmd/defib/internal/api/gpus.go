package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// Live is what the GPUs show now: the newest of everything, without asking.
type Live func() (gpu.Driver, []gpu.Reading)

func (s *Server) gpus(w http.ResponseWriter, _ *http.Request) {
	v := s.view(w)
	if v == nil {
		return
	}
	d, list := Newest(v, s.o.LiveGPUs)
	send(w, GPUs{Version: Version, At: s.o.Now(), Driver: d, KernelLog: v.Host.GPU.KernelLog, GPUs: list})
}

// Newest is the driver and the GPUs of a view, with the readings of live where
// those are newer: the policy only hears of what matters. live may be nil. The
// list is never nil.
func Newest(v *watcher.View, live Live) (gpu.Driver, []policy.GPUStatus) {
	d := v.Host.GPU.Driver
	list := append([]policy.GPUStatus{}, v.GPUs...)
	if live == nil {
		return d, list
	}
	now, readings := live()
	if now.State != "" {
		d = now
	}
	for i := range list {
		at := slices.IndexFunc(readings, func(r gpu.Reading) bool { return r.UUID == list[i].UUID })
		if at >= 0 {
			list[i].Reading = newer(list[i].Reading, readings[at])
		}
	}
	return d, list
}

// newer keeps the list of processes, which is read less often.
func newer(old, live gpu.Reading) gpu.Reading {
	if !live.At.After(old.At) {
		return old
	}
	if !live.Listed {
		live.Processes, live.Listed = old.Processes, old.Listed
	}
	return live
}

// AllGPUs names every GPU in an order to release.
const AllGPUs = "all"

// held lists the GPUs that are held, named as the GPUs of a unit are.
func held(gpus []policy.GPUStatus) []string {
	var out []string
	for _, g := range gpus {
		if g.Hold != nil {
			out = append(out, index(g))
		}
	}
	return out
}

// index is what people call a GPU; one that the driver no longer lists has none.
func index(g policy.GPUStatus) string {
	if g.Index < 0 {
		return g.UUID
	}
	return strconv.Itoa(g.Index)
}

// UsedBy picks the GPUs of a unit.
func UsedBy(gpus []policy.GPUStatus, u policy.Status) []policy.GPUStatus {
	var out []policy.GPUStatus
	for _, g := range gpus {
		if slices.Contains(g.Units, u.Name) {
			out = append(out, g)
		}
	}
	return out
}

// leastUUID is how much of a UUID must be given: "GPU-" and four digits.
const leastUUID = 8

// FindGPU picks the GPU that a person means: by its index, its UUID or a unique
// beginning of it, or its PCI address. Its error is an [*UnknownError].
func FindGPU(gpus []policy.GPUStatus, name string) (policy.GPUStatus, error) {
	var found []policy.GPUStatus
	for _, g := range gpus {
		switch {
		case name == index(g), strings.EqualFold(name, g.UUID), g.PCI != "" && gpu.Address(name) == g.PCI:
			return g, nil
		case len(name) >= leastUUID && len(name) <= len(g.UUID) && strings.EqualFold(name, g.UUID[:len(name)]):
			found = append(found, g)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return policy.GPUStatus{}, noGPU(gpus, name)
	}
	return policy.GPUStatus{}, &UnknownError{
		Text: fmt.Sprintf("%.80q begins the UUIDs of %d GPUs", name, len(found)),
		Hint: "give more of the UUID, or the index",
	}
}

// noGPU explains a GPU that was not found.
func noGPU(gpus []policy.GPUStatus, name string) error {
	if len(gpus) == 0 {
		return &UnknownError{Text: "defib knows of no GPU on this host", Hint: "`defib gpus` says what is known of the driver"}
	}
	sorted := slices.SortedFunc(slices.Values(gpus), func(a, b policy.GPUStatus) int { return cmp.Compare(a.Index, b.Index) })
	indices := make([]string, len(sorted))
	for i, g := range sorted {
		indices[i] = index(g)
	}
	return &UnknownError{
		Text: fmt.Sprintf("there is no GPU %.80q", name),
		Hint: "give an index (" + strings.Join(indices, ", ") + "), or a UUID or PCI address of `defib gpus -o wide`",
	}
}
