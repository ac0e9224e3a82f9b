package actions

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

// say is one frame of a log stream: 1 is stdout, 2 stderr, 3 the engine.
func say(stream byte, text string) string {
	head := [8]byte{stream}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head[:]) + text
}

func stream(text string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

func TestEvidence(t *testing.T) {
	probes := []policy.Probe{{ExitCode: 1, Output: "connection refused"}}
	full := func(o *policy.Observation) {
		o.Running, o.ExitCode, o.OOMKilled, o.Error = false, 137, true, "no such device"
		o.Health = &policy.Health{Log: probes}
	}
	for _, tc := range []struct {
		name string
		verb policy.Verb
		obs  func(*policy.Observation)
		want policy.Evidence
	}{
		{"of a dead container", policy.VerbStart, full, policy.Evidence{ExitCode: 137, OOMKilled: true, Error: "no such device", Probes: probes}},
		{"of a running one", policy.VerbRestart, func(o *policy.Observation) { full(o); o.Running = true }, policy.Evidence{ExitCode: 137, OOMKilled: true, Error: "no such device", Probes: probes}},
		{"that our own stop spoiled", policy.VerbRestart, full, policy.Evidence{Probes: probes}},
		{"of another run", policy.VerbRestart, func(o *policy.Observation) { full(o); o.StartedAt = judged.Add(time.Second) }, policy.Evidence{}},
		{"of another container", policy.VerbStart, func(o *policy.Observation) { full(o); o.Container = "c2" }, policy.Evidence{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				e := &engine{logs: stream(say(1, "ready\n") + say(2, "CUDA error\n"))}
				out := newExecutor(t, e, seen(tc.obs)).Execute(t.Context(), decision(tc.verb), noReport)
				want := tc.want
				want.At, want.Logs = began, []string{"ready", "CUDA error"}
				if diff := cmp.Diff(&want, out.Evidence); diff != "" {
					t.Errorf("evidence (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestEvidenceWithoutAnInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		unseen := func(context.Context, policy.Decision) policy.Event { return policy.Event{Kind: policy.KindUnseen} }
		out := newExecutor(t, &engine{}, unseen).Execute(t.Context(), decision(policy.VerbRestart), noReport)
		want := &policy.Evidence{At: began, LogsErr: "configured logging driver does not support reading"}
		if diff := cmp.Diff(want, out.Evidence); diff != "" {
			t.Errorf("evidence (-want +got):\n%s", diff)
		}
	})
}

func TestTheRestartCallWaitsForNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var sent time.Duration
		e := &engine{act: func(context.Context) error { sent = time.Since(began); return nil }}
		e.logs = func(ctx context.Context) (io.ReadCloser, error) { <-ctx.Done(); return nil, ctx.Err() }
		inspect := func(ctx context.Context, _ policy.Decision) policy.Event {
			<-ctx.Done()
			return policy.Event{Kind: policy.KindUnseen}
		}
		out := newExecutor(t, e, inspect).Execute(t.Context(), decision(policy.VerbRestart), noReport)
		if sent != 0 || out.Took != evidenceTime {
			t.Errorf("the call was sent after %v and all was over after %v, want 0s and %v", sent, out.Took, evidenceTime)
		}
		if want := "Docker did not hand out the logs within 2s"; out.Evidence.LogsErr != want {
			t.Errorf("the missing logs are explained by %q, want %q", out.Evidence.LogsErr, want)
		}
	})
}

func TestAStartComesAfterItsEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		newExecutor(t, e, seen(nil)).Execute(t.Context(), decision(policy.VerbStart), noReport)
		if len(e.calls) != 2 || e.calls[1] != "start c1" {
			t.Errorf("calls were %q, want the start last", e.calls)
		}
	})
}

