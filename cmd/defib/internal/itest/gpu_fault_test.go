package itest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// slow is a health check as many have it: each 30 s, and long until it counts.
// What happens sooner does not come from it.
func slow() *Check { return &Check{Interval: 30 * time.Second, Retries: 100} }

// What an application's fault leads to, on eight GPUs of one host. Each of the
// subtests has GPUs and containers of its own. They begin when the first slow
// check has passed: a container that is not up yet is not confirmed by a check.
func TestGPUFaults(t *testing.T) {
	t.Parallel()
	k := newGPURig(t, 8,
		Spec{Name: "chat", GPUs: "0", Check: slow()}, Spec{Name: "beside", GPUs: "0", Check: slow()},
		Spec{Name: "sick", GPUs: "1", Check: slow()},
		Spec{Name: "fine", GPUs: "2", Check: slow()},
		Spec{Name: "owner", GPUs: "3"}, Spec{Name: "other", GPUs: "3"},
		Spec{Name: "full", GPUs: "4"},
		Spec{Name: "lost-a", GPUs: "5", Check: &Check{}}, Spec{Name: "lost-b", GPUs: "6", Check: &Check{}},
		Spec{Name: "serves", GPUs: "7", Check: &Check{}},
	)
	for i, name := range map[int]string{0: "chat", 3: "owner", 4: "full"} {
		k.worker[name] = k.unit[name].Worker(t)
		k.Processes(t, i, 60<<30, k.worker[name])
	}
	k.start(t, apart(), nil)
	for name, test := range map[string]func(*testing.T, *gpuRig){
		"the process ends": xidProcessEnds, "the check fails": xidCheckFails, "a side process": xidSideProcess,
		"contained": xidContained, "memory not freed": memoryNotFreed, "access lost": accessLost,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, k) })
	}
}

// reaction logs, by the times in defib's own event log, how soon a fault was
// acted on, and checks that it was looked into first. [BenchmarkGPUFault] has the
// figures.
func reaction(t *testing.T, k *gpuRig, line time.Time, act policy.Decision) {
	t.Helper()
	asked, answered := map[string]time.Time{}, map[string]time.Time{} // by rule
	rules := map[uint64]string{}
	for _, l := range k.d.Lines(t) {
		if rule := rules[l.Event.Decision]; rule != "" && l.Event.Examination != nil {
			answered[rule] = l.Event.At
		}
		for _, d := range l.Decisions {
			if d.Unit == act.Unit && d.Verb == policy.VerbExamine && asked[d.Rule].IsZero() {
				asked[d.Rule], rules[d.ID] = d.At, d.Rule
			}
		}
	}
	for _, rule := range []string{"confirm_fault", "would_it_help"} {
		if asked[rule].IsZero() || answered[rule].Before(asked[rule]) {
			t.Errorf("%s: asked at %v, answered at %v", rule, asked[rule], answered[rule])
		}
	}
	settled, confirmed := asked["confirm_fault"].Sub(line), answered["confirm_fault"].Sub(asked["confirm_fault"])
	acted, look := act.At.Sub(answered["confirm_fault"]), answered["would_it_help"].Sub(asked["would_it_help"])
	t.Logf("from the line of the Xid %v until it is looked into, %v until it is confirmed, %v until the restart, %v of them a look",
		settled.Round(time.Millisecond), confirmed.Round(time.Millisecond), acted.Round(time.Millisecond), look.Round(time.Millisecond))
}

func xidProcessEnds(t *testing.T, k *gpuRig) {
	line := k.XidLine(t, 0, 31, k.worker["chat"])
	k.ends(t, 0, "chat")
	act := k.decided(t, soon, "chat", policy.VerbRestart, "xid_31")
	reaction(t, k, line, act)
	contains(t, "reason", act.Reason, "Xid 31", "in chat", "its process has ended")
	k.r.Wait(t, soon, "chat", "start", 2)
	k.d.UntilClosed(t, soon, "chat")
	k.wants(t, restartedOnce, []policy.Verb{policy.VerbRestart}, "chat")
	k.wants(t, untouched, nil, "beside")
}

