package notify

import (
	"cmp"
	"slices"

	"github.com/defib-dev/defib/watcher/policy"
)

// Route sends the incidents that it matches to some channels only. What is
// empty matches everything; names and values may hold * and ?. The first
// Route that matches counts; what none matches goes to every channel.
type Route struct {
	Project  string
	Unit     string // the container's name, or the unit's key
	Label    string // the name of a label, which must be there …
	Value    string // … and its value; empty: any
	Channels []string
}

// topic is what routes and silences look at.
type topic struct {
	name, unit, rule string
	Facts
}

// topic also reports whether all of it is known: a unit that is gone has
// only its project left.
func (n *Notifier) topic(in *policy.Incident, r *record) (s topic, known bool) {
	s, known = topic{name: in.Name, unit: in.Unit, rule: in.Rule}, true
	if n.o.Facts != nil && in.Unit != "" {
		s.Facts, known = n.o.Facts(in.Unit)
	}
	if !known {
		s.Project = cmp.Or(in.Project, r.Project)
	}
	return s, known
}

func (s topic) named(pattern string) bool {
	return pattern == "" || glob(pattern, s.name) || glob(pattern, s.unit)
}

func (s topic) labelled(name, value string) bool {
	if name == "" {
		return true
	}
	got, ok := s.Labels[name]
	return ok && (value == "" || glob(value, got))
}

// routed reports whether routes lead what s is about to a channel.
func routed(routes []Route, s topic, channel string) bool {
	for _, r := range routes {
		if s.named(r.Unit) && (r.Project == "" || glob(r.Project, s.Project)) && s.labelled(r.Label, r.Value) {
			return slices.Contains(r.Channels, channel)
		}
	}
	return true
}

// glob matches s against a pattern in which * stands for any text, slashes
// too, and ? for one byte. Its time is bounded by the product of the lengths.
func glob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
