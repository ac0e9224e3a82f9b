package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
)

// xidsMost is larger than the number of any Xid; the driver's header has some
// 180.
const xidsMost = 9999

func (a *app) explainCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "What a number of NVIDIA's driver means, and what defib does about it",
		Long: `What a number means, and what defib does about it. Needs no daemon and no GPU.

  defib explain xid       every Xid that is known
  defib explain xid 79    one of them: the number in a line such as
                          NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	xid := &cobra.Command{
		Use:     "xid [NUMBER]",
		Short:   "A fault number of the GPU driver: its meaning, and whether a restart helps",
		Example: "  defib explain xid 79\n  defib explain xid -o json 31",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.explainXid(args, output)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return xidNumbers(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	xid.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.AddCommand(xid)
	return cmd
}

// xidDoc is one Xid as programs read it.
type xidDoc struct {
	Version int     `json:"version"`
	Xid     gpu.Row `json:"xid"`
	Does    string  `json:"does"` // what defib does about it
}

// xidsDoc is all of them.
type xidsDoc struct {
	Version int       `json:"version"`
	Xids    []gpu.Row `json:"xids"`
}

func (a *app) explainXid(args []string, output string) error {
	if err := oneOf("-o", output, "text", "json"); err != nil {
		return err
	}
	if len(args) == 0 {
		rows := gpu.Rows()
		if output == "json" {
			return writeJSON(a.out, xidsDoc{api.Version, rows})
		}
		return xidTable(rows).write(a.out, a.terminal(), true, a.clean)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(strings.ToLower(args[0]), "xid"))
	if err != nil || n < 1 || n > xidsMost || len(args) > 1 {
		return usage(fmt.Sprintf("defib explain xid takes one number such as 79, have %.40q", strings.Join(args, " ")), "`defib explain xid` lists all that are known")
	}
	r := gpu.Lookup(n)
	if output == "json" {
		return writeJSON(a.out, xidDoc{api.Version, r, does(r)})
	}
	p := &page{w: a.out, clean: a.clean, term: a.terminal()}
	p.xid(r)
	return p.err
}

func (p *page) xid(r gpu.Row) {
	p.line("Xid:", strconv.Itoa(r.Code))
	p.line("Meaning:", r.Meaning)
	p.line("Concerns:", concerns(r))
	p.line("defib:", does(r))
	p.line("Except:", r.Except)
	p.line("NVIDIA:", r.NVIDIA)
	p.line("You:", sentenceOf(r.Advice, "nothing is to be done"))
	p.line("Source:", r.Source)
}

func xidTable(rows []gpu.Row) table {
	t := table{header: []string{"XID", "CONCERNS", "DEFIB", "NVIDIA", "MEANING"}, paint: -1}
	for _, r := range rows {
		t.rows = append(t.rows, []string{strconv.Itoa(r.Code), scopeWord(r.Scope), doesWord(r), orDash(r.NVIDIA), r.Meaning})
	}
	return t
}

func xidNumbers() []string {
	var out []string
	for _, r := range gpu.Rows() {
		out = append(out, cobra.CompletionWithDesc(strconv.Itoa(r.Code), r.Meaning))
	}
	return out
}

func scopeWord(s gpu.Scope) string {
	switch s {
	case gpu.ScopeApp:
		return "program"
	case gpu.ScopeGPU:
		return "GPU"
	case gpu.ScopeHost:
		return "host"
	case gpu.ScopeNone:
	}
	return "-"
}

// recoveryXid tells that the driver wants something else done to the GPU.
const recoveryXid = 154

// concerns says how far a fault reaches.
func concerns(r gpu.Row) string {
	if r.Code == recoveryXid {
		return "the GPU, or the host: the value in its line says which"
	}
	switch r.Scope {
	case gpu.ScopeApp:
		return "one program: others on the GPU go on"
	case gpu.ScopeGPU:
		if r.Verdict == gpu.Note || r.Soft {
			return "the GPU, which goes on"
		}
		return "the GPU: whatever is started on it meets the same"
	case gpu.ScopeHost:
		return "the host: only a reboot or hands on the machine help"
	case gpu.ScopeNone:
	}
	if r.Known {
		return "nothing by itself"
	}
	return "not known"
}

// doesWord is what defib does, in a word.
func doesWord(r gpu.Row) string {
	if r.Soft {
		return string(gpu.Note)
	}
	return string(r.Verdict)
}

// hangs reports whether a stop of what uses the GPU can hang: it no longer
// answers on its bus.
func hangs(r gpu.Row) bool { return r.Code == 79 || r.Code == 167 }

// does is what defib does about an Xid when nothing else is known. The driver's
// own word, its recovery action, comes first where it has one.
func does(r gpu.Row) string {
	switch {
	case !r.Known:
		return "notes it; when a container on that GPU fails within seconds of it, restarts nothing there and calls you"
	case r.Soft:
		return "notes it, and goes on restarting; told as a warning"
	case r.Code == recoveryXid:
		return "does what the driver asks for: with 0x1, 0x2 and 0x4 (reset, reboot, drain and reset) it restarts nothing on the GPU and calls you"
	}
	switch r.Verdict {
	case gpu.Restart:
		return "restarts the container, once it is sure that it has failed: its process has ended or its health check fails"
	case gpu.Hold:
		if hangs(r) {
			return "restarts and stops nothing on it, for a stop can hang for ever, and calls you; what still serves is left running"
		}
		return "restarts nothing on it and calls you; what still serves is left running"
	case gpu.Note, gpu.Wait, gpu.Recreate:
	}
	return "notes it; it is no reason to restart anything"
}
