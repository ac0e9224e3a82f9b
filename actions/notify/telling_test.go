package notify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// sampleUnit is an event of [Samples], its container changed.
func sampleUnit(event string, change func(*policy.Incident, *policy.Status)) Story {
	s := Samples()[event]
	u := *s.Unit
	s.Unit = &u
	change(&s.Incident, &u)
	return s
}

// all is a message as a mail has it.
func all(t *testing.T, locale string, s Story, k Kind) string {
	t.Helper()
	return mustWords(t, locale, nil).Render(s, k).Plain(64 << 10)
}

// Where defib does not go on by itself, it does not say so, and what lets it is
// there to be copied.
func TestHeldSaysWhatReleasesIt(t *testing.T) {
	for _, c := range []struct {
		detail   string
		releases []string
		want     string // empty: it goes on by itself
	}{
		{"operator", []string{"defib release web"}, "`defib release web`"},
		{"operator", []string{"rm /run/defib/hold-all", "defib release --project shop"}, "`rm /run/defib/hold-all && defib release --project shop`"},
		{"operator", nil, ""},
		{"gpu", nil, "`defib gpus release 2`"},
		{"stuck", nil, "`dmesg`"},
		{"disk", nil, ""},
		{"dependency", nil, ""},
		{"budget", nil, ""},
	} {
		s := sampleUnit("flapping", func(_ *policy.Incident, u *policy.Status) {
			u.State, u.Detail, u.Releases, u.Next, u.NextAt = policy.Held, c.detail, c.releases, "the hold is cleared", time.Time{}
		})
		s.GPUs = []policy.GPUStatus{{Device: gpu.Device{Index: 1}}, {Device: gpu.Device{Index: 2}, Hold: &policy.Hold{Reason: policy.HoldGPU}}}
		for locale, goesOn := range map[string]string{"en": "defib goes on by itself", "zh": "defib 会自动继续"} {
			got := all(t, locale, s, KindPost)
			byItself := c.detail == "dependency" || c.detail == "budget"
			if strings.Contains(got, goesOn) != byItself || !strings.Contains(got, c.want) {
				t.Errorf("%s %s: want %q in\n%s", locale, c.detail, c.want, got)
			}
		}
	}
}

// Whether somebody is needed stands where no service cuts it off.
func TestTitleKeepsTheVerdict(t *testing.T) {
	s := sampleUnit("gave_up", func(in *policy.Incident, _ *policy.Status) { in.Name = strings.Repeat("vllm-llama70b-", 10) })
	s.Host = strings.Repeat("gpu-node.example.org.", 10)
	taken := s
	taken.Incident.Ack = &policy.Ack{By: "li" + strings.Repeat("i", 200), Until: s.Now.Add(time.Hour)}
	for locale, want := range map[string][2]string{"en": {"NEEDS YOU", "Taken by lii"}, "zh": {"需要你处理", "已接手"}} {
		for i, s := range []Story{s, taken} {
			text := mustWords(t, locale, nil).Render(s, KindPost)
			_, opsgenie := schemes()["opsgenie"].compose(text, "")
			ding := (&dingTalk{}).message(Message{Text: text}).Markdown.Title
			for where, title := range map[string]string{"Slack": cutRunes(text.Title, slackTitle), "DingTalk": ding, "Opsgenie": opsgenie} {
				if !strings.Contains(title, want[i]) {
					t.Errorf("%s %s: %q", locale, where, title)
				}
			}
		}
	}
}

// What short chats show is what matters: the cause in the log, the GPU, what to
// do, and the commands.
func TestShortMessages(t *testing.T) {
	for _, locale := range []string{"en", "zh"} {
		text := mustWords(t, locale, nil).Render(Samples()["gave_up"], KindPost)
		for _, most := range []int{dingBudget, dingBudget * 3 / 4, 1000} {
			got := text.Plain(most)
			for _, want := range []string{"ValueError: Free memory", "python3", "`defib retry vllm-llama70b`", "defib ack INC-7F3K", "defib hold vllm-llama70b --for 1h"} {
				if !strings.Contains(got, want) {
					t.Errorf("%s in %d bytes has no %q:\n%s", locale, most, want, got)
				}
			}
			if log, fields := strings.Index(got, "ValueError"), strings.Index(got, "H100"); log > fields {
				t.Errorf("%s in %d bytes: the log stands below the fields:\n%s", locale, most, got)
			}
		}
	}
}

