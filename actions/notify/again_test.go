package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// What was over and begins anew under its old message is said where people see
// it: once an hour however often it flaps, and not of what is repaired quietly.
func TestWhatBeginsAnewIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		level policy.Level
		want  string
	}{
		"a warning": {policy.LevelWarn, "4m50s 1h4m50s 2h4m50s"},
		"quiet":     {policy.LevelInfo, ""},
		"a page":    {policy.LevelPage, ""}, // it calls, which is seen
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", Threaded, policy.LevelInfo)
				d := newDesk(t, ch).open()
				defer d.kill()
				d.commit(over(trouble("INC-0", policy.LevelWarn)))
				for i := range 30 { // 2 h 30 min
					d.wait(5*time.Minute - 10*time.Second)
					x := trouble(fmt.Sprintf("INC-%d", i+1), c.level)
					x.Root, x.Times = "INC-0", i+2
					d.commit(x)
					d.wait(10 * time.Second)
					d.commit(over(x))
				}
				var at []string
				for _, line := range sinkOf(ch).take() {
					if when, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "again ") {
						at = append(at, when)
					}
				}
				if got := strings.Join(at, " "); got != c.want {
					t.Errorf("said at %s, want %s", got, c.want)
				}
			})
		})
	}
}

// Many that begin anew together do not fill the channel.
func TestManyThatBeginAnewAreNoFlood(t *testing.T) {
	in(t, func(t *testing.T) {
		ch := to("c", Threaded, policy.LevelWarn)
		d := newDesk(t, ch).open()
		defer d.kill()
		var all []policy.Incident
		for _, x := range many(20, policy.LevelWarn) { // each with a message of its own
			d.commit(x)
			d.wait(time.Minute)
			all = append(all, over(x))
		}
		d.commit(all...)
		d.wait(5 * time.Minute)
		for i := range all {
			x := trouble(fmt.Sprintf("INC-B%02d", i), policy.LevelWarn)
			x.Root, x.Times = all[i].ID, 2
			all[i] = x
		}
		sinkOf(ch).take()
		d.commit(all...)
		d.wait(50 * time.Second)
		if got := strings.Count(strings.Join(sinkOf(ch).take(), "\n"), " again "); got != stormRoots {
			t.Errorf("%d answers within a minute, want %d", got, stormRoots)
		}
		d.commit(each2(all, over)...)
		d.wait(time.Hour)
		if got := strings.Count(strings.Join(sinkOf(ch).take(), "\n"), " again "); got != 0 {
			t.Errorf("%d answers about what is over", got)
		}
	})
}
