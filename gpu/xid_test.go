package gpu

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// codes reads "39-41, 70".
func codes(t *testing.T, list string) []int {
	t.Helper()
	var out []int
	for part := range strings.SplitSeq(list, ", ") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if n != 2 {
			t.Fatalf("no code: %q", part)
		}
		for ; from <= to; from++ {
			out = append(out, from)
		}
	}
	return out
}

// TestLookup holds every row of gpu.md §1 against the table.
func TestLookup(t *testing.T) {
	type want struct {
		Scope   Scope
		Verdict Verdict
		Soft    bool
		NVIDIA  string
	}
	seen := map[int]bool{}
	for _, row := range []struct {
		codes string
		want
	}{
		// §1.1
		{"13", want{ScopeApp, Restart, false, "RESTART_APP / WORKFLOW_XID_13"}},
		{"31", want{ScopeApp, Restart, false, "RESTART_APP / WORKFLOW_XID_31"}},
		{"8", want{ScopeApp, Restart, false, "RESTART_APP / CONTACT_SUPPORT"}},
		{"11, 25, 32, 80", want{ScopeApp, Restart, false, "RESTART_APP / CHECK_APP"}},
		{"69", want{ScopeApp, Restart, false, "RESTART_APP / CHECK_APP"}},
		{"39-41, 70-72, 75-77, 85, 126-135", want{ScopeApp, Restart, false, "RESTART_APP / CONTACT_SUPPORT"}},
		{"60", want{ScopeApp, Restart, false, "RESTART_APP / INVESTIGATE_SW"}},
		{"68, 83, 84, 88, 89, 96-98", want{ScopeApp, Restart, false, "RESTART_APP / CONTACT_SUPPORT"}},
		{"82, 99-105", want{ScopeApp, Restart, false, "RESTART_APP / CONTACT_SUPPORT"}},
		{"86, 139", want{ScopeApp, Restart, false, "RESTART_APP / CONTACT_SUPPORT"}},
		{"94", want{ScopeApp, Restart, false, "RESTART_APP / ignore if sympathetic"}},
		{"43", want{ScopeApp, Note, false, "IGNORE / CONTACT_SUPPORT"}},
		{"45", want{ScopeApp, Note, false, "alone: RESTART_FM; else IGNORE"}},
		{"44", want{ScopeApp, Note, false, "IGNORE / CONTACT_SUPPORT"}},
		{"37, 38", want{ScopeApp, Note, false, "IGNORE"}},
		{"66, 67", want{ScopeApp, Note, false, "IGNORE / investigate"}},
		{"141, 152, 153, 160, 161", want{ScopeApp, Note, false, "IGNORE"}},
		// §1.2
		{"48", want{ScopeGPU, Hold, false, "WORKFLOW_XID_48: RESET_GPU, with 63 or 64 drain first"}},
		{"171, 172", want{ScopeGPU, Hold, false, ""}},
		{"95", want{ScopeGPU, Hold, false, "RESET_GPU"}},
		{"140", want{ScopeGPU, Hold, false, "RESET_GPU / CONTACT_SUPPORT"}},
		{"64", want{ScopeGPU, Hold, false, "RESET_GPU / CONTACT_SUPPORT"}},
		{"63", want{ScopeGPU, Note, false, "IGNORE"}},
		{"156", want{ScopeGPU, Hold, false, "RESET_GPU / IGNORE"}},
		{"157", want{ScopeGPU, Hold, false, "IGNORE / CONTACT_SUPPORT"}},
		{"92, 93", want{ScopeGPU, Note, false, "IGNORE / CONTACT_SUPPORT"}},
		{"46, 62, 109, 143, 155, 158", want{ScopeGPU, Hold, false, "RESET_GPU"}},
		{"110, 119, 120", want{ScopeGPU, Hold, false, "RESET_GPU / INVESTIGATE_SW"}},
		{"136", want{ScopeGPU, Hold, false, "RESET_GPU / link signal integrity"}},
		{"159", want{ScopeGPU, Hold, false, "CHECK_UVM"}},
		{"169, 173, 175", want{ScopeGPU, Hold, false, ""}},
		{"174, 176", want{ScopeGPU, Note, false, ""}},
		{"168", want{ScopeGPU, Hold, true, ""}},
		{"162-165", want{ScopeGPU, Note, false, ""}},
		{"74", want{ScopeGPU, Hold, false, "WORKFLOW_NVLINK_ERR: reset, reboot, then support"}},
		{"144-150", want{ScopeGPU, Hold, false, "WORKFLOW_NVLINK5_ERR"}},
		{"108", want{ScopeGPU, Note, false, "IGNORE"}},
		{"137", want{ScopeGPU, Note, false, "XID_137_FLOW"}},
		{"121", want{ScopeGPU, Note, false, "IGNORE / CONTACT_SUPPORT"}},
		{"166, 170", want{ScopeGPU, Hold, false, ""}},
		// §1.3
		{"79", want{ScopeHost, Hold, false, "RESTART_BM"}},
		{"167", want{ScopeHost, Hold, false, ""}},
		{"54", want{ScopeHost, Hold, false, "CHECK_MECHANICALS"}},
		{"151", want{ScopeHost, Hold, false, "RESTART_VM"}},
		{"78", want{ScopeHost, Hold, false, "UPDATE_SWFW"}},
		{"142", want{ScopeHost, Hold, true, "CONTACT_SUPPORT"}},
		{"154", want{ScopeHost, Hold, false, "take the action in the message"}},
		{"14, 106, 107", want{ScopeNone, Note, false, "IGNORE"}}, // they reach nothing
	} {
		for _, code := range codes(t, row.codes) {
			r := Lookup(code)
			if diff := cmp.Diff(row.want, want{r.Scope, r.Verdict, r.Soft, r.NVIDIA}); diff != "" {
				t.Errorf("Xid %d (-want +got):\n%s", code, diff)
			}
			if !r.Known || r.Code != code || seen[code] {
				t.Errorf("Xid %d: known %v, code %d, twice %v", code, r.Known, r.Code, seen[code])
			}
			seen[code] = true
		}
	}
	unused := codes(t, "1-7, 9, 10, 12, 15-24, 26-30, 33-36, 42, 47, 49-53, 55-59, 61, 65, 73, 81, 87, 90, 91, 111-118, 122-125, 138")
	for _, code := range unused {
		if seen[code] {
			t.Errorf("Xid %d is in the table and unused", code)
		}
		seen[code] = true
		want := "an Xid that NVIDIA's catalog calls unused"
		if r := Lookup(code); r.Known || r.Verdict != Note || r.Scope != ScopeNone || r.Meaning != want {
			t.Errorf("Xid %d: %+v", code, r)
		}
	}
	for code := 1; code <= lastXid; code++ {
		if !seen[code] {
			t.Errorf("Xid %d is in no row", code)
		}
	}
	if n := len(Rows()); n != lastXid-len(unused) {
		t.Errorf("%d rows, want %d", n, lastXid-len(unused))
	}
}

