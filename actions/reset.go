package actions

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

var errNoGPUs = errors.New("this defib does not look after GPUs")

const (
	resetSpare  = 5 * time.Second // of its time, a reset keeps so much to end what hangs
	killTime    = 3 * time.Second // … of which a killed command gets so much to be gone
	resetOutput = 4 << 10
	gpuPlace    = "{gpu}" // stands for the UUID in the reset command
)

// reset lets the driver go, runs the reset command and takes the driver up
// again, whatever came of it.
func (x *Executor) reset(ctx context.Context, d policy.Decision) policy.Outcome {
	if x.o.GPU == nil || len(d.GPUs) != 1 {
		return failed("reset the GPU: %v", errNoGPUs)
	}
	if len(x.o.ResetCommand) == 0 {
		return failed("reset the GPU: no command is set for it; set gpu.reset_command")
	}
	ctx, cancel := context.WithTimeout(ctx, d.Within-resetSpare)
	defer cancel()
	defer x.o.GPU.Resume()
	if err := x.o.GPU.Release(ctx); err != nil {
		return failed("reset the GPU: let the driver go: %v", err)
	}
	return x.runReset(ctx, d.GPUs[0])
}

// runReset runs the command; what it said is the text of the outcome.
func (x *Executor) runReset(ctx context.Context, uuid string) policy.Outcome {
	argv := make([]string, len(x.o.ResetCommand))
	for i, arg := range x.o.ResetCommand {
		argv[i] = strings.ReplaceAll(arg, gpuPlace, uuid)
	}
	output, err := runAlone(ctx, argv)
	last := x.o.Mask.Line(lastLine(output))
	var exit *exec.ExitError
	switch {
	case err == nil:
		return policy.Outcome{Class: policy.OutcomeOK, Text: x.o.Mask.Text(output, resetOutput)}
	case errors.Is(err, errUnkillable):
		return failed("%s hangs in the driver and cannot be killed: only a reboot of the host helps", argv[0])
	case ctx.Err() != nil:
		return failed("%s did not end in time and was killed", argv[0])
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return failed("%s is not there: install it (in a container NVIDIA_DRIVER_CAPABILITIES=utility brings it), or set gpu.reset_command", argv[0])
	case errors.As(err, &exit) && inUse(output):
		return failed("%s ended with %d: %s; `nvidia-smi` and `fuser -v /dev/nvidia*` show who uses the GPU", argv[0], exit.ExitCode(), last)
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		return failed("%s was ended by %v", argv[0], exit)
	case errors.As(err, &exit):
		return failed("%s ended with %d: %s", argv[0], exit.ExitCode(), last)
	}
	return failed("%s could not be run: %v", argv[0], err)
}

var errUnkillable = errors.New("it does not end, even by SIGKILL")

// runAlone runs a command in a process group of its own, so that nothing of it
// is left when its time is up, and returns the end of its output.
func runAlone(ctx context.Context, argv []string) (string, error) {
	out := &ending{room: resetOutput}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the operator's own command
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	done := make(chan error, 1)
	// Whoever hangs in the driver outlives SIGKILL. This is the one goroutine
	// that is not waited for then: it ends with its process.
	go func() { done <- cmd.Run() }()
	err := awaitRun(ctx, done)
	if errors.Is(err, exec.ErrWaitDelay) { // it has ended well, and left something behind that holds its output
		err = nil
	}
	return out.String(), err
}

// awaitRun waits for the end of a command, or, after it was killed, as long as
// that may take.
func awaitRun(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(killTime)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return errUnkillable
	}
}

// inUse recognises, by the words of several versions of nvidia-smi, that
// somebody else has the GPU open.
func inUse(output string) bool {
	output = strings.ToLower(output)
	return strings.Contains(output, "in use by") || strings.Contains(output, "being used by")
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// ending keeps the end of what is written to it.
type ending struct {
	mu   sync.Mutex
	room int
	text []byte
}

// Write implements [io.Writer]; it never fails.
func (e *ending) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text = append(e.text, p[max(len(p)-e.room, 0):]...)
	e.text = e.text[max(len(e.text)-e.room, 0):]
	return len(p), nil
}

// String is the text, fit to be printed.
func (e *ending) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.ToValidUTF8(string(e.text), "\uFFFD")
}
