package main

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/defib-dev/defib/watcher/policy"
)

// The most characters of a cell where the output is no terminal. A name is
// there to be copied, and what comes last has room.
const (
	firstMax = 128
	cellMax  = 48
	lastMax  = 200
)

// table is rows of text below a header, all with the same number of cells.
type table struct {
	header []string
	rows   [][]string
	paint  int  // the column that holds states, which get a colour; -1 for none
	whole  bool // the last column is what matters: nothing is cut
}

// terminal is what the output can do.
type terminal struct {
	width, height int // in characters; 0 when it is no terminal
	colour        bool
}

// terminal looks at where the output goes. NO_COLOR, CLICOLOR_FORCE and
// TERM=dumb count as usual; the flag beats them.
func (a *app) terminal() terminal {
	var t terminal
	if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.width = 80
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			t.width, t.height = w, h
		}
	}
	switch {
	case a.color == "always":
		t.colour = true
	case a.color == "never", a.getenv("NO_COLOR") != "":
	case a.getenv("CLICOLOR_FORCE") != "" && a.getenv("CLICOLOR_FORCE") != "0":
		t.colour = true
	default:
		t.colour = t.width > 0 && a.getenv("TERM") != "dumb"
	}
	return t
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// drop takes a column out.
func (t *table) drop(column string) {
	at := slices.Index(t.header, column)
	t.header = slices.Delete(t.header, at, at+1)
	for i := range t.rows {
		t.rows[i] = slices.Delete(t.rows[i], at, at+1)
	}
}

// write prints the table, cut to the width of a terminal.
func (t table) write(w io.Writer, to terminal, headers bool, clean func(string) string) error {
	var plain bytes.Buffer
	tw := tabwriter.NewWriter(&plain, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		cells := make([]string, len(row))
		for i, c := range row {
			if cells[i] = clean(c); !t.whole {
				cells[i] = cut(cells[i], t.most(i))
			}
		}
		_, _ = io.WriteString(tw, strings.Join(cells, "\t")+"\n") // a buffer takes all
	}
	_ = tw.Flush()
	var out strings.Builder
	from := t.column(plain.String())
	for i, line := range strings.Split(strings.TrimSuffix(plain.String(), "\n"), "\n") {
		if line = strings.TrimRight(line, " "); !t.whole {
			line = cut(line, to.width)
		}
		switch {
		case i == 0 && !headers:
			continue
		case i > 0 && to.colour && from >= 0:
			line = paint(line, from, t.rows[i-1][t.paint])
		}
		out.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (t table) most(column int) int {
	switch column {
	case 0:
		return firstMax
	case len(t.header) - 1:
		return lastMax
	}
	return cellMax
}

// column is where the states begin, in characters; -1 when there are none.
func (t table) column(text string) int {
	if t.paint < 0 {
		return -1
	}
	head, _, _ := strings.Cut(text, "\n")
	return strings.Index(head, t.header[t.paint])
}

// paint colours the word that begins at a character of the line. The word says
// the same without it.
func paint(line string, from int, word string) string {
	code := colourOf(word)
	r := []rune(line)
	to := min(from+utf8.RuneCountInString(word), len(r))
	if code == "" || from >= to {
		return line
	}
	return string(r[:from]) + "\x1b[" + code + "m" + string(r[from:to]) + "\x1b[0m" + string(r[to:])
}

// colourOf is the colour of a state as people read it.
func colourOf(word string) string {
	switch word {
	case "RUNNING", gpuWell:
		return "32"
	case gpuLost:
		return "31"
	case gpuHot, gpuResetting:
		return "33"
	}
	first, _, _ := strings.Cut(strings.ToLower(word), " ")
	switch policy.State(first) {
	case policy.Fatal, policy.Unhealthy:
		return "31"
	case policy.Backoff, policy.Held, policy.Repairing, policy.Unknown, policy.Running:
		return "33"
	case policy.Starting:
		return "36"
	case policy.Stopped, policy.Paused:
		return "2"
	}
	return ""
}
