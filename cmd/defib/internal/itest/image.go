package itest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/build"
)

// Image builds the inference stand-in under a reference of the test's choice.
// Each reference is an image of its own, since units of one image are watched
// as a group.
func (e *Engine) Image(t testing.TB, ref string) {
	t.Helper()
	if e.built[ref] {
		return
	}
	if err := e.build(t, ref); err != nil {
		t.Fatalf("build the image %s: %v", ref, err)
	}
	e.built[ref] = true
}

func (e *Engine) build(t testing.TB, ref string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for name, path := range map[string]string{
		"Dockerfile": filepath.Join(root, "deploy/demo/fakeinfer/Dockerfile"), "fakeinfer": e.fake,
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	answer, err := e.Client.ImageBuild(t.Context(), &files, build.ImageBuildOptions{
		Tags: []string{ref}, Labels: map[string]string{"test.image": ref}, Remove: true, Version: build.BuilderV1,
	})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return buildErr(answer.Body)
}

// buildErr reads the builder's output to its end and returns what went wrong.
func buildErr(r io.Reader) error {
	lines := json.NewDecoder(r)
	for {
		var line struct {
			Error string `json:"error"`
		}
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return fmt.Errorf("the builder says: %s", line.Error)
		}
	}
}
