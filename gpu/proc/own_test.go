package proc

import "testing"

func TestOwn(t *testing.T) {
	shim := proc{pid: 9, parent: 1, start: 90, name: "containerd-shim"}
	dind := docker(web) + "/docker/" + inner
	for _, tc := range []struct {
		name  string
		procs []proc
		want  map[int]bool
	}{
		{"a program and what it starts", []proc{
			shim,
			{pid: 50, parent: 9, start: 500, cgroup: docker(web), nspid: "50 1"},
			{pid: 51, parent: 50, start: 500, cgroup: docker(web), nspid: "51 2"},
			{pid: 45, parent: 51, start: 700, cgroup: docker(web), nspid: "45 3"},
		}, map[int]bool{50: true, 51: true, 45: true, 9: false, 1: false, 99: false}},
		{"docker exec", []proc{
			shim,
			{pid: 50, parent: 9, start: 500, cgroup: docker(web), nspid: "50 1"},
			{pid: 60, parent: 9, start: 600, cgroup: docker(web), nspid: "60 20"},
			{pid: 61, parent: 60, start: 601, cgroup: docker(web), nspid: "61 21"},
		}, map[int]bool{50: true, 60: false, 61: false}},
		{"pid: host", []proc{
			shim,
			{pid: 50, parent: 9, start: 500, cgroup: docker(web)},
			{pid: 51, parent: 50, start: 510, cgroup: docker(web)},
			{pid: 60, parent: 9, start: 600, cgroup: docker(web)},
			{pid: 61, parent: 60, start: 601, cgroup: docker(web)},
			{pid: 70, parent: 9, start: 400, cgroup: docker(batch)},
		}, map[int]bool{50: true, 51: true, 60: false, 61: false, 70: true}},
		{"the namespace of another container", []proc{
			shim,
			{pid: 50, parent: 9, start: 500, cgroup: docker(web), nspid: "50 1"},
			{pid: 55, parent: 9, start: 550, cgroup: docker(batch), nspid: "55 8"},
			{pid: 56, parent: 55, start: 551, cgroup: docker(batch), nspid: "56 9"},
			{pid: 57, parent: 9, start: 560, cgroup: docker(batch), nspid: "57 10"},
		}, map[int]bool{50: true, 55: true, 56: true, 57: false}},
		{"Docker in Docker", []proc{
			shim,
			{pid: 50, parent: 9, start: 500, name: "dockerd", cgroup: docker(web), nspid: "50 1"},
			{pid: 51, parent: 50, start: 510, name: "containerd-shim", cgroup: docker(web), nspid: "51 30"},
			{pid: 52, parent: 51, start: 520, cgroup: dind, nspid: "52 31 1"},
			{pid: 53, parent: 52, start: 530, cgroup: dind, nspid: "53 32 2"},
			{pid: 60, parent: 9, start: 600, cgroup: docker(web), nspid: "60 40"},
		}, map[int]bool{50: true, 52: true, 53: true, 60: false}},
		{"a host that is a container itself", []proc{
			{pid: 1, start: 1, cgroup: docker(web)},
			{pid: 9, parent: 1, start: 90, cgroup: docker(web)},
			{pid: 50, parent: 9, start: 500, cgroup: dind, nspid: "50 1"},
			{pid: 51, parent: 50, start: 510, cgroup: dind, nspid: "51 2"},
			{pid: 60, parent: 9, start: 600, cgroup: dind, nspid: "60 20"},
		}, map[int]bool{50: true, 51: true, 60: false}},
		{"the PID of a parent was given away", []proc{
			shim,
			{pid: 50, parent: 9, start: 500, cgroup: docker(web), nspid: "50 1"},
			{pid: 70, parent: 50, start: 900, cgroup: docker(web), nspid: "70 30"},
			{pid: 61, parent: 70, start: 601, cgroup: docker(web), nspid: "61 21"},
		}, map[int]bool{70: true, 61: false}},
		{"a ring of parents", []proc{
			{pid: 50, parent: 51, start: 500, cgroup: docker(web), nspid: "50 2"},
			{pid: 51, parent: 50, start: 500, cgroup: docker(web), nspid: "51 3"},
		}, map[int]bool{50: false, 51: false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newTree(t, tc.procs...)
			table := f.table()
			for pid, want := range tc.want {
				if got := table.Own(pid); got != want {
					t.Errorf("process %d is own: %v, want %v", pid, got, want)
				}
				table.Lookup(pid) // what was looked up alone is decided as well
				if got := f.tableThatLookedUp(pid).Own(pid); got != want {
					t.Errorf("process %d, looked up first, is own: %v, want %v", pid, got, want)
				}
			}
		})
	}
}

func (f *tree) tableThatLookedUp(pid int) *Table {
	table := f.table()
	table.Lookup(pid)
	return table
}

func TestOwnIsDecidedByTheFirstParents(t *testing.T) {
	shim := proc{pid: 9, parent: 1, start: 90, name: "containerd-shim"}
	main := proc{pid: 50, parent: 9, start: 500, cgroup: docker(web), nspid: "50 1"}
	f := newTree(t, shim, main,
		proc{pid: 60, parent: 9, start: 600, cgroup: docker(web), nspid: "60 20"},
		proc{pid: 61, parent: 60, start: 601, cgroup: docker(web), nspid: "61 21"})
	table := f.table()
	table.scan()
	f.end(60) // the shell that somebody used; what it started is an orphan now
	f.put(proc{pid: 61, parent: 50, start: 601, cgroup: docker(web), nspid: "61 21"})
	table.scan()
	if table.Own(61) {
		t.Error("an orphan of `docker exec` is taken for the container's own")
	}
	f.end(50, 61)
	table.scan()
	if !table.Own(50) || table.Own(61) {
		t.Errorf("after the end, own are: first %v, orphan %v, want true, false", table.Own(50), table.Own(61))
	}
}

// With the host's PID namespace a container that was restarted has an older
// process in memory, which is not of this run.
func TestOwnAfterARestart(t *testing.T) {
	f := newTree(t, proc{pid: 9, start: 90}, proc{pid: 50, parent: 9, start: 500, cgroup: docker(web)})
	table := f.table()
	table.scan()
	f.end(50)
	f.now = f.now.Add(table.o.Every)
	f.put(proc{pid: 80, parent: 9, start: 800, cgroup: docker(web)})
	table.scan()
	if !table.Own(80) || !table.Own(50) {
		t.Errorf("own are: new run %v, old run %v, want both", table.Own(80), table.Own(50))
	}
}