func TestLogs(t *testing.T) {
	var many, wide strings.Builder
	var last []string
	for i := range 300 {
		line := fmt.Sprintf("line %d", i)
		many.WriteString(say(1, line+"\n"))
		if i >= 100 {
			last = append(last, line)
		}
		wide.WriteString(say(1, strings.Repeat("w", 900)+"\n"))
	}
	for _, tc := range []struct {
		name, in string
		want     []string
		err      string
	}{
		{"nothing", "", nil, ""},
		{"two outputs, lines in pieces", say(1, "lo") + say(2, "er") + say(1, "ading\nre") + say(2, "ror\n") + say(1, "ady"), []string{"loading", "error", "ready"}, ""},
		{"empty lines", say(1, "a\n\nb\n"), []string{"a", "", "b"}, ""},
		{"terminal", "loading\r\n\x1b[32mready\x1b[0m\r\n", []string{"loading", "ready"}, ""},
		{"short terminal", "hi\r\n", []string{"hi"}, ""},
		{"progress bar", say(2, "  1%\r 50%") + say(2, "\r100%\r") + say(2, "\ndone\n"), []string{"100%", "done"}, ""},
		{"progress bar cut at the return", say(2, "99%\r") + say(2, "100%\n"), []string{"100%"}, ""},
		{"only the newest", many.String(), last, ""},
		{"invalid UTF-8", say(1, "a\xff\xfeb\n"), []string{"a\ufffdb"}, ""},
		{"secret", say(1, "export API_KEY=sk-abcdef0123456789abcdef\n"), []string{"export API_KEY=***"}, ""},
		{"private key over several lines", say(1, "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n") + say(2, "meanwhile\n") + say(1, "-----END PRIVATE KEY-----\nafter\n"), []string{"-----BEGIN PRIVATE KEY-----", "***", "meanwhile", "***", "after"}, ""},
		{"cut in a frame", say(1, "whole\n") + say(1, "half of it")[:12], []string{"whole", "half"}, ""},
		{"cut in a header", say(1, "whole\n") + "\x01\x00\x00", []string{"whole"}, ""},
		{"a length that is a lie", "\x01\x00\x00\x00\xff\xff\xff\xffboo\n", []string{"boo"}, ""},
		{"the engine gives up", say(1, "a\n") + say(3, "error reading\nlog"), []string{"a"}, "the engine stopped reading the log: error reading log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := newExecutor(t, nil, nil)
			got, err := x.logs(t.Context(), &engine{logs: stream(tc.in)}, decision(policy.VerbRestart), span{until: judged})
			if diff := cmp.Diff(tc.want, got); diff != "" || err != tc.err {
				t.Errorf("error %q, want %q; lines (-want +got):\n%s", err, tc.err, diff)
			}
		})
	}
	t.Run("bounded in bytes", func(t *testing.T) {
		got, _ := newExecutor(t, nil, nil).logs(t.Context(), &engine{logs: stream(wide.String())}, decision(policy.VerbRestart), span{until: judged})
		if want := logBytes / 900; len(got) != want {
			t.Errorf("kept %d lines of 900 bytes, want %d", len(got), want)
		}
	})
}

func TestHostileLogs(t *testing.T) {
	long := strings.Repeat("\x1b[31mx\xf0\x9f", 1<<19) // 4 MB in one line
	x := newExecutor(t, nil, nil)
	got, err := x.logs(t.Context(), &engine{logs: stream(say(1, long) + say(1, "\nlast words\n"))}, decision(policy.VerbRestart), span{until: judged})
	if err != "" || len(got) != 2 || got[1] != "last words" {
		t.Fatalf("got %d lines and error %q, want the long line and the last words", len(got), err)
	}
	if len(got[0]) > 1024 || !utf8.ValidString(got[0]) || strings.ContainsRune(got[0], '\x1b') {
		t.Errorf("the long line came as %d bytes, valid %v: %.40q", len(got[0]), utf8.ValidString(got[0]), got[0])
	}
	endless := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(repeat("yes\n")), nil }
	got, err = x.logs(t.Context(), &engine{logs: endless}, decision(policy.VerbRestart), span{until: judged})
	if want := "cut: the last 200 lines are longer than 8 MiB"; len(got) != logLines || err != want {
		t.Errorf("an endless log gave %d lines and %q, want %d and %q", len(got), err, logLines, want)
	}
	broken := func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(say(1, "before\n")), failing{errors.New("connection reset\nby \x1b[31mpeer")})), nil
	}
	got, err = x.logs(t.Context(), &engine{logs: broken}, decision(policy.VerbRestart), span{until: judged})
	if want := "connection reset by peer"; len(got) != 1 || err != want {
		t.Errorf("a broken log gave %q and %q, want one line and %q", got, err, want)
	}
}

// repeat is an endless stream of one text.
type repeat string

func (r repeat) Read(p []byte) (int, error) {
	n := 0
	for n+len(r) <= len(p) {
		n += copy(p[n:], r)
	}
	if n == 0 {
		return copy(p, r[:len(p)]), nil
	}
	return n, nil
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

func FuzzSplit(f *testing.F) {
	f.Add([]byte(say(1, "a\n") + say(2, "b\r\n")))
	f.Add([]byte("terminal\r\n"))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, 'x'})
	m, err := mask.New(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		kept := &tail{}
		_ = split(bytes.NewReader(in), m, kept)
		if len(kept.lines) > logLines || kept.bytes > logBytes {
			t.Errorf("kept %d lines of %d bytes", len(kept.lines), kept.bytes)
		}
		for _, l := range kept.lines {
			if !utf8.ValidString(l) || strings.ContainsAny(l, "\n\r\x1b") {
				t.Errorf("line %q is not fit to be shown", l)
			}
		}
	})
}
