package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file asks, before a container with a GPU is restarted or started:
// would it help?

const (
	examWithin = 6 * time.Second
	examFresh  = 10 * time.Second // a judgement is acted on within it
	lookEvery  = 10 * time.Second // what a container waits for is looked at again
	lookSlow   = time.Minute      // and once a human has been called
	hearWithin = 30 * time.Second // the driver's first word after a start of defib
)

// tryAnyway is when a start that the engine refused for a GPU is tried again:
// ever more rarely.
func (m *Machine) tryAnyway(u *unit) time.Duration {
	var open time.Duration
	if in := m.incidents[u.Incident]; in != nil {
		open = m.now.Sub(in.Opened)
	}
	return min(max(10*time.Minute, open/2), time.Hour)
}

// knowsGPUs reports whether there is anything to judge a GPU by.
func (m *Machine) knowsGPUs(u *unit) bool {
	d := m.host.GPU.Driver.State
	return (u.onGPU() || u.Last.GPU != nil && u.startFault()) && (d == gpu.DriverUp || d == gpu.DriverHung || d == gpu.DriverMismatch || d == gpu.DriverLost)
}

// uuids are the GPUs of u that the driver lists.
func (u *unit) uuids() []string {
	var out []string
	for _, use := range u.mapping.GPUs {
		if slices.Contains(u.gpus, use.UUID) || u.startFault() {
			out = append(out, use.UUID)
		}
	}
	return out
}

// examined takes in the answer to an examination.
func (m *Machine) examined(ev Event) {
	u := m.units[ev.Unit]
	if u == nil || ev.Examination == nil || ev.Container != u.Last.Container {
		return
	}
	m.gpuReadings(ev.Examination.Readings, 0)
	switch {
	case u.Suspect != nil && u.Suspect.Ask == ev.Decision:
		m.confirm(u, ev)
	case u.Failure != nil && u.Failure.Exam != nil && u.Failure.Exam.Ask == ev.Decision && ev.Decision != 0:
		m.examEnds(u, ev.Examination)
		m.evaluate(u, false)
	}
}

// examEnds turns what was seen, or nil for what is known anyway, into a
// judgement.
func (m *Machine) examEnds(u *unit, e *Examination) {
	f := *u.Failure
	x := *f.Exam
	x.Ask, x.Until, x.At = 0, time.Time{}, m.now
	j := gpu.Judge(m.gpuCase(u, f.At, x.WaitFrom, e))
	first := x.WaitFrom.IsZero() || j.Rule != x.Judgement.Rule
	if first {
		x.WaitFrom = m.now // what was waited for another cause does not count
		j = gpu.Judge(m.gpuCase(u, f.At, x.WaitFrom, e))
	}
	x.Judgement = j
	f.Exam = &x
	u.Failure = &f
	m.touch(u)
	if e != nil && e.SignLine != "" {
		m.step(u, "log", "its log says: "+quoted(e.SignLine))
	}
	m.keepSeen(u, first, j)
}

// keepSeen files what was seen of the GPUs with the incident: at the failure,
// and when it leads to another finding.
func (m *Machine) keepSeen(u *unit, first bool, j gpu.Judgement) {
	in := m.incidents[u.Incident]
	if in == nil || !first || len(j.Evidence) == 0 {
		return
	}
	seen := m.named(j.Evidence)
	if !slices.Equal(in.GPUs, seen) {
		in.GPUs = seen
		m.revise(in)
	}
}

// named writes the names of containers in the place of their IDs.
func (m *Machine) named(lines []string) []string {
	out := slices.Clone(lines)
	name := func(id, name string) {
		for i, line := range out {
			if len(id) >= 12 && strings.Contains(line, id[:12]) {
				out[i] = strings.ReplaceAll(line, "container "+id[:12], "container "+name)
			}
		}
	}
	for _, key := range sortedKeys(m.units) {
		name(m.units[key].Last.Container, m.units[key].Name)
	}
	for _, o := range m.host.Others {
		name(o.Container, o.Name)
	}
	return out
}

