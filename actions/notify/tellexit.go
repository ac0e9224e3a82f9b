package notify

import (
	"strconv"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// tellExit says how the container ended, if that belongs to the incident.
func (w *wordSet) tellExit(d *telling, s Story) {
	e, ok := exitOf(s)
	if !ok || d.Closed {
		return
	}
	d.ExitCode, d.Exit = strconv.Itoa(e.Code), w.exit(e)
}

// exit is the code in words.
func (w *wordSet) exit(e policy.Exit) string {
	own := w.phrases["exit."+strconv.Itoa(e.Code)]
	switch {
	case e.Error != "":
		return w.phrases["exit.start"] + ": " + fit(e.Error)
	case e.OOMKilled && e.Code == 137:
		return w.phrases["exit.oom"]
	case own != "":
		return own
	case e.Code > 128 && e.Code <= 128+64:
		return w.say("exit.signal", "n", strconv.Itoa(e.Code-128))
	}
	return w.phrases["exit.other"]
}

// exitOf is the end that the incident is about. What was kept of the dead
// instance tells it; the last end of all may be one that a repair caused.
func exitOf(s Story) (policy.Exit, bool) {
	in := &s.Incident
	if e := in.Evidence; e != nil && (e.ExitCode != 0 || e.OOMKilled || e.Error != "") {
		return policy.Exit{At: e.At, Code: e.ExitCode, OOMKilled: e.OOMKilled, Error: e.Error}, true
	}
	if s.Unit == nil || s.Unit.LastExit == nil {
		return policy.Exit{}, false
	}
	e := *s.Unit.LastExit
	switch {
	case e.At.Before(in.Opened.Add(-time.Minute)):
		return e, false
	case in.Rule == "exited" || in.Rule == "oom" || in.Rule == "start_failed":
		return e, true
	}
	return e, in.Rule != "unhealthy" && in.Rule != "start_timeout" && e.Code != 0 && e.Code != 143 && (e.Code != 137 || e.OOMKilled)
}
