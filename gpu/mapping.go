package gpu

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Request is what `docker inspect` says of a container that bears on GPUs.
type Request struct {
	DeviceRequests []DeviceRequest
	Runtime        string   // HostConfig.Runtime; the engine's default runtime when that is empty
	Env            []string // Config.Env; only NVIDIA_VISIBLE_DEVICES, CUDA_VISIBLE_DEVICES, CUDA_VERSION and NVIDIA_REQUIRE_CUDA are read
	Devices        []string // PathOnHost of HostConfig.Devices
	Mounts         []string // targets of binds of /dev/null: /var/run/nvidia-container-devices/<id>
	Privileged     bool
	// CDI returns the device files that a specification gives to a name; nil:
	// it is not known.
	CDI func(name string) []string
}

// DeviceRequest is one of HostConfig.DeviceRequests.
type DeviceRequest struct {
	Driver       string
	Count        int
	IDs          []string
	Capabilities [][]string
}

// Claim is which GPUs a container asks for, as it names them.
type Claim struct {
	Source  string   `json:"source"` // --gpus, cdi, NVIDIA_VISIBLE_DEVICES, mount, --device, privileged: for people
	All     bool     `json:"all,omitempty"`
	First   int      `json:"first,omitempty"`   // the GPUs with the indices 0 to First-1
	IDs     []string `json:"ids,omitempty"`     // indices, UUIDs or unique prefixes of them, MIG forms
	Minors  []int    `json:"minors,omitempty"`  // N of /dev/nvidiaN
	Certain bool     `json:"certain,omitempty"` // it says what the container uses, not only what it may use
	Visible []string `json:"visible,omitempty"` // CUDA_VISIBLE_DEVICES when it parses: container-local numbers or UUIDs; "-1" alone: none
}

// Inventory is the GPUs against which a claim is resolved.
type Inventory struct {
	// Devices are all that the driver or the bus knows, also those that do not
	// answer: without an index (-1), or with the address in place of the UUID.
	Devices []Device
	Partial bool // see Driver
}

// Mapping is a claim resolved against the GPUs that are there.
type Mapping struct {
	GPUs    []Use    // by index
	Certain bool     // see Claim; and what it names says which they are
	Gone    []string // what it names, and neither the driver nor the bus knows
	Unread  []string // what it names and is not found, and may be a GPU that does not answer to it
}

// Use is one GPU of a container.
type Use struct {
	UUID  string
	Parts []MIG // the instances of it; none: the whole GPU
}

// noneVisible is how Claim.Visible says that CUDA sees no GPU.
const noneVisible = "-1"

// hidden reports whether CUDA_VISIBLE_DEVICES hides every GPU.
func (c *Claim) hidden() bool { return len(c.Visible) == 1 && c.Visible[0] == noneVisible }

// Names are the claim in short, for people, when no driver says more: "all",
// "0", "GPU-3f2a1b0c". They also tell claims on the same GPU from others as
// well as can be.
func (c *Claim) Names() []string {
	switch {
	case c.hidden():
		return nil
	case c.All:
		return []string{"all"}
	}
	var names []string
	for n := range c.First {
		names = append(names, strconv.Itoa(n))
	}
	for _, id := range c.IDs {
		names = append(names, shorten(id))
	}
	slices.SortFunc(names, compareNames)
	for _, n := range c.Minors {
		names = append(names, minorPath(n))
	}
	return slices.Compact(names)
}

// shorten cuts the UUID in a name after its first group, which is enough to
// tell it from others, and which the driver's tools accept for the whole.
func shorten(id string) string {
	const group = 8 // hexadecimal digits
	start := strings.Index(id, "GPU-")
	if start < 0 {
		start = strings.Index(id, "MIG-")
	}
	if start < 0 || len(id) <= start+4+group || id[start+4+group] != '-' {
		return id
	}
	end := start + 4 + group
	if slash := strings.IndexByte(id, '/'); slash > end { // MIG-GPU-<uuid>/gi/ci
		return id[:end] + id[slash:]
	}
	return id[:end]
}

func minorPath(n int) string { return minorPrefix + strconv.Itoa(n) }

// compareNames puts indices first, by number, then all else.
func compareNames(a, b string) int {
	x, aok := index(a)
	y, bok := index(b)
	switch {
	case aok && bok:
		return cmp.Compare(x, y)
	case aok:
		return -1
	case bok:
		return 1
	}
	return cmp.Compare(a, b)
}

// index reads an index: decimal digits, and few of them.
func index(s string) (int, bool) {
	if s == "" || len(s) > 4 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
