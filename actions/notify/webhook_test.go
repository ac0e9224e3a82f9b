package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

const hookSecret = "whsec_c2VjcmV0LWtleS1vZi10aGUtd2ViaG9vaw=="

func hookSink(t *testing.T, f *fakeService, secret string) Sink {
	t.Helper()
	s, err := NewWebhook(WebhookOptions{URL: "https://hooks.example.org/SECRETPATH", Secret: secret, HTTP: f.client()})
	if err != nil {
		t.Fatal(err)
	}
	if s.Class() != Feed {
		t.Errorf("it is %s", s.Class())
	}
	return s
}

// The document is what docs/webhook.md promises to receivers.
func TestWebhookDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeService{status: http.StatusNoContent}
		m := gaveUp()
		m.Story.Children = []policy.Incident{{ID: "INC-2222", Rev: 1, Name: "other", Opened: storyOpened, Level: policy.LevelWarn, Steps: []policy.Step{}}}
		m.Story.Incident.Evidence = &policy.Evidence{At: storyOpened, ExitCode: 137, OOMKilled: true, Logs: []string{"out of memory"}}
		send(t, hookSink(t, f, ""), m)
		var body any
		if err := json.Unmarshal([]byte(f.last(t).Body), &body); err != nil {
			t.Fatal(err)
		}
		got, err := json.MarshalIndent(body, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "webhook", "incident.json")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
			t.Errorf("the document changed (-want +got):\n%s", d)
		}
	})
}

func TestWebhookSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeService{}
		s := hookSink(t, f, hookSecret)
		send(t, s, gaveUp())
		got := f.last(t)
		mac := hmac.New(sha256.New, []byte("secret-key-of-the-webhook"))
		mac.Write([]byte(got.Header.Get("webhook-id") + ".946684800." + got.Body))
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); got.Header.Get("webhook-signature") != want {
			t.Errorf("signature %s, want %s", got.Header.Get("webhook-signature"), want)
		}
		if got.Header.Get("webhook-timestamp") != "946684800" || got.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", got.Header)
		}

		time.Sleep(time.Second) // the same message has the same ID whenever it is sent
		send(t, s, gaveUp())
		again := f.last(t).Header
		if again.Get("webhook-id") != got.Header.Get("webhook-id") || again.Get("webhook-signature") == got.Header.Get("webhook-signature") {
			t.Errorf("sent again as %v, first as %v", again, got.Header)
		}
		send(t, s, resolvedStory())
		if f.last(t).Header.Get("webhook-id") == got.Header.Get("webhook-id") {
			t.Error("another revision has the same ID")
		}

		f = &fakeService{}
		send(t, hookSink(t, f, ""), gaveUp())
		if h := f.last(t).Header; h.Get("webhook-signature") != "" || h.Get("webhook-id") == "" {
			t.Errorf("without a secret: %v", h)
		}
	})
}

// The example of the Standard Webhooks specification, computed by others.
func TestWebhookSpecimen(t *testing.T) {
	key, err := webhookKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	w := webhook{key: key}
	h := w.header("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got, want := h.Get("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWebhookKinds(t *testing.T) {
	for kind, want := range map[Kind]string{KindTest: "test", KindAlarm: "alarm", KindPost: "incident", KindResolve: "incident"} {
		f := &fakeService{}
		m := gaveUp()
		m.Kind = kind
		if kind == KindAlarm {
			m.Story = Story{Host: "gpu-03"}
		}
		send(t, hookSink(t, f, ""), m)
		var got WebhookBody
		if err := json.Unmarshal([]byte(f.last(t).Body), &got); err != nil {
			t.Fatal(err)
		}
		if got.Type != want || got.Version != 1 || got.Kind != kind || (got.Incident == nil) != (kind == KindAlarm) {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

// A receiver wants to know whether it needs somebody, whatever the message is
// for: the revision that gives up is an edit like any other.
func TestWebhookUrgent(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("hook", Feed, policy.LevelInfo)
		d := newDesk(t, c).open()
		defer d.kill()
		x := trouble("INC-1", policy.LevelInfo)
		taken := page(x)
		taken.Rev, taken.Ack = taken.Rev+1, &policy.Ack{By: "li", At: time.Now(), Until: time.Now().Add(time.Hour)}
		for _, rev := range []policy.Incident{x, page(x), taken, over(taken)} {
			d.commit(rev)
			d.wait(time.Minute)
		}
		var got []bool
		for _, m := range sinkOf(c).msgs {
			got = append(got, webhookBody(m, time.Now()).Urgent)
		}
		if diff := cmp.Diff([]bool{false, true, true, false}, got); diff != "" {
			t.Error(diff)
		}
	})
	alarm := gaveUp()
	alarm.Kind, alarm.Story.Incident.ID = KindAlarm, ""
	if !webhookBody(alarm, storyOpened).Urgent {
		t.Error("an alarm needs nobody")
	}
}

func TestWebhookFails(t *testing.T) {
	for status, want := range map[int]Reason{302: ReasonAuth, 401: ReasonAuth, 410: ReasonAuth, 413: ReasonClient, 429: ReasonRateLimited, 500: ReasonServer} {
		f := &fakeService{status: status, answer: "no SECRETPATH for " + hookSecret}
		_, err := hookSink(t, f, hookSecret).Send(t.Context(), gaveUp())
		wantReason(t, err, want, 0, "SECRETPATH", hookSecret)
	}
	for _, o := range []WebhookOptions{{}, {URL: "hooks.example.org"}, {URL: "https://ok", Secret: "whsec_not base64"}} {
		if _, err := NewWebhook(o); err == nil {
			t.Errorf("%+v is taken", o)
		} else {
			wantNoSecret(t, err, "not base64;x", "whsec_not")
		}
	}
}

func TestWebhookHostile(t *testing.T) {
	f := &fakeService{}
	send(t, hookSink(t, f, hookSecret), hostile())
	var got WebhookBody
	if err := json.Unmarshal([]byte(f.last(t).Body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Text) > 4<<10 {
		t.Errorf("%d bytes of text", len(got.Text))
	}
}
