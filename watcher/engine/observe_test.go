package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// bare is a session that can translate, without an engine.
func bare(t testing.TB, host string) *session {
	t.Helper()
	e, err := New(Options{
		Host: host, Now: time.Now, Watch: policy.Default().OptIn,
		Mask: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") },
	})
	if err != nil {
		t.Fatal(err)
	}
	e.proc, e.cdi = t.TempDir(), nil
	return newSession(e, nil, nil)
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// TestObserveRecordedInspect is what one real answer becomes, whole.
func TestObserveRecordedInspect(t *testing.T) {
	r := testdata[container.InspectResponse](t, "inspect.json")
	s := bare(t, "")
	got := s.observe(r, at("2026-11-22T00:41:33.486553275Z"))
	missing := `OCI runtime exec failed: exec failed: unable to start container process: exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown`
	want := policy.Observation{
		Container: "31218f1dfd512d728e843143ec4f5030f0bcdd86e49f38a275eb25affef8f015",
		Name:      "engrec", Image: "defib-engine-exp:1",
		ImageID:    "sha256:62e80dc8423166a36974f395b78b3e3d52d8643e718ce12492bf8770db4a135b",
		ConfigHash: got.ConfigHash,
		Labels:     map[string]string{"defib.enable": "true", "defib.test": "engine"},
		Created:    parseTime(r.Created), Status: "running", Running: true,
		StartedAt: at("2026-11-22T00:41:23.486553275Z"), Uptime: 10 * time.Second,
		RestartPolicy: "unless-stopped", StopSignal: 2, StopTimeout: 20 * time.Second,
		Mounts: []string{"/var/lib/docker/volumes/engvol/_data"},
		Health: &policy.Health{
			Status: "unhealthy", FailingStreak: 2, Interval: time.Second, Timeout: 30 * time.Second, Retries: 2,
			Log: []policy.Probe{
				{Start: at("2026-11-22T00:41:24.488012833Z"), End: at("2026-11-22T00:41:24.53096883Z"), ExitCode: -1, Output: missing},
				{Start: at("2026-11-22T00:41:25.532244504Z"), End: at("2026-11-22T00:41:25.583595885Z"), ExitCode: -1, Output: missing},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("observation (-want +got):\n%s", diff)
	}
	if len(got.ConfigHash) != 12 {
		t.Errorf("configuration hash %q, want 12 digits", got.ConfigHash)
	}
}

func TestObserve(t *testing.T) {
	two, none, forever := 2, 0, -1
	for _, tc := range []struct {
		name string
		edit func(r *container.InspectResponse)
		want func(o *policy.Observation)
	}{
		{"crashed", func(r *container.InspectResponse) {
			*r.State = container.State{Status: "exited", ExitCode: 137, OOMKilled: true, StartedAt: r.State.StartedAt, FinishedAt: "2026-11-22T00:41:30Z"}
		}, func(o *policy.Observation) {
			o.Status, o.Running, o.ExitCode, o.OOMKilled, o.FinishedAt = "exited", false, 137, true, at("2026-11-22T00:41:30Z")
			o.Uptime, o.Health = 0, nil
		}},
		{"in Docker's backoff", func(r *container.InspectResponse) {
			r.State.Status, r.State.Restarting, r.State.ExitCode, r.RestartCount = "restarting", true, 1, 4
		}, func(o *policy.Observation) {
			o.Status, o.Restarting, o.ExitCode, o.RestartCount, o.Uptime = "restarting", true, 1, 4, 0
		}},
		{"paused", func(r *container.InspectResponse) { r.State.Status, r.State.Paused = "paused", true }, func(o *policy.Observation) {
			o.Status, o.Paused = "paused", true
		}},
		{"a start that failed", func(r *container.InspectResponse) {
			*r.State = container.State{Status: "created", ExitCode: 128, Error: "password hunter2 refused", StartedAt: "0001-01-01T00:00:00Z", FinishedAt: "0001-01-01T00:00:00Z"}
		}, func(o *policy.Observation) {
			o.Status, o.Running, o.ExitCode, o.Error = "created", false, 128, "password *** refused"
			o.StartedAt, o.Uptime, o.Health = time.Time{}, 0, nil
		}},
		{"started after the call was sent", func(r *container.InspectResponse) { r.State.StartedAt = "2026-11-22T00:41:40Z" }, func(o *policy.Observation) {
			o.StartedAt, o.Uptime = at("2026-11-22T00:41:40Z"), 0
		}},
		{"a probe that ran out of time", func(r *container.InspectResponse) {
			r.State.Health.Log = []*container.HealthcheckResult{nil, {ExitCode: -1, Output: "Health check exceeded timeout (3s): token=hunter2"}}
		}, func(o *policy.Observation) {
			o.Health.Log = []policy.Probe{{ExitCode: -1, Output: "Health check exceeded timeout (3s): token=***"}}
		}},
		{"probes with exit codes", func(r *container.InspectResponse) {
			r.State.Health = &container.Health{Status: "starting", FailingStreak: 0}
			for code := range 7 {
				r.State.Health.Log = append(r.State.Health.Log, &container.HealthcheckResult{ExitCode: 120 + code})
			}
		}, func(o *policy.Observation) {
			o.Health.Status, o.Health.FailingStreak = "starting", 0
			o.Health.Log = []policy.Probe{{ExitCode: 122}, {ExitCode: 123}, {ExitCode: 124}, {ExitCode: 125}, {ExitCode: 126}}
		}},
		{"a check that was switched off", func(r *container.InspectResponse) { r.State.Health.Status = "none" }, func(o *policy.Observation) { o.Health = nil }},
		{"Podman's empty health", func(r *container.InspectResponse) { r.State.Health = &container.Health{} }, func(o *policy.Observation) { o.Health = nil }},
		{"Docker's defaults", func(r *container.InspectResponse) { r.Config.Healthcheck = nil }, func(o *policy.Observation) {
			o.Health.Interval, o.Health.Timeout, o.Health.Retries = 30*time.Second, 30*time.Second, 3
		}},
		{"stop settings", func(r *container.InspectResponse) { r.Config.StopSignal, r.Config.StopTimeout = "", nil }, func(o *policy.Observation) {
			o.StopSignal, o.StopTimeout = 0, 0
		}},
		{"stop at once", func(r *container.InspectResponse) { r.Config.StopTimeout = &none }, func(o *policy.Observation) { o.StopTimeout = time.Second }},
		{"stop in 2 s", func(r *container.InspectResponse) { r.Config.StopTimeout = &two }, func(o *policy.Observation) { o.StopTimeout = 2 * time.Second }},
		{"stop without end", func(r *container.InspectResponse) { r.Config.StopTimeout = &forever }, func(o *policy.Observation) { o.StopTimeout = time.Hour }},
		{"GPUs by UUID and index", func(r *container.InspectResponse) {
			r.HostConfig.DeviceRequests = []container.DeviceRequest{
				{Capabilities: [][]string{{"gpu", "compute"}}, DeviceIDs: []string{"GPU-5a", "1"}}, {Driver: "nvidia", DeviceIDs: []string{"1"}},
			}
		}, func(o *policy.Observation) {
			o.GPU = &gpu.Claim{Source: "--gpus", Certain: true, IDs: []string{"1", "GPU-5a"}}
		}},
		{"all GPUs", func(r *container.InspectResponse) {
			r.HostConfig.DeviceRequests = []container.DeviceRequest{{Driver: "nvidia", Count: -1}}
		}, func(o *policy.Observation) { o.GPU = &gpu.Claim{Source: "--gpus", Certain: true, All: true} }},
		{"two GPUs, whichever", func(r *container.InspectResponse) {
			r.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: 2, Capabilities: [][]string{{"utility"}, {"gpu"}}}}
		}, func(o *policy.Observation) { o.GPU = &gpu.Claim{Source: "--gpus", Certain: true, First: 2} }},
		{"other devices", func(r *container.InspectResponse) {
			r.HostConfig.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"vendor.com/net=0"}}}
		}, func(*policy.Observation) {}},
		{"mounts that everybody has", func(r *container.InspectResponse) {
			r.Mounts = nil
			for _, source := range []string{"/models", "/var/run/docker.sock", "/dev/shm", "/dev", "/proc", "/sys/fs/cgroup", "/etc/timezone", "/device", "/models"} {
				r.Mounts = append(r.Mounts, container.MountPoint{Type: mount.TypeBind, Source: source})
			}
			r.Mounts = append(r.Mounts, container.MountPoint{Type: mount.TypeTmpfs, Source: "x"}, container.MountPoint{Type: mount.TypeVolume, Name: "nfs"})
		}, func(o *policy.Observation) { o.Mounts = []string{"/device", "/models", "nfs"} }},
		{"no limit to words", func(r *container.InspectResponse) {
			r.State.Error = strings.Repeat("é", 1<<20)
			r.State.Health.Log = []*container.HealthcheckResult{{Output: strings.Repeat("a", 1500) + "hunter2"}, {Output: "\xff\xfehunter2"}}
		}, func(o *policy.Observation) {
			o.Error = strings.Repeat("é", 512)
			o.Health.Log = []policy.Probe{{Output: strings.Repeat("a", 1024)}, {Output: "�***"}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := bare(t, "")
			now := at("2026-11-22T00:41:33.486553275Z")
			want := s.observe(testdata[container.InspectResponse](t, "inspect.json"), now)
			r := testdata[container.InspectResponse](t, "inspect.json")
			tc.edit(&r)
			got := s.observe(r, now)
			tc.want(&want)
			want.ConfigHash = got.ConfigHash
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("observation (-want +got):\n%s", diff)
			}
			if !utf8.ValidString(got.Error) {
				t.Error("the error is no valid text")
			}
		})
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "15": 15, "SIGTERM": 15, "term": 15, "SIGQUIT": 3, "SIGRTMIN+3": 37, "RTMIN": 34, "RTMAX-1": 63, "SIGKILL": 9,
		"nonsense": 0, "-1": 0, "999": 0,
	} {
		if got := parseSignal(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestConfigHash(t *testing.T) {
	hash := func(edit func(r *container.InspectResponse)) string {
		r := testdata[container.InspectResponse](t, "inspect.json")
		edit(&r)
		return configHash(r)
	}
	base := hash(func(*container.InspectResponse) {})
	for name, edit := range map[string]func(r *container.InspectResponse){
		"names":         func(r *container.InspectResponse) { r.ID, r.Name, r.Config.Hostname = "x", "/y", "z" },
		"policy":        func(r *container.InspectResponse) { r.HostConfig.RestartPolicy.Name = "no" },
		"our labels":    func(r *container.InspectResponse) { r.Config.Labels["defib.op"] = "1a2b3c4d" },
		"compose":       func(r *container.InspectResponse) { r.Config.Labels["com.docker.compose.version"] = "5.5" },
		"order of env":  func(r *container.InspectResponse) { r.Config.Env = []string{r.Config.Env[0]} },
		"state":         func(r *container.InspectResponse) { r.State.Health = nil },
		"image moved":   func(r *container.InspectResponse) { r.Image = "sha256:other" }, // ImageID tells that
		"donor created": func(r *container.InspectResponse) { r.HostConfig.NetworkMode = "container:abc" },
	} {
		if hash(edit) != base {
			t.Errorf("%s: another hash, want the same", name)
		}
	}
	seen := map[string]string{base: "nothing"}
	for name, edit := range map[string]func(r *container.InspectResponse){
		"image": func(r *container.InspectResponse) { r.Config.Image = "vllm:2" },
		"cmd":   func(r *container.InspectResponse) { r.Config.Cmd = []string{"--tp", "2"} },
		"entry": func(r *container.InspectResponse) { r.Config.Entrypoint = []string{"/other"} },
		"env":   func(r *container.InspectResponse) { r.Config.Env = append(r.Config.Env, "A=b") },
		"label": func(r *container.InspectResponse) { r.Config.Labels["team"] = "x" },
		"check": func(r *container.InspectResponse) { r.Config.Healthcheck.Retries = 9 },
		"bind":  func(r *container.InspectResponse) { r.HostConfig.Binds = append(r.HostConfig.Binds, "/a:/b") },
		"gpu": func(r *container.InspectResponse) {
			r.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: 1}}
		},
		"memory": func(r *container.InspectResponse) { r.HostConfig.Memory = 1 << 30 },
		"device": func(r *container.InspectResponse) {
			r.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/nvidia0"}}
		},
	} {
		h := hash(edit)
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[h] = name
	}
}

