package itest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/watcher/policy"
)

// People are told of what happens, once, whatever happens to defib and to
// those who are to be told.
func TestNotify(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"life":     notifyLife,
		"commands": notifyCommands,
		"deaf":     notifyDeaf,
		"killed":   notifyKilled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

const (
	plantedToken = "hf_QmPlAnTeDqRsTuVwXyZ0192837465kL" // in what a container logs, and in its environment
	plantedKey   = "Zx9pLaNtEdKeyQ7w"                   // in its environment
	marker       = "loading-the-weights-now"            // beside the token in the log: what is told has been near it
	hookKey      = "c2lnbmluZy1rZXktb2YtdGhlLXRlc3Q="   // of the webhook, in base64
)

// givesUp is a policy under which a crash loop ends soon, but not before
// people can have been told that it began.
func givesUp() map[string]string {
	return map[string]string{"start_retries": "2", "backoff_base": "2s", "fatal_retry": "6s", "panic_window": "1ms"}
}

// A container that crashes until it is given up, and comes back, is one message
// with a thread. No secret gets anywhere.
func notifyLife(t *testing.T) {
	e, _, b := rig(t)
	slack, hook, heart := NewInbox(t), NewInbox(t), NewInbox(t)
	c := e.Run(t, Spec{Name: "web", Env: []string{"FAKE_STICKY=1", "API_KEY=" + plantedKey, "HF_TOKEN=" + plantedToken}})
	d := Start(t, b, Options{Host: e.Host(), Policy: givesUp(), Notify: Notifying(t, heart.URL+"/ping/uuid-of-the-check",
		SlackChannel("ops", slack.URL),
		Channel{Name: "hook", Type: "webhook", Secrets: map[string]string{"url": hook.URL + "/in", "secret": "whsec_" + hookKey}})})
	heart.Until(t, soon, "a heartbeat", func(s Sent) bool { return s.Path == "/ping/uuid-of-the-check" })
	d.UntilState(t, soon, "web", policy.Running)
	c.Tell(t, "say", marker+" with "+plantedToken)
	c.Tell(t, "crash", "3")
	slack.Until(t, 2*soon, "somebody is called", Sent.Broadcast)
	if u := d.UntilState(t, soon, "web", policy.Fatal); u.Next != "half-open retry" {
		t.Errorf("next: got %q, want a half-open retry", u.Next)
	}
	c.Untell(t, "crash")
	in := d.UntilClosed(t, 2*soon, "web")
	slack.Until(t, soon, "it is over", func(s Sent) bool { return s.Edit() && s.Says("healthy again") })
	d.UntilTold(t, soon)
	lifeOnSlack(t, slack, in)
	lifeOfHook(t, hook, in)
	noSecret(t, d, slack, hook)
}

// lifeOnSlack wants one message, edited, with a thread and one call.
func lifeOnSlack(t *testing.T, slack *Inbox, in policy.Incident) {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var roots, edits, replies, calls []Sent
	for _, s := range slack.Got() {
		switch {
		case s.Root():
			roots = append(roots, s)
		case s.Broadcast():
			calls = append(calls, s)
		case s.Edit():
			edits = append(edits, s)
		case s.Reply():
			replies = append(replies, s)
		}
	}
	if len(roots) != 1 || len(edits) < 2 || len(replies) < 2 || len(calls) != 1 {
		t.Fatalf("got %d messages, %d edits, %d answers and %d calls; want 1, at least 2, at least 2, and 1", len(roots), len(edits), len(replies), len(calls))
	}
	root := roots[0]
	if !root.Says("web", host, in.ID) || root.Says("S0ONCALL") {
		t.Errorf("the message does not name web, %s and %s, or calls somebody: %s", host, in.ID, root.Form.Get("text"))
	}
	if !calls[0].Says("web", host, "<!subteam^S0ONCALL>") {
		t.Errorf("the call calls nobody or names nothing: %s", calls[0].Form.Get("text"))
	}
	for _, s := range slices.Concat(edits, replies, calls) {
		if s.Form.Get("ts") != root.TS && s.Form.Get("thread_ts") != root.TS {
			t.Errorf("%s is not about message %s: %s", s.Path, root.TS, s.Form.Get("text"))
		}
	}
	if last := edits[len(edits)-1]; !last.Says("web", "healthy again") {
		t.Errorf("the last edit: got %q, want it healthy again", last.Form.Get("text"))
	}
}

// lifeOfHook wants every document signed, and the newest as the incident is.
func lifeOfHook(t *testing.T, hook *Inbox, in policy.Incident) {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(hookKey)
	if err != nil {
		t.Fatal(err)
	}
	var last notify.WebhookBody
	for _, s := range hook.Got() {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(s.Header.Get("Webhook-Id") + "." + s.Header.Get("Webhook-Timestamp") + "." + s.Body))
		if got, want := s.Header.Get("Webhook-Signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want {
			t.Errorf("signature: got %q, want %q", got, want)
		}
		last = notify.WebhookBody{}
		if err := json.Unmarshal([]byte(s.Body), &last); err != nil || last.Version != notify.WebhookVersion || last.Type != "incident" || last.Incident == nil {
			t.Fatalf("document: %v: %s", err, s.Body)
		}
	}
	if last.Incident == nil || last.Incident.ID != in.ID || last.Incident.End != "recovered" || last.Incident.Name != "web" {
		t.Errorf("the last document is about %+v; want %s recovered", last.Incident, in.ID)
	}
}

