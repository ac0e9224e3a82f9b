package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	web   = strings.Repeat("a", 64)
	batch = strings.Repeat("b", 64)
	inner = strings.Repeat("c", 64)
)

// tree is a made-up /proc.
type tree struct {
	tb   testing.TB
	root string
	now  time.Time
}

// proc is one process in it.
type proc struct {
	pid, parent int
	start       uint64
	state       string // "" is S
	name        string
	cgroup      string // "" is that of a host's process
	nspid       string // "" is the PID alone
}

func newTree(tb testing.TB, procs ...proc) *tree {
	tb.Helper()
	f := &tree{tb: tb, root: tb.TempDir(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f.namespace(initialNamespace)
	f.put(proc{pid: 1, start: 1, name: "systemd"})
	f.put(procs...)
	return f
}

func (f *tree) namespace(name string) {
	dir := filepath.Join(f.root, "self", "ns")
	f.must(os.RemoveAll(dir))
	f.must(os.MkdirAll(dir, 0o755))
	f.must(os.Symlink(name, filepath.Join(dir, "pid")))
}

func (f *tree) put(procs ...proc) {
	f.tb.Helper()
	for _, p := range procs {
		dir := filepath.Join(f.root, fmt.Sprint(p.pid))
		if p.cgroup == "" {
			p.cgroup = "/system.slice/docker.service"
		}
		if p.nspid == "" {
			p.nspid = fmt.Sprint(p.pid)
		}
		f.write(filepath.Join(dir, "stat"), p.stat())
		f.write(filepath.Join(dir, "cgroup"), "1:name=systemd:"+p.cgroup+"\n0::"+p.cgroup+"\n")
		f.write(filepath.Join(dir, "status"), "Name:\t"+p.name+"\nGroups:\t"+strings.Repeat("7 ", 9000)+"\nNSpid:\t"+p.nspid+"\n")
		f.thread(p.pid, p)
	}
}

// thread puts a thread into the process pid.
func (f *tree) thread(pid int, p proc) {
	f.tb.Helper()
	f.write(filepath.Join(f.root, fmt.Sprint(pid), "task", fmt.Sprint(p.pid), "stat"), p.stat())
}

func (p proc) stat() string {
	state := p.state
	if state == "" {
		state = "S"
	}
	return fmt.Sprintf("%d (%s) %s %d %s%d 4096 12\n", p.pid, p.name, state, p.parent, strings.Repeat("0 ", 17), p.start)
}

func (f *tree) has(pid int) bool {
	_, err := os.Stat(filepath.Join(f.root, fmt.Sprint(pid)))
	return err == nil
}

func (f *tree) end(pids ...int) {
	f.tb.Helper()
	for _, pid := range pids {
		f.must(os.RemoveAll(filepath.Join(f.root, fmt.Sprint(pid))))
	}
}

func (f *tree) write(path, text string) {
	f.tb.Helper()
	f.must(os.MkdirAll(filepath.Dir(path), 0o755))
	f.must(os.WriteFile(path, []byte(text), 0o600))
}

func (f *tree) must(err error) {
	f.tb.Helper()
	if err != nil {
		f.tb.Fatal(err)
	}
}

// table reads the tree; its clock is the tree's.
func (f *tree) table() *Table {
	return New(Options{Root: f.root, Now: func() time.Time { return f.now }})
}

func docker(id string) string { return "/system.slice/docker-" + id + ".scope" }