// Docker's own words for a time, read back, are never wrong about it.
func TestReadAge(t *testing.T) {
	for d := time.Duration(0); d < 900*24*time.Hour; d = d*11/10 + 333*time.Millisecond {
		atLeast, atMost := readAge(units.HumanDuration(d))
		if d < atLeast || d > atMost {
			t.Fatalf("%q is read as %v to %v; it is %v", units.HumanDuration(d), atLeast, atMost, d)
		}
	}
	for _, text := range []string{"", "x", "a while", "-1 seconds", "99999999999999 years", "5 fortnights"} {
		if atLeast, atMost := readAge(text); atLeast != 0 || atMost != 0 {
			t.Errorf("%q is read as %v to %v", text, atLeast, atMost)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for text, want := range map[string]statusText{
		"Up 3 minutes":                     {up: true, atLeast: 3 * time.Minute, atMost: 4 * time.Minute},
		"Up 5 seconds (healthy)":           {up: true, health: "healthy", atLeast: 5 * time.Second, atMost: 6 * time.Second},
		"Up About a minute (unhealthy)":    {up: true, health: "unhealthy", atLeast: time.Minute, atMost: 2 * time.Minute},
		"Up 2 hours (health: starting)":    {up: true, health: "starting", atLeast: 90 * time.Minute, atMost: 3 * time.Hour},
		"Up 2 hours (Paused)":              {up: true, atLeast: 90 * time.Minute, atMost: 3 * time.Hour},
		"Exited (137) 2 seconds ago":       {ended: true, exitCode: 137, atLeast: 2 * time.Second, atMost: 3 * time.Second},
		"Restarting (1) 59 seconds ago":    {ended: true, exitCode: 1, atLeast: 59 * time.Second, atMost: time.Minute},
		"Created":                          {},
		"Dead":                             {},
		"Removal In Progress":              {},
		"":                                 {},
		"Exited":                           {ended: true},
		"Exited (many) (nonsense) x y ago": {ended: true},
	} {
		if got := parseStatus(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestFindSelf(t *testing.T) {
	me, proxy, other := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
	mountinfo := fmt.Sprintf(`500 400 0:50 / / rw - overlay overlay rw
501 500 8:1 /var/lib/docker/containers/%s/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw
502 500 8:1 /var/lib/docker/containers/%s/mounts/shm /var/lib/docker/containers/%s/mounts/shm rw - tmpfs shm rw
`, me, other, other)
	on := func(id, name, service string, networks ...string) container.Summary {
		c := container.Summary{ID: id, Names: []string{"/" + name}, State: "running", Labels: map[string]string{"com.docker.compose.service": service}}
		c.NetworkSettings = &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{}}
		for i, n := range networks {
			c.NetworkSettings.Networks[n] = &network.EndpointSettings{IPAddress: fmt.Sprintf("172.18.%d.%c", i, id[0]-'a'+'1')}
		}
		return c
	}
	published := on(proxy, "proxy", "")
	published.Ports = []container.Port{{PublicPort: 2375}}
	for _, tc := range []struct {
		name, host, mountinfo, cgroup string
		list                          []container.Summary
		want                          map[string]string
	}{
		{"on the host", "unix:///s", "", "0::/system.slice/defib.service\n", []container.Summary{on(me, "defib", "")}, map[string]string{}},
		{"by its mounts", "unix:///s", mountinfo, "0::/\n", []container.Summary{on(me, "defib", ""), on(other, "x", "")}, map[string]string{me: whySelf}},
		{"by its cgroup", "unix:///s", "", "4:cpu:/docker/" + me + "\n", []container.Summary{on(me, "defib", "")}, map[string]string{me: whySelf}},
		{"in a container of another engine", "unix:///s", mountinfo, "", []container.Summary{on(proxy, "x", "")}, map[string]string{}},
		{
			"proxy by service", "tcp://proxy:2375", mountinfo, "",
			[]container.Summary{on(me, "p-defib-1", "defib", "p_default"), on(proxy, "p-proxy-1", "proxy", "p_default"), on(other, "q-proxy-1", "proxy", "q_default")},
			map[string]string{me: whySelf, proxy: whyCarrier},
		},
		{
			"proxy by name", "tcp://sock:2375", mountinfo, "",
			[]container.Summary{on(me, "defib", "", "n"), on(proxy, "sock", "", "m", "n")},
			map[string]string{me: whySelf, proxy: whyCarrier},
		},
		{"proxy by address", "tcp://172.18.0.2:2375", "", "", []container.Summary{on(proxy, "x", "", "n"), on(other, "y", "", "n")}, map[string]string{proxy: whyCarrier}},
		{"proxy by its port on the host", "tcp://127.0.0.1:2375", "", "", []container.Summary{published, on(other, "y", "", "n")}, map[string]string{proxy: whyCarrier}},
		{"no proxy", "tcp://10.0.0.9:2375", "", "", []container.Summary{published, on(other, "y", "", "n")}, map[string]string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := bare(t, tc.host)
			write(t, filepath.Join(s.proc, "self", "mountinfo"), tc.mountinfo)
			write(t, filepath.Join(s.proc, "self", "cgroup"), tc.cgroup)
			s.findSelf(tc.list)
			if diff := cmp.Diff(tc.want, s.self); diff != "" {
				t.Errorf("self (-want +got):\n%s", diff)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHostUptime(t *testing.T) {
	s := bare(t, "unix:///s")
	if up := s.hostUptime(); up != 0 {
		t.Errorf("%v without /proc/uptime, want 0", up)
	}
	write(t, filepath.Join(s.proc, "uptime"), "1237.13 2339.66\n")
	if up := s.hostUptime(); up != 1237130*time.Millisecond {
		t.Errorf("%v, want 1237.13s", up)
	}
	far := bare(t, "tcp://10.0.0.1:2375")
	far.proc = s.proc
	if up := far.hostUptime(); up != 0 {
		t.Errorf("%v for an engine elsewhere, want 0", up)
	}
}

func TestHealers(t *testing.T) {
	for _, tc := range []struct {
		image, title string
		st           start
		kind         string
		labels       []string
	}{
		{"willfarrell/autoheal:1.2.0", "", start{known: true}, "autoheal", []string{"autoheal"}},
		{"willfarrell/autoheal", "", start{known: true, env: map[string]string{"AUTOHEAL_CONTAINER_LABEL": "all"}}, "autoheal", []string{"all"}},
		{"ghcr.io/x/docker-autoheal@sha256:00", "", start{known: true, env: map[string]string{"AUTOHEAL_CONTAINER_LABEL": "heal.me"}}, "autoheal", []string{"heal.me"}},
		{"tmknight/docker-autoheal", "", start{known: true}, "autoheal", []string{"autoheal.monitor.enable"}},
		{"tmknight/docker-autoheal", "", start{known: true, env: map[string]string{"AUTOHEAL_MONITOR_ALL": "TRUE"}}, "autoheal", []string{"all"}},
		{"ghcr.io/kristof-mattei/autoheal-rs", "", start{known: true}, "autoheal", []string{"all"}},
		{"qmcgaw/deunhealth:v0.3", "", start{}, "deunhealth", []string{"deunhealth.restart.on.unhealthy"}},
		{"sha256:12ab", "Docker-Guardian", start{}, "docker-guardian", []string{"autoheal"}},
		{"ghcr.io/defib-dev/defib:1", "", start{known: true, args: []string{"run"}}, "defib", []string{"defib.enable", "autoheal", "deunhealth.restart.on.unhealthy"}},
		{"defib", "", start{known: true, args: []string{"run", "--all"}}, "defib", []string{"all"}},
		{"nginx:1", "", start{}, "", nil},
		{"defib-demo-fakeinfer", "", start{}, "", nil},
	} {
		c := container.Summary{Image: tc.image, Labels: map[string]string{"org.opencontainers.image.title": tc.title}}
		kind := healerKind(&c)
		if kind != tc.kind {
			t.Errorf("%s: kind %q, want %q", tc.image, kind, tc.kind)
		}
		if kind == "" {
			continue
		}
		if diff := cmp.Diff(tc.labels, healerLabels(kind, tc.image, tc.st)); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", tc.image, diff)
		}
	}
}

func TestPermissionNamesTheGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	write(t, path, "")
	gid, name := socketGroup(path)
	want := fmt.Sprintf("no permission to use the Docker socket %s: run defib as root, or put its user into the group %s (usermod -aG %s USER; in a container: --group-add %s)", path, name, name, gid)
	if got := Explain(&PermissionError{Host: "unix://" + path}); got != want || gid == "" {
		t.Errorf("explained as\n%s\nwant\n%s", got, want)
	}
}
