package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-units"

	"github.com/defib-dev/defib/watcher/policy"
)

// fake is a Docker Engine at the HTTP boundary, on connections in memory so
// that synctest sees them. Its answers are those that a real engine gave
// (testdata), with what a test changes.
type fake struct {
	t  testing.TB
	ln *memListener

	mu         sync.Mutex // guards what follows
	ring       []events.Message
	live       map[chan events.Message]bool
	containers map[string]*container.InspectResponse
	calls      map[string]int // by path without the version
	slow       map[string]time.Duration
	headers    map[string]string
	refuse     map[string]string // path to "status text"
	skew       time.Duration     // of its clock
	until      bool              // it ignores until
	streams    atomic.Int32
}

func newFake(t testing.TB) *fake {
	f := &fake{
		t: t, ln: newMemListener(), live: make(map[chan events.Message]bool),
		containers: make(map[string]*container.InspectResponse), calls: make(map[string]int),
		slow: make(map[string]time.Duration), refuse: make(map[string]string),
		headers: map[string]string{"Api-Version": "1.41"},
	}
	srv := &http.Server{Handler: f}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(f.ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-served })
	return f
}

// engine makes an Engine that connects to the fake and watches what
// defib.enable opts in.
func (f *fake) engine(o Options) *Engine {
	f.t.Helper()
	o.Host = "unix:///run/fake.sock"
	o.Now = time.Now
	if o.Watch == nil {
		o.Watch = policy.Default().OptIn
	}
	e, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	e.dial = func(ctx context.Context) (net.Conn, error) { return f.ln.dial(ctx) }
	e.proc = f.t.TempDir()
	return e
}

func (f *fake) now() time.Time { return time.Now().Add(f.skew) }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[strings.Index(path[1:], "/")+1:]
	}
	f.mu.Lock()
	f.calls[path]++
	slow, refuse := f.slow[path], f.refuse[path]
	for k, v := range f.headers {
		w.Header().Set(k, v)
	}
	f.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
			return
		}
	}
	if refuse != "" {
		status, text, _ := strings.Cut(refuse, " ")
		code, _ := strconv.Atoi(status)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
		return
	}
	f.route(w, r, path)
}

func (f *fake) route(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("Content-Type", "application/json")
	switch id := strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/json"); {
	case path == "/_ping":
		_, _ = w.Write([]byte("OK"))
	case path == "/info":
		info := testdata[map[string]any](f.t, "info.json")
		info["SystemTime"] = f.now().Format(time.RFC3339Nano)
		_ = json.NewEncoder(w).Encode(info)
	case path == "/events":
		f.serveEvents(w, r)
	case path == "/containers/json":
		_ = json.NewEncoder(w).Encode(f.list())
	default:
		f.mu.Lock()
		c := f.containers[id]
		var text []byte
		if c != nil {
			text, _ = json.Marshal(c)
		}
		f.mu.Unlock()
		if text == nil {
			w.WriteHeader(http.StatusNotFound)
			text = []byte(`{"message":"No such container: ` + id + `"}`)
		}
		_, _ = w.Write(text)
	}
}

