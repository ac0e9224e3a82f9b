package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// decides lets the daemon answer every order with one decision.
func decides(d policy.Decision) func(policy.Command) []policy.Decision {
	return func(c policy.Command) []policy.Decision {
		d.Unit = c.Unit
		return []policy.Decision{d}
	}
}

func outcome7(class policy.Class, text string) []watcher.Committed {
	return []watcher.Committed{{Record: watcher.Record{Event: policy.Event{
		Kind: policy.KindOutcome, Decision: 7, Outcome: &policy.Outcome{Class: class, Text: text},
	}}}}
}

func TestOrders(t *testing.T) {
	act := decides(policy.Decision{ID: 7, Verb: policy.VerbRestart, Rule: "operator"})
	note := decides(policy.Decision{ID: 7, Verb: policy.VerbNote, Rule: "operator", Reason: "restart by uid 1000; it gets full retries"})
	refused := decides(policy.Decision{ID: 7, Verb: policy.VerbNote, Rule: "refused", Reason: "it is held (gpu: Xid 79)"})
	for _, c := range []struct {
		name   string
		args   []string
		stdin  string
		answer func(policy.Command) []policy.Decision
		after  []watcher.Committed
		want   policy.Command
		out    string
		err    string
		code   int
	}{
		{
			"restart",
			[]string{"restart", "-y", "lama"},
			"", act, outcome7(policy.OutcomeOK, ""),
			policy.Command{Order: policy.OrderRestart, Unit: "lama"},
			"lama: restarted in 0s. `defib status -w` shows how it comes up.\n", "", 0,
		},
		{
			"restart, asked",
			[]string{"restart", "--force", "--why", "new model", "lama"},
			"yes\n", act, outcome7(policy.OutcomeOK, ""),
			policy.Command{Order: policy.OrderRestart, Unit: "lama", Force: true, Why: "new model"},
			"lama: restarted in 0s. `defib status -w` shows how it comes up.\n",
			"lama is FATAL since 6m, health unhealthy. Loading takes about 12m. Restart it? [y/N] ", 0,
		},
		{
			"restart, no",
			[]string{"restart", "lama"},
			"n\n", act, nil,
			policy.Command{},
			"",
			"lama is FATAL since 6m, health unhealthy. Loading takes about 12m. Restart it? [y/N] defib: nothing was done\n", 1,
		},
		{
			"restart, silence",
			[]string{"restart", "lama"},
			"", act, nil,
			policy.Command{},
			"",
			"lama is FATAL since 6m, health unhealthy. Loading takes about 12m. Restart it? [y/N] defib: nothing was done\n", 1,
		},
		{
			"restart fails",
			[]string{"restart", "-y", "lama"},
			"", act, outcome7(policy.OutcomeFailed, "no such device"),
			policy.Command{Order: policy.OrderRestart, Unit: "lama"},
			"",
			"defib: restart lama: no such device\n  `defib describe lama` shows what comes next\n", 1,
		},
		{
			"restart, no wait",
			[]string{"restart", "-y", "--no-wait", "lama"},
			"", act, nil,
			policy.Command{Order: policy.OrderRestart, Unit: "lama"},
			"lama: restart is under way.\n", "", 0,
		},
		{
			"restart refused",
			[]string{"restart", "-y", "lama"},
			"", refused, nil,
			policy.Command{Order: policy.OrderRestart, Unit: "lama"},
			"", "defib: restart lama: it is held (gpu: Xid 79)\n", 1,
		},
		{
			"stop",
			[]string{"stop", "lama"},
			"", note, nil,
			policy.Command{Order: policy.OrderStop, Unit: "lama"},
			"restart by uid 1000; it gets full retries.\n", "", 0,
		},
		{
			"retry",
			[]string{"retry", "lama"},
			"", note, nil,
			policy.Command{Order: policy.OrderRetry, Unit: "lama"},
			"restart by uid 1000; it gets full retries.\n", "", 0,
		},
		{
			"hold",
			[]string{"hold", "lama", "--for", "2d", "-m", "work"},
			"", note, nil,
			policy.Command{Order: policy.OrderHold, Unit: "lama", For: 48 * time.Hour, Why: "work"},
			"restart by uid 1000; it gets full retries.\n", "", 0,
		},
		{
			"hold all",
			[]string{"hold", "--all"},
			"", note, nil,
			policy.Command{Order: policy.OrderHold, All: true},
			"restart by uid 1000; it gets full retries.\n", "", 0,
		},
		{
			"release project, refused",
			[]string{"release", "--project", "shop"},
			"", refused, nil,
			policy.Command{Order: policy.OrderRelease, Project: "shop"},
			"", "defib: release project shop: it is held (gpu: Xid 79)\n", 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := (&daemon{view: zoo(), answer: c.answer, after: c.after, stdin: c.stdin}).start(t)
			d.wants(t, c.want, c.out, c.err, c.code, c.args...)
		})
	}
}

// Whoever does not wait for the answer is not told that an order was taken: the
// daemon may not have come to it.
func TestOrderInterrupted(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"restart -y lama", "It is not known whether the order was taken; `defib status` shows it.\n"},
		{"hold --all", "It is not known whether the order was taken; `defib status` shows it.\n"},
		{"ack INC-7F3K", "It is not known whether the order was taken; `defib incidents` shows it.\n"},
		{"gpus reset --yes 2", "It is not known whether the order was taken; `defib gpus` shows it.\n"},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		ended := make(chan struct{})
		d := (&daemon{view: rack(), incidents: story(), answer: func(policy.Command) []policy.Decision {
			interrupt()
			<-ended
			return nil
		}}).start(t)
		out, errs, code := d.runContext(ctx, strings.Fields(c.args)...)
		close(ended)
		if out != "" || errs != c.want || code != exitInterrupted {
			t.Errorf("%s: got %q, %q, %d; want %q, %d", c.args, out, errs, code, c.want, exitInterrupted)
		}
	}
}

func TestDone(t *testing.T) {
	u := policy.Status{Name: "web", State: policy.Starting}
	got := done(api.Order{Command: policy.Command{Order: policy.OrderRestart}}, api.Answer{Took: 1234 * time.Millisecond, Unit: &u}, "web")
	if want := "web: restarted in 1.2s. `defib status -w` shows how it comes up."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := done(api.Order{Command: policy.Command{Order: policy.OrderStop}}, api.Answer{Took: 10 * time.Second, Unit: &u}, "web"); got != "web: stopped in 10s." {
		t.Errorf("got %q", got)
	}
}
