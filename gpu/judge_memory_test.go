package gpu

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func vram(says, remedy string) Judgement {
	j := onGPU(Wait, "vram", says, remedy, ClearReading)
	j.Scope, j.For = ScopeApp, 2*time.Minute
	return j
}

// TestMemory is §4.5: memory that outlives the container.
func TestMemory(t *testing.T) {
	used := func(n uint64, ps ...Process) Reading {
		r := well()
		r.Used, r.Listed, r.Processes = n*gib, true, ps
		return r
	}
	changed := func(r Reading, f func(*Reading)) Reading { f(&r); return r }
	dead := Process{PID: 4242, Name: "VLLM::Worker", Memory: 70 * gib, Dead: true}
	orphan := Process{PID: 77, Name: "ray", Memory: 40 * gib, Containers: []string{other, self}}
	neighbour := Process{PID: 99, Name: "sglang", Memory: 30 * gib, Containers: []string{other}}
	desktop := Process{PID: 5, Name: "Xorg", Memory: gib}
	find := "Find what holds it and end it, and reboot if nothing is found: `fuser -v /dev/nvidia0`"
	nothing := Judgement{Verdict: Restart}
	ghost := vram("still has 70.0 GiB of memory taken by VLLM::Worker (pid 4242), which has ended", "End VLLM::Worker (pid 4242), and reboot if it stays: `kill -9 4242`")
	for name, c := range map[string]struct {
		reading Reading
		want    Judgement
	}{
		"free":                     {used(0), nothing},
		"a dead process":           {used(70, dead), ghost},
		"a dead one beside others": {used(75, neighbour, orphan, dead), ghost},
		"an orphan":                {used(40, orphan), vram("still has 40.0 GiB of memory taken by ray (pid 77), which the container left behind", "End ray (pid 77), and reboot if it stays: `kill -9 77`")},
		"no amount, no name":       {used(40, Process{PID: 8, Dead: true}), vram("still has memory taken by pid 8, which has ended", "End pid 8, and reboot if it stays: `kill -9 8`")},
		"a dead one with little":   {used(1, Process{PID: 8, Memory: gib / 2, Dead: true}), nothing},
		"little, amount not known": {used(0, Process{PID: 8, Dead: true}), nothing},
		"an orphan with little":    {used(1, Process{PID: 77, Memory: gib / 2, Containers: []string{self}}), nothing},
		"little beside much":       {used(71, Process{PID: 8, Memory: gib / 2, Dead: true}, dead), ghost},
		"nobody":                   {used(72), vram("still has 72.0 GiB of memory taken by no process that the driver lists", find)},
		"nobody, beside others":    {used(72, neighbour), vram("still has 42.0 GiB of memory taken by no process that the driver lists", find)},
		"little of it":             {used(8), nothing},
		"others explain it":        {used(31, neighbour, desktop), nothing},
		"an amount is not known":   {used(72, Process{PID: 9}), nothing},
		"more listed than used":    {used(20, neighbour), nothing},
		"a small GPU":              {changed(used(2), func(r *Reading) { r.Total = 4 * gib }), vram("still has 2.0 GiB of memory taken by no process that the driver lists", find)},
		"not listed":               {changed(used(72), func(r *Reading) { r.Listed = false }), nothing},
		"shared memory":            {changed(used(72, dead), func(r *Reading) { r.SharedMemory = true }), nothing},
		"an old reading":           {changed(used(72, dead), func(r *Reading) { r.Trouble = TroubleOther }), nothing},
	} {
		t.Run(name, func(t *testing.T) {
			d := failed(state(c.reading))
			d.Down = true
			same(t, c.want, Judge(d))
			same(t, nothing, Judge(failed(state(c.reading)))) // it runs, so memory is in use
			d.Driver.Blind = "defib has its own PID namespace"
			same(t, nothing, Judge(d))
			d.Driver = Driver{State: DriverLost}
			same(t, nothing, Judge(d))
		})
	}
	d := failed(state(used(70, dead)))
	d.Down = true
	same(t, expired(ghost, "2 min"), Judge(d.waited(2*time.Minute)))
	d.GPUs[0].Parts = []MIG{{GI: 1}}
	d.GPUs[0].Reading = new(used(72))
	same(t, nothing, Judge(d)) // what fills the other instances is not known
}

func TestMemoryNodes(t *testing.T) {
	r := well()
	r.Used, r.Listed = 72*gib, true
	d := failed(state(r))
	d.Down, d.GPUs[0].Device.Minor = true, -1
	want := "Find what holds it and end it, and reboot if nothing is found: `fuser -v /dev/nvidia*`"
	if got := Judge(d).Remedy; got != want {
		t.Errorf("%s", got)
	}
}

// TestInUse: the memory of others is theirs, and a reason to find too little.
func TestInUse(t *testing.T) {
	r := well()
	r.Used, r.Listed = 72*gib, true
	r.Processes = []Process{
		{PID: 99, Name: "sglang", Memory: 41 * gib, Containers: []string{other, "inner"}},
		{PID: 5, Name: "Xorg", Memory: gib / 2},
		{PID: 6},
		{PID: 7, Memory: 2 * gib, Dead: true},
		{PID: 8, Memory: 3 * gib, Containers: []string{self}},
	}
	c := failed(state(r)).says(SignMemory)
	want := []string{
		"GPU 0: recovery action 0",
		"GPU 0: sglang (pid 99) of container bbbbbbbbbbbb holds 41.0 GiB of memory",
		"GPU 0: pid 8 of the container itself holds 3.0 GiB of memory",
		"GPU 0: pid 7, which has ended, holds 2.0 GiB of memory",
		"GPU 0: Xorg (pid 5) of the host holds 0.5 GiB of memory",
		"GPU 0: pid 6 of the host holds memory",
		"it reports that there is not enough GPU memory",
	}
	if diff := cmp.Diff(want, Judge(c).Evidence); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
