package engine

import (
	"context"
	"errors"
	"net"
	"sync"
)

// memListener hands out connections in memory that can be cut, or go silent
// without closing.
type memListener struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	conns []*memConn
	deny  error
}

func newMemListener() *memListener {
	return &memListener{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.UnixAddr{Name: "fake", Net: "unix"} }

func (l *memListener) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	deny := l.deny
	l.mu.Unlock()
	if deny != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: deny}
	}
	ours, theirs := net.Pipe()
	c := &memConn{Conn: ours, far: theirs, silent: make(chan struct{}), closed: make(chan struct{})}
	l.mu.Lock()
	l.conns = append(l.conns, c)
	l.mu.Unlock()
	select {
	case l.accept <- theirs:
		return c, nil
	case <-l.closed:
		return nil, errors.New("closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// denyWith makes every new connection fail.
func (l *memListener) denyWith(err error) { l.mu.Lock(); l.deny = err; l.mu.Unlock() }

// cut closes all connections, as an engine that ends does.
func (l *memListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.far.Close()
	}
	l.conns = nil
}

// silence stops all open connections from carrying anything, and leaves them
// open. New ones work.
func (l *memListener) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		close(c.silent)
	}
	l.conns = nil
}

type memConn struct {
	net.Conn
	far            net.Conn
	silent, closed chan struct{}
	once           sync.Once
}

func (c *memConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.silent:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *memConn) Write(b []byte) (int, error) {
	select {
	case <-c.silent:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func (c *memConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