func (m *Machine) gpuCase(u *unit, failed, waitFrom time.Time, e *Examination) gpu.Case {
	c := gpu.Case{
		Driver: m.host.GPU.Driver, Down: !u.Last.Running, ID: u.Last.Container, Gone: u.mapping.Gone, Unread: u.mapping.Unread, Signs: gpu.Signs(u.Last.Error),
	}
	if since := m.host.GPU.Since; failed.After(since) && u.triedSince(since) { // of the driver as it is now
		c.Start = slices.Clone(c.Signs)
	}
	if !waitFrom.IsZero() {
		c.Waited = m.now.Sub(waitFrom)
	}
	for _, use := range u.mapping.GPUs {
		if i := m.gpuIndex(use.UUID); i >= 0 && slices.Contains(u.uuids(), use.UUID) {
			s := m.gpuState(&m.host.GPU.GPUs[i], failed)
			if c.Driver.State != gpu.DriverUp { // what was read once says nothing of now; a hold stands by itself
				s.Reading = nil
			}
			c.GPUs = append(c.GPUs, gpu.Used{State: s, Parts: use.Parts})
		}
	}
	if h := u.Last.Health; h != nil {
		if p := newest(h, u.Last.StartedAt); p != nil {
			c.Signs = append(c.Signs, gpu.Signs(p.Output)...)
		}
	}
	if e != nil { // whether it can start, only the engine says
		c.Signs = append(c.Signs, slices.DeleteFunc(slices.Clone(e.Signs), func(s gpu.Sign) bool {
			return s == gpu.SignStaleCDI || s == gpu.SignStartFailed
		})...)
	}
	slices.Sort(c.Signs)
	c.Signs = slices.Compact(c.Signs)
	return c
}

// triedSince reports whether a start of u was tried since then. The engine keeps
// the error of a start until the next one, over a reboot too.
func (u *unit) triedSince(since time.Time) bool {
	if n := len(u.Repairs); n > 0 && u.Repairs[n-1].After(since) {
		return true
	}
	return u.LastExit != nil && u.LastExit.Error == u.Last.Error && u.LastExit.At.After(since)
}

// unheard: defib has just started and there was a driver, which has not said
// anything yet.
func (m *Machine) unheard(u *unit) bool {
	h := &m.host.GPU
	return h.Known != "" && h.Driver.State == "" && (u.onGPU() || u.Last.GPU != nil) && m.now.Before(h.Since.Add(hearWithin))
}

// wouldHelp asks whether the act that is due would help u. It returns true
// when the act must not be taken now; u is then in the state that says why.
func (m *Machine) wouldHelp(u *unit, f *Failure) bool {
	if f.Verb == VerbStop || u.OursFor == ruleGPUUndo {
		return false
	}
	if m.unheard(u) {
		m.become(u, Unhealthy, "", f.Rule, f.Text+"; the NVIDIA driver has not been heard yet")
		u.wake = m.host.GPU.Since.Add(hearWithin)
		return true
	}
	if !m.knowsGPUs(u) {
		return false
	}
	if _, held := m.standing(u, HoldOperator, HoldGPU, HoldStuck, HoldDisk); held {
		return false // the gate says so
	}
	if x := f.Exam; x == nil || x.Ask == 0 && m.now.Sub(x.At) >= m.examLasts(x) {
		m.examine(u, f)
	}
	x := u.Failure.Exam
	if x.Ask != 0 && m.now.Before(x.Until) {
		if u.State != Held && u.Detail != "observed" {
			m.become(u, Unhealthy, "", f.Rule, f.Text)
		}
		u.wake = x.Until
		return true
	}
	if x.Ask != 0 {
		m.examEnds(u, nil)
	}
	return m.follows(u, u.Failure)
}

// examLasts is how long a judgement stands.
func (m *Machine) examLasts(x *Exam) time.Duration {
	switch {
	case x.Judgement.Verdict == gpu.Restart:
		return examFresh
	case x.Paged:
		return lookSlow
	}
	return lookEvery
}

func (m *Machine) examine(u *unit, f *Failure) {
	d := m.decide(u, VerbExamine, "would_it_help", "before a container with a GPU is touched, its GPU is looked at ("+f.Rule+")")
	d.GPUs, d.Logs, d.Within = u.uuids(), true, examWithin
	m.out = append(m.out, *d)
	next := *f
	x := Exam{Ask: d.ID, Until: m.now.Add(examWithin + askSlack)}
	if f.Exam != nil {
		x.Paged, x.WaitFrom, x.Judgement = f.Exam.Paged, f.Exam.WaitFrom, f.Exam.Judgement
	}
	next.Exam = &x
	u.Failure = &next
	m.touch(u)
}

// follows does what a judgement says. true: not now.
func (m *Machine) follows(u *unit, f *Failure) bool {
	j := f.Exam.Judgement
	switch j.Verdict {
	case gpu.Hold:
		return m.mustHold(u, f, j)
	case gpu.Wait, gpu.Recreate:
		m.waitsFor(u, f, j)
		return true
	case gpu.Restart, gpu.Note:
	}
	return m.blamed(u, f, j)
}

