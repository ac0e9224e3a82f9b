package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

const (
	uuid0 = "GPU-3f2a0000-aaaa-bbbb-cccc-000000000000"
	uuid1 = "GPU-3f2b0000-aaaa-bbbb-cccc-000000000001"
)

func twoGPUs() []policy.GPUStatus {
	pid := []gpu.Process{{PID: 4242, Name: "python3"}}
	return []policy.GPUStatus{
		{
			Device: gpu.Device{UUID: uuid0, Index: 0, PCI: "0000:3b:00.0", Name: "NVIDIA H100"}, Units: []string{"web"},
			Reading: gpu.Reading{UUID: uuid0, At: noon.Add(-time.Minute), Used: 10, Total: 80, Listed: true, Processes: pid},
			Hold:    &policy.Hold{Reason: policy.HoldGPU, Scope: policy.ScopeGPU, Target: uuid0, Why: "Xid 79"},
		},
		{Device: gpu.Device{UUID: uuid1, Index: 1, PCI: "0000:5e:00.0"}, Reading: gpu.Reading{UUID: uuid1, At: noon, Temperature: 40}},
	}
}

func gpuView() *watcher.View {
	v := viewOf(web())
	v.GPUs = twoGPUs()
	v.Host.GPU.Driver = gpu.Driver{State: gpu.DriverUp, Version: "580.95.05"}
	v.Host.GPU.KernelLog = "the kernel log cannot be read"
	return v
}

// TestGPUs wants the newer of what the policy heard and what the probe shows,
// with the processes that were listed last.
func TestGPUs(t *testing.T) {
	live := func() (gpu.Driver, []gpu.Reading) {
		return gpu.Driver{State: gpu.DriverHung, Detail: "it does not answer"}, []gpu.Reading{
			{UUID: "GPU-foreign", At: noon},
			{UUID: uuid0, At: noon, Used: 20, Total: 80},
			{UUID: uuid1, At: noon.Add(-time.Second), Temperature: 90},
		}
	}
	want := GPUs{Version: 1, At: noon, Driver: gpu.Driver{State: gpu.DriverUp, Version: "580.95.05"}, KernelLog: "the kernel log cannot be read", GPUs: twoGPUs()}
	got, err := serve(t, &fakeLoop{view: gpuView()}, &fakeArchive{}).GPUs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the view alone: %s", d)
	}
	c := serveWith(t, Options{Loop: &fakeLoop{view: gpuView()}, Archive: &fakeArchive{}, LiveGPUs: live})
	if got, err = c.GPUs(t.Context()); err != nil {
		t.Fatal(err)
	}
	want.Driver, _ = live()
	r := &want.GPUs[0].Reading
	r.At, r.Used = noon, 20
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("with the probe: %s", d)
	}
	if d := cmp.Diff(twoGPUs(), gpuView().GPUs); d != "" {
		t.Errorf("the view was changed: %s", d)
	}
}

func TestNoGPUs(t *testing.T) {
	got, err := serve(t, &fakeLoop{view: viewOf()}, &fakeArchive{}).GPUs(t.Context())
	if err != nil || got.GPUs == nil || len(got.GPUs) != 0 {
		t.Errorf("got %v, %v; want an empty list", got.GPUs, err)
	}
}

// TestGPUsOfAUnit wants a unit's own GPUs beside it, and the held ones of the
// host in the status.
func TestGPUsOfAUnit(t *testing.T) {
	c := serve(t, &fakeLoop{view: gpuView()}, &fakeArchive{})
	u, err := c.Unit(t.Context(), "web")
	if err != nil || len(u.GPUs) != 1 || u.GPUs[0].UUID != uuid0 {
		t.Errorf("got %v, %v; want GPU 0", u.GPUs, err)
	}
	st, err := c.Status(t.Context(), false)
	if err != nil || cmp.Diff([]string{"0"}, st.Host.GPUsHeld) != "" {
		t.Errorf("got %v, %v; want 0", st.Host.GPUsHeld, err)
	}
}

func TestFindGPU(t *testing.T) {
	for _, c := range []struct{ name, want, err string }{
		{"0", uuid0, ""},
		{"all", "", "there is no GPU \"all\"|give an index (0, 1), or a UUID or PCI address of `defib gpus -o wide`"},
		{"1", uuid1, ""},
		{uuid1, uuid1, ""},
		{strings.ToUpper(uuid1), uuid1, ""},
		{"GPU-3f2a", uuid0, ""},
		{"gpu-3f2b0", uuid1, ""},
		{"0000:5e:00.0", uuid1, ""},
		{"GPU-3f2", "", "there is no GPU \"GPU-3f2\"|give an index (0, 1), or a UUID or PCI address of `defib gpus -o wide`"},
		{"GPU-3f2b0000-aaaa-bbbb-cccc-0000000000011", "", "there is no GPU \"GPU-3f2b0000-aaaa-bbbb-cccc-0000000000011\"|give an index (0, 1), or a UUID or PCI address of `defib gpus -o wide`"},
		{"2", "", "there is no GPU \"2\"|give an index (0, 1), or a UUID or PCI address of `defib gpus -o wide`"},
		{"", "", "there is no GPU \"\"|give an index (0, 1), or a UUID or PCI address of `defib gpus -o wide`"},
	} {
		g, err := FindGPU(twoGPUs(), c.name)
		got := ""
		if unknown, ok := errors.AsType[*UnknownError](err); ok {
			got = unknown.Text + "|" + unknown.Hint
		}
		if g.UUID != c.want || got != c.err {
			t.Errorf("FindGPU(%q) = %q, %q; want %q, %q", c.name, g.UUID, got, c.want, c.err)
		}
	}
	same := []policy.GPUStatus{{Device: gpu.Device{UUID: "GPU-00001"}}, {Device: gpu.Device{UUID: "GPU-00002", Index: 1}}}
	if _, err := FindGPU(same, "GPU-0000"); err == nil || err.Error() != `"GPU-0000" begins the UUIDs of 2 GPUs` {
		t.Errorf("got %v", err)
	}
	if _, err := FindGPU(nil, "0"); err == nil || err.Error() != "defib knows of no GPU on this host" {
		t.Errorf("got %v", err)
	}
}

