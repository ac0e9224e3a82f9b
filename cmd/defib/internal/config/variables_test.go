package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnknownVariables(t *testing.T) {
	n := &Notify{Channels: []Channel{{Token: Secret{Env: "DEFIB_SLACK_TOKEN"}}}, Heartbeat: Heartbeat{URL: Secret{Env: "DEFIB_PING"}}}
	got := Unknown([]string{
		"HOME=/root", "DEFIB_ALL=1", "DEFIB_STATE_DIR=/s", "DEFIB_SLACK_TOKEN=x", "DEFIB_PING=y", "DEFIB_EMPTY=", "NO_VALUE",
		"DEFIB_OBSERV=1", "DEFIB_STATEDIR=/s", "defib_all=true", "DEFIB_INVENTORY_SERVER=z", "_DEFIB_ALL=1",
	}, n)
	want := []string{
		"the variable DEFIB_INVENTORY_SERVER is not known and does nothing",
		"the variable DEFIB_OBSERV is not known and does nothing; did you mean DEFIB_OBSERVE?",
		"the variable DEFIB_STATEDIR is not known and does nothing; did you mean DEFIB_STATE_DIR?",
		"the variable defib_all is not known and does nothing; did you mean DEFIB_ALL?",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
