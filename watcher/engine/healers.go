package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/defib-dev/defib/watcher/policy"
)

// The kinds of healers.
const (
	kindAutoheal   = "autoheal"
	kindDeunhealth = "deunhealth"
	kindGuardian   = "docker-guardian"
	kindDefib      = "defib"
)

// everything is the label of a healer that acts on every container.
const everything = "all"

// findHealers returns the other programs that restart containers on this host:
// running ones, by the name and labels of their image.
func (s *session) findHealers(ctx context.Context, list []container.Summary) []policy.Healer {
	var healers []policy.Healer
	for i := range list {
		c := &list[i]
		kind := healerKind(c)
		if kind == "" || c.State != container.StateRunning || s.self[c.ID] != "" {
			continue
		}
		for _, label := range healerLabels(kind, c.Image, s.startedWith(ctx, c.ID)) {
			healers = append(healers, policy.Healer{Name: nameOf(*c), Kind: kind, Label: label})
		}
	}
	slices.SortStableFunc(healers, func(a, b policy.Healer) int { return strings.Compare(a.Name, b.Name) })
	return healers
}

// healerKind tells a healer by its image: willfarrell/autoheal and its forks
// keep the word in their names.
func healerKind(c *container.Summary) string {
	repo, _, _ := strings.Cut(c.Image, "@")
	repo = strings.ToLower(repo[strings.LastIndex(repo, "/")+1:])
	repo, _, _ = strings.Cut(repo, ":")
	title := strings.ToLower(c.Labels["org.opencontainers.image.title"])
	for _, kind := range []string{kindDeunhealth, kindGuardian, kindAutoheal} {
		if strings.Contains(repo, kind) || strings.Contains(title, kind) {
			return kind
		}
	}
	if repo == kindDefib || title == kindDefib {
		return kindDefib
	}
	return ""
}

// start is what decides whom a healer acts on.
type start struct {
	known bool // it could be inspected
	env   map[string]string
	args  []string
}

func (s *session) startedWith(ctx context.Context, id string) start {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	r, err := s.cli.ContainerInspect(ctx, id)
	if err != nil || r.Config == nil || r.ContainerJSONBase == nil {
		return start{}
	}
	st := start{known: true, env: make(map[string]string), args: r.Args}
	for _, e := range r.Config.Env {
		k, v, _ := strings.Cut(e, "=")
		st.env[k] = v
	}
	return st
}

// healerLabels are the labels that a healer acts on, each as the defaults of
// its image and its environment say.
func healerLabels(kind, image string, st start) []string {
	yes := func(name string) bool {
		v := strings.ToLower(st.env[name])
		return v == "true" || v == "1" || v == "yes"
	}
	switch {
	case kind == kindDeunhealth:
		return []string{policy.LabelDeunhealth}
	case kind == kindDefib && (yes("DEFIB_ALL") || slices.Contains(st.args, "--all") || slices.Contains(st.args, "--all=true")):
		return []string{everything}
	case kind == kindDefib:
		return []string{policy.LabelEnable, policy.LabelAutoheal, policy.LabelDeunhealth}
	case strings.Contains(image, "tmknight/") && (yes("AUTOHEAL_MONITOR_ALL") || slices.Contains(st.args, "-m")):
		return []string{everything}
	case strings.Contains(image, "tmknight/"):
		return []string{"autoheal.monitor.enable"}
	}
	label, set := st.env["AUTOHEAL_CONTAINER_LABEL"]
	switch {
	case label != "":
		return []string{label} // the word "all" means what it means here
	case strings.Contains(image, "autoheal-rs") && st.known && !set:
		return []string{everything}
	}
	return []string{policy.LabelAutoheal}
}
