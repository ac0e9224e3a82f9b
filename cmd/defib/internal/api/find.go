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

// minID is the least of an ID that names a container; anything shorter is more
// likely a name.
const minID = 4

// Find picks the unit that a person means: by its container's name, its key,
// or the beginning of its container's ID when no other container's begins so.
// What is called exactly so and is not watched is what was meant, too: no
// other is taken for it. Its error is an [*UnknownError].
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
	for _, o := range others {
		if o.Name == want {
			return policy.Status{}, unwatched(o)
		}
	}
	return byID(units, others, want)
}

// byID finds a unit by the beginning of its container's ID.
func byID(units []policy.Status, others []policy.Other, want string) (policy.Status, error) {
	begins := func(id string) bool { return len(want) >= minID && strings.HasPrefix(id, strings.ToLower(want)) }
	var found []policy.Status
	for _, u := range units {
		if begins(u.Container) {
			found = append(found, u)
		}
	}
	var also []policy.Other
	for _, o := range others {
		if begins(o.Container) {
			also = append(also, o)
		}
	}
	switch n := len(found) + len(also); {
	case n == 0:
		return policy.Status{}, unknown(units, others, want)
	case n > 1:
		return policy.Status{}, &UnknownError{
			Text: fmt.Sprintf("%q begins the ID of %d containers", want, n),
			Hint: "give more of the ID, or the name",
		}
	case len(also) == 1:
		return policy.Status{}, unwatched(also[0])
	}
	return found[0], nil
}

// unwatched explains that what was named is not watched.
func unwatched(o policy.Other) error {
	return &UnknownError{
		Text: fmt.Sprintf("%s is not watched: %s", o.Name, o.Why),
		Hint: "`defib status -a` shows all that is not watched",
		told: true,
	}
}

// unknown explains a name that was not found.
func unknown(units []policy.Status, others []policy.Other, name string) error {
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
