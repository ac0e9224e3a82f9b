package itest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkStart is the time from the engine's first answer to a program that
// has just been started until it watches: its event stream stands, all
// containers are listed and, if it looks at each, have been looked at.
func BenchmarkStart(b *testing.B) {
	const n, trials = 10, 10
	k := newBench(b)
	k.run(b, n)
	floor, defib := k.bare(16), k.defib()
	type times struct{ answer, watch sample }
	took := map[string]*times{floor.name: {}, defib.name: {}}
	for b.Loop() {
		for i := range 2 * trials {
			who := []contestant{floor, defib, defib, floor}[i%4]
			k.ready(b)
			p := newTap(b, k.e.Socket())
			run := who.start(b, p.path)
			answered, watching := p.watched()
			run.stop()
			p.close()
			took[who.name].answer.addTime(answered.Sub(run.opened), time.Millisecond)
			took[who.name].watch.addTime(watching.Sub(answered), time.Millisecond)
		}
	}
	line := func(name string, t *times) string {
		return fmt.Sprintf("  %s   exec to the first answer %.1f ms; from there to watching %.1f ms (%.1f to %.1f)",
			name, t.answer.median(), t.watch.median(), t.watch.at(0), t.watch.at(1))
	}
	low, own := took[floor.name], took[defib.name]
	report(b,
		fmt.Sprintf("start beside %d containers, %d trials each, in turns", n, trials), line("floor", low), line("defib", own),
		verdict("first answer to watching", own.watch.median(), 100, "ms"))
	b.ReportMetric(own.watch.median(), "watching-ms")
	b.ReportMetric(own.answer.median(), "answer-ms")
	b.ReportMetric(low.watch.median(), "floor-watching-ms")
}

// tap stands between a program and an engine's socket and notes when what was
// asked and answered.
type tap struct {
	path, engine string
	l            net.Listener
	wg           sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns []net.Conn
	calls []*call
}

// call is one request; first and last are the times of its answer's parts.
type call struct {
	path        string
	first, last time.Time
}

func newTap(b *testing.B, engine string) *tap {
	b.Helper()
	p := &tap{path: filepath.Join(shortDir(b), "tap.sock"), engine: engine}
	var err error
	if p.l, err = (&net.ListenConfig{}).Listen(b.Context(), "unix", p.path); err != nil {
		b.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(b.Context(), c) })
		}
	})
	return p
}

func (p *tap) close() {
	_ = p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *tap) serve(ctx context.Context, c net.Conn) {
	engine, err := (&net.Dialer{}).DialContext(ctx, "unix", p.engine)
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, c, engine)
	p.mu.Unlock()
	var now *call // the request whose answer comes; guarded by mu
	p.wg.Go(func() {
		copyNoting(c, engine, func([]byte) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if at := time.Now(); now != nil {
				if now.last = at; now.first.IsZero() {
					now.first = at
				}
			}
		})
	})
	copyNoting(engine, c, func(data []byte) {
		line, _, _ := bytes.Cut(data, []byte("\r\n"))
		if words := strings.Fields(string(line)); len(words) == 3 && strings.HasPrefix(words[2], "HTTP/") {
			p.mu.Lock()
			defer p.mu.Unlock()
			now = &call{path: words[1]}
			p.calls = append(p.calls, now)
		}
	})
}

// copyNoting copies until one side ends, and then ends the other.
func copyNoting(dst, src net.Conn, note func([]byte)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			note(buf[:n])
			_, werr := dst.Write(buf[:n])
			if err == nil {
				err = werr
			}
		}
		if err != nil {
			_ = dst.Close()
			return
		}
	}
}

// watched says when the engine gave its first answer, and when everything was
// answered that a watcher needs: the event streams, and the first of the calls
// of each kind for a list or a container.
func (p *tap) watched() (answered, watching time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]bool{}
	for _, c := range p.calls {
		answered = earlier(answered, c.first)
		path, _, _ := strings.Cut(c.path, "?")
		switch {
		case strings.HasSuffix(path, "/events"):
			watching = later(watching, c.first)
		case strings.HasSuffix(path, "/json") && !seen[path]:
			seen[path] = true
			watching = later(watching, c.last)
		}
	}
	return answered, watching
}
