package engine

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
)

// statusText is what can be read in the status of a list entry, such as
// "Up 3 minutes (healthy)" or "Exited (137) 2 hours ago".
type statusText struct {
	up       bool   // it runs, for …
	ended    bool   // it ended that long ago
	health   string // "" when it does not say
	exitCode int    // of an ended one

	atLeast, atMost time.Duration // as exact as the words are; 0 when they do not say
}

func parseStatus(text string) statusText {
	var st statusText
	head, rest, _ := strings.Cut(text, " ")
	switch head {
	case "Up":
		age, note, _ := strings.Cut(rest, " (")
		st.up = true
		st.atLeast, st.atMost = readAge(age)
		switch note = strings.TrimSuffix(note, ")"); note {
		case container.Healthy, container.Unhealthy:
			st.health = note
		case "health: " + container.Starting:
			st.health = container.Starting
		}
	case "Exited", "Restarting":
		code, age, _ := strings.Cut(rest, ") ")
		st.ended = true
		st.exitCode, _ = strconv.Atoi(strings.TrimPrefix(code, "("))
		st.atLeast, st.atMost = readAge(strings.TrimSuffix(age, " ago"))
	}
	return st
}

// readAge returns the bounds of what Docker writes as this text; 0 for none.
// Docker rounds down, but hours to the nearest.
func readAge(text string) (atLeast, atMost time.Duration) {
	switch text {
	case "Less than a second":
		return 0, time.Second
	case "About a minute":
		return time.Minute, 2 * time.Minute
	case "About an hour":
		return time.Hour / 2, 3 * time.Hour / 2
	}
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > 1000 {
		return 0, 0
	}
	const day = 24 * time.Hour
	var u, round time.Duration
	switch strings.TrimSuffix(unit, "s") {
	case "second":
		u = time.Second
	case "minute":
		u = time.Minute
	case "hour":
		u, round = time.Hour, time.Hour/2
	case "day":
		u, round = day, time.Hour/2
	case "week":
		u, round = 7*day, time.Hour/2
	case "month":
		u, round = 30*day, time.Hour/2
	case "year":
		n = min(n, 200) // a Duration holds 292
		u = 365 * day
	}
	return max(time.Duration(n)*u-round, 0), time.Duration(n+1) * u
}
