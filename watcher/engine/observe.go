package engine

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/defib-dev/defib/watcher/policy"
)

const (
	maxText       = 1 << 10  // bytes kept of a probe's output and of an error
	maxProbes     = 5        // Docker keeps no more; Podman does
	maxLabelKey   = 256      // bytes
	maxLabelValue = 4 << 10  // bytes
	maxLabels     = 64 << 10 // bytes of all labels

	// Docker's defaults for what a health check leaves out.
	probeInterval, probeTimeout, probeRetries = 30 * time.Second, 30 * time.Second, 3

	// endlessStop stands for a stop timeout of -1: Docker waits for ever.
	endlessStop = time.Hour
)

// look inspects a container: observed, unseen, or destroy when it is gone.
// key is the unit to name when the container cannot say it itself.
func (s *session) look(ctx context.Context, id, key string) policy.Event {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	ev := policy.Event{Kind: policy.KindUnseen, Generation: s.generation, Unit: key, Container: id, Read: s.o.Now()}
	r, err := s.cli.ContainerInspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		ev.Kind, ev.Replayed, ev.Reason = policy.KindDestroy, true, "the engine does not know it any more"
	case err != nil:
		ev.Reason = clip(s.o.Mask(Explain(s.classify("inspect", err))))
	case r.ContainerJSONBase == nil || r.State == nil || r.Config == nil || r.HostConfig == nil:
		ev.Reason = "the engine's answer to an inspect lacks its state or configuration"
	default:
		o := s.observe(r, s.clock.engine(ev.Read))
		ev.Kind, ev.Container, ev.Observation = policy.KindObserved, r.ID, &o
		ev.Unit = policy.Key(o.Name, r.Config.Labels)
	}
	return ev
}

// observe translates an inspect; engineNow is when it was sent, on the
// engine's clock.
func (s *session) observe(r container.InspectResponse, engineNow time.Time) policy.Observation {
	st := r.State
	o := policy.Observation{
		Container: r.ID, Name: strings.TrimPrefix(r.Name, "/"), Image: r.Config.Image, ImageID: r.Image,
		ConfigHash: configHash(r), Labels: boundLabels(r.Config.Labels), Created: parseTime(r.Created),
		Status: st.Status, Running: st.Running, Paused: st.Paused, Restarting: st.Restarting,
		ExitCode: st.ExitCode, OOMKilled: st.OOMKilled, Error: s.text(st.Error),
		StartedAt: parseTime(st.StartedAt), FinishedAt: parseTime(st.FinishedAt),
		RestartCount: r.RestartCount, RestartPolicy: string(r.HostConfig.RestartPolicy.Name),
		AutoRemove: r.HostConfig.AutoRemove,
		StopSignal: parseSignal(r.Config.StopSignal), StopTimeout: stopTimeout(r.Config.StopTimeout),
		GPU: s.claim(r), Mounts: mounts(r.Mounts),
		Health: s.health(st.Health, r.Config.Healthcheck),
	}
	if o.Running && !o.Restarting && !o.StartedAt.IsZero() {
		o.Uptime = max(engineNow.Sub(o.StartedAt), 0)
	}
	return o
}

// health is nil for a container without a check. Podman sends an empty one.
func (s *session) health(h *container.Health, check *container.HealthConfig) *policy.Health {
	if h == nil || h.Status == "" || h.Status == container.NoHealthcheck {
		return nil
	}
	if check == nil {
		check = &container.HealthConfig{}
	}
	out := &policy.Health{
		Status: h.Status, FailingStreak: h.FailingStreak,
		Interval: orDefault(check.Interval, probeInterval), Timeout: orDefault(check.Timeout, probeTimeout),
		StartPeriod: max(check.StartPeriod, 0), Retries: orDefault(check.Retries, probeRetries),
	}
	for _, p := range h.Log[max(len(h.Log)-maxProbes, 0):] {
		if p != nil {
			out.Log = append(out.Log, policy.Probe{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: s.text(p.Output)})
		}
	}
	return out
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// text makes what a container or the engine wrote fit to be kept: masked
// before it is cut, or half a secret would pass.
func (s *session) text(t string) string {
	if len(t) > 16*maxText {
		t = t[:16*maxText]
	}
	return clip(s.o.Mask(strings.ToValidUTF8(t, "�")))
}

// clip cuts text to maxText bytes at a character.
func clip(t string) string {
	if len(t) <= maxText {
		return t
	}
	return strings.ToValidUTF8(t[:maxText], "")
}

// boundLabels copies labels, but none of absurd size: they are kept for every
// unit. Those that defib reads come first, so no others push them out.
func boundLabels(labels map[string]string) map[string]string {
	total := 0
	out := make(map[string]string, len(labels))
	keys := sortedKeys(labels)
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(rankLabel(a), rankLabel(b)) })
	for _, k := range keys {
		v := labels[k]
		if len(v) > maxLabelValue {
			v = strings.ToValidUTF8(v[:maxLabelValue], "")
		}
		if len(k) > maxLabelKey || total+len(k)+len(v) > maxLabels {
			continue
		}
		total += len(k) + len(v)
		out[k] = v
	}
	return out
}

// rankLabel is 0 for labels that decide something, 1 for all others.
func rankLabel(k string) int {
	for _, p := range []string{"defib.", policy.LabelAutoheal, "deunhealth.", "com.docker.compose.", "com.docker.swarm."} {
		if strings.HasPrefix(k, p) {
			return 0
		}
	}
	return 1
}

// parseTime reads a time of an inspect; Docker writes year 1 for never.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// stopTimeout carries over the seconds that a container asks for; 0 is
// Docker's default, so a wish for none becomes the shortest.
func stopTimeout(seconds *int) time.Duration {
	switch {
	case seconds == nil:
		return 0
	case *seconds < 0:
		return endlessStop
	}
	return max(time.Duration(min(*seconds, int(endlessStop/time.Second)))*time.Second, time.Second)
}

// parseSignal reads a signal by number, or by name with or without SIG; 0 for
// none, or one that makes no sense.
func parseSignal(text string) int {
	const rtMin, rtMax = 34, 64
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 || n > rtMax {
			return 0
		}
		return n
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		n, _ := strconv.Atoi(strings.TrimPrefix(rest, "+"))
		return rtMin + n
	}
	if rest, ok := strings.CutPrefix(name, "RTMAX"); ok {
		n, _ := strconv.Atoi(strings.TrimPrefix(rest, "-"))
		return rtMax - n
	}
	return int(unix.SignalNum("SIG" + name))
}

// mounts are the sources that containers may share and fail with together;
// not those that nearly every container has.
func mounts(points []container.MountPoint) []string {
	var sources []string
	for _, p := range points {
		source := p.Source
		if source == "" {
			source = p.Name
		}
		if (p.Type == "bind" || p.Type == "volume") && source != "" && !trivialMount(source) {
			sources = append(sources, source)
		}
	}
	slices.Sort(sources)
	return slices.Compact(sources)
}

func trivialMount(source string) bool {
	switch source {
	case "/etc/localtime", "/etc/timezone", "/etc/hosts", "/etc/resolv.conf", "/dev", "/proc", "/sys":
		return true
	}
	for _, dir := range []string{"/dev/", "/proc/", "/sys/"} {
		if strings.HasPrefix(source, dir) {
			return true
		}
	}
	return strings.HasSuffix(source, "/docker.sock") || strings.HasSuffix(source, "/podman.sock")
}
