package actions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/watcher/policy"
)

// Execer is the slice of the engine's client that runs a health check.
type Execer interface {
	ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error)
	ContainerExecCreate(ctx context.Context, id string, o container.ExecOptions) (container.ExecCreateResponse, error)
	ContainerExecAttach(ctx context.Context, execID string, o container.ExecAttachOptions) (types.HijackedResponse, error)
	ContainerExecInspect(ctx context.Context, execID string) (container.ExecInspect, error)
}

const (
	checkTimeout = 30 * time.Second // Docker's default
	checkOutput  = 4 << 10          // what Docker keeps of a probe's output
	checkPause   = 10 * time.Millisecond
	endTime      = time.Second // in which what a check left running must be ended
)

// check runs the container's own health check once, as Docker would, and
// returns its result: nil when it has none, when nothing is known of it, for
// which the text says why, or when ctx was cancelled because nobody needs it any
// more. It has failed for want of time only when its own timeout has passed:
// when ctx ends before, it may have been about to pass.
func (x *Executor) check(ctx context.Context, d policy.Decision) (*policy.Probe, string) {
	docker := x.execer()
	if docker == nil {
		return nil, "Docker is out of reach"
	}
	if end, ok := ctx.Deadline(); ok { // what it leaves running is to be ended
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-endTime))
		defer cancel()
	}
	r, err := docker.ContainerInspect(ctx, d.Container)
	if err != nil {
		return nil, x.unchecked(ctx, err)
	}
	argv := checkCommand(r.Config)
	switch {
	case len(argv) == 0:
		return nil, ""
	case otherRun(r, d.StartedAt):
		return nil, "the container does not run any more, or was started again meanwhile"
	}
	run := &execution{docker: docker, in: d.Container, began: time.Now(), limit: r.Config.Healthcheck.Timeout}
	if run.limit <= 0 {
		run.limit = checkTimeout
	}
	if err := x.begin(ctx, run, argv); err != nil {
		return nil, x.unchecked(ctx, err)
	}
	defer run.conn.Close()
	return x.finish(ctx, run)
}

// execution is a health check that has been started.
type execution struct {
	docker Execer
	in     string // the container
	id     string
	conn   types.HijackedResponse // what it writes
	began  time.Time              // before the engine was asked to
	limit  time.Duration          // its own timeout
}

// finish waits for the end of a check. What does not end in time is ended, as by
// Docker.
func (x *Executor) finish(ctx context.Context, run *execution) (*policy.Probe, string) {
	began := time.Now()
	timed, cancel := context.WithTimeout(ctx, run.limit)
	defer cancel()
	code, output, err := x.await(timed, run.docker, run.id, run.conn)
	p := &policy.Probe{Start: began.UTC(), End: time.Now().UTC(), ExitCode: code, Output: output}
	took := p.End.Sub(p.Start)
	switch {
	case err == nil:
		return p, ""
	case took >= run.limit: // Docker's own words for it
		x.endCheck(ctx, run)
		p.ExitCode, p.Output = -1, fmt.Sprintf("Health check exceeded timeout (%v)", took.Round(100*time.Millisecond))
		return p, ""
	case ctx.Err() == nil:
		return nil, x.unchecked(ctx, err)
	}
	left := x.endCheck(ctx, run)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ""
	}
	return nil, fmt.Sprintf("it had not ended after %v, and may take %v%s", took.Round(100*time.Millisecond), run.limit, left)
}

// endCheck ends the command of a check that nobody waits for any more: Docker
// cannot. It says what is left running, and why.
func (x *Executor) endCheck(ctx context.Context, run *execution) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	is, err := run.docker.ContainerExecInspect(ctx, run.id)
	if err == nil && !is.Running {
		return ""
	}
	if err == nil {
		err = x.endProcess(ctx, run, is.Pid)
	}
	if err == nil {
		return ""
	}
	x.o.Log.Warn("a health check that defib ran is left running in its container", "container", run.in, "pid", is.Pid, "err", err)
	return "; it is left running in the container: " + x.said(err)
}