// Advice is given once, and so is the exit code's meaning.
func TestSaidOnce(t *testing.T) {
	for locale, once := range map[string][]string{
		"en": {"defib retry", "an error of the program", "NEEDS YOU"}, "zh": {"defib retry", "程序出错", "需要你处理"},
	} {
		got := all(t, locale, Samples()["gave_up"], KindPost)
		for _, s := range once {
			if n := strings.Count(got, s); n != 1 {
				t.Errorf("%s says %d times %q:\n%s", locale, n, s, got)
			}
		}
		if got := all(t, locale, Samples()["gpu_held"], KindPost); strings.Count(got, "`reboot`") != 1 {
			t.Errorf("%s says the remedy several times:\n%s", locale, got)
		}
	}
	for _, never := range []string{"attempts in a row", "used up", "mend"} {
		if got := all(t, "en", Samples()["gave_up"], KindPost); strings.Contains(got, never) {
			t.Errorf("it says %q:\n%s", never, got)
		}
	}
}

func TestPlainly(t *testing.T) {
	for s, want := range map[string]string{
		"it exited with 1": "it exited with 1",
		"it exited with 1; 4 attempts in a row have not helped; `defib retry web` tries again, and so does defib at 2026-07-30 04:12:00 UTC": "it exited with 1",
		"it exited with 1; next attempt in 10 s":                       "it exited with 1; next attempt in 10 s",
		"4 attempts in a row have not helped; `defib retry web` helps": "4 attempts in a row have not helped",
		"`defib retry web` tries again":                                "`defib retry web` tries again",
		"its health check fails: “; `rm -rf /`; x”; look at `dmesg`":   "its health check fails: “; `rm -rf /`; x”",
		"its health check fails: “`rm`”":                               "its health check fails: “`rm`”",
		"GPU 0 is gone. Nothing helps. Do it. Now":                     "GPU 0 is gone. Nothing helps",
		"a; it is `said` here; and there":                              "a",
		"":                                                             "",
	} {
		if got := plainly(s, "Do it. Now"); got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}

// Nobody waits for what defib only watches, and it says so to whom it calls.
func TestObservedPage(t *testing.T) {
	s := sampleUnit("gave_up", func(in *policy.Incident, u *policy.Status) {
		u.State, u.Mode, u.Next, u.NextAt = policy.Unhealthy, policy.ModeObserve, "would restart", time.Time{}
		in.Rule, in.Cause, in.Repairs = "down", "it should run and has not been ready for 15 min: its health check fails: “x”", 0
	})
	for locale, want := range map[string]string{"en": "defib only observes it", "zh": "defib 仅观察它"} {
		if got := all(t, locale, s, KindEscalate); !strings.Contains(got, want) || !strings.Contains(got, "`defib restart vllm-llama70b`") {
			t.Errorf("%s:\n%s", locale, got)
		}
	}
}

// What only a human can end has its way out, though nobody is called for it.
func TestYoursHasAWayOut(t *testing.T) {
	s := sampleUnit("repaired", func(in *policy.Incident, _ *policy.Status) {
		*in = policy.Incident{ID: "INC-1", Unit: "x", Name: "tei-embed", Opened: sampleAt(0), Level: policy.LevelWarn, Rule: "check_broken", Cause: "its health check is broken"}
	})
	for locale, not := range map[string]string{"en": "Nothing to do", "zh": "无需处理"} {
		if got := all(t, locale, s, KindPost); !strings.Contains(got, "`defib describe tei-embed`") || strings.Contains(got, not) {
			t.Errorf("%s:\n%s", locale, got)
		}
	}
	failed := Samples()["gpu_held"]
	failed.Incident.Closed, failed.Incident.End, failed.Incident.Rule = failed.Now, "failed", "gpu_reset_failed"
	if got := all(t, "en", failed, KindResolve); !strings.Contains(got, "NEEDS YOU") || !strings.Contains(got, "What to do: reset it by hand") {
		t.Errorf("a reset that failed:\n%s", got)
	}
}

// A storm is of incidents that each have their own ack: it names those to be
// taken, and has commands that stop the lot.
func TestStormHasCommands(t *testing.T) {
	s := Samples()["storm"]
	s.Incident.ID, s.Incident.Rule, s.Incident.Name, s.Incident.Steps = "STORM-7F3K", RuleStorm, "12 containers", nil
	s.Incident.Cause = "12 incidents at about the same time; 12 of them go on and 1 need somebody: vllm-3"
	s.Children[2].NeedsYou = true
	for locale, title := range map[string]string{
		"en": "🔴 NEEDS YOU · 12 containers on gpu-03: failed at about the same time, since 03:07 UTC",
		"zh": "🔴 需要你处理 · gpu-03：12 个容器相继故障，自 03:07 UTC 起",
	} {
		text := mustWords(t, locale, nil).Render(s, KindEscalate)
		if text.Title != title {
			t.Errorf("%s: the title is %q", locale, text.Title)
		}
		for _, want := range []string{`defib silence add --unit '*' --for 1h -m "on it"`, "defib hold --all --for 1h", "rule storm"} {
			if locale == "zh" {
				want = strings.Replace(want, "rule", "规则", 1)
			}
			if !strings.Contains(text.Foot, want) {
				t.Errorf("%s: no %q in %q", locale, want, text.Foot)
			}
		}
		all := strings.Join(text.Lead, "\n")
		if strings.Contains(text.Foot+all, "STORM-") || !strings.Contains(all, "INC-S003") || strings.Contains(all, "INC-S004") {
			t.Errorf("%s names others than those to be taken:\n%s", locale, all)
		}
	}
}

// Groups have a count, where it is known.
func TestNamesOfGroups(t *testing.T) {
	for name, want := range map[string][4]string{
		"containers on this host":                     {"3 containers", "several containers", "3 个容器", "多个容器"},
		"containers of one image":                     {"3 containers of one image", "several containers of one image", "同一镜像的 3 个容器", "同一镜像的多个容器"},
		"containers that share the mount /srv/models": {"3 containers that share the mount /srv/models", "several containers that share the mount /srv/models", "共用 /srv/models 的 3 个容器", "共用 /srv/models 的多个容器"},
		"containers on GPU 0":                         {"3 containers on GPU 0", "several containers on GPU 0", "GPU 0 上的 3 个容器", "GPU 0 上的多个容器"},
		"containers that need db":                     {"3 containers that need db", "several containers that need db", "依赖 db 的 3 个容器", "依赖 db 的多个容器"},
	} {
		in := &policy.Incident{Name: name, Rule: "panic"}
		en, zh := mustWords(t, "en", nil).builtin, mustWords(t, "zh", nil).builtin
		if d := cmp.Diff(want, [4]string{en.name(in, 3), en.name(in, 0), zh.name(in, 3), zh.name(in, 0)}); d != "" {
			t.Error(d)
		}
	}
}

func TestGPUProcesses(t *testing.T) {
	const g = 1 << 30
	u := &policy.Status{Container: "own"}
	for _, c := range []struct {
		list []gpu.Process
		want string
	}{
		{nil, ""},
		{[]gpu.Process{{PID: 1, Name: "own", Memory: g, Containers: []string{"own"}}, {PID: 2, Name: "py\x1b[2J", Memory: 2 * g, Containers: []string{"a", "b"}}}, "py (pid 2, 2.0 GiB, in another container), own (pid 1, 1.0 GiB)"},
		{[]gpu.Process{{PID: 3, Dead: true}, {PID: 4}, {PID: 5}, {PID: 6}, {PID: 7}}, "a process (pid 3, ended, and still listed), a process (pid 4, in no container), a process (pid 5, in no container), 2 more"},
	} {
		got := mustWords(t, "en", nil).builtin.processes(&gpu.Reading{Processes: c.list}, u)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Error(d)
		}
	}
	if got := mustWords(t, "en", nil).builtin.processes(&gpu.Reading{Trouble: gpu.TroubleLost, Processes: []gpu.Process{{PID: 1}}}, u); got != "" {
		t.Errorf("of a GPU that cannot be read: %q", got)
	}
}

