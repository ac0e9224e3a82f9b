package notify

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// workspace is a Slack as far as defib sees one. It knows the channel C1 and
// those that are named to it.
type workspace struct {
	mu       sync.Mutex
	channels []string
	roots    []*posted // that are there
	asked    int
	mentions int
	fail     func(n int, w *workspace, v url.Values) *answer // before a request is carried out; nil: it is
	deaf     int                                             // the request that is carried out and not answered, from 1 on
	log      []string
}

// count is how many messages there are, those in threads too.
func (w *workspace) count() int {
	n := len(w.roots)
	for _, p := range w.roots {
		n += len(p.thread)
	}
	return n
}

// posted is a message with its thread.
type posted struct {
	channel, ts, text string
	thread            []string
}

var noAnswer = &answer{status: -1}

// RoundTrip implements [http.RoundTripper].
func (w *workspace) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	v, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	a := w.answer(r.URL.Path, v)
	if a == noAnswer {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	res := &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}
	for k, x := range a.header {
		res.Header.Set(k, x)
	}
	return res, nil
}

func (w *workspace) answer(path string, v url.Values) *answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.asked
	w.asked++
	w.log = append(w.log, fmt.Sprintf("%s %s %s ts=%s thread=%s", time.Now().Format("15:04:05"), path, v.Get("channel"), v.Get("ts"), v.Get("thread_ts")))
	if w.fail != nil {
		if a := w.fail(n, w, v); a != nil {
			return a
		}
	}
	a := w.take(path, v)
	if w.asked == w.deaf {
		return noAnswer
	}
	return &a
}

func (w *workspace) take(path string, v url.Values) answer {
	in := v.Get("channel")
	if !slices.Contains(w.channels, in) {
		return refuse("channel_not_found")
	}
	text := v.Get("text")
	if strings.Contains(text, "<!subteam^S0ONCALL>") {
		w.mentions++
	}
	ts := cmp.Or(v.Get("ts"), v.Get("thread_ts"))
	if ts == "" {
		ts = fmt.Sprintf("%d.1", w.asked)
		w.roots = append(w.roots, &posted{channel: in, ts: ts, text: text})
		return stored(path, v, in, ts)
	}
	i := slices.IndexFunc(w.roots, func(p *posted) bool { return p.ts == ts && p.channel == in })
	switch {
	case i < 0:
		return refuse("message_not_found")
	case strings.HasSuffix(path, "/chat.update"):
		w.roots[i].text = text
	default:
		if strings.Contains(v.Get("blocks"), "ValueError") { // logs are in the blocks alone
			text += "\nits logs"
		}
		w.roots[i].thread = append(w.roots[i].thread, text)
	}
	return stored(path, v, in, ts)
}

// slackDesk is a desk with a real sink for a workspace and real words.
func slackDesk(t *testing.T, w *workspace, channel string) *desk {
	t.Helper()
	sink, err := NewSlack(SlackOptions{Token: planted, Channel: channel, Mention: "S0ONCALL", HTTP: &http.Client{Transport: w}})
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	d.o.Channels = []Channel{{Name: "ops", Type: "slack", Sink: sink, MinLevel: policy.LevelWarn}}
	d.o.Render, d.o.RemindAfter, d.o.RemindMax = mustWords(t, "en", nil).Render, 30*time.Minute, 1
	return d
}

// liveThrough has an incident happen from its first sign to its end, half an
// hour apart so that a service may fail and be back.
func liveThrough(d *desk) {
	x := trouble("INC-1", policy.LevelWarn)
	d.commit(x)
	d.wait(10 * time.Minute)
	x = grow(x, "first restart")
	x.Evidence = &policy.Evidence{At: time.Now(), ExitCode: 1, Logs: append(slices.Repeat([]string{vllmLine}, 119), "ValueError: no memory")}
	for range 5 {
		x.Evidence.Probes = append(x.Evidence.Probes, policy.Probe{End: time.Now(), ExitCode: 7, Output: strings.Repeat("--:--:-- ", 40) + "curl: (7) Failed to connect to localhost port 8000"})
	}
	d.commit(x)
	d.wait(10 * time.Minute)
	x = page(x)
	d.commit(x)
	d.wait(40 * time.Minute)
	d.commit(over(x))
	d.wait(10 * time.Minute)
}

