package actions

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

const (
	logLines = 200
	logBytes = 64 << 10 // of all lines together; the oldest give way
	logRead  = 8 << 20  // read from the engine at most: one line may be as long as a program likes
	rawLine  = 8 << 10  // of one line kept for masking, which cuts it to 1 KiB
)

// span is a stretch of a log, on the engine's clock; since may be zero.
type span struct{ since, until time.Time }

// logs returns the last lines that a container wrote in a time, masked, or why
// there are none. A container started after it adds nothing to them.
func (x *Executor) logs(ctx context.Context, docker logReader, d policy.Decision, when span) ([]string, string) {
	o := container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(logLines),
		Until: when.until.Format(time.RFC3339Nano),
	}
	if !when.since.IsZero() {
		o.Since = when.since.Format(time.RFC3339Nano)
	}
	body, err := docker.ContainerLogs(ctx, d.Container, o)
	if err != nil {
		return nil, x.noLogs(ctx, err)
	}
	defer body.Close()
	kept, in := &tail{}, &io.LimitedReader{R: body, N: logRead}
	if err := split(in, x.o.Mask, kept); err != nil {
		return kept.lines, x.noLogs(ctx, err)
	}
	if in.N == 0 {
		return kept.lines, fmt.Sprintf("cut: the last %d lines are longer than %d MiB", logLines, logRead>>20)
	}
	return kept.lines, ""
}

func (x *Executor) noLogs(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("Docker did not hand out the logs within %v", evidenceTime)
	}
	return x.said(err)
}

// split reads an engine's log stream line by line. With a terminal it is the
// bare output, without one it comes in frames; the first header tells, because
// a frame's is never text. Frames are streamed: their length is not believed.
func split(r io.Reader, m *mask.Masker, to *tail) error {
	in := bufio.NewReader(r)
	out, errs := newLines(m, to), newLines(m, to)
	defer func() { out.end(); errs.end() }()
	head, err := in.Peek(8)
	if err != nil || !framed(head) {
		_, err = io.Copy(out, in)
		return err
	}
	for {
		if err := frame(in, out, errs); err != nil {
			return ended(err)
		}
	}
}

// frame copies one frame to the output it belongs to. Stream 3 is the engine's
// own: why it could not read on.
func frame(in io.Reader, out, errs io.Writer) error {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	body := io.LimitReader(in, int64(binary.BigEndian.Uint32(head[4:])))
	switch head[0] {
	case 2:
		out = errs
	case 3:
		text, _ := io.ReadAll(io.LimitReader(body, 1024))
		return fmt.Errorf("the engine stopped reading the log: %s", text)
	}
	_, err := io.Copy(out, body)
	return err
}

// framed reports whether head begins a frame: stream number, three zeros and
// a length.
func framed(head []byte) bool {
	return head[0] <= 3 && head[1] == 0 && head[2] == 0 && head[3] == 0
}

// ended turns the end of a stream, even inside a frame, into success: what
// was read counts.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// lines cuts one output into lines and masks them. Of a line that a carriage
// return draws again and again, such as a progress bar, it keeps what a
// terminal would show at last.
type lines struct {
	mask *mask.Stream
	to   *tail
	buf  []byte
	back bool // a carriage return came last
	some bool // the line has begun
}

func newLines(m *mask.Masker, to *tail) *lines { return &lines{mask: m.Stream(), to: to} }

// Write implements [io.Writer]; it never fails.
func (l *lines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		l.add(line)
		if ended {
			l.some = true
			l.end()
		}
		rest = after
	}
	return len(p), nil
}

func (l *lines) add(part []byte) {
	if len(part) == 0 {
		return
	}
	l.some = true
	if l.back {
		l.buf = l.buf[:0]
	}
	trimmed := bytes.TrimRight(part, "\r")
	l.back = len(trimmed) < len(part)
	if i := bytes.LastIndexByte(trimmed, '\r'); i >= 0 {
		l.buf, trimmed = l.buf[:0], trimmed[i+1:]
	}
	room := max(rawLine-len(l.buf), 0)
	l.buf = append(l.buf, trimmed[:min(room, len(trimmed))]...)
}

// end hands on the line that has begun, if any.
func (l *lines) end() {
	if l.some {
		l.to.add(l.mask.Line(string(l.buf)))
	}
	l.buf, l.back, l.some = l.buf[:0], false, false
}

// tail keeps the newest lines.
type tail struct {
	lines []string
	bytes int
}

func (t *tail) add(line string) {
	t.lines = append(t.lines, line)
	t.bytes += len(line)
	for len(t.lines) > logLines || t.bytes > logBytes {
		t.bytes -= len(t.lines[0])
		t.lines = t.lines[1:]
	}
}
