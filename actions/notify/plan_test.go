package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // whatever the machine has

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestPlan names the next message for what is known and what was told.
func TestPlan(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) stamp { return stampOf(now.Add(-d)) }
	for _, c := range []struct {
		name string
		o    outlook
		rec  record
		want string
	}{
		{"nothing below the level", outlook{class: Append, min: "page"}, record{Level: "warn"}, ""},
		{"a root", outlook{class: Append, min: "warn"}, record{Level: "warn"}, "post 0s"},
		{"routed elsewhere", outlook{class: Append}, record{Level: "page", Off: true}, ""},
		{"routed elsewhere, where it is refused", outlook{class: Append, forced: true}, record{Level: "page", Off: true}, "post 0s"},
		{"below page is not forced", outlook{class: Append, forced: true}, record{Level: "warn", Off: true}, ""},
		{"part of a storm", outlook{class: Append, cover: coverStorm, forced: true}, record{Level: "page"}, ""},
		{"silenced", outlook{class: Append, silenced: now.Add(time.Hour)}, record{Level: "page"}, "post 1h0m0s"},
		{"over while silenced", outlook{class: Append, silenced: now.Add(time.Hour)}, record{Level: "page", Closed: ago(0)}, "drop"},
		{"over while silenced, but told before", outlook{class: Append, silenced: now.Add(time.Hour)}, record{Level: "page", Closed: ago(0), told: told{Here: true}}, "resolve 1h0m0s"},
		{"an alert that may have been raised, over while silenced", outlook{class: Alert, silenced: now.Add(time.Hour)}, record{Level: "page", Closed: ago(0), attempts: 1}, "resolve 0s"},
		{"… and too old to be news", outlook{class: Alert}, record{Level: "page", Closed: ago(25 * time.Hour), attempts: 1}, "resolve 0s"},
		{"an alert that was not, over while silenced", outlook{class: Alert, silenced: now.Add(time.Hour)}, record{Level: "page", Closed: ago(0)}, "drop"},
		{"an edit while silenced", outlook{class: Threaded, silenced: now.Add(time.Hour)}, record{Level: "page", Posted: ago(time.Hour), told: told{Here: true, SentAt: ago(time.Hour)}}, "edit 0s"},
		{"the call after it", outlook{class: Threaded, silenced: now.Add(time.Hour)}, record{Level: "page", Posted: ago(time.Hour), told: told{Here: true, Seen: seen(&policy.Incident{Rev: 3, Level: "page"}, false)}}, "escalate 1h0m0s"},
		{"the end of a thread in quiet hours", outlook{class: Threaded, quiet: Quiet{From: 11 * 60, To: 13 * 60, Zone: time.UTC}}, record{Level: "warn", Posted: ago(time.Hour), Closed: ago(0), told: told{Here: true}}, "resolve 0s"},
		{"the end of a chat in quiet hours", outlook{class: Append, quiet: Quiet{From: 11 * 60, To: 13 * 60, Zone: time.UTC}}, record{Level: "warn", Closed: ago(0), told: told{Here: true}}, "resolve 1h0m0s"},
		{"quiet", outlook{class: Append, quiet: Quiet{From: 11 * 60, To: 13 * 60, Zone: time.UTC}}, record{Level: "warn"}, "post 1h0m0s"},
		{"quiet, but somebody is needed", outlook{class: Append, quiet: Quiet{From: 11 * 60, To: 13 * 60, Zone: time.UTC}}, record{Level: "page"}, "post 0s"},
		{"quiet, and its child needs somebody", outlook{class: Append, quiet: Quiet{From: 11 * 60, To: 13 * 60, Zone: time.UTC}}, record{Level: "warn", Child: true}, "post 0s"},
		{"over for 59 min", outlook{class: Append}, record{Level: "warn", Closed: ago(59 * time.Minute)}, "post 0s"},
		{"over for 61 min", outlook{class: Append}, record{Level: "warn", Closed: ago(61 * time.Minute)}, "drop"},
		{"over for 61 min, kept back until 11:30", outlook{class: Append, quiet: Quiet{From: 10 * 60, To: 11*60 + 30, Zone: time.UTC}}, record{Level: "warn", Closed: ago(61 * time.Minute)}, "post 0s"},
		{"a page, over for 23 h", outlook{class: Append}, record{Level: "page", Closed: ago(23 * time.Hour)}, "post 0s"},
		{"a page, over for 25 h", outlook{class: Append}, record{Level: "page", Closed: ago(25 * time.Hour)}, "drop"},
		{"refused", outlook{class: Append}, record{Level: "page", told: told{Dropped: 3}}, ""},
		{"an older one was refused", outlook{class: Append}, record{Level: "page", told: told{Dropped: 2}}, "post 0s"},
		{"an edit so soon", outlook{class: Threaded}, record{Level: "warn", Posted: ago(0), told: told{Here: true, SentAt: ago(0)}}, "edit 2s"},
		{"a call before an edit", outlook{class: Threaded}, record{Level: "page", Posted: ago(time.Hour), told: told{Here: true, SentAt: ago(time.Minute)}}, "escalate 0s"},
		{"the next call of a storm", outlook{class: Append}, record{Level: "page", Members: []string{"x"}, told: told{Here: true, PagedAt: ago(time.Minute)}}, "escalate 4m0s"},
		{"a reminder", outlook{class: Append, remindAfter: time.Hour, remindMax: 1}, record{Level: "page", told: told{Here: true, Paged: true, PagedAt: ago(time.Minute)}}, "remind 59m0s"},
		{"no more reminders", outlook{class: Append, remindAfter: time.Hour, remindMax: 1}, record{Level: "page", told: told{Here: true, Paged: true, Reminders: 1}}, ""},
		{"nothing after the end", outlook{class: Append}, record{Level: "page", Closed: ago(0), told: told{Here: true, Resolved: ago(0)}}, ""},
		{"a told child, beside its parent", outlook{class: Threaded, cover: coverParent}, record{Level: "page", Posted: ago(0), told: told{Here: true}}, "escalate 0s"},
		{"an alert that becomes a page", outlook{class: Alert}, record{Level: "page", told: told{Here: true, SentAt: ago(time.Hour)}}, "escalate 0s"},
		{"an alert whose ack has expired", outlook{class: Alert}, record{Level: "page", told: told{Here: true, Paged: true, PagedAt: ago(time.Hour), Lapsed: true}}, "remind 0s"},
		{"… just after it called", outlook{class: Alert}, record{Level: "page", told: told{Here: true, Paged: true, PagedAt: ago(time.Minute), Lapsed: true}}, "remind 4m0s"},
		{"… where it is sent again all the time", outlook{class: Alert, refresh: time.Minute}, record{Level: "page", told: told{Here: true, Paged: true, PagedAt: ago(0), SentAt: ago(0), Lapsed: true}}, "post 1m0s"},
		{"… and nobody is needed any more", outlook{class: Alert}, record{Level: "warn", told: told{Here: true, Lapsed: true}}, ""},
		{"a feed, over for 23 h", outlook{class: Feed}, record{Level: "info", Closed: ago(23 * time.Hour)}, "post 0s"},
		{"a feed", outlook{class: Feed}, record{Level: "warn", told: told{Here: true, Told: 2}}, "edit 0s"},
		{"a feed that knows", outlook{class: Feed}, record{Level: "warn", told: told{Here: true, Told: 3}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, rec := c.o, c.rec
			o.rec, o.now, o.in = &rec, now, &policy.Incident{Rev: 3, Level: rec.Level, Closed: rec.Closed.time()}
			p := o.next()
			got := ""
			switch {
			case p.drop:
				got = "drop"
			case p.kind != "":
				got = fmt.Sprint(p.kind, " ", p.due.Sub(now))
			}
			if got != c.want {
				t.Errorf("next is %q, want %q", got, c.want)
			}
		})
	}
}

