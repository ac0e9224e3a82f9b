package watcher

import (
	"fmt"

	"github.com/defib-dev/defib/watcher/policy"
)

// commit makes the steps of this turn durable, and everything that an earlier
// refusal left over. It notices when the journal begins or ceases to refuse.
func (w *Watcher) commit() error {
	before := w.ledger.refused
	done, err := w.ledger.commit(w.o.Now())
	w.feed.publish(done)
	switch {
	case err != nil && before == nil:
		w.disarm(err)
	case before != nil && w.ledger.refused == nil:
		w.rearm()
	}
	return err
}

// disarm stops the policy from acting while nothing can be recorded.
func (w *Watcher) disarm(err error) {
	why := fmt.Sprintf("nothing can be recorded (%v); free or repair the disk of the state directory: defib tries again every %v", err, retryJournal)
	w.own = append(w.own, message{ev: policy.Event{Kind: policy.KindHoldSet, Hold: w.diskHold(why)}})
	w.o.Log.Error("journal refuses: watching goes on, nothing is repaired until it works again", "err", err)
	if w.o.Alarm != nil {
		text := "defib keeps watching but repairs nothing: " + why
		w.owned.Go(func() { w.o.Alarm(text) })
	}
}

func (w *Watcher) rearm() {
	w.own = append(w.own, message{ev: policy.Event{Kind: policy.KindHoldCleared, Hold: w.diskHold("the journal works again")}})
	w.o.Log.Info("journal works again", "records_lost", w.ledger.lost)
	w.ledger.lost = 0
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
