package notify

import (
	"cmp"
	"slices"
	"strings"
)

// Map returns t with every string passed through f: how a sink escapes it. A
// link holds nothing to be escaped.
func (t Text) Map(f func(string) string) Text {
	out := Text{Title: f(t.Title), Link: Field{f(t.Link.Name), t.Link.Value}, LogsMore: f(t.LogsMore), Foot: f(t.Foot), Colon: t.Colon, Urgent: t.Urgent}
	out.Lead, out.Steps, out.Logs = each(t.Lead, f), each(t.Steps, f), each(t.Logs, f)
	for _, v := range t.Fields {
		out.Fields = append(out.Fields, Field{f(v.Name), f(v.Value)})
	}
	return out
}

func each(list []string, f func(string) string) []string {
	var out []string
	for _, s := range list {
		out = append(out, f(s))
	}
	return out
}

// Plain sets t as plain text of at most so many bytes. What matters most comes
// first and is kept longest: title and foot always, then the lead and the link,
// the newest lines of the log ("| …") with some room for the fields after them,
// and the newest steps ("- …"). It escapes nothing: a sink for a service with
// markup calls [Text.Map] first.
func (t Text) Plain(most int) string {
	foot := cutBytes(t.Foot, max(0, min(len(t.Foot), most/2)))
	l := lines{left: most}
	if foot != "" {
		l.left -= len(foot) + 1
	}
	l.add(cutBytes(t.Title, max(0, l.left-1)))
	if l.forward(t.Lead) {
		if link := t.fieldLine(t.Link); t.Link.Value != "" && len(link) < l.left {
			l.add(link)
		}
		fields := t.fieldLines()
		kept := min(sizeOf(fields), l.left/3)
		l.left -= kept
		l.logs(t.Logs, t.LogsMore)
		l.left += kept
		if l.forward(fields) {
			l.backward(t.Steps, "- ")
		}
	}
	if foot != "" {
		l.out = append(l.out, foot)
	}
	return strings.Join(l.out, "\n")
}

func (t Text) fieldLine(f Field) string {
	if f.Name == "" {
		return f.Value
	}
	return f.Name + cmp.Or(t.Colon, ": ") + f.Value
}

func (t Text) fieldLines() []string {
	var out []string
	for _, f := range t.Fields {
		out = append(out, t.fieldLine(f))
	}
	return out
}

func sizeOf(list []string) int {
	n := 0
	for _, s := range list {
		n += len(s) + 1
	}
	return n
}

// lines collects lines as long as there is room.
type lines struct {
	out  []string
	left int // bytes, line ends included
}

// leastCut is the shortest part of a line that is worth showing, in bytes.
const leastCut = 40

func (l *lines) add(s string) {
	if s != "" {
		l.out = append(l.out, s)
		l.left -= len(s) + 1
	}
}

// forward adds a list from its beginning, and reports whether all of it had
// room; the first line that has none is cut.
func (l *lines) forward(list []string) bool {
	for _, s := range list {
		if len(s)+1 > l.left {
			if l.left > leastCut {
				l.add(cutBytes(s, l.left-1))
			}
			return false
		}
		l.add(s)
	}
	return true
}

// logs adds the newest lines of a log; more stands for those that have no room.
func (l *lines) logs(list []string, more string) {
	if sizeOf(list)+len(list)*len(logMark) > l.left && more != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == more })
		if more = logMark + more; len(more)+leastCut > l.left {
			return
		}
		l.add(more)
	}
	l.backward(list, logMark)
}

const logMark = "| "

// backward adds the newest lines of a list for which there is room, oldest
// first.
func (l *lines) backward(list []string, mark string) {
	from, need := len(list), 0
	for from > 0 && need+len(mark)+len(list[from-1])+1 <= l.left {
		from--
		need += len(mark) + len(list[from]) + 1
	}
	for _, s := range list[from:] {
		l.add(mark + s)
	}
}
