package gpu

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const (
	uuid0  = "GPU-3f2a1b0c-1111-2222-3333-444444444444"
	uuid1  = "GPU-3f2a9999-1111-2222-3333-444444444444"
	uuid2  = "GPU-77777777-1111-2222-3333-444444444444"
	mig10  = "MIG-aaaa0000-1111-2222-3333-444444444444"
	mig11  = "MIG-aaaa1111-1111-2222-3333-444444444444"
	toSelf = "/var/run/nvidia-container-devices"
)

func gpus(ids ...string) []DeviceRequest {
	return []DeviceRequest{{IDs: ids, Capabilities: [][]string{{"gpu"}}}}
}

func cdi(ids ...string) []DeviceRequest { return []DeviceRequest{{Driver: "cdi", IDs: ids}} }

func runtime(env ...string) Request { return Request{Runtime: "nvidia", Env: env} }

func TestClaimOf(t *testing.T) {
	capable := func(d DeviceRequest, words ...string) Request {
		d.Capabilities = [][]string{words}
		return Request{DeviceRequests: []DeviceRequest{d}}
	}
	for _, tc := range []struct {
		name string
		r    Request
		want *Claim
	}{
		{"nothing", Request{}, nil},

		{"--gpus all", capable(DeviceRequest{Count: -1}, "gpu"), &Claim{Source: "--gpus", All: true, Certain: true}},
		{"--gpus 2", capable(DeviceRequest{Count: 2}, "gpu"), &Claim{Source: "--gpus", First: 2, Certain: true}},
		{"a count without limit", capable(DeviceRequest{Count: 1 << 40}, "gpu"), &Claim{Source: "--gpus", First: maxNamed, Certain: true}},
		{"by index and UUID, unordered and twice", Request{DeviceRequests: gpus(uuid0, "10", "2", "2")}, &Claim{Source: "--gpus", IDs: []string{"2", "10", uuid0}, Certain: true}},
		{"MIG", Request{DeviceRequests: gpus("1:0", mig10)}, &Claim{Source: "--gpus", IDs: []string{"1:0", mig10}, Certain: true}},
		{"device=all", Request{DeviceRequests: gpus("all")}, &Claim{Source: "--gpus", All: true, Certain: true}},
		{"device=none", Request{DeviceRequests: gpus("none")}, nil},
		{"IDs in one word", Request{DeviceRequests: gpus("0,1")}, &Claim{Source: "--gpus", IDs: []string{"0", "1"}, Certain: true}},
		{"the driver by name, without capabilities", Request{DeviceRequests: []DeviceRequest{{Driver: "nvidia", Count: -1}}}, &Claim{Source: "--gpus", All: true, Certain: true}},
		{"only compute", capable(DeviceRequest{Count: -1}, "compute", "utility"), &Claim{Source: "--gpus", All: true, Certain: true}},
		{"AMD's GPUs", capable(DeviceRequest{Count: -1}, "gpu", "amd"), nil},
		{"another driver", capable(DeviceRequest{Driver: "amd", Count: -1}, "gpu"), nil},
		{"no driver and no capabilities", Request{DeviceRequests: []DeviceRequest{{Count: -1}}}, nil},
		{"another capability", capable(DeviceRequest{Count: -1}, "tpu"), nil},
		{"two requests", Request{DeviceRequests: append(gpus("1"), gpus("0", "1")...)}, &Claim{Source: "--gpus", IDs: []string{"0", "1"}, Certain: true}},
		{"a count and IDs", Request{DeviceRequests: append(gpus(uuid2), DeviceRequest{Driver: "nvidia", Count: 1})}, &Claim{Source: "--gpus", First: 1, IDs: []string{uuid2}, Certain: true}},
		{"one and all", Request{DeviceRequests: append(gpus("1"), DeviceRequest{Driver: "nvidia", Count: -1})}, &Claim{Source: "--gpus", All: true, Certain: true}},
		{"--gpus wins over an image's all", Request{DeviceRequests: gpus("1"), Runtime: "nvidia", Env: []string{"NVIDIA_VISIBLE_DEVICES=all"}, Privileged: true}, &Claim{Source: "--gpus", IDs: []string{"1"}, Certain: true}},
		{"--gpus 0 leaves it to the image", Request{DeviceRequests: []DeviceRequest{{Driver: "nvidia"}}, Env: []string{"NVIDIA_VISIBLE_DEVICES=all"}}, &Claim{Source: "NVIDIA_VISIBLE_DEVICES", All: true}},
		{"--gpus 0 and no image to say", Request{DeviceRequests: []DeviceRequest{{Driver: "nvidia"}}}, nil},

		{"CDI all", Request{DeviceRequests: cdi("nvidia.com/gpu=all")}, &Claim{Source: "cdi", All: true, Certain: true}},
		{"CDI, every way to name", Request{DeviceRequests: cdi("nvidia.com/gpu=0", "nvidia.com/gpu=gpu1", "nvidia.com/gpu=1:0", "nvidia.com/gpu=mig1:1", "nvidia.com/gpu="+uuid2, "nvidia.com/gpu="+mig10)}, &Claim{Source: "cdi", IDs: []string{"0", "1", "1:0", "1:1", uuid2, mig10}, Certain: true}},
		{"CDI of the runtime's own", Request{DeviceRequests: cdi("runtime.nvidia.com/gpu=0")}, &Claim{Source: "cdi", IDs: []string{"0"}, Certain: true}},
		{"CDI of others", Request{DeviceRequests: cdi("amd.com/gpu=0", "vendor.com/net=0", "notnvidia.com/gpu=0", "nvidia.com/net=0", "nvidia.com/gpu")}, nil},
		{"CDI as a plain device", Request{Devices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}}, &Claim{Source: "cdi", IDs: []string{"0", "1"}, Certain: true}},
		{"CDI and --gpus", Request{DeviceRequests: append(gpus("1"), cdi("nvidia.com/gpu=0")...)}, &Claim{Source: "--gpus", IDs: []string{"0", "1"}, Certain: true}},

		{"the runtime and a list", runtime("NVIDIA_VISIBLE_DEVICES=1,0"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", IDs: []string{"0", "1"}, Certain: true}},
		{"a list with blanks", runtime("NVIDIA_VISIBLE_DEVICES= 1 , ,0,"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", IDs: []string{"0", "1"}, Certain: true}},
		{"a prefix, MIG forms, CDI", runtime("NVIDIA_VISIBLE_DEVICES=GPU-3f2a1,MIG-GPU-77/1/0,0:1,nvidia.com/gpu=gpu2"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", IDs: []string{"2", "0:1", "GPU-3f2a1", "MIG-GPU-77/1/0"}, Certain: true}},
		{"CDI all in the environment", runtime("NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=all"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", All: true}},
		{"all", runtime("NVIDIA_VISIBLE_DEVICES=all"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", All: true}},
		{"none", runtime("NVIDIA_VISIBLE_DEVICES=none"), nil},
		{"void", runtime("NVIDIA_VISIBLE_DEVICES=void"), nil},
		{"empty", runtime("NVIDIA_VISIBLE_DEVICES=", "CUDA_VERSION=9.0"), nil},
		{"unset", runtime("PATH=/bin"), nil},
		{"a legacy image", runtime("CUDA_VERSION=9.0.176"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", All: true}},
		{"a newer image", runtime("CUDA_VERSION=12.4", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"), nil},
		{"the last counts", runtime("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=1"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", IDs: []string{"1"}, Certain: true}},
		{"another of NVIDIA's runtimes", Request{Runtime: "nvidia-cdi", Env: []string{"NVIDIA_VISIBLE_DEVICES=0"}}, &Claim{Source: "NVIDIA_VISIBLE_DEVICES", IDs: []string{"0"}, Certain: true}},
		{"an image's all and another runtime", Request{Runtime: "runc", Env: []string{"NVIDIA_VISIBLE_DEVICES=all", "CUDA_VERSION=9"}}, nil},

		{"mounts", Request{Runtime: "nvidia", Mounts: []string{mountRoot + "1", mountRoot + uuid0, "/data"}, Env: []string{"NVIDIA_VISIBLE_DEVICES=" + toSelf}}, &Claim{Source: "mount", IDs: []string{"1", uuid0}, Certain: true}},
		{"mounts win over the environment", Request{Runtime: "nvidia", Mounts: []string{mountRoot + "1"}, Env: []string{"NVIDIA_VISIBLE_DEVICES=0"}}, &Claim{Source: "mount", IDs: []string{"1"}, Certain: true}},
		{"a mount of all", Request{Mounts: []string{mountRoot + "all"}}, &Claim{Source: "mount", All: true, Certain: true}},
		{"CDI as a mount", Request{Mounts: []string{mountRoot + "cdi/nvidia.com/gpu/0", mountRoot + "cdi/amd.com/gpu/1", mountRoot + "imex/0"}}, &Claim{Source: "mount", IDs: []string{"0"}, Certain: true}},
		{"an old MIG as a mount", Request{Mounts: []string{mountRoot + "MIG-" + uuid0 + "/1/0"}}, &Claim{Source: "mount", IDs: []string{"MIG-" + uuid0 + "/1/0"}, Certain: true}},
		{"the environment says mounts and there are none", runtime("NVIDIA_VISIBLE_DEVICES=" + toSelf), nil},

		{"device files", Request{Devices: []string{"/dev/nvidia1", "/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-caps/nvidia-cap3", "/dev/kmsg"}}, &Claim{Source: "--device", Minors: []int{0, 1}, Certain: true}},
		{"device files of no GPU", Request{Devices: []string{"/dev/nvidiactl", "/dev/dri/card0", "/dev/nvidia12345"}}, nil},
		{"device files besides --gpus", Request{DeviceRequests: gpus("0"), Devices: []string{"/dev/nvidia1"}}, &Claim{Source: "--gpus", IDs: []string{"0"}, Minors: []int{1}, Certain: true}},
		{"device files besides all", Request{DeviceRequests: gpus("all"), Devices: []string{"/dev/nvidia1"}}, &Claim{Source: "--gpus", All: true, Certain: true}},
		{"device files win over an image's all", Request{Runtime: "nvidia", Env: []string{"NVIDIA_VISIBLE_DEVICES=all"}, Devices: []string{"/dev/nvidia1"}}, &Claim{Source: "--device", Minors: []int{1}, Certain: true}},
		{"device files win over privileged", Request{Devices: []string{"/dev/nvidia1"}, Privileged: true}, &Claim{Source: "--device", Minors: []int{1}, Certain: true}},

		{"privileged", Request{Privileged: true}, &Claim{Source: "privileged", All: true}},
		{"privileged with a list", Request{Runtime: "nvidia", Env: []string{"NVIDIA_VISIBLE_DEVICES=0"}, Privileged: true}, &Claim{Source: "NVIDIA_VISIBLE_DEVICES", IDs: []string{"0"}, Certain: true}},
		{"privileged and none", Request{Runtime: "nvidia", Env: []string{"NVIDIA_VISIBLE_DEVICES=none"}, Privileged: true}, &Claim{Source: "privileged", All: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ClaimOf(tc.r)); diff != "" {
				t.Errorf("claim (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCDISpecification: names of somebody's own stand for the device files that
// a specification gives them. Those that name a GPU by themselves need none.
func TestCDISpecification(t *testing.T) {
	files := func(name string) []string {
		return map[string][]string{
			"left": {"/dev/nvidia1", "/dev/nvidiactl"}, "both": {"/dev/nvidia0", "/dev/nvidia1"}, "0": {"/dev/nvidia7"},
			"odd": {"/dev/dri/card0"},
		}[name]
	}
	for _, tc := range []struct {
		name string
		r    Request
		want *Claim
	}{
		{"one", Request{DeviceRequests: cdi("nvidia.com/gpu=left")}, &Claim{Source: "cdi", Minors: []int{1}, Certain: true}},
		{"several", Request{DeviceRequests: cdi("nvidia.com/gpu=left", "nvidia.com/gpu=both")}, &Claim{Source: "cdi", Minors: []int{0, 1}, Certain: true}},
		{"besides others", Request{DeviceRequests: cdi("nvidia.com/gpu=left", "nvidia.com/gpu=2"), Devices: []string{"/dev/nvidia4"}}, &Claim{Source: "cdi", IDs: []string{"2"}, Minors: []int{1, 4}, Certain: true}},
		{"in the environment", runtime("NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=left"), &Claim{Source: "NVIDIA_VISIBLE_DEVICES", Minors: []int{1}, Certain: true}},
		{"an index needs none", Request{DeviceRequests: cdi("nvidia.com/gpu=0")}, &Claim{Source: "cdi", IDs: []string{"0"}, Certain: true}},
		{"unknown, and of no GPU", Request{DeviceRequests: cdi("nvidia.com/gpu=right", "nvidia.com/gpu=odd", "nvidia.com/gpu=gpu1st")}, &Claim{Source: "cdi", IDs: []string{"gpu1st", "odd", "right"}, Certain: true}},
	} {
		tc.r.CDI = files
		if diff := cmp.Diff(tc.want, ClaimOf(tc.r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestVisible(t *testing.T) {
	for value, want := range map[string][]string{
		"0":                     {"0"},
		"2, 1":                  {"2", "1"},
		"0,,1,":                 {"0", "1"},
		uuid0 + "," + mig10:     {uuid0, mig10},
		"GPU-3f,MIG-GPU-77/1/0": {"GPU-3f", "MIG-GPU-77/1/0"},
		"":                      {"-1"},
		" ":                     {"-1"},
		"-1":                    {"-1"},
		"-1,0":                  {"-1"},
		"NoDevFiles":            {"-1"},
		"0,-1,1":                {"0"},
		"all":                   nil,
		"0,one":                 nil,
		"0x1":                   nil,
		"--1":                   nil,
		"GPU-":                  nil,
		"GPU-\x00":              nil,
		"12345":                 nil,
		",":                     nil,
	} {
		c := ClaimOf(Request{DeviceRequests: gpus("all"), Env: []string{"CUDA_VISIBLE_DEVICES=" + value}})
		if diff := cmp.Diff(want, c.Visible); diff != "" {
			t.Errorf("CUDA_VISIBLE_DEVICES=%q (-want +got):\n%s", value, diff)
		}
	}
	for _, env := range []string{"CUDA_VISIBLE_DEVICES", "XCUDA_VISIBLE_DEVICES=0"} {
		if c := ClaimOf(Request{DeviceRequests: gpus("all"), Env: []string{env}}); c.Visible != nil {
			t.Errorf("%s: %q", env, c.Visible)
		}
	}
	if c := ClaimOf(Request{Env: []string{"CUDA_VISIBLE_DEVICES=0"}}); c != nil {
		t.Errorf("it asks for no GPU, and gets %+v", c)
	}
}

func FuzzClaim(f *testing.F) {
	f.Add("all", "0")
	f.Add("0,GPU-3f2a1,MIG-GPU-77/1/0,0:1,nvidia.com/gpu=mig1:0", "-1,GPU-3f")
	f.Add(strings.Repeat("x,", 300)+"void", "\xff,1")
	f.Add("=,nvidia.com/gpu==,\x00", "NoDevFiles")
	f.Fuzz(func(t *testing.T, devices, visible string) {
		env := []string{"NVIDIA_VISIBLE_DEVICES=" + devices, "CUDA_VISIBLE_DEVICES=" + visible}
		for _, r := range []Request{
			{Runtime: "nvidia", Env: env},
			{DeviceRequests: gpus(devices), Env: env},
			{DeviceRequests: cdi(devices), Env: env},
			{Devices: []string{devices}, Mounts: []string{mountRoot + devices}, Env: env},
		} {
			c := ClaimOf(r)
			if c == nil {
				continue
			}
			named := slices.Concat(c.IDs, c.Visible, c.Names())
			if len(c.IDs) > maxNamed || len(c.Visible) > maxNamed {
				t.Fatalf("%d and %d names", len(c.IDs), len(c.Visible))
			}
			for _, s := range named {
				if s == "" || len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
					t.Fatalf("%q names a GPU", s)
				}
			}
			checkMapping(t, c, c.Resolve(Inventory{Devices: inventoryForTests()}))
		}
	})
}

// checkMapping: every GPU once, in order, and there.
func checkMapping(t *testing.T, c *Claim, m Mapping) {
	t.Helper()
	at := -1
	for _, u := range m.GPUs {
		n := slices.IndexFunc(inventoryForTests(), func(d Device) bool { return d.UUID == u.UUID })
		if n <= at {
			t.Fatalf("%+v becomes %+v", c, m)
		}
		at = n
	}
	if c.All && len(m.Gone) > 0 {
		t.Fatalf("all, and %q is gone", m.Gone)
	}
}
