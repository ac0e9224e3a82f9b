package api

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

const key = "shop/web/1"

func outcomeOf(id uint64, class policy.Class, text string) watcher.Committed {
	return watcher.Committed{Record: watcher.Record{Event: policy.Event{
		Kind: policy.KindOutcome, Unit: key, Decision: id, Outcome: &policy.Outcome{Class: class, Text: text},
	}}}
}

func decided(ds ...policy.Decision) watcher.Committed {
	return watcher.Committed{Record: watcher.Record{Event: policy.Event{Kind: policy.KindObserved, Unit: key}, Decisions: ds}}
}

// TestCommand tells what an order leads to in the loop and wants the answer.
func TestCommand(t *testing.T) {
	act := policy.Decision{ID: 7, Unit: key, Verb: policy.VerbRestart, Rule: "operator", Reason: "restart by li"}
	ask := policy.Decision{ID: 6, Unit: key, Verb: policy.VerbInspect, Rule: "operator"}
	note := func(rule, reason string) policy.Decision {
		return policy.Decision{ID: 8, Unit: key, Verb: policy.VerbNote, Rule: rule, Reason: reason}
	}
	hostNote := policy.Decision{ID: 9, Verb: policy.VerbNote, Rule: "held", Reason: "li holds web until noon"}
	foreign := policy.Decision{ID: 5, Unit: "db", Verb: policy.VerbRestart}
	for _, c := range []struct {
		name    string
		order   policy.Order
		noWait  bool
		decided []policy.Decision
		after   []watcher.Committed
		want    Result
		text    string
	}{
		{"restart works", policy.OrderRestart, false, []policy.Decision{act}, []watcher.Committed{outcomeOf(5, policy.OutcomeFailed, "foreign"), outcomeOf(7, policy.OutcomeOK, "")}, Done, ""},
		{"restart fails", policy.OrderRestart, false, []policy.Decision{act}, []watcher.Committed{outcomeOf(7, policy.OutcomeFailed, "no such image")}, Failed, "no such image"},
		{"restart is stuck", policy.OrderRestart, false, []policy.Decision{act}, []watcher.Committed{outcomeOf(7, policy.OutcomeStuck, "")}, Failed, "the outcome is: stuck"},
		{"nobody waits", policy.OrderRestart, true, []policy.Decision{act}, []watcher.Committed{outcomeOf(7, policy.OutcomeOK, "")}, Begun, ""},
		{"the daemon stops meanwhile", policy.OrderRestart, false, []policy.Decision{act}, nil, Begun, ""},
		{"after a question", policy.OrderRestart, false, []policy.Decision{ask}, []watcher.Committed{decided(foreign), decided(act), outcomeOf(7, policy.OutcomeOK, "")}, Done, ""},
		{"refused after a question", policy.OrderRestart, false, []policy.Decision{ask}, []watcher.Committed{decided(note("refused", "it is gone"))}, Refused, "it is gone"},
		{"dropped after a question", policy.OrderRestart, false, []policy.Decision{ask}, []watcher.Committed{decided(note("recovered", "it is healthy again"))}, Done, "it is healthy again"},
		{"refused", policy.OrderRestart, false, []policy.Decision{note("refused", "it is held")}, nil, Refused, "it is held"},
		{"refused by the host", policy.OrderRestart, false, []policy.Decision{{Verb: policy.VerbNote, Rule: "refused", Reason: "no Docker"}}, nil, Refused, "no Docker"},
		{"already down", policy.OrderStop, false, []policy.Decision{note("operator", "it is down and stays so")}, nil, Done, "it is down and stays so"},
		{"hold", policy.OrderHold, false, []policy.Decision{hostNote}, nil, Done, "li holds web until noon"},
		{"others follow from it", policy.OrderRelease, false, []policy.Decision{foreign, hostNote}, nil, Done, "li holds web until noon"},
	} {
		t.Run(c.name, func(t *testing.T) {
			loop := &fakeLoop{view: viewOf(web()), after: c.after, do: func(policy.Command) ([]policy.Decision, error) { return c.decided, nil }}
			got, err := serve(t, loop, &fakeArchive{}).Do(t.Context(), Order{Command: policy.Command{Order: c.order, Unit: "web"}, Wait: !c.noWait})
			if err != nil {
				t.Fatal(err)
			}
			if got.Result != c.want || got.Text != c.text || got.Unit == nil || got.Unit.Key != key {
				t.Errorf("got %s %q of %v; want %s %q", got.Result, got.Text, got.Unit, c.want, c.text)
			}
		})
	}
}

