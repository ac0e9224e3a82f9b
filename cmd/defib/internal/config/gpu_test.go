package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseGPU(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       func(*Config)
	}{
		{"off", "gpu: {enabled: false, reset: off}\n", func(c *Config) { c.GPU.Enabled = false }},
		{"paths", "gpu:\n  library: /opt/nvidia/libnvidia-ml.so.1\n  kernel_log: \"\"\n", func(c *Config) {
			c.GPU.Library, c.GPU.KernelLog = "/opt/nvidia/libnvidia-ml.so.1", ""
		}},
		{"poll", "gpu: {poll: 1s}\n", func(c *Config) { c.GPU.Poll = time.Second }},
		{"reset is offered", "gpu:\n  reset: ask\n  reset_command: [\"/opt/reset\", \"--gpu={gpu}\", 7]\n", func(c *Config) {
			c.Policy.GPUResetOffer, c.GPU.ResetCommand = true, []string{"/opt/reset", "--gpu={gpu}", "7"}
		}},
		{"metrics", "metrics: {listen: \"[::1]:9494\"}\n", func(c *Config) { c.Metrics.Listen = "[::1]:9494" }},
		{"metrics everywhere", "metrics: {listen: \":9494\"}\n", func(c *Config) { c.Metrics.Listen = ":9494" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := Default()
			c.want(&want)
			got, _, err := Parse("c.yaml", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestGPUProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"gpu: {reset: always}", `1:14: gpu.reset: want off or ask, have "always"`},
		{"gpu: {reset: true}", `1:14: gpu.reset: want off or ask, have true`},
		{"gpu: {library: libnvidia-ml.so.1}", `1:7: gpu.library: want a path that begins with /, have "libnvidia-ml.so.1"`},
		{"gpu: {kernel_log: kmsg}", `1:7: gpu.kernel_log: want a path that begins with /, have "kmsg"`},
		{"gpu: {poll: 10ms}", `1:7: gpu.poll: 10ms must be at least 1s`},
		{"gpu: {reset_command: nvidia-smi}", `1:22: gpu.reset_command: want a list such as ["first", "second"], have "nvidia-smi"`},
		{"gpu: {reset_command: [[a]]}", `1:22: gpu.reset_command: want a text, have a list`},
		{"gpu: {reset_command: []}", `1:7: gpu.reset_command: names no program; delete the line to keep the default`},
		{"gpu: {reset_command: [\"{gpu}\"]}", `1:7: gpu.reset_command: no argument holds {gpu}, so it would not reset the GPU that is meant`},
		{"metrics: {listen: 127.0.0.1}", `1:11: metrics.listen: want an address with a port such as 127.0.0.1:9494, have "127.0.0.1"`},
		{"metrics: {listen: \"localhost:0\"}", `1:11: metrics.listen: want an address with a port such as 127.0.0.1:9494, have "localhost:0"`},
		{"metrics: {listen: \"localhost:http\"}", `1:11: metrics.listen: want an address with a port such as 127.0.0.1:9494, have "localhost:http"`},
	} {
		_, _, err := Parse("c.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%s: no error", c.text)
			continue
		}
		if got, _, _ := strings.Cut(err.Error(), "\n"); got != "c.yaml:"+c.want {
			t.Errorf("%s: got %s, want %s", c.text, got, c.want)
		}
	}
}

func TestSourceOfReset(t *testing.T) {
	file := write(t, "gpu: {reset: ask}\n")
	s, err := Resolve(Input{Flags: map[string]string{"config": file}, Getenv: env()})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Config.Policy.Sources["gpu_reset_offer"]; got != "config.yaml:1" || !s.Config.Policy.GPUResetOffer {
		t.Errorf("got %q, %v; want config.yaml:1 and true", got, s.Config.Policy.GPUResetOffer)
	}
}
