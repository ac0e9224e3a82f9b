package itest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// soon bounds what happens at once on a machine that does nothing else. It is
// long, since many engines share two cores here with whatever else runs there;
// it is only waited for in full by a test that fails.
const soon = time.Minute

// process is a program that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended
}

// launch starts a program of the engine whose output goes to a file.
func launch(name, log string, args ...string) (*process, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(path, args...) //nolint:noctx // it outlives the test's context: cleaning up needs it
	cmd.Stdout, cmd.Stderr = out, out
	return follow(cmd)
}

// follow starts a command and waits for it in the background.
func follow(cmd *exec.Cmd) (*process, error) { return followAs(cmd, nil) }

// followAs is follow as another user.
func followAs(cmd *exec.Cmd, who *syscall.Credential) (*process, error) {
	// Ctrl-C at the terminal is for the test, which then ends its processes. A
	// test that is killed, or runs out of time, takes them along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: who, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.tend(started) // waited for by end
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// tend keeps its thread for as long as the process lives: the kernel takes the
// end of the thread that started a process for that of its parent.
func (p *process) tend(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // read from cmd.ProcessState
	}
}

// runs reports whether the process is there.
func (p *process) runs() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends the signal and waits until the process is gone. One that stays
// leaves its goroutines in its output.
func (p *process) end(sig syscall.Signal, within time.Duration) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(within):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return fmt.Errorf("it did not end within %v of %v", within, sig)
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
