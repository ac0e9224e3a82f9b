package policy

import (
	"strings"
)

// Labels that opt a container in or out. Values are read in any case.
const (
	LabelEnable     = "defib.enable"
	LabelAutoheal   = "autoheal"
	LabelDeunhealth = "deunhealth.restart.on.unhealthy"
)

// labelID names a unit, whatever its container is called.
const labelID = "defib.id"

// What opted a container in.
const (
	ViaEnable     = LabelEnable
	ViaAutoheal   = LabelAutoheal
	ViaDeunhealth = LabelDeunhealth
	ViaAll        = "--all"
)

// Key is the stable identity of a container, which survives its recreation:
// the label defib.id, else compose project/service/number, else its name.
func Key(name string, labels map[string]string) string {
	if strings.EqualFold(labels["com.docker.compose.oneoff"], "true") {
		return strings.TrimPrefix(name, "/") // no replica of its service, and with its labels
	}
	if id := labels[labelID]; id != "" && printable(id) {
		return id
	}
	return ownKey(name, labels)
}

// ownKey is the identity of a container but for its defib.id.
func ownKey(name string, labels map[string]string) string {
	p, s, n := labels["com.docker.compose.project"], labels["com.docker.compose.service"], labels["com.docker.compose.container-number"]
	if p != "" && s != "" && printable(p) && printable(s) {
		if n == "" || !printable(n) {
			n = "1"
		}
		return p + "/" + s + "/" + n
	}
	return strings.TrimPrefix(name, "/")
}

// printable reports whether a label value is fit to be part of a name.
func printable(s string) bool {
	if len(s) > 128 {
		return false
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r > 0x7e {
			return false
		}
	}
	return true
}

// OptIn says what opted a container in ("" for nothing) and, when it is not
// watched, why in one sentence.
func (c Config) OptIn(labels map[string]string) (via, why string) {
	if v, ok := labels[LabelEnable]; ok && isFalse(v) {
		return "", "label defib.enable=" + clip(v) + " opts it out"
	}
	if v, ok := labels[LabelAutoheal]; ok && isFalse(v) {
		return "", "label autoheal=" + clip(v) + " opts it out"
	}
	if labels["com.docker.swarm.task.id"] != "" {
		return "", "it is a Swarm task; Swarm replaces it"
	}
	switch {
	case isTrue(labels[LabelEnable]):
		return ViaEnable, ""
	case isTrue(labels[LabelAutoheal]):
		return ViaAutoheal, ""
	case isTrue(labels[LabelDeunhealth]):
		return ViaDeunhealth, ""
	case c.All:
		return ViaAll, ""
	}
	return "", "no label defib.enable=true, autoheal=true or deunhealth.restart.on.unhealthy=true"
}

func isTrue(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "true", "1", "yes", "on":
		return true
	}
	return false
}

func isFalse(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "false", "0", "no", "off":
		return true
	}
	return false
}

// clip makes a label value fit to be shown in a sentence.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return s
}
