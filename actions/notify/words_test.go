package notify

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

var update = flag.Bool("update", false, "write the golden files anew; read the diff before you commit it")

// layOut writes all of a text down.
func layOut(b *bytes.Buffer, k Kind, t Text) {
	fmt.Fprintf(b, "== %s%s\n%s\n", k, map[bool]string{true: " (urgent)"}[t.Urgent], t.Title)
	for name, list := range orderedParts(t) {
		for _, line := range list {
			fmt.Fprintf(b, "%s %s\n", name, line)
		}
	}
	fmt.Fprintf(b, "foot: %s\n\n", t.Foot)
}

func orderedParts(t Text) func(func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		_ = yield("lead: ", t.Lead) && yield("link: ", linkLines(t)) && yield("field:", t.fieldLines()) && yield("step: ", t.Steps) && yield("log:  ", t.Logs)
	}
}

func linkLines(t Text) []string {
	if t.Link.Value == "" {
		return nil
	}
	return []string{t.fieldLine(t.Link)}
}

// The messages themselves: read them when they change.
func TestMessages(t *testing.T) {
	for _, locale := range []string{"en", "zh"} {
		w := mustWords(t, locale, nil)
		for name, s := range Samples() {
			t.Run(locale+"/"+name, func(t *testing.T) {
				var b bytes.Buffer
				for _, k := range kindsFor(name) {
					layOut(&b, k, w.Render(s, k))
				}
				file := filepath.Join("testdata", "words", locale, name+".txt")
				if *update {
					if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), b.String()); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

func kindsFor(name string) []Kind {
	if k := SampleKind(name); k == KindTest || k == KindAlarm {
		return []Kind{k}
	}
	return []Kind{KindPost, KindEdit, KindStep, KindEvidence, KindEscalate, KindRemind, KindResolve, KindAck}
}

// Every sample fits where the least is taken, with what matters.
func TestSamplesFit(t *testing.T) {
	for _, locale := range []string{"en", "zh"} {
		w := mustWords(t, locale, nil)
		for name, s := range Samples() {
			text := w.Render(s, SampleKind(name))
			for _, most := range []int{1800, 600} {
				out := text.Plain(most)
				if len(out) > most || !utf8.ValidString(out) || !strings.HasPrefix(out, text.Title+"\n") || !strings.HasSuffix(out, "\n"+text.Foot) {
					t.Errorf("%s %s: %d bytes of %d:\n%s", locale, name, len(out), most, out)
				}
			}
		}
	}
}

// There is one line for each step, so that a thread can be told those that are
// new.
func TestStepsOneLineEach(t *testing.T) {
	s := Samples()["gave_up"]
	s.Incident.Steps = append(s.Incident.Steps, policy.Step{At: s.Now, Rule: "exited", Text: "two\nlines\x1b[31m"})
	for _, locale := range []string{"en", "zh"} {
		got := mustWords(t, locale, nil).Render(s, KindStep).Steps
		if len(got) != len(s.Incident.Steps) {
			t.Errorf("%s: %d lines for %d steps", locale, len(got), len(s.Incident.Steps))
		}
		if last := got[len(got)-1]; !strings.HasSuffix(last, "two lines") {
			t.Errorf("%s: the newest step is %q", locale, last)
		}
	}
}

// Times are those of the zone in which the story is told, and say which it is.
func TestClock(t *testing.T) {
	cst, half, madrid := time.FixedZone("CST", 8*3600), time.FixedZone("+0530", 19800), mustZone(t, "Europe/Madrid")
	for _, c := range []struct {
		now, t time.Time
		want   string
	}{
		{time.Date(2026, 3, 14, 0, 10, 0, 0, cst), time.Date(2026, 3, 13, 16, 5, 1, 0, time.UTC), "00:05:01 CST"},
		{time.Date(2026, 3, 14, 0, 10, 0, 0, cst), time.Date(2026, 3, 13, 15, 5, 1, 0, time.UTC), "03-13 23:05:01 CST"},
		{time.Date(2026, 3, 14, 12, 0, 0, 0, half), time.Date(2026, 3, 14, 3, 0, 0, 0, time.UTC), "08:30:00 UTC+0530"},
		{time.Date(2026, 3, 29, 4, 0, 0, 0, madrid), time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC), "01:30:00 CET"}, // summer time has begun since
		{time.Date(2026, 3, 29, 4, 0, 0, 0, madrid), time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC), "03:30:00 CEST"},
		{time.Date(2026, 3, 14, 0, 10, 0, 0, cst), time.Time{}, ""},
	} {
		if got := zoned(c.now, c.t); got != c.want {
			t.Errorf("zoned(%s) = %q, want %q", c.t, got, c.want)
		}
	}
}

func mustZone(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err) // Go brings the zones along
	}
	return zone
}

