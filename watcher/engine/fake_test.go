package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	runtime    string            // its default runtime, when not runc
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
	switch path {
	case "/_ping":
		_, _ = w.Write([]byte("OK"))
	case "/info":
		info := testdata[map[string]any](f.t, "info.json")
		info["SystemTime"] = f.now().Format(time.RFC3339Nano)
		if f.runtime != "" {
			info["DefaultRuntime"] = f.runtime
		}
		_ = json.NewEncoder(w).Encode(info)
	case "/events":
		f.serveEvents(w, r)
	case "/containers/json":
		_ = json.NewEncoder(w).Encode(f.list())
	default:
		id := strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/json")
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
		maps.Copy(m.Actor.Attributes, c.Config.Labels)
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

// unknown has the engine know a container, or not yet.
func (f *fake) unknown(id string, yet bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := "/containers/" + id + "/json"
	if f.refuse[path] = "404 no such container"; !yet {
		delete(f.refuse, path)
	}
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

// BenchmarkRelist is what a list of 300 running containers costs when nothing
// has changed; it is made every 30 s.
func BenchmarkRelist(b *testing.B) {
	f := newFake(b)
	e := f.engine(Options{})
	for i := range 300 {
		f.run(fmt.Sprint("c", i))
	}
	cli, err := e.newClient()
	if err != nil {
		b.Fatal(err)
	}
	s := newSession(e, cli, nil)
	if err := s.ping(b.Context()); err != nil {
		b.Fatal(err)
	}
	l := s.list(b.Context())
	s.compare(l)
	for _, k := range s.known {
		k.seen, k.status, k.health, k.running, k.started = true, "running", "healthy", true, l.sent
	}
	s.pool = newPool()
	b.ReportAllocs()
	for b.Loop() {
		s.compare(s.list(b.Context()))
	}
	if len(s.pool.waiting) > 0 {
		b.Errorf("%d containers seem to have changed", len(s.pool.waiting))
	}
	_ = cli.Close()
}
