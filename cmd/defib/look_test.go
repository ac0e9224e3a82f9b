package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// story is one incident that is open and one that is over.
func story() []policy.Incident {
	probes := []policy.Probe{
		{Start: minutes(7), End: minutes(7).Add(10 * time.Second), ExitCode: -1, Output: "timed out"},
		{Start: minutes(6), End: minutes(6).Add(30 * time.Millisecond), ExitCode: 1, Output: hostile()},
	}
	logs := []string{"loading", "token=" + strings.Repeat("s3cr3t", 4), hostile()}
	return []policy.Incident{
		{
			ID: "INC-2B", Unit: "api", Name: "api", Opened: minutes(600), Closed: minutes(597), End: "recovered", Level: policy.LevelInfo,
			Rule: "unhealthy", Cause: "its health check failed 3 times", Repairs: 1, Failures: 1,
			Steps: []policy.Step{{At: minutes(600), Rule: "unhealthy", Text: "its health check failed 3 times"}, {At: minutes(597), Rule: "recovered", Text: "healthy again after 3m"}},
		},
		{
			ID: "INC-7F3K", Unit: "lama", Name: "lama", Opened: minutes(6), Level: policy.LevelPage, Paged: minutes(1), NeedsYou: true,
			Rule: "exited", Cause: "it exits with code 1 soon after each start: " + hostile(), Repairs: 3, Failures: 4, Parent: "INC-9Z", Root: "INC-3C", Times: 3,
			Changed: []string{"its image changed to lama:2, 9 s before", "the NVIDIA driver changed: " + hostile()}, Children: []string{"INC-1A"},
			Steps:    []policy.Step{{At: minutes(6), Rule: "exited", Text: "it exited with code 1"}, {At: minutes(1), Rule: "gave_up", Text: "gave up after 3 restarts: " + hostile()}},
			GPUs:     []string{"GPU 2: recovery action 0", "GPU 2: python3 (pid 48213) of the host holds 71.8 GiB of memory"},
			Evidence: &policy.Evidence{At: minutes(1), ExitCode: 1, Error: "no such device", Probes: probes, Logs: logs},
		},
	}
}

func lama() *watcher.View {
	v := zoo()
	u := &v.Units[5]
	u.Reason, u.Rule = "gave up after 3 restarts", "gave_up"
	u.WhyNot = []string{"defib gave up: exits with code 1", hostile()}
	u.HealthOutput, u.PagesAt, u.Retries, u.ReadyAfter = hostile(), noon.Add(9*time.Minute), "3 of 5", 70*time.Second
	u.Incident, u.Warnings = "INC-7F3K", []string{`label defib.retries="many" is no number`}
	u.LastExit.Error = "no such device"
	u.Settings = []policy.Setting{{Name: "unhealthy_for", Value: "30s", Source: "label defib.unhealthy_for"}, {Name: "page_after", Value: "15m", Source: "built-in"}}
	return v
}

func TestDescribe(t *testing.T) {
	d := (&daemon{view: lama(), incidents: story()}).start(t)
	for _, name := range []string{"lama", "api"} {
		out, errs, code := d.run(t, "describe", name)
		golden(t, "describe-"+name, out)
		if errs != "" || code != exitOK {
			t.Errorf("stderr %q, exit code %d", errs, code)
		}
	}
	out, _, _ := d.run(t, "describe", "-o", "json", "lama")
	var u api.Unit
	if err := json.Unmarshal([]byte(out), &u); err != nil || u.Unit.Name != "lama" || len(u.Incidents) != 1 {
		t.Errorf("got %+v, %v", u.Incidents, err)
	}
}

func TestIncidents(t *testing.T) {
	d := (&daemon{view: zoo(), incidents: story()}).start(t)
	for _, c := range []struct {
		name, stderr string
		args         []string
	}{
		{"incidents", "", []string{"incidents"}},
		{"incidents-open", "", []string{"incidents", "--open", "--no-headers"}},
		{"incidents-since", "", []string{"incidents", "--since", "1h"}},
		{"incident", "", []string{"incident", "inc-7f3k", "--logs", "2"}},
		{"incident-over", "", []string{"incident", "INC-2B"}},
	} {
		out, errs, code := d.run(t, c.args...)
		golden(t, c.name, out)
		if errs != c.stderr || code != exitOK {
			t.Errorf("%s: stderr %q, exit code %d", c.name, errs, code)
		}
		if strings.Contains(out, "s3cr3t") {
			t.Errorf("%s shows a secret:\n%s", c.name, out)
		}
	}
	out, _, _ := d.run(t, "incidents", "-o", "json")
	var got api.Incidents
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Version != 1 || len(got.Incidents) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	d.incidents = nil
	for _, c := range []struct {
		arg, want string
	}{
		{"--open=true", "Nothing is open. `defib incidents` shows what is over.\n"},
		{"--since=24h", "Nothing went wrong in the last 24h. `defib incidents --since 90d` looks further back.\n"},
	} {
		if out, errs, code := d.run(t, "incidents", c.arg); out != "" || errs != c.want || code != exitOK {
			t.Errorf("%s: got %q, %q, %d; want %q", c.arg, out, errs, code, c.want)
		}
	}
}