// serveEvents is what Docker does: headers first, then the look-back, then
// what happens, until the time that the client named.
func (f *fake) serveEvents(w http.ResponseWriter, r *http.Request) {
	f.streams.Add(1)
	defer f.streams.Add(-1)
	since, until := readStamp(r.FormValue("since")), readStamp(r.FormValue("until"))
	filter, _ := filters.FromJSON(r.FormValue("filters"))
	flush := w.(http.Flusher).Flush
	flush()
	f.mu.Lock()
	past := slices.Clone(f.ring)
	ch := make(chan events.Message, 1024)
	f.live[ch] = true
	end := until.Sub(f.now())
	ignore := f.until
	f.mu.Unlock()
	defer func() { f.mu.Lock(); delete(f.live, ch); f.mu.Unlock() }()
	send := func(m events.Message) {
		if matches(filter, m) {
			_ = json.NewEncoder(w).Encode(m)
			flush()
		}
	}
	for _, m := range past {
		if m.TimeNano >= since.UnixNano() && m.TimeNano <= until.UnixNano() {
			send(m)
		}
	}
	if end <= 0 {
		return
	}
	timer := time.After(end)
	if ignore {
		timer = nil
	}
	for {
		select {
		case m := <-ch:
			send(m)
		case <-timer:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func readStamp(s string) time.Time {
	sec, nano, _ := strings.Cut(s, ".")
	a, _ := strconv.ParseInt(sec, 10, 64)
	b, _ := strconv.ParseInt(nano, 10, 64)
	return time.Unix(a, b)
}

// matches compares as Docker does: prefixes, once health_status is asked for.
func matches(args filters.Args, m events.Message) bool {
	return args.ExactMatch("type", string(m.Type)) && (args.Len() == 0 || args.FuzzyMatch("event", string(m.Action)))
}

// publish makes an engine event that happened now.
func (f *fake) publish(id string, action events.Action, attributes ...string) events.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := events.Message{
		Type: events.ContainerEventType, Action: action, TimeNano: f.now().UnixNano(),
		Actor: events.Actor{ID: id, Attributes: make(map[string]string)},
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		m.Actor.Attributes[attributes[i]] = attributes[i+1]
	}
	if c := f.containers[id]; c != nil {
		for k, v := range c.Config.Labels {
			m.Actor.Attributes[k] = v
		}
		m.Actor.Attributes["name"] = strings.TrimPrefix(c.Name, "/")
	}
	f.add(m)
	return m
}

func (f *fake) add(m events.Message) {
	if f.ring = append(f.ring, m); len(f.ring) > ringMax {
		f.ring = f.ring[1:]
	}
	for ch := range f.live {
		ch <- m
	}
}

// noise fills the ring with events of other types, as health checks do.
func (f *fake) noise(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range n {
		f.add(events.Message{
			Type: events.ContainerEventType, Action: "exec_die", TimeNano: f.now().UnixNano() + int64(i),
			Actor: events.Actor{ID: "noise"},
		})
	}
}

// reborn is a new engine process: nothing is in its ring.
func (f *fake) reborn() {
	f.mu.Lock()
	f.ring = nil
	f.mu.Unlock()
	f.ln.cut()
}

// run adds a running, healthy container; labels default to an opted-in one.
func (f *fake) run(name string, labels ...string) string {
	id := idOf(name)
	c := testdata[container.InspectResponse](f.t, "inspect.json")
	c.ID, c.Name = id, "/"+name
	c.Created = f.now().Format(time.RFC3339Nano)
	c.Config.Labels = map[string]string{"defib.enable": "true"}
	for i := 0; i+1 < len(labels); i += 2 {
		c.Config.Labels[labels[i]] = labels[i+1]
	}
	c.State.StartedAt = c.Created
	c.State.Health = &container.Health{Status: container.Healthy}
	f.mu.Lock()
	f.containers[id] = &c
	f.mu.Unlock()
	return id
}

func idOf(name string) string { return fmt.Sprintf("%064x", []byte(name)) }

// change edits a container in the engine, without an event.
func (f *fake) change(id string, edit func(c *container.InspectResponse)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(f.containers[id])
}

func (f *fake) remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.containers, id)
}

func (f *fake) called(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[path]
}

// hang makes every call of a path take d.
func (f *fake) hang(path string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow[path] = d
}

func (f *fake) list() []container.Summary {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []container.Summary{}
	for _, c := range f.containers {
		created := parseTime(c.Created)
		s := container.Summary{
			ID: c.ID, Names: []string{"/other/link", c.Name}, Image: c.Config.Image, Labels: c.Config.Labels,
			Created: created.Unix(), State: c.State.Status, Status: f.statusOf(c.State),
			NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{}},
		}
		out = append(out, s)
	}
	return out
}

// statusOf writes the words of `docker ps`, as the engine does.
func (f *fake) statusOf(st *container.State) string {
	ago := func(t string) string { return units.HumanDuration(f.now().Sub(parseTime(t))) }
	switch {
	case st.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, ago(st.FinishedAt))
	case st.Paused:
		return "Up " + ago(st.StartedAt) + " (Paused)"
	case st.Running && st.Health != nil && st.Health.Status == container.Starting:
		return "Up " + ago(st.StartedAt) + " (health: starting)"
	case st.Running && st.Health != nil:
		return "Up " + ago(st.StartedAt) + " (" + st.Health.Status + ")"
	case st.Running:
		return "Up " + ago(st.StartedAt)
	case parseTime(st.StartedAt).IsZero():
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, ago(st.FinishedAt))
}

func testdata[T any](t testing.TB, name string) T {
	t.Helper()
	var v T
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

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
