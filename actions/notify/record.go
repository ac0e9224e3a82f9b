package notify

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// stamp is a time in nanoseconds since 1970; 0 is none. Thousands of records
// are kept, and a time.Time is three times as large.
type stamp int64

func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixNano())
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(s))
}

func (s stamp) after(t time.Time) bool { return s > stampOf(t) }

func (s stamp) add(d time.Duration) stamp { return s + stamp(d) }

// record is what one channel has been told of an incident and of those that
// it continues. It is stored after each message.
type record struct {
	Root    string       `json:"root"` // the first incident: the key
	ID      string       `json:"id"`   // the newest
	Unit    string       `json:"unit,omitempty"`
	Name    string       `json:"name,omitempty"`
	Opened  stamp        `json:"opened"`
	Closed  stamp        `json:"closed,omitempty"`
	End     string       `json:"end,omitempty"`   // how it closed
	Cause   string       `json:"cause,omitempty"` // of an alarm, which is kept nowhere else
	Times   int          `json:"times"`           // which of its chain the newest is, from 1 on
	Rev     int          `json:"rev"`             // newest revision seen
	Level   policy.Level `json:"level"`           // in it
	Parent  string       `json:"parent,omitempty"`
	Project string       `json:"project,omitempty"`
	Off     bool         `json:"off,omitempty"`     // routes lead it elsewhere
	Child   bool         `json:"child,omitempty"`   // one of its children needs somebody
	Storm   string       `json:"storm,omitempty"`   // it is told as part of this storm
	Members []string     `json:"members,omitempty"` // of a storm: the keys of their records
	Joined  stamp        `json:"joined,omitempty"`  // the newest of them

	Ref    Receipt `json:"ref,omitempty"`
	Posted stamp   `json:"posted,omitempty"`   // when the root message was sent
	Again  stamp   `json:"again_at,omitempty"` // when it was last said that it began anew
	told           // of the newest incident

	// What waits. It is worked out anew after a restart.
	kind      Kind // empty: nothing
	due       stamp
	Since     stamp `json:"-"` // when it became due
	notBefore stamp // after a failure
	attempts  int
	lastErr   string
	muted     stamp  // until then a silence keeps it untold
	denied    uint64 // how many messages the channel had sent, plus 1, when its token was refused last
	sparedTo  stamp  // until then nobody is called, for it works again
}

// told is what the channel knows of one incident.
type told struct {
	Here      bool   `json:"here,omitempty"`      // it has been told at all
	Owed      bool   `json:"owed,omitempty"`      // the one before it was told, and its end was not …
	OwedPage  bool   `json:"owed_page,omitempty"` // … for which somebody was called
	Told      int    `json:"told,omitempty"`      // the newest revision told
	Seen      uint64 `json:"seen,omitempty"`      // what people see of the root: see seen
	Paged     bool   `json:"paged,omitempty"`     // it was told that somebody is needed …
	PagedAt   stamp  `json:"paged_at,omitempty"`  // … and when last
	Acked     bool   `json:"acked,omitempty"`     // the service was told that somebody has taken it
	Lapsed    bool   `json:"lapsed,omitempty"`    // … and nobody has any more
	AckBy     string `json:"ack_by,omitempty"`    // who has taken it …
	AckAt     stamp  `json:"ack_at,omitempty"`    // … when …
	AckUntil  stamp  `json:"ack_until,omitempty"` // … and until when; 0: nobody has
	Answered  bool   `json:"answered,omitempty"`  // it was taken since the newest reminder: one more is owed when that expires
	Resolved  stamp  `json:"resolved,omitempty"`
	Reopened  bool   `json:"reopened,omitempty"` // its root says that it is over, or did, and nobody was told that it is not
	Evidence  bool   `json:"evidence,omitempty"`
	Steps     stamp  `json:"steps,omitempty"`       // of the newest step told …
	StepsAt   int    `json:"steps_at,omitempty"`    // … and how many of that instant
	LineAt    stamp  `json:"line_at,omitempty"`     // when the newest line went into the thread
	SentAt    stamp  `json:"sent_at,omitempty"`     // of a root or a revision of it
	Reminders int    `json:"reminders,omitempty"`   // sent
	Reminded  stamp  `json:"reminded,omitempty"`    // the newest
	Gone      bool   `json:"gone,omitempty"`        // its root was lost once, and posted anew
	Dropped   int    `json:"dropped_rev,omitempty"` // this revision is not told any more …
	Refused   stamp  `json:"refused,omitempty"`     // … since the service would not take it, first then
}

