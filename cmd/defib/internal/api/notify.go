package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
)

// Notifier is what the server asks of what tells people.
type Notifier interface {
	Channels() []notify.ChannelStatus
	Queue() []notify.Waiting
	Test(ctx context.Context, channel string) []notify.TestResult // channel "": all
	Silences() []notify.Silence
	AddSilence(s notify.Silence) (notify.Silence, error)
	RemoveSilence(id string) error
}

// Notify answers GET /v1/notify.
type Notify struct {
	Version  int                    `json:"version"`
	At       time.Time              `json:"at"`
	Channels []notify.ChannelStatus `json:"channels"` // in the order of the configuration
	Queue    []notify.Waiting       `json:"queue"`    // by channel and age
}

// NotifyTest is the body of POST /v1/notify/test.
type NotifyTest struct {
	Channel string `json:"channel,omitempty"` // empty: all
}

// NotifyTested answers POST /v1/notify/test.
type NotifyTested struct {
	Version int                 `json:"version"`
	Results []notify.TestResult `json:"results"`
}

// Silences answers GET /v1/silences.
type Silences struct {
	Version  int              `json:"version"`
	At       time.Time        `json:"at"`
	Silences []notify.Silence `json:"silences"` // the first to end first
}

// SilenceOrder is the body of POST /v1/silences.
type SilenceOrder struct {
	Unit    string        `json:"unit,omitempty"`
	Project string        `json:"project,omitempty"`
	Label   string        `json:"label,omitempty"` // key=value, or key
	Rule    string        `json:"rule,omitempty"`
	For     time.Duration `json:"for"`
	Why     string        `json:"why"`
}

// Silenced answers POST /v1/silences and DELETE /v1/silences/{id}.
type Silenced struct {
	Version int            `json:"version"`
	Silence notify.Silence `json:"silence"`
	Note    string         `json:"note,omitempty"` // what of it fits nothing that is known yet
}

const (
	maxSilence = 90 * 24 * time.Hour // a longer one has been forgotten
	maxWord    = 300                 // bytes of a pattern
)

func (s *Server) notifyRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/notify", s.notify)
	mux.HandleFunc("POST /v1/notify/test", s.notifyTest)
	mux.HandleFunc("GET /v1/silences", s.silences)
	mux.HandleFunc("POST /v1/silences", s.silence)
	mux.HandleFunc("DELETE /v1/silences/{id}", s.unsilence)
}

// teller returns what tells people, or answers that nothing does.
func (s *Server) teller(w http.ResponseWriter) Notifier {
	if s.o.Notifier == nil {
		refuse(w, http.StatusConflict, "defib tells nobody: no channel is configured", "config.yaml.example shows how, under notify:")
	}
	return s.o.Notifier
}

func (s *Server) notify(w http.ResponseWriter, _ *http.Request) {
	out := Notify{Version: Version, At: s.o.Now(), Channels: []notify.ChannelStatus{}, Queue: []notify.Waiting{}}
	if n := s.o.Notifier; n != nil {
		out.Channels = append(out.Channels, n.Channels()...)
		out.Queue = append(out.Queue, n.Queue()...)
	}
	send(w, out)
}

func (s *Server) notifyTest(w http.ResponseWriter, r *http.Request) {
	n := s.teller(w)
	var o NotifyTest
	if n == nil || !body(w, r, &o) {
		return
	}
	if err := knownChannel(n, o.Channel); err != nil {
		s.fail(w, err)
		return
	}
	// A channel that hangs takes its time; the answer is written at the end.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	send(w, NotifyTested{Version: Version, Results: append([]notify.TestResult{}, n.Test(r.Context(), o.Channel)...)})
}

// knownChannel explains a channel that there is not.
func knownChannel(n Notifier, name string) error {
	var names []string
	for _, c := range n.Channels() {
		names = append(names, c.Name)
		if c.Name == name {
			return nil
		}
	}
	if name == "" {
		return nil
	}
	hint := "there are " + strings.Join(names, ", ")
	if near := suggest.Closest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return &UnknownError{Text: fmt.Sprintf("there is no channel %.80q", name), Hint: hint}
}

func (s *Server) silences(w http.ResponseWriter, _ *http.Request) {
	out := Silences{Version: Version, At: s.o.Now(), Silences: []notify.Silence{}}
	if n := s.o.Notifier; n != nil {
		out.Silences = append(out.Silences, n.Silences()...)
	}
	send(w, out)
}

func (s *Server) silence(w http.ResponseWriter, r *http.Request) {
	n := s.teller(w)
	var o SilenceOrder
	if n == nil || !body(w, r, &o) {
		return
	}
	if text := o.wrong(); text != "" {
		refuse(w, http.StatusBadRequest, text, "")
		return
	}
	if text, hint := o.wrongRule(); text != "" {
		refuse(w, http.StatusBadRequest, text, hint)
		return
	}
	got, err := n.AddSilence(notify.Silence{
		Unit: o.Unit, Project: o.Project, Label: o.Label, Rule: o.Rule, By: r.RemoteAddr, Why: o.Why, Until: s.o.Now().Add(o.For),
	})
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	s.o.Log.Info("silence", "id", got.ID, "by", got.By, "until", got.Until)
	send(w, Silenced{Version: Version, Silence: got, Note: s.unmatched(o)})
}

// wrong says what makes no sense about a silence, or "".
func (o SilenceOrder) wrong() string {
	switch {
	case o.For <= 0 || o.For > maxSilence:
		return "a silence ends after at most 90 days; say when with --for"
	case len(o.Why) > 1000:
		return "the reason is longer than 1000 bytes"
	case max(len(o.Unit), len(o.Project), len(o.Label), len(o.Rule)) > maxWord:
		return fmt.Sprintf("a pattern is longer than %d bytes", maxWord)
	}
	return ""
}

func (s *Server) unsilence(w http.ResponseWriter, r *http.Request) {
	n := s.teller(w)
	if n == nil {
		return
	}
	id := strings.ToUpper(r.PathValue("id"))
	var was notify.Silence
	for _, one := range n.Silences() {
		if one.ID == id {
			was = one
		}
	}
	err := n.RemoveSilence(id)
	if errors.Is(err, notify.ErrNoSilence) {
		err = &UnknownError{Text: fmt.Sprintf("there is no silence %.40q", id), Hint: "`defib silence ls` lists those that have not ended"}
	}
	if err != nil {
		s.fail(w, err)
		return
	}
	s.o.Log.Info("silence removed", "id", id, "by", r.RemoteAddr)
	was.ID = cmp.Or(was.ID, id)
	send(w, Silenced{Version: Version, Silence: was})
}

// body reads a request, or answers what is wrong with it.
func body(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		refuse(w, http.StatusBadRequest, "read the order: "+err.Error(), "the command may be newer than the daemon; see `defib version`")
		return false
	}
	return true
}

// troubled picks the channels that people should know of when they look at
// anything: those that are parked or out of reach, or on which something waits,
// such as a call that is refused.
func troubled(n Notifier) []notify.ChannelStatus {
	if n == nil {
		return nil
	}
	var out []notify.ChannelStatus
	for _, c := range n.Channels() {
		if !c.Parked.IsZero() || !c.Silent.IsZero() || c.Waiting > 0 {
			out = append(out, c)
		}
	}
	return out
}
