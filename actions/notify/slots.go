package notify

import "strings"

// A slot's name, without the digits at its end, says what fits in it.
const (
	slotNumber = "n"     // 3, -1, 60.0
	slotSpan   = "span"  // 10 s, 2 h 5 min
	slotTime   = "time"  // 07:15 UTC, 2026-03-14 07:15:00 UTC
	slotName   = "name"  // a word without a space: a container, a file, a version
	slotNames  = "names" // such words with commas between them
	slotGPU    = "gpu"   // GPU 0, GPU 0 (NVIDIA H100, 0000:3b:00.0), every GPU
	slotProc   = "proc"  // VLLM::Worker (pid 4242)
	slotQuote  = "quote" // “what a container said”
	slotCmd    = "cmd"   // `a command`
	slotWho    = "who"   // a person: li, li (uid 1000)
	slotText   = "text"  // words of others, which stay as they are
	slotSaid   = "said"  // a sentence; it stays as it is when the catalogue has it not
	slotKnown  = "known" // a sentence that the catalogue has
)

func slotKinds() []string {
	return []string{
		slotNumber, slotSpan, slotTime, slotName, slotNames, slotGPU, slotProc, slotQuote, slotCmd, slotWho, slotText, slotSaid, slotKnown,
	}
}

// fits reports whether a passage may stand in a slot, as far as its form tells.
func fits(kind string, p passage) bool {
	if p.text == "" {
		return false
	}
	bright := !strings.Contains(p.shade, dark)
	switch kind {
	case slotNumber:
		return bright && number(strings.TrimPrefix(p.text, "-"))
	case slotSpan:
		return bright && isSpan(p.text)
	case slotTime:
		return bright && isTime(p.text)
	case slotName:
		return bright && !strings.Contains(p.text, " ")
	case slotNames:
		return bright && areNames(p.text)
	case slotGPU:
		return bright && isGPU(p.text)
	case slotProc:
		return bright && isProc(p.text)
	case slotQuote:
		return strings.HasPrefix(p.text, "“") && allDark(p.shade)
	case slotCmd:
		return p.text[0] == '`' && allDark(p.shade) && strings.Count(p.text, "`") == 2
	case slotWho: // what it is about must not be swallowed by whom
		return bright && !strings.Contains(p.text, " holds ") && paired(p.shade) && len(jointsOf(p.shade)) == 0 && !strings.Contains(p.shade, ": ")
	case slotSaid, slotKnown:
		return paired(p.shade)
	}
	return true
}

// paired: each bracket is closed, and none that was not opened.
func paired(shade string) bool {
	open := 0
	for i := 0; i < len(shade) && open >= 0; i++ {
		switch shade[i] {
		case '(':
			open++
		case ')':
			open--
		}
	}
	return open == 0
}

func allDark(shade string) bool { return strings.Trim(shade, dark) == "" }

// number: digits, with at most one point among them.
func number(s string) bool {
	whole, part, pointed := strings.Cut(s, ".")
	return digits(whole) && (!pointed || digits(part))
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isSpan: numbers, each with a unit.
func isSpan(s string) bool {
	words := strings.Split(s, " ")
	for i, word := range words {
		if i%2 == 0 && !number(word) || i%2 == 1 && !isUnit(word) {
			return false
		}
	}
	return len(words)%2 == 0
}

func isUnit(s string) bool {
	switch s {
	case "ms", "s", "min", "h", "d":
		return true
	}
	return false
}

// isTime: digits with their marks, and the name of the zone.
func isTime(s string) bool {
	clock, zone, ok := cutLast(s, " ")
	return ok && strings.Trim(clock, "0123456789-: ") == "" && strings.Contains(clock, ":") && !strings.Contains(zone, ")")
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func areNames(s string) bool {
	for name := range strings.SplitSeq(s, ", ") {
		if name == "" || strings.Contains(name, " ") {
			return false
		}
	}
	return true
}

func isGPU(s string) bool {
	if s == "every GPU" {
		return true
	}
	rest, ok := strings.CutPrefix(s, "GPU ")
	id, more, _ := strings.Cut(rest, " ")
	return ok && id != "" && (more == "" && !strings.HasSuffix(id, ":") || strings.HasPrefix(more, "(") && strings.HasSuffix(more, ")"))
}

func isProc(s string) bool {
	name, pid, ok := strings.Cut(s, "pid ")
	if !ok || name == "" {
		return ok && digits(pid)
	}
	return strings.HasSuffix(name, " (") && len(name) > 2 && strings.HasSuffix(pid, ")") && digits(strings.TrimSuffix(pid, ")"))
}

// saySpan is a length of time: 10 s, 2 h 5 min.
func (w *wordSet) saySpan(s string) string {
	words := strings.Split(s, " ")
	var out []string
	for i := 0; i+1 < len(words); i += 2 {
		if said := w.say("unit."+words[i+1], "n", words[i]); said != "" {
			out = append(out, said)
		} else {
			out = append(out, words[i]+" "+words[i+1])
		}
	}
	return strings.Join(out, " ")
}

// process is a process with its number: its name may hold anything.
func process(s string) string {
	name, pid, ok := cutLast(s, " (")
	if !ok {
		return s
	}
	return name + "（" + strings.TrimSuffix(pid, ")") + "）"
}

// bracketed writes the brackets at the end of s, and the last comma in them, as
// Chinese has them.
func bracketed(s string) string {
	name, more, ok := strings.Cut(strings.TrimSuffix(s, ")"), " (")
	if !ok || !strings.HasSuffix(s, ")") {
		return s
	}
	if model, bus, found := cutLast(more, ", "); found {
		more = model + "，" + bus
	}
	return name + "（" + more + "）"
}
