package actions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// resets runs a reset command, a shell script, on GPU-1.
func resets(t *testing.T, within time.Duration, g *driver, argv ...string) policy.Outcome {
	t.Helper()
	x := newExecutor(t, &engine{}, nil)
	x.o.GPU, x.o.ResetCommand = g, argv
	d := decision(policy.VerbResetGPU)
	d.GPUs, d.Within = []string{"GPU-1"}, within
	out := x.Execute(t.Context(), d, noReport)
	out.Took = 0
	return out
}

func TestReset(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script string
		class  policy.Class
		text   string
	}{
		{"done", `echo "reset $1"; echo "token=hunter2 done" >&2`, policy.OutcomeOK, "reset GPU-1\ntoken=*** done\n"},
		{"refused", `echo first; echo "Insufficient Permissions"; exit 4`, policy.OutcomeFailed, "/bin/sh ended with 4: Insufficient Permissions"},
		{"in use", `echo "GPU Reset couldn't run because GPU 00000000:3B:00.0 is in use by another client"; echo "Try again"; exit 19`, policy.OutcomeFailed, "/bin/sh ended with 19: Try again; `nvidia-smi` and `fuser -v /dev/nvidia*` show who uses the GPU"},
		{"in use, in other words", `echo "1 device is currently being used by one or more other processes"; exit 255`, policy.OutcomeFailed, "/bin/sh ended with 255: 1 device is currently being used by one or more other processes; `nvidia-smi` and `fuser -v /dev/nvidia*` show who uses the GPU"},
		{"talkative", `i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done; exit 1`, policy.OutcomeFailed, "/bin/sh ended with 1: line 1999"},
		{"silent", `exit 1`, policy.OutcomeFailed, "/bin/sh ended with 1: "},
		{"killed by somebody", `kill -9 $$`, policy.OutcomeFailed, "/bin/sh was ended by signal: killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := &driver{}
			out := resets(t, time.Minute, g, "/bin/sh", "-c", tc.script, "sh", "{gpu}")
			if diff := cmp.Diff(policy.Outcome{Class: tc.class, Text: tc.text}, out); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"release", "resume"}, g.calls); diff != "" {
				t.Errorf("the driver (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResetThatCannotBegin(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "nvidia-smi")
	const gone = " is not there: install it (in a container NVIDIA_DRIVER_CAPABILITIES=utility brings it), or set gpu.reset_command"
	for _, tc := range []struct {
		name   string
		driver *driver
		argv   []string
		text   string
		calls  []string
	}{
		{"no such command", &driver{}, []string{"defib-no-such-command"}, "defib-no-such-command" + gone, []string{"release", "resume"}},
		{"no such file", &driver{}, []string{missing}, missing + gone, []string{"release", "resume"}},
		{"no command", &driver{}, nil, "reset the GPU: no command is set for it; set gpu.reset_command", nil},
		{"a driver that is not let go", &driver{release: errors.New("the probe hangs")}, []string{"true"}, "reset the GPU: let the driver go: the probe hangs", []string{"release", "resume"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := resets(t, time.Minute, tc.driver, tc.argv...)
			if diff := cmp.Diff(policy.Outcome{Class: policy.OutcomeFailed, Text: tc.text}, out); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.calls, tc.driver.calls); diff != "" {
				t.Errorf("the driver (-want +got):\n%s", diff)
			}
		})
	}
	x := newExecutor(t, &engine{}, nil)
	out := x.Execute(t.Context(), decision(policy.VerbResetGPU), noReport)
	if want := "reset the GPU: this defib does not look after GPUs"; out.Class != policy.OutcomeFailed || out.Text != want {
		t.Errorf("without a driver: %s %q, want failed %q", out.Class, out.Text, want)
	}
}

func TestResetThatTakesTooLongEndsWithAllItStarted(t *testing.T) {
	held := filepath.Join(t.TempDir(), "held") // by each process of the command as long as it lives
	if err := syscall.Mkfifo(held, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := make(chan string, 1)
	go func() {
		text, err := os.ReadFile(held)
		gone <- fmt.Sprint(string(text), err)
	}()
	g := &driver{}
	out := resets(t, resetSpare+3*time.Second, g, "/bin/sh", "-c", `exec 9>"$2"; echo begun >&9; sleep 1000 & wait`, "sh", "{gpu}", held)
	want := policy.Outcome{Class: policy.OutcomeFailed, Text: "/bin/sh did not end in time and was killed"}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"release", "resume"}, g.calls); diff != "" {
		t.Errorf("the driver (-want +got):\n%s", diff)
	}
	if got := <-gone; got != "begun\n<nil>" {
		t.Errorf("the command wrote %q", got)
	}
}

func TestACommandThatHangsInTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := awaitRun(ctx, make(chan error))
		if took := time.Since(began); !errors.Is(err, errUnkillable) || took != time.Minute+killTime {
			t.Errorf("%v after %v", err, took)
		}
	})
}
