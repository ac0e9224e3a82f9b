package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// This file tells people about GPUs.

// pageAgain is how long one page about a GPU stands for what follows.
const pageAgain = 30 * time.Minute

// softFor is how long the incident stays open about what nothing is held for.
const softFor = 24 * time.Hour

// told is what people were told of a GPU, or of all of them.
func (m *Machine) told(target string) *GPUTold {
	if i := m.gpuIndex(target); i >= 0 {
		return &m.host.GPU.GPUs[i].GPUTold
	}
	return &m.host.GPU.GPUTold
}

// tellGPU opens or goes on with the incident about a GPU. A human who was
// called of late is called again only when it concerns more, or when it is
// still so after a while.
func (m *Machine) tellGPU(target string, j gpu.Judgement, text string, more bool) {
	told := m.told(target)
	m.touchHost()
	opened := m.incidents[told.Incident] == nil
	if opened {
		in := m.newIncident("", m.gpuTitle(target), j.Rule, j.Cause, LevelWarn)
		in.Changed = m.changesBefore()
		told.Incident = in.ID
	}
	told.CloseAt = time.Time{}
	for _, e := range j.Evidence {
		m.stepIn(m.incidents[told.Incident], "evidence", e)
	}
	again := told.Paged.Add(pageAgain)
	switch {
	case j.Page && (more && !opened || told.Paged.IsZero() || !m.now.Before(again)):
		m.pageGPU(told, text)
		return
	case j.Page && m.incidents[told.Incident].Paged.IsZero():
		told.PageAt = again
	}
	rule := "held_gpu"
	if j.Verdict == gpu.Note {
		rule = "gpu_note"
	}
	m.sayIn(told.Incident, rule, text)
}

func (m *Machine) pageGPU(told *GPUTold, text string) {
	told.Paged, told.PageAt = m.now, time.Time{}
	m.touchHost()
	m.pageIn(told.Incident, "held_gpu", text)
}

// tellSoft says what a human should see to in working hours, though nothing is
// held for it.
func (m *Machine) tellSoft(g *GPU, f gpu.Fault) {
	held := len(m.gpuHolds(g.UUID)) > 0
	text := fmt.Sprintf("%s: %s. Nothing is held for it; `defib explain xid %d` says what to do", m.gpuTitle(g.UUID), m.faultText(f), f.Code)
	m.tellGPU(g.UUID, gpu.Judgement{Verdict: gpu.Note, Rule: "xid_" + itoa(f.Code), Cause: m.gpuTitle(g.UUID) + ": " + m.faultText(f)}, text, false)
	if !held {
		g.CloseAt = m.now.Add(softFor)
	}
}

// pageHeld calls a human about a GPU that concerned nobody when it was held, now
// that a container waits for it.
func (m *Machine) pageHeld(u *unit, h Hold) {
	told := m.told(h.Target)
	in := m.incidents[told.Incident]
	if in == nil || !in.Paged.IsZero() || h.Judgement == nil || !h.Judgement.Page || !told.PageAt.IsZero() {
		return
	}
	m.pageGPU(told, sentence(u.Name+" waits for it: "+h.Judgement.Cause, m.remedy(h.Target, *h.Judgement)))
}

// tellAt is when there is more to say of it.
func (t *GPUTold) tellAt() time.Time { return earlier(t.PageAt, t.CloseAt) }

// tellTimers says what is due to be said of GPUs.
func (m *Machine) tellTimers() {
	m.tellTimer(allGPUs)
	for i := range m.host.GPU.GPUs {
		m.tellTimer(m.host.GPU.GPUs[i].UUID)
	}
}

func (m *Machine) tellTimer(target string) {
	told := m.told(target)
	holds := m.gpuHolds(target)
	if at := told.PageAt; !at.IsZero() && !m.now.Before(at) {
		told.PageAt = time.Time{}
		m.touchHost()
		if in := m.incidents[told.Incident]; in != nil && in.Paged.IsZero() && len(holds) > 0 {
			m.pageGPU(told, sentence("It is still held: "+holds[0].Judgement.Cause, m.remedy(target, *holds[0].Judgement)))
		}
	}
	if at := told.CloseAt; !at.IsZero() && !m.now.Before(at) {
		m.closeGPU(target, "gpu_quiet", "nothing more was heard of it for "+span(softFor))
	}
}

func (m *Machine) gpuTitle(target string) string {
	if target == allGPUs {
		return "every GPU"
	}
	return "GPU " + m.gpuName(target)
}

// remedy is what a human should do; a reset is offered where that is wanted.
func (m *Machine) remedy(target string, j gpu.Judgement) string {
	if m.cfg.GPUResetOffer && !j.Multi && j.Scope == gpu.ScopeGPU && target != allGPUs && strings.Contains(j.Remedy, "--gpu-reset") {
		return fmt.Sprintf("`defib gpus reset %s` stops its containers, resets it and starts them again", m.gpuName(target))
	}
	return j.Remedy
}
