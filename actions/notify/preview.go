package notify

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher/policy"
)

// Samples are stories that happen, by the name of their event: repaired,
// gave_up, gpu_held, storm, flapping, resolved, acked, start and alarm. They
// are what `defib notify preview` shows, and they are always the same.
func Samples() map[string]Story {
	return map[string]Story{
		"repaired": sampleRepaired(), "gave_up": sampleGaveUp(), "gpu_held": sampleGPUHeld(), "storm": sampleStorm(),
		"flapping": sampleFlapping(), "resolved": sampleResolved(), "acked": sampleAcked(), "start": sampleStart(), "alarm": sampleAlarm(),
	}
}

// SampleNames returns the events of [Samples], by name.
func SampleNames() []string { return slices.Sorted(maps.Keys(Samples())) }

// SampleKind is the kind of message that tells an event of [Samples].
func SampleKind(event string) Kind {
	switch event {
	case "repaired", "resolved":
		return KindResolve
	case "acked":
		return KindAck
	case "start":
		return KindTest
	case "alarm":
		return KindAlarm
	}
	return KindPost
}

// sampleAt is so long after the beginning of every sample.
func sampleAt(after time.Duration) time.Time {
	return time.Date(2026, 3, 14, 3, 7, 12, 0, time.UTC).Add(after)
}

func sampleHost(in policy.Incident, after time.Duration) Story {
	return Story{Host: "gpu-03", Version: "0.4.0", Incident: in, Now: sampleAt(after)}
}

func sampleStep(after time.Duration, rule, text string) policy.Step {
	return policy.Step{At: sampleAt(after), Rule: rule, Text: text}
}

func sampleRepaired() Story {
	s := sampleHost(policy.Incident{
		ID: "INC-4Q2X", Rev: 6, Unit: "rag/tei-embed/1", Name: "tei-embed", Opened: sampleAt(0), Closed: sampleAt(108 * time.Second), End: "recovered",
		Level: policy.LevelInfo, Rule: "unhealthy", Cause: "its health check fails: “connection refused”", Repairs: 1, Failures: 1,
		Steps: []policy.Step{
			sampleStep(0, "unhealthy", "its health check fails: “connection refused”"),
			sampleStep(0, "unhealthy", "restart: its health check fails: “connection refused” (attempt 1)"),
			sampleStep(48*time.Second, "ready", "it is up again"),
			sampleStep(108*time.Second, "recovered", "it has been well for 60 s"),
		},
	}, 108*time.Second)
	s.Unit = &policy.Status{
		Key: "rag/tei-embed/1", Name: "tei-embed", Project: "rag", Image: "ghcr.io/huggingface/text-embeddings-inference:1.8", State: policy.Running,
		Rule: "running", Since: sampleAt(48 * time.Second), Health: "healthy", Restarts24h: 1, Next: "watching",
	}
	return s
}

func sampleGaveUp() Story {
	cause := "it exited with 1; 3 attempts in a row have not helped"
	s := sampleHost(policy.Incident{
		ID: "INC-7F3K", Rev: 11, Unit: "llm/vllm-llama70b/1", Name: "vllm-llama70b", Opened: sampleAt(0), Level: policy.LevelPage, Rule: "gave_up",
		Cause: cause + "; `defib retry vllm-llama70b` tries again, and so does defib at 2026-03-14 03:43:12 UTC", Repairs: 3, Failures: 4,
		Steps: []policy.Step{
			sampleStep(0, "exited", "it exited with 1"),
			sampleStep(0, "exited", "start: it exited with 1 (attempt 1)"),
			sampleStep(time.Minute, "backoff", "it exited with 1; next attempt in 10 s"),
			sampleStep(71*time.Second, "exited", "start: it exited with 1 (attempt 2)"),
			sampleStep(2*time.Minute, "backoff", "it exited with 1; next attempt in 22 s"),
			sampleStep(143*time.Second, "exited", "start: it exited with 1 (attempt 3)"),
			sampleStep(6*time.Minute, "gave_up", cause+"; `defib retry vllm-llama70b` tries again, and so does defib at 2026-03-14 03:43:12 UTC"),
		},
		Paged: sampleAt(6 * time.Minute), NeedsYou: true,
		Changed: []string{"its image changed to vllm/vllm-openai:v0.11.0 (9c3f5a7d21be), 42 min before"},
		GPUs:    []string{"GPU 2: recovery action 0", "GPU 2: python3 (pid 48213) of the host holds 71.8 GiB of memory"},
		Evidence: &policy.Evidence{At: sampleAt(143 * time.Second), ExitCode: 1, Logs: []string{
			"INFO 03:08:59 [core.py:77] Initializing a V1 LLM engine (v0.11.0)",
			"INFO 03:09:11 [gpu_worker.py:298] Available KV cache memory: -64.6 GiB",
			"ERROR 03:09:12 [core.py:710] EngineCore failed to start.",
			"ValueError: Free memory on device (7.1/79.6 GiB) on startup is less than desired (71.7 GiB)",
			"RuntimeError: Engine core initialization failed. See root cause above.",
		}},
	}, 6*time.Minute+12*time.Second)
	s.Unit = &policy.Status{
		Key: "llm/vllm-llama70b/1", Name: "vllm-llama70b", Project: "llm", Image: "vllm/vllm-openai:v0.11.0", State: policy.Fatal, Rule: "gave_up",
		Reason: cause, Since: sampleAt(6 * time.Minute), Health: "—", Restarts24h: 3, LastExit: &policy.Exit{At: sampleAt(6 * time.Minute), Code: 1},
		GPUs: []string{"2"}, Next: "half-open retry", NextAt: sampleAt(36 * time.Minute), Retries: "all 3 used up",
	}
	s.Runbook = "https://wiki.example.org/llm/vllm-llama70b"
	s.GPUs = []policy.GPUStatus{{
		Device:  gpu.Device{UUID: "GPU-22222222-0000-0000-0000-000000000002", Index: 2, PCI: "0000:5e:00.0", Name: "NVIDIA H100 80GB HBM3"},
		Reading: gpu.Reading{At: sampleAt(6 * time.Minute), Used: 77910 << 20, Total: 81559 << 20, Temperature: 41, Listed: true, Processes: []gpu.Process{{PID: 48213, Name: "python3", Memory: 73523 << 20}}},
		Units:   []string{"vllm-llama70b"},
	}}
	return s
}

