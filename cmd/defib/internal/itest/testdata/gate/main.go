// Gate is what runs in the containers of the benchmarks: a server that does
// nothing, and a health check that the benchmark lets fail at a moment of its
// choice, in any number of containers within milliseconds.
//
//	gate serve   the main process; ends at once on SIGTERM, or not with GATE_DEAF=1
//	gate check   the health check
//
// The first check after a start passes. The next one waits, without a sound,
// for a lock on the file /ctl/gate that the benchmark holds, and fails when it
// gets it. With GATE_OPEN=1 every check passes at once.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

const (
	gate    = "/ctl/gate"
	passed  = "/ctl/passed"  // the first check since the start has passed
	waiting = "/ctl/waiting" // a check waits at the gate
)

func main() {
	do := serve
	if len(os.Args) > 1 && os.Args[1] == "check" {
		do = check
	}
	if err := do(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func serve() error {
	for _, path := range []string{passed, waiting} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	for {
		<-signals
		if os.Getenv("GATE_DEAF") != "1" {
			return nil
		}
	}
}

func check() error {
	if os.Getenv("GATE_OPEN") == "1" {
		return nil
	}
	first, err := os.OpenFile(passed, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		return first.Close()
	}
	f, err := os.Open(gate)
	if err != nil {
		return err
	}
	if err := os.WriteFile(waiting, nil, 0o600); err != nil {
		return err
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
	}
	if err != nil {
		return err
	}
	return errors.New("the gate has been opened")
}
