package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/gpu"
)

const (
	statMax   = 4 << 10  // a line of 52 numbers and a name
	cgroupMax = 64 << 10 // a container may nest groups as deep as it likes
	statusMax = 1 << 20  // the list of 65536 groups comes before NSpid
	nameMax   = 64       // the kernel keeps 15 bytes, more only for its own threads

	// initialNamespace is the inode of the first PID namespace, the same on
	// every kernel (PROC_PID_INIT_INO, include/linux/proc_ns.h).
	initialNamespace = "pid:[4026531836]"
)

// process is one process as /proc shows it.
type process struct {
	pid, parent int
	start       uint64 // ticks since boot; with the PID it names one process
	state       byte
	name        string
	containers  []string // outermost first
	depth       int      // how many PID namespaces it is in, from ours inwards; 0: not read
	inner       int      // its PID in the innermost
}

// dead reports whether the first thread has ended.
func (p *process) dead() bool { return p.state == 'Z' || p.state == 'X' || p.state == 'x' }

// innermost is the container that the process itself runs in.
func (p *process) innermost() string {
	if len(p.containers) == 0 {
		return ""
	}
	return p.containers[len(p.containers)-1]
}

// reader reads files of /proc into one buffer. It is for one goroutine.
type reader struct {
	root string
	buf  []byte
}

func (t *Table) reader() *reader { return &reader{root: t.o.Root} }

// read reads one process, and its numbers in PID namespaces, which never
// change, if it is in a container and not the one whose start is known.
func (r *reader) read(pid int, known uint64) (process, error) {
	dir := r.dir(pid)
	p, err := r.stat(dir)
	if err != nil {
		return process{}, err
	}
	text, err := r.file(dir+"/cgroup", cgroupMax)
	if err != nil {
		return process{}, err
	}
	p.pid = pid
	p.containers = gpu.ContainerIDs(string(text))
	if p.start != known && len(p.containers) > 0 {
		p.depth, p.inner = namespaces(dir + "/status")
	}
	return p, nil
}

func (r *reader) dir(pid int) string { return r.root + "/" + strconv.Itoa(pid) }

func (r *reader) stat(dir string) (process, error) {
	text, err := r.file(dir+"/stat", statMax)
	if err != nil {
		return process{}, err
	}
	p, ok := parseStat(text)
	if !ok {
		return process{}, fmt.Errorf("read %s/stat: it is not what the kernel writes", dir)
	}
	return p, nil
}

// threadLives reports whether a thread of a process, whose first thread may
// be a zombie, has not ended. One that hangs in the driver keeps its memory.
func (r *reader) threadLives(pid int) bool {
	dir := r.dir(pid) + "/task"
	names, err := list(dir)
	if err != nil {
		return false
	}
	for _, name := range names {
		if p, err := r.stat(dir + "/" + name); err == nil && !p.dead() {
			return true
		}
	}
	return false
}

// file reads a file up to limit. It goes by system calls: os.Open would offer
// each file to the poller first, which costs as much as the reading.
func (r *reader) file(path string, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if r.buf == nil {
		r.buf = make([]byte, statMax)
	}
	n := 0
	for n < limit {
		if n == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		m, err := unix.Read(fd, r.buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", path, err)
		case m == 0:
			return r.buf[:n], nil
		}
		n += m
	}
	return r.buf[:n], nil
}

// parseStat reads /proc/PID/stat: "PID (NAME) STATE PPID …", the start as the
// 22nd field (proc_pid_stat(5)). The name may hold anything, brackets and line
// ends too; what follows it is numbers.
func parseStat(text []byte) (process, bool) {
	from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return process{}, false
	}
	rest := bytes.Fields(text[to+1:])
	if len(rest) < 20 || len(rest[0]) != 1 {
		return process{}, false
	}
	parent, err := strconv.Atoi(string(rest[1]))
	if err != nil {
		return process{}, false
	}
	start, err := strconv.ParseUint(string(rest[19]), 10, 64)
	if err != nil {
		return process{}, false
	}
	return process{parent: parent, start: start, state: rest[0][0], name: clean(text[from+1 : to])}, true
}

// clean makes a name fit for one line of text.
func clean(name []byte) string {
	s := strings.ToValidUTF8(string(name[:min(len(name), nameMax)]), "\uFFFD")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// namespaces reads NSpid: the PIDs of a process, one for each PID namespace
// from ours inwards. 0, 0: it cannot be told.
func namespaces(path string) (depth, inner int) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	in := bufio.NewReader(io.LimitReader(f, statusMax))
	for {
		line, err := in.ReadSlice('\n')
		if rest, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			return parseNSpid(rest)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, 0
		}
	}
}

func parseNSpid(text []byte) (depth, inner int) {
	numbers := bytes.Fields(text)
	if len(numbers) == 0 {
		return 0, 0
	}
	inner, err := strconv.Atoi(string(numbers[len(numbers)-1]))
	if err != nil {
		return 0, 0
	}
	return len(numbers), inner
}

// list returns the names in a folder, unsorted.
func list(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// gone reports whether a file is missing because its process is.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }

// blind says why the processes of the host cannot be seen below root.
func blind(root string) string {
	const lost = "so which container a process on a GPU belongs to is not known"
	ns, err := os.Readlink(root + "/self/ns/pid")
	switch {
	case err != nil:
		return fmt.Sprintf("defib cannot read %s (%v), %s: mount it as procfs.", root, err, lost)
	case ns != initialNamespace:
		return "defib runs in a PID namespace of its own and does not see the processes of the host, " + lost +
			": start its container with `--pid host` (compose: `pid: host`)."
	}
	if _, err := os.Stat(root + "/1/stat"); err != nil {
		return fmt.Sprintf("%s hides the processes of other users, %s: run defib as root, or mount procfs without hidepid.", root, lost)
	}
	return ""
}
