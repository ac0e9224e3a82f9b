package kmsg

import (
	"log/slog"
	"time"

	"github.com/defib-dev/defib/gpu"
)

const (
	window   = time.Second
	mostEach = 50   // faults of one GPU in a window
	keysMax  = 4096 // remembered at most
)

// sieve thins out a storm: a GPU that is dying can write thousands of lines in
// a second, and each fault costs a judgement.
type sieve struct {
	last  map[key]time.Time // when its like was last let through
	each  map[string]count  // by PCI address
	left  int               // out, since it was last said
	spoke time.Time
}

// key is what makes two faults the same: all that a judgement looks at.
type key struct {
	pci              string
	kind             gpu.FaultKind
	code, pid        int
	gi, ci           int
	onMIG            bool
	severity         gpu.Severity
	recovery, caused int
	reset, drain     int8
	historic         bool
}

// count is how many faults a GPU had since from.
type count struct {
	from time.Time
	n    int
}

func newSieve() sieve { return sieve{last: map[key]time.Time{}, each: map[string]count{}} }

func keyOf(f gpu.Fault) key {
	k := key{
		pci: f.PCI, kind: f.Kind, code: f.Code, pid: f.PID, gi: f.GI, ci: f.CI, onMIG: f.OnMIG, severity: f.Severity,
		recovery: -1, caused: f.Caused, reset: tristate(f.Reset), drain: tristate(f.Drain), historic: f.Historic,
	}
	if f.Recovery != nil {
		k.recovery = int(*f.Recovery)
	}
	return k
}

func tristate(b *bool) int8 {
	switch {
	case b == nil:
		return -1
	case *b:
		return 1
	}
	return 0
}

// admit reports whether a fault is to be sent.
func (s *sieve) admit(f gpu.Fault) bool {
	k := keyOf(f)
	if last, ok := s.last[k]; ok && f.At.Sub(last).Abs() < window {
		s.left++
		return false
	}
	c := s.each[f.PCI]
	if f.At.Sub(c.from).Abs() >= window {
		c = count{from: f.At}
	}
	if c.n >= mostEach {
		s.left++
		return false
	}
	c.n++
	s.bound(f.At)
	s.last[k], s.each[f.PCI] = f.At, c
	return true
}

// bound forgets what is too old to matter, and, at worst, everything.
func (s *sieve) bound(now time.Time) {
	if len(s.last) < keysMax && len(s.each) < keysMax {
		return
	}
	for k, at := range s.last {
		if now.Sub(at).Abs() >= window {
			delete(s.last, k)
		}
	}
	if len(s.last) >= keysMax {
		clear(s.last)
	}
	clear(s.each)
}

// report says it, at most once in a window.
func (s *sieve) report(log *slog.Logger, now time.Time) {
	if s.left > 0 && now.Sub(s.spoke) >= window {
		s.spoke = now
		s.say(log)
	}
}

// say tells how many were left out.
func (s *sieve) say(log *slog.Logger) {
	if s.left > 0 {
		log.Warn("a storm of GPU faults in the kernel log: those that repeat, or are too many, are left out", "left_out", s.left)
		s.left = 0
	}
}
