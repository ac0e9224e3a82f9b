package api

import (
	"net"
	"os/user"
	"strconv"
	"unicode"

	"golang.org/x/sys/unix"
)

// peerListener names the user on the other side of each connection.
type peerListener struct{ net.Listener }

// Accept implements [net.Listener].
func (l peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return peerConn{c, peer(author(c))}, nil
}

// peerConn is a connection whose remote address is its user.
type peerConn struct {
	net.Conn
	from peer
}

// RemoteAddr implements [net.Conn].
func (c peerConn) RemoteAddr() net.Addr { return c.from }

type peer string

func (peer) Network() string  { return "unix" }
func (p peer) String() string { return string(p) }

// author says who is on the other side, by the kernel's word: "uid 1000 (li)".
func author(c net.Conn) string {
	const nobody = "somebody on the socket"
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nobody
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nobody
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return nobody
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(uid); err == nil && printable(u.Username) {
		return "uid " + uid + " (" + u.Username + ")"
	}
	return "uid " + uid
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