// TestCommandIsSettled wants the unit's key and the kernel's word on who gave
// the order.
func TestCommandIsSettled(t *testing.T) {
	loop := &fakeLoop{view: viewOf(web())}
	c := serve(t, loop, &fakeArchive{})
	if _, err := c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderHold, Unit: "c0ffee", For: time.Hour, By: "the king", Why: "x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderHold, Project: "shop"}}); err != nil {
		t.Fatal(err)
	}
	by := fmt.Sprintf("uid %d", os.Getuid())
	for i := range loop.cmds {
		if !strings.HasPrefix(loop.cmds[i].By, by) {
			t.Errorf("By is %q, want %q", loop.cmds[i].By, by)
		}
		loop.cmds[i].By = ""
	}
	want := []policy.Command{
		{Order: policy.OrderHold, Unit: key, For: time.Hour, Why: "x"},
		{Order: policy.OrderHold, Project: "shop"},
	}
	if d := cmp.Diff(want, loop.cmds); d != "" {
		t.Error(d)
	}
}

func TestCommandRefused(t *testing.T) {
	loop := &fakeLoop{view: viewOf(web())}
	c := serve(t, loop, &fakeArchive{})
	for _, x := range []struct {
		cmd  policy.Command
		want string
	}{
		{policy.Command{Order: "explode", Unit: "web"}, `there is no order "explode"`},
		{policy.Command{Order: policy.OrderRestart}, "restart takes the name of one container"},
		{policy.Command{Order: policy.OrderRestart, All: true}, "restart takes the name of one container"},
		{policy.Command{Order: policy.OrderHold}, "hold takes one of a name, a project and all"},
		{policy.Command{Order: policy.OrderHold, Unit: "web", All: true}, "hold takes one of a name, a project and all"},
		{policy.Command{Order: policy.OrderHold, GPU: "0"}, "hold takes one of a name, a project and all"},
		{policy.Command{Order: policy.OrderRestart, Unit: "web", GPU: "0"}, "restart takes the name of one container"},
		{policy.Command{Order: policy.OrderRelease, Unit: "web", GPU: "0"}, "release takes one of a name, a project, a GPU and all"},
		{policy.Command{Order: policy.OrderReset, Unit: "web"}, "gpu_reset takes one GPU"},
		{policy.Command{Order: policy.OrderReset, GPU: "0", All: true}, "gpu_reset takes one GPU"},
		{policy.Command{Order: policy.OrderReset, GPU: "0"}, "defib knows of no GPU on this host"},
		{policy.Command{Order: policy.OrderHold, All: true, For: -1}, "it cannot end in the past"},
		{policy.Command{Order: policy.OrderHold, All: true, Why: strings.Repeat("x", 1001)}, "the reason is longer than 1000 bytes"},
		{policy.Command{Order: policy.OrderHold, Project: "shpo"}, `no watched container belongs to a compose project "shpo"`},
		{policy.Command{Order: policy.OrderStop, Unit: "redis"}, "redis is not watched: no label"},
		{policy.Command{Order: policy.OrderStop, Unit: strings.Repeat("x", 1<<17)}, "read the order: http: request body too large"},
	} {
		if _, err := c.Do(t.Context(), Order{Command: x.cmd}); err == nil || err.Error() != x.want {
			t.Errorf("%.60v: got %v, want %s", x.cmd, err, x.want)
		}
	}
	if len(loop.cmds) != 0 {
		t.Errorf("the loop got %v, want nothing", loop.cmds)
	}
	loop.do = func(policy.Command) ([]policy.Decision, error) { return nil, watcher.ErrStopping }
	var refused *RefusedError
	if _, err := c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderRetry, Unit: "web"}}); !errors.As(err, &refused) || refused.Code != 503 {
		t.Errorf("got %v, want 503", err)
	}
}
