package itest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/watcher/policy"
)

// Options say how to run defib. The zero value, with a host, is what most
// tests want.
type Options struct {
	Host     string
	Args     []string          // further flags
	Policy   map[string]string // settings under policy:, over those of Fast
	GPU      map[string]string // settings under gpu:; see [GPUs.Options]
	Notify   string            // the lines of the section notify, its name included
	Env      []string
	StateDir string // a new one if empty
}

// Fast is the configuration that tests run with: the same rules with shorter
// times.
func Fast() map[string]string {
	return map[string]string{
		"start_seconds": "500ms", "backoff_base": "200ms", "useful_min": "1s", "useful_max": "2s",
		"confirm_stop": "1s", "settle": "1s", "settle_boot": "1ms", "panic_window": "3s",
		"absent_ttl": "2s",
	}
}

// Daemon is a running `defib run`.
type Daemon struct {
	Client   *api.Client
	StateDir string
	Socket   string
	Opened   time.Time // when the process was started

	binary string
	args   []string
	env    []string
	mu     sync.Mutex
	out    bytes.Buffer // all it wrote, of all its runs
	proc   *process
}

// Start runs defib and waits until it has looked at every container. It is
// stopped with the test.
func Start(t testing.TB, b *Binaries, o Options) *Daemon {
	t.Helper()
	d := Launch(t, b, o)
	d.Ready(t)
	return d
}

// Launch is Start without the wait.
func Launch(t testing.TB, b *Binaries, o Options) *Daemon {
	t.Helper()
	dir := o.StateDir
	if dir == "" {
		dir = shortDir(t)
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte(yaml(o)), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{StateDir: dir, Socket: filepath.Join(dir, "defib.sock"), binary: b.Defib, env: o.Env}
	d.Client = api.NewClient(d.Socket)
	d.args = append([]string{
		"run", "--host", o.Host, "--state-dir", dir, "--config", config, "--log-format", "json", "--log-level", "debug",
	}, o.Args...)
	t.Cleanup(func() {
		if d.proc == nil {
			return
		}
		if t.Failed() {
			t.Logf("what it took note of:\n%s", d.events())
		}
		if _, err := d.end(syscall.SIGTERM); err != nil {
			t.Errorf("stop defib: %v", err)
		}
		if t.Failed() {
			t.Logf("what defib said:\n%s", d.Output())
		}
	})
	d.Again(t)
	return d
}

func yaml(o Options) string {
	settings := Fast()
	maps.Copy(settings, o.Policy)
	return "version: 1\n" + section("policy", settings) + section("gpu", o.GPU) + o.Notify
}

func section(name string, settings map[string]string) string {
	if len(settings) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(name + ":\n")
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "  %s: %s\n", k, settings[k])
	}
	return b.String()
}

// Again starts the process once more, after it ended, on the same state.
func (d *Daemon) Again(t testing.TB) {
	t.Helper()
	cmd := exec.Command(d.binary, d.args...) //nolint:noctx // the test ends it by a signal
	cmd.Env = append(cleanEnv(), d.env...)
	cmd.Stdout, cmd.Stderr = d, d
	d.Opened = time.Now()
	p, err := follow(cmd)
	if err != nil {
		t.Fatalf("start defib: %v", err)
	}
	d.proc = p
}

// events is the event log, for a test that failed.
func (d *Daemon) events() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, d.binary, "events", "--since", "1h", "--socket", d.Socket).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return string(out)
}

// cleanEnv is the environment without what would configure defib.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "DEFIB_") || strings.HasPrefix(kv, "DOCKER_")
	})
}

// Write takes what the process writes.
func (d *Daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.Write(p)
}

// Output is all that it wrote so far.
func (d *Daemon) Output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.String()
}

// Stop sends SIGTERM and returns the exit code and how long it took.
func (d *Daemon) Stop(t testing.TB) (code int, took time.Duration) {
	t.Helper()
	begin := time.Now()
	code, err := d.end(syscall.SIGTERM)
	if err != nil {
		t.Fatalf("stop defib: %v", err)
	}
	return code, time.Since(begin)
}

// Kill ends it with SIGKILL.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	if _, err := d.end(syscall.SIGKILL); err != nil {
		t.Fatalf("kill defib: %v", err)
	}
}

// Ended waits until it ends by itself and returns its exit code.
func (d *Daemon) Ended(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-d.proc.done:
	case <-time.After(within):
		t.Fatalf("defib still runs after %v", within)
	}
	return d.proc.cmd.ProcessState.ExitCode()
}

// Runs reports whether the process is there.
func (d *Daemon) Runs() bool { return d.proc.runs() }

func (d *Daemon) end(sig syscall.Signal) (int, error) {
	err := d.proc.end(sig, soon)
	return d.proc.cmd.ProcessState.ExitCode(), err
}

// Ready waits until it has looked at every container.
func (d *Daemon) Ready(t testing.TB) {
	t.Helper()
	d.Until(t, soon, "defib is in step with the engine", func(s api.Status) bool {
		return s.Host.Connected && s.Host.Synced
	})
}

