package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// control knows what the server was told, over HTTP and by files.
type control struct {
	dir    string    // of control files; may be empty
	since  time.Time // what was told before does not count
	sticky bool
	exit   chan int // an exit code, once told

	mu    sync.Mutex
	flaps int                  // checks since the first that found it flapping by their number
	told  map[string]order     // over HTTP
	begun map[string]time.Time // the newest of those that are carried out once
}

// order is a name that was told, with its argument.
type order struct {
	arg string
	at  time.Time
}

func newControl(dir string, since time.Time, sticky bool) *control {
	return &control{
		dir: dir, since: since, sticky: sticky, exit: make(chan int, 1),
		told: map[string]order{}, begun: map[string]time.Time{},
	}
}

// tell takes an order as if a file had been written now.
func (c *control) tell(name, arg string) {
	c.mu.Lock()
	c.told[name] = order{arg: arg, at: time.Now()}
	c.mu.Unlock()
	c.act()
}

// find returns the newest order of that name, if it counts.
func (c *control) find(name string) (order, bool) {
	c.mu.Lock()
	newest, ok := c.told[name]
	c.mu.Unlock()
	if c.dir == "" {
		return newest, ok
	}
	path := filepath.Join(c.dir, name)
	info, err := os.Stat(path)
	if err != nil || (!c.sticky && info.ModTime().Before(c.since)) || info.ModTime().Before(newest.at) {
		return newest, ok
	}
	arg, err := os.ReadFile(path)
	return order{arg: strings.TrimSpace(string(arg)), at: info.ModTime()}, err == nil
}

// standing returns the order of that name if nothing ended it.
func (c *control) standing(name string) (order, bool) {
	o, ok := c.find(name)
	if end, ended := c.find("recover"); ended && !end.at.Before(o.at) {
		return order{}, false
	}
	return o, ok
}

func (c *control) on(name string) bool {
	_, ok := c.standing(name)
	return ok
}

// healthy says what /health should say, and why not.
func (c *control) healthy(now time.Time) (bool, string) {
	if o, ok := c.standing("unhealthy"); ok {
		return false, strings.TrimSpace("told to be unhealthy " + o.arg)
	}
	flap, ok := c.standing("flap")
	if !ok {
		return true, ""
	}
	if c.ill(flap, now) {
		return false, "flapping"
	}
	return true, ""
}

// ill reports whether a flapping server is in one of its ill turns.
func (c *control) ill(flap order, now time.Time) bool {
	if turn := number(flap.arg, 0); turn > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flaps++
		return (c.flaps-1)/turn%2 == 0
	}
	period, err := time.ParseDuration(flap.arg)
	if err != nil || period <= 0 {
		period = 2 * time.Second
	}
	return now.Sub(flap.at)/period%2 == 0
}

// act carries out the orders that begin something or end the process.
func (c *control) act() {
	c.begin()
	if o, ok := c.find("oom"); ok {
		go c.end(takeMemory(number(o.arg, 512)))
	}
	for name, code := range map[string]int{"crash": 1, "exit": 0} {
		if o, ok := c.find(name); ok {
			c.end(number(o.arg, code))
		}
	}
}

// end asks for the process to exit; the first code wins.
func (c *control) end(code int) {
	select {
	case c.exit <- code:
	default:
	}
}

// watch acts on control files as they are written, until the process ends. It
// returns as soon as it does.
func (c *control) watch(log *slog.Logger) error {
	if c.dir == "" {
		return nil
	}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := syscall.InotifyAddWatch(fd, c.dir, syscall.IN_CLOSE_WRITE|syscall.IN_MOVED_TO); err != nil {
		return err
	}
	go func() { // ends with the process
		for buf := make([]byte, 64<<10); ; c.act() {
			if _, err := syscall.Read(fd, buf); err != nil && err != syscall.EINTR {
				log.Error("watch control files", "dir", c.dir, "err", err)
				return
			}
		}
	}()
	c.act() // for what was told before the watch stood
	return nil
}

// takeMemory touches that many MiB. Under a memory limit it does not return:
// the kernel ends the process first. The bound spares a host without one.
func takeMemory(mib int) int {
	taken := make([][]byte, 0, mib)
	for range mib {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		taken = append(taken, block)
	}
	runtime.KeepAlive(taken)
	return 128 + int(syscall.SIGKILL)
}
