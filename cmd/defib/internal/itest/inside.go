package itest

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Worker has the server start a child of its own, and returns its PID on the
// host.
func (c *Container) Worker(t testing.TB) int {
	t.Helper()
	c.Tell(t, "worker", "own")
	for deadline := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		if pid := c.find(t, "fakeinfer worker own"); pid > 0 {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not start its worker within %v", c.Name, soon)
		}
	}
}

// find returns the PID, on the host, of the process of a container whose
// command ends so; 0 when there is none.
func (c *Container) find(t testing.TB, command string) int {
	t.Helper()
	top, err := c.e.Client.ContainerTop(t.Context(), c.ID, []string{"-eo", "pid,args"})
	c.must(t, "list the processes of", err)
	for _, row := range top.Processes {
		if !strings.HasSuffix(row[slices.Index(top.Titles, "COMMAND")], command) {
			continue
		}
		pid, err := strconv.Atoi(row[slices.Index(top.Titles, "PID")])
		c.must(t, "list the processes of", err)
		return pid
	}
	return 0
}

// Exec does what `docker exec -d` does, and returns the PID on the host.
func (c *Container) Exec(t testing.TB, command ...string) int {
	t.Helper()
	made, err := c.e.Client.ContainerExecCreate(t.Context(), c.ID, container.ExecOptions{Cmd: command})
	c.must(t, "exec in", err)
	c.must(t, "exec in", c.e.Client.ContainerExecStart(t.Context(), made.ID, container.ExecStartOptions{Detach: true}))
	for deadline := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		got, err := c.e.Client.ContainerExecInspect(t.Context(), made.ID)
		c.must(t, "exec in", err)
		if got.Pid > 0 {
			return got.Pid
		}
		if time.Now().After(deadline) {
			t.Fatalf("the command did not start in %s within %v", c.Name, soon)
		}
	}
}

// KillProcess ends one process of a container, as its own crash would.
func (c *Container) KillProcess(t testing.TB, pid int) {
	t.Helper()
	c.must(t, "kill a process of", syscall.Kill(pid, syscall.SIGKILL))
}
