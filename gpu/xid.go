package gpu

import "strconv"

// Row is what is known of one Xid.
type Row struct {
	Code    int     `json:"code"`
	Meaning string  `json:"meaning"` // a phrase: "GPU has fallen off the bus"
	Scope   Scope   `json:"scope,omitempty"`
	Verdict Verdict `json:"verdict"`          // of the Xid alone; [JudgeGPU] knows the exceptions
	Soft    bool    `json:"soft,omitempty"`   // Hold: told as a warning, for the next maintenance
	Except  string  `json:"except,omitempty"` // when the verdict is another one, and which
	NVIDIA  string  `json:"nvidia,omitempty"` // the immediate action in NVIDIA's catalog, and the investigatory one
	Advice  string  `json:"advice"`           // one sentence for a human
	Source  string  `json:"source"`           // where meaning and action are taken from, and why we differ
	Known   bool    `json:"known"`            // false: in no table; Meaning says so
}

// Where the rows come from. The catalog is NVIDIA's, for Ampere and later, as
// generated on 2025-10-29 from its page on Xid errors; the header is that of
// the open kernel modules of driver 595.
const (
	catalog  = "NVIDIA Xid catalog 2025-10-29"
	silent   = catalog + ", which names no action; ours: "
	header   = "nverror.h 595, which names no action; ours: "
	lastXid  = 176
	hidden   = -1 // an Xid whose number NVML does not tell
	xidBus   = 79
	xidInit  = 143
	xidState = 154 // the recovery action has changed
)

// Lookup returns the row of an Xid; every number has one. That of a number in
// no table is a note here; [Judge] holds a container that failed beside it.
// "<index>" in an Advice stands for the index of the GPU.
func Lookup(code int) Row {
	r, ok := appRow(code)
	for _, table := range [...]func(int) (Row, bool){engineRow, quietRow, memoryRow, stuckRow, linkRow, hostRow} {
		if ok {
			break
		}
		r, ok = table(code)
	}
	if !ok {
		r = unknownRow(code)
	}
	r.Code = code
	return r
}

// Rows returns every known row, by code.
func Rows() []Row {
	var rows []Row
	for code := 1; code <= lastXid; code++ {
		if r := Lookup(code); r.Known {
			rows = append(rows, r)
		}
	}
	return rows
}

func unknownRow(code int) Row {
	r := Row{Verdict: Note, Advice: "See whether `dmesg` says more, and ask NVIDIA's support what it means"}
	switch {
	case code == hidden:
		r.Meaning = "an Xid whose number the driver does not tell"
		r.Source = "ours: NVML reports it as 999"
		r.Advice = "Look for its number in the kernel log: `dmesg | grep Xid`"
	case code > 0 && code < 139: // all that the catalog lists without a meaning are below
		r.Meaning = "an Xid that NVIDIA's catalog calls unused"
		r.NVIDIA = "CONTACT_SUPPORT"
		r.Source = catalog + "; ours: held when a container fails beside it, since older boards used some of these"
	default:
		r.Meaning = "Xid " + strconv.Itoa(code) + ", which is in no table that defib knows"
		r.Source = "ours: held when a container fails beside it"
	}
	return r
}

// app is a fault of one program: a restart of its container helps.
func app(meaning, nvidia, advice string) (Row, bool) {
	return Row{Meaning: meaning, Scope: ScopeApp, Verdict: Restart, NVIDIA: nvidia, Advice: advice, Source: catalog, Known: true}, true
}

// hold is a fault that a restart does not mend. Its meaning goes on from the
// word GPU, so that a sentence can name which.
func hold(s Scope, meaning, nvidia, advice string) (Row, bool) {
	return Row{Meaning: "GPU " + meaning, Scope: s, Verdict: Hold, NVIDIA: nvidia, Advice: advice, Source: catalog, Known: true}, true
}

// note is a report that asks for nothing by itself.
func note(s Scope, meaning, nvidia, advice string) (Row, bool) {
	return Row{Meaning: meaning, Scope: s, Verdict: Note, NVIDIA: nvidia, Advice: advice, Source: catalog, Known: true}, true
}

// from names another source for a row.
func from(source string) func(Row, bool) (Row, bool) {
	return func(r Row, known bool) (Row, bool) {
		r.Source = source
		return r, known
	}
}

// except names the exceptions of a row.
func except(when string) func(Row, bool) (Row, bool) {
	return func(r Row, known bool) (Row, bool) {
		r.Except = when
		return r, known
	}
}

// soft makes a hold one for the next maintenance.
func soft(r Row, known bool) (Row, bool) {
	r.Soft = true
	return r, known
}
