package proc

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// held is a process of a tree that is held.
type held struct {
	pid    int
	tree   *tree
	killed *[]int
	err    error
}

func (h held) alive() bool { return h.tree.has(h.pid) }

func (h held) kill() error {
	if h.err == nil {
		*h.killed = append(*h.killed, h.pid)
	}
	return h.err
}
func (held) close() {}

// gripping makes a table hold processes of the tree; the test reads which of
// them it kills. 100 s after the boot defib started a check.
func gripping(f *tree, fails error) (table *Table, killed *[]int) {
	killed = new([]int)
	table = f.table()
	table.boottime = func() time.Duration { return 110 * time.Second }
	table.grip = func(pid int) (grip, error) {
		if !f.has(pid) {
			return nil, unix.ESRCH
		}
		return held{pid, f, killed, fails}, nil
	}
	return table, killed
}

func TestEnd(t *testing.T) {
	const began, young, old = 10 * time.Second, 10_010, 9_800 // ticks
	shim := proc{pid: 9, parent: 1, start: 90, name: "containerd-shim"}
	server := proc{pid: 50, parent: 9, start: 500, name: "server", cgroup: docker(web), nspid: "50 1"}
	check := proc{pid: 60, parent: 9, start: young, name: "sh", cgroup: docker(web), nspid: "60 20"}
	for _, tc := range []struct {
		name   string
		pid    int
		change func(f *tree)
		still  bool
		killed []int
		says   string
	}{
		{"a check", 60, nil, true, []int{60}, ""},
		{"what it started", 60, func(f *tree) {
			f.put(proc{pid: 61, parent: 60, start: young, name: "curl", cgroup: docker(web), nspid: "61 21"})
			f.put(proc{pid: 62, parent: 61, start: young + 1, name: "dig", cgroup: docker(web), nspid: "62 22"})
			f.put(proc{pid: 63, parent: 50, start: young, name: "worker", cgroup: docker(web), nspid: "63 23"})
			f.put(proc{pid: 64, parent: 60, start: young, name: "moved", cgroup: docker(batch), nspid: "64 24"})
			f.put(proc{pid: 65, parent: 60, start: old, name: "older than its parent", cgroup: docker(web), nspid: "65 25"})
		}, true, []int{60, 61, 62}, ""},
		{"it has ended", 60, nil, false, nil, ""},
		{"it is gone", 61, nil, true, nil, ""},
		{"the server itself", 50, nil, true, nil, "its process is not what defib started"},
		{"of the server", 63, func(f *tree) {
			f.put(proc{pid: 63, parent: 50, start: young, name: "worker", cgroup: docker(web), nspid: "63 23"})
		}, true, nil, "its process is one of the container's own program"},
		{"of another container", 60, func(f *tree) {
			f.put(proc{pid: 60, parent: 9, start: young, name: "x", cgroup: docker(batch), nspid: "60 20"})
		}, true, nil, "its process is not what defib started"},
		{"of the host", 60, func(f *tree) { f.put(proc{pid: 60, parent: 1, start: young, name: "sshd"}) }, true, nil, "its process is not what defib started"},
		{"of a container inside it", 60, func(f *tree) {
			f.put(proc{pid: 60, parent: 9, start: young, name: "x", cgroup: docker(web) + "/docker/" + inner, nspid: "60 20 3"})
		}, true, nil, "its process is not what defib started"},
		{"older", 60, func(f *tree) {
			f.put(proc{pid: 60, parent: 9, start: old, name: "sh", cgroup: docker(web), nspid: "60 20"})
		}, true, nil, "its process is older than what defib started"},
		{"no process", 0, nil, true, nil, "its process is not known"},
		{"the first of all", 1, nil, true, nil, "its process is not known"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newTree(t, shim, server, check)
			if tc.change != nil {
				tc.change(f)
			}
			table, killed := gripping(f, nil)
			err := table.End(tc.pid, web, time.Now().Add(-began), func() bool { return tc.still })
			slices.Sort(*killed)
			same(t, "killed", *killed, tc.killed)
			if said := fmt.Sprint(err); said != tc.says && (err != nil || tc.says != "") {
				t.Errorf("it says %q, want %q", said, tc.says)
			}
		})
	}
}

func TestEndIsRefused(t *testing.T) {
	check := []proc{
		{pid: 9, parent: 1, start: 90, name: "containerd-shim"},
		{pid: 50, parent: 9, start: 500, name: "server", cgroup: docker(web), nspid: "50 1"},
		{pid: 60, parent: 9, start: 10_010, name: "sh", cgroup: docker(web), nspid: "60 20"},
	}
	for fails, says := range map[error]string{
		unix.EPERM: "defib may not end it; run it as root with CAP_KILL", unix.ESRCH: "<nil>", unix.ENOSYS: "it cannot be ended: function not implemented",
	} {
		table, _ := gripping(newTree(t, check...), fails)
		same(t, "it says", fmt.Sprint(table.End(60, web, time.Now().Add(-10*time.Second), func() bool { return true })), says)
	}
	f := newTree(t, check...)
	f.namespace("pid:[4026532811]")
	table, killed := gripping(f, nil)
	err := table.End(60, web, time.Now().Add(-10*time.Second), func() bool { return true })
	if err == nil || err.Error() != table.Blind() || len(*killed) > 0 {
		t.Errorf("without the host's processes: %v, killed %v", err, *killed)
	}
}

// The kernel's own grip, on a process that is not asked for by its PID again.
func TestGripPID(t *testing.T) {
	cmd, in := child(t)
	defer in.Close()
	g, err := gripPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	same(t, "alive", g.alive(), true)
	if err := g.kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("it ended by itself")
	}
	same(t, "signal", cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(), syscall.SIGKILL)
	same(t, "alive after its end", g.alive(), false)
	same(t, "killed twice", left(g.kill()), nil)
	if _, err := gripPID(cmd.Process.Pid); !gone(err) {
		t.Errorf("one that is gone is held: %v", err)
	}
}