func sampleGPUHeld() Story {
	cause := "GPU 0 (NVIDIA H100 80GB HBM3, 0000:3b:00.0) has fallen off the bus (Xid 79)"
	remedy := "Stop nothing on it, since that can hang; `reboot`, and cut the power for a minute or reseat the board if it returns"
	s := sampleHost(policy.Incident{
		ID: "INC-7HVA", Rev: 3, Name: "GPU 0", Opened: sampleAt(0), Level: policy.LevelPage, Rule: "xid_79", Cause: cause,
		Steps: []policy.Step{
			sampleStep(0, "gpu_fault", "GPU 0: Xid 79, GPU has fallen off the bus"),
			sampleStep(0, "evidence", "kernel: NVRM: Xid (PCI:0000:3b:00): 79, pid=48213, name=VLLM::Worker, GPU has fallen off the bus."),
			sampleStep(2*time.Second, "held_gpu", cause+". A restart of a container would not help, so defib leaves alone what runs and starts nothing there: chat, embed. "+remedy),
		},
		Paged: sampleAt(2 * time.Second), NeedsYou: true, Children: []string{"INC-KRXN"},
	}, 3*time.Second)
	s.GPUs = []policy.GPUStatus{{
		Device:    gpu.Device{UUID: "GPU-00000000-0000-0000-0000-000000000000", Index: 0, PCI: "0000:3b:00.0", Name: "NVIDIA H100 80GB HBM3"},
		Reading:   gpu.Reading{At: sampleAt(time.Second), Trouble: gpu.TroubleLost},
		LastFault: &gpu.Fault{At: sampleAt(0), Kind: gpu.FaultXid, Code: 79, PID: 48213, Process: "VLLM::Worker", Source: gpu.SourceBoth},
		Meaning:   "GPU has fallen off the bus", Units: []string{"chat", "embed"},
		Hold:   &policy.Hold{Reason: policy.HoldGPU, Scope: policy.ScopeGPU, Since: sampleAt(2 * time.Second), By: "defib", Why: cause + ". " + remedy},
		Clears: "when the GPU has read well for 15 s, after a reboot, or by `defib gpus release 0`", Incident: "INC-7HVA",
	}}
	s.Children = []policy.Incident{{
		ID: "INC-KRXN", Rev: 2, Unit: "chat", Name: "chat", Opened: sampleAt(0), Level: policy.LevelInfo, Rule: "exited", Cause: "it exited with 1", Parent: "INC-7HVA",
	}}
	return s
}

