package notify

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// A page that waited over a restart calls for what is down when its container
// has been looked at again, once, and not for what is well by then. Until then
// its state is unknown.
func TestAPageThatWaitedOverARestart(t *testing.T) {
	down, up := policy.Status{State: policy.Fatal}, policy.Status{State: policy.Running, Rule: "running"}
	type calls map[Class][]string
	for name, c := range map[string]struct {
		unit policy.Status
		look time.Duration // how long it takes
		want calls
	}{
		"well": {up, 2 * time.Second, calls{Threaded: {"1m2s post INC-1 page"}, Append: {"1m2s post INC-1 page"}}},
		"down": {down, 2 * time.Second, calls{
			Threaded: {"1m2s post INC-1 page !"}, Append: {"1m2s post INC-1 page !"}, Alert: {"1m2s post INC-1 page !"}, Feed: {"1m2s post INC-1 page !"},
		}},
		"not to be looked at": {down, time.Hour, calls{
			Threaded: {"1m30s post INC-1 page !"}, Append: {"1m30s post INC-1 page !"}, Alert: {"1m30s post INC-1 page !"}, Feed: {"1m30s post INC-1 page !"},
		}},
	} {
		for _, class := range []Class{Threaded, Append, Alert, Feed} {
			t.Run(name+" "+string(class), func(t *testing.T) {
				in(t, func(t *testing.T) {
					ch := to("c", class, policy.LevelWarn)
					d := newDesk(t, ch)
					d.o.Dir = t.TempDir()
					var unit atomic.Pointer[policy.Status]
					unit.Store(&policy.Status{State: policy.Fatal})
					d.o.Story = func(in policy.Incident) Story { return Story{Host: "gpu-03", Incident: in, Unit: unit.Load()} }
					d.open()
					sinkOf(ch).failing(failWith(ReasonServer, 0))
					d.commit(trouble("INC-1", policy.LevelPage))
					d.wait(time.Minute)
					d.kill()
					sinkOf(ch).failing(nil)
					unit.Store(&policy.Status{State: policy.Unknown})
					var looked atomic.Bool
					d.o.Settled = looked.Load
					d.open()
					defer d.kill()
					d.wait(min(c.look, settleMost))
					unit.Store(&c.unit)
					looked.Store(c.look < settleMost)
					d.wait(10 * time.Minute)
					if want := c.want[class]; class != Feed || want != nil {
						d.sent(ch, want...)
					}
				})
			})
		}
	}
}

// Nothing of what is there is edited until then, either; and what is wrong with
// defib itself does not wait.
func TestWhatDoesAndDoesNotWaitForTheFirstLook(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Threaded, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x)
		d.wait(time.Minute)
		d.kill()
		sinkOf(c).take()
		var looked atomic.Bool
		d.o.Settled = looked.Load
		d.open()
		defer d.kill()
		x = grow(x, "restart")
		d.commit(x, trouble("INC-2", policy.LevelWarn))
		d.n.Alarm("the disk is full")
		d.wait(10 * time.Second)
		d.sent(c, "1m0s alarm !")
		d.commit(over(x))
		looked.Store(true)
		d.wait(5 * time.Second)
		d.sent(c, "1m10s post INC-2 warn", "1m10s resolve INC-1 warn over re:1", "1m11s step INC-1 warn over re:1 restart recovered")
	})
}

// Nor does a storm or a group call for containers that all work again; one that
// does not is enough.
func TestNobodyIsCalledForAGroupThatWorksAgain(t *testing.T) {
	for name, begin := range map[string]func() []policy.Incident{
		"storm": func() []policy.Incident { return many(9, policy.LevelPage) },
		"group": func() []policy.Incident {
			parent, x, y := family()
			parent.Unit = ""
			return []policy.Incident{parent, page(x), page(y)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("c", Append, policy.LevelWarn)
				d := newDesk(t, c)
				d.o.Render = mustWords(t, "en", nil).Render
				var down atomic.Value // the unit that does not work
				down.Store("")
				d.o.Story = func(in policy.Incident) Story {
					s := Story{Host: "gpu-03", Incident: in}
					if in.Unit != "" && in.Unit != down.Load().(string) {
						s.Unit = &policy.Status{State: policy.Running, Rule: "running"}
					}
					return s
				}
				d.open()
				defer d.kill()
				all := begin()
				d.commit(all...)
				d.wait(10 * time.Minute)
				for _, m := range sinkOf(c).msgs {
					if m.Text.Urgent || strings.Contains(m.Text.Title, "NEEDS YOU") {
						t.Errorf("it calls: %s", m.Text.Title)
					}
				}
				if len(sinkOf(c).take()) == 0 {
					t.Error("nothing is told")
				}
				down.Store(all[2].Unit)
				d.wait(10 * time.Minute)
				if got := strings.Join(sinkOf(c).take(), "\n"); strings.Count(got, "!") != 1 {
					t.Errorf("sent %q, want one call", got)
				}
			})
		})
	}
}
