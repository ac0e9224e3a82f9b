package notify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Heartbeat tells a service such as healthchecks.io that defib is alive. When
// it no longer hears so, that service calls somebody: it is the only way to
// learn of a host that is gone. When Alive says no, nothing is sent.
type Heartbeat struct {
	URL   string
	Every time.Duration // 0: a minute
	Alive func() error  // nil: always
	Note  func() string // what whoever looks at that service should know; nil, or empty: nothing
	HTTP  *http.Client  // nil: one with a deadline
	Log   *slog.Logger
}

// Check says whether URL can be asked; its error does not show it.
func (h Heartbeat) Check() error {
	_, err := webURL("heartbeat", h.URL)
	return err
}

// Run sends a heartbeat as soon as all is alive and then at each interval, until
// ctx ends. Why none arrives is logged when it changes, after a first interval
// in which defib may still be starting.
func (h Heartbeat) Run(ctx context.Context) {
	client, last := httpClient(h.HTTP), ""
	every := h.Every
	if every <= 0 {
		every = time.Minute
	}
	await(ctx, every, beatLook, func() bool { return h.Alive == nil || h.Alive() == nil })
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := h.beat(ctx, client)
		if ctx.Err() != nil {
			return
		}
		last = h.tell(ctx, last, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const beatLook = time.Second // from one look at a start to the next

func (h Heartbeat) tell(ctx context.Context, last string, err error) string {
	now := beatTrouble(err)
	switch now {
	case last:
	case "":
		h.Log.InfoContext(ctx, "the heartbeat is sent again")
	default:
		h.Log.WarnContext(ctx, "no heartbeat is sent; its service will call somebody", "err", err)
	}
	return now
}

// beatTrouble names what is wrong without what differs each time, such as the
// port of a connection.
func beatTrouble(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return string(e.Reason)
	}
	return err.Error()
}

// errBeat keeps a nil [Error] from becoming an error that is not nil.
func errBeat(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

func (h Heartbeat) beat(ctx context.Context, client *http.Client) error {
	if h.Alive != nil {
		if err := h.Alive(); err != nil {
			return err
		}
	}
	u, err := webURL("heartbeat", h.URL)
	if err != nil {
		return err
	}
	note := ""
	if h.Note != nil {
		note = h.Note()
	}
	e := h.ask(ctx, client, u, note)
	if note != "" && e != nil && e.Reason != ReasonNetwork && e.Reason != ReasonTimeout && ctx.Err() == nil {
		e = h.ask(ctx, client, u, "") // not every such service takes a text
	}
	return errBeat(e)
}

// ask sends one heartbeat. Most services keep the body of a POST and show it.
func (h Heartbeat) ask(ctx context.Context, client *http.Client, u *url.URL, note string) *Error {
	method := http.MethodGet
	if note != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(note))
	if err != nil {
		return &Error{Reason: ReasonClient, Err: errors.New("the URL of the heartbeat cannot be asked")}
	}
	req.Header.Set("User-Agent", "defib")
	if note != "" {
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	res, err := client.Do(req)
	if err != nil {
		return classifyErr(err, keyParts(u)...)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // so that the connection can be used again
	return classifyStatus(res.StatusCode, res.Header)
}