func TestNewStepsAreToldOnce(t *testing.T) {
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	in := policy.Incident{}
	var r record
	var got []string
	for i := range 200 {
		for range i % 3 { // several in an instant
			in.Steps = append(in.Steps, policy.Step{At: at.Add(time.Duration(i/2) * time.Second), Text: fmt.Sprint(len(got), "-", i)})
			if len(in.Steps) > 50 {
				in.Steps = append(in.Steps[:10:10], in.Steps[11:]...)
			}
		}
		if i%5 == 4 {
			for _, s := range r.newSteps(&in) {
				got = append(got, s.Text)
			}
			r.stepsTold(&in)
		}
	}
	seen := map[string]int{}
	for _, s := range got {
		seen[s[strings.Index(s, "-")+1:]]++
	}
	want := map[string]int{}
	for i := range 200 {
		if i%3 > 0 {
			want[fmt.Sprint(i)] = i % 3
		}
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*c", "abbc", true},
		{"a*c", "abcd", false},
		{"a?c", "abc", true},
		{"?", "", false},
		{"*b*", "abc", true},
		{"vllm-*/1", "vllm-x/1", true},
		{"**", "x", true},
		{"a", "ab", false},
		{"ab", "a", false},
		{strings.Repeat("*a", 30), strings.Repeat("a", 5000) + "b", false},
	} {
		if got := glob(c.pattern, c.s); got != c.want {
			t.Errorf("glob(%.20q, %.20q) = %t", c.pattern, c.s, got)
		}
	}
}