// Each message on its own says of which zone its times are.
func TestEveryMessageNamesItsZone(t *testing.T) {
	clocks := regexp.MustCompile(`\d\d:\d\d`)
	for _, locale := range []string{"en", "zh"} {
		w := mustWords(t, locale, nil)
		for name, s := range Samples() {
			s.Now = s.Now.In(time.FixedZone("CST", 8*3600))
			for _, k := range kindsFor(name) {
				text := w.Render(s, k)
				shown := Text{Title: text.Title, Lead: text.Lead, Fields: text.Fields, Steps: text.Steps}
				switch k { // as the threads of Slack show them
				case KindStep:
					shown = Text{Steps: text.Steps}
				case KindEvidence:
					shown = Text{Lead: text.Lead}
				default:
				}
				all := shown.Plain(64 << 10)
				if clocks.MatchString(all) && !strings.Contains(all, " CST") {
					t.Errorf("%s %s of %s does not say of which zone its times are:\n%s", locale, k, name, all)
				}
			}
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration][2]string{
		-time.Second:                 {"0 s", "0 秒"},
		119 * time.Second:            {"119 s", "119 秒"},
		59*time.Minute + time.Second: {"59 min", "59 分钟"},
		2 * time.Hour:                {"2 h", "2 小时"},
		130 * time.Minute:            {"2 h 10 min", "2 小时 10 分钟"},
		75 * time.Hour:               {"3 d 3 h", "3 天 3 小时"},
	} {
		for i, locale := range []string{"en", "zh"} {
			if got := mustWords(t, locale, nil).builtin.span(d); got != want[i] {
				t.Errorf("%s of %s is %q, want %q", locale, d, got, want[i])
			}
		}
	}
}

// A storm lists the worst first, and not all.
func TestStormLists(t *testing.T) {
	s := Samples()["storm"]
	s.Children = nil
	for i := range 50 {
		s.Children = append(s.Children, policy.Incident{Unit: "u", Name: fmt.Sprintf("c%02d", i), Opened: s.Incident.Opened, Rule: "oom", Level: policy.LevelInfo})
	}
	s.Children[40].NeedsYou, s.Children[40].Rule = true, "gave_up"
	s.Children[0].Closed, s.Children[0].End = s.Now, "recovered"
	lead := mustWords(t, "en", nil).Render(s, KindPost).Lead
	got := slices.Concat(lead[len(lead)-21:len(lead)-18], lead[len(lead)-1:])
	want := []string{"🔴 c40: gave up", "🟡 c01: out of memory", "🟡 c02: out of memory", "and 30 more"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What a container or a person wrote stays one clean line, wherever it stands.
func TestHostileStory(t *testing.T) {
	evil := "x\n🔴 fake\x1b[2J\u202e{{.Host}}\xff" + strings.Repeat("長", 5000)
	s := Samples()["gave_up"]
	s.Host, s.Unit.Image, s.Incident.Name, s.Incident.Cause, s.Incident.Changed = evil, evil, evil, evil, []string{evil}
	s.Incident.Steps = []policy.Step{{Rule: evil, Text: evil}}
	s.Incident.Evidence.Logs = []string{evil, evil}
	s.Incident.Ack = &policy.Ack{By: evil, Why: evil}
	s.Unit.Next, s.Unit.LastExit.Error, s.GPUs[0].Name = evil, evil, evil
	for _, locale := range []string{"en", "zh"} {
		for _, k := range allKinds() {
			text := mustWords(t, locale, nil).Render(s, k)
			text.Map(func(line string) string {
				if strings.ContainsAny(line, "\n\x1b\u202e") || !utf8.ValidString(line) || utf8.RuneCountInString(line) > maxWordLine {
					t.Errorf("%s %s: %q", locale, k, line)
				}
				return line
			})
		}
	}
}

func TestOverrides(t *testing.T) {
	w := mustWords(t, "en", fstest.MapFS{
		"title.tmpl":  {Data: []byte("[{{.Name | cut 5}}]\n")},
		"phrases.txt": {Data: []byte("# ours\nrule.oom = too big\nxid.79 = gone for good\n")},
		"..data":      {Mode: os.ModeDir},
	})
	got := w.Render(Samples()["flapping"], KindPost)
	if got.Title != "[sgla…]" {
		t.Errorf("the title is %q", got.Title)
	}
	if s := w.own.rule("oom") + ", " + w.own.rule("xid_79") + ", " + w.own.rule("exited"); s != "too big, gone for good (Xid 79), it ended" {
		t.Errorf("the rules are %q", s)
	}
	if builtin := mustWords(t, "en", nil).Render(Samples()["flapping"], KindPost); builtin.Foot != got.Foot {
		t.Errorf("the foot is %q", got.Foot)
	}
}

func TestOverridesWrong(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"unknown file":   {"titel.tmpl", "x", "titel.tmpl: there is no such template; there are fields.tmpl, foot.tmpl, lead.tmpl, step.tmpl, title.tmpl and phrases.txt"},
		"syntax":         {"lead.tmpl", "a\n{{if}}\n", "lead.tmpl:2: missing value for if"},
		"unknown value":  {"foot.tmpl", "a\nb {{.Nope}}", "foot.tmpl:2:4: executing \"foot.tmpl\" at <.Nope>: can't evaluate field Nope"},
		"unknown func":   {"step.tmpl", "{{exec 1}}", `step.tmpl:1: function "exec" not defined`},
		"unknown phrase": {"phrases.txt", "\nrule.oomm = x\n", `phrases.txt:2: there is no phrase "rule.oomm"`},
		"unknown brace":  {"phrases.txt", "unit.s = {m} s", `phrases.txt:1: {m} stands for nothing in unit.s, which is "{n} 秒"`},
		"no phrase":      {"phrases.txt", "rule.oom", "phrases.txt:1: want a line such as rule.oom = out of memory"},
		"twice":          {"phrases.txt", "rule.oom = a\nrule.oom = b", "phrases.txt:2: rule.oom is there twice"},
		"too long":       {"title.tmpl", strings.Repeat("x", maxWordFile+1), "title.tmpl: it has 65537 bytes; at most 65536 are read"},
		"no title":       {"title.tmpl", "\n{{/* nothing */}}\n", "title.tmpl: it says nothing of the sample acked"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewWords("zh", fstest.MapFS{c.file: {Data: []byte(c.text)}})
			if err == nil || !strings.HasPrefix(err.Error(), "templates: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if _, err := NewWords("de", nil); err == nil || err.Error() != `locale: want en or zh, have "de"` {
		t.Errorf("of a language that is not there: %v", err)
	}
}

// A template that breaks on a story that no sample shows gives way.
func TestOverrideBreaks(t *testing.T) {
	w := mustWords(t, "en", fstest.MapFS{"title.tmpl": {Data: []byte(`x{{if gt .Times 50}}{{index .Changed 99}}{{end}}`)}})
	s := Samples()["flapping"]
	s.Incident.Times = 51
	if got := w.Render(s, KindPost).Title; got != "🟡 sglang-qwen on gpu-03: out of memory, waiting for the next try, flapping ×51, down since 03:07 UTC" {
		t.Errorf("the title is %q", got)
	}
}