// noSecret looks for what was planted in all that defib wrote.
func noSecret(t *testing.T, d *Daemon, told ...*Inbox) {
	t.Helper()
	wrote := map[string]string{"the log": d.Output()}
	for _, in := range told {
		var all strings.Builder
		for _, s := range in.Got() {
			all.WriteString(s.Body + "\n" + s.Form.Encode() + "\n" + s.Form.Get("blocks") + "\n")
		}
		wrote["requests to "+in.URL] = all.String()
	}
	for _, args := range [][]string{
		{"config", "show", "--config", filepath.Join(d.StateDir, "config.yaml")},
		{"events", "--since", "1h"},
		{"status", "-o", "json"},
		{"describe", "web"},
		{"notify", "queue", "-o", "json"},
		{"incident", d.Incidents(t)[0].ID},
	} {
		out, errs, code := d.CLI(t, args...)
		if code != 0 || out == "" {
			t.Errorf("defib %v: exit code %d: %s", args, code, errs)
		}
		wrote["defib "+strings.Join(args[:2], " ")] = out + errs
	}
	// The token of a bot goes with every request, and nowhere else.
	secrets := []string{plantedToken, plantedKey, hookKey, "uuid-of-the-check"}
	near := 0
	for name, text := range stateFiles(t, d.StateDir, wrote) {
		if strings.Contains(text, marker) {
			near++
		}
		wantWithout(t, name, text, secrets...)
		if !strings.HasPrefix(name, "requests") {
			wantWithout(t, name, text, "7351-planted")
		}
	}
	if near < 4 {
		t.Errorf("the line beside the secret is in %d places; want it on Slack, in the webhook, the state and the incident", near)
	}
}

func wantWithout(t *testing.T, name, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds %s", name, secret)
		}
	}
}

