package nvml

import "github.com/defib-dev/defib/gpu"

// The words of the two sides. Each line is one JSON object. The child begins
// with a driver line and ends after one whose driver is not up.
const (
	opDriver  = "driver"  // child: Driver, Code, and Devices when it is up: at its start and when they changed
	opWorking = "working" // child: it lists the GPUs and has come to Place; or, with ID, it reads those of a poll
	opReading = "reading" // child: Reading, for the poll ID, or, when that is 0, of its own accord
	opDone    = "done"    // child: all readings of the poll ID are sent
	opFault   = "fault"   // child: Fault
	opLook    = "look"    // child: something has happened to a GPU, a poll would tell more
	opPoll    = "poll"    // parent: ID, UUIDs, Processes, List
)

// message is a line of the child.
type message struct {
	Op      string       `json:"op"`
	ID      uint64       `json:"id,omitempty"`
	Driver  *gpu.Driver  `json:"driver,omitempty"`
	Code    int          `json:"code,omitempty"` // of NVML, when the driver is not up
	Devices []gpu.Device `json:"devices,omitempty"`
	Place   int          `json:"place,omitempty"` // 1 is the GPU with the index 0
	Reading *gpu.Reading `json:"reading,omitempty"`
	Fault   *gpu.Fault   `json:"fault,omitempty"`
}

// request is a line of the parent.
type request struct {
	Op        string   `json:"op"`
	ID        uint64   `json:"id"`
	UUIDs     []string `json:"uuids,omitempty"`     // none: all that the driver lists
	Processes bool     `json:"processes,omitempty"` // list them, which is dear: it takes the driver's lock
	List      bool     `json:"list,omitempty"`      // look first for GPUs and instances that came or went
}

// maxLine bounds a line of either side, in bytes: 1024 processes on one GPU,
// or 64 GPUs with all their instances, fit.
const maxLine = 1 << 20
