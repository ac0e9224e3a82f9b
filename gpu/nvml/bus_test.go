//go:build cgo

package nvml

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
)

// put writes a file of a tree, and its folders.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// onBus puts a device on the bus.
func onBus(t *testing.T, pci, address, vendor, class, driver string) {
	t.Helper()
	put(t, filepath.Join(pci, address, "vendor"), vendor)
	put(t, filepath.Join(pci, address, "class"), class)
	if driver != "" {
		if err := os.Symlink("../../drivers/"+driver, filepath.Join(pci, address, "driver")); err != nil {
			t.Fatal(err)
		}
	}
}

// What is on the bus and whose.
func TestBus(t *testing.T) {
	t.Parallel()
	pci, proc := filepath.Join(t.TempDir(), "pci"), filepath.Join(t.TempDir(), "proc")
	onBus(t, pci, "0000:3b:00.0", "0x10de", "0x030200", "nvidia")
	onBus(t, pci, "0000:3c:00.0", "0x10de", "0x030000", "nvidia")
	onBus(t, pci, "0000:3d:00.0", "0x10de", "0x030200", "nvidia")
	onBus(t, pci, "0000:3c:00.1", "0x10de", "0x040300", "snd_hda_intel") // its sound
	onBus(t, pci, "0000:3e:00.0", "0x10de", "0x030200", "vfio-pci")      // in a virtual machine
	onBus(t, pci, "0000:3f:00.0", "0x10de", "0x030200", "")
	onBus(t, pci, "0000:01:00.0", "0x1a03", "0x030000", "ast")
	b := newBus(pci, proc)
	plain := func(address string) gpu.Device {
		return gpu.Device{UUID: address, Index: -1, Minor: -1, PCI: address}
	}
	check := func(what string, wantMore bool, want ...gpu.Device) {
		t.Helper()
		got, more := b.devices()
		if diff := cmp.Diff(want, got); diff != "" || more != wantMore {
			t.Errorf("%s, and more: %v (-want +got):\n%s", what, more, diff)
		}
	}
	check("by the bus alone", false, plain("0000:3b:00.0"), plain("0000:3c:00.0"), plain("0000:3d:00.0"))
	put(t, filepath.Join(proc, "0000:3b:00.0", "information"), "Model: \t\t NVIDIA L40S\nIRQ:   \t\t 17\nGPU UUID: \t GPU-1234\nBus Location: \t 0000:3b:00.0")
	put(t, filepath.Join(proc, "0000:3c:00.0", "information"), "Model: \t\t Unknown\nGPU UUID: \t GPU-????????-????-????-????-????????????")
	check("with the driver's list", true, // the third is not for this container
		gpu.Device{UUID: "GPU-1234", Index: -1, Minor: -1, PCI: "0000:3b:00.0", Name: "NVIDIA L40S"},
		gpu.Device{UUID: "0000:3c:00.0", Index: -1, Minor: -1, PCI: "0000:3c:00.0", Name: "Unknown"})
	for address, want := range map[string]string{
		"0000:3b:00.0": "nvidia true", "0000:3e:00.0": "vfio-pci true", "0000:3f:00.0": " true", "0000:4f:00.0": " false", "": " false",
	} {
		if driver, present := b.driver(address); fmt.Sprint(driver, " ", present) != want {
			t.Errorf("%s: %q, %v, want %s", address, driver, present, want)
		}
	}
}

// A GPU that is on the bus, or was there, and that NVML does not list.
func TestMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 2)
	onBus(t, r.pci, "0000:3b:00.0", "0x10de", "0x030200", "nvidia")
	onBus(t, r.pci, "0000:3c:00.0", "0x10de", "0x030200", "nvidia")
	onBus(t, r.pci, "0000:3d:00.0", "0x10de", "0x030200", "nvidia")
	got := r.up(t)
	want := gpu.Device{UUID: "0000:3d:00.0", Index: -1, Minor: -1, PCI: "0000:3d:00.0"}
	if len(got.GPU.Devices) != 3 || !cmp.Equal(got.GPU.Devices[2], want) {
		t.Errorf("devices: %+v", got.GPU.Devices)
	}
	r.untilReading(t, "never listed", func(one gpu.Reading) bool { return one.UUID == want.UUID && one.Trouble == gpu.TroubleMissing })
	r.drv.Set("count", 1) // the second one goes without a word
	r.untilReading(t, "not listed any more", func(one gpu.Reading) bool {
		return one.UUID == fakenvml.UUID(1) && one.Trouble == gpu.TroubleMissing
	})
	if got := r.poll(t, "GPU-unheard-of"); len(got) != 1 || got[0].Trouble != gpu.TroubleMissing {
		t.Errorf("a GPU that never was: %+v", got)
	}
	r.drv.Set("count", 2)
	r.untilReading(t, "back", func(one gpu.Reading) bool { return one.UUID == fakenvml.UUID(1) && one.Trouble == "" })
}

