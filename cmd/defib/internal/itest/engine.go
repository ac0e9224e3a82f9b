package itest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// Label marks every container of these tests.
const Label = "defib.test"

// RequireEngine skips the test where no engine can be started, and fails it
// instead when REQUIRE_ENGINE=1, which CI sets.
func RequireEngine(t testing.TB) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "starting a Docker engine takes root"
	} else if _, err := program("dockerd"); err != nil {
		why = err.Error()
	} else if _, err := program("containerd"); err != nil {
		why = err.Error()
	}
	switch {
	case why == "":
	case os.Getenv("REQUIRE_ENGINE") == "1":
		t.Fatalf("REQUIRE_ENGINE=1, but %s", why)
	default:
		t.Skip(why)
	}
}

// program finds a program of the engine, which is often outside a user's PATH.
func program(name string) (string, error) {
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/bin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("there is no %s on this machine", name)
}

// Engine is a Docker engine of the test's own: nothing that the test does
// touches the containers of the machine, and no other test sees its own.
type Engine struct {
	Client *client.Client
	dir    string
	b      *Binaries
	built  map[string]bool // images, by reference
	spare  int             // those loaded beforehand that were taken

	// containerd runs beside it, as it does on a real host: an engine that is
	// killed leaves it, and with it the containers, running.
	containerd *process
	dockerd    *process // nil while the engine is down
}

// NewEngine starts an engine, which ends with the test.
func NewEngine(t testing.TB, b *Binaries) *Engine {
	t.Helper()
	RequireEngine(t)
	e := &Engine{dir: shortDir(t), b: b, built: map[string]bool{}}
	var err error
	if e.Client, err = client.NewClientWithOpts(client.WithHost(e.Host()), client.WithAPIVersionNegotiation()); err != nil {
		t.Fatal(err)
	}
	if e.containerd, err = e.startContainerd(); err != nil {
		t.Fatalf("start containerd: %v", err)
	}
	t.Cleanup(func() { e.remove(t) })
	e.Start(t)
	return e
}

// shortDir makes a temporary folder whose path leaves room for a socket's
// name: t.TempDir puts the test's name into it, and 108 bytes are the limit.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "defib") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test's folder: %v", err)
		}
	})
	return dir
}

// Socket is the path of the engine's socket.
func (e *Engine) Socket() string { return e.path("e.sock") }

// Host is what --host takes.
func (e *Engine) Host() string { return "unix://" + e.Socket() }

// Start starts the engine, for the first time or again, and waits until it
// answers.
func (e *Engine) Start(t testing.TB) {
	t.Helper()
	if err := e.start(); err != nil {
		t.Fatalf("start an engine: %v\n%s", err, tail(e.path("log"), 20))
	}
}

func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

func (e *Engine) startContainerd() (*process, error) {
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		e.path("cd-root"), e.path("cd-state"), e.path("cd.sock"))
	if err := os.WriteFile(e.path("containerd.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return launch("containerd", e.path("containerd.log"), "--config", e.path("containerd.toml"))
}

func (e *Engine) start() error {
	// A file of its own keeps the machine's daemon.json out of it. The runtime
	// that gives containers GPUs is the usual one under another name.
	if err := os.WriteFile(e.path("daemon.json"), []byte(`{"runtimes": {"nvidia": {"path": "runc"}}}`), 0o600); err != nil {
		return err
	}
	var err error
	e.dockerd, err = launch("dockerd", e.path("log"), "--config-file", e.path("daemon.json"), "--host", e.Host(),
		"--containerd", e.path("cd.sock"), "--data-root", e.path("data"), "--exec-root", e.path("exec"),
		"--pidfile", e.path("pid"), "--bridge=none", "--iptables=false")
	if err != nil {
		return err
	}
	return e.answers()
}

// answers waits until the engine answers.
func (e *Engine) answers() error {
	deadline := time.After(2 * soon)
	for {
		_, err := e.Client.Ping(context.Background())
		if err == nil {
			return nil
		}
		select {
		case <-e.dockerd.done:
			return errors.New("it ended at once")
		case <-deadline:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the engine as a shutdown does: it stops every container first.
func (e *Engine) Stop(t testing.TB) {
	t.Helper()
	if err := e.end(syscall.SIGTERM); err != nil {
		t.Fatalf("stop the engine: %v", err)
	}
}

// Kill ends the engine with SIGKILL. Its containers run on.
func (e *Engine) Kill(t testing.TB) {
	t.Helper()
	if err := e.end(syscall.SIGKILL); err != nil {
		t.Fatalf("kill the engine: %v", err)
	}
}

// end ends dockerd, if it runs.
func (e *Engine) end(sig syscall.Signal) error {
	if e.dockerd == nil {
		return nil
	}
	p := e.dockerd
	e.dockerd = nil
	return p.end(sig, 2*soon)
}

// remove takes the engine away with everything in it.
func (e *Engine) remove(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("the engine's last words:\n%s", tail(e.path("log"), 10))
	}
	if e.dockerd == nil { // only an engine can end what a killed one left running
		if err := e.start(); err != nil {
			t.Errorf("start the engine to clean up: %v", err)
		}
	}
	if err := e.removeContainers(); err != nil {
		t.Errorf("remove the containers: %v", err)
	}
	if err := e.end(syscall.SIGTERM); err != nil {
		t.Errorf("stop the engine: %v", err)
	}
	if err := e.containerd.end(syscall.SIGTERM, soon); err != nil {
		t.Errorf("stop containerd: %v", err)
	}
	e.unmount(t)
	_ = e.Client.Close()
}

// unmount takes away the mounts that a killed engine left behind.
func (e *Engine) unmount(t testing.TB) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Errorf("find mounts: %v", err)
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[4], e.dir+"/") {
			continue
		}
		if err := unix.Unmount(fields[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount %s: %v", fields[4], err)
		}
	}
}

func (e *Engine) removeContainers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	list, err := e.Client.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return err
	}
	errs := make(chan error, len(list))
	slots := make(chan struct{}, 8)
	for _, c := range list {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs <- e.Client.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})
		}()
	}
	for range list {
		if e := <-errs; e != nil && !strings.Contains(e.Error(), "already in progress") {
			err = e
		}
	}
	return err
}
