package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	oldestAPI = "1.24"
	lookBack  = 5 * time.Second // the first subscription starts that far in the past
)

// connect finds out who answers, subscribes, lists, and starts the reader.
func (s *session) connect(ctx context.Context) (up policy.Engine, l listed, err error) {
	if err := s.ping(ctx); err != nil {
		return up, l, err
	}
	info, err := s.info(ctx)
	if err != nil {
		return up, l, err
	}
	s.runtime = info.DefaultRuntime
	moved := s.recognise(info)
	if err := s.subscribe(ctx); err != nil {
		return up, l, err
	}
	if l = s.list(ctx); l.err != nil {
		return up, l, l.err
	}
	up = policy.Engine{
		ID: info.ID, Name: info.Name, Version: info.ServerVersion, APIVersion: s.cli.ClientVersion(),
		LiveRestore: info.LiveRestoreEnabled, Uptime: s.hostUptime(), Process: policy.ProcessNew,
	}
	if s.podman {
		up.Version += " (Podman)"
	}
	if process := s.process(ctx, info, l); !moved {
		up.Process = process
	}
	s.heard = l.sent
	up.Self = s.findSelf(l.containers)
	s.healers = s.findHealers(ctx, l.containers)
	up.Healers = s.healers
	select {
	case err := <-s.broken: // the subscription was refused
		return up, l, err
	default:
	}
	s.o.Log.Info("connected to the Docker Engine", "host", s.host, "engine", up.Name, "version", up.Version,
		"api", up.APIVersion, "generation", s.generation, "process", up.Process)
	return up, l, nil
}

// ping negotiates the API version. It does not use the client's own ping,
// which turns every failure into "is the docker daemon running?".
func (s *session) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base()+"/_ping", http.NoBody)
	if err != nil {
		return fmt.Errorf("docker host %q: %w", s.host, err)
	}
	resp, err := s.cli.HTTPClient().Do(req)
	if err != nil {
		return s.classify("GET /_ping", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	switch {
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return &PermissionError{Host: s.host, Call: "GET /_ping", Err: errors.New(resp.Status)}
	case resp.StatusCode != http.StatusOK:
		return &UnreachableError{Host: s.host, Err: fmt.Errorf("its ping says %s: %s", resp.Status, strings.TrimSpace(string(body)))}
	}
	version := resp.Header.Get("Api-Version")
	if version != "" && versions.LessThan(version, oldestAPI) {
		return &VersionError{Host: s.host, Engine: version}
	}
	s.podman = resp.Header.Get("Libpod-Api-Version") != ""
	s.cli.NegotiateAPIVersionPing(types.Ping{APIVersion: version})
	return nil
}

// info asks what the engine is, and measures its clock: the engine reads it
// between our sending and its answer, so a time in between proves nothing but
// that both clocks agree.
func (s *session) info(ctx context.Context) (system.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	sent := s.o.Now()
	info, err := s.cli.Info(ctx)
	if err != nil {
		return info, s.classify("GET /info", err)
	}
	got := s.o.Now()
	at, err := time.Parse(time.RFC3339Nano, info.SystemTime)
	if err == nil && (at.Before(sent) || at.After(got)) {
		s.clock.offset.Store(int64(at.Sub(sent.Add(got.Sub(sent) / 2))))
	}
	return info, nil
}

// recognise notes which engine this is; another one than before shares
// nothing with it, and moved is true. Podman makes up an ID for each answer.
func (s *session) recognise(info system.Info) (moved bool) {
	moved = s.engineID != "" && info.ID != s.engineID && !s.podman
	if moved {
		s.o.Log.Warn("another Docker Engine answers at this address", "host", s.host, "engine", info.Name)
		clear(s.known)
		s.marker, s.since = eventKey{}, time.Time{}
	}
	s.engineID = info.ID
	return moved
}

// subscribe starts the reader and returns when its stream stands.
func (s *session) subscribe(ctx context.Context) error {
	s.subscribed = s.clock.engine(s.o.Now())
	if s.since.IsZero() {
		s.since = s.subscribed.Add(-lookBack)
	}
	since, opened := s.since, make(chan struct{})
	s.wg.Go(func() {
		first := true
		s.broken <- s.read(ctx, since, func() {
			if first {
				first = false
				close(opened)
			}
		})
	})
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.o.Deadline):
		return &UnreachableError{Host: s.host, Err: context.DeadlineExceeded}
	}
}

// hostUptime is how long the host has been up, 0 when the engine may run on
// another one.
func (s *session) hostUptime() time.Duration {
	if !s.local() {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(s.proc, "uptime"))
	if err != nil {
		return 0
	}
	seconds, _, _ := strings.Cut(string(text), " ")
	up, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return 0
	}
	return time.Duration(up * float64(time.Second))
}
