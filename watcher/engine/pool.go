package engine

const (
	// poolMax inspects run at a time, of which poolBackground may be for lists
	// and the rolling check: one that hangs never delays an event's.
	poolMax, poolBackground = 12, 8
)

// pool says which inspect may be sent next. One container has at most one in
// flight; asked for again meanwhile, it gets another one afterwards.
type pool struct {
	urgent     []string
	background []string
	waiting    map[string]bool // to its urgency
	busy       map[string]bool // to its urgency
	again      map[string]bool // busy and asked for, to the urgency
	slow       int             // busy in the background
}

func newPool() pool {
	return pool{waiting: make(map[string]bool), busy: make(map[string]bool), again: make(map[string]bool)}
}

// add asks for an inspect of id. An urgent one goes before all others.
func (p *pool) add(id string, urgent bool) {
	if _, busy := p.busy[id]; busy {
		p.again[id] = p.again[id] || urgent
		return
	}
	was, waits := p.waiting[id]
	if waits && (was || !urgent) {
		return
	}
	p.waiting[id] = urgent
	if urgent {
		p.urgent = append(p.urgent, id)
	} else {
		p.background = append(p.background, id)
	}
}

// next takes out the container to be inspected now, if one may.
func (p *pool) next() (id string, ok bool) {
	if len(p.busy) >= poolMax {
		return "", false
	}
	if id, ok = p.pop(&p.urgent, true); !ok && p.slow < poolBackground {
		id, ok = p.pop(&p.background, false)
	}
	return id, ok
}

// pop takes the oldest of one list, past those that have become urgent since.
func (p *pool) pop(list *[]string, urgent bool) (string, bool) {
	for len(*list) > 0 {
		id := (*list)[0]
		*list = (*list)[1:]
		if level, waits := p.waiting[id]; !waits || level != urgent {
			continue
		}
		delete(p.waiting, id)
		p.busy[id] = urgent
		if !urgent {
			p.slow++
		}
		return id, true
	}
	return "", false
}

// finish says that the inspect of id has been answered.
func (p *pool) finish(id string) {
	if !p.busy[id] {
		p.slow--
	}
	delete(p.busy, id)
	if urgent, ok := p.again[id]; ok {
		delete(p.again, id)
		p.add(id, urgent)
	}
}
