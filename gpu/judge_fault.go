package gpu

import "slices"

// faultFindings are the faults in the window that a restart does not mend.
func (l *look) faultFindings() []Judgement {
	var out []Judgement
	for _, f := range l.open {
		if l.elsewhere(f) {
			continue
		}
		if j, ok := l.fault(f); ok {
			out = append(out, j)
		}
	}
	return out
}

// elsewhere reports whether f is confined to an instance that is not looked at.
func (l *look) elsewhere(f Fault) bool {
	return !f.Touches(l.parts)
}

func (l *look) fault(f Fault) (Judgement, bool) {
	switch f.Kind {
	case FaultXid:
		return l.xid(f)
	case FaultBusLoss:
		return l.byRow(Lookup(xidBus), "bus_loss", ""), true
	case FaultInit:
		return l.byRow(Lookup(xidInit), "init_failed", ""), true
	case FaultSXid:
		if f.Severity != SeverityFatal {
			return Judgement{}, false
		}
		j := l.about("sxid", "is linked by a switch that has a fatal error"+coded(f), resetLinked)
		j.Clears, j.Multi = ClearReset, true
		return j, true
	case FaultECC: // see trial.ecc
	case FaultMismatch: // an old client is that client's matter
	}
	return Judgement{}, false
}

// byRow is a hold that stands on a fault alone.
func (l *look) byRow(row Row, rule, suffix string) Judgement {
	j := l.about(rule, predicate(row)+suffix, row.Advice)
	j.Scope, j.Clears, j.NoKill = row.Scope, ClearReset, row.Code == xidBus || row.Code == 167
	return j
}

// xid applies the row of an Xid and its exceptions.
func (l *look) xid(f Fault) (Judgement, bool) {
	row := Lookup(f.Code)
	if f.Code == 94 && l.action == nil && (said(f.Reset) || said(f.Drain)) {
		row.Meaning, row.Scope, row.Verdict = "GPU has a contained memory error that needs a reset", ScopeGPU, Hold
	}
	if row.Verdict != Hold || row.Soft || l.excused(f) {
		return Judgement{}, false
	}
	j := l.byRow(row, xidRule(f), coded(f))
	if said(f.Drain) && (f.Code == 94 || f.Code == 95) {
		j.Remedy = l.fill("Let what runs on it end, then reset it: `nvidia-smi --gpu-reset -i <index>`")
	} else if f.Code == 94 {
		j.Remedy = l.fill(reset)
	}
	j.Multi = f.Code == 74 || isNVLink5(f.Code)
	return j, true
}

func said(flag *bool) bool { return flag != nil && *flag }

// excused reports whether a fault whose row says hold is none here (gpu.md
// §1.2: each is an exception of its row).
func (l *look) excused(f Fault) bool {
	switch f.Code {
	case xidState: // its value is judged as the driver's own word
		return true
	case 48, 171, 172:
		return l.unasked() && l.contained()
	case 95: // the line itself says that no reset is needed, and the driver agrees
		return l.unasked() && f.Reset != nil && !*f.Reset && !said(f.Drain)
	case 109, 156:
		return l.unasked()
	case 74:
		return !l.linksFail()
	}
	if isNVLink5(f.Code) {
		return f.Severity == SeverityNonfatal || f.Severity == "" && l.unasked()
	}
	return false
}

// isNVLink5 reports whether a code is of a unit of NVLink 5; its line carries a
// severity.
func isNVLink5(code int) bool { return code >= 144 && code <= 150 }

// contained reports whether an uncorrectable error comes with the word that it
// was contained (94) or mended (63), and with nothing else that counts.
func (l *look) contained() bool {
	mended := false
	for _, f := range l.open {
		if f.Kind == FaultECC {
			continue
		}
		if f.Kind != FaultXid {
			return false
		}
		switch row := Lookup(f.Code); {
		case f.Code == 94, f.Code == 63:
			mended = true
		case f.Code == 48, f.Code == 171, f.Code == 172, f.Code == xidState:
		case row.Known && row.Verdict == Note: // such as the removal of channels that follows
		default:
			return false
		}
	}
	return mended
}

// linksFail reports whether an NVLink error (74) is one of several, so that it
// was not mended.
func (l *look) linksFail() bool {
	n := 0
	for _, f := range l.open {
		switch {
		case f.Kind == FaultXid && (f.Code == 72 || f.Code == 136 || f.Code == 155 || isNVLink5(f.Code)):
			return true
		case f.Kind == FaultXid && f.Code == 74:
			n++
		}
	}
	return n > 1 || slices.Contains(l.signs, SignNVLink)
}

// has reports whether an Xid is among the faults.
func (l *look) has(code int) bool {
	return slices.ContainsFunc(l.open, func(f Fault) bool { return f.Kind == FaultXid && f.Code == code })
}

// explains finds the fault that a driver's wish is for: the one that reaches
// farthest, and of these the first.
func (l *look) explains() (Fault, bool) {
	var out []Fault
	for _, f := range l.open {
		if row := rowOf(f); f.Code != xidState && (row.Verdict == Hold && !row.Soft || row.Verdict == Restart) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return Fault{}, false
	}
	return slices.MinFunc(out, func(a, b Fault) int { return reach(rowOf(a).Scope) - reach(rowOf(b).Scope) }), true
}
