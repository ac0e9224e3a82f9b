package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	shoutrrrsmtp "github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
)

// Mail is sent by ourselves, after a URL of shoutrrr: its own sender waits for
// ever for a server that takes the connection and says nothing, and sends 8-bit
// text without saying so and without a Message-ID. Incidents become threads.

// mailBudget bounds the body, in bytes: mail readers cope with far more.
const mailBudget = 64 << 10

// mailDeadline bounds a whole conversation with a server when the URL does not.
const mailDeadline = 20 * time.Second

type mailSink struct {
	config  *shoutrrrsmtp.Config
	secrets []string
	roots   *tls.Config // nil in production: the system's certificates
}

func newMail(u *url.URL) (Sink, error) {
	query := url.Values{}
	for name, values := range u.Query() {
		if !strings.EqualFold(name, "usehtml") { // what containers say is no markup
			query[name] = values
		}
	}
	plain := *u
	plain.RawQuery = query.Encode()
	var service shoutrrrsmtp.Service
	secrets := append(serviceSecrets(u), u.Query().Get("password"))
	if err := service.Initialize(&plain, nil); err != nil {
		return nil, fmt.Errorf("smtp: %w", redact(err, secrets...))
	}
	s := &mailSink{config: service.Config, secrets: secrets}
	s.config.FixEmailTags()
	for _, a := range append([]string{s.config.FromAddress}, s.config.ToAddresses...) {
		if _, err := mail.ParseAddress(a); err != nil {
			return nil, errors.New("smtp: one of the addresses in from and to is none; it looks like name@example.org")
		}
	}
	return s, nil
}

// Class is [Append].
func (s *mailSink) Class() Class { return Append }

// Send sends one mail to all recipients. It is content when the server takes it
// for one of them.
func (s *mailSink) Send(ctx context.Context, m Message) (Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.config.Timeout, mailDeadline))
	defer cancel()
	if err := s.deliver(ctx, s.letter(m, time.Now())); err != nil {
		return nil, s.explain(ctx, err)
	}
	return nil, nil
}

func (s *mailSink) deliver(ctx context.Context, letter []byte) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// The deadline ends each wait for the server, and so does the caller's end.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := smtp.NewClient(conn, s.config.Host)
	if err != nil {
		return err
	}
	if err := s.greet(c); err != nil {
		return err
	}
	return s.hand(c, letter)
}

