package notify

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// tellUnit says how the container is and what happens next.
func (w *wordSet) tellUnit(d *telling, s Story) {
	d.Pause, d.Quiet = pauses(&s.Incident), quiets(&s.Incident)
	u := s.Unit
	if u != nil {
		d.Image = cutRunes(Clean(u.Image), nameRunes)
	}
	switch {
	case d.Closed:
		return
	case u == nil:
		d.Next = w.nextOfMany(d, s)
		return
	}
	d.Attempts = w.attempts(&s.Incident, u)
	if u.State != policy.Running && u.State != policy.Stopped && u.State != policy.Paused {
		d.DownFor = d.Age
	}
	d.Next = w.next(u, s.Now)
	d.Waits = w.waits(s)
	if u.PagesAt.After(s.Now) {
		d.PagesAt = clock(s.Now, u.PagesAt)
	}
}

// pauses is the command that keeps defib from acting; none where it does not
// act.
func pauses(in *policy.Incident) string {
	switch {
	case in.Rule == "docker_unreachable":
		return ""
	case in.Unit != "":
		return "defib hold " + cutRunes(Clean(in.Name), nameRunes) + " --for 1h"
	}
	return "defib hold --all --for 1h"
}

// quiets is the command that ends the reminders of what no single ack ends.
func quiets(in *policy.Incident) string {
	if in.Rule != RuleStorm {
		return ""
	}
	return `defib silence add --unit '*' --for 1h -m "on it"`
}

// next is what happens by itself, with its time.
func (w *wordSet) next(u *policy.Status, now time.Time) string {
	key := "next." + strings.ToLower(strings.ReplaceAll(u.Next, " ", "_"))
	if w.phrases[key] == "" {
		return Clean(u.Next)
	}
	at, by := w.phrases["at.now"], w.phrases["by.soon"]
	if u.NextAt.After(now) {
		when := []string{"time", clock(now, u.NextAt), "d", w.span(u.NextAt.Sub(now).Round(time.Second))}
		at, by = w.say("at", when...), w.say("by", when...)
	}
	return w.say(key, "at", at, "by", by)
}

// nextOfMany is what happens next where it is not about one container.
func (w *wordSet) nextOfMany(d *telling, s Story) string {
	rule := s.Incident.Rule
	if rule == "panic" && !s.Incident.Paged.IsZero() {
		rule = "canary_failed"
	}
	switch {
	case together(&s.Incident):
		return w.phrases["next."+rule]
	case d.NeedsYou && rule != "docker_unreachable":
		return w.phrases["next.waiting_for_you"]
	}
	return ""
}

// attempts is how many of them were made, as long as there are more: the policy
// writes "2 of 5".
func (w *wordSet) attempts(in *policy.Incident, u *policy.Status) string {
	var n, m int
	if _, err := fmt.Sscanf(u.Retries, "%d of %d", &n, &m); err == nil {
		return w.say("attempts.of", "n", strconv.Itoa(n), "m", strconv.Itoa(m))
	}
	if u.Retries == "" && in.Repairs > 0 {
		return strconv.Itoa(in.Repairs)
	}
	return ""
}

// waits says what a container that is held waits for, where defib does not go on
// by itself, and what lets it.
func (w *wordSet) waits(s Story) string {
	u := s.Unit
	if u.State != policy.Held {
		return ""
	}
	switch policy.HoldReason(u.Detail) {
	case policy.HoldOperator:
		if len(u.Releases) == 0 {
			return w.phrases["wait.operator_file"]
		}
		return w.say("wait.operator", "cmd", cutRunes(Clean(strings.Join(u.Releases, " && ")), 3*nameRunes))
	case policy.HoldGPU:
		at := slices.IndexFunc(s.GPUs, func(g policy.GPUStatus) bool { return g.Hold != nil })
		if at < 0 {
			return w.phrases["wait.gpus"]
		}
		return w.say("wait.gpu", "gpu", strconv.Itoa(s.GPUs[at].Index))
	case policy.HoldStuck:
		return w.phrases["wait.stuck"]
	case policy.HoldDisk:
		return w.phrases["wait.disk"]
	default: // it ends by itself
	}
	return ""
}

// whatToDo is the one thing that the reader should do.
func (w *wordSet) whatToDo(s Story) string {
	in := &s.Incident
	values := []string{"name", cutRunes(Clean(in.Name), nameRunes)}
	switch {
	case w.phrases["do."+in.Rule] != "":
		return w.say("do."+in.Rule, values...)
	case in.Unit == "" && strings.HasPrefix(in.Name, "GPU "):
		return w.mendGPU(s)
	case in.Unit == "" && in.Name == "every GPU":
		return w.phrases["do.gpus"]
	case in.Unit == "":
		return w.phrases["do.default"]
	case s.Unit != nil && s.Unit.State == policy.Fatal:
		return w.say("do.retry", values...)
	}
	return w.say("do.restart", values...)
}
