package notify

import (
	"cmp"
	"slices"
	"strings"

	"github.com/defib-dev/defib/gpu"
)

// The policy says in one sentence what is wrong, what it does and what people
// should do, for who reads nothing else. A message has lines of its own for the
// latter, so here it is taken out of the former.

// plainly is a sentence of the policy without its advice: without the remedy,
// and without the thoughts from the first on that holds a command. What is
// nothing but advice stays.
func plainly(s, remedy string) string {
	if at := strings.Index(s, ". "+remedy); remedy != "" && at > 0 {
		s = s[:at]
	}
	p, from := shaded(s), 0
	for _, end := range append(jointsOf(p.shade), len(s)) {
		if commanded(p.cut(from, end)) {
			return cmp.Or(counted(strings.TrimRight(s[:from], "; .")), s)
		}
		from = end + len("; ")
	}
	return s
}

// counted leaves out how often it was tried: the title says so.
func counted(s string) string {
	before, last, ok := cutLast(s, "; ")
	if n, is := strings.CutSuffix(last, " attempts in a row have not helped"); ok && is && digits(n) {
		return before
	}
	return s
}

// commanded: somebody may type something of it.
func commanded(p passage) bool {
	for i := range len(p.shade) {
		if p.shade[i:i+1] == dark && p.text[i] == '`' && (i == 0 || p.shade[i-1:i] != dark) {
			return true
		}
	}
	return false
}

// remedy is what the GPU rules advise, in their own words; empty when the story
// is about no GPU that is held.
func remedy(s Story) string {
	if s.Incident.Unit != "" || len(s.GPUs) == 0 {
		return ""
	}
	if h := s.GPUs[0].Hold; h != nil && h.Judgement != nil && h.Judgement.Remedy != "" {
		return h.Judgement.Remedy
	}
	if code, ok := xidOf(s.Incident.Rule); ok {
		return gpu.Lookup(code).Advice
	}
	return ""
}

// tellCause says why, with the exit code in words where the cause has it bare.
func (w *wordSet) tellCause(d *telling, s Story) {
	english := s.Incident.Cause
	if d.advised() || s.Unit != nil && up(s.Unit) {
		english = plainly(Clean(english), remedy(s))
	}
	d.Cause, d.Foreign = w.retold(english)
	said := strings.HasSuffix(english, "exited with "+d.ExitCode)
	switch {
	case d.Exit == "":
	case said && !d.Foreign:
		d.Cause, d.Exit = w.say("cause.exit", "cause", d.Cause, "exit", d.Exit), ""
	case slices.Contains([]string{"oom", "start_failed"}, s.Incident.Rule), strings.Contains(english, "SIGKILL from outside"):
		d.Exit = "" // the cause says just that
	}
}

// advised: a line of the message says what to do, or it is too late for it.
func (d *telling) advised() bool { return d.Do != "" || d.Waits != "" || d.Closed }
