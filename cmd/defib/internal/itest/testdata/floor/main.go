// Floor is the least that a program can do which restarts unhealthy containers:
// one event stream that the engine filters, one goroutine for each restart, no
// policy, no memory, no second look. What defib takes is measured beside it.
//
//	floor SOCKET [RESTARTS AT A TIME]
//
// It prints a line when it watches, and ends when the stream does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: floor SOCKET [RESTARTS AT A TIME]")
	}
	slots := 1 << 20
	if len(args) > 1 {
		var err error
		if slots, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
	}
	f := &floor{slots: make(chan struct{}, slots)}
	f.http.Transport = &http.Transport{MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", args[0])
	}}
	return f.watch()
}

type floor struct {
	http  http.Client
	slots chan struct{}
}

func (f *floor) watch() error {
	events, err := f.call("GET", "/events", `{"type":["container"],"event":["health_status"]}`)
	if err != nil {
		return err
	}
	defer events.Close()
	if err := f.list(); err != nil {
		return err
	}
	fmt.Println("watching")
	for in := json.NewDecoder(events); ; {
		var ev struct {
			Action string
			Actor  struct{ ID string }
		}
		if err := in.Decode(&ev); err != nil {
			return err
		}
		if ev.Action == "health_status: unhealthy" {
			go f.restart(ev.Actor.ID)
		}
	}
}

// list restarts what is unhealthy already.
func (f *floor) list() error {
	body, err := f.call("GET", "/containers/json", `{"health":["unhealthy"]}`)
	if err != nil {
		return err
	}
	defer body.Close()
	var sick []struct{ ID string }
	if err := json.NewDecoder(body).Decode(&sick); err != nil {
		return err
	}
	for _, c := range sick {
		go f.restart(c.ID)
	}
	return nil
}

func (f *floor) restart(id string) {
	f.slots <- struct{}{}
	defer func() { <-f.slots }()
	body, err := f.call("POST", "/containers/"+id+"/restart", "")
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		return
	}
	body.Close()
}

func (f *floor) call(method, path, filters string) (io.ReadCloser, error) {
	q := "http://engine" + path
	if filters != "" {
		q += "?filters=" + url.QueryEscape(filters)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, q, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return resp.Body, nil
}
