package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A driver frees the memory of a process that ended in seconds (gpu.md §4.5).
// What no listed process explains counts from leastLeft on, and from a tenth of
// the memory: contexts and the driver itself take some too.
const (
	memoryFor = 2 * time.Minute
	gib       = 1 << 30
	leastLeft = gib
)

// memory: the container has ended and its memory has not. A start now would
// find too little and fail.
func (t *trial) memory() (Judgement, bool) {
	if !t.Down || t.Driver.State != DriverUp || t.Driver.Blind != "" {
		return Judgement{}, false
	}
	for _, l := range t.looks {
		if r := l.Reading; r == nil || r.Trouble != "" || r.SharedMemory || !r.Listed {
			continue
		}
		if p, ok := l.holder(t.ID); ok {
			return passing(l.held(p), memoryFor)
		}
		if n := l.unexplained(); n > 0 {
			return passing(l.left(n), memoryFor)
		}
	}
	return Judgement{}, false
}

// holder is the process that should not be there and holds the most. One with
// little keeps no model from being loaded.
func (l *look) holder(own string) (Process, bool) {
	var most Process
	for _, p := range l.Reading.Processes {
		little := cmp.Or(p.Memory, l.Reading.Used) < leastLeft
		if (p.Dead || slices.Contains(p.Containers, own)) && !little && (most.PID == 0 || p.Memory > most.Memory) {
			most = p
		}
	}
	return most, most.PID != 0
}

// unexplained is the memory that no listed process holds; 0 when it is little,
// or when the list cannot tell: an amount is missing, or only a part of the GPU
// is looked at.
func (l *look) unexplained() uint64 {
	r, left := l.Reading, l.Reading.Used
	for _, p := range r.Processes {
		if p.Memory == 0 {
			return 0
		}
		left -= min(p.Memory, left)
	}
	if len(l.parts) > 0 || left <= max(leastLeft, r.Total/10) {
		return 0
	}
	return left
}

// held is about a process that holds memory which should be free.
func (l *look) held(p Process) Judgement {
	how := "which the container left behind"
	if p.Dead {
		how = "which has ended"
	}
	amount := "memory"
	if p.Memory > 0 {
		amount = size(p.Memory) + " of memory"
	}
	who := procName(p.Name, p.PID)
	j := l.about("vram", "still has "+amount+" taken by "+who+", "+how,
		"End "+who+", and reboot if it stays: `kill -9 "+strconv.Itoa(p.PID)+"`")
	j.Scope = ScopeApp
	return j
}

// left is about memory that nobody seems to hold.
func (l *look) left(n uint64) Judgement {
	nodes := "/dev/nvidia*"
	if l.Device.Minor >= 0 {
		nodes = "/dev/nvidia" + strconv.Itoa(l.Device.Minor)
	}
	j := l.about("vram", "still has "+size(n)+" of memory taken by no process that the driver lists",
		"Find what holds it and end it, and reboot if nothing is found: `fuser -v "+nodes+"`")
	j.Scope = ScopeApp
	return j
}

// inUse says which processes hold memory, the most first. That is the right of
// those that live, and a reason for a container to find too little.
func (l *look) inUse(own string) []string {
	if l.Reading == nil || l.Reading.Trouble != "" {
		return nil
	}
	var out []string
	for _, p := range slices.SortedStableFunc(slices.Values(l.Reading.Processes), func(a, b Process) int { return cmp.Compare(b.Memory, a.Memory) }) {
		amount := "memory"
		if p.Memory > 0 {
			amount = size(p.Memory) + " of memory"
		}
		out = append(out, l.short()+": "+procName(p.Name, p.PID)+whose(p, own)+" holds "+amount)
	}
	if n := len(out) - mostLines; n > 0 {
		out = append(out[:mostLines], fmt.Sprintf("%s: and %d more processes", l.short(), n))
	}
	return out
}

// whose goes on from the name of a process.
func whose(p Process, own string) string {
	switch {
	case p.Dead:
		return ", which has ended,"
	case slices.Contains(p.Containers, own):
		return " of the container itself"
	case len(p.Containers) > 0:
		return " of container " + plain(p.Containers[0][:min(len(p.Containers[0]), 12)], 12)
	}
	return " of the host"
}

func size(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/gib) }
