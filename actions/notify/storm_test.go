package notify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

func many(n int, level policy.Level) []policy.Incident {
	out := make([]policy.Incident, n)
	for i := range out {
		out[i] = trouble(fmt.Sprintf("INC-%03d", i), level)
	}
	return out
}

func each2[T any](list []T, f func(T) T) []T {
	out := slices.Clone(list)
	for i := range out {
		out[i] = f(out[i])
	}
	return out
}

func TestFiftyAtOnce(t *testing.T) {
	want := map[Class][]string{
		Threaded: {
			"0s post INC-000 warn", "2s post STORM-001 warn",
			"1m0s escalate STORM-001 page re:2 !", "1m0s edit STORM-001 page re:2",
			"2m0s edit STORM-001 page re:2", "6m0s escalate STORM-001 page re:2 !",
			"11m0s resolve INC-000 warn over re:1", "11m0s resolve STORM-001 page over re:2", "11m0s step INC-000 warn over re:1 recovered",
		},
		Append: {
			"0s post INC-000 warn", "2s post STORM-001 warn", "1m0s escalate STORM-001 page re:2 !", "6m0s escalate STORM-001 page re:2 !",
			"11m0s resolve INC-000 warn over re:1", "11m1s resolve STORM-001 page over re:2",
		},
		Alert: {
			"0s post INC-000 warn", "2s post STORM-001 warn", "1m0s escalate STORM-001 page re:2 !", "6m0s escalate STORM-001 page re:2 !",
			"11m0s resolve INC-000 warn over re:1", "11m0s resolve STORM-001 page over re:2",
		},
	}
	for class, want := range want {
		t.Run(string(class), func(t *testing.T) {
			in(t, func(t *testing.T) {
				c := to("c", class, policy.LevelWarn)
				d := newDesk(t, c).open()
				defer d.kill()
				all := many(50, policy.LevelWarn)
				d.commit(all...)
				d.wait(time.Minute)
				all[7] = page(all[7])
				d.commit(all[7])
				d.wait(time.Minute)
				all[8], all[9] = page(all[8]), page(all[9])
				d.commit(all[8], all[9])
				d.wait(9 * time.Minute)
				d.commit(each2(all, over)...)
				d.wait(time.Hour)
				d.sent(c, want...)
			})
		})
	}
}

func TestAStormNamesTheWorst(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		all := many(60, policy.LevelWarn)
		for i := range 7 {
			all[50+i] = page(all[50+i])
		}
		d.commit(all...)
		d.wait(time.Minute)
		m := sinkOf(c).msgs[1].Story
		if m.Incident.Name != "60 containers" || len(m.Incident.Children) != 60 || len(m.Children) != 50 || m.Children[0].ID != "INC-050" || m.Children[0].Evidence != nil {
			t.Errorf("%s: %d children, %d of them in full", m.Incident.Name, len(m.Incident.Children), len(m.Children))
		}
		want := "60 incidents at about the same time; 60 of them go on and 7 need somebody: c-INC-050, c-INC-051, c-INC-052, c-INC-053, c-INC-054, 2 more"
		if m.Incident.Cause != want {
			t.Errorf("cause %q", m.Incident.Cause)
		}
	})
}

func TestFeedsHaveNoStorm(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Feed, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		d.commit(many(50, policy.LevelWarn)...)
		d.wait(time.Minute)
		if got := d.sentKinds(c); len(got) != 50 {
			t.Errorf("%d posts, want 50", len(got))
		}
	})
}

func TestFiveInAMinuteAreNoStorm(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		for i := range 7 {
			d.commit(trouble(fmt.Sprintf("INC-%d", i), policy.LevelWarn))
			d.wait(5 * time.Second)
		}
		d.wait(time.Hour)
		d.sent(c, "0s post INC-0 warn", "7s post INC-1 warn", "12s post INC-2 warn", "17s post INC-3 warn", "22s post INC-4 warn", "27s post STORM-5 warn")
	})
}

func TestWhatFollowsAStormSpeaksForItself(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		all := many(10, policy.LevelWarn)
		d.commit(all...)
		d.wait(time.Minute)
		d.commit(each2(all, over)...)
		d.wait(5 * time.Minute)
		d.sent(c, "0s post INC-000 warn", "2s post STORM-001 warn", "1m0s resolve INC-000 warn over re:1", "1m1s resolve STORM-001 warn over re:2")
		x := trouble("INC-X", policy.LevelWarn)
		x.Root, x.Times = "INC-005", 2
		d.commit(x)
		d.wait(time.Hour)
		d.sent(c, "6m0s post INC-X warn")
	})
}