func TestEvents(t *testing.T) {
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	seen := func(s int, status, health string) watcher.Record {
		o := &policy.Observation{Name: "web", Status: status, Running: status == "running", Health: &policy.Health{Status: health}}
		return watcher.Record{Event: policy.Event{At: at(s), Kind: policy.KindObserved, Unit: "shop/web/1", Observation: o}}
	}
	rec := func(s int, ev policy.Event, ds ...policy.Decision) watcher.Record {
		ev.At = at(s)
		return watcher.Record{Event: ev, Decisions: ds}
	}
	unit := "shop/web/1"
	act := policy.Decision{ID: 3, At: at(5), Unit: unit, Name: "web", Verb: policy.VerbRestart, Rule: "unhealthy", Reason: "3 checks failed: " + hostile()}
	d := (&daemon{
		view: zoo(),
		records: []watcher.Record{
			rec(-3601, policy.Event{Kind: policy.KindDaemonStart}), // too old by the daemon's clock, whatever ours says
			rec(0, policy.Event{Kind: policy.KindDaemonStart}),
			rec(1, policy.Event{Kind: policy.KindSourceUp, Engine: &policy.Engine{Name: "gpu-03", Version: "28.5.2"}}),
			seen(2, "running", "healthy"), seen(3, "running", "healthy"),
			rec(4, policy.Event{Kind: policy.KindSynced}),
			{Event: seen(5, "running", "unhealthy").Event, Decisions: []policy.Decision{{ID: 2, At: at(5), Unit: unit, Verb: policy.VerbInspect}, act}},
			rec(6, policy.Event{Kind: policy.KindKill, Unit: unit, Signal: 15}),
			rec(7, policy.Event{Kind: policy.KindDie, Unit: unit, ExitCode: 143}),
			rec(8, policy.Event{Kind: policy.KindOutcome, Unit: unit, Decision: 3, Outcome: &policy.Outcome{Class: policy.OutcomeFailed, Took: 2 * time.Second, Text: "no such image"}}),
			rec(9, policy.Event{Kind: policy.KindCommand, Command: &policy.Command{Order: policy.OrderHold, All: true, By: "uid 1000 (li)", Why: "work"}}),
			rec(10, policy.Event{Kind: policy.KindHoldSet, Hold: &policy.Hold{Reason: policy.HoldDisk, Why: "the disk is full"}}),
			rec(11, policy.Event{Kind: policy.KindHoldCleared, Hold: &policy.Hold{Reason: policy.HoldDisk, Why: "there is room again"}}),
			rec(12, policy.Event{Kind: policy.KindTick}),
			rec(13, policy.Event{Kind: policy.KindUnseen, Unit: unit, Reason: "it took too long"}),
			rec(14, policy.Event{Kind: policy.KindSourceDown, Reason: "connection refused"}),
			rec(15, policy.Event{Kind: "from_the_future"}),
		},
		after: []watcher.Committed{{Record: rec(20, policy.Event{Kind: policy.KindDestroy, Unit: unit}), Lost: 2}},
	}).start(t)
	out, errs, code := d.run(t, "events")
	golden(t, "events", out)
	if errs != "" || code != exitOK {
		t.Errorf("stderr %q, exit code %d", errs, code)
	}
	out, errs, code = d.run(t, "events", "-f", "-o", "json")
	var last api.Line
	lines := strings.Split(strings.TrimSpace(out), "\n")
	err := json.Unmarshal([]byte(lines[len(lines)-1]), &last)
	if err != nil || len(lines) != 17 || last.Lost != 2 || last.Version != 1 {
		t.Errorf("got %d lines, the last %+v, %v", len(lines), last, err)
	}
	if errs != "defib: the daemon stopped\n  start it by `defib run`\n" || code != exitUnreachable {
		t.Errorf("got %q, exit code %d", errs, code)
	}
	d.records, d.after = nil, nil
	if _, errs, code = d.run(t, "events", "--since", "5m"); code != exitOK || errs != "Nothing happened in the last 5m. `defib events -f` waits for what comes.\n" {
		t.Errorf("got %q, exit code %d", errs, code)
	}
}

// Whoever reads that a container waits is told how to end that.
func TestWaysOut(t *testing.T) {
	for _, c := range []struct {
		state  policy.State
		detail string
		want   string
	}{
		{policy.Running, "", ""},
		{policy.Held, "operator", "`rm /run/h && defib release web` ends the hold; `defib restart --force web` passes the hold; `defib stop web` leaves it down"},
		{policy.Held, "vram", "`defib gpus` shows its GPU; `defib restart --force web` restarts it all the same; `defib stop web` leaves it down"},
		{policy.Held, "budget", "`defib restart web` does not wait; `defib stop web` leaves it down"},
		{policy.Backoff, "by docker", "`defib restart web` does not wait; `defib stop web` leaves it down"},
		{policy.Fatal, "", "`defib retry web` tries again; `defib stop web` leaves it down"},
	} {
		if got := waysOut(policy.Status{Key: "web", Name: "web", State: c.state, Detail: c.detail, Releases: []string{"rm /run/h", "defib release web"}}); got != c.want {
			t.Errorf("%s (%s): got %q, want %q", c.state, c.detail, got, c.want)
		}
	}
}
