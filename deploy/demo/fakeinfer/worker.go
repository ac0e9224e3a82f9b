package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// begin carries out the orders that begin something, each once.
func (c *control) begin() {
	if o, ok := c.once("worker"); ok {
		if err := startWorker(o.arg); err != nil {
			fmt.Println("start a worker:", err)
		}
	}
	if o, ok := c.once("say"); ok {
		fmt.Println(o.arg)
	}
}

// once returns the newest order of that name, if it counts and was not carried
// out before.
func (c *control) once(name string) (order, bool) {
	o, ok := c.find(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok || !o.at.After(c.begun[name]) {
		return order{}, false
	}
	c.begun[name] = o.at
	return o, true
}

// startWorker starts a child, as servers have one for each GPU. Its name is
// what it shows in a list of processes.
func startWorker(name string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "worker", name) //nolint:noctx,gosec // it ends with the server, which is process 1
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the child, which must not stay behind as a zombie
		fmt.Printf("the worker %q has ended: %v\n", name, cmd.Wait())
	}()
	return nil
}

// work is a worker: it does nothing until a signal ends it.
func work() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	return 0
}