// What ends and fails again while its storm still grows is one of it, once.
func TestAStormListsEachOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Threaded, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		all := many(8, policy.LevelWarn)
		d.commit(all...)
		d.wait(20 * time.Second)
		d.commit(over(all[6]))
		d.wait(5 * time.Second)
		x := trouble("INC-X", policy.LevelWarn)
		x.Root, x.Times = "INC-006", 2
		d.commit(x)
		d.wait(20 * time.Second)
		msgs := sinkOf(c).msgs
		got := slices.Sorted(slices.Values(msgs[len(msgs)-1].Story.Incident.Children))
		want := []string{"INC-000", "INC-001", "INC-002", "INC-003", "INC-004", "INC-005", "INC-007", "INC-X"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A storm is well again only when each of its members is.
func TestAStormSaysHowItEnded(t *testing.T) {
	for name, c := range map[string]struct {
		ends  []string
		title string
		cause string
	}{
		"well":    {[]string{"recovered"}, "✅ 10 containers on gpu-03: well again", "10 incidents at about the same time; all of them are well again"},
		"removed": {[]string{"removed"}, "⚪ 10 containers on gpu-03: removed", "10 incidents at about the same time; all of them were removed"},
		"mixed":   {[]string{"recovered", "removed"}, "⚪ 10 containers on gpu-03: over", "10 incidents at about the same time; well again: 5; removed: 5"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", Threaded, policy.LevelWarn)
				d := newDesk(t, ch)
				d.o.Render = mustWords(t, "en", nil).Render
				d.open()
				defer d.kill()
				all := many(10, policy.LevelPage)
				d.commit(all...)
				d.wait(10 * time.Second)
				all = each2(all, over)
				for i := range all {
					all[i].End = c.ends[i%len(c.ends)]
				}
				d.commit(all...)
				d.wait(time.Minute)
				if m := endOfStorm(t, ch); !strings.HasPrefix(m.Text.Title, c.title) || m.Story.Incident.Cause != c.cause {
					t.Errorf("%q, %q", m.Text.Title, m.Story.Incident.Cause)
				}
			})
		})
	}
}

// A storm's end counts and times what it lists, and calls nothing well that
// failed again and is told on its own.
func TestAStormIsNotWellWhileWhatFollowedIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		again bool // what followed is over, too
		title string
		text  string
	}{
		"two are down": {false, "⚪ 8 containers on gpu-03: over after 3 min", "8 incidents at about the same time; well again: 6; failed again: 2"},
		"all are well": {true, "✅ 8 containers on gpu-03: well again after 3 min", "8 incidents at about the same time; all of them are well again"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				ch := to("c", Threaded, policy.LevelWarn)
				d := newDesk(t, ch)
				d.o.Render = mustWords(t, "en", nil).Render
				d.open()
				defer d.kill()
				all := many(8, policy.LevelWarn)
				d.commit(all...)
				d.wait(time.Minute)
				d.commit(over(all[6]), over(all[7]))
				d.wait(time.Minute)
				var follow []policy.Incident
				for i, root := range []string{"INC-006", "INC-007"} {
					x := page(trouble([]string{"INC-X", "INC-Y"}[i], policy.LevelWarn))
					x.Root, x.Times, x.Name = root, 2, "c-"+root
					follow = append(follow, x)
				}
				d.commit(follow...)
				d.wait(time.Minute)
				if c.again {
					d.commit(each2(follow, over)...)
				}
				d.commit(each2(all[:6], over)...)
				d.wait(time.Minute)
				m := endOfStorm(t, ch)
				if !strings.HasPrefix(m.Text.Title, c.title) || m.Story.Incident.Cause != c.text || len(m.Story.Incident.Children) != 8 {
					t.Errorf("%q, %q, %d listed", m.Text.Title, m.Story.Incident.Cause, len(m.Story.Incident.Children))
				}
				if lead := strings.Join(m.Text.Lead, "\n"); strings.Contains(lead, "Nothing to do") != c.again || strings.Contains(lead, "🔴") == c.again {
					t.Errorf("it says %s", lead)
				}
			})
		})
	}
}

func endOfStorm(t *testing.T, c Channel) Message {
	t.Helper()
	for _, m := range slices.Backward(sinkOf(c).msgs) {
		if m.Kind == KindResolve && m.Story.Incident.Rule == RuleStorm {
			return m
		}
	}
	t.Fatal("the end of the storm is not told")
	return Message{}
}

// A storm that waits for a channel still does when that is taken out and comes
// back.
func TestAPendingStormOutlivesItsChannel(t *testing.T) {
	in(t, func(t *testing.T) {
		c, other := to("c", Append, policy.LevelWarn), to("o", Append, policy.LevelPage)
		d := newDesk(t, c, other)
		d.o.Dir = t.TempDir()
		d.open()
		all := many(8, policy.LevelWarn)
		for i := 1; i < 8; i++ {
			all[i] = page(all[i])
		}
		d.commit(all[0])
		d.wait(100 * time.Millisecond)
		sinkOf(c).failing(failWith(ReasonAuth, 0))
		d.commit(all...)
		d.wait(time.Minute)
		for _, channels := range [][]Channel{{other}, {c, other}} {
			d.kill()
			d.o.Channels = channels
			sinkOf(c).take()
			sinkOf(c).failing(nil)
			d.open()
			d.wait(time.Hour)
		}
		defer d.kill()
		d.sent(c, "1h1m0s post STORM-001 page !")
	})
}
