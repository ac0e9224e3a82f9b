package itest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// A GPU falls off the bus: nothing on it is touched, a human is called once,
// and every command says why. An old line about another GPU means nothing.
func TestGPULost(t *testing.T) {
	t.Parallel()
	k := newGPURig(t, 2,
		Spec{Name: "chat", GPUs: "0"}, Spec{Name: "embed", GPUs: "0"}, Spec{Name: "spare", GPUs: "1"}, Spec{Name: "web"})
	k.KernelAt(t, time.Second, xidLine(1, 79, 0)) // as old as can be: from right after the boot
	k.start(t, apart(), nil)
	k.d.UntilGPUs(t, soon, "the old line is known", func(got api.GPUs) bool {
		f := got.GPUs[1].LastFault
		return f != nil && f.Code == 79 && f.Historic && got.GPUs[1].Hold == nil
	})
	k.unit["spare"].Tell(t, "crash", "1")
	k.r.Wait(t, soon, "spare", "start", 2)

	k.XidLine(t, 0, 79, 0)
	k.d.UntilGPUs(t, soon, "the new line is known", func(got api.GPUs) bool { return got.GPUs[0].LastFault != nil })
	k.Lost(0)
	k.unit["chat"].Tell(t, "crash", "1")
	k.d.UntilState(t, soon, "chat", policy.Held)
	k.unit["web"].Tell(t, "crash", "1")
	k.r.Wait(t, soon, "web", "start", 2)
	k.d.UntilState(t, soon, "web", policy.Running)
	k.wants(t, exitedByItself, nil, "chat")
	k.wants(t, untouched, nil, "embed")
	k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, "spare", "web")

	contains(t, "page", k.pages(t), "GPU 0", "has fallen off the bus (Xid 79)", "chat, embed", "`reboot`")
	k.saysLost(t)
}

// pages returns what a human was told, and wants it to have been once.
func (k *gpuRig) pages(t *testing.T) string {
	t.Helper()
	var told []policy.Decision
	for _, d := range k.d.Decisions(t) {
		if d.Paged {
			told = append(told, d)
		}
	}
	if len(told) != 1 {
		t.Fatalf("pages: got %+v, want one", told)
	}
	return told[0].Reason
}

// saysLost wants the commands to tell of the lost GPU.
func (k *gpuRig) saysLost(t *testing.T) {
	t.Helper()
	for _, tt := range []struct {
		args []string
		code int
		says []string
	}{
		{
			[]string{"gpus"},
			3,
			[]string{"LOST", "79 GPU has fallen off the bus", "chat,embed", "WELL", "GPU 0 is held since", "`reboot`", "`defib gpus release 0`"},
		},
		{[]string{"gpus", "1"}, 0, []string{"WELL", "spare"}},
		{[]string{"status"}, 3, []string{"GPU", "0 (held)", "HELD"}},
		{[]string{"describe", "chat"}, 0, []string{"0 (held)", "fallen off the bus"}},
		{[]string{"explain", "xid", "79"}, 0, []string{"GPU has fallen off the bus", "reboot"}},
	} {
		out, errs, code := k.d.CLI(t, tt.args...)
		if code != tt.code {
			t.Errorf("defib %v: got exit code %d, want %d; it said %s", tt.args, code, tt.code, errs)
		}
		contains(t, "defib "+tt.args[0], out, tt.says...)
	}
}

// What a held GPU means for those on it, and for those who only may use it.
func TestGPUHeld(t *testing.T) {
	t.Parallel()
	k := newGPURig(t, 4,
		Spec{Name: "chat", GPUs: "0"}, Spec{Name: "embed", GPUs: "0"},
		Spec{Name: "may", GPUs: "all", BakedIn: true}, Spec{Name: "does", GPUs: "all", BakedIn: true},
		Spec{Name: "left", GPUs: "1,2"}, Spec{Name: "right", GPUs: "2,3"},
	)
	k.start(t, apart(), nil)
	k.Processes(t, 0, 1<<30, k.unit["does"].Inspect(t).State.Pid)
	k.d.UntilGPUs(t, 2*soon, "its process is seen on GPU 0", func(got api.GPUs) bool {
		return slices.Contains(got.GPUs[0].Units, "does")
	})
	t.Run("until the driver is content", func(t *testing.T) { t.Parallel(); heldTogether(t, k) })
	t.Run("two by two", func(t *testing.T) { t.Parallel(); twoByTwo(t, k) })
}

// The driver asks for a reset: who uses the GPU waits for it, whoever else fails
// does not. Later they come back one after the other, and are charged nothing.
func heldTogether(t *testing.T, k *gpuRig) {
	k.SetGPU(0, "field.230", 1)
	k.d.UntilHeld(t, soon, 0, true)
	users := []string{"chat", "embed", "does"}
	for _, name := range append(users, "may") {
		k.unit[name].Tell(t, "crash", "1")
	}
	k.r.Wait(t, soon, "may", "start", 2)
	for _, name := range users {
		k.d.UntilState(t, soon, name, policy.Held)
	}
	k.wants(t, exitedByItself, nil, users...)
	contains(t, "page", k.pages(t), "GPU 0", "the driver asks for a GPU reset", "chat, does, embed")
	k.letGo(t)

	k.Processes(t, 0, 0)
	k.SetGPU(0, "field.230", 0)
	k.d.UntilHeld(t, 2*soon, 0, false)
	var starts []time.Time
	for _, name := range users {
		starts = append(starts, k.r.Wait(t, 2*soon, name, "start", 2).At)
		if u := k.d.UntilState(t, soon, name, policy.Running); u.Restarts24h != 0 {
			t.Errorf("%s: %d repairs are charged, want 0: its GPU was to blame", name, u.Restarts24h)
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	for i := range len(starts) - 1 {
		if gap := starts[i+1].Sub(starts[i]); gap < 400*time.Millisecond { // start_seconds is 500ms
			t.Errorf("one was started %v after the one before, which was not up yet", gap)
		}
	}
	k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, "chat", "embed", "does", "may")
}

// letGo waits until defib does not hold the driver's library: now, and most of
// the time, a human may reset the GPU.
func (k *gpuRig) letGo(t *testing.T) {
	t.Helper()
	k.d.UntilGPUs(t, soon, "the driver is let go, and counts as up", func(got api.GPUs) bool {
		opened, closed := k.Opened()
		return opened > 0 && opened == closed && got.Driver.State == gpu.DriverUp && len(childrenOf(t, k.d.proc.cmd.Process.Pid)) == 0
	})
	if out, _, _ := k.d.CLI(t, "gpus", "0"); !strings.Contains(out, "lets the driver go between its looks") {
		t.Errorf("defib gpus does not say so: %s", out)
	}
}

// Two containers of two GPUs each share one: neither blocks the other for ever.
func twoByTwo(t *testing.T, k *gpuRig) {
	pair := []string{"left", "right"}
	for _, name := range pair {
		k.unit[name].Tell(t, "crash", "1")
	}
	for _, name := range pair {
		k.r.Wait(t, 2*soon, name, "start", 2)
		k.d.UntilState(t, soon, name, policy.Running)
	}
	k.wants(t, startedOnce, []policy.Verb{policy.VerbStart}, pair...)
}
