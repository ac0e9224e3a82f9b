// Package nvml asks the NVIDIA driver how the GPUs are. The driver's library
// runs in a child process, since a hung call, a missing symbol or a driver that
// was replaced would otherwise take defib with it: [Serve] is the child and
// [Probe] its owner.
package nvml

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// Options is what a Probe is made of. Command must be set; the rest has
// defaults.
type Options struct {
	Command []string // the child: this very program, gpu-probe and its flags
	Env     []string // what the child gets beside our own environment

	Every          time.Duration // between two looks at all GPUs; 5 s
	ProcessesEvery time.Duration // between two lists of their processes, which take the driver's lock; 15 s
	Deadline       time.Duration // in which the child must say something while it has work; 5 s

	Process    func(pid int) gpu.Process // whose process it is; nil: nobody knows
	Blind      func() string             // why processes cannot be told apart; nil: they can
	Apart      func() bool               // whether a human may be about to reset a GPU, see apart.go; nil: never
	DevicePath string                    // exists where a driver is; /dev/nvidiactl
	PCIPath    string                    // the kernel's list of devices; /sys/bus/pci/devices

	Log *slog.Logger
	Now func() time.Time // the loop's clock

	Backoff     time.Duration // before a dead child is started again, doubling …; 1 s
	BackoffMax  time.Duration // … up to this; 5 min
	Steady      time.Duration // a child that lived for it starts the backoff anew; 60 s
	Look        time.Duration // between two looks whether the driver came, or its mismatch went; 30 s
	LookLibrary time.Duration // the same when the device is there and the library is not; 10 min
	Grace       time.Duration // in which a killed child must be gone; 2 s
	ApartEvery  time.Duration // between two looks while the driver is let go; 30 s
	Cool        time.Duration // for which a GPU counts as slowed down after it was; 60 s
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = func() time.Time { return time.Now().UTC() }
	}
	if o.Blind == nil {
		o.Blind = func() string { return "" }
	}
	if o.Apart == nil {
		o.Apart = func() bool { return false }
	}
	o.DevicePath = cmp.Or(o.DevicePath, "/dev/nvidiactl")
	o.PCIPath = cmp.Or(o.PCIPath, busPath)
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Every, 5 * time.Second},
		{&o.ProcessesEvery, 15 * time.Second},
		{&o.Deadline, 5 * time.Second},
		{&o.Backoff, time.Second},
		{&o.BackoffMax, 5 * time.Minute},
		{&o.Steady, time.Minute},
		{&o.Look, 30 * time.Second},
		{&o.LookLibrary, 10 * time.Minute},
		{&o.Grace, 2 * time.Second},
		{&o.ApartEvery, 30 * time.Second},
		{&o.Cool, time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}

// Probe owns the child that talks to the driver. One Watch runs at a time; the
// other methods may be called at any time from anywhere.
type Probe struct {
	o     Options
	kill  func(*os.Process) error // tests cannot make a child that does not die …
	now   func() time.Time        // … nor wait for the pauses between children, of which
	timer func(time.Duration) *time.Timer
	bus   *bus
	mail  *mail
	poke  chan struct{} // something has changed for Watch to look at

	birth sync.Mutex // held while a child is started; before mu

	mu        sync.Mutex // guards what follows, for moments only
	driver    gpu.Driver
	told      []gpu.Device           // those of the newest driver event
	devices   map[string]gpu.Device  // by UUID: every GPU that was ever listed
	readings  map[string]gpu.Reading // the newest, with processes
	reported  map[string]gpu.Reading // the newest that went out as an event
	pasts     map[string]past        // by UUID
	child     *child                 // nil: there is none
	found     chan struct{}          // closed when there is a driver, or was
	turned    chan struct{}          // closed when there is another child, or another state of the driver
	polls     int                    // that are under way
	away      bool                   // the driver is let go between two looks
	released  bool
	abandoned int // children that were killed and do not end
}

// New returns a Probe that has not started; see [Probe.Watch].
func New(o Options) *Probe {
	o = o.withDefaults()
	return &Probe{
		o: o, kill: (*os.Process).Kill, now: time.Now, timer: time.NewTimer,
		bus: newBus(o.PCIPath, ""), mail: newMail(), poke: make(chan struct{}, 1), found: make(chan struct{}), turned: make(chan struct{}),
		devices: map[string]gpu.Device{}, readings: map[string]gpu.Reading{}, reported: map[string]gpu.Reading{}, pasts: map[string]past{},
	}
}