// asking bounds one question to a daemon, so that none hangs a test.
func asking(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), soon)
}

// Status is what `defib status` shows.
func (d *Daemon) Status(t testing.TB) api.Status {
	t.Helper()
	ctx, cancel := asking(t)
	defer cancel()
	s, err := d.Client.Status(ctx, true)
	if err != nil {
		t.Fatalf("ask for the status: %v", err)
	}
	return s
}

// Unit returns one unit by its name; its State is empty if it is not there.
func Unit(s api.Status, name string) policy.Status {
	for _, u := range s.Units {
		if u.Name == name {
			return u
		}
	}
	return policy.Status{}
}

// Until waits until the status satisfies the condition. It asks again and
// again, since what it waits for depends on a real engine.
func (d *Daemon) Until(t testing.TB, within time.Duration, what string, met func(api.Status) bool) api.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var s api.Status
	var err error
	for {
		if s, err = d.Client.Status(ctx, true); err == nil && met(s) {
			return s
		}
		select {
		case <-d.proc.done:
			t.Fatalf("waiting until %s: defib ended with %v", what, d.proc.cmd.ProcessState)
		case <-ctx.Done():
			t.Fatalf("not within %v: %s\nerror: %v\nstatus:\n%s", within, what, err, describe(s))
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// UntilState waits until a unit is in one of the states.
func (d *Daemon) UntilState(t testing.TB, within time.Duration, name string, states ...policy.State) policy.Status {
	t.Helper()
	s := d.Until(t, within, fmt.Sprintf("%s is in %v", name, states), func(s api.Status) bool {
		return slices.Contains(states, Unit(s, name).State)
	})
	return Unit(s, name)
}

// describe says what a status said, for a test that failed.
func describe(s api.Status) string {
	var b strings.Builder
	for _, u := range s.Units {
		fmt.Fprintf(&b, "%-14s %s (%s) %s: %s; health %s; next %s; why not %q\n",
			u.Name, u.State, u.Detail, u.Rule, u.Reason, u.Health, u.Next, u.WhyNot)
	}
	return b.String()
}

// Incidents are those since the first start of this daemon, oldest first.
func (d *Daemon) Incidents(t testing.TB) []policy.Incident {
	t.Helper()
	ctx, cancel := asking(t)
	defer cancel()
	got, err := d.Client.Incidents(ctx, time.Time{})
	if err != nil {
		t.Fatalf("ask for the incidents: %v", err)
	}
	slices.Reverse(got.Incidents)
	return got.Incidents
}

// UntilClosed waits until the newest incident of a unit has ended.
func (d *Daemon) UntilClosed(t testing.TB, within time.Duration, name string) policy.Incident {
	t.Helper()
	var last policy.Incident
	d.Until(t, within, "the incident of "+name+" is closed", func(api.Status) bool {
		for _, in := range d.Incidents(t) {
			if in.Name == name {
				last = in
			}
		}
		return !last.Closed.IsZero()
	})
	return last
}

// UntilDecided waits until something has been decided that is as it should be,
// and returns it.
func (d *Daemon) UntilDecided(t testing.TB, within time.Duration, what string, is func(policy.Decision) bool) policy.Decision {
	t.Helper()
	var found policy.Decision
	d.Until(t, within, "it is decided: "+what, func(api.Status) bool {
		all := d.Decisions(t)
		i := slices.IndexFunc(all, is)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// Decisions returns what was decided, oldest first.
func (d *Daemon) Decisions(t testing.TB) []policy.Decision {
	t.Helper()
	var out []policy.Decision
	for _, l := range d.Lines(t) {
		out = append(out, l.Decisions...)
	}
	return out
}

// Lines returns the event log: what was learned, and what was decided on it.
func (d *Daemon) Lines(t testing.TB) []api.Line {
	t.Helper()
	var out []api.Line
	ctx, cancel := asking(t)
	defer cancel()
	err := d.Client.Events(ctx, math.MaxInt64, "", false, func(l api.Line) error {
		out = append(out, l)
		return nil
	})
	if err != nil {
		t.Fatalf("read the events: %v", err)
	}
	return out
}

// Acts returns the acts among the decisions.
func (d *Daemon) Acts(t testing.TB) []policy.Decision {
	t.Helper()
	return slices.DeleteFunc(d.Decisions(t), func(dec policy.Decision) bool { return !dec.Verb.Act() })
}

// Order gives an operator's order and returns the answer.
func (d *Daemon) Order(t testing.TB, c policy.Command) api.Answer {
	t.Helper()
	ctx, cancel := asking(t)
	defer cancel()
	a, err := d.Client.Do(ctx, api.Order{Command: c})
	if err != nil {
		t.Fatalf("order %s: %v", c.Order, err)
	}
	return a
}

// CLI runs a command of defib against this daemon and returns what it printed
// and its exit code.
func (d *Daemon) CLI(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return d.CLIWithin(t, soon, args...)
}

// CLIWithin is CLI for what takes long.
func (d *Daemon) CLIWithin(t testing.TB, within time.Duration, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.binary, append(args, "--socket", d.Socket)...)
	cmd.Env = cleanEnv()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run defib %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