// rootOf is the key of an incident's record: flapping is one message.
func rootOf(in *policy.Incident) string { return cmp.Or(in.Root, in.ID) }

// follow takes up what is known of an incident now. An incident that continues
// another starts anew, under the old root message. Where what was sent stays, as
// told, the end of the old one is still owed: that of the new one is the end of
// both.
func (r *record) follow(in *policy.Incident, stays bool) {
	opened, times := stampOf(in.Opened), max(in.Times, 1)
	switch {
	case r.ID == in.ID && r.Opened == opened:
	case r.ID != in.ID && opened < r.Opened && times <= r.Times:
		return // an older one of the chain
	case r.alarm() && r.Here && r.Resolved == 0: // its end was never told, so it goes on
		r.Opened, r.Rev, r.Paged = opened, 0, false
	default:
		if r.ID != "" && rootOf(in) == in.ID {
			*r = record{Root: r.Root} // IDs are given anew when the journal begins anew: this is another one
		}
		anew := told{Reopened: r.Posted != 0 && (r.Resolved != 0 || r.Reopened)}
		anew.Owed = stays && r.owes()
		anew.OwedPage = anew.Owed && (r.grave() || r.OwedPage)
		r.ID, r.Opened, r.told, r.Storm, r.Child, r.Rev = in.ID, opened, anew, "", false, 0
	}
	switch {
	case in.Rev < r.Rev:
		return
	case in.Rev > r.Rev:
		r.sparedTo = 0
		if r.Refused != 0 { // it may be taken as it is now
			r.notBefore = 0
		}
	}
	r.Times, r.Rev, r.Level, r.Parent = times, in.Rev, in.Level, in.Parent
	r.Unit, r.Name, r.Closed, r.End = in.Unit, in.Name, stampOf(in.Closed), in.End
	if r.alarm() {
		r.Cause = in.Cause
	}
	r.taken(in.Ack)
}

// endLost is how an incident ended of which the archive knows no more.
const endLost = "lost"

// orphaned is the incident as far as the record knows it, for people who take
// it for open and would for ever.
func (r *record) orphaned(now time.Time) policy.Incident {
	in := policy.Incident{
		ID: r.ID, Rev: r.Rev, Unit: r.Unit, Name: r.Name, Project: r.Project, Opened: r.Opened.time(), Closed: r.Closed.time(), End: endLost,
		Level: r.Level, Parent: r.Parent, Root: r.Root, Times: r.Times, Cause: "what was known of it is lost; defib begins anew with what it sees now",
	}
	if r.Closed == 0 {
		in.Rev, in.Closed = r.Rev+1, now
	}
	return in
}

// taken takes up who has taken the incident; nil: nobody, or not any more.
func (r *record) taken(a *policy.Ack) {
	if a == nil {
		r.Lapsed = r.Lapsed || r.Acked
		r.Acked, r.AckBy, r.AckUntil = false, "", 0
		return
	}
	r.Lapsed = false
	if at := stampOf(a.At); at != r.AckAt {
		r.AckAt, r.Answered = at, true
	}
	r.AckBy, r.AckUntil = a.By, stampOf(a.Until)
}

// notAfter mends what was noted by a clock that has been set back since:
// nothing was sent later than now, and nothing waits for the old time.
func (r *record) notAfter(now stamp) {
	for _, at := range []*stamp{&r.Posted, &r.Again, &r.PagedAt, &r.LineAt, &r.SentAt, &r.Reminded, &r.Resolved} {
		*at = min(*at, now)
	}
	r.notBefore, r.sparedTo = 0, 0
}

// dropped: the newest revision is not told, now or at all.
func (r *record) dropped() bool { return r.Dropped != 0 && r.Dropped == r.Rev }

// uncalled: somebody is needed, and the service will not take that.
func (r *record) uncalled() bool { return r.urgent() && r.dropped() && r.Refused != 0 }

// owes: people take it for open, or the one that it continues.
func (r *record) owes() bool { return (r.Here || r.Owed) && r.Resolved == 0 }

// unended: it is over, and the service would not take that. After a day nobody
// wants to know.
func (r *record) unended(now time.Time) bool {
	return r.Closed != 0 && r.owes() && r.Refused != 0 && now.Sub(r.Closed.time()) < expirePage
}

