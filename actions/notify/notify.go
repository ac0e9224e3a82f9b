// Package notify tells people what happened: one incident, one message. It
// follows the committed revisions of incidents and keeps, for each channel and
// incident, what that channel has been told; what to send next is worked out
// from the two. So a crash, an outage of a chat service or a storm never leads
// to a backlog of messages that are no longer true. Read plan.go first.
package notify

import (
	"context"
	"errors"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// Class sorts sinks by what they can do with a message that has been sent.
type Class string

// The classes.
const (
	Threaded Class = "threaded" // a message can be edited, and has a thread: Slack with a bot token
	Append   Class = "append"   // what was sent stays: most chats, mail
	Alert    Class = "alert"    // keyed state: PagerDuty, Alertmanager
	Feed     Class = "feed"     // every revision, the newest replacing those that were not sent: webhook
	DropIn   Class = "drop-in"  // the same, of which it says what autoheal would have said
)

// alone: each incident is told on its own, in all its revisions.
func (c Class) alone() bool { return c == Feed || c == DropIn }

// Kind is what a message is for.
type Kind string

// The kinds.
const (
	KindPost     Kind = "post"     // the root of an incident; for Alert: trigger, or fire again
	KindEdit     Kind = "edit"     // the root, rewritten
	KindStep     Kind = "step"     // one line of its thread
	KindEvidence Kind = "evidence" // logs and probes, once, in its thread
	KindEscalate Kind = "escalate" // it needs somebody now, or somebody again: a reply that is seen, with a mention; for Alert: call anew
	KindAgain    Kind = "again"    // it was over and began anew under its old root: a reply that is seen and calls nobody
	KindRemind   Kind = "remind"   // it still does; for Alert: call anew, for who had taken it has not ended it
	KindResolve  Kind = "resolve"  // it is over
	KindAck      Kind = "ack"      // Alert: somebody has taken it
	KindTest     Kind = "test"     // `defib notify test`, the start message
	KindAlarm    Kind = "alarm"    // the root of what defib cannot record; see RuleAlarm
)

// Message is one thing to be sent.
type Message struct {
	Kind  Kind
	Key   string            // of the incident, stable over its life: host, unit and ID
	Ref   map[string]string // the receipt of its root, nil before that
	Story Story             // what is known, clean and masked, for sinks that lay it out themselves
	Text  Text              // the same, rendered in the channel's language
	Since time.Time         // when it became due: for the age of what comes late
}

// Text is a message in words, before a sink escapes it. Every string may hold
// text that a container chose.
type Text struct {
	Title    string   // one line: does it need you, which container, host, what, since when
	Lead     []string // the lines that everybody should see: next, what changed, cause, what to do
	Link     Field    // a page about it, with its name; empty: there is none
	Fields   []Field  // short facts: host, image, attempts, GPU
	Steps    []string // what was done, with times
	Logs     []string // the last lines of the log, oldest first
	LogsMore string   // in place of lines that are left out: where they are
	Foot     string   // incident ID, commands
	Colon    string   // between name and value of a field; empty: ": "
	Urgent   bool     // it needs somebody: mention them
}

// Field is a short fact with its name.
type Field struct{ Name, Value string }

// Receipt is what a sink must be given again to edit or answer a message.
type Receipt map[string]string

// Sink sends to one channel. Its methods may be called by one goroutine at a
// time; Send ends when ctx does.
type Sink interface {
	Class() Class
	// Send sends m and returns the receipt of a root. Its error is an [Error]
	// whenever the service answered, and [ErrNothing] where m says nothing that
	// this service is told: then m is done with, and nobody knows whether the
	// service can be reached.
	Send(ctx context.Context, m Message) (Receipt, error)
}

// ErrNothing is that there was nothing to send. The receipt is kept all the same.
var ErrNothing = errors.New("there is nothing to send")

// Reason says why a send failed, in Alertmanager's words.
type Reason string

// The reasons.
const (
	ReasonAuth        Reason = "auth" // the token is refused: the channel is parked
	ReasonRateLimited Reason = "rate_limited"
	ReasonClient      Reason = "client_error" // it will never be taken as it is
	ReasonServer      Reason = "server_error"
	ReasonTimeout     Reason = "timeout"
	ReasonNetwork     Reason = "network"
	ReasonGone        Reason = "gone" // the message to be edited is not there, or can no longer be edited: post a new root
)

// Error is why a send failed. Its text holds no URL, token or key.
type Error struct {
	Reason     Reason
	RetryAfter time.Duration // 0: the service does not say
	Err        error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same message may be taken later.
func (e *Error) Retryable() bool { return e.Reason != ReasonClient && e.Reason != ReasonGone }

// Story is an incident as it is told: the incident and what else people need.
type Story struct {
	Host     string // the engine's name
	Version  string // of defib
	Incident policy.Incident
	Unit     *policy.Status     // as it is now; nil when it is gone, or the story is not about one
	GPUs     []policy.GPUStatus // those that it uses
	Runbook  string             // what its label [LabelRunbook] says, masked
	Children []policy.Incident  // of a correlated incident, without their evidence
	Now      time.Time
}
