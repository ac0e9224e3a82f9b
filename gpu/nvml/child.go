package nvml

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// errReleased ends a child for a GPU reset.
var errReleased = errors.New("the NVIDIA driver is " + letGo)

const (
	maxPending = 64   // polls that wait for one child
	maxStderr  = 2048 // bytes kept of what a child says before it ends
)

// child is the process that talks to the driver, as its owner sees it.
type child struct {
	cmd    *exec.Cmd
	in     *os.File // its stdin
	out    *os.File // its stdout
	stderr tail

	lines  chan message  // what it says; closed when it says no more
	asks   chan *ask     // polls that are to be sent
	kick   chan struct{} // something has happened: look at the GPUs now
	dying  chan struct{} // it is to be ended for a GPU reset
	rested chan struct{} // there may be nothing left to do for it
	looked atomic.Bool   // it has read all GPUs, and that is reported
	ready  chan struct{} // closed: the driver is up and its devices are known
	over   chan struct{} // closed: nothing is answered any more, see why
	gone   chan struct{} // closed: the process has ended, see state
	left   chan struct{} // closed: it was killed and has not ended
	why    error
	state  error

	// What follows belongs to Probe.attend.
	pending []*ask // sent and not answered, oldest first; the child answers in order
	last    uint64 // ID
	place   int    // of the GPU that it looks for, from 1; 0: it has found them

	driver  gpu.Driver   // guarded by Probe.mu, as are
	devices []gpu.Device // what it listed last
	leaving bool         // it takes no more polls
}

// ask is one poll on its way.
type ask struct {
	request
	began bool // the GPUs themselves are being read
	got   []gpu.Reading
	reply chan []gpu.Reading
}

// launch starts the child.
func (p *Probe) launch() (*child, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		closeAll(theirIn, in)
		return nil, err
	}
	c := &child{
		in: in, out: out,
		lines: make(chan message, maxPending), asks: make(chan *ask), kick: make(chan struct{}, 1), dying: make(chan struct{}, 1), rested: make(chan struct{}, 1),
		ready: make(chan struct{}), over: make(chan struct{}), gone: make(chan struct{}), left: make(chan struct{}),
	}
	c.cmd = exec.Command(p.o.Command[0], p.o.Command[1:]...) //nolint:gosec,noctx // our own program; killed by its owner, who must know when it does not die
	c.cmd.Env = append(os.Environ(), p.o.Env...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirIn, theirOut, &c.stderr
	c.cmd.WaitDelay = time.Second
	// Its own group: a Ctrl-C is for us, who then end it. It goes when we go.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go c.tend(started) // ends with the process; the owner waits for gone
	err = <-started
	closeAll(theirIn, theirOut)
	if err != nil {
		closeAll(in, out)
		return nil, err
	}
	return c, nil
}

// closeAll closes pipes. What could go wrong shows on their other end.
func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// tend keeps its thread for as long as the process lives: Pdeathsig is about
// the end of the thread that started it.
func (c *child) tend(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	c.state = c.cmd.Wait()
	close(c.gone)
}

// read hands over the child's lines until there are no more.
func (c *child) read() {
	defer close(c.lines)
	lines := bufio.NewScanner(c.out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			return // it is not what we started
		}
		select {
		case c.lines <- m:
		case <-c.over:
			return
		}
	}
}

// ask returns the child's answer to one poll.
func (c *child) ask(ctx context.Context, r request) ([]gpu.Reading, error) {
	a := &ask{request: r, reply: make(chan []gpu.Reading, 1)}
	select {
	case c.asks <- a:
	case <-c.over:
		return nil, c.why
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case readings := <-a.reply:
		return readings, nil
	case <-c.over:
		return nil, c.why
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send passes a poll on. A child that reads no more misses its deadline soon.
func (c *child) send(a *ask, within time.Duration) error {
	c.last++
	a.ID = c.last
	line, err := json.Marshal(a.request)
	if err != nil {
		return err
	}
	c.pending = append(c.pending, a)
	if err := c.in.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = c.in.Write(append(line, '\n'))
	return err
}

// answer finds the poll that a line belongs to: always the oldest.
func (c *child) answer(id uint64) *ask {
	if len(c.pending) == 0 || c.pending[0].ID != id {
		return nil
	}
	return c.pending[0]
}

// end asks Watch to end the child.
func (c *child) end() {
	select {
	case c.dying <- struct{}{}:
	default:
	}
}

// lastWords are those of a child that ended by itself.
func (c *child) lastWords() string {
	how := "it closed its output"
	select {
	case <-c.gone:
		how = "exit status 0"
		if c.state != nil {
			how = c.state.Error()
		}
	default:
	}
	if said := c.stderr.line(); said != "" {
		how += ": " + said
	}
	return how
}

// bury kills the child. One that hangs in the kernel cannot be killed; it is
// left, and counted until it goes.
func (p *Probe) bury(c *child) {
	if err := p.kill(c.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.o.Log.Warn("cannot end the GPU probe", "err", err)
	}
	closeAll(c.in, c.out)
	if waitFor(c.gone, p.o.Grace) {
		return
	}
	p.mu.Lock()
	p.abandoned++
	p.mu.Unlock()
	close(c.left)
	p.o.Log.Error("the GPU probe cannot be ended: it hangs in the NVIDIA driver", "pid", c.cmd.Process.Pid)
	go func() { // ends with the process, which nobody can hurry
		<-c.gone
		p.mu.Lock()
		p.abandoned--
		p.mu.Unlock()
		p.wake()
	}()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

// Write implements [io.Writer].
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-maxStderr):]
	return len(b), nil
}

// line is the last line, without control characters, at most 200 bytes.
func (t *tail) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.kept)), "\n")
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, lines[len(lines)-1])
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}

// ending is why a child was ended, or ended itself.
type ending struct {
	driver gpu.Driver
	code   int         // of NVML, when the child named one
	quiet  bool        // we wanted it …
	apart  bool        // … so that the driver is let go between two looks
	died   bool        // without being told to
	stuck  gpu.Reading // of the GPU at which it hangs
}

func hung(after time.Duration) gpu.Driver {
	return gpu.Driver{State: gpu.DriverHung, Detail: fmt.Sprintf("the NVIDIA driver has not answered for %v; defib asks it again from time to time", after)}
}

func lost(how string) gpu.Driver {
	return gpu.Driver{State: gpu.DriverLost, Detail: "the GPU probe ended (" + cmp.Or(how, "for no known reason") + "); it is started again"}
}
