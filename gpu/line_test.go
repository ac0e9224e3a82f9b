package gpu

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0000:3b:00.0":          "0000:3b:00.0",
		"00000000:3B:00.0":      "0000:3b:00.0", // NVML
		"00010000:3B:00.0":      "10000:3b:00.0",
		"3b:00.0":               "0000:3b:00.0",
		"3B:00":                 "0000:3b:00.0",
		"PCI:0000:a1:00":        "0000:a1:00.0",
		"0000:a1:1f.7":          "0000:a1:1f.7",
		"0001:00":               "0000:01:00.0",
		"":                      "",
		"GPU-1A":                "gpu-1a",
		"0000:3b:00.8":          "0000:3b:00.8",
		"0000:3b:20.0":          "0000:3b:20.0",
		"0000:100:00.0":         "0000:100:00.0",
		"000000000:3B:00.0":     "000000000:3b:00.0",
		"+1:-1:00.0":            "+1:-1:00.0",
		"0000:3b:00.0.0":        "0000:3b:00.0.0",
		"0000:0000:3b:00.0":     "0000:0000:3b:00.0",
		"0000:3b:00.":           "0000:3b:00.",
		"PCI:PCI:0000:3b:00":    "pci:pci:0000:3b:00",
		"one:two:three.four":    "one:two:three.four",
		"fffffffff:ff:ff.fffff": "fffffffff:ff:ff.fffff",
	} {
		if got := Address(in); got != want {
			t.Errorf("Address(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseLine(t *testing.T) {
	for _, tc := range []struct {
		line string
		want Fault
	}{
		{"NVRM: Xid (0000:03:00): 14, Channel 00000001", Fault{Code: 14, PCI: "0000:03:00.0", Text: "Channel 00000001"}},
		{"NVRM: Xid (0001:00): 13, 0003 00000000", Fault{Code: 13, PCI: "0000:01:00.0", Text: "0003 00000000"}},
		{"NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", Fault{Code: 79, PCI: "0000:05:00.0", Text: "GPU has fallen off the bus."}},
		{"NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.", Fault{Code: 79, PCI: "0000:01:00.0", Text: "GPU has fallen off the bus."}},
		{"NVRM: Xid (PCI:0000:a1:00): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No", Fault{
			Code: 94, PCI: "0000:a1:00.0", PID: 7194, Text: "Contained: CE User Channel (0x9). RST: No, D-RST: No", Reset: new(false), Drain: new(false),
		}},
		{"NVRM: Xid (PCI:0000:a1:00): 95, pid='7194', Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No", Fault{
			Code: 95, PCI: "0000:a1:00.0", PID: 7194, Text: "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No", Reset: new(true), Drain: new(false),
		}},
		{"NVRM: Xid (PCI:0000:61:00): 119, pid=1346198, name=nvidia-smi, Timeout waiting for RPC from GSP! Expected function 76", Fault{
			Code: 119, PCI: "0000:61:00.0", PID: 1346198, Process: "nvidia-smi", Text: "Timeout waiting for RPC from GSP! Expected function 76",
		}},
		{"NVRM: Xid (PCI:0000:61:00): 119, pid=12, name=VLLM::Worker 1, Timeout after 6s of waiting for RPC response from GPU1 GSP!", Fault{
			Code: 119, PCI: "0000:61:00.0", PID: 12, Process: "VLLM::Worker 1", Text: "Timeout after 6s of waiting for RPC response from GPU1 GSP!",
		}},
		{"NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:01): 31, pid=41, name=python3, Ch 00000008, intr 00000000. MMU Fault", Fault{
			Code: 31, PCI: "0000:01:00.0", OnMIG: true, GI: 5, CI: 1, PID: 41, Process: "python3", Text: "Ch 00000008, intr 00000000. MMU Fault",
		}},
		{"NVRM: Xid (PCI:0000:01:00 GPU-I:05): 31, Ch 00000008", Fault{Code: 31, PCI: "0000:01:00.0", OnMIG: true, GI: 5, CI: -1, Text: "Ch 00000008"}},
		{"NVRM: Xid (PCI:0000:a1:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)", Fault{
			Code: 149, PCI: "0000:a1:00.0", Severity: SeverityFatal, Text: "NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)",
		}},
		{"NVRM: Xid (PCI:0000:a1:00): 145, pid=5, name=a, RLW_REMAP Nonfatal XC1 i0 Link 02 (0x1)", Fault{
			Code: 145, PCI: "0000:a1:00.0", PID: 5, Process: "a", Severity: SeverityNonfatal, Text: "RLW_REMAP Nonfatal XC1 i0 Link 02 (0x1)",
		}},
		{"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", Fault{
			Code: 154, PCI: "0000:3b:00.0", Recovery: new(RecoverReset), Text: "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
		}},
		{"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)", Fault{
			Code: 154, PCI: "0000:3b:00.0", Recovery: new(RecoverReboot), Text: "GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)",
		}},
		{"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x4 (Drain and Reset) to 0x0 (None)", Fault{
			Code: 154, PCI: "0000:3b:00.0", Recovery: new(RecoverNone), Text: "GPU recovery action changed from 0x4 (Drain and Reset) to 0x0 (None)",
		}},
		{"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0xg", Fault{
			Code: 154, PCI: "0000:3b:00.0", Text: "GPU recovery action changed from 0x0 (None) to 0xg",
		}},
		{"NVRM: Xid (PCI:0000:3b:00): 45, pid=9, name=ollama, channel 0x00000002, caused by previous Xid 31", Fault{
			Code: 45, PCI: "0000:3b:00.0", PID: 9, Process: "ollama", Caused: 31, Text: "channel 0x00000002, caused by previous Xid 31",
		}},
		{"NVRM: Xid (PCI:0000:3b:00): 62", Fault{Code: 62, PCI: "0000:3b:00.0"}},
		{"NVRM: Xid (PCI:0000:3b:00): 62, \n", Fault{Code: 62, PCI: "0000:3b:00.0"}},
		{"NVRM: Xid (PCI:0000:3b:00): 43, pid=77", Fault{Code: 43, PCI: "0000:3b:00.0", PID: 77}},
		{"NVRM: Xid (PCI:0000:3b:00): 43, pid=77, name=a b: c,d", Fault{Code: 43, PCI: "0000:3b:00.0", PID: 77, Process: "a b: c,d"}},
		{"NVRM: Xid (PCI:0000:3b:00): 43, pid=99999999999, name=<unknown>, Ch 1", Fault{Code: 43, PCI: "0000:3b:00.0", Text: "Ch 1"}},
	} {
		if tc.want.Kind == "" {
			tc.want.Kind = FaultXid
		}
		got, ok := ParseLine(tc.line)
		if diff := cmp.Diff(tc.want, got); !ok || diff != "" {
			t.Errorf("%s: %t (-want +got):\n%s", tc.line, ok, diff)
		}
	}
}

func TestParseLineWithoutXid(t *testing.T) {
	for _, tc := range []struct {
		line string
		want Fault
	}{
		{"nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 63 LTSSM Fault Up", Fault{
			Kind: FaultSXid, Code: 20034, PCI: "0000:05:00.0", Severity: SeverityFatal, Text: "Fatal, Link 63 LTSSM Fault Up",
		}},
		{"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore MCTO (First)", Fault{
			Kind: FaultSXid, Code: 28006, PCI: "0000:c1:00.0", Severity: SeverityNonfatal, Text: "Non-fatal, Link 46 MC TS crumbstore MCTO (First)",
		}},
		{"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 10001", Fault{Kind: FaultSXid, Code: 10001, PCI: "0000:c1:00.0"}},
		{"NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.", Fault{
			Kind: FaultBusLoss, PCI: "0000:18:00.0", Text: "GPU 0000:18:00.0: GPU has fallen off the bus.",
		}},
		{"NVRM: GPU at 0000:18:00.0 has fallen off the bus.", Fault{
			Kind: FaultBusLoss, PCI: "0000:18:00.0", Text: "GPU at 0000:18:00.0 has fallen off the bus.",
		}},
		{"NVRM: GPU at PCI:0000:18:00: GPU has fallen off the bus.", Fault{
			Kind: FaultBusLoss, PCI: "0000:18:00.0", Text: "GPU at PCI:0000:18:00: GPU has fallen off the bus.",
		}},
		{"NVRM: fallen off the bus and is not responding to commands.", Fault{
			Kind: FaultBusLoss, Text: "fallen off the bus and is not responding to commands.",
		}},
		{"NVRM: API mismatch: the client 'nvidia-smi' (pid 1234)", Fault{
			Kind: FaultMismatch, PID: 1234, Process: "nvidia-smi", Text: "API mismatch: the client 'nvidia-smi' (pid 1234)",
		}},
		{"NVRM: API mismatch: the client 'x' (pid 1)' (pid 1234)", Fault{
			Kind: FaultMismatch, PID: 1234, Process: "x' (pid 1)", Text: "API mismatch: the client 'x' (pid 1)' (pid 1234)",
		}},
		{"NVRM: API mismatch: the client has the version 470.82.01, but", Fault{
			Kind: FaultMismatch, Text: "API mismatch: the client has the version 470.82.01, but",
		}},
		{"NVRM: GPU 0000:18:00.0: RmInitAdapter failed! (0x26:0xffff:1127)", Fault{
			Kind: FaultInit, PCI: "0000:18:00.0", Text: "GPU 0000:18:00.0: RmInitAdapter failed! (0x26:0xffff:1127)",
		}},
		{"NVRM: RmInitAdapter failed! (0x26:0xffff:1127)", Fault{Kind: FaultInit, Text: "RmInitAdapter failed! (0x26:0xffff:1127)"}},
	} {
		got, ok := ParseLine(tc.line)
		if diff := cmp.Diff(tc.want, got); !ok || diff != "" {
			t.Errorf("%s: %t (-want +got):\n%s", tc.line, ok, diff)
		}
	}
}

func TestParseLineNone(t *testing.T) {
	for _, line := range []string{
		"", "NVRM:", "NVRM: ", "usb 1-1: new device", "nvidia-nvswitch0: using 64-bit DMA",
		"NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.124.06",
		"NVRM: The NVIDIA GPU 0000:18:00.0", // the first two of three lines
		"NVRM: (PCI ID: 10de:20b0) installed in this system has",
		"NVRM: installed in this system has",
		"NVRM: has the version 535.104.05, but", // the others of an API mismatch
		"NVRM: this kernel module has the version 535.129.03.  Please",
		"NVRM: GPU 0000:18:00.0: rm_init_adapter failed, device minor number 0", // it follows RmInitAdapter
		"NVRM: GPU at PCI:0000:91:00: GPU-0f7f6a5c-9f9c-4d4e-8f2a-3b1c2d3e4f50",
		"NVRM: GPU Board Serial Number: 1324",
		"NVRM: GPU 0000:18:00.0: GPU serial number is 1324.",
		"NVRM: A GPU crash dump has been created.",
		"NVRM: Xid (bogus): 79, GPU has fallen off the bus.",
		"NVRM: Xid (PCI:0000:01:00): seventy-nine",
		"NVRM: Xid (PCI:0000:01:00): 0, nothing",
		"NVRM: Xid (PCI:0000:01:00): 1234567, too many digits",
		"NVRM: Xid (PCI:0000:01:00 GPU-I:xx GPU-CI:00): 31",
		"NVRM: Xid (PCI:0000:01:00 GPU-I:05 CI:00): 31",
		"NVRM: Xid (PCI:0000:01:00", "NVRM: Xid (",
		"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Severity 0 Engine instance 46 Sub-engine instance 00",
		"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Data {0x00140004, 0x00100000}",
		"nvidia-nvswitch3: SXid (nowhere): 28006, Fatal",
		"traps: NVRM: Xid (PCI:0000:01:00): 79, forged in a process's name",
	} {
		if f, ok := ParseLine(line); ok || !cmp.Equal(f, Fault{}) {
			t.Errorf("%q is a fault: %+v", line, f)
		}
	}
}

// TestHostileNames: what a process calls itself changes nothing but its name
// and some text.
func TestHostileNames(t *testing.T) {
	const head, tail = "NVRM: Xid (PCI:0000:01:00): ", "Contained: LTC (0x1). RST: No, D-RST: No"
	for name, want := range map[string]Fault{
		"RST: Yes":                  {Process: "RST: Yes", Text: tail},
		"a, RST: Yes, x":            {Process: "a", Text: "RST: Yes, x, " + tail},
		"\x1b[31m\x00é":             {Process: "[31mé", Text: tail},
		"\xff\u202e":                {Process: "�", Text: tail},
		"":                          {Text: tail},
		", pid=1, ":                 {Text: "pid=1, , " + tail},
		strings.Repeat("né", 1<<10): {Process: strings.Repeat("né", 21) + "n", Text: tail},
	} {
		want.Kind, want.Code, want.PCI, want.PID, want.Reset, want.Drain = FaultXid, 94, "0000:01:00.0", 7, new(false), new(false)
		got, ok := ParseLine(head + "94, pid=7, name=" + name + ", " + tail)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%q: %t (-want +got):\n%s", name, ok, diff)
		}
	}
	for line, want := range map[string]*bool{
		"94, pid=7, name=RST: Yes, D-RST: Yes, Contained": nil, // not at the end of the line
		"94, Contained. D-RST: Yes":                       nil,
		"94, RST: Perhaps, D-RST: Yes":                    nil,
		"31, RST: Yes, D-RST: Yes":                        nil, // only 94 and 95 have them
		"95, RST: Yes, D-RST: Yes.":                       new(true),
	} {
		if f, ok := ParseLine(head + line); !ok || !cmp.Equal(f.Reset, want) || !cmp.Equal(f.Drain, want) {
			t.Errorf("%s: %t, %v, %v, want %v", line, ok, f.Reset, f.Drain, want)
		}
	}
	f, ok := ParseLine(head + "149, pid=7, name=x, Fatal, NETIR Nonfatal XC0")
	if !ok || f.Severity != SeverityNonfatal {
		t.Errorf("a name with a severity: %q", f.Severity)
	}
}

func TestTextIsBounded(t *testing.T) {
	f, ok := ParseLine("NVRM: Xid (PCI:0000:01:00): 95, " + strings.Repeat("é", 1<<10) + " RST: Yes, D-RST: No")
	if want := strings.Repeat("é", 256); !ok || f.Text != want || f.Reset == nil || !*f.Reset {
		t.Errorf("%t, reset %v, %d bytes of text, want %d", ok, f.Reset, len(f.Text), len(want))
	}
}

func TestParseUUID(t *testing.T) {
	const uuid = "GPU-0f7f6a5c-9f9c-4d4e-8f2a-3b1c2d3e4f50"
	for _, line := range []string{"NVRM: GPU at PCI:0000:91:00: " + uuid, "NVRM: GPU at 0000:91:00.0: " + uuid + "\n"} {
		if pci, got, ok := ParseUUID(line); !ok || pci != "0000:91:00.0" || got != uuid {
			t.Errorf("%q: %q %q %t", line, pci, got, ok)
		}
	}
	for _, line := range []string{
		"", uuid, "NVRM: GPU at PCI:0000:91:00: " + uuid + "0", "NVRM: GPU at PCI:0000:91:00: GPU has fallen off the bus.",
		"NVRM: GPU at nowhere: " + uuid, "NVRM: GPU at PCI:0000:91:00: MIG" + uuid[3:], "NVRM: GPU at PCI:0000:91:00: " + uuid[:39] + "\xff",
		"traps: NVRM: GPU at PCI:0000:91:00: " + uuid,
	} {
		if pci, got, ok := ParseUUID(line); ok || pci != "" || got != "" {
			t.Errorf("%q: %q %q %t", line, pci, got, ok)
		}
	}
}

// render writes a fault of the kernel log as a new driver does.
func render(f Fault) string {
	name, pid := f.Process, fmt.Sprint(f.PID)
	if f.PID == 0 {
		pid = "'<unknown>'"
	}
	if name == "" {
		name = "<unknown>"
	}
	instance := ""
	if f.OnMIG {
		instance = fmt.Sprintf(" GPU-I:%02d GPU-CI:%02d", f.GI, f.CI)
		if f.CI < 0 {
			instance = fmt.Sprintf(" GPU-I:%02d", f.GI)
		}
	}
	switch f.Kind {
	case FaultXid:
		return fmt.Sprintf("NVRM: Xid (PCI:%s%s): %d, pid=%s, name=%s, %s", f.PCI, instance, f.Code, pid, name, f.Text)
	case FaultSXid:
		return fmt.Sprintf("nvidia-nvswitch0: SXid (PCI:%s): %d, %s", f.PCI, f.Code, f.Text)
	default:
		return "NVRM: " + f.Text
	}
}

func FuzzParseLine(f *testing.F) {
	for _, line := range []string{
		"NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:00): 31, pid=41, name=python3, Ch 00000008, intr 00000000. MMU Fault",
		"NVRM: Xid (PCI:0000:a1:00): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
		"NVRM: Xid (PCI:0000:3b:00): 154, pid='<unknown>', name=<unknown>, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
		"nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 63",
		"NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.",
		"NVRM: API mismatch: the client 'x' (pid 12)",
		"NVRM: GPU at PCI:0000:91:00: GPU-0f7f6a5c-9f9c-4d4e-8f2a-3b1c2d3e4f50",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		_, _, _ = ParseUUID(line)
		got, ok := ParseLine(line)
		if !ok {
			return
		}
		if !strings.Contains(line, "NVRM") && !strings.Contains(line, "SXid") {
			t.Fatalf("%q is a fault", line)
		}
		for _, s := range []string{got.Text, got.Process} {
			if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("%q is no text to keep", s)
			}
		}
		if len(line) > maxText {
			return // the details may be beyond what is kept
		}
		again, ok := ParseLine(render(got))
		if diff := cmp.Diff(got, again); !ok || diff != "" {
			t.Fatalf("%q, then %q: %t (-first +again):\n%s", line, render(got), ok, diff)
		}
	})
}

func BenchmarkParseLine(b *testing.B) {
	for name, line := range map[string]string{
		"other": "audit: type=1400 audit(1700000000.1:2): apparmor=\"ALLOWED\" operation=\"open\"",
		"xid":   "NVRM: Xid (PCI:0000:01:00): 31, pid=41, name=python3, Ch 00000008, intr 00000000. MMU Fault",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				ParseLine(line)
			}
		})
	}
}