func (x *Executor) endProcess(ctx context.Context, run *execution, pid int) error {
	if x.o.Process == nil {
		return errors.New("defib does not look at the processes of this host")
	}
	return x.o.Process.End(pid, run.in, run.began, func() bool {
		again, err := run.docker.ContainerExecInspect(ctx, run.id)
		return err == nil && again.Running && again.Pid == pid
	})
}

// unchecked says why a check could not be run; nothing, when it was called off.
func (x *Executor) unchecked(ctx context.Context, err error) string {
	switch ctx.Err() {
	case nil:
		return x.said(err)
	case context.Canceled:
		return ""
	}
	return "Docker did not run it in time"
}

// otherRun reports whether a container is not in the run that is asked about.
func otherRun(r container.InspectResponse, startedAt time.Time) bool {
	if r.ContainerJSONBase == nil || r.State == nil || !r.State.Running {
		return true
	}
	at, err := time.Parse(time.RFC3339Nano, r.State.StartedAt)
	return err == nil && !startedAt.IsZero() && !at.Equal(startedAt)
}

func (x *Executor) execer() Execer {
	if x.o.Exec == nil {
		return nil
	}
	return x.o.Exec()
}

// checkCommand is what the engine would run as a health check.
func checkCommand(c *container.Config) []string {
	if c == nil || c.Healthcheck == nil || len(c.Healthcheck.Test) < 2 {
		return nil
	}
	test := c.Healthcheck.Test
	switch test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		shell := []string(c.Shell)
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string{}, shell...), test[1])
	}
	return nil
}

// begin runs a command in the container; what it writes comes by the connection.
func (x *Executor) begin(ctx context.Context, run *execution, argv []string) error {
	made, err := run.docker.ContainerExecCreate(ctx, run.in, container.ExecOptions{Cmd: argv, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return err
	}
	run.id = made.ID
	return x.attach(ctx, run)
}

// attach starts the command. The client does not heed ctx while it waits for
// the connection, so an engine that freezes is left behind; what it starts late
// is ended.
func (x *Executor) attach(ctx context.Context, run *execution) error {
	type answer struct {
		conn types.HijackedResponse
		err  error
	}
	answers := make(chan answer)
	go func() {
		conn, err := run.docker.ContainerExecAttach(ctx, run.id, container.ExecAttachOptions{})
		select {
		case answers <- answer{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
				x.endCheck(ctx, run)
			}
		}
	}()
	select {
	case a := <-answers:
		run.conn = a.conn
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await returns the exit code of a command and what it wrote, masked.
func (x *Executor) await(ctx context.Context, docker Execer, id string, conn types.HijackedResponse) (int, string, error) {
	defer context.AfterFunc(ctx, conn.Close)() // a read ends with ctx
	out := &head{room: checkOutput}
	if err := frames(conn.Reader, out); err != nil {
		return 0, "", fmt.Errorf("read the output of the health check: %w", err)
	}
	code, err := exitCode(ctx, docker, id)
	return code, x.o.Mask.Line(strings.ToValidUTF8(out.text.String(), "�")), err
}

// frames reads what a command without a terminal writes, to its end.
func frames(in io.Reader, out io.Writer) error {
	for {
		if err := frame(in, out, out); err != nil {
			return ended(err)
		}
	}
}

// exitCode waits for it. The output ends when the command closes it, which is
// before its end; until the engine knows of that, the code reads 0.
func exitCode(ctx context.Context, docker Execer, id string) (int, error) {
	for {
		e, err := docker.ContainerExecInspect(ctx, id)
		if err != nil || !e.Running {
			return e.ExitCode, err
		}
		wait(ctx, checkPause)
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
}

// head keeps the beginning of what is written to it.
type head struct {
	room int
	text strings.Builder
}

var _ io.Writer = (*head)(nil)

// Write implements [io.Writer]; it never fails.
func (h *head) Write(p []byte) (int, error) {
	n := min(h.room, len(p))
	h.text.Write(p[:n])
	h.room -= n
	return len(p), nil
}
