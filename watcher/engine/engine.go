// Package engine turns what a Docker Engine says into facts for the policy.
// It is the only package that reads engine answers.
//
// Events are hints, inspect is the truth. One call of [Engine.Watch] is one
// generation: a new client, a subscription that the server filters, a list of
// all containers and an inspect of each watched one, and from then on every
// engine event followed by an inspect sent after it. What no event told is
// found by a list every 30 s and a rolling inspect of every unit each 5 min.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"

	"github.com/defib-dev/defib/watcher/policy"
)

// Options is what an Engine is made of. Watch and Now must be set; every
// duration has a default.
type Options struct {
	// Host is unix:///path or tcp://name:port; "" is DOCKER_HOST, else the
	// default socket. TLS comes from DOCKER_CERT_PATH and DOCKER_TLS_VERIFY;
	// see certDir.
	Host string
	Log  *slog.Logger
	// Mask takes secrets out of text that containers wrote; nil leaves it.
	Mask func(string) string
	// Watch says what opts a container in, or why it is not watched.
	Watch func(labels map[string]string) (via, why string)
	// Now is the loop's clock; every Read is stamped with it.
	Now func() time.Time
	// Generation is the newest one that the saved state knows; the first
	// Watch is one more.
	Generation uint64

	Relist   time.Duration // between two lists of all containers; 30 s
	Rolling  time.Duration // in which every watched container is inspected once; 5 min
	Lease    time.Duration // after which the engine is to end the event stream; 25 s
	Deadline time.Duration // of every call; 10 s
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Mask == nil {
		o.Mask = func(s string) string { return s }
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Relist, 30 * time.Second}, {&o.Rolling, 5 * time.Minute}, {&o.Lease, 25 * time.Second}, {&o.Deadline, 10 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}

// Engine is one Docker Engine, over all connections to it. One Watch runs at
// a time; Inspect and Client may be called at any time from anywhere.
type Engine struct {
	o      Options
	host   string
	proc   string                                      // where the kernel tells about this process and host
	cdi    []string                                    // folders of CDI specifications
	dial   func(ctx context.Context) (net.Conn, error) // nil: by host; tests bring their own network
	cur    atomic.Pointer[session]                     // nil while there is no connection
	memory                                             // only Watch touches it
}

// memory is what outlives a generation.
type memory struct {
	generation uint64
	engineID   string
	connected  bool      // at least once
	since      time.Time // on the engine's clock: events from here on may not have been read
	heard      time.Time // on our clock: the engine was known to be in reach
	marker     eventKey  // the newest engine event that we know of
	seen       recent
	known      map[string]*tracked // by ID: watched or not
}

// New checks the options, the address and the TLS files. It does not connect.
func New(o Options) (*Engine, error) {
	if o.Watch == nil || o.Now == nil {
		return nil, errors.New("engine: Options.Watch and Options.Now must be set")
	}
	host := o.Host
	if host == "" {
		host = os.Getenv(client.EnvOverrideHost)
	}
	if host == "" {
		host = client.DefaultDockerHost
	}
	e := &Engine{o: o.withDefaults(), host: host, proc: "/proc", cdi: cdiFolders()}
	e.generation = o.Generation
	e.known = make(map[string]*tracked)
	cli, err := e.newClient()
	if err != nil {
		return nil, err
	}
	return e, cli.Close()
}

// Host is the address that the Engine connects to.
func (e *Engine) Host() string { return e.host }

// Client is the client of the present connection, nil while there is none. A
// call on it fails when its connection breaks.
func (e *Engine) Client() *client.Client {
	if s := e.cur.Load(); s != nil {
		return s.cli
	}
	return nil
}

// Watch is one generation; it implements watcher.Source. It emits source_up
// once the engine has answered, ends with source_down in every case, and
// returns an error that [Explain] turns into a sentence: [*UnreachableError],
// [*PermissionError], [*VersionError], or ctx's own. The caller waits and calls
// it again.
func (e *Engine) Watch(ctx context.Context, out chan<- policy.Event) error {
	e.generation++
	err := e.generate(ctx, out)
	down := policy.Event{Kind: policy.KindSourceDown, Generation: e.generation, Read: e.o.Now(), Reason: Explain(err)}
	select {
	case out <- down:
	case <-time.After(lastWord):
		e.o.Log.Warn("nobody took the last event of a connection", "generation", e.generation)
	}
	return err
}

// lastWord is how long source_down waits for a reader that may be gone.
const lastWord = time.Second

// generate runs one generation and waits for all that it started.
func (e *Engine) generate(ctx context.Context, out chan<- policy.Event) error {
	cli, err := e.newClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := newSession(e, cli, out)
	err = s.run(ctx)
	e.cur.Store(nil)
	close(s.done)
	cancel()
	s.wg.Wait()
	_ = cli.Close() // idle connections; it cannot fail
	return err
}

// Inspect answers an ask with an observed, unseen or destroy event that
// carries its Decision's ID. Every engine event read before the call was sent
// has been emitted when it returns.
func (e *Engine) Inspect(ctx context.Context, d policy.Decision) policy.Event {
	s := e.cur.Load()
	if s == nil {
		return policy.Event{
			Kind: policy.KindUnseen, Unit: d.Unit, Container: d.Container, Decision: d.ID,
			Read: e.o.Now(), Reason: "there is no connection to the Docker Engine",
		}
	}
	ev := s.look(ctx, d.Container, d.Unit)
	ev.Unit, ev.Decision = d.Unit, d.ID
	s.catchUp(ctx)
	return ev
}
