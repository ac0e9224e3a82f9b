package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestErrors(t *testing.T) {
	unreachable := func(err error) bool { _, ok := errors.AsType[*UnreachableError](err); return ok }
	permission := func(err error) bool { _, ok := errors.AsType[*PermissionError](err); return ok }
	version := func(err error) bool { _, ok := errors.AsType[*VersionError](err); return ok }
	for _, tc := range []struct {
		name   string
		set    func(f *fake)
		is     func(error) bool
		text   string
		within time.Duration
	}{
		{"no socket", func(f *fake) { f.ln.denyWith(syscall.ENOENT) }, unreachable, "no Docker Engine at unix:///run/fake.sock: the socket does not exist; start Docker, mount the socket into defib's container, or name another with --host", 0},
		{"nobody listens", func(f *fake) { f.ln.denyWith(syscall.ECONNREFUSED) }, unreachable, "no Docker Engine at unix:///run/fake.sock: nothing listens there; start Docker (systemctl start docker) or name another address with --host", 0},
		{"no permission", func(f *fake) { f.ln.denyWith(fs.ErrPermission) }, permission, "no permission to use the Docker socket /run/fake.sock: run defib as root or as a member of the socket's group", 0},
		{"no answer", func(f *fake) { f.hang("/_ping", time.Hour) }, unreachable, "the Docker Engine at unix:///run/fake.sock does not answer in time; look at its log (journalctl -u docker) and at the network between", 5 * time.Second},
		{"no stream", func(f *fake) { f.hang("/events", time.Hour) }, unreachable, "the Docker Engine at unix:///run/fake.sock does not answer in time; look at its log (journalctl -u docker) and at the network between", 10 * time.Second},
		{"too old", func(f *fake) { f.headers["Api-Version"] = "1.22" }, version, "the Docker Engine at unix:///run/fake.sock is too old (API 1.22): defib needs API 1.24, Docker 1.12 or newer: upgrade Docker", 0},
		{"too old to say so", func(f *fake) {
			delete(f.headers, "Api-Version")
			f.refuse["/info"] = "400 client is newer than server (client API version: 1.24, server API version: 1.20)"
		}, version, "the Docker Engine at unix:///run/fake.sock is too old (API unknown): defib needs API 1.24, Docker 1.12 or newer: upgrade Docker", 0},
		{"too new", func(f *fake) {
			f.headers["Api-Version"] = "1.99"
			f.refuse["/info"] = "400 client version 1.51 is too old. Minimum supported API version is 1.60, please upgrade your client to a newer version"
		}, version, "the Docker Engine at unix:///run/fake.sock no longer speaks the API versions that this defib knows (Error response from daemon: client version 1.51 is too old. Minimum supported API version is 1.60, please upgrade your client to a newer version): upgrade defib", 0},
		{"a proxy refuses", func(f *fake) { f.refuse["/info"] = "403 Forbidden" }, permission, "the proxy before the Docker Engine at unix:///run/fake.sock refuses GET /info: allow it there (defib reads /_ping, /info, /events and /containers, and restarts with POST /containers)", 0},
		{"a proxy refuses the ping", func(f *fake) { f.refuse["/_ping"] = "403 Forbidden" }, permission, "the proxy before the Docker Engine at unix:///run/fake.sock refuses GET /_ping: allow it there (defib reads /_ping, /info, /events and /containers, and restarts with POST /containers)", 0},
		{"no Docker Engine", func(f *fake) { f.refuse["/_ping"] = "404 x" }, unreachable, `lost the Docker Engine at unix:///run/fake.sock: its ping says 404 Not Found: {"message":"x"}`, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				tc.set(f)
				began := time.Now()
				w := watch(t, f.engine(Options{}))
				err := w.ended()
				if took := time.Since(began); took != tc.within {
					t.Errorf("returned after %v, want %v", took, tc.within)
				}
				if !tc.is(err) {
					t.Errorf("Watch returned a %T", err)
				}
				if got := Explain(err); got != tc.text {
					t.Errorf("explained as\n%s\nwant\n%s", got, tc.text)
				}
				w.want("source_down (" + tc.text + ")")
			})
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	ok := Options{Watch: func(map[string]string) (string, string) { return "", "" }, Now: time.Now}
	for host, want := range map[string]string{
		"ssh://gpu-03":           `docker host "ssh://gpu-03": ssh:// is not supported; use unix:// or tcp:// (for ssh, forward the socket first: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST)`,
		"/var/run/docker.sock":   `docker host "/var/run/docker.sock": write it as unix:///path/to/docker.sock or tcp://name:port`,
		"unix:///var/run/d.sock": "",
		"tcp://10.0.0.1:2376":    "",
	} {
		o := ok
		o.Host = host
		if _, err := New(o); fmt.Sprint(err) != cmpOr(want, "<nil>") {
			t.Errorf("%s: %v, want %s", host, err, want)
		}
	}
	t.Setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
	e, err := New(ok)
	if err != nil || e.Host() != "unix:///run/user/1000/docker.sock" {
		t.Errorf("DOCKER_HOST: %v", err)
	}
	t.Setenv("DOCKER_CERT_PATH", t.TempDir())
	ok.Host = "tcp://10.0.0.1:2376"
	if _, err := New(ok); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing TLS files: %v", err)
	}
}

func cmpOr(s, or string) string {
	if s == "" {
		return or
	}
	return s
}
