package proc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
)

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestLookup(t *testing.T) {
	f := newTree(t,
		proc{pid: 40, start: 400, name: "sshd"},
		proc{pid: 50, start: 500, name: "VLLM::Worker", cgroup: docker(web), nspid: "50 1"},
		proc{pid: 51, start: 510, name: "a) R 1 (b\n\x1b[31m\xff", cgroup: docker(web), nspid: "51 7"},
		proc{pid: 60, start: 600, name: "nested", cgroup: "/docker/" + web + "/docker/" + inner, nspid: "60 9 1"},
	)
	table := f.table()
	for _, tc := range []struct {
		what string
		pid  int
		want gpu.Process
	}{
		{"of the host", 40, gpu.Process{PID: 40, Name: "sshd"}},
		{"in a container", 50, gpu.Process{PID: 50, Name: "VLLM::Worker", Containers: []string{web}}},
		{"with a hostile name", 51, gpu.Process{PID: 51, Name: "a) R 1 (b  [31m\uFFFD", Containers: []string{web}}},
		{"in a container in a container", 60, gpu.Process{PID: 60, Name: "nested", Containers: []string{web, inner}}},
		{"never seen", 70, gpu.Process{PID: 70, Dead: true}},
		{"no process", 0, gpu.Process{}},
		{"no process either", -4, gpu.Process{PID: -4}},
	} {
		t.Run(tc.what, func(t *testing.T) { same(t, "process", table.Lookup(tc.pid), tc.want) })
	}
}

func TestLookupAfterTheEnd(t *testing.T) {
	f := newTree(t,
		proc{pid: 40, start: 400, name: "host"},
		proc{pid: 50, start: 500, name: "python3", cgroup: docker(web), nspid: "50 1"},
	)
	table := f.table()
	table.scan()
	f.put(proc{pid: 50, start: 500, name: "VLLM::Engine", cgroup: docker(web), nspid: "50 1"})
	f.now = f.now.Add(5 * time.Second)
	table.scan()
	f.end(40, 50)
	want := gpu.Process{PID: 50, Name: "VLLM::Engine", Containers: []string{web}, Dead: true}
	same(t, "before a scan has missed it", table.Lookup(50), want)
	f.now = f.now.Add(5 * time.Second)
	table.scan()
	same(t, "after a scan has missed it", table.Lookup(50), want)
	same(t, "the host's process", table.Lookup(40), gpu.Process{PID: 40, Dead: true})
	f.now = f.now.Add(10 * time.Minute)
	table.scan()
	same(t, "10 min later", table.Lookup(50), want)
	f.now = f.now.Add(time.Second)
	table.scan()
	same(t, "later than that", table.Lookup(50), gpu.Process{PID: 50, Dead: true})
}

func TestDead(t *testing.T) {
	for _, tc := range []struct {
		name    string
		leader  string
		threads []string
		want    bool
	}{
		{"it runs", "R", []string{"S"}, false},
		{"it hangs", "D", nil, false},
		{"a zombie", "Z", nil, true},
		{"a zombie with a dead thread", "Z", []string{"Z", "X"}, true},
		{"a zombie with a thread that hangs in the driver", "Z", []string{"Z", "D"}, false},
		{"a first thread that ended before the others", "Z", []string{"S"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newTree(t, proc{pid: 50, start: 500, state: tc.leader, name: "w", cgroup: docker(web), nspid: "50 1"})
			for i, state := range tc.threads {
				f.thread(50, proc{pid: 51 + i, start: 501, state: state, name: "w"})
			}
			same(t, "dead", f.table().Lookup(50).Dead, tc.want)
		})
	}
}

func TestAZombieThatLeftItsGroupKeepsItsContainer(t *testing.T) {
	f := newTree(t, proc{pid: 50, start: 500, name: "w", cgroup: docker(web), nspid: "50 1"})
	table := f.table()
	table.scan()
	f.put(proc{pid: 50, start: 500, state: "Z", name: "w", cgroup: "/", nspid: "50 1"})
	same(t, "process", table.Lookup(50), gpu.Process{PID: 50, Name: "w", Containers: []string{web}, Dead: true})
}

