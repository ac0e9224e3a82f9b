package itest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

// Drivers that say little, nothing, or do not answer, one after the other on
// one engine.
func TestGPUDriver(t *testing.T) {
	t.Parallel()
	k := newGPURig(t, 1)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *gpuRig)
	}{
		{"keeps no recovery action", noRecoveryAction},
		{"library is missing", libraryMissing},
		{"hangs", driverHangs},
		{"was upgraded", driverUpgraded},
		{"probe is killed", probeKilled},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, k) })
	}
}

// An old driver: what a fault alone holds, only a human's word lets go.
func noRecoveryAction(t *testing.T, k *gpuRig) {
	k = k.on(t, NewGPUs(t, 1, fakenvml.NoFields), 1, Spec{Name: "old", GPUs: "0"})
	k.start(t, apart(), nil)
	k.XidLine(t, 0, 62, 0)
	k.d.UntilHeld(t, soon, 0, true)
	k.unit["old"].Tell(t, "crash", "1")
	k.d.UntilState(t, soon, "old", policy.Held)
	out, errs, code := k.d.CLI(t, "gpus", "release", "0")
	if code != 0 {
		t.Fatalf("defib gpus release 0: exit code %d; it said %s%s", code, out, errs)
	}
	k.r.Wait(t, soon, "old", "start", 2)
	k.d.UntilState(t, soon, "old", policy.Running)
	k.d.UntilHeld(t, soon, 0, false)
	k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, "old")
}

// Without a library there is no knowledge of GPUs. That is said once, and all
// containers are healed as ever.
func libraryMissing(t *testing.T, k *gpuRig) {
	specs := []Spec{{Name: "gpu-blind", GPUs: "0"}, {Name: "cpu-blind"}}
	k = k.on(t, NewGPUs(t, 1), 1, specs...)
	nowhere := strconv.Quote(filepath.Join(shortDir(t), "libnvidia-ml.so.1"))
	k.d = Start(t, k.b, k.Options(k.e, apart(), map[string]string{"library": nowhere}))
	k.running(t)
	for _, s := range specs {
		k.unit[s.Name].Tell(t, "crash", "1")
	}
	for _, s := range specs {
		k.r.Wait(t, soon, s.Name, "start", 2)
		k.d.UntilState(t, soon, s.Name, policy.Running)
		k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, s.Name)
	}
	rules := map[string]int{}
	for _, d := range k.d.Decisions(t) {
		rules[d.Rule]++
		if d.Verb == policy.VerbExamine || d.Verb == policy.VerbPoll {
			t.Errorf("without a driver it is asked: %+v", d)
		}
	}
	if got := [2]int{rules["gpu_driver"], strings.Count(k.d.Output(), `"msg":"NVIDIA driver"`)}; got != [2]int{1, 1} {
		t.Errorf("notes and log lines about the driver: got %v, want one of each", got)
	}
	if got := k.d.GPUs(t); got.Driver.State != gpu.DriverAbsent || len(got.GPUs) != 0 {
		t.Errorf("GPUs: got the driver %+v and %d GPUs, want none", got.Driver, len(got.GPUs))
	}
}

// While the driver hangs, what needs no GPU is healed as fast as before.
func driverHangs(t *testing.T, k *gpuRig) {
	const each = 3
	specs := []Spec{{Name: "gpu-waits", GPUs: "0"}}
	for i := range each {
		specs = append(specs, Spec{Name: fmt.Sprintf("before-%d", i)}, Spec{Name: fmt.Sprintf("while-%d", i)})
	}
	k = k.on(t, NewGPUs(t, 1), 1, specs...)
	k.start(t, apart(), nil)
	before := k.heals(t, "before", each)
	k.SetGPU(0, "memory.hang_ms", 600_000)
	k.driver(t, 2*soon, gpu.DriverHung)
	k.unit["gpu-waits"].Tell(t, "crash", "1")
	while := k.heals(t, "while", each)
	t.Logf("from the end of a container without a GPU to its start: %v, while the driver hangs %v", before, while)
	if while > 5*before+2*time.Second { // the driver would hang for ten minutes
		t.Errorf("while the driver hangs it takes %v to start a container without a GPU, before %v", while, before)
	}
	k.d.UntilState(t, soon, "gpu-waits", policy.Held)
	k.wants(t, exitedByItself, nil, "gpu-waits")
}

