// Fakeinfer stands in for an inference server in demos and tests. It loads
// slowly, answers like a small vLLM, and fails on demand. It is one static
// binary without dependencies, made for an image that holds nothing else.
//
//	fakeinfer          serve; the container's main process
//	fakeinfer health   ask the server on loopback; the image's HEALTHCHECK
//	fakeinfer worker   do nothing until a signal ends it
//
// It serves
//
//	GET  /health          503 while it loads or is told to be unhealthy, else 200
//	GET  /metrics         request and token counters under vLLM's names
//	POST /v1/completions  an OpenAI-like answer; the counters advance
//	POST /control/NAME    do NAME (below); the body is its argument
//
// # Failures
//
// Each has a name, and most take an argument:
//
//	crash [CODE]      exit at once with CODE, 1 if not given
//	exit [CODE]       the same with 0 if not given
//	oom [MIB]         take memory until killed, or until MIB (512) are taken
//	deaf              ignore SIGTERM from now on
//	unhealthy [TEXT]  /health answers 503, with TEXT
//	hang              accept requests and never answer; the check runs out of time
//	flap [PERIOD|N]   turn unhealthy and healthy in turns of PERIOD (2s), or of N checks
//	recover           end unhealthy, hang, flap and deaf
//	worker [NAME]     start a child, a worker of that name, and carry on when it ends
//	say TEXT          write TEXT to the log
//
// A name is told by POST /control/NAME, or, for a container without a network,
// by a file NAME in the folder FAKE_CTL whose content is the argument. Several
// servers may share a folder. What was told before a server started does not
// count for it, so a restart cures everything, unless FAKE_STICKY=1.
//
// In that folder it writes a file up-HOSTNAME when it starts.
//
// The file fail-start is the exception: while it exists every start ends at
// once, with its content as the exit code (1 if empty).
//
// # Environment
//
//	FAKE_ADDR         listen address; :8000
//	FAKE_MODEL        model name in answers and metrics; fake-7b
//	FAKE_LOAD         time from start to ready; 0s
//	FAKE_DELAY        time that a completion takes; 0s
//	FAKE_SLOTS        completions at a time, the others wait; 4
//	FAKE_CTL          folder of control files; none
//	FAKE_STICKY       1: what was told before the start counts too
//	FAKE_FAIL_STARTS  the first N starts of a container end with exit code …
//	FAKE_FAIL_CODE    … this; 1
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startsFile counts the starts of one container. It lies in the container's
// own layer: a restart keeps it, a new container begins anew.
const startsFile = "/fakeinfer-starts"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "health" {
		os.Exit(health(context.Background(), env("FAKE_ADDR", ":8000"), os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(work())
	}
	os.Exit(serve(slog.New(slog.NewTextHandler(os.Stdout, nil))))
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// health is the HEALTHCHECK: 0 when the server says 200, else 1. It has no
// time limit of its own, so that a server that hangs makes the check hang.
func health(ctx context.Context, addr string, out io.Writer) int {
	_, port, _ := net.SplitHostPort(addr)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/health", nil)
	if err != nil {
		fmt.Fprintln(out, err)
		return 1
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Fprintln(out, err)
		return 1
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	fmt.Fprintln(out, strings.TrimSpace(string(body)))
	if resp.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

// serve runs the server until a signal or a control ends it and returns the
// exit code.
func serve(log *slog.Logger) int {
	dir := os.Getenv("FAKE_CTL")
	started, err := announce(dir)
	if err != nil {
		log.Error("announce the start", "dir", dir, "err", err)
		return 1
	}
	if code, failed := failStart(dir); failed {
		log.Error("start failed", "code", code)
		return code
	}
	ctl := newControl(dir, started, os.Getenv("FAKE_STICKY") == "1")
	srv, err := newServer(ctl, started)
	if err != nil {
		log.Error("settings", "err", err)
		return 2
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", env("FAKE_ADDR", ":8000"))
	if err != nil {
		log.Error("listen", "err", err)
		return 1
	}
	log.Info("loading", "model", srv.model, "takes", srv.load)
	go func() { // ends with the process, which is what ends all of this
		err := (&http.Server{Handler: srv.routes(), ReadHeaderTimeout: time.Minute}).Serve(l)
		log.Error("serve", "err", err)
	}()
	if err := ctl.watch(log); err != nil {
		log.Error("watch control files", "dir", dir, "err", err)
		return 1
	}
	return wait(ctl, log)
}

// announce writes the file that says that the server started, and returns
// when: by the clock of files, which lags the other one by some milliseconds.
func announce(dir string) (time.Time, error) {
	if dir == "" {
		return time.Now(), nil
	}
	host, err := os.Hostname()
	if err != nil {
		return time.Time{}, err
	}
	// Renamed into place: whoever sees it may tell something at once, and that
	// must not be older than the file.
	hidden, path := filepath.Join(dir, ".up-"+host), filepath.Join(dir, "up-"+host)
	if err := os.WriteFile(hidden, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(hidden)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), os.Rename(hidden, path)
}

// wait returns the exit code that a signal or a control asks for.
func wait(ctl *control, log *slog.Logger) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	for {
		select {
		case s := <-signals:
			if ctl.on("deaf") {
				log.Warn("signal ignored", "signal", s)
				continue
			}
			log.Info("stopping", "signal", s)
			return 0
		case code := <-ctl.exit:
			log.Error("exiting as told", "code", code)
			return code
		}
	}
}

// failStart says whether this start is one of those that fail.
func failStart(dir string) (code int, failed bool) {
	if dir != "" {
		arg, err := os.ReadFile(dir + "/fail-start")
		if err == nil {
			return number(string(arg), 1), true
		}
		if !errors.Is(err, os.ErrNotExist) {
			return 1, true
		}
	}
	limit := number(os.Getenv("FAKE_FAIL_STARTS"), 0)
	if limit == 0 {
		return 0, false
	}
	made, _ := os.ReadFile(startsFile)
	n := number(string(made), 0)
	if err := os.WriteFile(startsFile, []byte(strconv.Itoa(n+1)), 0o600); err != nil {
		return 1, true
	}
	return number(os.Getenv("FAKE_FAIL_CODE"), 1), n < limit
}

func number(s string, otherwise int) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return otherwise
	}
	return n
}