func TestQuiet(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ hours, at, want string }{
		{"23:00-07:00", "2026-03-14 22:59", "2026-03-14 22:59"},
		{"23:00-07:00", "2026-03-14 23:00", "2026-03-15 07:00"},
		{"23:00-07:00", "2026-03-31 23:30", "2026-04-01 07:00"},
		{"23:00-07:00", "2026-03-29 01:30", "2026-03-29 07:00"}, // the clocks go forward at 2
		{"23:00-07:00", "2026-03-14 07:00", "2026-03-14 07:00"},
		{"12:00-13:30", "2026-03-14 12:10", "2026-03-14 13:30"},
		{"12:00-13:30", "2026-03-14 13:30", "2026-03-14 13:30"},
		{"", "2026-03-14 03:00", "2026-03-14 03:00"},
	} {
		q, err := ParseQuiet(c.hours, berlin)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.ParseInLocation("2006-01-02 15:04", c.at, berlin)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.after(at).Format("2006-01-02 15:04"); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.hours, c.at, got, c.want)
		}
	}
	for _, bad := range []string{"23:00", "23-7", "25:00-07:00", "07:00-07:00", "a-b"} {
		if q, err := ParseQuiet(bad, nil); err == nil {
			t.Errorf("%q was read as %+v", bad, q)
		}
	}
}

func TestABucketNeverExceedsItsRate(t *testing.T) {
	for _, r := range []Rate{{18, time.Minute}, {40, time.Minute}, {90, time.Minute}, {5, time.Second}} {
		b := newBucket(r)
		now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
		var taken []time.Time
		for len(taken) < 4*r.N {
			now = b.ready(now)
			b.take(now)
			taken = append(taken, now)
		}
		for i := r.N; i < len(taken); i++ {
			if d := taken[i].Sub(taken[i-r.N]); d < r.Per {
				t.Fatalf("%+v: %d within %v", r, r.N+1, d)
			}
		}
		if total := now.Sub(taken[0]); total > 6*r.Per {
			t.Errorf("%+v: 4 × N took %v", r, total)
		}
	}
}

// The thread of an incident of many containers gets few lines: the message
// itself tells the news. What is left to say is said at the end.
func TestThreadOfManyIsSlow(t *testing.T) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		children int
		closed   time.Duration // ago; 0: open
		want     time.Duration // from the message, sent 10 s ago
	}{
		{"a few", stormRoots, 0, 10 * time.Second},
		{"many", stormRoots + 1, 0, paceMany},
		{"many, and over", stormRoots + 1, time.Second, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := now.Add(-10 * time.Second)
			in := &policy.Incident{ID: "INC-1", Rev: 3, Level: policy.LevelWarn, Children: make([]string, c.children), Steps: []policy.Step{{At: now, Text: "news"}}}
			rec := &record{Level: policy.LevelWarn, Posted: stampOf(sent), told: told{Here: true, SentAt: stampOf(sent)}}
			rec.Seen = seen(in, false) // the message tells it already
			if c.closed > 0 {
				rec.Closed, rec.Resolved = stampOf(now.Add(-c.closed)), stampOf(now)
			}
			p := outlook{class: Threaded, in: in, rec: rec, now: now}.next()
			if got := p.due.Sub(sent); p.kind != KindStep || got != c.want {
				t.Errorf("got %s after %v, want a step after %v", p.kind, got, c.want)
			}
		})
	}
}
