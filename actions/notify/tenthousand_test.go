//go:build !race

// The race detector has memory of its own, and makes the drain take minutes:
// `make race` runs these tests without it.

package notify

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTenThousandWaitingAreSmall(t *testing.T) {
	for what, got := range map[string]uint64{"incidents": bytesOf10k(t), "edits": bytesOf10kThreads(t)} {
		t.Logf("10 000 waiting %s take %d KiB", what, got>>10)
		if got > 20<<20 {
			t.Errorf("10 000 waiting %s take %d KiB, want less than 20 MiB", what, got>>10)
		}
	}
}

// clocked is a service that writes down when it was sent something.
type clocked struct {
	class Class
	at    []time.Time
}

func (c *clocked) Class() Class { return c.class }

func (c *clocked) Send(context.Context, Message) (Receipt, error) {
	c.at = append(c.at, time.Now())
	return nil, nil
}

// What waits goes as fast as the channel may, and never faster: no span of the
// limit ever holds more than it allows, which costs a fifth or a quarter.
func TestTenThousandDrainAtTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		class Class
		count int
		rate  Rate
	}{
		"documents": {Feed, 10_000, Rate{N: 5, Per: time.Second}},
		"edits":     {Threaded, 1_000, Rate{N: 40, Per: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				s, dir, all := &clocked{class: c.class}, t.TempDir(), endless{time.Now()}
				if c.class == Threaded {
					threadsOf(t, dir, c.count, all)
				}
				o := plainOptions(dir, all, s, Limit{})
				o.RemindAfter = -1
				start := time.Now()
				n := started(t, o)
				n.Wake(ids(c.count))
				ideal := time.Duration(c.count) * c.rate.Per / time.Duration(c.rate.N)
				time.Sleep(2 * ideal)
				synctest.Wait()
				if len(s.at) != c.count {
					t.Fatalf("%d messages were sent, want %d", len(s.at), c.count)
				}
				if took := s.at[c.count-1].Sub(start); took > ideal*3/2 {
					t.Errorf("it took %v, and %v at the limit itself", took, ideal)
				}
				neverFaster(t, s.at, c.rate)
			})
		})
	}
}

func neverFaster(t *testing.T, at []time.Time, r Rate) {
	t.Helper()
	for i := r.N; i < len(at); i++ {
		if took := at[i].Sub(at[i-r.N]); took < r.Per {
			t.Fatalf("%d messages were sent within %v, want at most %d in %v", r.N+1, took, r.N, r.Per)
		}
	}
}
