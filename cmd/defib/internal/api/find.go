package api

import (
	"fmt"
	"strings"

	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
	"github.com/defib-dev/defib/watcher/policy"
)

// UnknownError says that a name names nothing that is watched.
type UnknownError struct {
	Text, Hint string

	told bool // Text says why it is not watched
}

// Error is one sentence; the way out is in Hint.
func (e *UnknownError) Error() string { return e.Text }

// Find picks the unit that a person means: by its container's name, its key,
// or the beginning of its container's ID when only one begins so. Its error is
// an [*UnknownError].
func Find(units []policy.Status, others []policy.Other, name string) (policy.Status, error) {
	want := strings.TrimPrefix(name, "/")
	for _, u := range units {
		if u.Name == want {
			return u, nil
		}
	}
	for _, u := range units {
		if u.Key == want {
			return u, nil
		}
	}
	var found []policy.Status
	for _, u := range units {
		if want != "" && strings.HasPrefix(u.Container, strings.ToLower(want)) {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return policy.Status{}, unknown(units, others, want)
	}
	return policy.Status{}, &UnknownError{
		Text: fmt.Sprintf("%q begins the ID of %d watched containers", name, len(found)),
		Hint: "give more of the ID, or the name",
	}
}

// unknown explains a name that was not found.
func unknown(units []policy.Status, others []policy.Other, name string) error {
	for _, o := range others {
		if o.Name == name || len(name) >= 4 && strings.HasPrefix(o.Container, name) {
			return &UnknownError{
				Text: fmt.Sprintf("%s is not watched: %s", o.Name, o.Why),
				Hint: "`defib status -a` shows all that is not watched",
				told: true,
			}
		}
	}
	names := make([]string, 0, 2*len(units)+len(others))
	for _, u := range units {
		names = append(names, u.Name)
	}
	for _, o := range others {
		names = append(names, o.Name)
	}
	for _, u := range units {
		names = append(names, u.Key)
	}
	e := &UnknownError{Text: fmt.Sprintf("no watched container is called %q", name), Hint: "`defib status -a` lists what there is"}
	if near := suggest.Closest(name, names); near != "" {
		e.Hint = "did you mean " + near + "?"
	}
	return e
}