// heals ends containers one after the other, and returns how long it took until
// they were started again: the middle one of these times.
func (k *gpuRig) heals(t *testing.T, name string, n int) time.Duration {
	t.Helper()
	var took []time.Duration
	for i := range n {
		name := fmt.Sprintf("%s-%d", name, i)
		k.unit[name].Tell(t, "crash", "1")
		died, back := k.r.Wait(t, soon, name, "die", 1), k.r.Wait(t, soon, name, "start", 2)
		took = append(took, back.At.Sub(died.At).Round(time.Millisecond))
		k.d.UntilState(t, soon, name, policy.Running)
		k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, name)
	}
	slices.Sort(took)
	return took[n/2]
}

func (k *gpuRig) driver(t *testing.T, within time.Duration, state gpu.DriverState) {
	t.Helper()
	k.d.UntilGPUs(t, within, "the driver is "+string(state), func(got api.GPUs) bool { return got.Driver.State == state })
}

// The library is newer than the module that runs: what runs is left alone, what
// has ended waits for the driver to be loaded anew.
func driverUpgraded(t *testing.T, k *gpuRig) {
	k = k.on(t, NewGPUs(t, 1), 1, Spec{Name: "runs-on", GPUs: "0"}, Spec{Name: "ended", GPUs: "0"})
	k.start(t, apart(), nil)
	const mismatch = 18
	k.Set("init.ret", mismatch)
	k.SetGPU(0, "memory.ret", mismatch)
	k.driver(t, soon, gpu.DriverMismatch)
	k.unit["ended"].Tell(t, "crash", "1")
	k.d.UntilState(t, soon, "ended", policy.Held)
	k.wants(t, exitedByItself, nil, "ended")
	contains(t, "page", k.pages(t), "the NVIDIA driver was upgraded", "ended, runs-on", "`reboot`")
	k.Set("driver", "590.1")
	k.Unset("init.ret")
	k.UnsetGPU(0, "memory.ret")
	k.driver(t, 2*soon, gpu.DriverUp) // it is asked again every 30 s
	k.r.Wait(t, soon, "ended", "start", 2)
	k.d.UntilState(t, soon, "ended", policy.Running)
	k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, "ended")
	k.wants(t, untouched, nil, "runs-on")
}

// Each time that the probe is killed the next one comes later, and nothing of
// the one before is left in the daemon. How it goes on, twenty times, is tested
// in gpu/nvml, by a clock that jumps: here it would take half an hour.
func probeKilled(t *testing.T, k *gpuRig) {
	k = k.on(t, NewGPUs(t, 1), 1)
	k.start(t, apart(), nil)
	self := k.d.proc.cmd.Process.Pid
	const kills = 5
	var threads int // once the daemon has seen one probe come and go
	for i := range kills {
		probe := untilProbe(t, self, 0)
		if err := syscall.Kill(probe, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		if i == kills-1 {
			break
		}
		untilProbe(t, self, probe)
		least := time.Second << i * 9 / 10
		if gap := time.Since(killed); gap < least {
			t.Errorf("probe %d came %v after the one before was killed, want at least %v", i+2, gap, least)
		}
		k.driver(t, soon, gpu.DriverUp)
		if i == 0 {
			threads = len(threadsOf(t, self))
		}
	}
	k.driver(t, soon, gpu.DriverLost)
	left := childrenOf(t, self)
	for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = childrenOf(t, self) {
		time.Sleep(20 * time.Millisecond) // the next one comes after 16 s
	}
	if len(left) > 0 {
		t.Errorf("the daemon still has the children %v", left)
	}
	if now := len(threadsOf(t, self)); now >= threads+kills-1 {
		t.Errorf("threads of the daemon: %d before %d probes were killed, %d after", threads, kills-1, now)
	}
}

func threadsOf(t *testing.T, pid int) []string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("list the threads of process %d: %v", pid, err)
	}
	return tasks
}

// untilProbe waits for the probe of a daemon, another one than old, which may
// take a while to die, and returns its PID.
func untilProbe(t *testing.T, daemon, old int) int {
	t.Helper()
	for deadline := time.Now().Add(2 * soon); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for pid, state := range childrenOf(t, daemon) {
			if state != "Z" && pid != old {
				return pid
			}
		}
	}
	t.Fatal("the daemon has no probe")
	return 0
}

// childrenOf are the children of a process with their states, such as Z.
func childrenOf(t *testing.T, parent int) map[int]string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state parent …", and the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if fields[1] != strconv.Itoa(parent) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		found[pid] = fields[0]
	}
	return found
}