func TestAPIDThatIsUsedAgain(t *testing.T) {
	f := newTree(t, proc{pid: 50, start: 500, name: "old", cgroup: docker(web), nspid: "50 1"})
	table := f.table()
	table.scan()
	f.put(proc{pid: 50, start: 900, name: "new", cgroup: docker(batch), nspid: "50 3"})
	same(t, "while the new one lives", table.Lookup(50), gpu.Process{PID: 50, Name: "new", Containers: []string{batch}})
	f.end(50)
	table.scan()
	same(t, "after its end", table.Lookup(50), gpu.Process{PID: 50, Name: "new", Containers: []string{batch}, Dead: true})
}

func TestAProcessThatTheRuntimeMovesIn(t *testing.T) {
	f := newTree(t,
		proc{pid: 9, start: 90, name: "containerd-shim"},
		proc{pid: 50, parent: 9, start: 500, name: "runc:[2:INIT]"})
	table := f.table()
	table.scan()
	f.put(proc{pid: 50, parent: 9, start: 500, name: "llama-server", cgroup: docker(web), nspid: "50 1"})
	table.scan()
	f.end(50)
	same(t, "process", table.Lookup(50), gpu.Process{PID: 50, Name: "llama-server", Containers: []string{web}, Dead: true})
	same(t, "own", table.Own(50), true)
}

func TestOldProcessesAreReadAgainInTurns(t *testing.T) {
	f := newTree(t)
	for pid := 100; pid < 120; pid++ {
		f.put(proc{pid: pid, start: 5, name: "old", cgroup: docker(web), nspid: "100 1"})
	}
	table := f.table()
	table.scan()
	table.scan()
	for pid := 100; pid < 120; pid++ {
		f.put(proc{pid: pid, start: 5, name: "new", cgroup: docker(web), nspid: "100 1"})
	}
	f.now = f.now.Add(time.Minute)
	for _, want := range []int{16, 21} { // 21 is all of them and process 1
		table.scan()
		read := 0
		for _, e := range table.live {
			if e.last.Equal(f.now) {
				read++
			}
		}
		same(t, "processes that have been read again", read, want)
	}
	same(t, "a new name", table.live[107].name, "new")
}

func TestBlind(t *testing.T) {
	f := newTree(t, proc{pid: 50, start: 500, name: "w", cgroup: docker(web)})
	same(t, "with the host's processes", f.table().Blind(), "")

	f.end(1)
	same(t, "with hidepid", f.table().Blind(), f.root+" hides the processes of other users, so which container a process on a GPU belongs to is not known: run defib as root, or mount procfs without hidepid.")

	f.namespace("pid:[4026532811]")
	table := f.table()
	same(t, "in a namespace", table.Blind(), "defib runs in a PID namespace of its own and does not see the processes of the host, so which container a process on a GPU belongs to is not known: start its container with `--pid host` (compose: `pid: host`).")
	same(t, "a process that has the PID by chance", table.Lookup(50), gpu.Process{PID: 50})
	same(t, "own", table.Own(50), false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	same(t, "the exit of one that is not seen", table.AwaitExit(ctx, 51), false)
}

func TestWhatIsNoProcFS(t *testing.T) {
	f := newTree(t, proc{pid: 50, start: 500, name: "w"})
	table := f.table()
	for _, text := range []string{"", "50", "50 (w", "50 (w) S", "50 (w) S x 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", "50 )w( S"} {
		f.write(f.root+"/50/stat", text)
		same(t, text, table.Lookup(50), gpu.Process{PID: 50})
	}
}

func TestRun(t *testing.T) {
	f := newTree(t, proc{pid: 50, start: 500, name: "w", cgroup: docker(web), nspid: "50 1"})
	synctest.Test(t, func(t *testing.T) {
		table := New(Options{Root: f.root})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); table.Run(ctx) }()
		time.Sleep(59 * time.Second)
		table.mu.Lock()
		same(t, "scans in a minute", table.round, uint64(12))
		table.mu.Unlock()
		cancel()
		<-done
	})
}

func TestEndedProcessesAreBounded(t *testing.T) {
	table := newTree(t).table()
	for pid := 2; pid < 2+rememberUp+10; pid++ {
		table.ended[pid] = &entry{process: process{pid: pid}, end: table.o.Now().Add(time.Duration(pid))}
	}
	table.scan()
	if _, oldest := table.ended[2]; oldest || len(table.ended) != rememberUp {
		t.Errorf("%d ended processes are kept (the oldest: %v), want %d without it", len(table.ended), oldest, rememberUp)
	}
}
