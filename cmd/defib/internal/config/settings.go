package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
)

// Input is what settings are resolved from.
type Input struct {
	Flags  map[string]string   // those that were given, by name without dashes
	Getenv func(string) string // an empty variable counts as not set
	UID    int
	Exists func(path string) bool // of a file; only ClientSocket asks
}

// Settings is everything one daemon runs with.
type Settings struct {
	File      string // the configuration file; empty for none
	StateDir  string
	Socket    string
	Host      string // of the Docker engine, as unix:// or tcp://
	LogFormat string // auto, text or json
	LogLevel  slog.Level
	Config    Config
	Sources   Sources // of the file's keys, and of the settings above by flag name
}

// The places of the system's daemon, which runs as root.
const (
	systemSocket = "/run/defib/defib.sock"
	systemState  = "/var/lib/defib"
	dockerHost   = "unix:///var/run/docker.sock"
)

// Resolve settles every setting: a flag beats DEFIB_*, which beats the file,
// which beats the default. Its error joins all that is wrong.
func Resolve(in Input) (Settings, error) {
	s := Settings{Config: Default(), Sources: Sources{}}
	var errs []error
	if s.File, _ = in.get("config", s.Sources); s.File != "" {
		cfg, src, err := Load(s.File)
		if err != nil {
			return Settings{}, err
		}
		s.Config = cfg
		maps.Copy(s.Sources, src)
	}
	errs = append(errs,
		in.flag("all", "watch.all", &s.Config.Policy.All, s.Sources),
		in.flag("observe", "watch.observe", &s.Config.Policy.Observe, s.Sources),
		in.logging(&s), in.places(&s))
	if v, src := in.get("socket-group", nil); v != "" {
		s.Config.API.Group, s.Sources["api.group"] = v, src
	}
	errs = append(errs, in.dropIns(&s))
	s.Config.Policy.Sources = s.Sources.ofPolicy()
	return s, errors.Join(errs...)
}

// ofPolicy are the sources of the policy's values, by their names there.
func (s Sources) ofPolicy() map[string]string {
	out := map[string]string{}
	for key, source := range s {
		section, name, _ := strings.Cut(key, ".")
		if section == "policy" || section == "watch" {
			out[name] = source
		}
		if key == "gpu.reset" {
			out["gpu_reset_offer"] = source
		}
	}
	return out
}

// get looks a setting up in the flags, then in the environment, and notes its
// source when src is not nil.
func (in Input) get(name string, src Sources) (value, source string) {
	if v, ok := in.Flags[name]; ok {
		value, source = v, "flag --"+name
	} else if v := in.Getenv(Env(name)); v != "" {
		value, source = v, Env(name)
	}
	if src != nil && source != "" {
		src[name] = source
	}
	return value, source
}

// Env is the environment variable of a flag: DEFIB_STATE_DIR for state-dir.
func Env(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (in Input) flag(name, key string, dst *bool, src Sources) error {
	v, source := in.get(name, nil)
	if source == "" {
		return nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%s: want true or false, have %q", source, clip(v))
	}
	*dst, src[key] = b, source
	return nil
}

func (in Input) logging(s *Settings) error {
	var errs []error
	formats := []string{"auto", "text", "json"}
	s.LogFormat = "auto"
	if v, source := in.get("log-format", s.Sources); source != "" {
		s.LogFormat = strings.ToLower(v)
		errs = append(errs, oneOf(source, v, formats))
	}
	if v, source := in.get("log-level", s.Sources); source != "" {
		errs = append(errs, oneOf(source, v, []string{"debug", "info", "warn", "error"}))
		_ = s.LogLevel.UnmarshalText([]byte(v)) // oneOf has said what is wrong with it
	}
	return errors.Join(errs...)
}

func oneOf(source, v string, words []string) error {
	for _, w := range words {
		if strings.EqualFold(v, w) {
			return nil
		}
	}
	text := fmt.Sprintf("%s: want %s, have %q", source, strings.Join(words, ", "), clip(v))
	if near := suggest.Closest(v, words); near != "" {
		text += "; did you mean " + near + "?"
	}
	return errors.New(text)
}

// places settles where the state, the socket and the engine are.
func (in Input) places(s *Settings) error {
	var err error
	s.StateDir, err = in.stateDir(s.Sources)
	if s.Socket, _ = in.get("socket", s.Sources); s.Socket == "" {
		s.Socket = in.daemonSocket(s.StateDir)
	}
	if s.Host, _ = in.get("host", s.Sources); s.Host == "" {
		if s.Host = in.Getenv("DOCKER_HOST"); s.Host != "" {
			s.Sources["host"] = "DOCKER_HOST"
		} else {
			s.Host = dockerHost
		}
	}
	return err
}

// StateDir is where state is kept. Nothing else of the input need be right.
func StateDir(in Input) (string, error) { return in.stateDir(nil) }

func (in Input) stateDir(src Sources) (string, error) {
	if dir, _ := in.get("state-dir", src); dir != "" {
		return dir, nil
	}
	if in.UID == 0 {
		return systemState, nil
	}
	if base := in.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "defib"), nil
	}
	if home := in.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "defib"), nil
	}
	return "", errors.New("there is no home directory to keep state in: give --state-dir")
}

// daemonSocket is where the daemon listens when nobody said where. A state
// directory that somebody chose carries its socket with it, so that two
// daemons on two directories do not meet.
func (in Input) daemonSocket(stateDir string) string {
	if _, source := in.get("state-dir", nil); source != "" {
		return filepath.Join(stateDir, "defib.sock")
	}
	if in.UID == 0 {
		return systemSocket
	}
	if base := in.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, "defib", "defib.sock")
	}
	return filepath.Join(stateDir, "defib.sock")
}

// ClientSocket is where a command looks for the daemon: where this user's
// daemon would listen, or else, if only that one is there, the system's.
func ClientSocket(in Input) string {
	if s, _ := in.get("socket", nil); s != "" {
		return s
	}
	dir, err := in.stateDir(nil)
	own := in.daemonSocket(dir)
	if chosen, _ := in.get("state-dir", nil); chosen != "" {
		return own
	}
	if err != nil || !in.Exists(own) && in.Exists(systemSocket) {
		return systemSocket
	}
	return own
}