// Latest is the newest that is known of everything, by index. It never blocks
// on the driver.
func (p *Probe) Latest() (gpu.Driver, []gpu.Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []gpu.Reading
	for _, uuid := range p.uuids() {
		if r, ok := p.readings[uuid]; ok {
			r.Processes = slices.Clone(r.Processes)
			out = append(out, r)
		}
	}
	return p.driver, out
}

// Found is closed once there is a driver, though it may hang, or be of another
// version.
func (p *Probe) Found() <-chan struct{} { return p.found }

// uuids are those of all known GPUs, by index. p.mu is held.
func (p *Probe) uuids() []string {
	return slices.SortedFunc(maps.Keys(p.devices), func(a, b string) int {
		return compareDevices(p.devices[a], p.devices[b])
	})
}

// Poll reads GPUs now, all when uuids is empty, with their processes and whose
// they are. A GPU that the driver does not list reads as missing. The error is
// a sentence that says why the driver cannot be asked.
func (p *Probe) Poll(ctx context.Context, uuids []string) ([]gpu.Reading, error) {
	p.begin()
	defer p.end()
	c, err := p.reach(ctx)
	if err != nil {
		return nil, err
	}
	if len(uuids) == 0 {
		p.mu.Lock()
		uuids = p.uuids()
		p.mu.Unlock()
	}
	return p.ask(ctx, c, request{Op: opPoll, UUIDs: uuids, Processes: true})
}

// unreachable is why there is nobody to ask.
func unreachable(d gpu.Driver) error {
	switch {
	case d.Detail == letGo:
		return errReleased
	case d.State == "" || d.State == gpu.DriverUp:
		return errors.New("the NVIDIA driver has not been asked yet")
	}
	return errors.New(d.Detail)
}

// ask has the child read, adds whose the processes are, and keeps the result.
// It may take long; nothing is locked meanwhile.
func (p *Probe) ask(ctx context.Context, c *child, r request) ([]gpu.Reading, error) {
	readings, err := c.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	at := p.o.Now()
	for i := range readings {
		readings[i].At = at
		p.attribute(readings[i].Processes)
		p.unbound(&readings[i])
	}
	p.keep(readings)
	return readings, nil
}

// attribute says of each process what it is and whose.
func (p *Probe) attribute(processes []gpu.Process) {
	if p.o.Process == nil {
		return
	}
	for i := range processes {
		memory := processes[i].Memory
		pid := processes[i].PID
		processes[i] = p.o.Process(pid)
		processes[i].PID, processes[i].Memory = pid, memory
	}
}

// letGo is what people read during a GPU reset.
const letGo = "let go for a GPU reset"

var errHangs = errors.New("the GPU probe does not end: it hangs in the NVIDIA driver, and only a reboot frees the GPUs")

// Release ends the child, so that nothing of ours holds the driver, and starts
// none until [Probe.Resume]. It returns when the child is gone, and with an
// error when it does not go or ctx ends.
func (p *Probe) Release(ctx context.Context) error {
	p.mu.Lock()
	p.released = true
	p.mu.Unlock()
	p.birth.Lock() // one that is just being started is seen
	p.mu.Lock()
	c, stuck := p.child, p.abandoned
	p.mu.Unlock()
	p.birth.Unlock()
	p.wake()
	p.set(gpu.Driver{State: gpu.DriverLost, Detail: letGo}, nil)
	if c != nil {
		c.end()
		select {
		case <-c.gone:
		case <-c.left:
			return errHangs
		case <-ctx.Done():
			return errHangs
		}
	}
	if stuck > 0 {
		return errors.New("an earlier GPU probe hangs in the NVIDIA driver and still holds the GPUs; only a reboot frees them")
	}
	return nil
}

// Resume ends what [Probe.Release] began.
func (p *Probe) Resume() {
	p.mu.Lock()
	p.released = false
	p.mu.Unlock()
	p.wake()
}

func (p *Probe) wake() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}
