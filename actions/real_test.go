package actions

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/gpu/proc"
	"github.com/defib-dev/defib/watcher/engine/enginetest"
	"github.com/defib-dev/defib/watcher/policy"
)

const testImage = "defib-actions-test:latest"

// program is what the containers run, and their health check with an argument.
const program = `package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "pass":
		fmt.Println("fine")
	case len(os.Args) > 1 && os.Args[1] == "fail":
		fmt.Fprintln(os.Stderr, "CUDA is gone, password=hunter2")
		os.Exit(3)
	case len(os.Args) > 1 && os.Args[1] == "hang":
		time.Sleep(time.Hour)
	default:
		fmt.Println("CUDA error: device-side assert triggered")
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		<-c
	}
}
`

// launch starts a container, which is removed at the end, and returns its ID
// and when it began.
func launch(t *testing.T, cli *client.Client, check container.HealthConfig) (string, time.Time) {
	t.Helper()
	check.Interval = time.Hour // only we run it
	id := enginetest.Launch(t, cli, &container.Config{
		Image: testImage, Cmd: []string{enginetest.Program}, Healthcheck: &check, Labels: map[string]string{enginetest.Label: "actions"},
	})
	r, err := cli.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339Nano, r.State.StartedAt)
	if err != nil {
		t.Fatal(err)
	}
	return id, at
}

func TestExamineARealContainer(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	for _, tc := range []struct {
		name  string
		check container.HealthConfig
		code  int
		said  string
	}{
		{"passes", container.HealthConfig{Test: []string{"CMD", "/tiny", "pass"}}, 0, "fine"},
		{"fails", container.HealthConfig{Test: []string{"CMD", "/tiny", "fail"}}, 3, "CUDA is gone, password=***"},
		{"hangs", container.HealthConfig{Test: []string{"CMD", "/tiny", "hang"}, Timeout: time.Second}, -1, "Health check exceeded timeout (1s)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, began := launch(t, cli, tc.check)
			awaitLog(t, cli, id)
			x := newExecutor(t, nil, nil)
			x.o.Engine, x.o.Exec = func() Docker { return cli }, func() Execer { return cli }
			d := policy.Decision{ID: 1, Container: id, StartedAt: began, Verb: policy.VerbExamine, Check: true, Logs: true, Within: 30 * time.Second}
			var got policy.Event
			if out := x.Execute(t.Context(), d, func(ev policy.Event) { got = ev }); out.Class != policy.OutcomeOK {
				t.Fatalf("outcome %+v", out)
			}
			e := got.Examination
			if e.Check == nil || e.Check.ExitCode != tc.code || e.Check.Output != tc.said || e.CheckErr != "" {
				t.Errorf("the check gives %+v %q, want %d %q", e.Check, e.CheckErr, tc.code, tc.said)
			}
			if diff := cmp.Diff([]gpu.Sign{gpu.SignApp}, e.Signs); diff != "" || e.SignLine != "CUDA error: device-side assert triggered" {
				t.Errorf("signs in %q (-want +got):\n%s", e.SignLine, diff)
			}
		})
	}
}

// What hangs is ended, and nothing beside it: neither the container's program,
// nor what somebody else runs in it.
func TestACheckThatHangsInARealContainerIsEnded(t *testing.T) {
	procs := proc.New(proc.Options{})
	if why := procs.Blind(); why != "" {
		if os.Getenv("REQUIRE_ENGINE") == "1" {
			t.Fatalf("REQUIRE_ENGINE=1, but %s", why)
		}
		t.Skip(why)
	}
	cli := enginetest.Real(t, testImage, program)
	id, began := launch(t, cli, container.HealthConfig{Test: []string{"CMD", "/tiny", "hang"}, Timeout: time.Minute})
	awaitLog(t, cli, id)
	other, err := cli.ContainerExecCreate(t.Context(), id, container.ExecOptions{Cmd: []string{"/tiny", "hang"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := cli.ContainerExecStart(t.Context(), other.ID, container.ExecStartOptions{Detach: true}); err != nil {
		t.Fatal(err)
	}
	x := newExecutor(t, nil, nil)
	x.o.Exec, x.o.Process = func() Execer { return cli }, procs
	d := policy.Decision{ID: 1, Container: id, StartedAt: began, Verb: policy.VerbExamine, Check: true, Within: 5 * time.Second}
	var got policy.Event
	x.Execute(t.Context(), d, func(ev policy.Event) { got = ev })
	if e := got.Examination; e.Check != nil || !strings.HasPrefix(e.CheckErr, "it had not ended after 3.") || !strings.HasSuffix(e.CheckErr, "s, and may take 1m0s") {
		t.Errorf("the check gives %+v %q", e.Check, e.CheckErr)
	}
	var running [][]string
	for range 100 { // a process that was killed may take a moment to go
		top, err := cli.ContainerTop(t.Context(), id, []string{"-o", "pid,args"})
		if err != nil {
			t.Fatal(err)
		}
		if running = top.Processes; len(running) == 2 {
			break
		}
		wait(t.Context(), 50*time.Millisecond)
	}
	if len(running) != 2 || running[0][1] != enginetest.Program || running[1][1] != "/tiny hang" {
		t.Errorf("in the container run %q, want its program and what somebody else runs", running)
	}
	if is, err := cli.ContainerExecInspect(t.Context(), other.ID); err != nil || !is.Running {
		t.Errorf("what somebody else runs: %+v, %v", is, err)
	}
}

func TestExamineARealContainerThatHasAnotherRun(t *testing.T) {
	cli := enginetest.Real(t, testImage, program)
	id, began := launch(t, cli, container.HealthConfig{Test: []string{"CMD", "/tiny", "fail"}})
	x := newExecutor(t, nil, nil)
	x.o.Exec = func() Execer { return cli }
	p, text := x.check(t.Context(), policy.Decision{Container: id, StartedAt: began.Add(-time.Second)})
	if want := "the container does not run any more, or was started again meanwhile"; p != nil || text != want {
		t.Errorf("the check gives %+v %q, want %q", p, text, want)
	}
}

// awaitLog follows the log until the container has written its line.
func awaitLog(t *testing.T, cli *client.Client, id string) {
	t.Helper()
	r, err := cli.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
}