// mustHold: nothing that is done to the container helps. What is wrong with its
// GPU holds that; else it waits alone. true: not now.
func (m *Machine) mustHold(u *unit, f *Failure, j gpu.Judgement) bool {
	target := cmp.Or(j.GPU, allGPUs)
	if m.waived(target, j) {
		return false // an operator says so
	}
	switch {
	case j.Rule == "driver_mismatch" && m.host.GPU.Driver.State == gpu.DriverUp, // the engine says so, not the driver
		j.Scope == gpu.ScopeGPU && j.Clears == gpu.ClearReset: // what the container shows may weigh in
		m.holdGPU(target, partFault, j)
	default:
		if i := m.gpuIndex(target); i >= 0 {
			g := &m.host.GPU.GPUs[i]
			m.judgeGPU(g, m.gpuState(g, f.At), false)
		}
	}
	if _, held := m.standing(u, HoldGPU); held {
		return false // the gate says so
	}
	if j.Scope == gpu.ScopeApp && !u.Last.Running && j.Rule != "vram" && m.now.Sub(f.At) >= m.tryAnyway(u) {
		return false // only a start shows whether somebody has mended it
	}
	m.waitsFor(u, f, j)
	return true
}

// blamed takes the cause from the judgement into the story; true when the same
// fault has come too often to be the container's.
func (m *Machine) blamed(u *unit, f *Failure, j gpu.Judgement) bool {
	if code, uuid := m.faultOf(u, j); code != 0 && !u.Run.Blamed && m.repeats(u, uuid, code) {
		m.holdRepeat(uuid, code)
		return false
	}
	if j.Cause == "" || j.Rule == "" || u.Run.Fault != nil || strings.Contains(f.Text, j.Cause) {
		return false
	}
	next := *f
	next.Text = f.Text + "; " + j.Cause
	u.Failure = &next
	m.open(u, f.Rule, next.Text, LevelInfo)
	if j.Remedy != "" {
		m.step(u, j.Rule, j.Remedy)
	}
	m.touch(u)
	return false
}

// faultOf is the application's fault that an act is for; 0 for none.
func (m *Machine) faultOf(u *unit, j gpu.Judgement) (code int, uuid string) {
	if f := u.Run.Fault; f != nil {
		return f.Code, f.GPU
	}
	if n, ok := xidOf(j.Rule); ok {
		return n, j.GPU
	}
	return 0, ""
}

// xidOf reads the number out of the rule of an application's fault.
func xidOf(rule string) (int, bool) {
	text, ok := strings.CutPrefix(rule, "xid_")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil
}

// waitsFor: the container waits for its GPU, or for a human; nothing is
// charged. It is looked at again and again.
func (m *Machine) waitsFor(u *unit, f *Failure, j gpu.Judgement) {
	reason := HoldGPU
	if j.Rule == "vram" {
		reason = HoldVRAM
	}
	if !f.Free && j.Verdict != gpu.Wait { // a wait costs nothing, and the failure before it counts
		m.excuse(u)
		next := *u.Failure
		next.Exam = f.Exam
		u.Failure = &next
	}
	if x := *f.Exam; j.Page && !x.Paged {
		x.Paged = true
		u.Failure.Exam = &x
		m.pageWait(u, j)
	}
	f = u.Failure
	again := f.Exam.At.Add(m.examLasts(f.Exam))
	m.held(u, f, Hold{Reason: reason, Scope: ScopeUnit, Target: u.Key, Why: sentence(j.Cause, j.Remedy)}, again)
}

// waits reports what u alone waits for, and no hold on its GPU.
func (u *unit) waits() (gpu.Judgement, bool) {
	if u.Failure == nil || u.Failure.Exam == nil || u.State != Held {
		return gpu.Judgement{}, false
	}
	reason := HoldReason(u.Detail)
	return u.Failure.Exam.Judgement, reason == HoldGPU || reason == HoldVRAM
}

// pageWait calls a human about what a container has waited for in vain: once in
// an incident, and once for all containers when it is the driver.
func (m *Machine) pageWait(u *unit, j gpu.Judgement) {
	if j.Rule == "driver_hung" {
		m.pageHang(u, j)
		return
	}
	m.pageOnce(u, j.Rule, sentence(u.Failure.Text+"; "+j.Cause, j.Remedy))
}

// pageHang calls a human about a driver that does not answer.
func (m *Machine) pageHang(u *unit, j gpu.Judgement) {
	if in := m.incidents[m.host.GPU.Incident]; in == nil || in.Paged.IsZero() {
		m.tellGPU(allGPUs, j, sentence(j.Cause+", so no container with a GPU is started or restarted", j.Remedy), true)
	}
	m.adoptChild(m.host.GPU.Incident, u)
}
