package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// Loop is what the server asks of the watcher.
type Loop interface {
	View() *watcher.View
	Do(ctx context.Context, cmd policy.Command) ([]policy.Decision, error)
	Subscribe(ctx context.Context) <-chan watcher.Committed
	Healthy(now time.Time) error
}

// Archive is what it asks of the journal.
type Archive interface {
	Incidents(since time.Time) ([]policy.Incident, error) // open or closed since then, oldest first
	Incident(id string) (inc policy.Incident, found bool, err error)
	ReadEvents(since time.Time, each func(watcher.Record) error) error // all that were committed by now
}

// Options are what a Server is made of; all but the last three must be set.
type Options struct {
	Loop    Loop
	Archive Archive
	Log     *slog.Logger
	Now     func() time.Time // the loop's clock
	Build   Build

	LiveGPUs Live         // fresher than the view; may be nil
	Metrics  http.Handler // of GET /metrics; nil: there are none
	Notifier Notifier     // nil: nobody is told
}

// Server answers the commands. See [Server.Serve].
type Server struct{ o Options }

// New returns a server that has not started.
func New(o Options) *Server { return &Server{o} }

const (
	maxBody   = 64 << 10         // bytes of a request
	sendLimit = 10 * time.Second // a client that takes in nothing for so long is dropped
	parting   = 500 * time.Millisecond
)

// Serve answers requests until ctx ends, then gives those under way half a
// second. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: sendLimit, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("answer commands: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	if srv.Shutdown(end) != nil {
		_ = srv.Close() // they had their half second
	}
	<-done //nolint:errcheck // it is that the server was closed
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/units/{name...}", s.unit)
	mux.HandleFunc("GET /v1/incidents", s.incidents)
	mux.HandleFunc("GET /v1/incidents/{id}", s.incident)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/health", s.health)
	mux.HandleFunc("GET /v1/version", s.version)
	mux.HandleFunc("GET /v1/gpus", s.gpus)
	mux.HandleFunc("POST /v1/command", s.command)
	s.notifyRoutes(mux)
	if s.o.Metrics != nil {
		mux.Handle("GET /metrics", s.o.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "this daemon does not know "+r.Method+" "+r.URL.Path, "it may be older than the command; see `defib version`")
	})
	return mux
}

// view returns the newest view, or answers that there is none yet.
func (s *Server) view(w http.ResponseWriter) *watcher.View {
	v := s.o.Loop.View()
	if v == nil {
		refuse(w, http.StatusServiceUnavailable, "defib is still starting", "try again in a moment")
	}
	return v
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	v := s.view(w)
	if v == nil {
		return
	}
	out := Status{Version: Version, At: s.o.Now(), Observe: v.Observe, Host: hostOf(v), Units: v.Units, Channels: troubled(s.o.Notifier)}
	if out.Units == nil {
		out.Units = []policy.Status{}
	}
	if r.URL.Query().Get("all") != "" {
		out.Others = v.Host.Others
	}
	send(w, out)
}

func (s *Server) unit(w http.ResponseWriter, r *http.Request) {
	v := s.view(w)
	if v == nil {
		return
	}
	u, err := s.found(v, r.PathValue("name"))
	if err != nil {
		s.fail(w, err)
		return
	}
	all, err := s.o.Archive.Incidents(time.Time{})
	if err != nil {
		s.fail(w, err)
		return
	}
	slices.Reverse(all)
	_, gpus := Newest(v, s.o.LiveGPUs)
	send(w, Unit{
		Version: Version, At: s.o.Now(), Observe: v.Observe, Host: hostOf(v), Unit: u,
		Incidents: lastOf(all, u.Key, 5), GPUs: UsedBy(gpus, u),
	})
}

// lastOf picks the newest incidents of one unit.
func lastOf(all []policy.Incident, key string, most int) []policy.Incident {
	mine := []policy.Incident{}
	for _, inc := range all {
		if inc.Unit == key && len(mine) < most {
			mine = append(mine, inc)
		}
	}
	return mine
}

func (s *Server) incidents(w http.ResponseWriter, r *http.Request) {
	since, err := s.moment(r.URL.Query().Get("since"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	all, err := s.o.Archive.Incidents(since)
	if err != nil {
		s.fail(w, err)
		return
	}
	if all == nil {
		all = []policy.Incident{}
	}
	slices.Reverse(all)
	send(w, Incidents{Version: Version, At: s.o.Now(), Incidents: all})
}

func (s *Server) incident(w http.ResponseWriter, r *http.Request) {
	inc, err := s.incidentOf(r.PathValue("id"))
	if err != nil {
		s.fail(w, err)
		return
	}
	send(w, Incident{Version: Version, At: s.o.Now(), Incident: inc})
}

// incidentOf finds an incident by its ID, in any case, with or without INC-.
func (s *Server) incidentOf(id string) (policy.Incident, error) {
	const prefix = "INC-"
	id = prefix + strings.TrimPrefix(strings.ToUpper(id), prefix)
	inc, found, err := s.o.Archive.Incident(id)
	if err == nil && !found {
		err = &UnknownError{Text: fmt.Sprintf("there is no incident %.40q", id), Hint: "`defib incidents --since 90d` lists all that are kept"}
	}
	return inc, err
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	out := Health{Version: Version, OK: true, Text: "defib watches, and Docker answers"}
	if err := s.o.Loop.Healthy(s.o.Now()); err != nil {
		out.OK, out.Text = false, err.Error()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	send(w, out)
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) { send(w, s.o.Build) }

// fail answers with an error of our own making.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		refuse(w, http.StatusNotFound, unknown.Text, unknown.Hint)
	case errors.Is(err, watcher.ErrStopping):
		refuse(w, http.StatusServiceUnavailable, err.Error(), "")
	default:
		s.o.Log.Warn("request failed", "err", err)
		refuse(w, http.StatusInternalServerError, err.Error(), "the daemon's log says more")
	}
}

func refuse(w http.ResponseWriter, code int, text, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	send(w, problem{Version: Version, Error: text, Hint: hint})
}

// send writes one document. A client that has gone is not our trouble.
func send(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendLimit))
	_ = json.NewEncoder(w).Encode(v)
}

// moment reads a time of a query, or how long before now it was; "" is the
// beginning.
func (s *Server) moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if back, err := time.ParseDuration(text); err == nil && back >= 0 {
		return s.o.Now().Add(-back), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("since: want a time such as 2026-01-02T15:04:05Z, or a span such as 1h30m, have %.40q", text)
	}
	return at, nil
}