// kept: what the service would not take is tried again.
func (r *record) kept(now time.Time) bool { return r.uncalled() || r.unended(now) }

// urgent: somebody is needed now.
func (r *record) urgent() bool { return r.Closed == 0 && (r.Level == policy.LevelPage || r.Child) }

// grave: somebody is needed, or was.
func (r *record) grave() bool { return r.Level == policy.LevelPage || r.Child || r.PagedAt != 0 }

// seen is a digest of what people see of an incident: a revision that changes
// nothing of it is not worth an edit.
func seen(in *policy.Incident, child bool) uint64 {
	h := fnv.New64a()
	evidence := int64(0)
	if in.Evidence != nil {
		evidence = in.Evidence.At.UnixNano()
	}
	fmt.Fprintf(h, "%q %q %q %q %q %t %t %d %d", in.ID, in.Level, in.Rule, in.Cause, in.End, in.NeedsYou, child, len(in.Children), in.Times)
	if n := len(in.Steps); n > 0 {
		fmt.Fprintf(h, " %d %q", in.Steps[n-1].At.UnixNano(), in.Steps[n-1].Text)
	}
	if in.Ack != nil {
		fmt.Fprintf(h, " %q %d", in.Ack.By, in.Ack.Until.UnixNano())
	}
	var b [8]byte
	h.Write(binary.LittleEndian.AppendUint64(b[:0], uint64(evidence)))
	return h.Sum64()
}

// newSteps returns the steps that have not been told. Steps are only ever
// removed from the middle of a story, so their times say where it was left.
func (r *record) newSteps(in *policy.Incident) []policy.Step {
	same := 0
	for i, s := range in.Steps {
		at := stampOf(s.At)
		if at > r.Steps {
			return in.Steps[i:]
		}
		if at == r.Steps {
			if same++; same > r.StepsAt {
				return in.Steps[i:]
			}
		}
	}
	return nil
}

// stepsTold: they are in order, unless the clock was set back over a restart.
func (r *record) stepsTold(in *policy.Incident) {
	r.StepsAt = 0
	for _, s := range in.Steps {
		switch at := stampOf(s.At); {
		case at > r.Steps:
			r.Steps, r.StepsAt = at, 1
		case at == r.Steps:
			r.StepsAt++
		}
	}
}

// sent notes that a message has been taken.
func (r *record) sent(k Kind, in *policy.Incident, ref Receipt, now time.Time) {
	at := stampOf(now)
	r.accepted()
	if ref != nil {
		r.Ref = ref
	}
	switch k {
	case KindStep:
		r.stepsTold(in)
		r.LineAt = at
	case KindEvidence:
		r.Evidence, r.LineAt = true, at
	case KindRemind:
		r.Reminders, r.Reminded, r.Answered, r.Lapsed = r.Reminders+1, at, false, false
	case KindAck:
		r.Acked = true
	case KindAgain:
		r.Again, r.Reopened = at, false
	case KindEscalate:
		r.Here, r.Lapsed, r.Reopened = true, false, false
		r.paged(at)
	default:
		r.rootSent(k, in, at)
	}
}

// accepted: nothing is in the way of the next message.
func (r *record) accepted() {
	r.notBefore, r.attempts, r.lastErr, r.Dropped, r.Refused = 0, 0, "", 0, 0
}

func (r *record) paged(at stamp) { r.Paged, r.PagedAt = true, at }

// rootSent: the root is now as in is.
func (r *record) rootSent(k Kind, in *policy.Incident, at stamp) {
	if k == KindPost {
		r.Reopened = false
		if !r.Here {
			r.Posted = at
			r.stepsTold(in)
			if r.urgent() { // a new root calls, too
				r.paged(at)
			}
		}
	}
	r.Here, r.Told, r.Seen, r.SentAt = true, in.Rev, seen(in, r.Child), at
	if !in.Closed.IsZero() && r.Resolved == 0 {
		r.Resolved = at
	}
}

// lost: the root message is gone. A new one is posted, once per incident; or
// once more if nobody has been called yet.
func (r *record) lost() bool {
	if r.Gone && (r.Paged || !r.urgent()) {
		return false
	}
	r.Gone, r.Ref, r.Posted, r.Here, r.Told = true, nil, 0, false, 0
	return true
}
