package notify

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	logLines    = 10  // in a message
	logRunes    = 300 // of each
	bundleLines = 200 // in the thread
	stepLines   = 10
	seenLines   = 10
)

// text renders s; it errs only when a template does.
func (w *wordSet) text(s Story, k Kind) (Text, error) {
	d := w.tell(s, k)
	t := Text{Urgent: d.urgent(k)}
	var errs [5]error
	t.Title, errs[0] = w.line("title.tmpl", d)
	t.Foot, errs[1] = w.line("foot.tmpl", d)
	switch k {
	case KindStep:
		t.Steps, errs[2] = w.steps(s, s.Incident.Steps, zoned)
		return t, errors.Join(errs[:]...)
	case KindEvidence:
		t.Lead = append(w.checks(s), w.seen(s)...)
		w.logs(&t, s, bundleLines)
	default:
		t.Lead, errs[2] = w.lines("lead.tmpl", d)
		if d.incident() && !d.Closed {
			w.runbook(&t, s.Runbook)
		}
	}
	if d.incident() {
		errs[3] = w.fields(&t, d)
	}
	if d.incident() && k != KindEvidence && k != KindRemind && k != KindAck {
		t.Steps, errs[4] = w.newest(s)
		if !d.Closed {
			w.logs(&t, s, logLines)
		}
	}
	return t, errors.Join(errs[:]...)
}

// fields splits the lines of its template at their first colon.
func (w *wordSet) fields(t *Text, d *telling) error {
	list, err := w.lines("fields.tmpl", d)
	for _, line := range list {
		name, value, ok := strings.Cut(line, ":")
		if wide, rest, found := strings.Cut(line, wideColon); found && (!ok || len(wide) < len(name)) {
			name, value, ok, t.Colon = wide, rest, true, wideColon
		}
		if !ok {
			name, value = "", line
		}
		t.Fields = append(t.Fields, Field{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return err
}

const wideColon = "："

// stepTelling is what step.tmpl sees.
type stepTelling struct {
	Time    string
	Rule    string // in words
	Led     bool   // Text does not say what Rule does
	Text    string // what happened, by the policy, in the language, without advice
	Foreign bool   // Text is in English all the same
}

// newest are the newest steps, with a line that says how many went before.
func (w *wordSet) newest(s Story) ([]string, error) {
	steps := s.Incident.Steps
	hidden := max(0, len(steps)-stepLines)
	out, err := w.steps(s, steps[hidden:], clock)
	if hidden > 0 {
		out = slices.Insert(out, 0, w.say("steps.more", "n", strconv.Itoa(hidden), "id", Clean(s.Incident.ID)))
	}
	return out, err
}

// steps are one line for each step. first tells the time of the first: as a
// message of their own, they name the zone.
func (w *wordSet) steps(s Story, steps []policy.Step, first func(now, t time.Time) string) ([]string, error) {
	var out []string
	for i, step := range steps {
		d := stepTelling{Time: clock(s.Now, step.At), Rule: w.rule(step.Rule)}
		if i == 0 {
			d.Time = first(s.Now, step.At)
		}
		d.Led = step.Rule == "gave_up"
		d.Text, d.Foreign = w.retold(plainly(Clean(step.Text), remedy(s)))
		line, err := w.line("step.tmpl", d)
		if err != nil {
			return nil, err
		}
		out = append(out, line)
	}
	return out, nil
}

// logs are the last lines of the dead instance, oldest first.
func (w *wordSet) logs(t *Text, s Story, most int) {
	e := s.Incident.Evidence
	switch {
	case e == nil:
		return
	case len(e.Logs) == 0 && e.LogsErr != "":
		t.Logs = []string{w.say("logs.none", "why", w.retell(e.LogsErr))}
		return
	case len(e.Logs) > 0:
		t.LogsMore = w.say("logs.more", "id", Clean(s.Incident.ID), "n", strconv.Itoa(len(e.Logs)))
	}
	if len(e.Logs) > most {
		t.Logs = append(t.Logs, t.LogsMore)
	}
	for _, line := range e.Logs[max(0, len(e.Logs)-most):] {
		t.Logs = append(t.Logs, cutRunes(Clean(line), logRunes))
	}
}

// seen is what was seen of its GPUs when it failed.
func (w *wordSet) seen(s Story) []string {
	var out []string
	for _, line := range s.Incident.GPUs[:min(len(s.Incident.GPUs), seenLines)] {
		out = append(out, w.retell(line))
	}
	return out
}

// checks are the health checks that failed before the end. That others passed
// says nothing of why it died.
func (w *wordSet) checks(s Story) []string {
	e := s.Incident.Evidence
	if e == nil {
		return nil
	}
	var out []string
	for _, p := range e.Probes {
		if p.ExitCode == 0 {
			continue
		}
		at := clock(s.Now, p.End)
		if len(out) == 0 {
			at = zoned(s.Now, p.End)
		}
		out = append(out, w.say("check.line", "time", at, "code", strconv.Itoa(p.ExitCode), "output", cutRunes(Clean(p.Output), logRunes)))
	}
	return out
}
