//go:build cgo

package nvml

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// A reset needs the driver for itself.
func TestRelease(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up(t)
	pid := r.pid()
	if err := r.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantGone(t, pid)
	if d, _ := r.Latest(); d.State != gpu.DriverLost || d.Detail != letGo {
		t.Errorf("driver: %+v", d)
	}
	if _, err := r.Poll(t.Context(), nil); !errors.Is(err, errReleased) {
		t.Errorf("a poll says %v", err)
	}
	r.untilState(t, gpu.DriverLost)
	r.Resume()
	r.untilState(t, gpu.DriverUp)
}

// A child that does not die keeps nobody waiting: Release says so by itself.
func TestReleaseOfAChildThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	free := filepath.Join(t.TempDir(), "free")
	r.o.Env = append(r.env("stubborn"), "DEFIB_TEST_FREE="+free)
	r.o.Grace = 50 * time.Millisecond
	r.kill = func(*os.Process) error { return nil }
	begun := r.turned
	r.start(t)
	<-begun
	if err := r.Release(t.Context()); err == nil || !strings.Contains(err.Error(), "it hangs in the NVIDIA driver") {
		t.Errorf("release says %v", err)
	}
	if err := os.WriteFile(free, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A child that does not die is left behind, and after three there are no more
// until one of them goes.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	free := filepath.Join(t.TempDir(), "free")
	r.o.Env = append(r.env("stubborn"), "DEFIB_TEST_FREE="+free)
	r.o.Deadline, r.o.Grace = 20*time.Millisecond, 50*time.Millisecond
	r.kill = func(*os.Process) error { return nil }
	r.start(t)
	r.until(t, "no more are started", func(ev policy.Event) bool {
		return ev.Kind == policy.KindGPUDriver && ev.GPU.Driver.State == gpu.DriverHung && strings.HasPrefix(ev.GPU.Driver.Detail, "3 GPU probes hang")
	})
	if err := r.Release(t.Context()); err == nil || !strings.Contains(err.Error(), "only a reboot frees them") {
		t.Errorf("release says %v", err)
	}
	r.mu.Lock()
	n := r.abandoned
	r.o.Env = r.env("serve")
	r.mu.Unlock()
	if n != maxAbandoned {
		t.Errorf("%d were left behind, want %d", n, maxAbandoned)
	}
	if err := os.WriteFile(free, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Resume()
	r.until(t, "a new one", func(ev policy.Event) bool {
		return ev.Kind == policy.KindGPUDriver && ev.GPU.Driver.State != gpu.DriverLost && !strings.HasPrefix(ev.GPU.Driver.Detail, "3 GPU")
	})
}

// The child ends when its owner does, which is when its stdin ends: also while
// a call hangs, and with polls waiting behind it.
func TestServeEndsWithStdin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		before, later int // how long every call takes, in ms
	}{
		{"idle", 0, 0},
		{"in a call", 0, 600000},
		{"at its start", 600000, 600000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.drv.SetGPU(0, "hang_ms", test.before)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), r.env("serve")...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil { // it has begun
				t.Error(err)
			}
			r.drv.SetGPU(0, "hang_ms", test.later)
			if _, err := in.Write([]byte("{\"op\":\"poll\",\"id\":1}\n{\"op\":\"poll\",\"id\":2}\n")); err != nil {
				t.Error(err)
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
			err = cmd.Wait()
			if ctx.Err() != nil {
				t.Fatal("it does not end")
			}
			if want := test.later > 0; (err != nil) != want {
				t.Errorf("it ended with %v, want an error: %v", err, want)
			}
		})
	}
}
