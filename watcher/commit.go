package watcher

import (
	"fmt"
	"strings"

	"github.com/defib-dev/defib/watcher/policy"
)

// commit makes the steps of this turn durable, and everything that an earlier
// refusal left over. It notices when the journal begins or ceases to refuse.
func (w *Watcher) commit() error {
	before := w.ledger.refused
	done, err := w.ledger.commit(w.o.Now())
	w.feed.publish(done)
	if n := len(done); n > 0 {
		w.changed = done[n-1].Changes.Incidents
	}
	switch {
	case err != nil && before == nil:
		w.disarm(err)
	case before != nil && w.ledger.refused == nil:
		w.rearm()
	}
	return err
}

// handOver tells of the incidents that the turn's commit made durable. The
// view is as new as they are: who tells people reads both.
func (w *Watcher) handOver() {
	changed := w.changed
	w.changed = nil
	if len(changed) > 0 && w.o.Told != nil {
		w.o.Told(changed)
	}
}

// cry tells people directly what calls for a human and cannot be recorded.
func (w *Watcher) cry(decided []policy.Decision) {
	if w.o.Alarm == nil {
		return
	}
	for _, d := range decided {
		if d.Paged {
			w.o.Alarm(strings.TrimPrefix(d.Name+": "+d.Reason, ": "))
		}
	}
}

// disarm stops the policy from acting while nothing can be recorded.
func (w *Watcher) disarm(err error) {
	why := fmt.Sprintf("nothing can be recorded (%v); free or repair the disk of the state directory: defib tries again every %v", err, retryJournal)
	w.own = append(w.own, message{ev: policy.Event{Kind: policy.KindHoldSet, Hold: w.diskHold(why)}})
	w.o.Log.Error("journal refuses: watching goes on, nothing is repaired until it works again", "err", err)
	if w.o.Alarm != nil {
		w.o.Alarm("defib keeps watching but repairs nothing: " + why)
	}
}

func (w *Watcher) rearm() {
	w.own = append(w.own, message{ev: policy.Event{Kind: policy.KindHoldCleared, Hold: w.diskHold("the journal works again")}})
	w.o.Log.Info("journal works again", "records_lost", w.ledger.lost)
	w.ledger.lost = 0
	if w.o.Calm != nil {
		w.o.Calm()
	}
}

func (w *Watcher) diskHold(why string) *policy.Hold {
	return &policy.Hold{Reason: policy.HoldDisk, Scope: policy.ScopeHost, Since: w.o.Now(), By: "journal", Why: why}
}

// refuse answers an act that was decided but could not be recorded: it is not
// carried out, and the Machine must not wait for it.
func (w *Watcher) refuse(d policy.Decision, err error) {
	out := policy.Outcome{Class: policy.OutcomeFailed, Text: fmt.Sprintf("%s %s: not carried out, for nothing can be recorded: %v", d.Verb, d.Name, err)}
	w.own = append(w.own, message{ev: outcomeOf(d, out), by: d, final: true})
}

func outcomeOf(d policy.Decision, out policy.Outcome) policy.Event {
	return policy.Event{Kind: policy.KindOutcome, Unit: d.Unit, Container: d.Container, Decision: d.ID, Outcome: &out}
}
