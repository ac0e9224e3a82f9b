package nvml

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/defib-dev/defib/gpu"
)

const (
	busPath      = "/sys/bus/pci/devices"
	nvidiaDriver = "nvidia"
)

// bus knows which GPUs the kernel and the driver's own list have, whether NVML
// lists them or not.
type bus struct {
	pci, proc string
	display   map[string]bool // by the name of a PCI device: it is a display of NVIDIA's
}

func newBus(pci, proc string) *bus { return &bus{pci: pci, proc: proc, display: map[string]bool{}} }

// devices returns the GPUs that the driver has bound, by address. In a
// container that was given some of them, /proc/driver/nvidia/gpus names only
// those, and more is true; where that folder is missing the bus alone counts.
// The UUID is the address where the driver does not tell it, and nothing else is
// known.
func (b *bus) devices() (out []gpu.Device, more bool) {
	entries, err := os.ReadDir(b.pci)
	if err != nil {
		return nil, false
	}
	mine, narrowed := b.granted()
	for _, e := range entries {
		if !b.isDisplay(e.Name()) || !b.bound(e.Name()) {
			continue
		}
		pci := gpu.Address(e.Name())
		if narrowed && !slices.Contains(mine, pci) {
			more = true
			continue
		}
		uuid, name := b.information(e.Name())
		if uuid == "" {
			uuid = pci
		}
		out = append(out, gpu.Device{UUID: uuid, Index: -1, Minor: -1, PCI: pci, Name: name})
	}
	return out, more
}

// isDisplay: vendor 10de, class 0300 or 0302. A device never changes these.
func (b *bus) isDisplay(name string) bool {
	is, known := b.display[name]
	if !known {
		class := b.attribute(name, "class")
		is = b.attribute(name, "vendor") == "0x10de" && (strings.HasPrefix(class, "0x0300") || strings.HasPrefix(class, "0x0302"))
		b.display[name] = is
	}
	return is
}

// bound: NVIDIA's driver has it. One that is handed to a virtual machine is
// on the bus as well, and not missing.
func (b *bus) bound(name string) bool {
	driver, _ := b.driver(name)
	return driver == nvidiaDriver
}

// driver is the name of what drives a device; empty: nothing does. present: the
// device is on the bus.
func (b *bus) driver(name string) (driver string, present bool) {
	if name == "" {
		return "", false
	}
	link, err := os.Readlink(filepath.Join(b.pci, name, "driver"))
	if err == nil {
		return filepath.Base(link), true
	}
	_, err = os.Stat(filepath.Join(b.pci, name))
	return "", err == nil
}

func (b *bus) attribute(name, file string) string {
	text, err := os.ReadFile(filepath.Join(b.pci, name, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (b *bus) granted() (addresses []string, known bool) {
	entries, err := os.ReadDir(b.proc)
	if err != nil {
		return nil, false
	}
	for _, e := range entries {
		addresses = append(addresses, gpu.Address(e.Name()))
	}
	return addresses, true
}

// information reads what the driver's own list says; a GPU that it could not
// initialise has question marks for a UUID.
func (b *bus) information(name string) (uuid, model string) {
	text, err := os.ReadFile(filepath.Join(b.proc, name, "information"))
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "GPU UUID":
			uuid = value
		case "Model":
			model = value
		}
	}
	if strings.Contains(uuid, "?") {
		uuid = ""
	}
	return uuid, model
}
