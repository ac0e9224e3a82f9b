package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// rowList is a list of sections that all have the same keys.
type rowList interface {
	add() []field    // makes one more, and lists its keys
	each() [][]field // of those that there are
}

// rows is a rowList over a slice.
type rows[T any] struct {
	list *[]T
	keys func(*T) []field
}

func (r *rows[T]) add() []field {
	var zero T
	*r.list = append(*r.list, zero)
	return r.keys(&(*r.list)[len(*r.list)-1])
}

func (r *rows[T]) each() [][]field {
	var out [][]field
	for i := range *r.list {
		out = append(out, r.keys(&(*r.list)[i]))
	}
	return out
}

// rows reads a list of sections; a key of the first has the name list[0].key.
func (l *loader) rows(key string, dst rowList, n ast.Node) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		l.problem(n.GetToken(), key, "want a list of sections, each beginning with a dash, have "+have(n))
		return
	}
	for i, v := range seq.Values {
		name := fmt.Sprintf("%s[%d]", key, i)
		set := map[string]any{}
		for _, f := range dst.add() {
			set[name+"."+f.key] = f.value
		}
		l.at[name] = v.GetToken()
		m, ok := v.(*ast.MappingNode)
		if !ok {
			l.problem(v.GetToken(), name, "want lines of `key: value` here")
			continue
		}
		if len(m.Values) > 0 {
			l.at[name] = m.Values[0].Key.GetToken()
		}
		l.mapping(name+".", v, set)
	}
}
