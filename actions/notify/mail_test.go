package notify

import (
	"context"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher/policy"
)

// The real server is aiosmtpd, of Debian's python3-aiosmtpd: it needs no
// configuration, and its Mailbox writes each mail to a file as it came.
func runMail(t *testing.T) (address, box string) {
	t.Helper()
	path := needServer(t, "aiosmtpd")
	address, box = freePort(t), filepath.Join(t.TempDir(), "box")
	startServer(t, path, "--nosetuid", "--class", "aiosmtpd.handlers.Mailbox", "--listen", address, box)
	eventually(t, "the mail server is ready", func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return address, box
}

func mailSinkTo(t *testing.T, address, more string) Sink {
	t.Helper()
	s, err := NewShoutrrr(ShoutrrrOptions{URL: "smtp://" + address + "/?from=defib@example.org&to=ops@example.org,oncall@example.org&useHTML=yes" + more})
	if err != nil {
		t.Fatal(err)
	}
	if s.Class() != Append {
		t.Errorf("it is %s", s.Class())
	}
	return s
}

// newMails returns the mails that came since it was last asked.
func newMails(t *testing.T, box string, n int) []*mail.Message {
	t.Helper()
	var files []string
	eventually(t, "the mails are there", func() bool {
		files, _ = filepath.Glob(filepath.Join(box, "new", "*"))
		return len(files) >= n
	})
	var out []*mail.Message
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
		wantWire(t, string(raw))
		m, err := mail.ReadMessage(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// wantWire checks what RFC 5322 and RFC 2047 ask of lines.
func wantWire(t *testing.T, raw string) {
	t.Helper()
	for line := range strings.Lines(raw) {
		line = strings.TrimRight(line, "\r\n")
		if strings.Contains(line, "=?UTF-8") && len(line) > 76+len("Subject: ") || len(line) > 998 {
			t.Errorf("a line of %d bytes: %.100q", len(line), line)
		}
		for i := range len(line) {
			if line[i] >= utf8.RuneSelf {
				t.Fatalf("8-bit text in %q", line)
			}
		}
	}
}

func subject(t *testing.T, m *mail.Message) string {
	t.Helper()
	s, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bodyOf(t *testing.T, m *mail.Message) string {
	t.Helper()
	if d := cmp.Diff([]string{"text/plain; charset=UTF-8", "quoted-printable", "1.0"},
		[]string{m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Header.Get("MIME-Version")}); d != "" {
		t.Error(d)
	}
	b, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
}

// rendered is an event of [Samples] in the words that people get.
func rendered(t testing.TB, locale, event string) Message {
	t.Helper()
	m := Message{Kind: SampleKind(event), Key: "gpu-03/" + event, Story: Samples()[event], Since: storyOpened}
	m.Text = mustWords(t, locale, nil).Render(m.Story, m.Kind)
	return m
}

func TestMailReal(t *testing.T) {
	address, box := runMail(t)
	s := mailSinkTo(t, address, "")
	mails := map[string]Message{"500 lines": manyLines(500), "hostile": hostile()}
	for _, event := range SampleNames() {
		mails["English "+event], mails["Chinese "+event] = rendered(t, "en", event), rendered(t, "zh", event)
	}
	for name, m := range mails {
		t.Run(name, func(t *testing.T) {
			send(t, s, m)
			got := newMails(t, box, 1)
			if len(got) != 1 {
				t.Fatalf("%d mails", len(got))
			}
			if d := cmp.Diff(cutRunes(Clean(m.Text.Title), 200), subject(t, got[0])); d != "" {
				t.Errorf("subject: %s", d)
			}
			if d := cmp.Diff(m.Text.Map(Plain).Plain(mailBudget), bodyOf(t, got[0])); d != "" {
				t.Errorf("body: %s", d)
			}
			if d := cmp.Diff([]string{`"defib" <defib@example.org>`, "ops@example.org, oncall@example.org", ""},
				[]string{got[0].Header.Get("From"), got[0].Header.Get("To"), got[0].Header.Get("Bcc")}); d != "" {
				t.Error(d)
			}
		})
	}
}

// chain is what a chat that cannot edit is told of a warning, of the page that
// follows it half an hour later, its reminders and its end, and of one more.
func chain(t *testing.T) (msgs []Message) {
	t.Helper()
	in(t, func(t *testing.T) {
		c := to("mail", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.RemindAfter, d.o.Render = 30*time.Minute, mustWords(t, "zh", nil).Render
		d.open()
		defer d.kill()
		for i, level := range []policy.Level{policy.LevelWarn, policy.LevelPage, policy.LevelWarn} {
			x := trouble("INC-"+strconv.Itoa(i), level)
			x.Unit = "llm/web/1"
			if i > 0 {
				x.Root, x.Times = "INC-0", i+1
			}
			d.commit(x)
			d.wait(2 * time.Hour)
			d.commit(page(x))
			d.wait(2 * time.Hour)
			d.commit(over(page(x)))
			d.wait(5 * time.Minute)
		}
		msgs = sinkOf(c).msgs
	})
	return msgs
}

// Servers drop what has the ID of a mail that they have had, so each of a chain
// has its own; all of them are one thread.
func TestMailChainReal(t *testing.T) {
	msgs := chain(t)
	var kinds []Kind
	address, box := runMail(t)
	s := mailSinkTo(t, address, "")
	ids, story := map[string]Kind{}, ""
	for _, m := range msgs {
		kinds = append(kinds, m.Kind)
		send(t, s, m)
		got := newMails(t, box, 1)[0]
		id, refs := got.Header.Get("Message-ID"), got.Header.Get("References")
		if was, twice := ids[id]; twice || id == "" {
			t.Errorf("the %s of %s has the ID of the %s before it", m.Kind, m.Story.Incident.ID, was)
		}
		if story == "" {
			story = refs
		}
		if ids[id] = m.Kind; refs == "" || refs != story || got.Header.Get("In-Reply-To") != refs || refs == id {
			t.Errorf("the %s of %s refers to %q", m.Kind, m.Story.Incident.ID, refs)
		}
		if d := cmp.Diff(cutRunes(m.Text.Title, 200), subject(t, got)); d != "" {
			t.Error(d)
		}
	}
	want := []Kind{
		KindPost, KindEscalate, KindRemind, KindRemind, KindRemind, KindResolve,
		KindPost, KindRemind, KindRemind, KindRemind, KindResolve, KindPost, KindEscalate, KindRemind, KindRemind, KindRemind, KindResolve,
	}
	if d := cmp.Diff(want, kinds); d != "" {
		t.Errorf("the chain is another one (-want +got):\n%s", d)
	}
}

// A mail that is sent again keeps its ID, also after a restart.
func TestMailSentTwice(t *testing.T) {
	s := mailSinkTo(t, "127.0.0.1:25", "").(*mailSink)
	first, _ := s.messageIDs(gaveUp())
	again := gaveUp()
	again.Since = again.Since.Add(time.Minute) // counted from the restart
	if id, _ := s.messageIDs(again); id != first {
		t.Errorf("%s became %s", first, id)
	}
	another := gaveUp()
	another.Story.Incident.Opened = another.Story.Incident.Opened.Add(24 * time.Hour)
	if id, _ := s.messageIDs(another); id == first {
		t.Error("an incident that was given the same ID has the same mail")
	}
	urgent, calm := string(s.letter(gaveUp(), storyOpened)), string(s.letter(resolvedStory(), storyOpened))
	if !strings.Contains(urgent, "X-Priority: 1\r\n") || strings.Contains(calm, "X-Priority") {
		t.Error("what needs somebody is not marked, or the end is")
	}
}

// talk is a mail server that says what it is told.
func talk(t *testing.T, lines ...string) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		for _, line := range lines {
			if _, err := io.WriteString(c, line+"\r\n"); err != nil {
				return
			}
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, c) // and then nothing, until the other side leaves
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestMailFails(t *testing.T) {
	const hi = "220 hi"
	for name, c := range map[string]struct {
		says   []string
		reason Reason
	}{
		"says nothing": {nil, ReasonTimeout},
		"hangs later":  {[]string{hi, "250 ok"}, ReasonTimeout},
		"busy":         {[]string{hi, "250 ok", "451 later"}, ReasonServer},
		"no such user": {[]string{hi, "250 ok", "250 ok", "550 nobody", "550 nobody"}, ReasonClient},
		"wrong key":    {[]string{hi, "250-hi\r\n250 AUTH PLAIN", "535 no SECRETPASS", "501 well", "221 bye"}, ReasonAuth},
		"greylists":    {[]string{hi, "250 ok", "250 ok", "450 greylisted", "450 greylisted"}, ReasonServer},
	} {
		t.Run(name, func(t *testing.T) {
			at := talk(t, c.says...)
			if c.reason == ReasonAuth {
				at = "user:SECRETPASS@" + at
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := mailSinkTo(t, at, "").Send(ctx, gaveUp())
			wantReason(t, err, c.reason, 0, "SECRETPASS")
		})
	}
	_, err := mailSinkTo(t, freePort(t), "").Send(t.Context(), gaveUp())
	wantReason(t, err, ReasonNetwork, 0)
	_, err = mailSinkTo(t, talk(t, hi, "250 ok"), "&requireStartTLS=yes").Send(t.Context(), gaveUp())
	if err == nil || !strings.Contains(err.Error(), "no STARTTLS") {
		t.Errorf("without encryption: %v", err)
	}
}
