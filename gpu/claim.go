package gpu

import (
	"slices"
	"strings"
)

const (
	maxNamed    = 256 // names that a claim keeps; no host has as many GPUs and instances
	maxName     = 128 // bytes kept of a name; the longest form, MIG-GPU-<uuid>/gi/ci, has some 50
	mountRoot   = "/var/run/nvidia-container-devices/"
	minorPrefix = "/dev/nvidia"
)

// ClaimOf works out what a container asks for; nil: no GPU. What names GPUs
// outright wins over what only allows them: an image's "all", privileged.
func ClaimOf(r Request) *Claim {
	env := variables(r.Env)
	c := requested(r)
	if c == nil {
		c = mounted(r.Mounts)
	}
	if c == nil && hooked(r) {
		c = fromEnv(env)
	}
	c = addMinors(c.specified(r.CDI), r.Devices)
	if c == nil && r.Privileged {
		c = &Claim{Source: "privileged", All: true}
	}
	if c != nil {
		c.Visible = visible(env)
	}
	return c
}

// variables picks what is read of an environment; the last of a name counts.
func variables(env []string) map[string]string {
	out := make(map[string]string)
	for _, line := range env {
		switch name, value, set := strings.Cut(line, "="); name {
		case "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "CUDA_VERSION", "NVIDIA_REQUIRE_CUDA":
			if set {
				out[name] = value
			}
		}
	}
	return out
}

// requested is the claim of --gpus and of CDI devices. Engines before CDI, and
// Podman, list those among the plain devices.
func requested(r Request) *Claim {
	var c *Claim
	for _, d := range r.DeviceRequests {
		c = c.merge(claimOfRequest(d))
	}
	for _, path := range r.Devices {
		if name := cdiName(path); name != "" {
			part := &Claim{Source: "cdi", Certain: true}
			part.name(name)
			c = c.merge(part)
		}
	}
	return c
}

// claimOfRequest is nil for a request that names no NVIDIA GPU. One with
// neither count nor IDs leaves the choice to the environment.
func claimOfRequest(d DeviceRequest) *Claim {
	c := &Claim{Source: "--gpus", Certain: true}
	switch {
	case d.Driver == "cdi":
		c.Source = "cdi"
		for _, id := range d.IDs {
			c.name(cdiName(id))
		}
	case !forNVIDIA(d):
	case len(d.IDs) > 0:
		c.name(strings.Join(d.IDs, ","))
	default:
		c.All, c.First = d.Count < 0, min(max(d.Count, 0), maxNamed)
	}
	if c.empty() {
		return nil
	}
	return c
}

// forNVIDIA reports whether the engine gives a request to its NVIDIA driver:
// by name, or because that driver has the capabilities asked for.
func forNVIDIA(d DeviceRequest) bool {
	if d.Driver != "" {
		return d.Driver == "nvidia"
	}
	return slices.ContainsFunc(d.Capabilities, func(set []string) bool {
		return !slices.Contains(set, "amd") && slices.ContainsFunc(set, isCapability)
	})
}

// isCapability: the engine's NVIDIA driver answers to that word.
func isCapability(word string) bool {
	switch word {
	case "gpu", "nvidia", "compute", "utility", "graphics", "video", "display", "compat32", "ngx":
		return true
	}
	return false
}

// mounted is the claim of binds of /dev/null whose targets name GPUs, the form
// of NVIDIA's toolkit that an image cannot forge.
func mounted(targets []string) *Claim {
	c := &Claim{Source: "mount", Certain: true}
	for _, t := range targets {
		id, ok := strings.CutPrefix(t, mountRoot)
		if !ok || strings.HasPrefix(id, "imex/") {
			continue
		}
		if path, ok := strings.CutPrefix(id, "cdi/"); ok { // cdi/vendor/class/name
			vendor, rest, _ := strings.Cut(path, "/")
			class, name, _ := strings.Cut(rest, "/")
			id = cdiName(vendor + "/" + class + "=" + name)
		}
		c.name(id)
	}
	if c.empty() {
		return nil
	}
	return c
}

// hooked reports whether NVIDIA's runtime or hook looks at the environment. It
// does too for a request that leaves the choice open (--gpus 0).
func hooked(r Request) bool {
	return r.Runtime == "nvidia" || strings.HasPrefix(r.Runtime, "nvidia-") ||
		slices.ContainsFunc(r.DeviceRequests, func(d DeviceRequest) bool {
			return forNVIDIA(d) && d.Count == 0 && len(d.IDs) == 0
		})
}

// fromEnv is the claim of NVIDIA_VISIBLE_DEVICES. "all" is uncertain, since
// nearly every CUDA image brings it along.
func fromEnv(env map[string]string) *Claim {
	list, set := env["NVIDIA_VISIBLE_DEVICES"]
	if !set && env["CUDA_VERSION"] != "" && env["NVIDIA_REQUIRE_CUDA"] == "" {
		list = "all" // an image from before that variable
	}
	c := &Claim{Source: "NVIDIA_VISIBLE_DEVICES"}
	c.name(list)
	if c.empty() {
		return nil
	}
	c.Certain = !c.All
	return c
}

