package itest

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// A service that takes connections and never answers delays neither repairs
// nor the other channels.
func notifyDeaf(t *testing.T) {
	e, r, b := rig(t)
	quiet := Start(t, b, Options{Host: e.Host()})
	alone := healed(t, e, r, quiet, "alone")
	quiet.Stop(t)

	hook := NewInbox(t)
	deaf, connected := deafService(t)
	d := Start(t, b, Options{Host: e.Host(), Notify: Notifying(t, "", SlackChannel("ops", deaf),
		Channel{Name: "hook", Type: "webhook", Secrets: map[string]string{"url": hook.URL}})})
	first := healed(t, e, r, d, "first")
	select {
	case <-connected:
	case <-time.After(soon):
		t.Fatal("nobody tried to tell the deaf service anything")
	}
	second := healed(t, e, r, d, "second") // while a message is on its way
	t.Logf("from exit to start: %v with nobody to tell, then %v and %v", alone, first, second)
	if most := alone + soon; first > most || second > most { // the service answers never
		t.Errorf("repairs took %v and %v beside a deaf service; want at most %v", first, second, most)
	}
	d.UntilClosed(t, soon, "second")
	hook.Until(t, soon, "the end of the second", func(s Sent) bool {
		return hookSays(t, s, "second", "recovered")
	})
	if code, took := d.Stop(t); code != 0 || took > soon/2 {
		t.Errorf("stop: exit code %d after %v; want 0 within %v", code, took, soon/2)
	}
}

// deafService takes connections and says nothing. connected is closed by the
// first.
func deafService(t *testing.T) (url string, connected <-chan struct{}) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	some := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var all []net.Conn
		for {
			c, err := l.Accept()
			if err != nil { // the test is over
				break
			}
			if all = append(all, c); len(all) == 1 {
				close(some)
			}
		}
		for _, c := range all {
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String(), some
}

// defib is killed when Slack has a message and defib does not know it yet. The
// next start tells it once more at most, and how it ended.
func notifyKilled(t *testing.T) {
	e, _, b := rig(t)
	slack := NewInbox(t)
	c := e.Run(t, Spec{Name: "web"})
	d := Start(t, b, Options{Host: e.Host(), Notify: Notifying(t, "", SlackChannel("ops", slack.URL))})
	d.UntilState(t, soon, "web", policy.Running)
	slack.Hold()
	c.Tell(t, "crash", "3")
	slack.Until(t, soon, "that it crashed", Sent.Root)
	d.Kill(t)
	d.Again(t)
	d.Ready(t)
	d.UntilState(t, soon, "web", policy.Running)
	in := d.UntilClosed(t, soon, "web")
	d.UntilTold(t, soon)
	var roots []Sent
	for _, s := range slack.Got() {
		if s.Root() {
			roots = append(roots, s)
		}
	}
	if len(roots) != 2 {
		t.Fatalf("got %d messages, want the one that was cut off and one more", len(roots))
	}
	last := roots[1]
	for _, s := range slack.Got() {
		if s.Edit() && s.TS == last.TS {
			last = s
		}
	}
	if !last.Says("web on ", "healthy again", in.ID) {
		t.Errorf("the last that was told: %q; want %s over", last.Form.Get("text"), in.ID)
	}
}
