package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/journal"
	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

const allTypes = `notify:
  channels:
    - {name: slack, type: slack, token_env: SLACK_TOKEN, channel: C1, mention: S1}
    - {name: hook, type: slack_webhook, url_env: THE_URL, mention: here}
    - {name: pd, type: pagerduty, routing_key_env: THE_KEY, endpoint: "https://events.eu.pagerduty.com"}
    - {name: am, type: alertmanager, urls: ["http://a:9093"], url_env: THE_URL}
    - {name: ding, type: dingtalk, url_env: DING_URL, secret_env: THE_KEY, mention: "13800000000,user:li"}
    - {name: web, type: webhook, url_env: THE_URL, secret_env: THE_KEY}
    - {name: chat, type: shoutrrr, url_env: CHAT_URL}
    - {name: old, type: autoheal, url_env: THE_URL, json_key: text}
    - {name: older, type: apprise, url_env: THE_URL}
  routes: [{label: team=a, channels: [slack]}]
`

func lookup(vars map[string]string) func(string) string {
	return func(k string) string { return vars[k] }
}

// TestEveryTypeIsMade makes a channel of each type, and then each with a
// secret that is none.
func TestEveryTypeIsMade(t *testing.T) {
	cfg, src, err := config.Parse("c.yaml", []byte(allTypes))
	if err != nil {
		t.Fatal(err)
	}
	s := config.Settings{Config: cfg, Sources: src, StateDir: t.TempDir()}
	vars := map[string]string{
		"SLACK_TOKEN": "xoxb-" + planted, "THE_URL": "https://example.org/" + planted, "THE_KEY": planted,
		"DING_URL": "https://example.org/robot/send?access_token=" + planted, "CHAT_URL": "lark://open.feishu.cn/" + planted,
	}
	log := slog.New(slog.DiscardHandler)
	made, err := newTelling(s, lookup(vars), &shelf{}, &lateLoop{}, asItIs, log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer made.close()
	var got []string
	for _, c := range made.Channels() {
		got = append(got, c.Name+" "+c.Type+" "+string(c.Class)+" "+string(c.MinLevel))
	}
	want := []string{
		"slack slack threaded warn", "hook slack_webhook append warn", "pd pagerduty alert page", "am alertmanager alert page", "ding dingtalk append warn",
		"web webhook feed info", "chat shoutrrr append warn", "old autoheal drop-in info", "older apprise drop-in info",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for name := range vars {
		for _, bad := range []string{"", planted + " " + planted, "://" + planted, "%zz" + planted, "ftp://" + planted} {
			broken := maps.Clone(vars)
			broken[name] = bad
			again := cfg.Notify
			again.Channels = slices.Clone(cfg.Notify.Channels)
			err := again.ReadSecrets(lookup(broken), src)
			if err == nil {
				_, err = newChannels(again.Channels, lookup(broken))
			}
			if err == nil && (name == "THE_KEY" || name == "SLACK_TOKEN") {
				continue // only the service can tell
			}
			if err == nil || strings.Contains(err.Error(), planted) || bad == "" && !strings.Contains(err.Error(), "the variable "+name+" is not set") {
				t.Errorf("%s=%q: got %v", name, bad, err)
			}
		}
	}
}

// The heartbeat fails once nobody can be told of anything.
func TestMute(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	well := notify.ChannelStatus{Name: "well", Class: notify.Append}
	feed := notify.ChannelStatus{Name: "feed", Class: notify.Feed}
	refuses := notify.ChannelStatus{Name: "refuses", Class: notify.Threaded, Refused: now.Add(-time.Second)}
	parked := notify.ChannelStatus{Name: "parked", Parked: now.Add(-time.Second)}
	silent := func(d time.Duration) notify.ChannelStatus {
		return notify.ChannelStatus{Name: "silent", Silent: now.Add(-d)}
	}
	for name, tt := range map[string]struct {
		channels []notify.ChannelStatus
		mute     bool
	}{
		"one works":              {[]notify.ChannelStatus{parked, silent(time.Hour), well}, false},
		"tokens are refused":     {[]notify.ChannelStatus{parked, parked}, true},
		"away for a short while": {[]notify.ChannelStatus{parked, silent(10 * time.Minute)}, false},
		"away for long":          {[]notify.ChannelStatus{parked, silent(15 * time.Minute)}, true},
		"calls are refused":      {[]notify.ChannelStatus{parked, refuses}, true},
		"a program is told":      {[]notify.ChannelStatus{parked, feed}, true},
		"only programs are":      {[]notify.ChannelStatus{feed}, false},
	} {
		if err := mute(tt.channels, now); (err != nil) != tt.mute {
			t.Errorf("%s: got %v, want mute %v", name, err, tt.mute)
		}
	}
}

// One channel that is parked is no emergency, and should be seen.
func TestBeatNote(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	got := beatNote([]notify.ChannelStatus{
		{Name: "well", LastError: "it failed once"},
		{Name: "ops", Parked: at, ParkedWhy: "the token is refused"},
		{Name: "chat", Silent: at, LastError: "no route"},
		{Name: "tg", Refused: at, LastError: "chat not found"},
	})
	want := "channel chat is out of reach since 2026-03-01T12:00:00Z: no route\n" +
		"channel ops is parked since 2026-03-01T12:00:00Z: the token is refused\n" +
		"channel tg does not take a call since 2026-03-01T12:00:00Z: chat not found"
	if got != want {
		t.Errorf("got %q", got)
	}
}

func TestNoChannels(t *testing.T) {
	s := config.Settings{Config: config.Default(), StateDir: t.TempDir()}
	tell, err := newTelling(s, lookup(nil), &shelf{}, &lateLoop{}, asItIs, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if tell.told() != nil || tell.alarm() != nil || tell.server() != nil || tell.channels() != nil || tell.close() != nil {
		t.Error("something tells people, and there is no channel")
	}
	tell.run(t.Context()) // returns at once
	if files, err := os.ReadDir(s.StateDir); err != nil || len(files) > 0 {
		t.Errorf("got %v, %v; want no outbox", files, err)
	}
}

// What the journal says of the containers is not told before they have been
// looked at.
func TestSettled(t *testing.T) {
	up := policy.Host{Connected: true, Since: noon}
	for name, c := range map[string]struct {
		v    *watcher.View
		want bool
	}{
		"no view":             {nil, false},
		"not looked at yet":   {&watcher.View{Host: up}, false},
		"looked at":           {&watcher.View{Host: policy.Host{Connected: true, Synced: true}}, true},
		"Docker is not there": {&watcher.View{Host: policy.Host{Since: noon, Paged: true}}, false}, // of before the start
		"Docker is away":      {&watcher.View{Host: policy.Host{Since: noon.Add(-time.Minute)}}, true},
		"it is there at last": {&watcher.View{Host: policy.Host{Connected: true, Since: noon.Add(-time.Minute)}}, false},
	} {
		if got := settled(c.v, time.Minute, noon); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if !(&lateLoop{}).settled(time.Minute, noon) {
		t.Error("without a watcher there is nothing to wait for")
	}
}

// shelf is a journal with a few incidents.
type shelf struct{ list []policy.Incident }

func (s *shelf) Incidents(time.Time) ([]policy.Incident, error) { return s.list, nil }

func (s *shelf) Incident(id string) (policy.Incident, bool, error) {
	for _, inc := range s.list {
		if inc.ID == id {
			return inc, true, nil
		}
	}
	return policy.Incident{}, false, errors.New("it cannot be read")
}

func TestStory(t *testing.T) {
	unit := policy.Status{Key: "shop/web/1", Name: "web", Project: "shop", Labels: map[string]string{"team": "a", "defib.runbook": "https://li:hunter2secret@wiki/?k=acme-12345"}}
	g := policy.GPUStatus{Device: gpu.Device{UUID: "GPU-1"}, Units: []string{"web"}, Incident: "INC-2"}
	well := policy.GPUStatus{Device: gpu.Device{UUID: "GPU-2"}}
	v := &watcher.View{Host: policy.Host{Engine: policy.Engine{Name: "gpu-03"}}, Units: []policy.Status{unit}, GPUs: []policy.GPUStatus{g, well}}
	child := policy.Incident{ID: "INC-3", Evidence: &policy.Evidence{ExitCode: 1}}
	masker, err := mask.New([]string{"acme-[0-9]+"})
	if err != nil {
		t.Fatal(err)
	}
	s := storyteller{view: func() *watcher.View { return v }, kept: &shelf{list: []policy.Incident{child}}, mask: masker.Line, now: func() time.Time { return noon }}
	version := build().Defib
	bare := child
	bare.Evidence = nil
	for _, c := range []struct {
		inc  policy.Incident
		want notify.Story
	}{
		{policy.Incident{ID: "INC-1", Unit: unit.Key}, notify.Story{Unit: &unit, GPUs: []policy.GPUStatus{g}, Runbook: "https://li:***@wiki/?k=***"}},
		{policy.Incident{ID: "INC-2", Children: []string{"INC-3", "INC-4"}}, notify.Story{GPUs: []policy.GPUStatus{g}, Children: []policy.Incident{bare}}},
		{policy.Incident{ID: "INC-5", Unit: "gone"}, notify.Story{}},
		{policy.Incident{Rule: notify.RuleStart}, notify.Story{}},
	} {
		c.want.Host, c.want.Version, c.want.Incident, c.want.Now = "gpu-03", version, c.inc, noon
		if d := cmp.Diff(c.want, s.story(c.inc)); d != "" {
			t.Errorf("%s: %s", c.inc.ID, d)
		}
	}
	if f, known := s.facts(unit.Key); !known || cmp.Diff(notify.Facts{Project: "shop", Labels: unit.Labels}, f) != "" {
		t.Errorf("got %v, %v", f, known)
	}
	if f, known := s.facts("gone"); known {
		t.Errorf("got %v of a unit that is gone", f)
	}
	v = nil
	if got := s.story(policy.Incident{ID: "INC-1", Unit: unit.Key}); got.Host != hostName() || got.Unit != nil || got.GPUs != nil {
		t.Errorf("before the first view: got %+v", got)
	}
}

// TestAnIncidentIsTold hands over an incident as the watcher does, and what
// cannot be stored.
func TestAnIncidentIsTold(t *testing.T) {
	box := &inbox{came: make(chan string, 9)}
	server := httptest.NewServer(box)
	defer server.Close()
	cfg, src, err := config.Parse("c.yaml", []byte("notify: {timezone: Asia/Shanghai, channels: [{name: web, type: webhook, url_env: THE_URL}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	kept := &shelf{}
	s := config.Settings{Config: cfg, Sources: src, StateDir: t.TempDir()}
	tell, err := newTelling(s, lookup(map[string]string{"THE_URL": server.URL}), kept, &lateLoop{}, asItIs, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	inc := policy.Incident{ID: "INC-7F3K", Rev: 1, Unit: "web", Name: "web", Opened: time.Now(), Level: policy.LevelPage, Rule: "gave_up", Cause: "it exits"}
	kept.list = []policy.Incident{inc}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		tell.run(ctx)
		close(ended)
	}()
	tell.told()(kept.list)
	if got := <-box.came; !strings.Contains(got, `"INC-7F3K"`) || !strings.Contains(got, inc.Opened.In(time.FixedZone("", 8*3600)).Format("15:04:05")+" CST") {
		t.Errorf("got %s", got)
	}
	tell.alarm()("the disk is full")
	if got := <-box.came; !strings.Contains(got, "the disk is full") {
		t.Errorf("got %s", got)
	}
	stop()
	<-ended
	if err := tell.close(); err != nil {
		t.Error(err)
	}
}

// inbox keeps what is posted to it; its path holds a secret.
type inbox struct {
	mu   sync.Mutex
	got  []string
	came chan string // nil: nobody waits
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, r.URL.Path+" "+string(body))
	if b.came != nil {
		b.came <- string(body)
	}
	if strings.HasPrefix(r.URL.Path, "/refused") {
		http.Error(w, "no such hook "+planted, http.StatusForbidden)
	}
}

func (b *inbox) count(prefix string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.got {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// TestDaemonTells runs the real daemon with channels: they are tested,
// silenced and shown, and no secret is in anything that it says.
func TestDaemonTells(t *testing.T) {
	box := &inbox{}
	server := httptest.NewServer(box)
	defer server.Close()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(server.URL+"/refused/"+planted+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	text := `notify:
  start_message: true
  channels:
    - {name: good, type: webhook, url_env: GOOD_URL, secret_env: GOOD_SECRET}
    - {name: bad, type: slack_webhook, url_file: ` + secret + `}
    - {name: closed, type: shoutrrr, url_env: CLOSED_URL}
  heartbeat: {url_env: HEART_URL}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"DEFIB_STATE_DIR": dir, "DEFIB_HOST": "unix://" + filepath.Join(dir, "no-engine"), "DEFIB_CONFIG": file, "DEFIB_LOG_LEVEL": "debug",
		"GOOD_URL": server.URL + "/good/" + planted, "GOOD_SECRET": planted, "CLOSED_URL": "gotify://127.0.0.1:1/A" + planted + "?disabletls=yes",
		"HEART_URL": server.URL + "/heart/" + planted, "WEBHOOK_URL": server.URL + "/old/" + planted,
	}
	var said bytes.Buffer // by the commands
	command := func(args ...string) (string, int) {
		var out bytes.Buffer
		code := newApp(nil, &out, &out, lookup(env)).run(t.Context(), args)
		said.Write(out.Bytes())
		return out.String(), code
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &output{want: "source lost", seen: make(chan struct{})}
	ended := make(chan int)
	go func() { ended <- newApp(nil, log, log, lookup(env)).run(ctx, []string{"run", "--observe"}) }()
	select {
	case <-log.seen:
	case code := <-ended:
		t.Fatalf("exit code %d: %s", code, log)
	}
	before := box.count("/good/")
	if out, code := command("notify", "test", "good"); code != exitOK || box.count("/good/") <= before {
		t.Errorf("got %s, %d", out, code)
	}
	out, code := command("notify", "test")
	if code != exitFailed || strings.Count(out, "failed: ") != 2 || !strings.Contains(out, "defib: 2 of 4 channels failed\n") {
		t.Errorf("got %s, %d", out, code)
	}
	if out, code := command("silence", "add", "--unit", "web", "--for", "1h", "-m", "work"); code != exitOK || !strings.HasPrefix(out, "S1: ") {
		t.Errorf("got %s, %d", out, code)
	}
	if out, code := command("ack", "INC-1"); code != exitUnreachable || !strings.Contains(out, "there is no incident \"INC-1\"") {
		t.Errorf("got %s, %d", out, code)
	}
	for _, args := range [][]string{
		{"notify", "queue"},
		{"silence", "ls"},
		{"status"},
		{"metrics"},
		{"config", "show"},
		{"config", "check"},
		{"events"},
	} {
		if out, code := command(args...); out == "" || code != exitOK && code != exitNotWell {
			t.Errorf("%v: got %q, %d", args, out, code)
		}
	}
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d: %s", code, log)
	}
	env["GOOD_SECRET"], env["GOOD_URL"] = "", "no-url-"+planted
	if out, code := command("run"); code != exitFailed || !strings.Contains(out, "the variable GOOD_SECRET is not set") {
		t.Errorf("got %s, %d", out, code)
	}
	if out, code := command("config", "check"); code != exitFailed || !strings.Contains(out, "config.yaml:4: notify.channels[0].secret_env: the variable GOOD_SECRET is not set\n") {
		t.Errorf("got %s, %d", out, code)
	}
	env["GOOD_SECRET"] = planted
	if out, code := command("config", "check"); code != exitFailed || !strings.Contains(out, "channel good: ") {
		t.Errorf("got %s, %d", out, code)
	}
	if out, code := command("run"); code != exitFailed || !strings.Contains(out, "channel good: ") {
		t.Errorf("got %s, %d", out, code)
	}
	if box.count("/old/") == 0 {
		t.Error("WEBHOOK_URL made no channel")
	}
	if slices.ContainsFunc([]string{said.String(), log.String()}, func(s string) bool { return strings.Contains(s, planted) }) {
		t.Errorf("a secret was said:\n%s\n%s", said.String(), log)
	}
	if box.count("/heart/") > 0 {
		t.Error("a heart beats, and Docker is out of reach")
	}
	kept, err := os.ReadFile(filepath.Join(dir, "outbox.db"))
	if err != nil || bytes.Contains(kept, []byte(planted)) {
		t.Errorf("the outbox: %v, or it holds a secret", err)
	}
}

// An incident that was told nobody before defib ended is told where its unit
// belongs, though the units are not known at once after a start.
func TestAStartTellsWhereItBelongs(t *testing.T) {
	shop, other := &inbox{came: make(chan string, 9)}, &inbox{came: make(chan string, 9)}
	s1, s2 := httptest.NewServer(shop), httptest.NewServer(other)
	defer s1.Close()
	defer s2.Close()
	dir := t.TempDir()
	paged(t, dir, "shop/web/1", "shop")
	file := filepath.Join(dir, "config.yaml")
	text := `policy: {docker_page_after: 1s} # until then what is known of the containers may be old
notify:
  channels:
    - {name: shop, type: webhook, url_env: SHOP_URL}
    - {name: other, type: webhook, url_env: OTHER_URL}
  routes: [{label: "team=shop", channels: [shop]}, {channels: [other]}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"DEFIB_STATE_DIR": dir, "DEFIB_HOST": "unix://" + filepath.Join(dir, "no-engine"), "DEFIB_CONFIG": file,
		"SHOP_URL": s1.URL, "OTHER_URL": s2.URL,
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &output{want: "source lost", seen: make(chan struct{})}
	ended := make(chan int)
	go func() { ended <- newApp(nil, log, log, lookup(env)).run(ctx, []string{"run"}) }()
	for inbox, want := range map[*inbox]string{shop: `"INC-00AA"`, other: "docker_unreachable"} {
		select {
		case got := <-inbox.came:
			if !strings.Contains(got, want) || !strings.Contains(got, `"host":"gpu-03"`) {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Errorf("nobody was told of %s", want)
		}
	}
	stop()
	<-ended
}

// paged leaves a state directory behind in which somebody is needed.
func paged(t *testing.T, dir, key, project string) {
	t.Helper()
	masker, err := mask.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	jr, _, err := journal.Open(dir, journal.Options{Mask: masker, Log: slog.New(slog.DiscardHandler), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Add(-time.Minute)
	inc := policy.Incident{
		ID: "INC-00AA", Rev: 3, Unit: key, Name: "web", Opened: at, Level: policy.LevelPage, Rule: "gave_up", Cause: "it exited with 1", NeedsYou: true, Paged: at,
	}
	u := policy.Unit{
		Key: key, Name: "web", Project: project, State: policy.Fatal, Since: at, Rule: "gave_up", Incident: inc.ID,
		Last: policy.Observation{Container: "0123456789abcdef", Labels: map[string]string{"com.docker.compose.project": project, "team": "shop", "defib.enable": "true"}},
	}
	err = jr.Append([]watcher.Record{{
		Event:   policy.Event{At: at, Kind: policy.KindTick},
		Changes: policy.Changes{Host: &policy.Host{Engine: policy.Engine{Name: "gpu-03"}}, Units: []policy.Unit{u}, Incidents: []policy.Incident{inc}},
	}})
	if err := errors.Join(err, jr.Close()); err != nil {
		t.Fatal(err)
	}
}

// A token that is mended in its file is taken without a restart, by a test at
// once; and what is wrong with the file is said.
func TestAMendedTokenIsTaken(t *testing.T) {
	var mu sync.Mutex
	var tokens []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "" {
			token = r.FormValue("token")
		}
		mu.Lock()
		defer mu.Unlock()
		tokens = append(tokens, token)
		if token != "xoxb-good" {
			_, _ = io.WriteString(w, `{"ok":false,"error":"token_revoked"}`)
			return
		}
		_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.1"}`)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("xoxb-" + planted)
	cfg, src, err := config.Parse("c.yaml", []byte("notify: {channels: [{name: ops, type: slack, token_file: "+file+", channel: C1, api_url: \""+server.URL+"\"}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := config.Settings{Config: cfg, Sources: src, StateDir: t.TempDir()}
	tell, err := newTelling(s, lookup(nil), &shelf{}, &lateLoop{}, asItIs, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer tell.close()
	if got := tell.Test(t.Context(), "ops")[0]; got.Reason != notify.ReasonAuth {
		t.Errorf("got %+v", got)
	}
	write("")
	if got := tell.Test(t.Context(), "ops")[0]; got.Error != "token: "+file+" is empty" {
		t.Errorf("got %+v", got)
	}
	write("xoxb-good\n")
	if got := tell.Test(t.Context(), "ops")[0]; got.Error != "" {
		t.Errorf("got %+v", got)
	}
	if want := []string{"xoxb-" + planted, "xoxb-good"}; !slices.Equal(tokens, want) {
		t.Errorf("Slack saw %q, want %q", tokens, want)
	}
}

// Services that take a connection and never answer do not hold up the end of
// defib: each type of channel lets go when it is told to.
func TestStopBesideDeafServices(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deaf := &deafService{Listener: l, came: make(chan struct{}, 99)}
	var owned sync.WaitGroup
	owned.Go(deaf.serve)
	defer func() {
		_ = deaf.Close()
		owned.Wait()
	}()
	at := l.Addr().String()
	dir := t.TempDir()
	paged(t, dir, "shop/web/1", "shop")
	file := filepath.Join(dir, "config.yaml")
	text := `policy: {docker_page_after: 1s} # until then what is known of the containers may be old
notify:
  start_message: true
  channels:
    - {name: slack, type: slack, token_env: TOKEN, channel: C1, api_url: "http://` + at + `"}
    - {name: hook, type: slack_webhook, url_env: THE_URL}
    - {name: pd, type: pagerduty, routing_key_env: TOKEN, endpoint: "http://` + at + `"}
    - {name: am, type: alertmanager, urls: ["http://` + at + `"]}
    - {name: ding, type: dingtalk, url_env: DING_URL}
    - {name: web, type: webhook, url_env: THE_URL}
    - {name: chat, type: shoutrrr, url_env: CHAT_URL}
    - {name: mail, type: shoutrrr, url_env: MAIL_URL}
    - {name: old, type: autoheal, url_env: THE_URL}
  heartbeat: {url_env: THE_URL}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"DEFIB_STATE_DIR": dir, "DEFIB_HOST": "unix://" + filepath.Join(dir, "no-engine"), "DEFIB_CONFIG": file,
		"TOKEN": "xoxb-1", "THE_URL": "http://" + at + "/x", "DING_URL": "http://" + at + "/robot/send?access_token=1",
		"CHAT_URL": "gotify://" + at + "/A0123456789abcd?disabletls=yes", "MAIL_URL": "smtp://" + at + "/?from=a@example.org&to=b@example.org",
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &output{want: "source lost", seen: make(chan struct{})}
	ended := make(chan int)
	go func() { ended <- newApp(nil, log, log, lookup(env)).run(ctx, []string{"run"}) }()
	for range 8 { // one for each channel but the drop-in, which has nothing to say
		select {
		case <-deaf.came:
		case <-time.After(time.Minute):
			t.Fatalf("not every channel tried: %s", log)
		}
	}
	start := time.Now()
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d: %s", code, log)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to end, want far less than 8 s", took)
	} else {
		t.Logf("it took %v to end", took)
	}
}

// deafService takes connections and says nothing.
type deafService struct {
	net.Listener
	came chan struct{}
}

func (d *deafService) serve() {
	var all []net.Conn
	for {
		c, err := d.Accept()
		if err != nil { // the test is over
			break
		}
		all = append(all, c)
		d.came <- struct{}{}
	}
	for _, c := range all {
		_ = c.Close()
	}
}

// asItIs masks nothing.
func asItIs(line string) string { return line }