func (s *mailSink) dial(ctx context.Context) (net.Conn, error) {
	address := net.JoinHostPort(s.config.Host, strconv.Itoa(int(s.config.Port)))
	if s.implicitTLS() {
		return (&tls.Dialer{Config: s.tls()}).DialContext(ctx, "tcp", address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

func (s *mailSink) implicitTLS() bool {
	return s.config.Encryption == shoutrrrsmtp.EncImplicitTLS ||
		s.config.Encryption == shoutrrrsmtp.EncAuto && s.config.Port == shoutrrrsmtp.ImplicitTLSPort
}

func (s *mailSink) tls() *tls.Config {
	c := &tls.Config{}
	if s.roots != nil {
		c = s.roots.Clone()
	}
	c.ServerName, c.MinVersion, c.InsecureSkipVerify = s.config.Host, tls.VersionTLS12, s.config.SkipTLSVerify //nolint:gosec // the operator's own setting
	return c
}

// greet says hello, turns the encryption on and logs in.
func (s *mailSink) greet(c *smtp.Client) error {
	if err := c.Hello(cmp.Or(s.config.ClientHost, "localhost")); err != nil {
		return err
	}
	offered, _ := c.Extension("STARTTLS")
	switch {
	case s.implicitTLS():
	case offered && s.config.UseStartTLS:
		if err := c.StartTLS(s.tls()); err != nil {
			return err
		}
	case s.config.RequireStartTLS:
		return errors.New("the server offers no STARTTLS, and the URL requires it")
	}
	auth := s.auth()
	if auth == nil {
		return nil
	}
	return c.Auth(auth)
}

func (s *mailSink) auth() smtp.Auth {
	switch s.config.Auth {
	case shoutrrrsmtp.AuthPlain:
		return smtp.PlainAuth("", s.config.Username, s.config.Password, s.config.Host)
	case shoutrrrsmtp.AuthCRAMMD5:
		return smtp.CRAMMD5Auth(s.config.Username, s.config.Password)
	case shoutrrrsmtp.AuthOAuth2:
		return shoutrrrsmtp.OAuth2Auth(s.config.Username, s.config.Password)
	case shoutrrrsmtp.AuthLogin:
		return shoutrrrsmtp.LoginAuth(s.config.Username, s.config.Password, s.config.Host)
	default:
		return nil
	}
}

// hand gives the letter to the server for every recipient that it takes.
func (s *mailSink) hand(c *smtp.Client, letter []byte) error {
	if err := c.Mail(s.config.FromAddress); err != nil {
		return err
	}
	var refused error
	taken := 0
	for _, to := range s.config.ToAddresses {
		if err := c.Rcpt(to); err != nil {
			refused = err
			continue
		}
		taken++
	}
	if taken == 0 {
		return refused
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(letter); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // from here on the server has it
		return err
	}
	_ = c.Quit()
	return nil
}

// explain sorts what went wrong: a server that says 4xx wants it again.
func (s *mailSink) explain(ctx context.Context, err error) *Error {
	var said *textproto.Error
	answered := errors.As(err, &said)
	if end := ctx.Err(); end != nil && !answered {
		err = fmt.Errorf("the mail server does not answer: %w", end)
	}
	e := classifyErr(err, s.secrets...)
	if answered {
		e.Reason = mailReason(said.Code)
	}
	e.Err = fmt.Errorf("smtp: %w", e.Err)
	return e
}

func mailReason(code int) Reason {
	switch {
	case code == 530 || code == 534 || code == 535 || code == 538: // RFC 4954: who are you?
		return ReasonAuth
	case code >= 500:
		return ReasonClient
	}
	return ReasonServer
}

// letter sets m as a mail.
func (s *mailSink) letter(m Message, now time.Time) []byte {
	var b bytes.Buffer
	head := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	from := mail.Address{Name: cmp.Or(s.config.FromName, "defib"), Address: s.config.FromAddress}
	head("From", from.String())
	head("To", strings.Join(s.config.ToAddresses, ", "))
	head("Subject", folded(mailSubject(m)))
	head("Date", now.Format(time.RFC1123Z))
	id, story := s.messageIDs(m)
	head("Message-ID", id)
	if story != "" {
		head("In-Reply-To", story)
		head("References", story)
	}
	if m.Text.Urgent {
		head("X-Priority", "1")
	}
	head("Auto-Submitted", "auto-generated") // no holiday notices, after RFC 3834
	head("MIME-Version", "1.0")
	head("Content-Type", "text/plain; charset=UTF-8")
	head("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(mailBody(m), "\n", "\r\n") + "\r\n")) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// Preview is m as its readers see it.
func (s *mailSink) Preview(m Message) string {
	from := mail.Address{Name: cmp.Or(s.config.FromName, "defib"), Address: s.config.FromAddress}
	return fmt.Sprintf("From: %s\nTo: %s\nSubject: %s\n\n%s", from.String(), strings.Join(s.config.ToAddresses, ", "), mailSubject(m), mailBody(m))
}

func mailSubject(m Message) string { return cutRunes(strings.TrimSpace(Clean(m.Text.Title)), 200) }

func mailBody(m Message) string { return m.Text.Map(Plain).Plain(mailBudget) }

// folded encodes a subject, one encoded word per line: RFC 2047 allows no line
// of a header that holds one to be longer than 76 characters.
func folded(subject string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("UTF-8", subject), "?= =?", "?=\r\n =?")
}

// messageIDs are that of a mail and that of its story, which every mail of an
// incident and of those that continue it answers: a thread. No mail is the story
// itself. A message that is sent twice keeps its ID, so that servers drop the
// second; any other one has its own, or they would drop a page.
func (s *mailSink) messageIDs(m Message) (id, story string) {
	domain := s.config.FromAddress[strings.LastIndexByte(s.config.FromAddress, '@')+1:]
	about := func(what ...string) string {
		return "<defib." + shortHash(strings.Join(what, "\x00")) + "@" + domain + ">"
	}
	in, since := &m.Story.Incident, m.Since.UTC().Format(time.RFC3339Nano)
	if in.ID == "" {
		return about(m.Key, m.Text.Title, since), ""
	}
	if m.Kind == KindPost { // it comes once, and how long it has waited is not known after a restart
		since = ""
	}
	opened := in.Opened.UTC().Format(time.RFC3339Nano) // IDs are given anew when the journal begins anew
	return about(m.Key, in.ID, opened, string(m.Kind), strconv.Itoa(in.Rev), since), about(m.Key)
}
