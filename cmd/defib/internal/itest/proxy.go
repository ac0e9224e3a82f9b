package itest

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Proxy stands between defib and an engine's socket. It can cut connections,
// refuse new ones, make them go silent, and hold a request back.
type Proxy struct {
	path, engine string
	wg           sync.WaitGroup

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]*link
	hold  string // requests to hold, by a part of their path
	holds chan string
}

// link is one connection from defib with its other half to the engine.
type link struct {
	engine net.Conn
	frozen bool
}

// NewProxy opens a proxy, which closes with the test.
func (e *Engine) NewProxy(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{
		path: filepath.Join(shortDir(t), "p.sock"), engine: e.Socket(),
		conns: map[net.Conn]*link{}, holds: make(chan string, 16),
	}
	p.Open(t)
	t.Cleanup(func() {
		p.Shut()
		p.wg.Wait()
	})
	return p
}

// Host is what --host takes.
func (p *Proxy) Host() string { return "unix://" + p.path }

// Open lets connections through, at first or again.
func (p *Proxy) Open(t testing.TB) {
	t.Helper()
	if err := os.Remove(p.path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.l = l
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
}

// Shut refuses new connections and cuts the open ones.
func (p *Proxy) Shut() {
	p.mu.Lock()
	if p.l != nil {
		p.l.Close()
		p.l = nil
	}
	p.mu.Unlock()
	p.Cut()
}

// Cut closes every open connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, l := range p.conns {
		c.Close()
		l.engine.Close()
	}
}

// Freeze makes every open connection go silent without closing it, and says
// how many there were. New connections work.
func (p *Proxy) Freeze() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.conns {
		l.frozen = true
	}
	return len(p.conns)
}

// Hold holds back, until the connection is cut, every POST whose first line
// contains part. What was held is sent on the channel.
func (p *Proxy) Hold(part string) <-chan string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = part
	return p.holds
}

// Release lets requests through again; what is held stays held.
func (p *Proxy) Release() { p.Hold("") }

func (p *Proxy) serve(c net.Conn) {
	defer c.Close()
	engine, err := (&net.Dialer{}).DialContext(context.Background(), "unix", p.engine)
	if err != nil {
		return
	}
	defer engine.Close()
	l := &link{engine: engine}
	p.mu.Lock()
	p.conns[c] = l
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	p.wg.Go(func() {
		p.pipe(c, engine, l, func([]byte) bool { return false })
		if !p.silent(l) { // the engine's end must not show through a frozen one
			c.Close()
		}
	})
	p.pipe(engine, c, l, p.held)
}

// pipe copies until one side ends. What stop says is held is not copied.
func (p *Proxy) pipe(dst, src net.Conn, l *link, stop func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !p.silent(l) && !stop(buf[:n]) {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) silent(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.frozen
}

// held reports whether the bytes begin a request that is to be held. A client
// sends the head of a request in one piece.
func (p *Proxy) held(data []byte) bool {
	line, _, _ := bytes.Cut(data, []byte("\r\n"))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold == "" || !bytes.HasPrefix(line, []byte("POST ")) || !bytes.Contains(line, []byte(p.hold)) {
		return false
	}
	p.holds <- string(line)
	return true
}
