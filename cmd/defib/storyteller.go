package main

import (
	"os"
	"slices"
	"time"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// storyteller adds to an incident what people need beside it.
type storyteller struct {
	view func() *watcher.View
	kept incidents
	mask func(line string) string
	now  func() time.Time
}

// facts are what routes and silences may ask of a unit.
func (s storyteller) facts(key string) (notify.Facts, bool) {
	u := unitOf(s.view(), key)
	if u == nil {
		return notify.Facts{}, false
	}
	return notify.Facts{Project: u.Project, Labels: u.Labels}, true
}

// story is an incident with the unit and the GPUs that it is about, and with
// its children.
func (s storyteller) story(inc policy.Incident) notify.Story {
	out := notify.Story{Host: hostName(), Version: build().Defib, Incident: inc, Now: s.now()}
	v := s.view()
	if v != nil {
		if v.Host.Engine.Name != "" {
			out.Host = v.Host.Engine.Name
		}
		out.Unit = unitOf(v, inc.Unit)
		out.GPUs = gpusOf(v, inc, out.Unit)
		if out.Unit != nil {
			out.Runbook = s.mask(out.Unit.Labels[notify.LabelRunbook])
		}
	}
	for _, id := range inc.Children {
		child, found, err := s.kept.Incident(id)
		if err != nil || !found {
			continue // what is told of the others is true all the same
		}
		child.Evidence = nil
		out.Children = append(out.Children, child)
	}
	return out
}

// unitOf returns a copy of a unit by its key; nil when it is not watched.
func unitOf(v *watcher.View, key string) *policy.Status {
	if v == nil || key == "" {
		return nil
	}
	at := slices.IndexFunc(v.Units, func(u policy.Status) bool { return u.Key == key })
	if at < 0 {
		return nil
	}
	u := v.Units[at]
	return &u
}

// gpusOf are the GPUs that a unit uses, or that an incident is about.
func gpusOf(v *watcher.View, inc policy.Incident, u *policy.Status) []policy.GPUStatus {
	if u != nil {
		return api.UsedBy(v.GPUs, *u)
	}
	var out []policy.GPUStatus
	for _, g := range v.GPUs {
		if inc.ID != "" && g.Incident == inc.ID { // a test or the start has none, nor has a GPU that is well
			out = append(out, g)
		}
	}
	return out
}

// hostName is what to call the host until the engine has said its name.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "this host"
	}
	return name
}
