package itest

import (
	"strings"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// apart keeps the failures of one test's containers from being taken for one
// event.
func apart() map[string]string {
	return map[string]string{"panic_window": "1ms", "unhealthy_for": "1s", "gpu_budget": "1000", "budget_min": "1000"}
}

// gpuRig is a daemon on an engine and a host with GPUs, with containers that
// are up.
type gpuRig struct {
	*GPUs
	e      *Engine
	r      *Recorder
	b      *Binaries
	d      *Daemon
	count  int // of GPUs
	specs  []Spec
	unit   map[string]*Container
	worker map[string]int // PIDs, of those that have one
}

// newGPURig starts an engine and runs the containers on it.
func newGPURig(t *testing.T, count int, specs ...Spec) *gpuRig {
	t.Helper()
	g := NewGPUs(t, count)
	e, r, b := rig(t)
	k := &gpuRig{GPUs: g, e: e, r: r, b: b, count: count, specs: specs, unit: map[string]*Container{}, worker: map[string]int{}}
	for _, s := range specs {
		k.unit[s.Name] = e.Run(t, s)
	}
	return k
}

// on is another host with GPUs, and a daemon of its own, on the same engine.
// The daemon and the containers end with the test.
func (k *gpuRig) on(t *testing.T, g *GPUs, count int, specs ...Spec) *gpuRig {
	t.Helper()
	next := &gpuRig{GPUs: g, e: k.e, r: k.r, b: k.b, count: count, specs: specs, unit: map[string]*Container{}, worker: map[string]int{}}
	t.Cleanup(func() {
		if err := k.e.removeContainers(); err != nil {
			t.Errorf("remove the containers: %v", err)
		}
	})
	for _, s := range specs {
		next.unit[s.Name] = k.e.Run(t, s)
	}
	return next
}

// start runs the daemon, and waits until it knows the GPUs and all containers
// are up.
func (k *gpuRig) start(t *testing.T, policies, settings map[string]string) {
	t.Helper()
	k.d = Start(t, k.b, k.Options(k.e, policies, settings))
	k.Up(t, k.d, k.count)
	k.running(t)
}

func (k *gpuRig) running(t *testing.T) {
	t.Helper()
	for _, s := range k.specs {
		k.d.UntilState(t, soon, s.Name, policy.Running)
	}
}

// ends ends the worker of a container, and with it its use of a GPU.
func (k *gpuRig) ends(t *testing.T, index int, name string) {
	t.Helper()
	k.unit[name].KillProcess(t, k.worker[name])
	k.Processes(t, index, 0)
}

// decided waits for what is decided on a container by a rule.
func (k *gpuRig) decided(t *testing.T, within time.Duration, name string, verb policy.Verb, rule string) policy.Decision {
	t.Helper()
	return k.d.UntilDecided(t, within, string(verb)+" of "+name+" by the rule "+rule, func(d policy.Decision) bool {
		return d.Name == name && d.Verb == verb && d.Rule == rule
	})
}

// wants compares what the engine and defib say was done to containers.
func (k *gpuRig) wants(t *testing.T, seen map[string]int, verbs []policy.Verb, names ...string) {
	t.Helper()
	for _, name := range names {
		wantCounts(t, k.r, name, seen)
		wantActs(t, k.d, name, verbs...)
	}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: got %q, which does not say %q", what, text, p)
		}
	}
}