// stateFiles adds the files of a directory.
func stateFiles(t *testing.T, dir string, to map[string]string) map[string]string {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, f os.DirEntry, err error) error {
		if err != nil || !f.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		to[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// The commands about messages, against the daemon.
func notifyCommands(t *testing.T) {
	e, _, b := rig(t)
	slack := NewInbox(t)
	policies := givesUp()
	policies["fatal_retry"] = "10m"
	web := e.Run(t, Spec{Name: "web", Env: []string{"FAKE_STICKY=1"}})
	other := e.Run(t, Spec{Name: "other"})
	d := Start(t, b, Options{
		Host: e.Host(), Policy: policies,
		Notify: Notifying(t, "", SlackChannel("ops", slack.URL)) + "  start_message: true\n",
	})
	slack.Until(t, soon, "that it has started", func(s Sent) bool { return s.Root() && s.Says("has started", "It watches 2 containers") })
	wantCLI(t, d, "sent", "notify", "test", "ops")
	if got := slack.Got()[1:]; len(got) != 1 || !got[0].Root() {
		t.Errorf("the test made %d requests, want one message:\n%s", len(got), slack)
	}

	d.UntilState(t, soon, "web", policy.Running)
	web.Tell(t, "crash", "3")
	d.UntilState(t, 2*soon, "web", policy.Fatal)
	// In its root, if defib gave up before Slack's pace let that go out.
	slack.Until(t, soon, "somebody is called", func(s Sent) bool { return s.Post() && s.Says("web on ", "S0ONCALL") })
	id := d.Incidents(t)[0].ID
	wantCLI(t, d, "Nobody is reminded", "ack", id, "-m", "swapping its board")
	slack.Until(t, soon, "who has taken it", func(s Sent) bool { return s.Edit() && s.Says("Taken by", "swapping its board") })

	wantCLI(t, d, "S1: nothing is told of container other", "silence", "add", "--unit", "other", "--for", "2h", "-m", "moving its disk")
	wantCLI(t, d, "moving its disk", "silence", "ls")
	d.UntilState(t, soon, "other", policy.Running)
	c := e.Run(t, Spec{Name: "loud"})
	d.UntilState(t, soon, "loud", policy.Running)
	other.Tell(t, "fail-start", "1")
	other.Tell(t, "crash", "3")
	d.UntilState(t, 2*soon, "other", policy.Fatal)
	c.Tell(t, "crash", "3")
	slack.Until(t, soon, "another one", func(s Sent) bool { return s.Root() && s.Says("loud on ") })
	for _, s := range slack.Got() {
		if s.Says("other on ") {
			t.Errorf("told in spite of the silence: %s", s.Form.Get("text"))
		}
	}
	wantCLI(t, d, "S1: the silence about container other has ended", "silence", "rm", "S1")
	slack.Until(t, soon, "what was silenced", func(s Sent) bool { return s.Root() && s.Says("other on ", "S0ONCALL") })
	if out, errs, code := d.CLI(t, "silence", "ls"); code != 0 || out != "" || !strings.Contains(errs, "There is no silence.") {
		t.Errorf("silence ls: exit code %d: %s%s", code, out, errs)
	}
	d.UntilTold(t, soon)
	wantCLI(t, d, "No message waits.", "notify", "queue")
}

// wantCLI runs a command that is to succeed and to say something.
func wantCLI(t *testing.T, d *Daemon, says string, args ...string) {
	t.Helper()
	out, errs, code := d.CLI(t, args...)
	if code != 0 || !strings.Contains(out, says) {
		t.Errorf("defib %v: exit code %d, said %q, %q; want 0 and %q", args, code, out, errs, says)
	}
}

// healed crashes a container and returns how long defib took to start it again.
func healed(t *testing.T, e *Engine, r *Recorder, d *Daemon, name string) time.Duration {
	t.Helper()
	c := e.Run(t, Spec{Name: name})
	d.UntilState(t, soon, name, policy.Running)
	c.Tell(t, "crash", "3")
	back := r.Wait(t, soon, name, "start", 2)
	return back.At.Sub(r.Wait(t, soon, name, "die", 1).At)
}

// hookSays reports whether a document is about the end of a container's
// incident.
func hookSays(t *testing.T, s Sent, name, end string) bool {
	t.Helper()
	var b notify.WebhookBody
	if err := json.Unmarshal([]byte(s.Body), &b); err != nil || b.Incident == nil {
		t.Fatalf("document: %v: %s", err, s.Body)
	}
	return b.Incident.Name == name && b.Incident.End == end
}
