package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	ln, err := Listen(t.Context(), path, strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // a test may have done it already
	return ln
}

func TestListenMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "s")
	ln := listen(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("got %v, %v; want a socket with 0660", info.Mode(), err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

func TestSocketNotGiven(t *testing.T) {
	err := notGiven(44, &fs.PathError{Op: "chown", Path: "/run/s", Err: syscall.EPERM})
	const want = "give the socket to group 44: chown /run/s: operation not permitted; it takes the capability CHOWN (of a container: cap_add: [CHOWN]), or that defib is in the group"
	if err.Error() != want || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %q, want %q", err, want)
	}
}

// A group that may use the socket and not reach it is told which directory is
// in its way.
func TestBarred(t *testing.T) {
	if text := Barred("/run/s", ""); text != "" {
		t.Errorf("without a group: got %q", text)
	}
	root := t.TempDir() // below one with 0700, as every test's
	own, other := strconv.Itoa(os.Getgid()), strconv.Itoa(os.Getgid()+1)
	for _, c := range []struct {
		mode   fs.FileMode
		own    bool // the directory's group is barred
		others bool
	}{{0o700, true, true}, {0o710, false, true}, {0o711, false, false}, {0o701, true, false}, {0o755, false, false}} {
		dir := filepath.Join(root, c.mode.String())
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		for group, want := range map[string]bool{own: c.own, other: c.others} {
			text := Barred(filepath.Join(dir, "sub", "s"), group)
			if got := strings.Contains(text, dir+" is closed to it"); got != want {
				t.Errorf("%v, group %s: got %q, want the directory named: %v", c.mode, group, text, want)
			}
		}
	}
}

func TestListenReplacesADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	listen(t, path)
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	alive, file := filepath.Join(dir, "alive"), filepath.Join(dir, "file")
	listen(t, alive)
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, group, want string }{
		{alive, "", "another defib answers on " + alive},
		{file, "", file + " exists and is no socket"},
		{"/" + strings.Repeat("x", 107), "", "the kernel takes 107"},
		{filepath.Join(dir, "s"), "no-such-group", `there is no group "no-such-group" for the socket`},
		{filepath.Join(file, "s"), "", "make the directory of the socket"},
	} {
		if _, err := Listen(context.Background(), c.path, c.group); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Listen(%.60s): got %v, want %s", c.path, err, c.want)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}
