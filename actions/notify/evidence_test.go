package notify

import (
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Health checks that passed say nothing of why it died.
func TestEvidenceShowsTheChecksThatFailed(t *testing.T) {
	in(t, func(t *testing.T) {
		ok, bad := policy.Probe{End: time.Now(), Output: "fine"}, policy.Probe{End: time.Now(), ExitCode: 7, Output: "refused"}
		for name, c := range map[string]struct {
			e    policy.Evidence
			want string // of the lead; "-": nothing is sent
		}{
			"all passed": {policy.Evidence{Probes: []policy.Probe{ok, ok}, Logs: []string{"Killed"}}, ""},
			"one failed": {policy.Evidence{Probes: []policy.Probe{ok, bad}, Logs: []string{"Killed"}}, "health check at 00:00:00 UTC ended with 7: refused"},
			"no word":    {policy.Evidence{Probes: []policy.Probe{ok}}, "-"},
			"no log":     {policy.Evidence{Probes: []policy.Probe{bad}}, "health check at 00:00:00 UTC ended with 7: refused"},
		} {
			ch := to("c", Threaded, policy.LevelWarn)
			d := newDesk(t, ch)
			d.o.Now = func() time.Time { return time.Now().UTC() }
			d.o.Render = mustWords(t, "en", nil).Render
			d.open()
			x := trouble("INC-1", policy.LevelWarn)
			x.Evidence = &c.e
			d.commit(x)
			d.wait(10 * time.Second)
			got := "-"
			for _, m := range sinkOf(ch).msgs {
				if m.Kind == KindEvidence {
					got = strings.Join(m.Text.Lead, "\n")
				}
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			d.kill()
		}
	})
}
