package notify

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
)

// Each line fits what it is for, and says it with all that stands in its slots.
func TestSentencesFit(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	lines := map[*sentence]bool{}
	for _, list := range w.sentences {
		for _, s := range list {
			lines[s] = true
		}
	}
	if len(lines) < 400 {
		t.Fatalf("the catalogue has only %d lines", len(lines))
	}
	for s := range lines {
		english, values := s.head, []string(nil)
		for i, slot := range s.slots {
			from, to := example(t, slot.kind, i)
			english, values = english+from+slot.after, append(values, to)
		}
		if diff := cmp.Diff(s.render(values), w.translate(english)); diff != "" {
			t.Errorf("%s: another line takes %q (-want +got)\n%s", sentenceFile, english, diff)
		}
	}
}

// example is something for the slot in the i-th place, and how Chinese says it.
func example(t *testing.T, kind string, i int) (english, chinese string) {
	n := strconv.Itoa(i + 2)
	switch kind {
	case slotNumber:
		return n, n
	case slotSpan:
		return "2 h " + n + " min", "2 小时 " + n + " 分钟"
	case slotTime:
		return "2026-03-14 07:15:0" + n + " UTC", "2026-03-14 07:15:0" + n + " UTC"
	case slotName:
		return "web-" + n, "web-" + n
	case slotNames:
		return "web-" + n + ", db", "web-" + n + "、db"
	case slotGPU:
		return "GPU " + n + " (NVIDIA H100, 0000:3b:00.0)", "GPU " + n + "（NVIDIA H100，0000:3b:00.0）"
	case slotProc:
		return "VLLM::Worker (pid " + n + ")", "VLLM::Worker（pid " + n + "）"
	case slotQuote:
		return "“not {n} found”", "“not {n} found”"
	case slotCmd:
		return "`defib a" + n + "`", "`defib a" + n + "`"
	case slotWho:
		return "li (uid " + n + ")", "li (uid " + n + ")"
	case slotText:
		return "Words of others " + n, "Words of others " + n
	case slotSaid, slotKnown:
		return "it exited with " + n, "已退出，退出码 " + n
	}
	t.Fatalf("no example of {%s}", kind)
	return "", ""
}

func TestSentencesRead(t *testing.T) {
	for line, want := range map[string]string{
		"it is up":                 "want a line such as it exited with {n} = …",
		"it is up = ":              "want a line such as it exited with {n} = …",
		"a {n = 甲":                 "its braces do not pair",
		"a {n} b} = 甲{n}":          "its braces do not pair",
		"a {what} = 甲{what}":       "{what} is no slot; there are n, span, time, name, names, gpu, proc, quote, cmd, who, text, said, known",
		"a {n} = 甲":                "the translation has no {n}",
		"a {n} = 甲{n2}":            "the English has no {n2}",
		"a {n} = 甲{n}{n}":          "{n} is there twice; write {n2}",
		"a {n}{text} = 甲{n}{text}": "nothing stands between {n} and {text}",
		"{said} = {said}":          "it would fit everything",
		"b {name} = 甲{name}\nb {name2} = 乙{name2}": "line 1 fits the same English",
	} {
		_, err := readSentences(line + "\n")
		at := strconv.Itoa(1 + strings.Count(line, "\n"))
		if err == nil || err.Error() != sentenceFile+":"+at+": "+want {
			t.Errorf("%q: got %v, want %s", line, err, want)
		}
	}
	files := fstest.MapFS{sentenceFile: {Data: []byte("# ours\n\na {n} = 甲\nb = 乙\n")}}
	if _, err := readWords(files, nil); err == nil || err.Error() != sentenceFile+":3: the translation has no {n}" {
		t.Errorf("among the other words: %v", err)
	}
}

// Of the lines that fit, the one with the most fixed words wins; of equals, the
// first.
func TestSentencesWeigh(t *testing.T) {
	list, err := readSentences("{said} now = 一{said}\nit {text} = 二{text}\nit {text} now = 三{text}\nit {name} now = 四{name}\n")
	if err != nil {
		t.Fatal(err)
	}
	w := &wordSet{sentences: list}
	for english, want := range map[string]string{
		"it is now": "三 is", "it was": "二 was", "he is now": "一 he is", "he is": "he is",
	} {
		if got := w.translate(english); got != want {
			t.Errorf("%q is %q, want %q", english, got, want)
		}
	}
}

// What the transcripts of the policy tell is Chinese from end to end. The words
// that may stay are those of the simulated engine, and names.
func TestSentencesCoverTranscripts(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	told, names := transcripts(t, "../../watcher/policy/testdata")
	if len(told) < 300 {
		t.Fatalf("only %d sentences found in the transcripts", len(told))
	}
	for _, s := range told {
		zh := w.translate(Clean(s.text))
		if left := englishIn(zh, names); len(left) > 0 {
			t.Errorf("%s: %q\nis told as %q;\n%q is English: add a line \"%s = …\" to words/zh/%s (its head says how), or a name to this test",
				s.file, s.text, zh, left, s.text, sentenceFile)
		}
	}
}

type toldSentence struct{ file, text string }

