// Package fakenvml is a stand-in for NVIDIA's driver library, for tests of the
// real path through cgo on machines without a GPU.
//
// A [Driver] is a folder with a scenario, lines of "key value" that the library
// reads anew on each call, and a file to which events are appended. The keys:
//
//	count, driver, init.ret, init.hang_ms, count.ret
//	gpuN.uuid, name, minor, pci, total, used, reserved, temperature, margin,
//	     threshold, reasons, ecc, sram, retired, fabric, fabric.status, numa
//	gpuN.rows           corrected uncorrected pending failed
//	gpuN.compute        PID:BYTES,PID:BYTES (graphics and mps likewise)
//	gpuN.mig            GI:CI,GI:CI
//	gpuN.field.230      a value of GetFieldValues; gpuN.field.230.ret its code
//	gpuN.supported      the mask of event types
//	gpuN.ret            the return code of every call on it
//	gpuN.hang_ms        how long every call on it takes
//	gpuN.CALL.ret, gpuN.CALL.hang_ms
//	                    the same of one call: handle, memory, temperature,
//	                    reasons, fields, rows, ecc, sram, fabric, compute …
//
// Numbers may be hexadecimal. What is not set is as on a healthy H100.
package fakenvml

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

//go:embed testdata/fakenvml.c
var source []byte

// Variants of the library, for Build.
const (
	NoFields = "-DFAKE_NO_FIELDS" // without GetFieldValues
	NoV3     = "-DFAKE_NO_V3"     // process lists of version 2 only, as before 515
	Bare     = "-DFAKE_BARE"      // nothing that is optional, and no events
)

// The types of NVML's events.
const (
	EventDBE         = 0x2
	EventXid         = 0x8
	EventUnavailable = 0x4000
	EventRecovery    = 0x8000
)

// Build compiles the library, unless an earlier run did, and returns its
// absolute path. The test is skipped where there is no C compiler, and fails
// there when REQUIRE_GCC is set.
func Build(tb testing.TB, variants ...string) string {
	tb.Helper()
	sum := sha256.Sum256(append(slices.Clone(source), strings.Join(variants, " ")...))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("defib-fakenvml-%d-%s", os.Getuid(), hex.EncodeToString(sum[:8])))
	so := filepath.Join(dir, "libnvidia-ml.so.1")
	if _, err := os.Stat(so); err == nil {
		return so
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		if os.Getenv("REQUIRE_GCC") != "" {
			tb.Fatal("gcc is needed to build the stand-in for the driver library")
		}
		tb.Skip("no gcc, so no stand-in for the driver library")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	compile(tb, so, variants)
	return so
}

// compile writes beside so first: several test programs may build it at once.
func compile(tb testing.TB, so string, variants []string) {
	tb.Helper()
	part, err := os.CreateTemp(filepath.Dir(so), "part")
	if err != nil {
		tb.Fatal(err)
	}
	defer part.Close()
	args := append([]string{"-shared", "-fPIC", "-O2", "-Wl,-soname,libnvidia-ml.so.1", "-o", part.Name(), "-x", "c", "-"}, variants...)
	cmd := exec.CommandContext(tb.Context(), "gcc", args...)
	cmd.Stdin = strings.NewReader(string(source))
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build the stand-in for the driver library: %v\n%s", err, out)
	}
	if err := os.Rename(part.Name(), so); err != nil {
		tb.Fatal(err)
	}
}

// Driver is one pretended driver with its GPUs. Its methods may be called from
// anywhere, while programs use it.
type Driver struct {
	tb  testing.TB
	so  string
	dir string

	mu     sync.Mutex
	keys   []string
	values map[string]string
}

// New returns a driver with one healthy GPU. so comes from [Build].
func New(tb testing.TB, so string) *Driver {
	tb.Helper()
	d := &Driver{tb: tb, so: so, dir: tb.TempDir(), values: map[string]string{}}
	d.Set("count", 1)
	d.append("")
	return d
}

// Library is the path of the library.
func (d *Driver) Library() string { return d.so }

// Dir is the folder of the scenario.
func (d *Driver) Dir() string { return d.dir }

// Env is what a program that is to meet this driver needs in its environment,
// apart from the path of the library.
func (d *Driver) Env() []string { return []string{"DEFIB_FAKE_NVML_DIR=" + d.dir} }

// UUID is that of the GPU with this index, unless the scenario says otherwise.
func UUID(index int) string { return fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", index) }

// Set sets one key of the scenario.
func (d *Driver) Set(key string, value any) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = fmt.Sprint(value)
	d.write()
}

// Unset takes one key back: the default holds again.
func (d *Driver) Unset(key string) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys = slices.DeleteFunc(d.keys, func(k string) bool { return k == key })
	delete(d.values, key)
	d.write()
}

// SetGPU sets a key of one GPU.
func (d *Driver) SetGPU(index int, key string, value any) {
	d.tb.Helper()
	d.Set(fmt.Sprintf("gpu%d.%s", index, key), value)
}

// UnsetGPU takes a key of one GPU back.
func (d *Driver) UnsetGPU(index int, key string) {
	d.tb.Helper()
	d.Unset(fmt.Sprintf("gpu%d.%s", index, key))
}

// write replaces the scenario in one step.
func (d *Driver) write() {
	d.tb.Helper()
	var b strings.Builder
	for _, k := range d.keys {
		fmt.Fprintf(&b, "%s %s\n", k, d.values[k])
	}
	part := filepath.Join(d.dir, "scenario.part")
	if err := os.WriteFile(part, []byte(b.String()), 0o600); err != nil {
		d.tb.Fatal(err)
	}
	if err := os.Rename(part, filepath.Join(d.dir, "scenario")); err != nil {
		d.tb.Fatal(err)
	}
}

// Opened is how often the library was opened, and Closed how often it was closed
// again: not by programs that were killed.
func (d *Driver) Opened() (opened, closed int) {
	d.tb.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, "trace"))
	if err != nil && !os.IsNotExist(err) {
		d.tb.Fatal(err)
	}
	return strings.Count(string(text), "open "), strings.Count(string(text), "close ")
}

// Xid reports an Xid of a whole GPU; 999 is one whose number NVML hides.
func (d *Driver) Xid(index, code int) {
	d.tb.Helper()
	d.Event(index, EventXid, code)
}

// XidMIG reports an Xid of one instance.
func (d *Driver) XidMIG(index, code, gi, ci int) {
	d.tb.Helper()
	d.append(fmt.Sprintf("%d ev %#x %d %d %d\n", index, EventXid, code, gi, ci))
}

// Event reports an event of any type.
func (d *Driver) Event(index, kind, data int) {
	d.tb.Helper()
	d.append(fmt.Sprintf("%d ev %#x %d\n", index, kind, data))
}

// Lost makes a GPU fall off the bus: every call on it returns 15 from now on,
// and those who wait for its events are told.
func (d *Driver) Lost(index int) {
	d.tb.Helper()
	d.SetGPU(index, "ret", 15)
}

func (d *Driver) append(line string) {
	d.tb.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "events"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.tb.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		d.tb.Fatal(err)
	}
}
