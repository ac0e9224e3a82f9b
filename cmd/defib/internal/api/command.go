package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// The rules of the notes that end an order: one refuses it, two say what came
// of a reset of a GPU.
const (
	ruleRefused     = "refused"
	ruleResetDone   = "gpu_reset_done"
	ruleResetFailed = "gpu_reset_failed"
)

// maxAck bounds how long somebody may look after an incident.
const maxAck = 30 * 24 * time.Hour

func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	var o Order
	if !body(w, r, &o) {
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
	if o.Order == policy.OrderAck {
		done, err := s.needless(o)
		if err != nil {
			s.fail(w, err)
			return
		}
		if done != "" {
			send(w, Answer{Version: Version, Result: Done, Text: done})
			return
		}
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

// needless says why there is nothing to do about an incident, or "". Its error
// is that there is no such incident.
func (s *Server) needless(o Order) (string, error) {
	inc, err := s.incidentOf(o.Incident)
	if err == nil && o.Undo && inc.Closed.IsZero() && inc.Ack == nil {
		return "nobody had taken it", nil
	}
	return "", err
}

// settle turns what a person named into what the policy knows.
func (o *Order) settle(v *watcher.View) error {
	if o.Unit != "" {
		u, err := Find(v.Units, v.Host.Others, o.Unit)
		o.Unit = u.Key
		return err
	}
	if o.GPU != "" && (o.GPU != AllGPUs || o.Order != policy.OrderRelease) {
		g, err := FindGPU(v.GPUs, o.GPU)
		o.GPU = g.UUID
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
	if text := o.wrongTarget(); text != "" {
		return text
	}
	if o.For < 0 {
		return "it cannot end in the past"
	}
	if len(o.Why) > 1000 {
		return "the reason is longer than 1000 bytes"
	}
	return ""
}

// wrongTarget says why an order cannot be about what it names, or "".
func (o *Order) wrongTarget() string {
	targets := 0
	for _, given := range []bool{o.Unit != "", o.Project != "", o.All, o.GPU != ""} {
		if given {
			targets++
		}
	}
	switch {
	case o.Order == policy.OrderAck:
		return o.wrongAck(targets)
	case o.Incident != "":
		return "only ack takes an incident"
	case o.Undo:
		return "only ack can be undone"
	}
	switch o.Order {
	case policy.OrderRestart, policy.OrderStop, policy.OrderRetry:
		if o.Unit == "" || targets != 1 {
			return string(o.Order) + " takes the name of one container"
		}
	case policy.OrderHold:
		if targets != 1 || o.GPU != "" {
			return string(o.Order) + " takes one of a name, a project and all"
		}
	case policy.OrderRelease:
		if targets != 1 {
			return string(o.Order) + " takes one of a name, a project, a GPU and all"
		}
	case policy.OrderReset:
		if o.GPU == "" || targets != 1 {
			return string(o.Order) + " takes one GPU"
		}
	default:
		return fmt.Sprintf("there is no order %.40q", string(o.Order))
	}
	return ""
}

func (o *Order) wrongAck(targets int) string {
	switch {
	case o.Incident == "" || targets > 0:
		return "ack takes the ID of one incident"
	case o.For > maxAck:
		return "an incident is taken for at most 30 days; hold the container, or mend it"
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
	ended     *policy.Decision // of a reset: the note that says how it ended
}

// take sorts decisions about the order's unit; in the order's own step, those
// about no unit are about the order.
func (t *track) take(ds []policy.Decision, own bool) {
	for _, d := range ds {
		if t.order.Order == policy.OrderReset {
			t.takeReset(d, own)
			continue
		}
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

// takeReset sorts a decision about a reset of a GPU, which takes many steps:
// containers end, the command runs, the driver is asked. Only one at a time is
// under way.
func (t *track) takeReset(d policy.Decision, own bool) {
	switch {
	case d.Verb == policy.VerbNote && (d.Rule == ruleResetDone || d.Rule == ruleResetFailed):
		if len(d.GPUs) > 0 && !slices.Contains(d.GPUs, t.order.GPU) {
			return
		}
		t.ended = &d
	case !own:
		return
	case d.Verb == policy.VerbNote && d.Rule == ruleRefused:
		t.refusal = d.Reason
	case d.Verb == policy.VerbNote && d.Unit == "":
		t.notes = append(t.notes, d.Reason)
	}
	t.decisions = append(t.decisions, d)
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
	if t.ended != nil && t.took == 0 {
		t.took = now.Sub(t.began)
	}
}

// waiting reports whether something is still to come: the outcome of the act,
// or the act itself after the question that comes before it.
func (t *track) waiting() bool {
	if !t.order.Wait || t.refusal != "" || t.outcome != nil {
		return false
	}
	if t.order.Order == policy.OrderReset {
		return t.ended == nil
	}
	return t.act != 0 || len(t.notes) == 0 && len(t.decisions) > 0
}

func (t *track) answer(v *watcher.View) Answer {
	a := Answer{Version: Version, Result: Done, Took: t.took, Decisions: t.decisions, Text: strings.Join(t.notes, "; ")}
	switch {
	case t.refusal != "":
		a.Result, a.Text = Refused, t.refusal
	case t.order.Order == policy.OrderReset:
		t.resetAnswer(&a)
	case t.outcome != nil && t.outcome.Class != policy.OutcomeOK:
		a.Result, a.Text = Failed, t.outcome.Text
		if a.Text == "" {
			a.Text = "the outcome is: " + string(t.outcome.Class)
		}
	case t.outcome == nil && (t.act != 0 || len(t.notes) == 0 && len(t.decisions) > 0):
		a.Result = Begun
	}
	if v != nil {
		t.about(&a, v)
	}
	return a
}

func (t *track) resetAnswer(a *Answer) {
	switch {
	case t.ended == nil:
		a.Result = Begun
	case t.ended.Rule == ruleResetFailed:
		a.Result, a.Text = Failed, t.ended.Reason
	default:
		a.Text = t.ended.Reason
	}
}

// about adds what the order was about, as it is now.
func (t *track) about(a *Answer, v *watcher.View) {
	for _, u := range v.Units {
		if t.order.Unit != "" && u.Key == t.order.Unit {
			a.Unit = &u
		}
	}
	for _, g := range v.GPUs {
		if t.order.GPU != "" && g.UUID == t.order.GPU {
			a.GPU = &g
		}
	}
}
