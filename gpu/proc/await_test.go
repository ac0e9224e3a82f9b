package proc

import (
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwaitExitByLooking(t *testing.T) {
	worker := proc{pid: 50, start: 500, name: "w", cgroup: docker(web), nspid: "50 1"}
	for _, tc := range []struct {
		name   string
		change func(f *tree)
		want   bool
	}{
		{"it ends", func(f *tree) { f.end(50) }, true},
		{"it becomes a zombie", func(f *tree) { f.put(proc{pid: 50, start: 500, state: "Z", name: "w"}) }, true},
		{"its PID is used again", func(f *tree) { f.put(proc{pid: 50, start: 501, name: "x"}) }, true},
		{"a thread of it hangs", func(f *tree) {
			f.put(proc{pid: 50, start: 500, state: "Z", name: "w"})
			f.thread(50, proc{pid: 51, start: 500, state: "D", name: "w"})
		}, false},
		{"nothing happens", func(*tree) {}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newTree(t, worker)
			synctest.Test(t, func(t *testing.T) {
				table := f.table()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				const after = time.Second + glance/2 // between two looks: a change is more than one write
				time.AfterFunc(after, func() { tc.change(f) })
				began := time.Now()
				if got := table.AwaitExit(ctx, 50); got != tc.want {
					t.Errorf("it has ended: %v, want %v", got, tc.want)
				}
				if took := time.Since(began); tc.want && took > after+glance {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestAwaitExitOfOneThatIsGone(t *testing.T) {
	f := newTree(t, proc{pid: 50, start: 500, name: "w", cgroup: docker(web), nspid: "50 1"})
	table := f.table()
	table.scan()
	f.end(50)
	if !table.AwaitExit(t.Context(), 50) || !table.AwaitExit(t.Context(), 51) {
		t.Error("one that is gone is waited for")
	}
}

// hostTable reads the /proc of this machine, in whatever PID namespace the test is.
func hostTable(t *testing.T) *Table {
	t.Helper()
	table := New(Options{})
	table.blind = ""
	return table
}

// child starts a process that lives until its input is closed.
func child(t *testing.T) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in
}

func TestAwaitExitByNotice(t *testing.T) {
	table := hostTable(t)
	cmd, in := child(t)
	if p := table.Lookup(cmd.Process.Pid); p.Dead || p.Name == "" {
		t.Errorf("a process that lives reads %+v", p)
	}
	exited := make(chan bool)
	go func() { exited <- table.AwaitExit(t.Context(), cmd.Process.Pid) }()
	_ = in.Close()
	if !<-exited { // it is a zombie now: nobody has waited for it
		t.Error("the end was not noticed")
	}
	if p := table.Lookup(cmd.Process.Pid); !p.Dead {
		t.Errorf("a zombie reads %+v", p)
	}
	_ = cmd.Wait()
	if !table.AwaitExit(t.Context(), cmd.Process.Pid) {
		t.Error("a process that is gone is waited for")
	}
}

func TestAwaitExitEndsWithItsContext(t *testing.T) {
	table := hostTable(t)
	cmd, in := child(t)
	ctx, cancel := context.WithCancel(t.Context())
	exited := make(chan bool)
	go func() { exited <- table.AwaitExit(ctx, cmd.Process.Pid) }()
	cancel()
	if <-exited {
		t.Error("a process that lives is said to have ended")
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNameSpacesOfThisProcess(t *testing.T) {
	if depth, inner := namespaces("/proc/self/status"); depth < 1 || inner < 1 {
		t.Errorf("NSpid reads %d, %d", depth, inner)
	}
	if depth, inner := namespaces("/proc/self/no-such-file"); depth != 0 || inner != 0 {
		t.Errorf("a missing file reads %d, %d", depth, inner)
	}
}

func BenchmarkScan300(b *testing.B) {
	var procs []proc
	for i := range 300 {
		p := proc{pid: 100 + i, parent: 1, start: uint64(i), name: "VLLM::Worker"}
		if i%3 == 0 {
			p.cgroup, p.nspid = docker(strings.Repeat("abcd", 16)), "100 1"
		}
		procs = append(procs, p)
	}
	f := newTree(b, procs...)
	table := f.table()
	table.scan()
	table.scan()
	for b.Loop() {
		f.now = f.now.Add(table.o.Every)
		table.scan()
	}
}
