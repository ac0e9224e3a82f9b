// Package enginetest lets tests run containers on the engine of this machine.
package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// Label marks every container of these tests.
const Label = "defib.test"

// Program is the path of the program in the image.
const Program = "/tiny"

// Real connects to the engine of this machine and makes an image of that name
// that holds nothing but a Go program, given as its source. The image goes with
// the test. Without an engine the test skips, and fails instead when
// REQUIRE_ENGINE=1.
func Real(t *testing.T, name, source string) *client.Client {
	t.Helper()
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		_, err = cli.Ping(t.Context())
	}
	if err != nil {
		if os.Getenv("REQUIRE_ENGINE") == "1" {
			t.Fatalf("REQUIRE_ENGINE=1 and no Docker Engine: %v", err)
		}
		t.Skipf("no Docker Engine: %v", err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	r, err := cli.ImageImport(t.Context(), image.ImportSource{Source: layer(t, build(t, source)), SourceName: "-"}, name, image.ImportOptions{})
	if err != nil {
		t.Fatalf("import the test image: %v", err)
	}
	_, _ = io.Copy(io.Discard, r)
	_ = r.Close()
	t.Cleanup(func() {
		_, _ = cli.ImageRemove(context.WithoutCancel(t.Context()), name, image.RemoveOptions{Force: true})
	})
	return cli
}

// build makes a static binary of one Go file.
func build(t *testing.T, source string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", "tiny", "main.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test program: %v\n%s", err, out)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "tiny"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// layer is a file system with the program alone.
func layer(t *testing.T, binary []byte) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: Program, Mode: 0o755, Size: int64(len(binary))}) // a failure shows at Close
	_, _ = w.Write(binary)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Launch makes and starts a container without a network and returns its ID. It
// is removed with the test.
func Launch(t *testing.T, cli *client.Client, config *container.Config) string {
	t.Helper()
	c, err := cli.ContainerCreate(t.Context(), config, &container.HostConfig{NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		_ = cli.ContainerRemove(context.WithoutCancel(t.Context()), c.ID, container.RemoveOptions{Force: true})
	})
	if err := cli.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatalf("start: %v", err)
	}
	return c.ID
}
