package config

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// gpuPlace stands for the UUID of the GPU in gpu.reset_command.
const gpuPlace = "{gpu}"

// leastPoll keeps the looks at the GPUs cheap: one may lock all of them.
const leastPoll = time.Second

// resetOffer is gpu.reset: off, or ask.
type resetOffer struct{ offer *bool }

func (r resetOffer) word() string {
	if *r.offer {
		return "ask"
	}
	return "off"
}

func assignReset(dst resetOffer, n ast.Node) string {
	s, ok := n.(*ast.StringNode)
	if !ok || s.Value != "off" && s.Value != "ask" {
		return "want off or ask, have " + have(n)
	}
	*dst.offer = s.Value == "ask"
	return ""
}

// wrong lists what is right in form and wrong in meaning.
func (g GPU) wrong() []Problem {
	var out []Problem
	say := func(key, format string, args ...any) {
		out = append(out, Problem{Key: "gpu." + key, Text: fmt.Sprintf(format, args...)})
	}
	for _, p := range []struct{ key, path string }{{"library", g.Library}, {"kernel_log", g.KernelLog}} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			say(p.key, "want a path that begins with /, have %q", clip(p.path))
		}
	}
	if g.Poll < leastPoll {
		say("poll", "%v must be at least %v", g.Poll, leastPoll)
	}
	switch {
	case len(g.ResetCommand) == 0 || g.ResetCommand[0] == "":
		say("reset_command", "names no program; delete the line to keep the default")
	case !slices.ContainsFunc(g.ResetCommand[1:], func(arg string) bool { return strings.Contains(arg, gpuPlace) }):
		say("reset_command", "no argument holds %s, so it would not reset the GPU that is meant", gpuPlace)
	}
	return out
}

// wrong lists what is right in form and wrong in meaning.
func (m Metrics) wrong() []Problem {
	if m.Listen == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(m.Listen)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 {
		return []Problem{{Key: "metrics.listen", Text: fmt.Sprintf("want an address with a port such as 127.0.0.1:9494, have %q", clip(m.Listen))}}
	}
	return nil
}
