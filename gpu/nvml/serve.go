//go:build cgo

package nvml

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/defib-dev/defib/gpu"
)

// built: there is a child that can talk to the driver.
const built = true

// errStuck: a call into the library does not return, so a goroutine is left
// behind. The process must end now.
var errStuck = errors.New("a call into the NVIDIA driver does not return")

// server is the child: it holds the library and answers polls.
type server struct {
	o    ServeOptions
	lib  nvml.Interface
	out  *output
	bus  *bus
	has  map[string]bool // symbols of the library; filled before anything runs beside
	list []*device       // as the driver lists them, then those that only the bus knows

	partial bool            // the driver shows only some of the GPUs
	watched map[string]bool // by address: those whose events are waited for
}

// Serve talks to the driver on behalf of a [Probe]: JSON lines come in and go
// out. It returns when in ends, ctx ends, or the driver cannot be asked, which
// it has said then. Nothing else may write to out.
func Serve(ctx context.Context, in io.Reader, out io.Writer, o ServeOptions) error {
	o = o.withDefaults()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &server{o: o, lib: newLibrary(o.Library), out: &output{to: json.NewEncoder(out)}, bus: newBus(o.PCIPath, o.ProcPath), watched: map[string]bool{}}
	requests := make(chan request, 2*maxPending)
	go receive(in, requests, stop) // ends with in, which ends with our owner
	done := make(chan error, 1)
	go func() { done <- s.run(ctx, requests) }() // awaited, unless the driver never returns
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(o.Wait + o.Grace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		return errStuck
	}
}

func newLibrary(path string) nvml.Interface {
	if path == "" {
		return nvml.New()
	}
	return nvml.New(nvml.WithLibraryPath(path))
}

// receive reads the owner's lines. When there are no more the owner is gone,
// which must be seen while the driver hangs: so it never waits for run.
func receive(in io.Reader, requests chan<- request, stop func()) {
	defer stop()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			return
		}
		select {
		case requests <- r:
		default: // our owner has never more than maxPending on their way
			return
		}
	}
}

// run is the child's life.
func (s *server) run(ctx context.Context, requests <-chan request) error {
	if ret := s.lib.Init(); ret != nvml.SUCCESS {
		return s.down(int(ret))
	}
	s.symbols()
	defer s.lib.Shutdown()
	if code := s.enumerate(); code != 0 {
		return s.down(code)
	}
	if err := s.out.say(s.up()); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	for {
		s.watchAll(ctx, &watchers) // those that came with the newest poll, too
		select {
		case <-ctx.Done():
			return nil
		case r := <-requests:
			if code, err := s.poll(r); err != nil {
				return err
			} else if code != 0 {
				return s.down(code)
			}
		}
	}
}

// down says that the driver cannot be asked, which ends the child.
func (s *server) down(code int) error {
	d := driverOf(code)
	return s.out.say(message{Op: opDriver, Driver: &d, Code: code})
}

// up says which GPUs there are.
func (s *server) up() message {
	version, ret := s.lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		version = ""
	}
	m := message{Op: opDriver, Driver: &gpu.Driver{State: gpu.DriverUp, Version: version, Partial: s.partial}}
	for _, d := range s.list {
		m.Devices = append(m.Devices, d.Device)
	}
	return m
}

// poll answers one request, each GPU as it is read. code is that of a driver
// which is gone.
func (s *server) poll(r request) (code int, err error) {
	if r.List {
		if code, err := s.refresh(); code != 0 || err != nil {
			return code, err
		}
	}
	if err := s.out.say(message{Op: opWorking, ID: r.ID}); err != nil {
		return 0, err
	}
	for _, d := range s.wanted(r.UUIDs) {
		reading, code := s.read(d, r.Processes)
		if code != 0 {
			return code, nil
		}
		if err := s.out.say(message{Op: opReading, ID: r.ID, Reading: &reading}); err != nil {
			return 0, err
		}
	}
	return 0, s.out.say(message{Op: opDone, ID: r.ID})
}

// refresh looks for GPUs and instances that came or went.
func (s *server) refresh() (code int, err error) {
	before, partial := s.list, s.partial
	if code := s.enumerate(); code != 0 {
		return code, nil
	}
	if sameList(before, s.list) && partial == s.partial {
		return 0, nil
	}
	return 0, s.out.say(s.up())
}

// wanted finds the GPUs that are asked for; one that is not listed is in it
// without a handle.
func (s *server) wanted(uuids []string) []*device {
	if len(uuids) == 0 {
		return s.list
	}
	out := make([]*device, 0, len(uuids))
	for _, uuid := range uuids {
		out = append(out, s.find(uuid))
	}
	return out
}

// output writes lines; the watchers of events write beside the poll.
type output struct {
	mu sync.Mutex
	to *json.Encoder
}

func (o *output) say(m message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Encode(m)
}
