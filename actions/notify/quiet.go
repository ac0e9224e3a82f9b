package notify

import (
	"fmt"
	"strings"
	"time"
)

// Quiet is a span of every day in which nothing below page is sent. The zero
// Quiet is none.
type Quiet struct {
	From, To int            // minutes since midnight; From > To: over midnight
	Zone     *time.Location // nil: local
}

// ParseQuiet reads "23:00-07:00"; empty is none.
func ParseQuiet(s string, zone *time.Location) (Quiet, error) {
	if s == "" {
		return Quiet{}, nil
	}
	from, to, ok := strings.Cut(s, "-")
	a, errA := time.Parse("15:04", strings.TrimSpace(from))
	b, errB := time.Parse("15:04", strings.TrimSpace(to))
	if !ok || errA != nil || errB != nil || a.Equal(b) {
		return Quiet{}, fmt.Errorf("quiet hours %q: write them as 23:00-07:00", s)
	}
	return Quiet{From: a.Hour()*60 + a.Minute(), To: b.Hour()*60 + b.Minute(), Zone: zone}, nil
}

// after returns t, or the end of the quiet hours when t lies in them.
func (q Quiet) after(t time.Time) time.Time {
	if q.From == q.To {
		return t
	}
	zone := q.Zone
	if zone == nil {
		zone = time.Local
	}
	local := t.In(zone)
	minute := local.Hour()*60 + local.Minute()
	over := q.From > q.To
	if over && minute < q.From && minute >= q.To || !over && (minute < q.From || minute >= q.To) {
		return t
	}
	day := local.Day()
	if over && minute >= q.From {
		day++
	}
	return time.Date(local.Year(), local.Month(), day, q.To/60, q.To%60, 0, 0, zone)
}
