package journal

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher"
)

const (
	eventsDir  = "events"
	segmentExt = ".jsonl"
	block      = 64 << 10 // bytes read at a time from the end of a segment
)

// ReadEvents hands every record of the event log in the state directory dir
// from a time on to fn, oldest first, until fn returns an error. It needs no
// lock and can be used beside a running daemon, which writes a line a second
// late at most ([Journal.Flush]). A line that was cut short by a crash is left
// out.
func ReadEvents(dir string, from time.Time, fn func(watcher.Record) error) error {
	segments, err := listSegments(filepath.Join(dir, eventsDir))
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	for _, s := range segments {
		if err := readSegment(s.path, from, fn); err != nil {
			return err
		}
	}
	return nil
}

func readSegment(path string, from time.Time, fn func(watcher.Record) error) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has become too old meanwhile
	}
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, block)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if at, ok := timeOf(line); ok && at.Before(from) {
			continue
		}
		if err := readLine(line, fn); err != nil {
			return err
		}
	}
}

// readLine hands a line to fn; one that a crash of the whole host has torn is
// passed over.
func readLine(line []byte, fn func(watcher.Record) error) error {
	var one []watcher.Record
	if add(&one, line) == nil {
		return fn(one[0])
	}
	return nil
}

// lastLineEnd is where the last whole line of a file ends; 0 for none.
func lastLineEnd(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, block)
	for end := size; end > 0; {
		from := max(end-block, 0)
		b := buf[:end-from]
		if _, err := f.ReadAt(b, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// timeOf reads the time of a line without reading the rest of it: At is the
// first field of the first field.
func timeOf(line []byte) (time.Time, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"event":{"at":"`))
	text, _, found := bytes.Cut(rest[:min(len(rest), 64)], []byte(`"`))
	if !ok || !found {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	return at, err == nil
}

// listSegments returns the segments in a directory, oldest first; none when
// there is no directory.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), segmentExt)
		n, err := strconv.ParseUint(digits, 10, 64)
		info, infoErr := e.Info()
		if !ok || err != nil || infoErr != nil || !info.Mode().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		s := segment{n: n, path: path, size: info.Size(), first: firstTime(path)}
		if s.first.IsZero() {
			s.first = info.ModTime()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b segment) int { return cmp.Compare(a.n, b.n) })
	return out, nil
}

// firstTime is the time of the first line; zero when that cannot be read.
func firstTime(path string) time.Time {
	f, err := os.Open(path)
	if err != nil {
		return time.Time{}
	}
	defer f.Close()
	head := make([]byte, 128)
	n, _ := f.ReadAt(head, 0)
	at, _ := timeOf(head[:n])
	return at
}

func segmentPath(dir string, n uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%08d%s", n, segmentExt))
}
