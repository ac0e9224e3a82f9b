package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/defib-dev/defib/actions/notify"
	"github.com/defib-dev/defib/cmd/defib/internal/api"
	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

var update = flag.Bool("update", false, "write the golden file anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type fakeLoop struct {
	view *watcher.View
	sick error
}

func (f fakeLoop) View() *watcher.View     { return f.view }
func (f fakeLoop) Healthy(time.Time) error { return f.sick }

const hostile = "\x1b[31m\xff\"\\\n"

func options(v *watcher.View) Options {
	return Options{
		Loop: fakeLoop{view: v}, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler), GPU: true, KernelLog: true,
		Build: api.Build{Defib: "v1.2.3", Revision: "c0ffee", Go: "go1.26.0"},
	}
}

// full has everything that a scrape can show.
func full() *watcher.View {
	none, reset := gpu.RecoverNone, gpu.RecoverReset
	device := func(i int, uuid string) gpu.Device {
		return gpu.Device{UUID: uuid, Index: i, PCI: "0000:3b:00.0", Name: "NVIDIA H100"}
	}
	hold := &policy.Hold{Reason: policy.HoldGPU}
	return &watcher.View{
		Observe: true, Acts: []watcher.ActCount{{Verb: policy.VerbRestart, Class: policy.OutcomeOK, N: 7}}, Pages: 2,
		Host: policy.Host{
			Connected: true, Holds: []policy.Hold{{Reason: policy.HoldOperator, Scope: policy.ScopeHost}},
			GPU: policy.GPUHost{
				Driver: gpu.Driver{State: gpu.DriverUp}, KernelLog: "permission denied",
				GPUs: []policy.GPU{{Device: device(0, "GPU-0"), Faults: []gpu.Fault{
					{Kind: gpu.FaultXid, Code: 31},
					{Kind: gpu.FaultXid, Code: 48},
					{Kind: gpu.FaultXid, Code: 79},
					{Kind: gpu.FaultXid, Code: -1},
					{Kind: gpu.FaultBusLoss},
					{Kind: gpu.FaultInit},
				}}},
			},
		},
		Units: []policy.Status{
			{Name: "web", State: policy.Running, Since: noon, Restarts24h: 2},
			{Name: "llm", State: policy.Held, Since: noon.Add(-1500 * time.Millisecond)},
			{Name: hostile, State: policy.Unknown},
		},
		Incidents: []policy.Incident{{Level: policy.LevelPage}, {Level: policy.LevelPage}, {Level: policy.LevelWarn}},
		GPUs: []policy.GPUStatus{
			{Device: device(0, "GPU-0"), Hold: hold, Reading: gpu.Reading{UUID: "GPU-0", Recovery: &reset, Temperature: 61, Used: 1 << 30, Total: 80 << 30}},
			{Device: device(1, "GPU-1"), Reading: gpu.Reading{UUID: "GPU-1", Recovery: &none}},
			{Device: device(2, "GPU-2")},
			{Device: device(2, "GPU-twice")},
			{Device: device(-1, "GPU-gone"), Hold: hold},
			{Device: gpu.Device{UUID: "GPU-nowhere", Index: -1}},
		},
	}
}

// scrape returns the exposition in Prometheus' own text form.
func scrape(t *testing.T, o Options) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(o).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// channels are one that works and one that is parked.
func channels() []notify.ChannelStatus {
	return []notify.ChannelStatus{
		{Name: "ops", Sent: 12, Failed: map[notify.Reason]uint64{notify.ReasonServer: 2}},
		{Name: "oncall", Parked: noon, Waiting: 3, Oldest: noon.Add(-90 * time.Second), Dropped: 1, Failed: map[notify.Reason]uint64{notify.ReasonAuth: 4}},
	}
}

func TestExposition(t *testing.T) {
	o := options(full())
	o.LiveGPUs = func() (gpu.Driver, []gpu.Reading) {
		return gpu.Driver{State: gpu.DriverHung}, []gpu.Reading{{UUID: "GPU-1", At: noon, Temperature: 40, Total: 80 << 30}}
	}
	o.Channels = channels
	got := scrape(t, o)
	const path = "testdata/metrics.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func TestLint(t *testing.T) {
	o := options(full())
	o.Channels = channels
	problems, err := testutil.GatherAndLint(registry(o))
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
	}
}

// TestStarting wants only what is known before the first view.
func TestStarting(t *testing.T) {
	o := options(nil)
	o.Loop = fakeLoop{sick: errors.New("defib is still starting")}
	got := scrape(t, o)
	for _, want := range []string{`defib_build_info{goversion="go1.26.0",revision="c0ffee",version="v1.2.3"} 1`, "defib_healthy 0"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "defib_docker_connected") {
		t.Errorf("more is told than is known:\n%s", got)
	}
}

func TestWithoutGPUs(t *testing.T) {
	o := options(full())
	o.KernelLog = false
	if got := scrape(t, o); strings.Contains(got, "kernel_log") || !strings.Contains(got, "defib_gpu_driver_up 1\n") {
		t.Errorf("got:\n%s", got)
	}
	o.GPU = false
	if got := scrape(t, o); strings.Contains(got, "gpu") {
		t.Errorf("got:\n%s", got)
	}
}

// TestManyContainers bounds the series.
func TestManyContainers(t *testing.T) {
	v := &watcher.View{}
	for i := range maxContainers + 50 {
		v.Units = append(v.Units, policy.Status{Name: fmt.Sprintf("c%03d", i), State: policy.Running, Since: noon, Restarts24h: 1})
	}
	v.Units = append(v.Units, policy.Status{Name: "c000", State: policy.Fatal}) // its name twice, for a moment
	got := scrape(t, options(v))
	for _, want := range []string{
		`defib_container_state{container="other",state="running"} 50`, `defib_container_recent_restarts{container="other"} 50`,
		`defib_container_state{container="c000",state="running"} 1`, `defib_container_state{container="c000",state="fatal"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(got, "defib_container_recent_restarts{"); n != maxContainers+1 {
		t.Errorf("%d containers, want %d", n, maxContainers+1)
	}
	if strings.Contains(got, `timestamp_seconds{container="other"}`) {
		t.Error("other has an age")
	}
}

func TestLabel(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"web", "web"},
		{"\x1b[31mred\n", "?[31mred?"},
		{"a\xffb", "a\ufffdb"},
		{strings.Repeat("é", 3000), strings.Repeat("é", maxLabel)},
	} {
		if got := label(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

// TestServe wants /metrics on a port, and nothing else.
func TestServe(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), ln.Addr().String()); err == nil || !strings.HasSuffix(err.Error(), "; choose another metrics.listen") {
		t.Errorf("got %v, want the way out", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	o := options(full())
	go func() { done <- Serve(ctx, ln, Handler(o), o.Log) }()
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{http.MethodGet, "/metrics", 200},
		{http.MethodGet, "/", 404},
		{http.MethodGet, "/v1/status", 404},
		{http.MethodPost, "/v1/command", 404},
		{http.MethodPost, "/metrics", 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+ln.Addr().String()+c.path, bytes.NewReader([]byte("{}")))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.code || strings.Contains(string(body), "defib_healthy 1\n") != (c.code == 200) {
			t.Errorf("%s %s: got %d, %.100s", c.method, c.path, resp.StatusCode, body)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("got %v, want a quiet end", err)
	}
	if err := Serve(t.Context(), ln, Handler(o), o.Log); err == nil {
		t.Error("no error of a closed listener")
	}
}
