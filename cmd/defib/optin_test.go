package main

import (
	"strings"
	"testing"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestNearLabel wants a typing mistake named to those who wonder why a
// container is not watched.
func TestNearLabel(t *testing.T) {
	const none = "no label defib.enable=true, autoheal=true or deunhealth.restart.on.unhealthy=true"
	for _, c := range []struct{ label, want string }{
		{"defib.enable=true", ""},
		{"autoheal=true", ""},
		{"defib.enabled=true", "its label defib.enabled is not known; defib.enable is meant?"},
		{"defib-enable=true", "its label defib-enable is not known; defib.enable is meant?"},
		{"Defib.Enable=true", "its label Defib.Enable is not known; defib.enable is meant?"},
		{"defib=true", "its label defib is not known; defib.enable is meant?"},
		{"defib.enable=ture", "its label defib.enable=ture is neither true nor false; write defib.enable=true to have it watched"},
		{"defib.enable=no", "label defib.enable=no opts it out"},
		{"defib.type=job", none},
		{"defib.mod=observe", none},
		{"name=defib", none},
	} {
		key, value, _ := strings.Cut(c.label, "=")
		via, why := optIn(policy.Config{})(map[string]string{key: value})
		if why != c.want || (via == "") != (why != "") {
			t.Errorf("%s: got %q, %q; want %q", c.label, via, why, c.want)
		}
	}
}

// TestOurLabels wants the policy to know what it lists.
func TestOurLabels(t *testing.T) {
	labels := map[string]string{}
	for _, name := range policy.Labels() {
		labels[name] = "true"
	}
	_, _, warnings := policy.Default().Resolve(&policy.Observation{Labels: labels})
	for _, w := range warnings {
		if strings.Contains(w, "is not known") {
			t.Error(w)
		}
	}
}
