package notify

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Whole sentences, as a Chinese reader gets them.
func TestTranslate(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	for english, want := range map[string]string{
		"": "",
		"it exited with 1; 4 attempts in a row have not helped; `defib retry web` tries again, and so does defib at 2026-07-30 04:12:00 UTC":                                                                       "已退出，退出码 1；连续 4 次尝试均未见效；执行 `defib retry web` 可立即再试，defib 也会在 2026-07-30 04:12:00 UTC 再试",
		"its image changed to vllm/vllm-openai:v0.11.0 (9c3f5a7d21be), 42 min before":                                                                                                                              "镜像变为 vllm/vllm-openai:v0.11.0（9c3f5a7d21be），故障前 42 分钟",
		"its health check ran out of time (30 s) (attempt 2; loading takes about 2.5 h)":                                                                                                                           "健康检查超时（30 秒）（第 2 次尝试，加载约需 2.5 小时）",
		"GPU 0: Xid 74 (GPU has an NVLink error) of a b (pid 7): NVRM: Xid (PCI:0000:3b:00): 74. More. Stop what runs on the GPUs that are linked with it, then reset them all together: `nvidia-smi --gpu-reset`": "GPU 0：Xid 74（GPU 出现 NVLink 错误），来自 a b（pid 7）：NVRM: Xid (PCI:0000:3b:00): 74. More。停止与其互联的所有 GPU 上的程序，再一并重置：`nvidia-smi --gpu-reset`",
		"li (ops) holds container web until 2026-11-21 13:01:00 UTC (moving; soon)":                                                                                                                                "li (ops) 已暂停对容器 web 的修复，直到 2026-11-21 13:01:00 UTC（moving; soon）",
		// What the catalogue does not have stays as it is, all of it.
		"it sang. Twice; and left":                        "it sang. Twice; and left",
		"it sang; it exited with 1. It fell":              "it sang；已退出，退出码 1。It fell",
		"it sang. It fell; it is up":                      "it sang. It fell；正常运行",
		"it exited with one":                              "it exited with one",
		"it exited with 1; 4 attempts in a row have not…": "已退出，退出码 1；4 attempts in a row have not…",
		// What containers say is never looked at.
		"its health check fails: “a”; it is up; “b”":                  "健康检查失败：“a”; it is up; “b”",
		"its health check fails: “x` it is up; next attempt in 10 s”": "健康检查失败：“x` it is up; next attempt in 10 s”",
		"its health check fails: “it is up; cut…":                     "健康检查失败：“it is up; cut…",
		"“it is up”": "“it is up”",
		"the start did not work: no `it is up` here; next attempt in 10 s": "启动未成功：no `it is up` here; next attempt in 10 s",
		"it is up; ` it is up": "正常运行；` it is up",
		"”it is up; it is up“": "”it is up; it is up“",
	} {
		if got := w.translate(english); got != want {
			t.Errorf("%q\n is %q\nwant %q", english, got, want)
		}
	}
	if got := mustWords(t, "en", nil).builtin.translate("it is up"); got != "it is up" {
		t.Errorf("in English: %q", got)
	}
}

// Nothing that others wrote costs much or gets lost.
func TestTranslateHostile(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	for _, s := range hostileSentences() {
		checkTranslation(t, s, w.translate(s))
	}
}

func hostileSentences() map[string]string {
	return map[string]string{
		"a million bytes": strings.Repeat("it is up; ", 100_000),
		"many thoughts":   strings.Repeat("it is up; ", 200),
		"a few thoughts":  strings.TrimSuffix(strings.Repeat("it is up; ", 20), "; "),
		"deep":            strings.Repeat("start: ", 280) + "it is up",
		"brackets":        strings.Repeat("(", 1000) + "; it is up" + strings.Repeat(")", 1000),
		"heads":           strings.Repeat("it did not come up again: ", 70) + "it is up",
		"tails":           "it is up" + strings.Repeat(" (attempt 1)", 160),
		"middles":         strings.Repeat("Xid 1, of GPU 0 (pid 1) on GPU 0: and the driver of ", 36),
		"spaces":          "GPU 0" + strings.Repeat(" (", 980) + ")",
		"slots":           "it exited with {n}; {said}; {text} (attempt {n})",
		"quotes":          strings.Repeat("“", 600),
		"backticks":       strings.Repeat("`", 2001),
		"invalid":         "it exited with \xff; it is up\xe4\xbd",
		"dark":            "it is up; \x00\x00; it is up",
	}
}

func checkTranslation(t *testing.T, s, got string) {
	t.Helper()
	valid := strings.ToValidUTF8(s, "\uFFFD")
	if len(valid) > maxSentence && got != valid {
		t.Errorf("%.80q: something of so long a text was translated", s)
	}
	if !utf8.ValidString(got) || len(got) > 4*len(valid)+200 {
		t.Errorf("%.80q became %d bytes: %.80q", s, len(got), got)
	}
	if from, to := strings.Index(valid, "“"), strings.LastIndex(valid, "”"); from >= 0 && to > from && !strings.Contains(got, valid[from:to]) {
		t.Errorf("%q lost its quote: %q", s, got)
	}
}

// FuzzTranslate takes what it is given as a sentence, as what a container said,
// and as the name of a process.
func FuzzTranslate(f *testing.F) {
	for _, s := range hostileSentences() {
		if len(s) < 400 {
			f.Add(s)
		}
	}
	told, _ := transcripts(f, "../../watcher/policy/testdata")
	for i := 0; i < len(told); i += 10 {
		f.Add(told[i].text)
	}
	w := mustWords(f, "zh", nil).builtin
	f.Fuzz(func(t *testing.T, s string) {
		checkTranslation(t, s, w.translate(s))
		quote := "“" + strings.ToValidUTF8(s, "\uFFFD") + "”"
		if len(quote) > 2000 {
			return
		}
		if got, want := w.translate("its health check fails: "+quote+"; next attempt in 10 s"), "健康检查失败："+quote+"；10 秒后再次尝试"; got != want {
			t.Errorf("%q\n is %q\nwant %q", s, got, want)
		}
		fault := "GPU 0: Xid 31, GPU memory page fault, of " + s + " (pid 9) in web"
		checkTranslation(t, fault, w.translate(fault))
	})
}

func BenchmarkTranslate(b *testing.B) {
	w := mustWords(b, "zh", nil).builtin
	told, _ := transcripts(b, "../../watcher/policy/testdata")
	for i := 0; b.Loop(); i++ {
		w.translate(told[i%len(told)].text)
	}
}

// The worst that fits, for its bound.
func BenchmarkTranslateHostile(b *testing.B) {
	w := mustWords(b, "zh", nil).builtin
	for name, s := range hostileSentences() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				w.translate(s)
			}
		})
	}
}

func BenchmarkNewWords(b *testing.B) {
	for b.Loop() {
		mustWords(b, "zh", nil)
	}
}

func TestAProcessKeepsItsName(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	if got := w.translate("Xid 31, GPU memory page fault, of tokio (a, b) (pid 7) in web"); !strings.Contains(got, "tokio (a, b)") {
		t.Error(got)
	}
}

func TestAReasonDoesNotSayWhatIsHeld(t *testing.T) {
	w := mustWords(t, "zh", nil).builtin
	if got := w.translate("li holds the host until 07:15 UTC (a) holds container web until 08:15 UTC (b)"); !strings.Contains(got, "整台主机") {
		t.Error(got)
	}
}
