package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/defib-dev/defib/actions/notify"
)

// TestCommandsInMessages wants every command that a message tells people to
// type to be one that defib takes.
func TestCommandsInMessages(t *testing.T) {
	storm := notify.Samples()["storm"]
	storm.Incident.Rule, storm.Incident.Name = notify.RuleStorm, "12 containers"
	many := notify.Samples()["gave_up"]
	e := *many.Incident.Evidence
	e.Logs, many.Incident.Evidence = make([]string, 200), &e
	stories := notify.Samples()
	stories["storm of incidents"], stories["many lines"] = storm, many
	seen := map[string]bool{}
	for _, locale := range []string{"en", "zh"} {
		words, err := notify.NewWords(locale, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range stories {
			text := words.Render(s, notify.KindPost).Plain(plainMost)
			for _, m := range regexp.MustCompile("`(defib .*?)`|(defib (?:incident|ack|hold|silence|status)(?: [^·\n]*)?)").FindAllStringSubmatch(text, -1) {
				line := strings.TrimSpace(m[1] + m[2])
				seen[strings.Join(strings.Fields(line)[:2], " ")] = true
				args := strings.Fields(strings.NewReplacer("'", "", `"on it"`, "on").Replace(line))[1:]
				cmd, rest, err := newApp(nil, io.Discard, io.Discard, lookup(nil)).root().Find(args)
				if err != nil {
					t.Errorf("%s %s: `%s`: %v", locale, name, line, err)
					continue
				}
				if err := cmd.ParseFlags(rest); err != nil {
					t.Errorf("%s %s: `%s`: %v", locale, name, line, err)
				} else if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
					t.Errorf("%s %s: `%s`: %v", locale, name, line, err)
				}
			}
		}
	}
	for _, want := range []string{"defib incident", "defib ack", "defib hold", "defib silence", "defib status", "defib retry", "defib gpus"} {
		if !seen[want] {
			t.Errorf("no message has `%s`", want)
		}
	}
}
