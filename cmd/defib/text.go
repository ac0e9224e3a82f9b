package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/defib-dev/defib/watcher/policy"
)

// span prints a length of time in at most two units: 30ms, 45s, 6m, 3h12m, 5d.
func span(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case 0 < d && d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second && d%time.Second != 0:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 10*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// ago is the whole seconds from at to now; "-" when at is not known.
func ago(now, at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return span(now.Sub(at).Truncate(time.Second))
}

// clock prints a moment in local time.
func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05")
}

// loading is what a start of u costs, where that is much.
func loading(u policy.Status) string {
	if u.ReadyAfter < time.Minute {
		return ""
	}
	return "loading takes about " + span(u.ReadyAfter)
}

// stateWord is a state as people read it: BACKOFF (by docker).
func stateWord(u policy.Status) string {
	s := strings.ToUpper(string(u.State))
	if u.Detail != "" {
		s += " (" + u.Detail + ")"
	}
	return s
}

// exitWord is how a run ended: 137 OOMKilled, 1 error.
func exitWord(e *policy.Exit) string {
	if e == nil {
		return "-"
	}
	if e.Error != "" {
		return strconv.Itoa(e.Code) + " start failed"
	}
	return strings.TrimSpace(strconv.Itoa(e.Code) + " " + codeWord(e))
}

func codeWord(e *policy.Exit) string {
	if e.OOMKilled {
		return "OOMKilled"
	}
	switch e.Code {
	case 0:
		return "clean"
	case 125:
		return "docker error"
	case 126:
		return "not executable"
	case 127:
		return "not found"
	case 129:
		return "SIGHUP"
	case 130:
		return "SIGINT"
	case 131:
		return "SIGQUIT"
	case 132:
		return "SIGILL"
	case 134:
		return "SIGABRT"
	case 135:
		return "SIGBUS"
	case 136:
		return "SIGFPE"
	case 137:
		return "SIGKILL"
	case 139:
		return "SIGSEGV"
	case 143:
		return "SIGTERM"
	}
	return "error"
}

// nextWord is the next step with its time: restart in 24s.
func nextWord(now time.Time, u policy.Status) string {
	next := u.Next
	switch next {
	case "":
		return "-"
	case "the hold is cleared":
		next = "repair " + holdOver(policy.HoldReason(u.Detail))
	case "half-open retry":
		next = "tried once more"
	}
	if u.NextAt.IsZero() {
		return next
	}
	if left := u.NextAt.Sub(now); left >= time.Second {
		return next + " in " + span(left.Truncate(time.Second))
	}
	return next + " now"
}

// holdOver says what a held container waits for.
func holdOver(reason policy.HoldReason) string {
	switch reason {
	case policy.HoldOperator:
		return "once released"
	case policy.HoldGPU:
		return "once its GPU is well"
	case policy.HoldPanic:
		return "after the first one"
	default:
		return "once the hold ends"
	}
}

// well reports whether a unit needs no attention: it runs and is ready, is on
// its way there for the first time, or is down because people want it so.
func well(u policy.Status) bool {
	switch u.State {
	case policy.Running:
		return u.Detail != "not ready"
	case policy.Stopped:
		return u.Detail != policy.Crashed
	case policy.Starting, policy.Paused:
		return true
	case policy.Unknown, policy.Unhealthy, policy.Repairing, policy.Backoff, policy.Held, policy.Fatal:
		return false
	}
	return false
}

// orDash fills an empty cell.
func orDash(s string) string {
	if s == "" || s == "—" {
		return "-"
	}
	return s
}

// shortID is a container's ID as docker prints it.
func shortID(id string) string { return id[:min(len(id), 12)] }

// cut bounds a text to so many characters.
func cut(s string, most int) string {
	if most <= 0 || utf8.RuneCountInString(s) <= most {
		return s
	}
	r := []rune(s)
	return string(r[:most-1]) + "…"
}

// plural prints a number of things: 1 container, 3 containers.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
