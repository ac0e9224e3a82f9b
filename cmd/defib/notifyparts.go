package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

// telling is what tells people; nil when no channel is configured.
type telling struct {
	*notify.Notifier
	heart *notify.Heartbeat // nil: nobody waits for one
	loop  *lateLoop
	log   *slog.Logger
}

// incidents is what is asked of the journal.
type incidents interface {
	Incident(id string) (policy.Incident, bool, error)
	Incidents(since time.Time) ([]policy.Incident, error)
}

// lateLoop is the watcher, which is made after what tells of it.
type lateLoop struct{ w *watcher.Watcher }

// view is nil until there is one.
func (l *lateLoop) view() *watcher.View {
	if l.w == nil {
		return nil
	}
	return l.w.View()
}

// await waits for the first view. Until then nothing is known of the units, and
// what is told goes astray.
func (l *lateLoop) await(ctx context.Context) {
	if l.w == nil {
		return
	}
	select {
	case <-l.w.Seen():
	case <-ctx.Done():
	}
}

// settled reports whether what is told of the units is of now: they have been
// looked at since the start, or Docker has been away for long enough to say so.
func (l *lateLoop) settled(docker time.Duration, now time.Time) bool {
	if l.w == nil {
		return true
	}
	return settled(l.w.View(), docker, now)
}

func settled(v *watcher.View, docker time.Duration, now time.Time) bool {
	if v == nil {
		return false
	}
	return v.Host.Synced || !v.Host.Connected && now.Sub(v.Host.Since) >= docker
}

// newTelling makes every channel of the configuration. Its error names all
// that is missing, and no secret.
func newTelling(s config.Settings, getenv func(string) string, kept incidents, loop *lateLoop, mask func(line string) string, log *slog.Logger, now func() time.Time) (*telling, error) {
	n := s.Config.Notify
	n.Channels = slices.Clone(n.Channels)
	if err := n.ReadSecrets(getenv, s.Sources); err != nil {
		return nil, err
	}
	words, err := newWords(n)
	if err != nil {
		return nil, err
	}
	channels, err := newChannels(n.Channels, getenv)
	if err != nil {
		return nil, err
	}
	zone, err := n.Zone()
	if err != nil {
		return nil, err
	}
	quiet, err := notify.ParseQuiet(n.QuietHours, zone)
	if err != nil {
		return nil, err
	}
	t := &telling{loop: loop, log: log}
	if err := t.beat(n.Heartbeat, loop, log, now); err != nil {
		return nil, err
	}
	if len(channels) == 0 {
		return t, nil
	}
	teller := storyteller{view: loop.view, kept: kept, mask: mask, now: func() time.Time { return now().In(zone) }}
	o := notify.Options{
		Dir: s.StateDir, Channels: channels, Routes: routesOf(n.Routes), Archive: kept, Quiet: quiet,
		Facts: teller.facts, Story: teller.story, Render: words.Render, Log: log, Now: now,
		RemindAfter: n.RemindAfter, RemindMax: n.RemindMax,
		Settled: func() bool { return loop.settled(s.Config.Policy.DockerPage, now()) },
	}
	if n.RemindMax == 0 {
		o.RemindMax = -1
	}
	t.Notifier, err = notify.Open(o)
	return t, err
}

// newWords are the texts of messages.
func newWords(n config.Notify) (*notify.Words, error) {
	var own fs.FS
	if n.Templates != "" {
		if _, err := os.Stat(n.Templates); err != nil {
			return nil, fmt.Errorf("notify.templates: %w", err)
		}
		own = os.DirFS(n.Templates)
	}
	return notify.NewWords(n.Locale, own)
}

// newChannels makes the channels. A service that refuses what it is sent is tried
// with the secrets as they are then.
func newChannels(list []config.Channel, getenv func(string) string) ([]notify.Channel, error) {
	var out []notify.Channel
	var errs []error
	for _, c := range list {
		sink, err := newSink(c, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		again := func() (notify.Sink, error) {
			fresh := c
			if err := fresh.ReadSecrets(getenv); err != nil {
				return nil, err
			}
			return newSink(fresh, nil)
		}
		out = append(out, notify.Channel{Name: c.Name, Type: c.Type, Sink: sink, Again: again, MinLevel: c.MinLevel})
	}
	return out, errors.Join(errs...)
}

// newSink makes what sends to a channel; client nil is one with deadlines.
func newSink(c config.Channel, client *http.Client) (notify.Sink, error) {
	sink, err := sinkOf(c, client)
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", c.Name, err)
	}
	return sink, nil
}

