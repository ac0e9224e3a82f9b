package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// ruleRefused is the rule of the note that refuses an order.
const ruleRefused = "refused"

func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	var o Order
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		refuse(w, http.StatusBadRequest, "read the order: "+err.Error(), "the command may be newer than the daemon; see `defib version`")
		return
	}
	if text := o.wrong(); text != "" {
		refuse(w, http.StatusBadRequest, text, "")
		return
	}
	v := s.view(w)
	if v == nil {
		return
	}
	if err := o.settle(v); err != nil {
		s.fail(w, err)
		return
	}
	o.By = r.RemoteAddr
	// A restart may take minutes; the answer is written at the end of it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	a, err := s.carryOut(r.Context(), o)
	if err != nil {
		s.fail(w, err)
		return
	}
	send(w, a)
}

// settle turns what a person named into what the policy knows.
func (o *Order) settle(v *watcher.View) error {
	if o.Unit != "" {
		u, err := Find(v.Units, v.Host.Others, o.Unit)
		o.Unit = u.Key
		return err
	}
	if o.Project != "" && o.Order == policy.OrderHold {
		inProject := func(u policy.Status) bool { return u.Project == o.Project }
		if !slices.ContainsFunc(v.Units, inProject) {
			return &UnknownError{
				Text: fmt.Sprintf("no watched container belongs to a compose project %q", o.Project),
				Hint: "`defib status -o wide` shows the projects",
			}
		}
	}
	return nil
}

// wrong says what makes no sense about an order, or "".
func (o *Order) wrong() string {
	targets := 0
	for _, given := range []bool{o.Unit != "", o.Project != "", o.All} {
		if given {
			targets++
		}
	}
	switch o.Order {
	case policy.OrderRestart, policy.OrderStop, policy.OrderRetry:
		if o.Unit == "" || targets != 1 {
			return string(o.Order) + " takes the name of one container"
		}
	case policy.OrderHold, policy.OrderRelease:
		if targets != 1 {
			return string(o.Order) + " takes one of a name, a project and all"
		}
	default:
		return fmt.Sprintf("there is no order %.40q", string(o.Order))
	}
	if o.For < 0 {
		return "a hold cannot end in the past"
	}
	if len(o.Why) > 1000 {
		return "the reason is longer than 1000 bytes"
	}
	return ""
}

// carryOut gives the order and, when asked to, waits for what comes of it.
func (s *Server) carryOut(ctx context.Context, o Order) (Answer, error) {
	follow, stop := context.WithCancel(ctx)
	defer stop()
	feed := s.o.Loop.Subscribe(follow)
	decided, err := s.o.Loop.Do(ctx, o.Command)
	if err != nil {
		return Answer{}, err
	}
	t := track{order: o, began: s.o.Now()}
	t.take(decided, true)
	for t.waiting() {
		c, open := <-feed
		if !open {
			break
		}
		t.record(c.Record, s.o.Now())
	}
	return t.answer(s.o.Loop.View()), nil
}

// track follows one order through the committed records to its end.
type track struct {
	order     Order
	began     time.Time
	decisions []policy.Decision
	act       uint64 // the act that the order led to
	outcome   *policy.Outcome
	took      time.Duration
	refusal   string
	notes     []string
}

// take sorts decisions about the order's unit; in the order's own step, those
// about no unit are about the order.
func (t *track) take(ds []policy.Decision, own bool) {
	for _, d := range ds {
		if d.Unit != t.order.Unit && (d.Unit != "" || !own) {
			continue
		}
		t.decisions = append(t.decisions, d)
		switch {
		case d.Verb.Act():
			t.act = d.ID
		case d.Verb == policy.VerbNote && d.Rule == ruleRefused:
			t.refusal = d.Reason
		case d.Verb == policy.VerbNote:
			t.notes = append(t.notes, d.Reason)
		}
	}
}

// record takes in one committed record.
func (t *track) record(r watcher.Record, now time.Time) {
	if r.Event.Kind == policy.KindOutcome && t.act != 0 && r.Event.Decision == t.act {
		t.outcome, t.took = r.Event.Outcome, now.Sub(t.began)
	}
	if r.Event.Kind == policy.KindCommand { // somebody's; ours has been taken
		return
	}
	t.take(r.Decisions, false)
}

// waiting reports whether something is still to come: the outcome of the act,
// or the act itself after the question that comes before it.
func (t *track) waiting() bool {
	if !t.order.Wait || t.refusal != "" || t.outcome != nil {
		return false
	}
	return t.act != 0 || len(t.notes) == 0 && len(t.decisions) > 0
}

func (t *track) answer(v *watcher.View) Answer {
	a := Answer{Version: Version, Result: Done, Took: t.took, Decisions: t.decisions, Text: strings.Join(t.notes, "; ")}
	switch {
	case t.refusal != "":
		a.Result, a.Text = Refused, t.refusal
	case t.outcome != nil && t.outcome.Class != policy.OutcomeOK:
		a.Result, a.Text = Failed, t.outcome.Text
		if a.Text == "" {
			a.Text = "the outcome is: " + string(t.outcome.Class)
		}
	case t.outcome == nil && (t.act != 0 || len(t.notes) == 0 && len(t.decisions) > 0):
		a.Result = Begun
	}
	if v != nil && t.order.Unit != "" {
		for _, u := range v.Units {
			if u.Key == t.order.Unit {
				a.Unit = &u
			}
		}
	}
	return a
}