func sampleStorm() Story {
	text := "12 of 14 containers that share the mount /srv/models failed within 60 s; they probably have a common cause. One is repaired first, and the rest when that one is well"
	s := sampleHost(policy.Incident{
		ID: "INC-9M0D", Rev: 14, Name: "containers that share the mount /srv/models", Opened: sampleAt(0), Level: policy.LevelPage, Rule: "panic", Cause: text,
		Steps: []policy.Step{
			sampleStep(0, "panic", text),
			sampleStep(95*time.Second, "canary_failed", "repairing vllm-1 first did not help (it exited with 1); the rest are held, and the next is tried in 5 min"),
		},
		Paged: sampleAt(95 * time.Second), NeedsYou: true,
	}, 2*time.Minute)
	for i := range 12 {
		child := policy.Incident{
			ID: fmt.Sprintf("INC-S%03d", i+1), Rev: 2, Unit: fmt.Sprintf("llm/vllm/%d", i+1), Name: fmt.Sprintf("vllm-%d", i+1), Opened: sampleAt(time.Duration(i) * time.Second),
			Level: policy.LevelInfo, Rule: "unhealthy", Cause: "its health check fails: “Stale file handle”", Parent: "INC-9M0D",
		}
		if i == 0 {
			child.Rule, child.Cause, child.Level, child.Repairs = "exited", "it exited with 1", policy.LevelWarn, 1
		}
		s.Incident.Children = append(s.Incident.Children, child.ID)
		s.Children = append(s.Children, child)
	}
	return s
}

func sampleFlapping() Story {
	s := sampleHost(policy.Incident{
		ID: "INC-2WZB", Rev: 5, Unit: "sglang-qwen", Name: "sglang-qwen", Opened: sampleAt(0), Level: policy.LevelWarn, Rule: "oom",
		Cause: "it ran out of memory and was killed (exit 137, OOM)", Repairs: 1, Failures: 1, Root: "INC-1A7T", Times: 4,
		Steps: []policy.Step{
			sampleStep(0, "oom", "it ran out of memory and was killed (exit 137, OOM)"),
			sampleStep(0, "backoff", "it ran out of memory and was killed (exit 137, OOM); next attempt in 80 s"),
		},
		Evidence: &policy.Evidence{At: sampleAt(0), ExitCode: 137, OOMKilled: true, Logs: []string{
			"[2026-03-14 03:07:09] Decode batch. #running-req: 41, #token: 182034, token usage: 0.97",
			"[2026-03-14 03:07:11] Retract requests. #retracted_reqs: 3",
		}},
	}, 20*time.Second)
	s.Unit = &policy.Status{
		Key: "sglang-qwen", Name: "sglang-qwen", Image: "lmsysorg/sglang:v0.5.3", State: policy.Backoff, Rule: "oom", Since: sampleAt(0), Health: "—",
		Restarts24h: 4, LastExit: &policy.Exit{At: sampleAt(0), Code: 137, OOMKilled: true}, Next: "start", NextAt: sampleAt(80 * time.Second),
		PagesAt: sampleAt(15 * time.Minute), Retries: "2 of 5",
	}
	return s
}

func sampleResolved() Story {
	s := sampleGaveUp()
	in := &s.Incident
	in.Steps = append(in.Steps, sampleStep(9*time.Minute, "operator", "retry by li"),
		sampleStep(9*time.Minute, "exited", "start: it exited with 1 (attempt 1)"),
		sampleStep(11*time.Minute, "ready", "it is up again"), sampleStep(13*time.Minute, "recovered", "it has been well for 2 min"))
	in.Rev, in.NeedsYou, in.Closed, in.End, in.Rule, in.Cause = 16, false, sampleAt(13*time.Minute), "recovered", "exited", "it exited with 1"
	s.Now = in.Closed
	s.Unit.State, s.Unit.Rule, s.Unit.Next, s.Unit.NextAt, s.Unit.Health = policy.Running, "running", "watching", time.Time{}, "healthy"
	s.Unit.Since, s.Unit.Restarts24h, s.Unit.Retries = sampleAt(11*time.Minute), 4, ""
	s.GPUs[0].Reading.Temperature = 55
	return s
}

func sampleAcked() Story {
	s := sampleGaveUp()
	s.Now = sampleAt(8 * time.Minute)
	s.Incident.Rev++
	s.Incident.Ack = &policy.Ack{By: "li", Why: "freeing the GPU", At: sampleAt(8 * time.Minute), Until: sampleAt(8*time.Minute + 4*time.Hour)}
	s.Incident.Steps = append(s.Incident.Steps, sampleStep(8*time.Minute, "acknowledged", "ack by li (freeing the GPU), until 07:15 UTC"))
	return s
}

// RuleStart marks the story of the message that says that defib has started.
const RuleStart = "start"

func sampleStart() Story {
	return sampleHost(policy.Incident{
		Rule: RuleStart, Level: policy.LevelInfo, Opened: sampleAt(0), Cause: "It watches 14 containers and 4 GPUs; 3 containers are not watched",
	}, 0)
}

func sampleAlarm() Story {
	return sampleHost(policy.Incident{
		Level: policy.LevelPage, Opened: sampleAt(0), NeedsYou: true,
		Cause: "It cannot write its state: no space left on device. It goes on watching, and repairs nothing until it can write again",
	}, 0)
}
