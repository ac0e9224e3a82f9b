package kmsg

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// textMax is how much of a record's text is kept, in bytes; the kernel writes
// at most 1 KiB in one message (LOG_LINE_MAX), up to four for each when escaped.
const textMax = 8 << 10

// record is one line of /dev/kmsg: "prefix,seq,time,flags[,…];text", time in
// µs since boot (Documentation/ABI/testing/dev-kmsg).
type record struct {
	facility uint64 // 0: the kernel itself, which no program can claim to be
	seq      uint64
	at       time.Duration // since boot
	part     bool          // the text goes on where another record ended
	text     string        // as it was logged, with line ends
}

// parseRecord reads one line. false: it is none, such as the lines with a blank
// that follow a record with what is known of its device.
func parseRecord(line []byte) (record, bool) {
	head, text, ok := bytes.Cut(line, []byte(";"))
	fields := bytes.SplitN(head, []byte(","), 5)
	if !ok || len(fields) < 4 {
		return record{}, false
	}
	prefix, ok1 := number(fields[0])
	seq, ok2 := number(fields[1])
	at, ok3 := number(fields[2])
	if !ok1 || !ok2 || !ok3 || at > uint64(maxUptime/time.Microsecond) {
		return record{}, false
	}
	return record{
		facility: prefix >> 3, seq: seq, at: time.Duration(at) * time.Microsecond, //nolint:gosec // less than maxUptime
		part: bytes.ContainsAny(fields[3], "c+"), text: unescape(text[:min(len(text), textMax)]),
	}, true
}

// maxUptime bounds a time that a record may claim, so that no sum overflows.
const maxUptime = 100 * 365 * 24 * time.Hour

// number reads decimal digits alone.
func number(b []byte) (uint64, bool) {
	if len(b) == 0 || b[0] == '+' || b[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

// unescape turns \x0a and the like back; the kernel writes so all that is not
// printable ASCII, and the backslash.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	var s strings.Builder
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && b[i+1] == 'x' {
			if c, err := strconv.ParseUint(string(b[i+2:i+4]), 16, 8); err == nil {
				s.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		s.WriteByte(b[i])
	}
	return s.String()
}
