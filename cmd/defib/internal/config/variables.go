package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
)

const variablePrefix = "DEFIB_"

// variables are the settings that a variable may hold, as [Env] names them.
func variables() []string {
	return []string{"ALL", "CONFIG", "HOST", "LOG_FORMAT", "LOG_LEVEL", "OBSERVE", "SOCKET", "SOCKET_GROUP", "STATE_DIR"}
}

// Unknown has a sentence for every variable that is called like one of ours
// and is none: DEFIB_OBSERV=1 would let a daemon act that is meant to look on.
// Those that the configuration names as places of secrets are known.
func Unknown(environ []string, n *Notify) []string {
	secrets := []string{n.Heartbeat.URL.Env}
	for i := range n.Channels {
		for _, s := range n.Channels[i].secrets() {
			secrets = append(secrets, s.at.Env)
		}
	}
	var out []string
	for _, one := range environ {
		name, value, _ := strings.Cut(one, "=")
		rest, ours := strings.CutPrefix(strings.ToUpper(name), variablePrefix)
		if !ours || value == "" || name == variablePrefix+rest && slices.Contains(variables(), rest) || slices.Contains(secrets, name) {
			continue
		}
		text := fmt.Sprintf("the variable %s is not known and does nothing", clip(name))
		if near := suggest.Closest(rest, variables()); near != "" {
			text += "; did you mean " + variablePrefix + near + "?"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}
