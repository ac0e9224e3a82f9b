package journal

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/defib-dev/defib/watcher/mask"
)

// leafMax is how much of one text is kept; Docker keeps 4096 bytes of a
// health check's output.
const leafMax = 8 << 10

// encoder makes masked JSON. Masking the encoded form covers every text of
// every type there will ever be, and costs next to nothing when there is
// nothing to mask.
type encoder struct {
	mask *mask.Masker
	buf  bytes.Buffer
}

// encode returns the JSON of v without a line end.
func (e *encoder) encode(v any) ([]byte, error) {
	e.buf.Reset()
	enc := json.NewEncoder(&e.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	raw := bytes.TrimSuffix(e.buf.Bytes(), []byte("\n"))
	if bytes.IndexByte(raw, '\\') < 0 && e.mask.Plain(string(raw)) {
		return bytes.Clone(raw), nil
	}
	s := scrubber{mask: e.mask, in: raw, out: make([]byte, 0, len(raw))}
	s.value("", false)
	return s.out, nil
}

// isIdentity reports whether a field holds the name that a thing is found
// again by. Changing it would make a stored unit a stranger after a restart,
// and everybody who may use Docker can read it anyway.
func isIdentity(field string) bool {
	switch field {
	case "key", "name", "unit", "project", "target", "canary", "domain":
		return true
	}
	return false
}

// scrubber copies JSON that our own encoder made, masking the texts in it.
type scrubber struct {
	mask    *mask.Masker
	in, out []byte
}

// value copies the next value: that of a field, or of an element of one. In a
// free map, such as a container's labels, the keys are not ours.
func (s *scrubber) value(field string, free bool) {
	switch s.in[0] {
	case '{':
		s.object(field == "labels" || field == "sources") // the maps whose keys are not ours
	case '[':
		s.array(field, free)
	case '"':
		s.write(s.text(s.string(), field, free))
	default:
		n := bytes.IndexAny(s.in, ",]}")
		if n < 0 {
			n = len(s.in)
		}
		s.copy(n)
	}
}

func (s *scrubber) object(free bool) {
	s.copy(1)
	for s.in[0] != '}' {
		key := s.string()
		if free {
			s.write(s.text(key, "", false))
		} else {
			s.out = append(s.out, key...)
		}
		s.copy(1) // the colon
		s.value(string(key[1:len(key)-1]), free)
		s.comma()
	}
	s.copy(1)
}

func (s *scrubber) array(field string, free bool) {
	s.copy(1)
	lines := s.mask.Stream()
	for s.in[0] != ']' {
		if s.in[0] != '"' {
			s.value(field, free)
		} else if literal := s.string(); lines.Hidden(string(literal)) {
			s.out = append(s.out, `"***"`...)
		} else {
			s.write(s.text(literal, field, free))
		}
		s.comma()
	}
	s.copy(1)
}

func (s *scrubber) comma() {
	if s.in[0] == ',' {
		s.copy(1)
	}
}

func (s *scrubber) copy(n int) {
	s.out = append(s.out, s.in[:n]...)
	s.in = s.in[n:]
}

func (s *scrubber) write(literal []byte) { s.out = append(s.out, literal...) }

// string takes the next string off the input, quotes included.
func (s *scrubber) string() []byte {
	n := 1
	for s.in[n] != '"' {
		if s.in[n] == '\\' {
			n++
		}
		n++
	}
	literal := s.in[:n+1]
	s.in = s.in[n+1:]
	return literal
}

// text returns the string that is stored in place of literal.
func (s *scrubber) text(literal []byte, field string, free bool) []byte {
	inner := literal[1 : len(literal)-1]
	if len(inner) == 0 || !free && isIdentity(field) {
		return literal
	}
	if s.mask.Sensitive(field) {
		return []byte(`"***"`)
	}
	if len(inner) <= leafMax && bytes.IndexByte(inner, '\\') < 0 && s.mask.Plain(string(inner)) {
		return literal
	}
	return quote(s.mask.Text(unquote(literal), leafMax))
}

func unquote(literal []byte) string {
	var text string
	// What our own encoder wrote can be read; were it not so, nothing is
	// stored rather than something unmasked.
	if json.Unmarshal(literal, &text) != nil {
		return ""
	}
	return text
}

func quote(text string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return []byte(`""`)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
