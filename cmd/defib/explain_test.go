package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/defib-dev/defib/gpu"
)

// TestExplain needs no daemon: no socket is there.
func TestExplain(t *testing.T) {
	d := &daemon{socket: "/nonexistent/s"}
	for _, n := range []string{"31", "43", "63", "74", "79", "154", "168", "2", "4711"} {
		out, errs, code := d.run(t, "explain", "xid", n)
		golden(t, "explain-"+n, out)
		if errs != "" || code != exitOK {
			t.Errorf("%s: got %q, %d", n, errs, code)
		}
	}
	same, _, _ := d.run(t, "explain", "xid", "79")
	if out, _, _ := d.run(t, "explain", "xid", "Xid79"); out != same {
		t.Errorf("Xid79: got %q, want %q", out, same)
	}
	if out, _, code := d.run(t, "explain"); code != exitOK || !strings.Contains(out, "defib explain xid 79") || !strings.Contains(out, "\n  xid ") {
		t.Errorf("got %q, %d", out, code)
	}
	for _, args := range []string{"explain xid many", "explain xid 0", "explain xid 10000", "explain xid 1 2"} {
		want := "defib: defib explain xid takes one number such as 79, have \"" + strings.TrimPrefix(args, "explain xid ") + "\"\n  `defib explain xid` lists all that are known\n"
		if _, errs, code := d.run(t, strings.Fields(args)...); errs != want || code != exitUsage {
			t.Errorf("%s: got %q, %d; want %q", args, errs, code, want)
		}
	}
	if _, errs, code := d.run(t, "explain", "xdi"); code != exitUsage || errs != "defib: there is no command \"xdi\"\n  did you mean defib explain xid?\n" {
		t.Errorf("got %q, %d", errs, code)
	}
}

// TestExplainAll wants a line for each row, with its number first.
func TestExplainAll(t *testing.T) {
	d := &daemon{socket: "/nonexistent/s"}
	out, _, code := d.run(t, "explain", "xid")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	rows := gpu.Rows()
	if code != exitOK || len(lines) != len(rows)+1 {
		t.Fatalf("%d lines for %d rows, exit code %d", len(lines), len(rows), code)
	}
	for i, r := range rows {
		f := strings.Fields(lines[i+1])
		if f[0] != lineNumber(r) || !strings.HasSuffix(lines[i+1], r.Meaning) {
			t.Errorf("got %q for Xid %d", lines[i+1], r.Code)
		}
	}
}

func lineNumber(r gpu.Row) string {
	b, _ := json.Marshal(r.Code)
	return string(b)
}

func TestExplainJSON(t *testing.T) {
	d := &daemon{socket: "/nonexistent/s"}
	out, _, code := d.run(t, "explain", "xid", "-o", "json", "79")
	var one xidDoc
	if err := json.Unmarshal([]byte(out), &one); err != nil || code != exitOK {
		t.Fatal(err, code)
	}
	if one.Version != 1 || one.Xid != gpu.Lookup(79) || one.Does != does(gpu.Lookup(79)) {
		t.Errorf("got %+v", one)
	}
	out, _, _ = d.run(t, "explain", "xid", "-o", "json")
	var all xidsDoc
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.Xids) != len(gpu.Rows()) || all.Version != 1 {
		t.Errorf("got %d rows, %v", len(all.Xids), err)
	}
	if _, errs, code := d.run(t, "explain", "xid", "-o", "yaml"); code != exitUsage || errs != "defib: -o: want text or json, have \"yaml\"\n" {
		t.Errorf("got %q, %d", errs, code)
	}
}

// TestDoes wants a sentence for each kind of row.
func TestDoes(t *testing.T) {
	for _, c := range []struct {
		row        gpu.Row
		word, does string
	}{
		{gpu.Row{Known: true, Verdict: gpu.Restart}, "restart", "restarts the container, once it is sure"},
		{gpu.Row{Code: 167, Known: true, Verdict: gpu.Hold}, "hold", "restarts and stops nothing on it"},
		{gpu.Row{Known: true, Verdict: gpu.Hold}, "hold", "restarts nothing on it and calls you"},
		{gpu.Row{Known: true, Verdict: gpu.Hold, Soft: true}, "note", "notes it, and goes on restarting"},
		{gpu.Row{Known: true, Verdict: gpu.Note}, "note", "notes it; it is no reason"},
		{gpu.Row{Verdict: gpu.Note}, "note", "notes it; when a container on that GPU fails"},
	} {
		if doesWord(c.row) != c.word || !strings.HasPrefix(does(c.row), c.does) {
			t.Errorf("%+v: got %s, %q", c.row, doesWord(c.row), does(c.row))
		}
	}
}
