package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// UnreachableError says that no daemon answers.
type UnreachableError struct {
	Text, Hint string
	Err        error
}

// Error is one sentence.
func (e *UnreachableError) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// PermissionError says that this user may not talk to the daemon.
type PermissionError struct{ Text, Hint string }

// Error is one sentence.
func (e *PermissionError) Error() string { return e.Text }

// RefusedError is an answer of the daemon that is no success.
type RefusedError struct {
	Code       int // HTTP
	Text, Hint string
}

// Error is the daemon's own sentence.
func (e *RefusedError) Error() string { return e.Text }

// Client talks to the daemon on one socket. Errors of its methods are an
// [*UnreachableError], a [*PermissionError], an [*UnknownError], a
// [*RefusedError], or ctx's.
type Client struct {
	socket string
	http   *http.Client
}

// patience is how long an answer from the daemon's memory may take.
const patience = 10 * time.Second

// NewClient returns a client of the daemon on a socket; it connects when asked
// something.
func NewClient(socket string) *Client {
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status asks for all units; all also for what is not watched.
func (c *Client) Status(ctx context.Context, all bool) (Status, error) {
	path := "/v1/status"
	if all {
		path += "?all=1"
	}
	return get[Status](ctx, c, path)
}

// Unit asks for one unit.
func (c *Client) Unit(ctx context.Context, name string) (Unit, error) {
	return get[Unit](ctx, c, "/v1/units/"+url.PathEscape(name))
}

// Incidents asks for those that changed since a time.
func (c *Client) Incidents(ctx context.Context, since time.Time) (Incidents, error) {
	return get[Incidents](ctx, c, "/v1/incidents?since="+url.QueryEscape(stamp(since)))
}

// Incident asks for one incident by its ID, in any case.
func (c *Client) Incident(ctx context.Context, id string) (Incident, error) {
	return get[Incident](ctx, c, "/v1/incidents/"+url.PathEscape(id))
}

// GPUs asks for all GPUs and the driver.
func (c *Client) GPUs(ctx context.Context) (GPUs, error) {
	return get[GPUs](ctx, c, "/v1/gpus")
}

// Metrics writes what Prometheus would read.
func (c *Client) Metrics(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refusal(resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the metrics: %w", err)
	}
	return nil
}

// Build asks which program the daemon is.
func (c *Client) Build(ctx context.Context) (Build, error) {
	return get[Build](ctx, c, "/v1/version")
}

// Health asks whether the daemon does its work. An answer that it does not is
// no error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/health", nil)
	if err != nil {
		return Health{}, err
	}
	defer resp.Body.Close()
	var h Health
	return h, c.decode(resp.Body, &h)
}

// Do gives an order.
func (c *Client) Do(ctx context.Context, o Order) (Answer, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return Answer{}, fmt.Errorf("write the order: %w", err)
	}
	return read[Answer](ctx, c, http.MethodPost, "/v1/command", body)
}

// Events calls each with every event of the time back from now, as the daemon's
// clock has it, then, when follow is set, with those that come, until ctx ends,
// the daemon stops or each fails.
func (c *Client) Events(ctx context.Context, back time.Duration, unit string, follow bool, each func(Line) error) error {
	q := url.Values{"since": {back.String()}, "unit": {unit}}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refusal(resp)
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var line Line
		err := dec.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.broken(ctx, err)
		}
		if err := each(line); err != nil {
			return err
		}
	}
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// get asks for something that is answered from memory, and so at once.
func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	brief, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := read[T](brief, c, http.MethodGet, path, nil)
	if err != nil && brief.Err() != nil && ctx.Err() == nil {
		err = &UnreachableError{Text: fmt.Sprintf("defib on %s has not answered for %v", c.socket, patience), Hint: "see its log, and whether its disk is slow or full", Err: err}
	}
	return out, err
}

func read[T any](ctx context.Context, c *Client, method, path string, body []byte) (T, error) {
	var out T
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return out, c.refusal(resp)
	}
	return out, c.decode(resp.Body, &out)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://defib"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	return resp, nil
}

// broken explains why there is no answer.
func (c *Client) broken(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		_, seen := os.Lstat(c.socket)
		return forbidden(c.socket, seen)
	case errors.As(err, &op) && op.Op == "dial":
		return &UnreachableError{
			Text: "no defib answers on " + c.socket,
			Hint: "start it by `defib run`, or name its socket by --socket", Err: err,
		}
	}
	return &UnreachableError{Text: "the daemon on " + c.socket + " did not finish its answer", Hint: "it may just have stopped; see its log", Err: err}
}

// forbidden explains why this user may not use the socket. seen is what a look
// at it gave: that may be forbidden, too, by a directory on the way.
func forbidden(socket string, seen error) *PermissionError {
	hint := "use sudo, or set api.group to a group of yours and restart defib"
	if errors.Is(seen, fs.ErrPermission) {
		hint = "use sudo, or give defib a place of the socket that is open to you by --socket, and a group of yours by api.group"
	}
	return &PermissionError{Text: "you may not use the socket " + socket, Hint: hint}
}

func (c *Client) decode(r io.Reader, v any) error {
	if err := json.NewDecoder(r).Decode(v); err != nil {
		return &UnreachableError{Text: "what answers on " + c.socket + " is no defib of this version", Hint: "see `defib version`", Err: err}
	}
	return nil
}

// refusal reads why the daemon said no.
func (c *Client) refusal(resp *http.Response) error {
	var p problem
	if err := c.decode(resp.Body, &p); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotFound {
		return &UnknownError{Text: p.Error, Hint: p.Hint}
	}
	return &RefusedError{Code: resp.StatusCode, Text: p.Error, Hint: p.Hint}
}
