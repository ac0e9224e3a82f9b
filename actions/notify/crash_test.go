package notify

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// crashing keeps the outbox as it was when the service had taken a message and
// defib did not know yet: what `kill -9` leaves then.
type crashing struct {
	*fakeSink
	t    *testing.T
	file string // of the outbox
	left [][]byte
}

func (c *crashing) Send(ctx context.Context, m Message) (Receipt, error) {
	ref, err := c.fakeSink.Send(ctx, m)
	b, errRead := os.ReadFile(c.file)
	if errRead != nil {
		c.t.Error(errRead)
	}
	c.left = append(c.left, b)
	return ref, err
}

// A kill between the sending of any message of an incident's life and its record
// repeats that one message at most, and loses none: neither the call nor the
// end.
func TestKilledBetweenSendAndRecord(t *testing.T) {
	for _, class := range []Class{Threaded, Append, Alert} {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				whole, dir := &crashing{fakeSink: &fakeSink{class: class, start: time.Now()}, t: t}, t.TempDir()
				whole.file = filepath.Join(dir, outboxFile)
				d := newDesk(t)
				d.o.Channels, d.o.Dir = []Channel{{Name: "c", Sink: whole, MinLevel: policy.LevelWarn}}, dir
				d.open()
				var at []policy.Incident // what was committed when each message was sent
				pageLife(d, func(x policy.Incident) {
					for len(at) < len(whole.left) {
						at = append(at, x)
					}
				})
				d.kill()
				if len(whole.left) < 3 {
					t.Fatalf("the whole life has only %q", whole.got)
				}
				for i := range whole.left {
					afterCrash(t, class, whole, i, at[i])
				}
			})
		})
	}
}

// pageLife has an incident happen; told is called when all that its newest revision
// leads to was sent.
func pageLife(d *desk, told func(policy.Incident)) {
	x := trouble("INC-1", policy.LevelWarn)
	for _, next := range []func(policy.Incident) policy.Incident{
		func(x policy.Incident) policy.Incident { return x },
		func(x policy.Incident) policy.Incident { return grow(x, "restart") },
		page,
		over,
	} {
		x = next(x)
		d.commit(x)
		d.wait(15 * time.Minute)
		told(x)
	}
}

// afterCrash starts anew with what was on disk after the i-th message was sent,
// when x was committed, and lives on to the end.
func afterCrash(t *testing.T, class Class, whole *crashing, i int, x policy.Incident) {
	t.Helper()
	c := Channel{Name: "c", Sink: &fakeSink{class: class}, MinLevel: policy.LevelWarn}
	d := newDesk(t, c)
	d.o.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(d.o.Dir, outboxFile), whole.left[i], 0o600); err != nil {
		t.Fatal(err)
	}
	d.arch.all[x.ID] = x
	d.open()
	defer d.kill()
	d.wait(15 * time.Minute)
	if x.Closed.IsZero() {
		if x.Level != policy.LevelPage {
			x = page(x)
			d.commit(x)
			d.wait(15 * time.Minute)
		}
		d.commit(over(x))
		d.wait(15 * time.Minute)
	}
	killed, before := whole.got[i], strings.Join(whole.got[:i+1], "\n")
	after := strings.Join(sinkOf(c).take(), "\n")
	for _, kind := range []Kind{KindPost, KindEscalate, KindResolve} {
		word, most := " "+string(kind)+" ", 1
		if strings.Contains(killed, word) {
			most = 2
		}
		if n := strings.Count(before+"\n"+after, word); n == 0 || n > most {
			t.Errorf("killed after %q: %d of %s, want at most %d, in\n%s\nand then\n%s", killed, n, kind, most, before, after)
		}
	}
}
