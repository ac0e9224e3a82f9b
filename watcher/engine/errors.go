package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
)

// UnreachableError says that no engine answers, or that it stopped answering.
// It is worth trying again.
type UnreachableError struct {
	Host string
	Err  error
}

// PermissionError says that the socket, or a proxy before it, refuses us.
type PermissionError struct {
	Host string
	Call string // what a proxy refused, such as "GET /info"; "" for the socket itself
	Err  error
}

// VersionError says that the engine and we have no API version in common.
type VersionError struct {
	Host   string
	Engine string // the engine's newest API version, if it told
	TooNew bool
	Err    error
}

func (e *UnreachableError) Unwrap() error { return e.Err }

func (e *PermissionError) Unwrap() error { return e.Err }

func (e *VersionError) Unwrap() error { return e.Err }

// Error is one sentence with the way out in it.
func (e *UnreachableError) Error() string {
	timeout, _ := errors.AsType[net.Error](e.Err)
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("no Docker Engine at %s: the socket does not exist; start Docker, mount the socket into defib's container, or name another with --host", e.Host)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no Docker Engine at %s: nothing listens there; start Docker (systemctl start docker) or name another address with --host", e.Host)
	case errors.Is(e.Err, context.DeadlineExceeded), timeout != nil && timeout.Timeout():
		return fmt.Sprintf("the Docker Engine at %s does not answer in time; look at its log (journalctl -u docker) and at the network between", e.Host)
	}
	return fmt.Sprintf("lost the Docker Engine at %s: %v", e.Host, innermost(e.Err))
}

func (e *PermissionError) Error() string {
	if e.Call != "" {
		return fmt.Sprintf("the proxy before the Docker Engine at %s refuses %s: allow it there (defib reads /_ping, /info, /events and /containers, and restarts with POST /containers)", e.Host, e.Call)
	}
	path := strings.TrimPrefix(e.Host, "unix://")
	gid, name := socketGroup(path)
	if gid == "" {
		return fmt.Sprintf("no permission to use the Docker socket %s: run defib as root or as a member of the socket's group", path)
	}
	return fmt.Sprintf("no permission to use the Docker socket %s: run defib as root, or put its user into the group %s (usermod -aG %s USER; in a container: --group-add %s)", path, name, name, gid)
}

func (e *VersionError) Error() string {
	if e.TooNew {
		return fmt.Sprintf("the Docker Engine at %s no longer speaks the API versions that this defib knows (%v): upgrade defib", e.Host, innermost(e.Err))
	}
	return fmt.Sprintf("the Docker Engine at %s is too old (API %s): defib needs API 1.24, Docker 1.12 or newer: upgrade Docker", e.Host, cmp.Or(e.Engine, "unknown"))
}

// Explain is err in one sentence that says what to do.
func Explain(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled), err == context.DeadlineExceeded: //nolint:errorlint // bare: the caller's own, not that of a call
		return "defib is stopping"
	}
	return err.Error()
}

// socketGroup names the group that a socket belongs to, "" when it cannot tell.
func socketGroup(path string) (gid, name string) {
	info, err := os.Stat(path)
	if err != nil {
		return "", ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", ""
	}
	gid = strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(gid); err == nil {
		return gid, g.Name
	}
	return gid, gid
}

// classify makes a typed error of what a call returned.
func (e *Engine) classify(call string, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, fs.ErrPermission):
		return &PermissionError{Host: e.host, Err: err}
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return &PermissionError{Host: e.host, Call: call, Err: err}
	case strings.Contains(text, "client version") && strings.Contains(text, "too old"):
		return &VersionError{Host: e.host, TooNew: true, Err: err}
	case strings.Contains(text, "client is newer than server"), strings.Contains(text, "client version") && strings.Contains(text, "too new"):
		return &VersionError{Host: e.host, Err: err}
	}
	return &UnreachableError{Host: e.host, Err: fmt.Errorf("%s: %w", call, err)}
}

// innermost leaves out the layers of the HTTP client, which name addresses
// that mean nothing to people; it keeps what the engine said.
func innermost(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
