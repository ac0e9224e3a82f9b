package itest

import (
	"syscall"
	"testing"
	"time"
)

// The stand-in must do what it is told, or the tests below prove nothing.
func TestFakeinferFailsAsTold(t *testing.T) {
	t.Parallel()
	e, r, _ := rig(t)
	check := &Check{Timeout: 5 * time.Second} // one of them runs out of it
	told := map[string]string{"crash": "3", "exit": "", "oom": ""}
	want := map[string]string{"crash": "3", "exit": "0", "oom": "137"}
	for name, arg := range told {
		c := e.Run(t, Spec{Name: name, Image: "fakeinfer:one", Memory: 32 << 20})
		c.Tell(t, name, arg)
	}
	for name, code := range want {
		if died := r.Wait(t, soon, name, "die", 1); died.Attr["exitCode"] != code {
			t.Errorf("%s: got exit code %s, want %s", name, died.Attr["exitCode"], code)
		}
	}
	for _, name := range []string{"unhealthy", "hang"} {
		c := e.Run(t, Spec{Name: name, Image: "fakeinfer:one", Check: check})
		r.Wait(t, soon, name, "health_status: healthy", 1)
		c.Tell(t, name, "")
		r.Wait(t, soon, name, "health_status: unhealthy", 1)
		c.Tell(t, "recover", "")
		r.Wait(t, soon, name, "health_status: healthy", 2)
	}
	deaf := e.Run(t, Spec{Name: "deaf", Image: "fakeinfer:one", Check: check, StopTimeout: time.Second})
	r.Wait(t, soon, "deaf", "health_status: healthy", 1) // only then it has heard that it is to be deaf
	deaf.Tell(t, "deaf", "")
	deaf.Stop(t)
	if died := r.Wait(t, soon, "deaf", "die", 1); died.Attr["exitCode"] != "137" {
		t.Errorf("deaf: got exit code %s, want 137", died.Attr["exitCode"])
	}
}

// An engine that is killed leaves its containers running; the next one stops
// them, and does not start them again. That is what defib is up against.
func TestEngineSurvives(t *testing.T) {
	t.Parallel()
	e, _, _ := rig(t)
	c := e.Run(t, Spec{Name: "web", Restart: "unless-stopped"})
	pid := c.Inspect(t).State.Pid
	e.Kill(t)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the container ended with the engine: %v", err)
	}
	e.Start(t)
	c.Inspect(t)
	e.Stop(t)
	e.Start(t)
	c.Inspect(t)
}
