package notify

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needServer returns the path of a real server for a test. Debian has them:
//
//	apt-get install --no-install-recommends prometheus-alertmanager python3-aiosmtpd
//
// Without REQUIRE_SERVERS a test skips where they are not.
func needServer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("REQUIRE_SERVERS") != "" {
		t.Fatalf("%s is not there: %v", name, err)
	}
	t.Skipf("%s is not there; see needServer for how to get it", name)
	return ""
}

// freePort returns an address on loopback that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startServer runs a server until the test ends.
func startServer(t *testing.T, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...) //nolint:noctx // it is ended below, after what the test still asks of it
	var log strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Dir = &log, &log, t.TempDir()
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(path), log.String())
		}
	})
}

// eventually asks until it is so. A real server has a real clock.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not within 30 s", what)
}

type liveAlert struct {
	Labels   map[string]string `json:"labels"`
	StartsAt time.Time         `json:"startsAt"`
}

// live returns the alerts that Alertmanager holds for active.
func live(t *testing.T, base string) []liveAlert {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v2/alerts", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var alerts []liveAlert
	if err := json.Unmarshal(b, &alerts); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return alerts
}

func runAlertmanager(t *testing.T) string {
	t.Helper()
	path := needServer(t, "prometheus-alertmanager")
	dir, at := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "am.yml")
	if err := os.WriteFile(config, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, path, "--config.file="+config, "--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+at, "--cluster.listen-address=")
	base := "http://" + at
	eventually(t, "Alertmanager is ready", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/-/ready", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return base
}

// The real Alertmanager: an alert fires once however often it is sent and
// whatever its rule becomes, ends when it is resolved, and ends by itself when
// nobody sends it again. It takes one that began in the future, too.
func TestAlertmanagerReal(t *testing.T) {
	base := runAlertmanager(t)
	a := alertSink(t, http.DefaultTransport, base)
	fire, resolve := gaveUp(), resolvedStory()
	fire.Story.Incident.Opened = time.Now().Add(-time.Minute).Truncate(time.Millisecond).UTC()
	resolve.Story.Incident.Opened, resolve.Story.Incident.Closed = fire.Story.Incident.Opened, time.Now()

	for _, rule := range []string{"gave_up", "exited"} {
		fire.Story.Incident.Rule = rule
		fire.Ref = send(t, a, fire)
	}
	eventually(t, "it fires", func() bool { return len(live(t, base)) == 1 })
	got := live(t, base)[0]
	if got.Labels["container"] != "vllm-llama70b" || got.Labels["severity"] != "critical" || got.Labels["rule"] != "gave_up" || !got.StartsAt.Equal(fire.Story.Incident.Opened) {
		t.Errorf("got %+v", got)
	}

	resolve.Ref = fire.Ref
	send(t, a, resolve)
	eventually(t, "it is resolved", func() bool { return len(live(t, base)) == 0 })

	ahead := fire
	ahead.Ref, ahead.Story.Incident.Opened, ahead.Story.Incident.ID = nil, time.Now().Add(time.Hour), "INC-AHEAD"
	ahead.Ref = send(t, a, ahead)
	eventually(t, "what began in the future fires", func() bool { return len(live(t, base)) == 1 })
	ahead.Kind, ahead.Story.Incident.Closed = KindResolve, time.Now()
	send(t, a, ahead)
	eventually(t, "and is resolved", func() bool { return len(live(t, base)) == 0 })

	a.hold = 2 * time.Second
	fire.Story.Incident.Name, fire.Ref = "other", nil
	send(t, a, fire)
	eventually(t, "it fires again", func() bool { return len(live(t, base)) == 1 })
	eventually(t, "it ends when nobody sends it", func() bool { return len(live(t, base)) == 0 })
}
