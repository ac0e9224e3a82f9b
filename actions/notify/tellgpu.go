package notify

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// gpuTelling is a GPU in words.
type gpuTelling struct {
	Index       string
	Model       string
	Memory      string // used and total
	Temperature string
	Processes   string // that hold its memory, the largest first
	Trouble     string // why it cannot be read
	Fault       string // the newest, with its meaning
	Held        string // clock time from which on it is held
	Clears      string // how that ends
}

const (
	maxGPUs      = 8
	maxProcesses = 3
	processRunes = 40
)

func (w *wordSet) tellGPUs(d *telling, s Story) {
	d.MoreGPUs = max(0, len(s.GPUs)-maxGPUs)
	for i := range s.GPUs[:len(s.GPUs)-d.MoreGPUs] {
		d.GPUs = append(d.GPUs, w.gpu(&s.GPUs[i], s))
		if !d.Closed {
			d.GPUs[i].Processes = w.processes(&s.GPUs[i].Reading, s.Unit)
		}
	}
}

// processes are those that hold memory of a GPU. One that belongs to no
// container is what a restart cannot get rid of.
func (w *wordSet) processes(r *gpu.Reading, u *policy.Status) string {
	if r.Trouble != "" {
		return ""
	}
	list := slices.SortedStableFunc(slices.Values(r.Processes), func(a, b gpu.Process) int { return cmp.Compare(b.Memory, a.Memory) })
	hidden := max(0, len(list)-maxProcesses)
	var out []string
	for _, p := range list[:len(list)-hidden] {
		about := []string{"pid " + strconv.Itoa(p.PID)}
		if p.Memory > 0 {
			about = append(about, gib(p.Memory)+" GiB")
		}
		if of := w.ownerOf(&p, u); of != "" {
			about = append(about, of)
		}
		name := cmp.Or(cutRunes(Clean(p.Name), processRunes), w.phrases["proc.unnamed"])
		out = append(out, w.say("proc", "name", name, "about", strings.Join(about, w.comma())))
	}
	if hidden > 0 {
		out = append(out, w.say("proc.more", "n", strconv.Itoa(hidden)))
	}
	return strings.Join(out, w.comma())
}

// ownerOf says to whom a process belongs, unless that is the container that the
// story is about.
func (w *wordSet) ownerOf(p *gpu.Process, u *policy.Status) string {
	switch {
	case p.Dead:
		return w.phrases["proc.dead"]
	case len(p.Containers) == 0:
		return w.phrases["proc.host"]
	case u != nil && u.Container != "" && !slices.Contains(p.Containers, u.Container):
		return w.phrases["proc.other"]
	}
	return ""
}

func (w *wordSet) gpu(g *policy.GPUStatus, s Story) gpuTelling {
	t := gpuTelling{Index: strconv.Itoa(g.Index), Model: cutRunes(Clean(g.Name), nameRunes)}
	switch r := &g.Reading; {
	case r.Trouble != "":
		t.Trouble = w.phrases["trouble."+string(r.Trouble)]
	default:
		if r.Total > 0 {
			t.Memory = w.say("memory", "used", gib(r.Used), "total", gib(r.Total))
		}
		if r.Temperature > 0 {
			t.Temperature = w.say("celsius", "n", strconv.Itoa(r.Temperature))
		}
	}
	if f := g.LastFault; f != nil {
		t.Fault = w.fault(f, g.Meaning, clock(s.Now, f.At))
	}
	if g.Hold != nil {
		t.Held, t.Clears = clock(s.Now, g.Hold.Since), w.retell(g.Clears)
	}
	return t
}

func gib(n uint64) string { return strconv.FormatFloat(float64(n)/(1<<30), 'f', 1, 64) }

func (w *wordSet) fault(f *gpu.Fault, meaning, at string) string {
	if f.Kind == gpu.FaultXid && f.Code > 0 {
		return w.say("fault", "time", at, "n", strconv.Itoa(f.Code), "meaning", w.xid(f.Code))
	}
	if meaning == "" {
		meaning = strings.ReplaceAll(string(f.Kind), "_", " ")
	}
	return w.say("fault.other", "time", at, "meaning", w.retell(meaning))
}

// mendGPU is what helps a GPU: in the language where it is known, else as the
// GPU rules say it.
func (w *wordSet) mendGPU(s Story) string {
	index := Clean(strings.TrimPrefix(s.Incident.Name, "GPU "))
	if len(s.GPUs) > 0 {
		index = strconv.Itoa(s.GPUs[0].Index)
	}
	code, isXid := xidOf(s.Incident.Rule)
	remedy := ""
	if isXid {
		if remedy = w.phrases["remedy."+strconv.Itoa(code)]; remedy == "" {
			remedy = strings.ReplaceAll(gpu.Lookup(code).Advice, "<index>", index)
		}
	}
	if len(s.GPUs) > 0 && w.phrases["remedy."+strconv.Itoa(code)] == "" {
		if h := s.GPUs[0].Hold; h != nil && h.Judgement != nil && h.Judgement.Remedy != "" {
			remedy = h.Judgement.Remedy
		}
	}
	if remedy == "" {
		return w.phrases["do.gpus"]
	}
	return w.say("do.gpu", "remedy", strings.TrimSuffix(w.retell(remedy), "."), "gpu", index)
}
