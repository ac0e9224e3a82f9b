package notify

import (
	"strconv"
	"strings"

	"github.com/defib-dev/defib/watcher/policy"
)

// name is what failed. The policy writes English for what is no container. n is
// of how many containers it is one; 0: that is not known.
func (w *wordSet) name(in *policy.Incident, n int) string {
	name := cutRunes(Clean(in.Name), nameRunes)
	if in.Unit != "" {
		return name
	}
	many := w.phrases["name.several"]
	if n > 0 {
		many = w.say("name.n", "n", strconv.Itoa(n))
	}
	of := func(kind, x string) string { return strings.TrimSpace(w.say("name."+kind, "x", x, "many", gap(many))) }
	switch name {
	case "the Docker engine":
		return w.phrases["name.docker"]
	case "every GPU":
		return w.phrases["name.every_gpu"]
	case "containers on this host":
		return of("host", "")
	case "containers of one image":
		return of("image", "")
	}
	if x, ok := strings.CutSuffix(name, " containers"); ok && in.Rule == RuleStorm {
		many = w.say("name.n", "n", x)
		return of("host", "")
	}
	for kind, prefix := range map[string]string{"mount": "containers that share the mount ", "gpu": "containers on GPU ", "need": "containers that need "} {
		if x, ok := strings.CutPrefix(name, prefix); ok {
			return of(kind, x)
		}
	}
	return name
}

// members are the containers of an incident that is about several.
func members(s Story) int {
	if !together(&s.Incident) {
		return 0
	}
	return max(len(s.Incident.Children), len(s.Children))
}

// state is what it does now, or how it ended, to go on from its name.
func (w *wordSet) state(s Story, d *telling) string {
	in := &s.Incident
	switch {
	case d.Closed:
		return w.end(in, d.Down)
	case s.Unit != nil && up(s.Unit):
		return w.phrases["state.up"]
	case together(in) && members(s) > 0:
		return w.title(in.Rule, s)
	case d.NeedsYou && w.phrases["title."+in.Rule] != "" && in.Repairs > 0:
		return w.title(in.Rule, s)
	case d.NeedsYou || s.Unit == nil:
		return d.Rule
	}
	now := w.activity(s.Unit)
	switch {
	case now == "" || now == d.Rule:
		return d.Rule
	case s.Unit.State == policy.Held && strings.HasPrefix(in.Rule, "held_"):
		return now
	}
	return w.say("state.title", "rule", d.Rule, "state", now)
}

// together: several containers failed at once.
func together(in *policy.Incident) bool {
	return in.Rule == "panic" || in.Rule == "canary_failed" || in.Rule == "storm"
}

func (w *wordSet) title(rule string, s Story) string {
	if rule == "panic" && !s.Incident.Paged.IsZero() {
		rule = "canary_failed" // nobody is called about it for another reason
	}
	return w.say("title."+rule, "repairs", w.count("repairs", s.Incident.Repairs))
}

// end says how an incident ended.
func (w *wordSet) end(in *policy.Incident, after string) string {
	key := "end." + in.End
	switch {
	case in.End == "recovered" && in.Unit == "":
		key = "end.recovered.host"
	case in.End == "recovered" && !in.Paged.IsZero():
		key = "end.recovered.paged"
	case w.phrases[key] == "":
		key = "end.other"
	}
	return w.say(key, "d", after)
}

// activity is the state of a container in words; empty when its rule says all.
func (w *wordSet) activity(u *policy.Status) string {
	key := ""
	switch u.State {
	case policy.Unknown:
		key = "unknown"
	case policy.Stopped:
		key = "down"
	case policy.Starting:
		key = "loading"
	case policy.Unhealthy:
		if key = "unhealthy"; u.Mode == policy.ModeObserve {
			key = "observed"
		}
	case policy.Repairing:
		key = u.Detail
	case policy.Backoff:
		if key = "backoff"; u.Detail == "by docker" {
			key = "by_docker"
		}
	case policy.Held:
		if key = "held." + u.Detail; w.phrases["state."+key] == "" {
			key = "held"
		}
	case policy.Fatal:
		key = "gave_up"
	case policy.Running, policy.Paused:
	}
	return w.phrases["state."+key]
}