// TestGPUOrders tells how a reset and a release go, and wants the answer.
func TestGPUOrders(t *testing.T) {
	note := func(rule, reason string, gpus ...string) policy.Decision {
		return policy.Decision{ID: 8, Verb: policy.VerbNote, Rule: rule, Reason: reason, GPUs: gpus}
	}
	begun := note("gpu_reset", "reset of GPU 0 by li: web is stopped for it", uuid0)
	stop := policy.Decision{ID: 9, Unit: key, Verb: policy.VerbStop, Rule: "gpu_reset"}
	after := func(ds ...policy.Decision) []watcher.Committed {
		return []watcher.Committed{decided(stop), outcomeOf(9, policy.OutcomeOK, ""), decided(ds...)}
	}
	done := note("gpu_reset_done", "GPU 0 was reset and is well", uuid0)
	failed := note("gpu_reset_failed", "GPU 0 is in use by another client", uuid0)
	for _, c := range []struct {
		name    string
		order   policy.Order
		wait    bool
		decided []policy.Decision
		after   []watcher.Committed
		want    Result
		text    string
	}{
		{"reset begun", policy.OrderReset, false, []policy.Decision{begun, stop}, after(done), Begun, begun.Reason},
		{"reset done", policy.OrderReset, true, []policy.Decision{begun, stop}, after(done), Done, done.Reason},
		{"reset failed", policy.OrderReset, true, []policy.Decision{begun}, after(failed), Failed, failed.Reason},
		{"failed at once", policy.OrderReset, false, []policy.Decision{failed}, nil, Failed, failed.Reason},
		{"of another GPU", policy.OrderReset, true, []policy.Decision{begun}, after(note("gpu_reset_done", "GPU 1", uuid1), note("refused", "no such order"), failed), Failed, failed.Reason},
		{"defib ends meanwhile", policy.OrderReset, true, []policy.Decision{begun}, after(), Begun, begun.Reason},
		{"reset refused", policy.OrderReset, true, []policy.Decision{note("refused", "one is under way")}, after(done), Refused, "one is under way"},
		{"released", policy.OrderRelease, false, []policy.Decision{note("released", "GPU 0 is released")}, nil, Done, "GPU 0 is released"},
		{"not held", policy.OrderRelease, false, []policy.Decision{note("refused", "GPU 0 is not held")}, nil, Refused, "GPU 0 is not held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			loop := &fakeLoop{view: gpuView(), after: c.after, do: func(policy.Command) ([]policy.Decision, error) { return c.decided, nil }}
			got, err := serve(t, loop, &fakeArchive{}).Do(t.Context(), Order{Command: policy.Command{Order: c.order, GPU: "0"}, Wait: c.wait})
			if err != nil {
				t.Fatal(err)
			}
			if got.Result != c.want || got.Text != c.text || got.Unit != nil || got.GPU == nil || got.GPU.UUID != uuid0 {
				t.Errorf("got %s %q of %v; want %s %q of GPU 0", got.Result, got.Text, got.GPU, c.want, c.text)
			}
			if loop.cmds[0].GPU != uuid0 {
				t.Errorf("the policy got GPU %q, want its UUID", loop.cmds[0].GPU)
			}
		})
	}
}

func TestReleaseAllGPUs(t *testing.T) {
	loop := &fakeLoop{view: viewOf()}
	c := serve(t, loop, &fakeArchive{})
	if _, err := c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderRelease, GPU: AllGPUs}}); err != nil || loop.cmds[0].GPU != AllGPUs {
		t.Errorf("got %v, %v; want it taken as it is", loop.cmds, err)
	}
	if _, err := c.Do(t.Context(), Order{Command: policy.Command{Order: policy.OrderReset, GPU: AllGPUs}}); err == nil {
		t.Error("a reset of all GPUs was taken")
	}
}

func TestMetricsRoute(t *testing.T) {
	var out strings.Builder
	var unknown *UnknownError
	if err := serve(t, &fakeLoop{}, &fakeArchive{}).Metrics(t.Context(), &out); !errors.As(err, &unknown) {
		t.Errorf("got %v, want an UnknownError of a daemon without metrics", err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("defib_x 1\n")) })
	c := serveWith(t, Options{Loop: &fakeLoop{}, Archive: &fakeArchive{}, Metrics: h})
	if err := c.Metrics(t.Context(), &out); err != nil || out.String() != "defib_x 1\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}
