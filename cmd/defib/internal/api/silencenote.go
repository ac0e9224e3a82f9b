package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
)

// wrongRule says why a rule can never match, and which was meant, or two times
// "". There is no list of rules, but all are written alike.
func (o SilenceOrder) wrongRule() (text, hint string) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
	if strings.Trim(o.Rule, letters+"*?") == "" {
		return "", ""
	}
	hint = "`defib incident ID` shows the rule of each incident in brackets"
	mended := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(strings.TrimSpace(o.Rule)))
	if strings.Trim(mended, letters+"*?") == "" && strings.Trim(mended, "_") != "" {
		hint = "did you mean " + mended + "?"
	}
	return fmt.Sprintf("there is no rule %.80q: rules are written in small letters and underscores", o.Rule), hint
}

// unmatched says what of a silence fits nothing that is known, or "". What it
// names may come yet, so it stands all the same.
func (s *Server) unmatched(o SilenceOrder) string {
	var parts []string
	say := func(given, text string, names []string) {
		if given == "" || strings.ContainsAny(given, "*?") || slices.Contains(names, given) {
			return
		}
		end := "."
		if near := suggest.Closest(given, names); near != "" {
			end = "; did you mean " + near + "?"
		}
		parts = append(parts, fmt.Sprintf(text, given)+end)
	}
	if v := s.o.Loop.View(); v != nil {
		var names, projects []string
		for _, u := range v.Units {
			names = append(names, u.Name)
			if u.Project != "" {
				projects = append(projects, u.Project)
			}
		}
		for _, u := range v.Units {
			names = append(names, u.Key)
		}
		say(o.Unit, "No watched container is called %q now", names)
		say(o.Project, "No watched container belongs to a compose project %q now", projects)
	}
	say(o.Rule, "No incident that is kept has the rule %q", s.rules())
	return strings.Join(parts, " ")
}

// rules are those of the incidents that are kept.
func (s *Server) rules() []string {
	all, err := s.o.Archive.Incidents(time.Time{})
	if err != nil {
		s.o.Log.Warn("look for rules on record", "err", err)
	}
	var out []string
	for _, inc := range all {
		if inc.Rule != "" && !slices.Contains(out, inc.Rule) {
			out = append(out, inc.Rule)
		}
	}
	return out
}