// Whatever Slack does once in the life of an incident, and whenever: in the end
// there is one message with its thread, which is true, and each line was told
// once, and somebody was called.
func TestSlackLifeThroughFailures(t *testing.T) {
	const requests = 10 // of a life without failures
	for name, fail := range map[string]func(w *workspace, v url.Values) *answer{
		"none":      nil,
		"429":       func(*workspace, url.Values) *answer { return &answer{429, map[string]string{"Retry-After": "30"}, ""} },
		"500":       func(*workspace, url.Values) *answer { return &answer{500, nil, "oops"} },
		"no answer": func(*workspace, url.Values) *answer { return noAnswer },
		"gone": func(w *workspace, v url.Values) *answer { // somebody has deleted it
			if v.Get("ts")+v.Get("thread_ts") != "" {
				w.roots = nil
			}
			return nil
		},
	} {
		for at := range requests {
			if name == "none" && at > 0 {
				break
			}
			t.Run(fmt.Sprintf("%s at request %d", name, at), func(t *testing.T) {
				in(t, func(t *testing.T) {
					w := &workspace{channels: []string{"C1"}}
					if fail != nil {
						w.fail = func(n int, w *workspace, v url.Values) *answer {
							if n == at {
								return fail(w, v)
							}
							return nil
						}
					}
					d := slackDesk(t, w, "C1").open()
					defer d.kill()
					liveThrough(d)
					w.oneTrueMessage(t, name == "gone")
					if name == "none" && w.asked != requests {
						t.Errorf("%d requests, want %d", w.asked, requests)
					}
					if t.Failed() {
						t.Log(strings.Join(w.log, "\n"))
					}
				})
			})
		}
	}
}

// A message that Slack took without saying so comes once more, and no other.
func TestSlackAnswersThatAreLost(t *testing.T) {
	posts := 0
	for deaf := range 11 {
		in(t, func(t *testing.T) {
			w := &workspace{channels: []string{"C1"}, deaf: deaf}
			d := slackDesk(t, w, "C1").open()
			defer d.kill()
			liveThrough(d)
			if deaf == 0 {
				posts = w.count()
			}
			if last := w.roots[len(w.roots)-1]; w.count() > posts+1 || !strings.Contains(last.text, "healthy again") {
				t.Errorf("request %d: %d messages, want %d and at most one more; the last: %+v", deaf, w.count(), posts, *last)
			}
		})
	}
}

// oneTrueMessage: of a root that was deleted a new one tells what its thread
// told, and calls again if somebody is needed.
func (w *workspace) oneTrueMessage(t *testing.T, deleted bool) {
	t.Helper()
	if len(w.roots) != 1 || !strings.Contains(w.roots[0].text, "healthy again") {
		t.Fatalf("%d messages; the first: %+v", len(w.roots), *w.roots[0])
	}
	thread := strings.Join(w.roots[0].thread, "\n")
	for _, line := range []string{"first restart", "its logs", "gave up", "NEEDS YOU", "recovered"} {
		least, most := 1, 1
		if deleted {
			least = 0
		}
		if line == "NEEDS YOU" { // in the reminder, too
			most = 2
		}
		if n := strings.Count(thread, line); n < least || n > most {
			t.Errorf("the thread says %q %d times:\n%s", line, n, thread)
		}
	}
	if w.mentions < 2 || w.mentions > 2 && !deleted || w.mentions > 3 { // the call and the reminder
		t.Errorf("somebody was mentioned %d times", w.mentions)
	}
}

// A channel of the configuration that is another one now: what needs somebody
// is told there, and keeps no other call waiting.
func TestASlackChannelThatMoved(t *testing.T) {
	for name, channels := range map[string][]string{"the old one is gone": {"C2"}, "the old one is there": {"C1", "C2"}} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				w := &workspace{channels: []string{"C1"}}
				d := slackDesk(t, w, "C1")
				d.o.Dir = t.TempDir()
				d.open()
				x := trouble("INC-1", policy.LevelWarn)
				d.commit(x)
				d.wait(time.Minute)
				d.kill()
				w.channels = channels
				dir := d.o.Dir
				arch := d.arch
				d = slackDesk(t, w, "C2")
				d.o.Dir, d.o.Archive, d.arch = dir, arch, arch
				d.open()
				defer d.kill()
				x = page(x)
				d.commit(x, trouble("INC-2", policy.LevelPage))
				d.wait(time.Minute)
				var here []string
				for _, p := range w.roots {
					if p.channel == "C2" {
						here = append(here, p.text)
					}
				}
				if len(here) != 2 || w.mentions != 2 {
					t.Errorf("C2 has %q, and %d were called", here, w.mentions)
				}
				if s := d.n.Channels()[0]; !s.Parked.IsZero() {
					t.Errorf("parked: %s", s.ParkedWhy)
				}
			})
		})
	}
}