// A GPU that NVML lists late, as after a reset, goes by its UUID from then on,
// and by its address no more.
func TestNamedLater(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 1)
	onBus(t, r.pci, "0000:3b:00.0", "0x10de", "0x030200", "nvidia")
	onBus(t, r.pci, "0000:3c:00.0", "0x10de", "0x030200", "nvidia")
	r.up(t)
	r.untilReading(t, "by its address", func(one gpu.Reading) bool { return one.UUID == "0000:3c:00.0" && one.Trouble == gpu.TroubleMissing })
	r.drv.Set("count", 2)
	r.untilReading(t, "by its UUID", func(one gpu.Reading) bool { return one.UUID == fakenvml.UUID(1) && one.Trouble == "" })
	_, latest := r.Latest()
	for what, got := range map[string][]gpu.Reading{"a poll of all": r.poll(t), "the newest": latest} {
		var names []string
		for _, one := range got {
			names = append(names, one.UUID)
		}
		if diff := cmp.Diff([]string{fakenvml.UUID(0), fakenvml.UUID(1)}, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	if got := r.poll(t, "0000:3c:00.0"); len(got) != 1 || got[0].UUID != "0000:3c:00.0" || got[0].Trouble != "" {
		t.Errorf("asked for by its address, as before it was listed: %+v", got)
	}
}

// The GPU that the child is busy with is one of those that it listed, where two
// have had the same index.
func TestStandsAtAListedOne(t *testing.T) {
	t.Parallel()
	p := New(Options{Command: []string{"none"}})
	for i := range 8 {
		uuid := fmt.Sprintf("GPU-%d", i)
		p.devices[uuid] = gpu.Device{UUID: uuid}
	}
	listed := []gpu.Device{p.devices["GPU-5"]}
	if got := p.standsAt(&child{place: 1, devices: listed}); got != "GPU-5" {
		t.Errorf("it stands at %s, want GPU-5, which is listed", got)
	}
	p.told = listed
	if got := p.standsAt(&child{place: 1}); got != "GPU-5" {
		t.Errorf("before a list it stands at %s, want GPU-5, as listed last", got)
	}
}

// A GPU that a human takes from the driver is no fault; one that is on the bus
// no more, or still the driver's, is.
func TestUnbound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 3)
	for _, address := range []string{"0000:3b:00.0", "0000:3c:00.0", "0000:3d:00.0"} {
		onBus(t, r.pci, address, "0x10de", "0x030200", "nvidia")
	}
	r.up(t)
	r.registered(t, 1)
	rebind := func(address, driver string) {
		link := filepath.Join(r.pci, address, "driver")
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if driver != "" {
			if err := os.Symlink("../../drivers/"+driver, link); err != nil {
				t.Fatal(err)
			}
		}
	}
	unbound := func(index int, detail string) {
		t.Helper()
		r.untilReading(t, detail, func(one gpu.Reading) bool {
			return one.UUID == fakenvml.UUID(index) && one.Trouble == gpu.TroubleUnbound && one.Detail == detail
		})
	}
	rebind("0000:3d:00.0", "")
	r.drv.Set("count", 2)
	unbound(2, "it was taken from the NVIDIA driver; on the bus it belongs to no driver now")
	rebind("0000:3c:00.0", "vfio-pci")
	r.drv.Set("count", 1)
	unbound(1, "it was taken from the NVIDIA driver; on the bus it belongs to vfio-pci now")
	r.drv.Event(1, fakenvml.EventUnavailable, 0) // which the driver may say of it
	r.drv.Xid(0, 31)
	for f := r.untilFault(t); f.Code != 31; f = r.untilFault(t) {
		if f.Kind == gpu.FaultBusLoss {
			t.Errorf("it is said to have fallen off the bus: %+v", f)
		}
	}
	rebind("0000:3c:00.0", "nvidia")
	r.drv.Set("count", 2)
	r.untilReading(t, "back", func(one gpu.Reading) bool { return one.UUID == fakenvml.UUID(1) && one.Trouble == "" })
}

// A GPU without a handle has the index at which the driver counts it, when the
// two are as many: both are in the order of the bus.
func TestSilentIndex(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		bus     []string // besides those that are listed
		silent  []int
		indices []int
		partial bool
	}{
		{"as many", []string{"0000:3c:00.0", "0000:3e:00.0"}, []int{1, 3}, []int{0, 2, 1, 3}, false},
		{"more on the bus", []string{"0000:3c:00.0", "0000:4f:00.0"}, []int{1}, []int{0, 2, 3, -1, -1}, false},
		{"more in the driver", []string{"0000:3c:00.0"}, []int{1, 3}, []int{0, 2, -1}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.drv.Set("count", 4)
			for _, i := range test.silent {
				r.drv.SetGPU(i, "handle.ret", 15)
			}
			for _, address := range append(test.bus, "0000:3b:00.0", "0000:3d:00.0") {
				onBus(t, r.pci, address, "0x10de", "0x030200", "nvidia")
			}
			got := r.up(t).GPU
			var indices []int
			for _, d := range got.Devices {
				indices = append(indices, d.Index)
			}
			if diff := cmp.Diff(test.indices, indices); diff != "" || got.Driver.Partial != test.partial {
				t.Errorf("partial: %v, indices (-want +got):\n%s", got.Driver.Partial, diff)
			}
		})
	}
}

// A GPU that gives no handle: its code is why it cannot be read. One that is
// not given to this container is none of ours, and that there is one is said.
func TestNoHandle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.drv.Set("count", 3)
	r.drv.SetGPU(1, "handle.ret", 15)
	r.drv.SetGPU(2, "handle.ret", 4)
	onBus(t, r.pci, "0000:3c:00.0", "0x10de", "0x030200", "nvidia")
	if got := r.up(t); len(got.GPU.Devices) != 2 || got.GPU.Devices[1].PCI != "0000:3c:00.0" || got.GPU.Devices[1].Index != 1 || !got.GPU.Driver.Partial {
		t.Errorf("driver %+v, devices %+v", got.GPU.Driver, got.GPU.Devices)
	}
	got := r.poll(t, "0000:3c:00.0")
	if len(got) != 1 || got[0].Trouble != gpu.TroubleLost {
		t.Errorf("reading: %+v", got)
	}
}
