package itest

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// Spec is a container to run. Its zero value, with a name, is an enabled one
// without a health check and without a restart policy.
type Spec struct {
	Name        string
	Image       string            // an image of its own if empty
	Env         []string          // see fakeinfer's package comment
	Labels      map[string]string // defib.enable=true if nil
	Check       *Check
	Restart     container.RestartPolicyMode
	StopTimeout time.Duration // Docker's 10 s if zero
	Memory      int64         // limit in bytes; none if zero
	Mounts      []mount.Mount // beside the control folder
	GPUs        string        // what NVIDIA_VISIBLE_DEVICES says; none if empty
	BakedIn     bool          // … and says so in the image
}

// Check is a health check. Zero values are fast, each second, unhealthy after
// two failures, and patient, half a minute for one and two minutes to start:
// what is told to fail says so at once, and what is well may take its time.
type Check struct {
	Command     []string // fakeinfer's if nil
	Interval    time.Duration
	Timeout     time.Duration
	StartPeriod time.Duration
	Retries     int
}

func (c *Check) config() *container.HealthConfig {
	if c == nil {
		return &container.HealthConfig{Test: []string{"NONE"}}
	}
	command := c.Command
	if command == nil {
		command = []string{"/fakeinfer", "health"}
	}
	return &container.HealthConfig{
		Test:        append([]string{"CMD"}, command...),
		Interval:    or(c.Interval, time.Second),
		Timeout:     or(c.Timeout, 30*time.Second),
		StartPeriod: or(c.StartPeriod, 2*time.Minute),
		Retries:     or(c.Retries, 2),
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Container is a running stand-in with its control folder.
type Container struct {
	Name, ID string
	ctl      string
	e        *Engine
}

// Run creates and starts a container and waits until it takes orders. It ends
// with the engine.
func (e *Engine) Run(t testing.TB, s Spec) *Container {
	t.Helper()
	c := e.Create(t, s)
	c.Start(t)
	c.up(t)
	return c
}

// up waits until a new container takes orders: what it is told before it
// started does not count for it.
func (c *Container) up(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(c.ctl, "up-"+c.ID[:12])); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not start within %v", c.Name, soon)
		}
	}
}

// Create creates a container and does not start it.
func (e *Engine) Create(t testing.TB, s Spec) *Container {
	t.Helper()
	image := or(s.Image, "fakeinfer:"+s.Name)
	if s.BakedIn {
		e.Image(t, image, "NVIDIA_VISIBLE_DEVICES="+s.GPUs)
	} else {
		e.Image(t, image)
	}
	c := &Container{Name: s.Name, ctl: filepath.Join(e.dir, "ctl-"+s.Name), e: e}
	if err := os.MkdirAll(c.ctl, 0o755); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{Label: t.Name()}
	if s.Labels == nil {
		labels["defib.enable"] = "true"
	}
	maps.Copy(labels, s.Labels)
	config := &container.Config{
		Image: image, Env: append([]string{"FAKE_CTL=/ctl"}, s.Env...), Labels: labels, Healthcheck: s.Check.config(),
	}
	if s.StopTimeout > 0 {
		seconds := int(s.StopTimeout / time.Second)
		config.StopTimeout = &seconds
	}
	host := &container.HostConfig{
		NetworkMode:   "none",
		RestartPolicy: container.RestartPolicy{Name: s.Restart},
		Resources:     container.Resources{Memory: s.Memory, MemorySwap: s.Memory},
		Mounts:        append([]mount.Mount{{Type: mount.TypeBind, Source: c.ctl, Target: "/ctl"}}, s.Mounts...),
	}
	if s.GPUs != "" {
		host.Runtime = "nvidia"
	}
	if s.GPUs != "" && !s.BakedIn {
		config.Env = append(config.Env, "NVIDIA_VISIBLE_DEVICES="+s.GPUs)
	}
	made, err := e.Client.ContainerCreate(t.Context(), config, host, nil, nil, s.Name)
	if err != nil {
		t.Fatalf("create %s: %v", s.Name, err)
	}
	c.ID = made.ID
	return c
}

// Tell tells the container to fail in some way; see fakeinfer's package
// comment for the names.
func (c *Container) Tell(t testing.TB, name, arg string) {
	t.Helper()
	// Renamed into place, so that it is never read half written.
	half := filepath.Join(c.ctl, "."+name)
	if err := os.WriteFile(half, []byte(arg), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(half, filepath.Join(c.ctl, name)); err != nil {
		t.Fatal(err)
	}
}

// Untell takes back what Tell told.
func (c *Container) Untell(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(c.ctl, name)); err != nil {
		t.Fatal(err)
	}
}

// Inspect returns what the engine says of it.
func (c *Container) Inspect(t testing.TB) container.InspectResponse {
	t.Helper()
	got, err := c.e.Client.ContainerInspect(t.Context(), c.ID)
	if err != nil {
		t.Fatalf("inspect %s: %v", c.Name, err)
	}
	return got
}

// Running reports whether the engine says that it runs.
func (c *Container) Running(t testing.TB) bool {
	t.Helper()
	return c.Inspect(t).State.Running
}

// Start does what `docker start` does, and so on for those below.
func (c *Container) Start(t testing.TB) {
	t.Helper()
	c.must(t, "start", c.e.Client.ContainerStart(t.Context(), c.ID, container.StartOptions{}))
}

// Stop stops it as a human does.
func (c *Container) Stop(t testing.TB) {
	t.Helper()
	c.must(t, "stop", c.e.Client.ContainerStop(t.Context(), c.ID, container.StopOptions{}))
}

// Restart restarts it as a human does.
func (c *Container) Restart(t testing.TB) {
	t.Helper()
	c.must(t, "restart", c.e.Client.ContainerRestart(t.Context(), c.ID, container.StopOptions{}))
}

// Kill sends it SIGKILL as a human does.
func (c *Container) Kill(t testing.TB) {
	t.Helper()
	c.must(t, "kill", c.e.Client.ContainerKill(t.Context(), c.ID, "KILL"))
}

// Pause freezes it as a human does.
func (c *Container) Pause(t testing.TB) {
	t.Helper()
	c.must(t, "pause", c.e.Client.ContainerPause(t.Context(), c.ID))
}

// Remove removes it by force, as a human does: once more where the engine still
// writes into the folder that it removes.
func (c *Container) Remove(t testing.TB) {
	t.Helper()
	remove := func() error {
		return c.e.Client.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true})
	}
	err := remove()
	if err != nil && strings.Contains(err.Error(), "directory not empty") {
		err = remove()
	}
	c.must(t, "remove", err)
}

func (c *Container) must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s %s: %v", what, c.Name, err)
	}
}
