package itest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
	"github.com/defib-dev/defib/watcher/policy"
)

// resetCommand stands in for `nvidia-smi --gpu-reset`: it notes for which GPU it
// was run and which probes held the driver then, and does what it is told.
const resetCommand = `#!/bin/sh
dir=%q
echo "$1 probes: $(ps -o args= --ppid $PPID | grep -c gpu-probe)" >>"$dir/ran"
. "$dir/does"
`

// A reset on request: what is stopped for it starts again, whether it works or
// not.
func TestGPUReset(t *testing.T) {
	t.Parallel()
	k := newGPURig(t, 2, Spec{Name: "chat", GPUs: "0"}, Spec{Name: "embed", GPUs: "0"}, Spec{Name: "other", GPUs: "1"})
	program := filepath.Join(shortDir(t), "reset")
	if err := os.WriteFile(program, fmt.Appendf(nil, resetCommand, k.Dir()), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	k.Processes(t, 1, 1<<30, os.Getpid())
	k.start(t, apart(), map[string]string{"reset": "ask", "reset_command": fmt.Sprintf("[%q, %q]", program, "{gpu}")})
	for _, tt := range []struct {
		name string
		test func(*testing.T, *gpuRig)
	}{
		{"works", resetWorks},
		{"in use by a stranger", resetRefused},
		{"command fails", func(t *testing.T, k *gpuRig) {
			k.resetDoes(t, "echo 'GPU is in use'; exit 3")
			k.resetFails(t, 1, "the reset command did not work", "GPU is in use")
		}},
		{"command is missing", func(t *testing.T, k *gpuRig) {
			rename(t, program, program+".old")
			k.resetFails(t, 2, "the reset command did not work", program)
			rename(t, program+".old", program)
		}},
		{"no better", func(t *testing.T, k *gpuRig) {
			k.resetDoes(t, "echo gpu0.field.230 1 >>$dir/scenario")
			k.resetFails(t, 3, "the reset command worked, but", "the driver asks for a GPU reset")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, k) })
	}
	k.wants(t, untouched, nil, "other")
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// resetDoes sets what the reset command does.
func (k *gpuRig) resetDoes(t *testing.T, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(k.Dir(), "does"), []byte(script+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stopped are what a reset does to a container, so often.
func stopped(times int) map[string]int {
	return map[string]int{"start": 1 + times, "kill": times, "stop": times, "die": times}
}

// stoppedActs are what defib decides for it.
func stoppedActs(times int) []policy.Verb {
	return slices.Repeat([]policy.Verb{policy.VerbStop, policy.VerbStart}, times)
}

// wantStopped waits until the containers on GPU 0 are up again after so many
// resets.
func (k *gpuRig) wantStopped(t *testing.T, times int) {
	t.Helper()
	for _, name := range []string{"chat", "embed"} {
		k.r.Wait(t, 2*soon, name, "start", 1+times)
		k.d.UntilState(t, soon, name, policy.Running)
		k.wants(t, stopped(times), stoppedActs(times), name)
	}
}

func resetWorks(t *testing.T, k *gpuRig) {
	k.SetGPU(0, "field.230", 1)
	k.d.UntilHeld(t, soon, 0, true)
	contains(t, "page", k.pages(t), "GPU 0", "the driver asks for a GPU reset", "`defib gpus reset 0`")
	k.resetDoes(t, "sed -i '/230/d' $dir/scenario")
	out, errs, code := k.d.CLIWithin(t, 2*soon, "gpus", "reset", "0", "--yes", "--wait")
	if code != 0 {
		t.Fatalf("defib gpus reset 0: exit code %d; it said %s%s", code, out, errs)
	}
	contains(t, "answer", out, "GPU 0")
	k.UnsetGPU(0, "field.230")
	k.wantStopped(t, 1)
	ran, err := os.ReadFile(filepath.Join(k.Dir(), "ran"))
	if want := fakenvml.UUID(0) + " probes: 0\n"; err != nil || string(ran) != want {
		t.Errorf("what the reset command saw: got %q, %v, want %q", ran, err, want)
	}
	k.d.UntilHeld(t, soon, 0, false)
	k.d.UntilGPUs(t, soon, "the GPU is well", func(got api.GPUs) bool {
		return got.Driver.State == gpu.DriverUp && got.GPUs[0].Hold == nil && got.GPUs[0].Reset == "" && got.GPUs[0].Incident == ""
	})
}

// resetFails orders a reset, the n-th that stops containers, and wants it to
// fail for that reason.
func (k *gpuRig) resetFails(t *testing.T, n int, says ...string) {
	t.Helper()
	out, errs, code := k.d.CLIWithin(t, 3*soon, "gpus", "reset", "0", "--yes", "--wait")
	if code == 0 {
		t.Errorf("defib gpus reset 0: exit code 0, want another; it said %s", out)
	}
	contains(t, "answer", strings.Join(strings.Fields(errs), " "), append(says, "started again: chat, embed")...)
	k.wantStopped(t, 1+n)
}

// A program that defib does not know uses the GPU: nothing is stopped for a
// reset that would fail.
func resetRefused(t *testing.T, k *gpuRig) {
	out, errs, code := k.d.CLI(t, "gpus", "reset", "1", "--yes", "--wait")
	if code == 0 {
		t.Errorf("defib gpus reset 1: exit code 0, want another; it said %s", out)
	}
	contains(t, "refusal", errs, fmt.Sprintf("(pid %d)", os.Getpid()), "does not manage")
	k.wants(t, untouched, nil, "other")
}
