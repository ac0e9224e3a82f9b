package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// longest is what fits into a socket address of the kernel.
const longest = 107

// Listen opens the socket: mode 0660, of the given group when one is named. A
// socket that a dead daemon left is replaced, one that answers is not.
// Connections carry who is on the other side as their remote address.
func Listen(ctx context.Context, path, group string) (net.Listener, error) {
	if len(path) > longest {
		return nil, fmt.Errorf("the socket's path %s is %d bytes long, and the kernel takes %d: give a shorter one by --socket", path, len(path), longest)
	}
	gid, err := GroupID(group)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the socket %s: %w", path, err)
	}
	if err := permit(path, gid); err != nil {
		_ = ln.Close() // what went wrong before is what counts
		return nil, err
	}
	return peerListener{ln}, nil
}

// clearStale removes what a dead daemon left at path.
func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is no socket: remove it, or give another path by --socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // nothing was said on it
		return fmt.Errorf("another defib answers on %s: stop it, or give another path by --socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("see whether another defib answers: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket that a dead defib left: %w", err)
	}
	return nil
}

// GroupID reads a group's name or number; -1 is no change.
func GroupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(group); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q for the socket: make it, or set api.group to another one or to a number", group)
	}
	return strconv.Atoi(g.Gid)
}

// Barred says which directory keeps a group from the socket that it may use;
// empty for none. It goes by the modes.
func Barred(path, group string) string {
	gid, err := GroupID(group)
	if err != nil || gid < 0 {
		return ""
	}
	for dir := path; dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		if info, err := os.Stat(dir); err == nil && !passes(info, gid) {
			return fmt.Sprintf("group %s may use the socket %s and cannot reach it, since %s is closed to it: name another place by --socket", group, path, dir)
		}
	}
	return ""
}

// passes reports whether the members of a group may go through a directory.
func passes(info fs.FileInfo, gid int) bool {
	bit := fs.FileMode(0o001)
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Gid) == gid {
		bit = 0o010
	}
	return info.Mode()&bit != 0
}

func permit(path string, gid int) error {
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			return notGiven(gid, err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("set the mode of the socket: %w", err)
	}
	return nil
}

// notGiven says what it takes to give a file to a group that one is not in.
func notGiven(gid int, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "; it takes the capability CHOWN (of a container: cap_add: [CHOWN]), or that defib is in the group"
	}
	return fmt.Errorf("give the socket to group %d: %w%s", gid, err, hint)
}
