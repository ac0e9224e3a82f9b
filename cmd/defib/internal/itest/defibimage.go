package itest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/image"
)

// DefibImage builds the image of the project's own Dockerfile under ref, as
// `make image` does, on a base that is made of this machine's glibc: nothing is
// pulled.
func (e *Engine) DefibImage(t testing.TB, b *Binaries, ref string) {
	t.Helper()
	e.importBase(t, b, "glibc:host")
	files, err := tarOf(map[string]string{"Dockerfile": filepath.Join(b.Root, "Dockerfile"), "bin/defib": b.Defib})
	if err != nil {
		t.Fatal(err)
	}
	base := "glibc:host"
	answer, err := e.Client.ImageBuild(t.Context(), files, build.ImageBuildOptions{
		Tags: []string{ref}, BuildArgs: map[string]*string{"BASE": &base}, Remove: true, Version: build.BuilderV1,
	})
	if err != nil {
		t.Fatalf("build the image %s: %v", ref, err)
	}
	defer answer.Body.Close()
	if err := said(answer.Body); err != nil {
		t.Fatalf("build the image %s: %v", ref, err)
	}
}

// importBase makes an image of what the loader takes for the binary, each file
// at its own place, and of the parts of glibc that NVIDIA's library asks for.
func (e *Engine) importBase(t testing.TB, b *Binaries, ref string) {
	t.Helper()
	files := map[string]string{}
	for _, path := range loaded(t, b.Defib) {
		files[strings.TrimPrefix(path, "/")] = path
		for _, name := range []string{"libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"} {
			if beside := filepath.Join(filepath.Dir(path), name); exists(beside) {
				files[strings.TrimPrefix(beside, "/")] = beside
			}
		}
	}
	packed, err := tarOf(files)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.Client.ImageImport(t.Context(), image.ImportSource{Source: packed, SourceName: "-"}, ref, image.ImportOptions{})
	if err != nil {
		t.Fatalf("import the image %s: %v", ref, err)
	}
	defer answer.Close()
	if err := said(answer); err != nil {
		t.Fatalf("import the image %s: %v", ref, err)
	}
}

// loaded lists the loader and the libraries of a program; a static one has
// none.
func loaded(t testing.TB, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
		t.Fatalf("ldd %s: %v\n%s", program, err, out)
	}
	var paths []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") && strings.Contains(word, ".so") {
			paths = append(paths, word)
		}
	}
	return paths
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