// Whoever runs containers writes the label: only a plain address is a link.
func TestRunbook(t *testing.T) {
	with := func(label string) Text {
		s := Samples()["gave_up"]
		s.Runbook = label
		return mustWords(t, "en", nil).Render(s, KindPost)
	}
	for label, want := range map[string]string{
		"https://wiki.example.org/a?b=c&d": "https://wiki.example.org/a?b=c&d",
		"http://wiki/a	":                   "http://wiki/a",
		"https://wiki/@everyone/手册":        "https://wiki/%40everyone/%E6%89%8B%E5%86%8C",
	} {
		if got := with(label).Link; got != (Field{"Runbook", want}) {
			t.Errorf("%q is the link %v", label, got)
		}
	}
	for _, label := range []string{
		"go/gpu-leftover", "javascript:alert(1)", "https://", "https://li:***@wiki/", "https://wiki/<!channel>?<!channel>", "https://wiki/a b?c d",
		"ftp://wiki", "@everyone <!channel> <@U1>\n" + `<at user_id="all">`, "https://wiki/" + strings.Repeat("a", 400), "https://wiki?[a](b)",
	} {
		text := with(label)
		if last := text.Lead[len(text.Lead)-1]; text.Link.Value != "" || !strings.HasPrefix(last, "Runbook: ") || utf8.RuneCountInString(last) > maxWordLine {
			t.Errorf("%q is the link %v, and %q", label, text.Link, last)
		}
	}
	if text := with(" "); text.Link.Value != "" || slices.ContainsFunc(text.Lead, func(s string) bool { return strings.HasPrefix(s, "Runbook") }) {
		t.Errorf("nothing is a page: %+v", text)
	}
	link := fmt.Sprint(pagerLinks(with("https://wiki/a")))
	if link != "[map[href:https://wiki/a text:Runbook]]" {
		t.Errorf("PagerDuty gets %s", link)
	}
	if got := with("https://wiki/a").Map(Discord).Plain(1800); !strings.Contains(got, "\nRunbook: https://wiki/a\n") {
		t.Errorf("a chat gets\n%s", got)
	}
}
