package notify

import (
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// When the journal begins anew, what was open in it is ended wherever people
// take it for open, and nowhere else.
func TestWhatTheJournalHasLostIsEnded(t *testing.T) {
	in(t, func(t *testing.T) {
		pd, slack, quiet := to("pd", Alert, policy.LevelPage), to("slack", Threaded, policy.LevelPage), to("quiet", Append, policy.LevelPage)
		d := newDesk(t, pd, slack, quiet)
		d.o.Dir, d.o.Routes = t.TempDir(), []Route{{Channels: []string{"pd", "slack"}}}
		d.open()
		x := trouble("INC-1", policy.LevelPage)
		d.commit(x)
		d.wait(time.Minute)
		d.kill()
		d.sent(pd, "0s post INC-1 page !")
		d.sent(slack, "0s post INC-1 page !")
		delete(d.arch.all, x.ID)
		d.open()
		d.wait(time.Hour)
		d.sent(pd, "1m0s resolve INC-1 page over re:1")
		d.sent(slack, "1m0s resolve INC-1 page over re:1")
		d.sent(quiet)
		for _, c := range []Channel{pd, slack} {
			m := sinkOf(c).msgs[1]
			if m.Key != "gpu-03/llm/INC-1/1/INC-1" || m.Story.Incident.Name != "c-INC-1" || m.Story.Incident.End != endLost {
				t.Errorf("%s: %q, %+v", c.Name, m.Key, m.Story.Incident)
			}
		}
		d.kill()
		d.open()
		d.wait(8 * 24 * time.Hour)
		d.kill()
		d.sent(pd)
		if n := len(d.n.channels[0].recs); n != 0 {
			t.Errorf("%d records are kept", n)
		}
	})
}

func TestWhatIsLostIsNotSaidToBeWell(t *testing.T) {
	s := Story{Host: "gpu-03", Incident: (&record{ID: "INC-1", Name: "web", Unit: "web", Opened: stampOf(sampleAt(0))}).orphaned(sampleAt(time.Hour)), Now: sampleAt(time.Hour)}
	for locale, want := range map[string]string{"en": "⚪ web on gpu-03: no longer followed", "zh": "⚪ gpu-03 上的 web：不再跟踪"} {
		if got := mustWords(t, locale, nil).Render(s, KindResolve); got.Title != want || strings.Contains(strings.Join(got.Lead, " "), "is lost") != (locale == "en") {
			t.Errorf("%s: %q", locale, got.Plain(1000))
		}
	}
}
