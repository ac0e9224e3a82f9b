package notify

import (
	"slices"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// What to send next is worked out here, from what is and what the channel has
// been told. Nothing here has a clock or touches anything.

const (
	paceEvery    = 2 * time.Second // between two edits of a message, and two lines of a thread …
	paceMany     = time.Minute     // … of an incident of many containers: its message tells the news
	chainEvery   = time.Hour       // chats that cannot edit hear of flapping that often
	stormEvery   = 5 * time.Minute // and of further members of a storm who need somebody
	resolvedFor  = 5 * time.Minute // alerts: the end is sent again for so long
	expireOthers = time.Hour       // what is over is not news after that …
	expirePage   = 24 * time.Hour  // … or after that, if somebody was needed
	forgetAfter  = 7 * 24 * time.Hour
)

// cover says who else tells an incident.
type cover int

const (
	coverNone   cover = iota
	coverPast         // its parent did, and is over
	coverParent       // its parent does
	coverStorm        // the storm that it is part of does
)

// outlook is all that the choice of the next message depends on.
type outlook struct {
	class       Class
	min         policy.Level
	refresh     time.Duration // alerts are sent again that often; 0: once is enough
	remindAfter time.Duration
	remindMax   int
	quiet       Quiet
	silenced    time.Time // until; zero: not
	cover       cover
	taken       time.Time // until then each child that needs somebody has somebody; zero: not
	forced      bool      // the channel that it is for tells nobody
	crowded     time.Time // until then there are enough roots; zero: not
	in          *policy.Incident
	rec         *record
	now         time.Time
}

// plan is the next message and when it is due.
type plan struct {
	kind Kind // empty: none
	due  time.Time
	drop bool // this revision is never to be told
}

// next returns what to send next.
func (o outlook) next() plan {
	p := o.wanted()
	if p.kind != "" && p.due.Before(o.now) {
		p.due = o.now
	}
	return p
}

// hush puts a message off for silences and quiet hours. What notifies nobody,
// an edit, is not hushed: it keeps what was said true.
func (o outlook) hush(p plan) plan {
	if p = o.mute(p); p.kind != "" && !o.rec.grave() {
		p.due = o.quiet.after(p.due)
	}
	return p
}

// mute puts off a message to the end of a silence.
func (o outlook) mute(p plan) plan {
	if p.kind == "" {
		return p
	}
	if p.due.Before(o.now) {
		p.due = o.now
	}
	if o.silenced.After(p.due) {
		p.due = o.silenced
	}
	return p
}

func (o outlook) wanted() plan {
	r := o.rec
	switch {
	case r.Dropped != 0 && r.Dropped == o.in.Rev && !r.kept(o.now):
		return plan{}
	case !r.Here && (o.class != Threaded || r.Posted == 0):
		return o.first()
	case o.class == Threaded:
		return o.threaded()
	case o.class == Append:
		return o.append()
	case o.class == Alert:
		return o.alert()
	}
	return o.feed()
}

// first is the first that the channel hears of the incident.
func (o outlook) first() plan {
	r := o.rec
	switch {
	case r.Closed != 0 && r.Owed && o.class == Alert:
		return plan{kind: KindResolve, due: o.now}
	case r.Closed != 0 && r.OwedPage: // who was called may sleep on
		return o.mute(plan{kind: KindResolve, due: o.now})
	case r.Closed != 0 && r.Owed:
		return o.hush(plan{kind: KindResolve, due: o.now})
	case !o.concerns(), o.class == DropIn && r.Told == o.in.Rev: // there was nothing to say of it
		return plan{}
	case r.Closed != 0 && o.class == Alert && (r.attempts > 0 || o.silenced.IsZero() && !o.stale()):
		// It may have been raised all the same: the answer was lost, or defib
		// was killed before it noted that. To end what is not open does nothing.
		return plan{kind: KindResolve, due: o.now}
	case r.Closed != 0 && (!o.silenced.IsZero() || o.stale()):
		return plan{drop: true}
	case o.class == Append && r.Posted != 0 && !r.grave():
		if r.Closed != 0 {
			return plan{drop: true}
		}
		return o.hush(plan{kind: KindPost, due: r.Posted.add(chainEvery).time()})
	case o.class == Alert:
		return o.hush(plan{kind: KindPost, due: max(stampOf(o.now), r.sparedTo).time()})
	}
	return o.hush(plan{kind: KindPost, due: o.now})
}

// concerns reports whether the channel is to hear of it.
func (o outlook) concerns() bool {
	r := o.rec
	switch {
	case o.cover == coverStorm, o.cover == coverParent, o.cover == coverPast && !r.urgent():
		return false
	case o.forced && r.urgent():
		return true
	}
	return !r.Off && (o.reached() || len(r.Members) > 0)
}

func (o outlook) reached() bool {
	level := o.rec.Level
	if o.rec.Child {
		level = policy.LevelPage
	}
	return rank(level) >= rank(o.min)
}

func rank(l policy.Level) int {
	switch l {
	case policy.LevelPage:
		return 2
	case policy.LevelWarn:
		return 1
	default:
		return 0
	}
}

// stale: it is over, and too old to be news. What the quiet hours kept back
// ages from their end.
func (o outlook) stale() bool {
	from, most := o.rec.Closed.time(), expirePage
	if !o.rec.grave() && o.class != Feed {
		from, most = o.quiet.after(from), expireOthers
	}
	return o.now.Sub(from) > most
}

// threaded follows an incident whose root is there.
func (o outlook) threaded() plan {
	r := o.rec
	calls, edits := o.hush(o.escalate()), o.soonest(o.resolve(), o.edit())
	if o.cover == coverParent || o.cover == coverPast {
		return o.soonest(calls, edits, o.hush(o.remind()))
	}
	return o.soonest(calls, edits, o.hush(o.again()), o.hush(o.evidence()), o.hush(o.steps(r.newSteps(o.in))), o.hush(o.remind()))
}

func (o outlook) append() plan {
	return o.soonest(o.hush(o.escalate()), o.hush(o.resolve()), o.hush(o.remind()))
}

// alert follows an alert that has been raised. Silences and quiet hours keep
// back what calls somebody and nothing else: an alert that is not sent again,
// or whose end is not told, tells people something that is not so.
func (o outlook) alert() plan {
	r := o.rec
	last := max(r.SentAt, r.PagedAt).time()
	switch {
	case r.Closed != 0 && r.Resolved == 0:
		return plan{kind: KindResolve, due: o.now}
	case r.Closed != 0:
		if again := last.Add(o.refresh); o.refresh > 0 && !again.After(r.Resolved.time().Add(resolvedFor)) {
			return plan{kind: KindResolve, due: again}
		}
		return plan{}
	case o.in.Ack != nil && !r.Acked:
		return plan{kind: KindAck, due: o.now}
	}
	var again plan
	if o.refresh > 0 {
		again = plan{kind: KindPost, due: last.Add(o.refresh)}
	}
	return o.soonest(o.hush(o.soonest(o.escalate(), o.lapsed())), again)
}

// lapsed calls again for what somebody had taken and did not end in time: the
// service takes it for taken still. One that forgets calls by itself.
func (o outlook) lapsed() plan {
	r := o.rec
	if !r.Lapsed || !r.urgent() || o.refresh > 0 {
		return plan{}
	}
	return plan{kind: KindRemind, due: max(r.PagedAt.add(stormEvery), r.sparedTo).time()}
}

// feed follows what is told in all its revisions. Those of a drop-in are
// sentences in a chat.
func (o outlook) feed() plan {
	r := o.rec
	if r.Told == o.in.Rev {
		return plan{}
	}
	p := plan{kind: KindEdit, due: r.SentAt.add(paceEvery).time()}
	if r.Closed != 0 {
		p.kind = KindResolve
	}
	if o.class == DropIn {
		return o.hush(p)
	}
	return p
}

// escalate calls somebody, unless they have been called. A storm calls again
// for those of its members that came to need somebody since, so does a parent
// for its children, and an alarm for what else cannot be recorded.
func (o outlook) escalate() plan {
	r := o.rec
	if !r.urgent() || r.Paged {
		return plan{}
	}
	p := plan{kind: KindEscalate, due: max(stampOf(o.now), r.sparedTo).time()}
	switch {
	case r.PagedAt == 0:
	case r.alarm():
		pause := time.Duration(r.PagedAt - r.Opened)
		p.due = later(p.due, r.PagedAt.add(min(max(pause, alarmPause), stormEvery)).time())
	case len(r.Members) > 0 || r.Child:
		p.due = later(p.due, r.PagedAt.add(stormEvery).time())
	}
	return p
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (o outlook) resolve() plan {
	if o.rec.Closed == 0 || o.rec.Resolved != 0 {
		return plan{}
	}
	return plan{kind: KindResolve, due: o.now}
}

func (o outlook) edit() plan {
	r := o.rec
	if r.Closed != 0 || r.Here && r.Seen == seen(o.in, r.Child) {
		return plan{}
	}
	return plan{kind: KindEdit, due: r.SentAt.add(paceEvery).time()}
}

// again says visibly that what was over is not: an edit is seen by nobody. Of
// what keeps flapping that is said once an hour, and many at once wait.
func (o outlook) again() plan {
	r := o.rec
	if !r.Reopened || r.Closed != 0 || r.Off || r.urgent() || !o.reached() || rank(r.Level) < rank(policy.LevelWarn) {
		return plan{}
	}
	due := later(o.now, o.crowded)
	if r.Again != 0 {
		due = later(due, r.Again.add(chainEvery).time())
	}
	return plan{kind: KindAgain, due: due}
}

func (o outlook) evidence() plan {
	if o.rec.Evidence || !evident(o.in) {
		return plan{}
	}
	return plan{kind: KindEvidence, due: o.now}
}

// evident: there is evidence, and something to read in it.
func evident(in *policy.Incident) bool {
	e := in.Evidence
	return e != nil && (len(e.Logs) > 0 || e.LogsErr != "" || len(in.GPUs) > 0 ||
		slices.ContainsFunc(e.Probes, func(p policy.Probe) bool { return p.ExitCode != 0 }))
}

func (o outlook) steps(untold []policy.Step) plan {
	if len(untold) == 0 {
		return plan{}
	}
	if len(o.in.Children) > stormRoots && o.rec.Closed == 0 {
		return plan{kind: KindStep, due: max(o.rec.LineAt, o.rec.Posted).add(paceMany).time()}
	}
	return plan{kind: KindStep, due: o.rec.LineAt.add(paceEvery).time()}
}

// remind says again that somebody is needed, while nobody has taken it.
func (o outlook) remind() plan {
	r := o.rec
	if !r.urgent() || !r.Paged || r.PagedAt == 0 || r.Reminders >= o.remindMax && !r.Answered || o.remindMax <= 0 || o.remindAfter < 0 {
		return plan{}
	}
	due := max(r.PagedAt, r.Reminded).add(o.remindAfter).time()
	if a := o.in.Ack; a != nil && a.Until.After(due) {
		due = a.Until
	}
	if o.taken.After(due) {
		due = o.taken
	}
	return plan{kind: KindRemind, due: due}
}

// soonest returns what is due first, and of what is due together the one that
// is named first. All that is overdue is due now.
func (o outlook) soonest(plans ...plan) plan {
	var best plan
	for _, p := range plans {
		if p.due.Before(o.now) {
			p.due = o.now
		}
		if p.kind != "" && (best.kind == "" || p.due.Before(best.due)) {
			best = p
		}
	}
	return best
}