func TestLookupUnknown(t *testing.T) {
	for code, meaning := range map[int]string{
		-1:   "an Xid whose number the driver does not tell",
		0:    "Xid 0, which is in no table that defib knows",
		-7:   "Xid -7, which is in no table that defib knows",
		177:  "Xid 177, which is in no table that defib knows",
		9999: "Xid 9999, which is in no table that defib knows",
	} {
		if r := Lookup(code); r.Known || r.Verdict != Note || r.Meaning != meaning || r.Advice == "" || r.Source == "" {
			t.Errorf("%d: %+v", code, r)
		}
	}
}

// What JudgeGPU excuses has its exception in the row, and nothing else has one.
func TestExceptionsAreTold(t *testing.T) {
	want := codes(t, "43, 48, 74, 94, 95, 109, 144-150, 154, 156, 171, 172")
	for _, r := range Rows() {
		if slices.Contains(want, r.Code) != (r.Except != "") {
			t.Errorf("Xid %d: except %q", r.Code, r.Except)
		}
	}
}

// Every row can be printed: a phrase, one sentence with at most one command.
func TestRowsRead(t *testing.T) {
	for _, r := range Rows() {
		switch {
		case r.Meaning == "" || strings.HasSuffix(r.Meaning, "."):
			t.Errorf("Xid %d: meaning %q", r.Code, r.Meaning)
		case r.Verdict == Hold != strings.HasPrefix(r.Meaning, "GPU ") && r.Scope != ScopeApp:
			t.Errorf("Xid %d: only a hold goes on from the word GPU: %q", r.Code, r.Meaning)
		case strings.Count(r.Advice, "`") != 0 && strings.Count(r.Advice, "`") != 2, r.Advice[0] < 'A', r.Advice[0] > 'Z', strings.HasSuffix(r.Advice, "."):
			t.Errorf("Xid %d: advice %q", r.Code, r.Advice)
		case !strings.HasPrefix(r.Source, catalog) && !strings.HasPrefix(r.Source, "nverror.h 595"):
			t.Errorf("Xid %d: source %q", r.Code, r.Source)
		case strings.HasSuffix(r.Except, ".") || r.Except != "" && r.Except[0] < 'a':
			t.Errorf("Xid %d: except %q", r.Code, r.Except)
		case r.NVIDIA == "" && !strings.Contains(r.Source, "ours: "):
			t.Errorf("Xid %d has no action of NVIDIA, and nothing says why we chose ours", r.Code)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for i := range b.N {
		if r := Lookup(i%200 - 1); r.Advice == "" {
			b.Fatal("a row without advice")
		}
	}
}
