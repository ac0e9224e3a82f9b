package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

// A value in the state file is text: eight hex digits of checksum, a stamp
// (when an incident was closed, in Unix nanoseconds, else 0), and JSON. bbolt
// itself has no checksums: without ours a flipped bit would become a fact.
const sumLen = 8

func seal(bucket, key string, stamp int64, body []byte) []byte {
	tail := append(strconv.AppendInt(nil, stamp, 10), ' ')
	tail = append(tail, body...)
	return fmt.Appendf(make([]byte, 0, sumLen+1+len(tail)), "%08x %s", checksum(bucket, key, tail), tail)
}

// unseal checks a value and returns its stamp and its JSON, which is only
// valid as long as value is.
func unseal(bucket, key string, value []byte) (stamp int64, body []byte, err error) {
	sum, tail, ok := bytes.Cut(value, []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%08x", checksum(bucket, key, tail)) {
		return 0, nil, errors.New("does not match its checksum")
	}
	digits, body, _ := bytes.Cut(tail, []byte(" "))
	stamp, err = strconv.ParseInt(string(digits), 10, 64)
	return stamp, body, err
}

func checksum(bucket, key string, tail []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, []byte(bucket+"\x00"+key+"\x00"))
	return crc32.Update(sum, table, tail)
}

// tally is how many values there are and the sum of their checksums: a value
// that is missing altogether has no checksum that could be wrong.
type tally struct {
	n   int
	sum uint32
}

func (t *tally) add(value []byte) {
	if value != nil {
		t.n++
		t.sum += sumOf(value)
	}
}

func (t *tally) remove(value []byte) {
	if value != nil {
		t.n--
		t.sum -= sumOf(value)
	}
}

func sumOf(value []byte) uint32 {
	sum, err := strconv.ParseUint(string(value[:min(len(value), sumLen)]), 16, 32)
	if err != nil {
		return 0 // no value of ours: its own checksum shows that
	}
	return uint32(sum)
}

func (t *tally) seal() []byte {
	return seal(bucketMeta, keyTally, 0, fmt.Appendf(nil, "%d %08x", t.n, t.sum))
}

// parseTally reads a sealed tally; none is that of nothing.
func parseTally(value []byte) (t tally) {
	if _, body, err := unseal(bucketMeta, keyTally, value); err == nil {
		if _, err := fmt.Sscanf(string(body), "%d %x", &t.n, &t.sum); err != nil {
			return tally{}
		}
	}
	return t
}

// safeKey makes a name fit to be a key: not empty and not too long.
func safeKey(name string) string {
	if name != "" && len(name) <= 512 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + hex.EncodeToString(sum[:])
}

// incidentPrefix is what the keys of the incidents of an ID begin with. IDs
// are ours, so that masking one changes nothing; it is done for certainty.
func incidentPrefix(m *mask.Masker, id string) string { return safeKey(m.Line(id)) + "@" }

// incidentKey tells incidents apart that were given the same short ID in the
// course of time.
func incidentKey(m *mask.Masker, in *policy.Incident) string {
	return incidentPrefix(m, in.ID) + strconv.FormatInt(in.Opened.UnixNano(), 10)
}

// stampOf is 0 for an open incident.
func stampOf(closed time.Time) int64 {
	if closed.IsZero() {
		return 0
	}
	return closed.UnixNano()
}