func xidCheckFails(t *testing.T, k *gpuRig) {
	server := k.unit["sick"].Inspect(t).State.Pid
	k.unit["sick"].Tell(t, "unhealthy", "")
	line := k.XidLine(t, 1, 31, server)
	act := k.decided(t, soon, "sick", policy.VerbRestart, "xid_31")
	reaction(t, k, line, act)
	contains(t, "reason", act.Reason, "Xid 31", "run once by defib, fails", "told to be unhealthy")
	k.r.Wait(t, soon, "sick", "start", 2)
	k.d.UntilClosed(t, soon, "sick")
	k.wants(t, restartedOnce, []policy.Verb{policy.VerbRestart}, "sick")
}

func xidSideProcess(t *testing.T, k *gpuRig) {
	side := k.unit["fine"].Exec(t, "/fakeinfer", "worker", "side")
	k.XidLine(t, 2, 31, side)
	k.d.UntilDecided(t, soon, "the fault is known", func(d policy.Decision) bool {
		return d.Rule == "gpu_fault" && strings.Contains(d.Reason, fmt.Sprintf("(pid %d) in fine", side))
	})
	k.unit["fine"].KillProcess(t, side)
	note := k.decided(t, 2*soon, "fine", policy.VerbNote, "fault_noted")
	contains(t, "note", note.Reason, "Xid 31", "health check, run once by defib, passes", "left alone")
	k.wants(t, untouched, nil, "fine")
}

func xidContained(t *testing.T, k *gpuRig) {
	line := k.XidLine(t, 3, 94, k.worker["owner"])
	k.ends(t, 3, "owner")
	reaction(t, k, line, k.decided(t, soon, "owner", policy.VerbRestart, "xid_94"))
	k.r.Wait(t, soon, "owner", "start", 2)
	k.d.UntilClosed(t, soon, "owner")
	k.wants(t, restartedOnce, []policy.Verb{policy.VerbRestart}, "owner")
	k.wants(t, untouched, nil, "other")
}

// The driver still lists a process that is gone, and its memory.
func memoryNotFreed(t *testing.T, k *gpuRig) {
	k.unit["full"].Tell(t, "crash", "1")
	k.d.UntilState(t, soon, "full", policy.Held)
	why := Unit(k.d.Status(t), "full")
	contains(t, "reason", why.Reason, "still has 60.0 GiB of memory taken by", "has ended")
	k.Processes(t, 4, 0)
	k.r.Wait(t, 2*soon, "full", "start", 2)
	k.d.UntilClosed(t, soon, "full")
	k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, "full")
	if got := Unit(k.d.Status(t), "full").Restarts24h; got != 1 {
		t.Errorf("repairs charged: got %d, want 1: the crash counts, the wait does not", got)
	}
}

// `systemctl daemon-reload` took their GPUs from three containers, and one of
// them can do without.
func accessLost(t *testing.T, k *gpuRig) {
	lost := []string{"lost-a", "lost-b"}
	for _, name := range append(lost, "serves") {
		k.unit[name].Tell(t, "say", "Failed to initialize NVML: Unknown Error")
	}
	for _, name := range lost {
		k.unit[name].Tell(t, "unhealthy", "")
	}
	for _, name := range lost {
		act := k.decided(t, 2*soon, name, policy.VerbRestart, "unhealthy")
		contains(t, "reason", act.Reason, "lost access to its GPU", "daemon-reload")
		k.d.UntilClosed(t, 2*soon, name)
	}
	a, b := k.r.Wait(t, soon, "lost-a", "restart", 1), k.r.Wait(t, soon, "lost-b", "restart", 1)
	first, second := a, b
	if second.At.Before(first.At) {
		first, second = b, a
	}
	stopped := k.r.Wait(t, soon, second.Name, "kill", 1)
	if stopped.At.Before(first.At) {
		t.Errorf("%s was stopped at %v, before %s was back at %v", second.Name, stopped.At, first.Name, first.At)
	}
	k.wants(t, restartedOnce, []policy.Verb{policy.VerbRestart}, lost...)
	k.wants(t, untouched, nil, "serves")
	k.d.Until(t, soon, "the third one serves", func(s api.Status) bool { return Unit(s, "serves").State == policy.Running })
}