// transcripts reads what people are told out of the stories of the policy, and
// the names of the containers in them.
func transcripts(t testing.TB, dir string) (told []toldSentence, names map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts in %s (%v)", dir, err)
	}
	patterns := []*regexp.Regexp{
		regexp.MustCompile(`^  \S+  \S+ (?:note|start|stop|restart|reset_gpu|inspect|poll|examine) \S+?(?: PAGE)?: (.*)$`),
		regexp.MustCompile(`^  [A-Z]+: (.*); next: `),
		regexp.MustCompile(`^  INC-\S+ .*? (?:info|warn|page): (.*) \(\d+ repairs, `),
		regexp.MustCompile(` after "(.*?)"`),
		regexp.MustCompile(`; held, ends (.*)$`),
		regexp.MustCompile(`last fault: ([^;]*)`),
		regexp.MustCompile(`^    ((?:[^\sl]|l[^a]).*)$`),
	}
	seen, names := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSuffix(line, "\n")
			if words := strings.Fields(line); len(words) > 2 && words[1] == "run" {
				names[words[2]] = true
			}
			for _, p := range patterns {
				if m := p.FindStringSubmatch(line); m != nil && !seen[m[1]] {
					seen[m[1]] = true
					told = append(told, toldSentence{filepath.Base(file), m[1]})
				}
			}
		}
	}
	return told, names
}

// englishIn are the words of English prose in Chinese: in lower case, not in
// quotes or backticks, and no name.
func englishIn(s string, names map[string]bool) []string {
	s = regexp.MustCompile("“.*”|`[^`]*`").ReplaceAllString(s, "")
	for _, foreign := range foreignWords() {
		s = strings.ReplaceAll(s, foreign, "")
	}
	var left []string
	for _, word := range regexp.MustCompile(`[A-Za-z0-9_./:=@-]+`).FindAllString(s, -1) {
		word = strings.Trim(word, ".:-")
		if regexp.MustCompile(`^[a-z]+$`).MatchString(word) && !names[word] && !slices.Contains(termsThatStay(), word) {
			left = append(left, word)
		}
	}
	return left
}

// termsThatStay are Latin in Chinese, too.
func termsThatStay() []string {
	return strings.Fields("defib compose pid fabric manager cgroupfs " + // programs and parts of them
		"postgres autoheal ann python notebook nobody unhealthy two") // images, people and processes of the transcripts
}

// foreignWords are what Docker, the driver and others say in the transcripts.
// The policy only passes it on, so no catalogue can have it.
func foreignWords() []string {
	return []string{
		"--all", "--observe", "--gpus", `error mounting "/models": no such file or directory`, "no such device", "no such file", "permission denied", "the stream broke", "no such program",
		"tried to kill container, but did not receive an exit event", "context deadline exceeded", "connection refused",
		"nvidia-container-cli: initialization error: nvml error: driver/library version mismatch",
		"CDI device injection failed: unresolvable CDI devices", "exit status 1: In use by another client", "CDI device injection failed",
		"there is no NVIDIA driver on this host", "libnvidia-ml.so is not there", "it has not answered for 5 s", "the driver asks for a reset of GPU 0",
		"Xid 79: the GPU has fallen off the bus; reboot", "the library is of 590.1 and the kernel module of 580.95", "starting",
	}
}

// Every row of the table of Xids, and every sentence in the source of the
// policy and of the GPU rules, has its line.
func TestSentencesCoverXids(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	for code := 0; code <= 200; code++ {
		row := gpu.Lookup(code)
		for _, text := range []string{row.Meaning, strings.ReplaceAll(row.Advice, "<index>", "0")} {
			if left := englishIn(w.translate(text), nil); len(left) > 0 {
				t.Errorf("Xid %d: %q is English: add a line \"%s = …\" to words/zh/%s", code, left, text, sentenceFile)
			}
		}
	}
}

func TestSentencesCoverSource(t *testing.T) {
	english := catalogue(t)
	notTold := strings.Fields("config.go validate.go settings.go resolve.go status.go snapshot.go line.go signs.go signs_phrases.go claim.go xid.go xid_app.go xid_gpu.go xid_host.go")
	n := 0
	walkFiles(t, func(file string, lit string) {
		if slices.Contains(notTold, file) {
			return
		}
		for _, part := range fixedParts(lit) {
			n++
			if !strings.Contains(english, part) {
				t.Errorf("%s writes %q, of which words/zh/%s has no %q: add a line for the sentence, or the file to those that tell nobody",
					file, lit, sentenceFile, part)
			}
		}
	}, "../../watcher/policy", "../../gpu")
	if n < 200 {
		t.Fatalf("only %d parts of sentences found in the source", n)
	}
}

// catalogue is all English of it, without the names of slots.
func catalogue(t *testing.T) string {
	t.Helper()
	b, err := fs.ReadFile(wordFiles, "words/zh/"+sentenceFile)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for line := range strings.Lines(string(b)) {
		if english, _, ok := strings.Cut(line, " = "); ok && line[0] != '#' {
			all.WriteString(regexp.MustCompile(`\{\w+\}`).ReplaceAllString(english, "\x00") + "\n")
		}
	}
	return all.String()
}

// walkFiles visits every string in the source of some packages, but not those
// of calls that tell nobody.
func walkFiles(t *testing.T, visit func(file, lit string), dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		walkNamed(t, dir, func(file string, n ast.Node) {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || !strings.Contains(lit.Value, " ") {
				return
			}
			s, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			visit(file, s)
		})
	}
}

// fixedParts are the words of a string between what is filled in, where they
// are at least two words of prose.
func fixedParts(lit string) []string {
	var out []string
	for _, part := range regexp.MustCompile("%[+.0-9]*[a-z]|`[^`]*`|`|<index>|[;.] ").Split(lit, -1) {
		part = strings.TrimPrefix(strings.Trim(part, " ,;:.()"), "GPU ")
		if part == "check broken" || part == "by docker" || part == "Health check exceeded timeout" { // told by phrases
			continue
		}
		if regexp.MustCompile(`[a-z]+ [a-z]{2,}`).MatchString(part) && !regexp.MustCompile(`^(defib|docker|nvidia-smi|systemctl|nvidia-ctk|fuser|kill|dcgmi) `).MatchString(part) {
			out = append(out, part)
		}
	}
	return out
}