// addMinors adds device files to a certain claim; they stand in for any other.
func addMinors(c *Claim, paths []string) *Claim {
	var minors []int
	for _, p := range paths {
		if isMinor(p) && len(minors) < maxNamed {
			n, _ := index(strings.TrimPrefix(p, minorPrefix))
			minors = append(minors, n)
		}
	}
	if len(minors) == 0 {
		return c
	}
	if c == nil || !c.Certain {
		c = &Claim{Source: "--device", Certain: true}
	}
	if !c.All {
		minors = append(minors, c.Minors...)
		slices.Sort(minors)
		c.Minors = slices.Compact(minors)
	}
	return c
}

// specified puts device files in the place of names that a CDI specification
// explains, and that say nothing by themselves.
func (c *Claim) specified(files func(name string) []string) *Claim {
	if c == nil || files == nil {
		return c
	}
	var paths, left []string
	for _, id := range c.IDs {
		var of []string
		if formOf(id) == byName {
			of = files(id)
		}
		if !slices.ContainsFunc(of, isMinor) {
			left = append(left, id)
			continue
		}
		paths = append(paths, of...)
	}
	c.IDs = left
	return addMinors(c, paths)
}

func isMinor(path string) bool {
	text, ok := strings.CutPrefix(path, minorPrefix)
	_, isNumber := index(text)
	return ok && isNumber
}

func (c *Claim) empty() bool { return !c.All && c.First == 0 && len(c.IDs) == 0 }

// name adds a list with commas to what c names. The word "all" stands for
// every GPU; "none" and "void" end the list with nothing.
func (c *Claim) name(list string) {
	for id := range strings.SplitSeq(list, ",") {
		id = strings.TrimSpace(id)
		if strings.Contains(id, "=") {
			id = cdiName(id)
		}
		switch {
		case strings.EqualFold(id, "all"):
			c.All, c.IDs = true, nil
			return
		case strings.EqualFold(id, "none"), strings.EqualFold(id, "void"):
			c.IDs = nil
			return
		case id == "", strings.HasPrefix(id, "/"), len(c.IDs) == maxNamed: // a path says: look at the mounts
		default:
			c.add(printable(id, maxName))
		}
	}
}

func (c *Claim) add(id string) {
	if n, ok := slices.BinarySearchFunc(c.IDs, id, compareNames); !ok && id != "" {
		c.IDs = slices.Insert(c.IDs, n, id)
	}
}

// merge adds what another request asks for.
func (c *Claim) merge(other *Claim) *Claim {
	switch {
	case c == nil:
		return other
	case other == nil:
		return c
	case c.All || other.All:
		return &Claim{Source: c.Source, Certain: true, All: true}
	}
	c.First = max(c.First, other.First)
	for _, id := range other.IDs {
		c.add(id)
	}
	return c
}

// cdiName is what follows the = in the CDI name of an NVIDIA GPU, without the
// word for its type that some specifications put there (gpu0, mig1:0). Empty:
// it names no such GPU.
func cdiName(s string) string {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, _ := strings.Cut(kind, "/")
	if !ok || class != "gpu" || vendor != "nvidia.com" && !strings.HasSuffix(vendor, ".nvidia.com") {
		return ""
	}
	for _, word := range []string{"gpu", "mig"} {
		if rest, ok := strings.CutPrefix(name, word); ok && formOf(rest) == byIndex {
			return rest
		}
	}
	return name
}

// visible reads CUDA_VISIBLE_DEVICES; nil: it is not set or makes no sense.
// CUDA reads it up to the first number that is no GPU.
func visible(env map[string]string) []string {
	text, set := env["CUDA_VISIBLE_DEVICES"]
	if !set {
		return nil
	}
	if text = strings.TrimSpace(text); text == "" || strings.EqualFold(text, "NoDevFiles") {
		return []string{noneVisible}
	}
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		_, isIndex := index(item)
		_, isNegative := index(strings.TrimPrefix(item, "-"))
		switch {
		case isIndex, isUUID(item):
			if len(out) < maxNamed {
				out = append(out, item)
			}
		case isNegative && len(out) == 0:
			return []string{noneVisible}
		case isNegative:
			return out
		case item != "":
			return nil
		}
	}
	return out
}

// isUUID reports whether s may be a UUID of the driver's, or the start of one.
func isUUID(s string) bool {
	if len(s) <= 4 || len(s) > maxName || s[:4] != "GPU-" && s[:4] != "MIG-" {
		return false
	}
	return !strings.ContainsFunc(s[4:], func(r rune) bool {
		return !strings.ContainsRune("0123456789abcdefABCDEFGPU-/", r)
	})
}
