package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/config"
	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
)

// previewOptions are the flags of `defib notify preview`.
type previewOptions struct {
	event, channel, locale, templates, file string
}

func (a *app) notifyPreviewCmd() *cobra.Command {
	var o previewOptions
	cmd := &cobra.Command{
		Use:   "preview",
		Short: "Show what a message looks like; nothing is sent",
		Long: `Show what a message looks like, with a story made up for it. Nothing is sent, and no
daemon is needed. With --channel it is what would be sent to that channel of the
configuration, with *** for secrets; else the words alone.`,
		Example: "  defib notify preview --event gave_up\n  defib notify preview --event gpu_held --locale zh\n  defib notify preview --event storm --channel ops --config config.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.notifyPreview(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.event, "event", "gave_up", strings.Join(notify.SampleNames(), ", "))
	f.StringVar(&o.channel, "channel", "", "a channel of the configuration")
	f.StringVar(&o.locale, "locale", "", "en or zh (default: that of the configuration)")
	f.StringVar(&o.templates, "templates", "", "a directory of templates that replace ours (default: that of the configuration)")
	f.StringVar(&o.file, "config", "", "configuration file (default $DEFIB_CONFIG)")
	return cmd
}

func (a *app) notifyPreview(ctx context.Context, o previewOptions) error {
	story, known := notify.Samples()[o.event]
	if !known {
		return usage(fmt.Sprintf("--event: there is no %q", o.event), oneOfHint(o.event, notify.SampleNames()))
	}
	flags := map[string]string{}
	if o.file != "" {
		flags["config"] = o.file
	}
	s, err := config.Resolve(config.Input{Flags: flags, Getenv: a.getenv, UID: os.Getuid(), Exists: exists})
	if err != nil {
		return a.mistakes(err)
	}
	n := s.Config.Notify
	n.Locale, n.Templates = cmp.Or(o.locale, n.Locale), cmp.Or(o.templates, n.Templates)
	words, err := newWords(n)
	if err != nil {
		return err
	}
	kind := notify.SampleKind(o.event)
	m := notify.Message{Kind: kind, Key: "preview", Story: story, Text: words.Render(story, kind), Since: story.Now}
	if o.channel == "" { // all of it is ours and the templates': there is nothing to mask or to cut
		fmt.Fprintln(a.out, m.Text.Map(notify.Plain).Plain(plainMost))
		return nil
	}
	return a.previewChannel(ctx, n, s.Sources, o.channel, m)
}

// plainMost bounds the words of a preview, in bytes.
const plainMost = 64 << 10

func oneOfHint(word string, words []string) string {
	if near := suggest.Closest(word, words); near != "" {
		return "did you mean " + near + "?"
	}
	return "there are " + strings.Join(words, ", ")
}

// previewChannel lets the channel's own sink write the message, to nobody.
func (a *app) previewChannel(ctx context.Context, n config.Notify, src config.Sources, name string, m notify.Message) error {
	at := slices.IndexFunc(n.Channels, func(c config.Channel) bool { return c.Name == name })
	if at < 0 {
		var names []string
		for _, c := range n.Channels {
			names = append(names, c.Name)
		}
		if len(names) == 0 {
			return usage("--channel: no channel is configured", "name the file by --config")
		}
		return usage(fmt.Sprintf("--channel: there is no %q", name), oneOfHint(name, names))
	}
	if err := n.ReadSecrets(a.getenv, src); err != nil {
		return err
	}
	c := n.Channels[at]
	rec := &recorder{}
	sink, err := newSink(c, &http.Client{Transport: rec})
	if err != nil {
		return err
	}
	if mail, ok := sink.(interface{ Preview(notify.Message) string }); ok {
		fmt.Fprintln(a.out, withoutSecrets(mail.Preview(m), c))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if m.Kind == notify.KindResolve || m.Kind == notify.KindAck { // there was a message before it
		first := m
		first.Kind = notify.KindPost
		if m.Ref, err = sink.Send(ctx, first); err != nil && !errors.Is(err, notify.ErrNothing) {
			return err
		}
		rec.taken()
	}
	_, err = sink.Send(ctx, m)
	bodies := rec.taken()
	if errors.Is(err, notify.ErrNothing) {
		err = nil
	}
	if len(bodies) == 0 {
		return hinted(errors.Join(errors.New("this event sends nothing to this channel"), err), "leave --channel out to see the words")
	}
	for _, body := range bodies { // whole, or it is no JSON
		fmt.Fprintln(a.out, withoutSecrets(body, c))
	}
	return nil
}

// withoutSecrets replaces a channel's secrets in what would be sent, as they
// are and as JSON has them.
func withoutSecrets(body string, c config.Channel) string {
	for _, s := range []config.Secret{c.Token, c.URL, c.Secret, c.RoutingKey} {
		text := s.Reveal()
		if text == "" {
			continue
		}
		quoted, err := json.Marshal(text)
		if err != nil { // of a string: it cannot be
			continue
		}
		body = strings.NewReplacer(text, "***", string(quoted[1:len(quoted)-1]), "***").Replace(body)
	}
	return body
}

// recorder answers every request as a chat that is content would, and keeps
// what was sent.
type recorder struct {
	mu     sync.Mutex
	bodies []string
}

// content is what the services answer when they take a message: each looks
// for its own word.
const content = `{"ok":true,"channel":"C0","ts":"1.1","errcode":0,"code":0,"StatusCode":0,"status":"success"}`

// RoundTrip implements [http.RoundTripper].
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var data []byte
	if req.Body != nil {
		var err error
		data, err = io.ReadAll(req.Body)
		if err != nil {
			return nil, fmt.Errorf("read what would be sent: %w", err)
		}
		_ = req.Body.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if form, err := url.ParseQuery(string(data)); err == nil && strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		data = []byte(fields(form))
	}
	r.bodies = append(r.bodies, indented(data))
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Request: req, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(content)), ContentLength: int64(len(content)),
	}, nil
}

// taken returns what was sent since it was asked last.
func (r *recorder) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.bodies
	r.bodies = nil
	return out
}

// fields lays a form out for people, each value below its name.
func fields(form url.Values) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(form)) {
		fmt.Fprintf(&out, "%s: %s\n", name, indented([]byte(form.Get(name))))
	}
	return out.String()
}

// indented lays JSON out for people; what is none stays as it is.
func indented(data []byte) string {
	var out bytes.Buffer
	if json.Indent(&out, data, "", "  ") != nil {
		return string(data)
	}
	return out.String()
}
