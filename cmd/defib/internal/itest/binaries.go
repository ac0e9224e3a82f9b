package itest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binaries are the programs under test.
type Binaries struct {
	Defib     string
	Fakeinfer string
	Root      string // of the module

	standIn onceStandIn
}

// Build builds the programs into dir. DEFIB_BIN names a defib that is built
// already.
func Build(dir string) (*Binaries, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	b := &Binaries{Defib: os.Getenv("DEFIB_BIN"), Fakeinfer: filepath.Join(dir, "fakeinfer"), Root: root}
	if err := compile(root, b.Fakeinfer, "./deploy/demo/fakeinfer"); err != nil { // its image holds nothing else
		return nil, err
	}
	if b.Defib != "" {
		return b, nil
	}
	b.Defib = filepath.Join(dir, "defib")
	if _, err := exec.LookPath("gcc"); err != nil { // the tests that need GPU support skip
		return b, compile(root, b.Defib, "./cmd/defib")
	}
	return b, compile(root, b.Defib, "./cmd/defib", "CGO_ENABLED=1", "CGO_CFLAGS=-Wno-deprecated-declarations")
}

// moduleRoot finds the folder that holds go.mod, above the working one.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the module: no go.mod above the working folder")
		}
	}
}

// compile makes a binary, a static one unless env says otherwise.
func compile(root, out, pkg string, env ...string) error {
	cmd := exec.Command("go", "build", "-o", out, pkg) //nolint:noctx // all tests wait for it
	cmd.Dir = root
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}
