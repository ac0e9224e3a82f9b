package gpu

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxLine    = 8 << 10 // bytes looked at of a line; the kernel's are shorter
	maxText    = 512     // bytes kept of a line
	maxProcess = 64      // bytes kept of a process's name; the kernel keeps 15
)

// Address brings a PCI address into the one form that everything here uses:
// 0000:3b:00.0, lower case, with domain and function. What is no address stays
// as it is, in lower case.
func Address(s string) string {
	if a, ok := parseAddress(s); ok {
		return a
	}
	return strings.ToLower(s)
}

// parseAddress reads domain:bus:device.function; domain and function may be
// missing, and NVML writes the domain with 8 digits.
func parseAddress(s string) (string, bool) {
	s = strings.TrimPrefix(s, "PCI:")
	s, function, dotted := strings.Cut(s, ".")
	fields := strings.Split(s, ":")
	if len(fields) == 2 {
		fields = append([]string{"0"}, fields...)
	}
	if !dotted {
		function = "0"
	}
	if len(fields) != 3 {
		return "", false
	}
	var n [4]uint64
	for i, text := range append(fields, function) {
		v, ok := hex(text)
		if !ok {
			return "", false
		}
		n[i] = v
	}
	if n[1] > 0xff || n[2] > 0x1f || n[3] > 7 {
		return "", false
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", n[0], n[1], n[2], n[3]), true
}

// hex reads up to 8 hexadecimal digits.
func hex(s string) (uint64, bool) {
	if s == "" || len(s) > 8 || strings.ContainsAny(s, "+-_") {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return v, err == nil
}

// ParseLine reads one message of the kernel log. false: it is none of ours.
// At, Seq, Source, Historic and Containers are left to the caller. A message of
// several lines (bus loss, API mismatch) is one call per line; each line that
// alone tells the fault is a fault, the others are none. CI is -1 when the line
// names a GPU instance alone: it may be any of its compute instances.
func ParseLine(text string) (Fault, bool) {
	text = strings.TrimRight(strings.TrimLeft(text, " \t"), "\r\n")
	if rest, ok := strings.CutPrefix(text, "NVRM: "); ok {
		rest = printable(rest, maxLine) // first, so that nothing invisible hides where a name ends
		if xid, ok := strings.CutPrefix(rest, "Xid ("); ok {
			return parseXid(xid)
		}
		return parseOther(rest)
	}
	if rest, ok := strings.CutPrefix(text, "nvidia-nvswitch"); ok {
		return parseSXid(printable(rest, maxLine))
	}
	return Fault{}, false
}

// parseXid reads "PCI:0000:01:00 GPU-I:05 GPU-CI:00): 31, pid=…, name=…, text".
func parseXid(s string) (Fault, bool) {
	where, s, found := strings.Cut(s, "): ")
	f := Fault{Kind: FaultXid}
	if !found || !f.place(where) {
		return Fault{}, false
	}
	code, s, ok := digits(s)
	if !ok || code == 0 {
		return Fault{}, false
	}
	f.Code = code
	s = strings.TrimLeft(s, ",: ")
	if rest, ok := strings.CutPrefix(s, "pid="); ok {
		s = f.process(rest)
	}
	f.details(s)
	f.Text = printable(s, maxText)
	return f, true
}

// place reads the address of the GPU, and the instance when there is one.
func (f *Fault) place(where string) bool {
	address, instance, sliced := strings.Cut(where, " ")
	pci, ok := parseAddress(address)
	if f.PCI = pci; !ok || !sliced {
		return ok
	}
	gi, ci, both := strings.Cut(instance, " ")
	gi, ok = strings.CutPrefix(gi, "GPU-I:")
	n, isNumber := index(gi)
	f.GI, f.OnMIG = n, true
	if !ok || !isNumber || !both {
		f.CI = -1
		return ok && isNumber
	}
	ci, ok = strings.CutPrefix(ci, "GPU-CI:")
	f.CI, isNumber = index(ci)
	return ok && isNumber
}

// process reads what follows "pid=", in quotes or not, and the name when there
// is one, and returns the rest. The name is what the process calls itself: it
// ends at the next comma with a space, so what it says beyond that is text.
func (f *Fault) process(s string) (rest string) {
	pid, rest, _ := strings.Cut(s, ", ")
	f.PID = readPID(strings.Trim(pid, "' "))
	name, named := strings.CutPrefix(rest, "name=")
	if !named {
		return rest
	}
	name, rest, _ = strings.Cut(name, ", ")
	if name != "<unknown>" {
		f.Process = printable(name, maxProcess)
	}
	return rest
}

// details reads what some Xids say in their text. Each is sought from the end,
// for what a process may have put in comes first.
func (f *Fault) details(s string) {
	f.Caused, _, _ = digits(lastAfter(s, "caused by previous Xid "))
	switch {
	case f.Code == 154:
		text, _, _ := strings.Cut(lastAfter(s, " to 0x"), " ")
		if v, ok := hex(text); ok && v <= 0xff { // its words differ between drivers
			r := Recovery(v)
			f.Recovery = &r
		}
	case f.Code == 94 || f.Code == 95:
		f.Reset, f.Drain = flags(s)
	case 144 <= f.Code && f.Code <= 150:
		for word := range strings.FieldsSeq(s) {
			if v := severity(word); v != "" {
				f.Severity = v
			}
		}
	}
}

// flags reads "RST: No, D-RST: Yes" at the end of a line.
func flags(s string) (reset, drain *bool) {
	at := strings.LastIndex(s, "RST: ")
	at = strings.LastIndex(s[:max(at, 0)], "RST: ")
	if at < 0 {
		return nil, nil
	}
	first, second, ok := strings.Cut(strings.TrimRight(s[at+len("RST: "):], ". "), ", D-RST: ")
	if first, second = strings.ToLower(first), strings.ToLower(second); !ok || !isYesNo(first) || !isYesNo(second) {
		return nil, nil
	}
	r, d := first == "yes", second == "yes"
	return &r, &d
}

func isYesNo(s string) bool { return s == "yes" || s == "no" }

func severity(word string) Severity {
	switch strings.ToLower(strings.TrimRight(word, ",")) {
	case "fatal":
		return SeverityFatal
	case "nonfatal", "non-fatal":
		return SeverityNonfatal
	}
	return ""
}

// parseSXid reads "0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 63 …". The
// lines that follow with the registers of the same error are none.
func parseSXid(s string) (Fault, bool) {
	_, s, ok := strings.Cut(s, ": SXid (")
	where, s, found := strings.Cut(s, "): ")
	pci, isAddress := parseAddress(where)
	code, s, isCode := digits(s)
	if !ok || !found || !isAddress || !isCode || code == 0 {
		return Fault{}, false
	}
	s = strings.TrimLeft(s, ",: ")
	if strings.HasPrefix(s, "Severity ") || strings.HasPrefix(s, "Data {") {
		return Fault{}, false
	}
	word, _, _ := strings.Cut(s, ", ")
	return Fault{Kind: FaultSXid, Code: code, PCI: pci, Severity: severity(word), Text: printable(s, maxText)}, true
}

// parseOther reads what the driver says without an Xid.
func parseOther(s string) (Fault, bool) {
	f := Fault{Text: printable(s, maxText)}
	if client, ok := strings.CutPrefix(s, "API mismatch: "); ok {
		f.Kind = FaultMismatch
		f.client(client)
		return f, true
	}
	if rest, ok := strings.CutPrefix(s, "GPU "); ok {
		where, after, _ := strings.Cut(strings.TrimPrefix(rest, "at "), " ")
		f.PCI, ok = parseAddress(strings.TrimSuffix(where, ":"))
		if !ok {
			return Fault{}, false
		}
		s = strings.TrimPrefix(strings.TrimPrefix(after, "GPU "), "has ")
	}
	switch {
	case strings.HasPrefix(s, "fallen off the bus"): // after an address, or the third of three lines
		f.Kind = FaultBusLoss
	case strings.HasPrefix(s, "RmInitAdapter failed"):
		f.Kind = FaultInit
	default:
		return Fault{}, false
	}
	return f, true
}

// client reads "the client 'name' (pid 12)". The name may hold anything.
func (f *Fault) client(s string) {
	at := strings.LastIndex(s, "(pid ")
	if at < 0 {
		return
	}
	pid, _, _ := strings.Cut(s[at+len("(pid "):], ")")
	f.PID = readPID(pid)
	if name, ok := strings.CutPrefix(s[:at], "the client "); ok {
		f.Process = printable(strings.Trim(name, "' "), maxProcess)
	}
}

// ParseUUID reads the line in which the driver names the UUID of an address.
func ParseUUID(text string) (pci, uuid string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "NVRM: GPU at ")
	if !ok {
		return "", "", false
	}
	where, uuid, found := strings.Cut(rest, ": ")
	pci, ok = parseAddress(where)
	const length = len("GPU-00000000-0000-0000-0000-000000000000")
	if !found || !ok || len(uuid) != length || !strings.HasPrefix(uuid, "GPU-") || !isUUID(uuid) {
		return "", "", false
	}
	return pci, uuid, true
}

// lastAfter is what follows the last occurrence of sep; empty: there is none.
func lastAfter(s, sep string) string {
	if at := strings.LastIndex(s, sep); at >= 0 {
		return s[at+len(sep):]
	}
	return ""
}

// digits reads the number that s begins with: at most 5 digits, as many as the
// codes of NVSwitch have.
func digits(s string) (n int, rest string, ok bool) {
	end := 0
	for end < len(s) && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	if end == 0 || end > 5 {
		return 0, s, false
	}
	n, err := strconv.Atoi(s[:end])
	return n, s[end:], err == nil
}

// readPID reads a process ID; 0 for what is none.
func readPID(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
