package notify

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/defib-dev/defib/watcher/policy"
)

func alertSink(t *testing.T, f http.RoundTripper, urls ...string) *Alertmanager {
	t.Helper()
	a, err := NewAlertmanager(AlertmanagerOptions{URLs: urls, HTTP: &http.Client{Transport: f}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sentAlerts(t *testing.T, body string) []alert {
	t.Helper()
	var got []alert
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAlertmanagerLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeService{}
		a := alertSink(t, f, "https://am.example.org/prefix/")
		now := time.Now()
		labels := map[string]string{"alertname": "DefibIncident", "host": "gpu-03", "container": "vllm-llama70b", "rule": "giveup", "severity": "critical"}

		fire, resolve := gaveUp(), resolvedStory()
		opened, closed := now.Add(-time.Minute), now.Add(-time.Second)
		fire.Story.Incident.Opened, resolve.Story.Incident.Opened, resolve.Story.Incident.Closed = opened, opened, closed
		ref := send(t, a, fire)
		if d := cmp.Diff(Receipt{"alertname": "DefibIncident", "host": "gpu-03", "container": "vllm-llama70b", "rule": "giveup", "severity": "critical", "incident": "INC-7F3K"}, ref); d != "" {
			t.Errorf("receipt: %s", d)
		}
		if got := f.last(t); got.Method != "POST" || got.URL != "https://am.example.org/prefix/api/v2/alerts" || got.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %+v", got)
		}
		want := alert{Labels: labels, StartsAt: opened, EndsAt: now.Add(5 * time.Minute), Annotations: map[string]string{
			"summary":     "🔴 vllm-llama70b on gpu-03: gave up after 3 restarts. NEEDS YOU",
			"description": "exit 1 (application error)\nNext: nothing until you act\n| ValueError: Free memory\nHost: gpu-03\nGPU: #2 H100\n- 03:07 restart failed\nINC-7F3K · defib ack INC-7F3K",
			"incident":    "INC-7F3K",
		}}
		if d := cmp.Diff([]alert{want}, sentAlerts(t, f.last(t).Body)); d != "" {
			t.Errorf("fire: %s", d)
		}

		time.Sleep(a.Refresh())
		fire.Ref, resolve.Ref = ref, ref
		send(t, a, fire)
		want.EndsAt = now.Add(6 * time.Minute)
		if d := cmp.Diff([]alert{want}, sentAlerts(t, f.last(t).Body)); d != "" {
			t.Errorf("again: %s", d)
		}

		send(t, a, resolve)
		want.EndsAt = closed
		if d := cmp.Diff([]alert{want}, sentAlerts(t, f.last(t).Body), cmpopts.IgnoreFields(alert{}, "Annotations")); d != "" {
			t.Errorf("resolve: %s", d)
		}
	})
}

// What changes the labels makes another alert: the one before it ends.
func TestAlertmanagerRelabels(t *testing.T) {
	f := &fakeService{}
	a := alertSink(t, f, "http://am:9093")
	m := gaveUp()
	m.Story.Incident.Level = policy.LevelWarn
	m.Ref = send(t, a, m)
	m.Story.Incident.Level = policy.LevelPage
	send(t, a, m)
	got := sentAlerts(t, f.last(t).Body)
	if len(got) != 2 || got[0].Labels["severity"] != "warning" || got[1].Labels["severity"] != "critical" {
		t.Fatalf("got %+v", got)
	}
	if got[0].EndsAt.After(time.Now()) || !got[1].EndsAt.After(time.Now()) {
		t.Errorf("the old one ends %v, the new one %v", got[0].EndsAt, got[1].EndsAt)
	}
}

