package itest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/nvml/fakenvml"
)

// The image starts, and in it the driver's library is found where there is
// one, and its absence is no failure.
func TestDefibImage(t *testing.T) {
	t.Parallel()
	e, _, b := rig(t)
	e.DefibImage(t, b, "defib:test")
	if out := e.inDefibImage(t, nil, nil, "version"); !strings.HasPrefix(out, "command  defib ") {
		t.Errorf("defib version says %q", out)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		if os.Getenv("REQUIRE_ENGINE") == "1" {
			t.Fatalf("REQUIRE_ENGINE=1, but there is no C compiler: %v", err)
		}
		t.Skip("built without GPU support: there is no C compiler")
	}
	if d := driverIn(t, e.inDefibImage(t, nil, nil, "gpu-probe")); d.State != gpu.DriverAbsent {
		t.Errorf("without a library: %+v", d)
	}
	drv := fakenvml.New(t, fakenvml.Build(t))
	binds := []string{drv.Library() + ":/usr/lib/libnvidia-ml.so.1:ro", drv.Dir() + ":/scenario:ro"}
	env := []string{"DEFIB_FAKE_NVML_DIR=/scenario", "LD_LIBRARY_PATH=/usr/lib"}
	if d := driverIn(t, e.inDefibImage(t, env, binds, "gpu-probe")); d.State != gpu.DriverUp || d.Version != "580.95.05" {
		t.Errorf("with a library: %+v", d)
	}
}

// driverIn reads the state of the driver out of the probe's lines.
func driverIn(t *testing.T, lines string) gpu.Driver {
	t.Helper()
	for line := range strings.Lines(lines) {
		var m struct {
			Driver *gpu.Driver `json:"driver"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("the probe says %q", lines)
		}
		if m.Driver != nil {
			return *m.Driver
		}
	}
	t.Fatalf("the probe says nothing of the driver: %q", lines)
	return gpu.Driver{}
}

// inDefibImage runs one command in a container of its own to its end and
// returns what it printed.
func (e *Engine) inDefibImage(t *testing.T, env, binds []string, command ...string) string {
	t.Helper()
	made, err := e.Client.ContainerCreate(t.Context(),
		&container.Config{Image: "defib:test", Cmd: command, Env: env, Labels: map[string]string{Label: t.Name()}},
		&container.HostConfig{Binds: binds, NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	ended, failed := e.Client.ContainerWait(t.Context(), made.ID, container.WaitConditionNextExit)
	if err := e.Client.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case err := <-failed:
		t.Fatal(err)
	}
	logs, err := e.Client.ContainerLogs(t.Context(), made.ID, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var stdout, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, &stderr, logs); err != nil {
		t.Fatal(err)
	}
	if stderr.Len() > 0 {
		t.Errorf("%v: %s", command, stderr.String())
	}
	return stdout.String()
}
