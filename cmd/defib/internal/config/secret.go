package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Secret is a token, a key or a URL that holds one. The configuration says
// where it is; [Notify.ReadSecrets] reads it. However it is printed, it says
// *** and no more.
type Secret struct {
	File string  // holds it; "" when Env is set
	Env  string  // the variable that holds it
	text *string // a pointer: fmt prints what a wrong verb meets, but follows none
}

// maxSecret bounds a file that holds one secret, in bytes.
const maxSecret = 64 << 10

// hidden stands for every secret.
const hidden = "***"

// Given reports whether the configuration says where the secret is.
func (s Secret) Given() bool { return s.File != "" || s.Env != "" }

// Reveal returns the secret itself; "" until it was read.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String implements [fmt.Stringer].
func (Secret) String() string { return hidden }

// Format implements [fmt.Formatter]: no verb shows more than another.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON implements [encoding/json.Marshaler].
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Equal reports whether both are found at the same place; what is there does
// not count.
func (s Secret) Equal(o Secret) bool { return s.File == o.File && s.Env == o.Env }

// read fetches the secret. Its error names the place, never what is there.
func (s *Secret) read(getenv func(string) string) error {
	var text, where string
	if s.Env != "" {
		text, where = strings.TrimSpace(getenv(s.Env)), "the variable "+s.Env
		if text == "" {
			return fmt.Errorf("%s is not set", where)
		}
	} else {
		data, err := readSecret(s.File)
		if err != nil {
			return err
		}
		text, where = strings.TrimSpace(data), s.File
		if text == "" {
			return fmt.Errorf("%s is empty", where)
		}
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%s holds more than one line; write the secret alone into it", where)
	}
	s.text = &text
	return nil
}

// readSecret reads path. Its errors do not call it a secret: the mask would take
// the word after that for one.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read its file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read its file: %w", err)
	case len(data) > maxSecret:
		return "", fmt.Errorf("%s is larger than 64 KiB; is it the right file?", path)
	}
	return string(data), nil
}

// The ways in which a file may name a secret, and the one in which it may not.
type (
	secretFile   struct{ *Secret }
	secretEnv    struct{ *Secret }
	secretInline struct{ name string } // of the key; the others are name_file and name_env
)

// secretFields are the keys of one secret.
func secretFields(name string, s *Secret) []field {
	return []field{{name + "_file", secretFile{s}}, {name + "_env", secretEnv{s}}, {name, secretInline{name}}}
}

// assignSecretFile takes a path. What stands there instead may be the secret
// itself, so it is not repeated.
func assignSecretFile(dst secretFile, n ast.Node) string {
	var s string
	if assignString(&s, n) != "" || s != "" && !filepath.IsAbs(s) {
		return "want the path of a file that holds it, beginning with /"
	}
	dst.File = s
	return ""
}

// assignSecretEnv takes the name of a variable.
func assignSecretEnv(dst secretEnv, n ast.Node) string {
	var s string
	if assignString(&s, n) != "" || s != "" && !isVariable(s) {
		return "want the name of a variable that holds it, in capitals, such as DEFIB_SLACK_TOKEN"
	}
	dst.Env = s
	return ""
}

// isVariable tells the name of a variable from a key that was put in its
// place: one of capitals and digits without an underscore is taken for a key.
func isVariable(s string) bool {
	const capitals, digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_", "0123456789"
	if len(s) > 64 || strings.ContainsAny(s[:1], digits) || strings.Trim(s, capitals+digits) != "" {
		return false
	}
	return strings.Contains(s, "_") || !strings.ContainsAny(s, digits) && len(s) <= 24
}

func inlineText(name string) string {
	return fmt.Sprintf("a secret never stands in this file; put it into a file of its own and name that by %s_file, or name a variable by %s_env", name, name)
}

// ReadSecrets fetches every secret that the section names. Its error joins all
// that is missing, each with its place by src.
func (n *Notify) ReadSecrets(getenv func(string) string, src Sources) error {
	var errs []error
	read := func(prefix, name string, s *Secret) {
		if !s.Given() {
			return
		}
		key := prefix + name + "_file"
		if s.Env != "" {
			key = prefix + name + "_env"
		}
		if err := s.read(getenv); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", src.Of(key), key, err))
		}
	}
	for i := range n.Channels {
		c := &n.Channels[i]
		for _, one := range c.secrets() {
			read(fmt.Sprintf("notify.channels[%d].", i), one.name, one.at)
		}
	}
	read("notify.heartbeat.", "url", &n.Heartbeat.URL)
	return errors.Join(errs...)
}

// ReadSecrets fetches the secrets of one channel anew. Its error says which it
// could not.
func (ch *Channel) ReadSecrets(getenv func(string) string) error {
	for _, one := range ch.secrets() {
		if !one.at.Given() {
			continue
		}
		if err := one.at.read(getenv); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}