// A page that is to call nobody yet keeps the severity that was told: another one
// calls somebody.
func TestAlertmanagerKeepsTheSeverityUntilItCalls(t *testing.T) {
	f := &fakeService{}
	a := alertSink(t, f, "http://am:9093")
	m := gaveUp()
	m.Story.Incident.Level, m.Text.Urgent = policy.LevelWarn, false
	m.Ref = send(t, a, m)
	m.Story.Incident.Level = policy.LevelPage
	for _, kind := range []Kind{KindPost, KindAck} {
		m.Kind = kind
		m.Ref = send(t, a, m)
		if got := sentAlerts(t, f.last(t).Body); len(got) != 1 || got[0].Labels["severity"] != "warning" {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	m.Kind, m.Story.Incident.ID = KindPost, "INC-NEXT"
	m.Ref = send(t, a, m)
	m.Kind, m.Text.Urgent = KindEscalate, true
	send(t, a, m)
	if got := sentAlerts(t, f.last(t).Body); len(got) != 2 || got[0].Labels["severity"] != "warning" || got[1].Labels["severity"] != "critical" {
		t.Errorf("the call: %+v", got)
	}
}

// One incident is one alert, however often its rule changes and whatever the
// host is called; a storm is, however many join it. The next of a chain is
// another one.
func TestAlertmanagerKeepsItsLabels(t *testing.T) {
	f := &fakeService{}
	a := alertSink(t, f, "http://am:9093")
	m := gaveUp()
	m.Ref = send(t, a, m)
	first := sentAlerts(t, f.last(t).Body)[0].Labels
	m.Story.Incident.Rule, m.Story.Host = "exited", "0123456789ab"
	m.Ref = send(t, a, m)
	if got := sentAlerts(t, f.last(t).Body); len(got) != 1 || cmp.Diff(first, got[0].Labels) != "" {
		t.Errorf("it was %v, and became %+v", first, got)
	}
	m.Story.Incident.ID = "INC-NEXT"
	send(t, a, m)
	if got := sentAlerts(t, f.last(t).Body); len(got) != 2 || got[1].Labels["rule"] != "exited" || got[0].EndsAt.After(time.Now()) {
		t.Errorf("the next of the chain is %+v", got)
	}
	delete(m.Ref, "incident") // as it was stored before
	m.Story.Incident.ID, m.Story.Incident.Rule = "INC-7F3K", "down"
	send(t, a, m)
	if got := sentAlerts(t, f.last(t).Body); len(got) != 1 || got[0].Labels["rule"] != "giveup" {
		t.Errorf("by an old receipt it is %+v", got)
	}

	storm := Message{Kind: KindPost, Story: Story{Host: "h", Incident: policy.Incident{ID: "STORM-1", Name: "6 containers", Rule: RuleStorm, Level: policy.LevelPage}}}
	send(t, a, storm)
	before := sentAlerts(t, f.last(t).Body)[0].Labels
	storm.Story.Incident.Name = "7 containers"
	send(t, a, storm)
	if d := cmp.Diff(before, sentAlerts(t, f.last(t).Body)[0].Labels); d != "" || before["container"] != "containers (STORM-1)" {
		t.Errorf("%v; %s", before, d)
	}
}

// The clock was ahead when the incident began, and was set back: an alert that
// begins after its end is refused.
func TestAlertmanagerClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeService{}
		a := alertSink(t, f, "http://am:9093")
		now := time.Now()
		fire, resolve := gaveUp(), resolvedStory()
		fire.Story.Incident.Opened = now.Add(time.Hour)
		resolve.Story.Incident.Opened, resolve.Story.Incident.Closed = now.Add(time.Hour), now.Add(-time.Minute)
		fire.Story.Incident.Level = policy.LevelWarn
		fire.Ref = send(t, a, fire)
		fire.Story.Incident.Level = policy.LevelPage
		send(t, a, fire)
		got := sentAlerts(t, f.last(t).Body)
		send(t, a, resolve)
		for _, one := range append(got, sentAlerts(t, f.last(t).Body)...) {
			if one.StartsAt.After(now) || one.StartsAt.After(one.EndsAt) {
				t.Errorf("it is %v, and an alert goes from %v to %v", now, one.StartsAt, one.EndsAt)
			}
		}
	})
}

func TestAlertmanagerKinds(t *testing.T) {
	for kind, want := range map[Kind][2]string{
		KindTest: {"DefibTest", "info"}, KindAlarm: {"DefibAlarm", "critical"}, KindAck: {"DefibIncident", "critical"},
	} {
		f := &fakeService{}
		m := gaveUp()
		m.Kind = kind
		send(t, alertSink(t, f, "http://am:9093"), m)
		got := sentAlerts(t, f.last(t).Body)[0].Labels
		if got["alertname"] != want[0] || got["severity"] != want[1] {
			t.Errorf("%s: %v", kind, got)
		}
	}
}

// perHost answers for several instances.
type perHost map[string]*fakeService

func (p perHost) RoundTrip(r *http.Request) (*http.Response, error) {
	return p[r.URL.Host].RoundTrip(r)
}

func TestAlertmanagerInstances(t *testing.T) {
	dead := func() *fakeService { return &fakeService{err: errors.New("no route")} }
	for name, c := range map[string]struct {
		hosts  perHost
		reason Reason
	}{
		"one takes it":   {perHost{"a": dead(), "b": {}}, ""},
		"none answers":   {perHost{"a": dead(), "b": dead()}, ReasonNetwork},
		"worth a retry":  {perHost{"a": {status: 400}, "b": {status: 503}}, ReasonServer},
		"not only a key": {perHost{"a": {status: 401}, "b": {status: 503}}, ReasonServer},
		"all refuse":     {perHost{"a": {status: 400, answer: "bad"}, "b": {status: 400}}, ReasonClient},
	} {
		t.Run(name, func(t *testing.T) {
			a := alertSink(t, c.hosts, "http://user:SECRETPASS@a", "http://b")
			_, err := a.Send(t.Context(), gaveUp())
			if c.reason != "" {
				wantReason(t, err, c.reason, 0, "SECRETPASS")
			} else if err != nil {
				t.Error(err)
			}
			if len(c.hosts["a"].got) != 1 || len(c.hosts["b"].got) != 1 {
				t.Error("not every instance was asked")
			}
		})
	}
}

func TestAlertmanagerHostile(t *testing.T) {
	f := &fakeService{}
	send(t, alertSink(t, f, "http://am:9093"), hostile())
	got := sentAlerts(t, f.last(t).Body)[0]
	if n := len(f.last(t).Body); n > 20<<10 {
		t.Errorf("%d bytes", n)
	}
	for _, s := range []string{got.Labels["container"], got.Labels["rule"], got.Annotations["summary"]} {
		if s == "" || strings.ContainsAny(s, "\n\x1b\x00\u202e") {
			t.Errorf("%q", s)
		}
	}
}

func TestAlertmanagerURLs(t *testing.T) {
	for _, urls := range [][]string{nil, {""}, {"am:9093"}, {"http://ok", "ftp://SECRETUSER@am"}, {"http://%zzSECRETUSER"}} {
		_, err := NewAlertmanager(AlertmanagerOptions{URLs: urls})
		if err == nil {
			t.Errorf("%q is taken", urls)
			continue
		}
		wantNoSecret(t, err, "SECRETUSER")
	}
}