func sinkOf(c config.Channel, client *http.Client) (notify.Sink, error) {
	switch c.Type {
	case config.TypeSlack:
		return notify.NewSlack(notify.SlackOptions{Token: c.Token.Reveal(), Channel: c.Channel, Mention: c.Mention, APIURL: c.APIURL, HTTP: client})
	case config.TypeSlackWebhook:
		return notify.NewSlackWebhook(notify.SlackHookOptions{URL: c.URL.Reveal(), Mention: c.Mention, HTTP: client})
	case config.TypePagerDuty:
		return notify.NewPagerDuty(notify.PagerDutyOptions{RoutingKey: c.RoutingKey.Reveal(), Endpoint: c.Endpoint, HTTP: client})
	case config.TypeAlertmanager:
		return notify.NewAlertmanager(notify.AlertmanagerOptions{URLs: alertmanagers(c), HTTP: client})
	case config.TypeDingTalk:
		return notify.NewDingTalk(notify.DingTalkOptions{URL: c.URL.Reveal(), Secret: c.Secret.Reveal(), Mention: commas(c.Mention), HTTP: client})
	case config.TypeWebhook:
		return notify.NewWebhook(notify.WebhookOptions{URL: c.URL.Reveal(), Secret: c.Secret.Reveal(), HTTP: client})
	case config.TypeShoutrrr:
		return notify.NewShoutrrr(notify.ShoutrrrOptions{URL: c.URL.Reveal(), Mention: commas(c.Mention), HTTP: client})
	case config.TypeAutoheal:
		return notify.NewAutohealWebhook(notify.DropInOptions{URL: c.URL.Reveal(), Key: c.JSONKey, HTTP: client})
	case config.TypeApprise:
		return notify.NewApprise(notify.DropInOptions{URL: c.URL.Reveal(), HTTP: client})
	}
	return nil, fmt.Errorf("there is no type %q", c.Type)
}

// alertmanagers are the addresses of the file and those that are secret.
func alertmanagers(c config.Channel) []string {
	return append(slices.Clone(c.URLs), commas(c.URL.Reveal())...)
}

// commas splits a list at commas and blanks.
func commas(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func routesOf(list []config.Route) []notify.Route {
	var out []notify.Route
	for _, r := range list {
		key, value, _ := strings.Cut(r.Label, "=")
		out = append(out, notify.Route{Project: r.Project, Unit: r.Unit, Label: key, Value: value, Channels: r.Channels})
	}
	return out
}

// beat makes the heartbeat, if one is wanted. It stops when defib does not do
// its work, and when nobody could be told of anything.
func (t *telling) beat(h config.Heartbeat, loop *lateLoop, log *slog.Logger, now func() time.Time) error {
	if !h.URL.Given() {
		return nil
	}
	t.heart = &notify.Heartbeat{URL: h.URL.Reveal(), Every: h.Every, Log: log, Alive: func() error {
		if err := loop.w.Healthy(now()); err != nil {
			return err
		}
		if t.Notifier == nil {
			return nil
		}
		return mute(t.Channels(), now())
	}, Note: func() string {
		if t.Notifier == nil {
			return ""
		}
		return beatNote(t.Channels())
	}}
	return t.heart.Check()
}

// muteAfter: a service that is away for less is nobody's emergency.
const muteAfter = 15 * time.Minute

// mute says that no channel calls anybody; nil when one can. A feed is read by
// programs: it counts only where there is nothing else.
func mute(channels []notify.ChannelStatus, now time.Time) error {
	people := slices.DeleteFunc(slices.Clone(channels), func(c notify.ChannelStatus) bool { return c.Class == notify.Feed })
	if len(people) == 0 {
		people = channels
	}
	for _, c := range people {
		if c.Parked.IsZero() && c.Refused.IsZero() && (c.Silent.IsZero() || now.Sub(c.Silent) < muteAfter) {
			return nil
		}
	}
	return errors.New("every channel that could call somebody refuses what it is sent or is out of reach, so nobody can be told of anything")
}

// beatNote says which channels call nobody, while others still do.
func beatNote(channels []notify.ChannelStatus) string {
	var lines []string
	for _, c := range channels {
		for word, since := range map[string]time.Time{"is parked": c.Parked, "does not take a call": c.Refused, "is out of reach": c.Silent} {
			if !since.IsZero() {
				lines = append(lines, fmt.Sprintf("channel %s %s since %s: %s", c.Name, word, since.UTC().Format(time.RFC3339), cmp.Or(c.ParkedWhy, c.LastError)))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// run sends until ctx ends.
func (t *telling) run(ctx context.Context) {
	var owned sync.WaitGroup
	if t.heart != nil {
		owned.Go(func() { t.heart.Run(ctx) })
	}
	if t.Notifier != nil {
		t.loop.await(ctx)
		if err := t.Run(ctx); err != nil {
			t.log.Error("messages are no longer sent", "err", err)
		}
	}
	owned.Wait()
}

// close lets go of what was kept; run has ended.
func (t *telling) close() error {
	if t.Notifier == nil {
		return nil
	}
	return t.Close()
}

// told is what the watcher calls after each commit; nil: nobody is told.
func (t *telling) told() func([]policy.Incident) {
	if t.Notifier == nil {
		return nil
	}
	return t.Wake
}

// hello tells people that defib has started; nil: nobody is told.
func (t *telling) hello(n config.Notify) func(context.Context, string) {
	if t.Notifier == nil || !n.StartMessage {
		return nil
	}
	return t.Hello
}

// alarm is what it calls when nothing can be stored; nil: nobody is told.
func (t *telling) alarm() func(string) {
	if t.Notifier == nil {
		return nil
	}
	return t.Alarm
}

// calm is what it calls when things are stored again; nil: nobody is told.
func (t *telling) calm() func() {
	if t.Notifier == nil {
		return nil
	}
	return t.Calm
}

// server is what the commands may ask; nil: there are no channels.
func (t *telling) server() api.Notifier {
	if t.Notifier == nil {
		return nil
	}
	return t.Notifier
}

// channels is how the channels do; nil: there are none.
func (t *telling) channels() func() []notify.ChannelStatus {
	if t.Notifier == nil {
		return nil
	}
	return t.Channels
}
