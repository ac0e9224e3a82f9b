package gpu

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inventoryForTests is three GPUs, the second cut into two instances. The minor
// numbers are not the indices.
func inventoryForTests() []Device {
	return []Device{
		{UUID: uuid0, Index: 0, Minor: 2, Name: "A100"},
		{UUID: uuid1, Index: 1, Minor: 0, Name: "A100", MIG: []MIG{
			{UUID: mig10, Index: 0, GI: 3, CI: 0}, {UUID: mig11, Index: 1, GI: 5, CI: 1},
		}},
		{UUID: uuid2, Index: 2, Minor: -1, Name: "A100"},
	}
}

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Claim
		want []string
	}{
		{"all", Claim{All: true}, []string{"all"}},
		{"privileged", Claim{Source: "privileged", All: true}, []string{"all"}},
		{"one", Claim{IDs: []string{"0"}}, []string{"0"}},
		{"a count", Claim{First: 2}, []string{"0", "1"}},
		{"by number, not by letter", Claim{IDs: []string{"10", "2"}}, []string{"2", "10"}},
		{"a count and IDs", Claim{First: 2, IDs: []string{"1", "3"}}, []string{"0", "1", "3"}},
		{"a UUID and its prefix are one", Claim{IDs: []string{uuid0, "GPU-3f2a1b0c"}}, []string{"GPU-3f2a1b0c"}},
		{"a shorter prefix", Claim{IDs: []string{"GPU-3f"}}, []string{"GPU-3f"}},
		{"MIG", Claim{IDs: []string{"1:0", mig10, "MIG-" + uuid0 + "/1/0"}}, []string{"1:0", "MIG-GPU-3f2a1b0c/1/0", "MIG-aaaa0000"}},
		{"device files", Claim{IDs: []string{"1"}, Minors: []int{0, 12}}, []string{"1", "/dev/nvidia0", "/dev/nvidia12"}},
		{"hidden from CUDA", Claim{All: true, Visible: []string{"-1"}}, nil},
	} {
		if diff := cmp.Diff(tc.want, tc.c.Names()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestResolve(t *testing.T) {
	var (
		zero, one, two = Use{UUID: uuid0}, Use{UUID: uuid1}, Use{UUID: uuid2}
		m10, m11       = MIG{UUID: mig10, Index: 0, GI: 3, CI: 0}, MIG{UUID: mig11, Index: 1, GI: 5, CI: 1}
		part           = func(parts ...MIG) Use { return Use{UUID: uuid1, Parts: parts} }
	)
	for _, tc := range []struct {
		name string
		c    Claim
		gpus []Use
		gone []string
	}{
		{"all", Claim{All: true}, []Use{zero, one, two}, nil},
		{"a count", Claim{First: 2}, []Use{zero, one}, nil},
		{"a count too many", Claim{First: 4}, []Use{zero, one, two}, []string{"3"}},
		{"indices", Claim{IDs: []string{"2", "0", "7"}}, []Use{zero, two}, []string{"7"}},
		{"a UUID", Claim{IDs: []string{uuid1}}, []Use{one}, nil},
		{"a UUID in capitals", Claim{IDs: []string{"GPU-3F2A1B0C-1111-2222-3333-444444444444"}}, []Use{zero}, nil},
		{"a prefix", Claim{IDs: []string{"GPU-3f2A1"}}, []Use{zero}, nil},
		{"a UUID that is gone", Claim{IDs: []string{"GPU-dead"}}, nil, []string{"GPU-dead"}},
		{"an empty prefix", Claim{IDs: []string{"GPU-", "MIG-"}}, nil, []string{"GPU-", "MIG-"}},
		{"twice the same", Claim{First: 1, IDs: []string{"0", uuid0}, Minors: []int{2}}, []Use{zero}, nil},
		{"minors, not indices", Claim{Minors: []int{0, 2}}, []Use{zero, one}, nil},
		{"an instance by UUID", Claim{IDs: []string{mig11}}, []Use{part(m11)}, nil},
		{"an instance by prefix", Claim{IDs: []string{"MIG-aaaa1"}}, []Use{part(m11)}, nil},
		{"an instance by number", Claim{IDs: []string{"1:0"}}, []Use{part(m10)}, nil},
		{"instances in order", Claim{IDs: []string{mig11, "1:1", mig10}}, []Use{part(m10, m11)}, nil},
		{"an instance in the old form", Claim{IDs: []string{"MIG-" + uuid1 + "/5/1"}}, []Use{part(m11)}, nil},
		{"an instance and the whole", Claim{IDs: []string{"1", "1:0"}}, []Use{one}, nil},
		{"instances that are gone", Claim{IDs: []string{"0:0", "1:2", "MIG-" + uuid1 + "/5/0", "MIG-" + uuid1 + "/five/1", "MIG-dead"}}, nil, []string{"0:0", "1:2", "MIG-" + uuid1 + "/5/0", "MIG-" + uuid1 + "/five/1", "MIG-dead"}},

		{"CUDA sees one", Claim{All: true, Visible: []string{"2"}}, []Use{two}, nil},
		{"numbers of the container", Claim{IDs: []string{"1", "2"}, Visible: []string{"1"}}, []Use{two}, nil},
		{"in the order of the bus", Claim{IDs: []string{uuid2, uuid0}, Visible: []string{"0"}}, []Use{zero}, nil},
		{"instances have numbers", Claim{IDs: []string{"0", "1:0", "1:1"}, Visible: []string{"2", "0"}}, []Use{zero, part(m11)}, nil},
		{"by UUID", Claim{All: true, Visible: []string{uuid2, mig10}}, []Use{part(m10), two}, nil},
		{"up to a UUID of another", Claim{IDs: []string{"0", "1"}, Visible: []string{"GPU-3f2a1", uuid2, uuid1}}, []Use{zero}, nil},
		{"only a UUID of another", Claim{IDs: []string{"0", "1"}, Visible: []string{uuid2}}, []Use{zero, one}, nil},
		{"a GPU of which it has an instance", Claim{IDs: []string{"0", "1:0"}, Visible: []string{uuid1}}, []Use{part(m10)}, nil},
		{"up to another instance", Claim{IDs: []string{"0", "1:0"}, Visible: []string{uuid0, mig11, mig10}}, []Use{zero}, nil},
		{"CUDA sees none", Claim{All: true, Visible: []string{"-1"}}, nil, nil},
		{"a number too high", Claim{IDs: []string{"1"}, Visible: []string{"1"}}, []Use{one}, nil},
		{"up to a number too high", Claim{IDs: []string{"0", "1", "2"}, Visible: []string{"1", "5", "0"}}, []Use{one}, nil},
		{"gone and narrowed", Claim{IDs: []string{"0", "2", "9"}, Visible: []string{"0"}}, []Use{zero}, []string{"9"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			devices := inventoryForTests()
			slices.Reverse(devices)
			for _, certain := range []bool{true, false} {
				tc.c.Certain = certain
				want := Mapping{GPUs: tc.gpus, Certain: certain, Gone: tc.gone}
				if diff := cmp.Diff(want, tc.c.Resolve(Inventory{Devices: devices})); diff != "" {
					t.Errorf("mapping (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestResolveUnread: what is not found is not gone as long as a GPU does not
// tell enough of itself to be told from it.
func TestResolveUnread(t *testing.T) {
	const address = "0000:3b:00.0"
	moved := Device{UUID: uuid2, Index: -1, Minor: 9} // lost, and its index is another's
	nameless := Device{UUID: address, PCI: address, Index: 3, Minor: -1}
	unseated := Device{UUID: address, PCI: address, Index: -1, Minor: -1}
	c := Claim{First: 1, IDs: []string{"3", "7:0", "GPU-dead", "MIG-dead"}, Minors: []int{0, 7}, Certain: true}
	found := []Use{{UUID: uuid0}, {UUID: uuid1}}
	for _, tc := range []struct {
		name   string
		lost   Device
		gpus   []Use
		gone   []string
		unread []string
	}{
		{"all tell all", Device{UUID: uuid2, Index: 2, Minor: 9}, found, []string{"/dev/nvidia7", "3", "7:0", "GPU-dead", "MIG-dead"}, nil},
		{"one has lost its index", moved, found, []string{"/dev/nvidia7", "GPU-dead", "MIG-dead"}, []string{"3", "7:0"}},
		{"one has an index alone", nameless, append(slices.Clone(found), Use{UUID: address}), nil, []string{"/dev/nvidia7", "7:0", "GPU-dead", "MIG-dead"}},
		{"one has an address alone", unseated, found, nil, []string{"/dev/nvidia7", "3", "7:0", "GPU-dead", "MIG-dead"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			devices := inventoryForTests()
			devices[2] = tc.lost
			want := Mapping{GPUs: tc.gpus, Certain: true, Gone: tc.gone, Unread: tc.unread}
			if diff := cmp.Diff(want, c.Resolve(Inventory{Devices: devices})); diff != "" {
				t.Errorf("mapping (-want +got):\n%s", diff)
			}
		})
	}
	all := Claim{All: true, Certain: true}
	for _, d := range []Device{nameless, unseated} {
		want := Mapping{GPUs: []Use{{UUID: uuid0}}, Certain: true}
		if d.Index >= 0 { // the other one is not known to be in the driver's list
			want.GPUs = append(want.GPUs, Use{UUID: address})
		}
		if diff := cmp.Diff(want, all.Resolve(Inventory{Devices: []Device{{UUID: uuid0, Index: 0}, d}})); diff != "" {
			t.Errorf("all, with %+v (-want +got):\n%s", d, diff)
		}
	}
}

// TestResolveUncertain: a name that says nothing, and an index where defib was
// given only some of the GPUs, may be any of them. Nothing is gone then.
func TestResolveUncertain(t *testing.T) {
	all := []Use{{UUID: uuid0}, {UUID: uuid1}, {UUID: uuid2}}
	for _, tc := range []struct {
		name    string
		c       Claim
		partial bool
		want    Mapping
	}{
		{"a name of somebody's own", Claim{IDs: []string{"left", "1"}}, false, Mapping{GPUs: all}},
		{"nonsense", Claim{IDs: []string{"-1", "1:x", "3f2a1b0c"}}, false, Mapping{GPUs: all}},
		{"an index among some", Claim{IDs: []string{"1"}}, true, Mapping{GPUs: all}},
		{"a count among some", Claim{First: 1}, true, Mapping{GPUs: all}},
		{"an instance among some", Claim{IDs: []string{"1:0"}}, true, Mapping{GPUs: all}},
		{"a UUID among some", Claim{IDs: []string{uuid1}}, true, Mapping{GPUs: []Use{{UUID: uuid1}}, Certain: true}},
		{"a minor number among some", Claim{Minors: []int{2}}, true, Mapping{GPUs: []Use{{UUID: uuid0}}, Certain: true}},
		{"a UUID of another", Claim{IDs: []string{"GPU-dead"}}, true, Mapping{}},
		{"all of them", Claim{All: true}, true, Mapping{GPUs: all, Certain: true}},
	} {
		tc.c.Certain = true
		if diff := cmp.Diff(tc.want, tc.c.Resolve(Inventory{Devices: inventoryForTests(), Partial: tc.partial})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestResolvePrefixOfSeveral: it may be either, so nothing certain is said.
func TestResolvePrefixOfSeveral(t *testing.T) {
	c := Claim{IDs: []string{"GPU-3f2a"}, Certain: true}
	want := Mapping{GPUs: []Use{{UUID: uuid0}, {UUID: uuid1}}}
	if diff := cmp.Diff(want, c.Resolve(Inventory{Devices: inventoryForTests()})); diff != "" {
		t.Errorf("mapping (-want +got):\n%s", diff)
	}
}

// TestVisibleAmongModels: CUDA puts the fastest first, so a number does not
// say which GPU it is. A UUID does.
func TestVisibleAmongModels(t *testing.T) {
	devices := inventoryForTests()
	devices[2].Name = "T4"
	both := []Use{{UUID: uuid0}, {UUID: uuid2}}
	for visible, want := range map[string][]Use{"0": both, uuid2: {{UUID: uuid2}}} {
		c := Claim{IDs: []string{"0", "2"}, Visible: []string{visible}}
		if diff := cmp.Diff(want, c.Resolve(Inventory{Devices: devices}).GPUs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", visible, diff)
		}
	}
}

func TestResolveWithoutDevices(t *testing.T) {
	c := Claim{First: 1, IDs: []string{uuid0}, Certain: true, Visible: []string{"0"}}
	want := Mapping{Certain: true, Gone: []string{"0", uuid0}}
	if diff := cmp.Diff(want, c.Resolve(Inventory{})); diff != "" {
		t.Errorf("mapping (-want +got):\n%s", diff)
	}
}
