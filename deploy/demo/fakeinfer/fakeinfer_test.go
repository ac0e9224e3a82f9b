package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start serves with the given control folder and returns the server's address.
func start(t *testing.T, dir string, began time.Time, sticky bool) (*control, string) {
	t.Helper()
	ctl := newControl(dir, began, sticky)
	s, err := newServer(ctl, began)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.routes())
	t.Cleanup(web.Close)
	return ctl, web.URL
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

func tell(t *testing.T, dir, name, arg string, at time.Time) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(arg), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestHealthWhileLoading(t *testing.T) {
	t.Setenv("FAKE_LOAD", "1h")
	_, url := start(t, "", time.Now(), false)
	if code, body := call(t, "GET", url+"/health", ""); code != 503 || !strings.HasPrefix(body, "loading") {
		t.Errorf("got %d %q, want 503 loading", code, body)
	}
	if code, _ := call(t, "POST", url+"/v1/completions", `{"prompt":"a"}`); code != 503 {
		t.Errorf("a completion while loading: got %d, want 503", code)
	}
}

func TestControlFilesCountFromTheStart(t *testing.T) {
	began := time.Now()
	before, after := began.Add(-time.Second), began.Add(time.Second)
	tests := []struct {
		name   string
		sticky bool
		files  map[string]time.Time
		want   bool
	}{
		{"nothing told", false, nil, true},
		{"told after the start", false, map[string]time.Time{"unhealthy": after}, false},
		{"told before the start", false, map[string]time.Time{"unhealthy": before}, true},
		{"told before the start of a sticky one", true, map[string]time.Time{"unhealthy": before}, false},
		{"recovered", false, map[string]time.Time{"unhealthy": after, "recover": after}, true},
		{"unhealthy again", false, map[string]time.Time{"recover": after, "unhealthy": after.Add(1)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, at := range tt.files {
				tell(t, dir, name, "", at)
			}
			got, why := newControl(dir, began, tt.sticky).healthy(began)
			if got != tt.want {
				t.Errorf("healthy: got %v (%s), want %v", got, why, tt.want)
			}
		})
	}
}

func TestFlap(t *testing.T) {
	began := time.Now()
	dir := t.TempDir()
	tell(t, dir, "flap", "10s", began.Add(time.Second))
	ctl := newControl(dir, began, false)
	for after, want := range map[time.Duration]bool{2 * time.Second: false, 12 * time.Second: true, 22 * time.Second: false} {
		if got, _ := ctl.healthy(began.Add(after)); got != want {
			t.Errorf("%v after the start: got %v, want %v", after, got, want)
		}
	}
}

func TestFlapByChecks(t *testing.T) {
	began := time.Now()
	dir := t.TempDir()
	tell(t, dir, "flap", "2", began.Add(time.Second))
	ctl := newControl(dir, began, false)
	for i, want := range []bool{false, false, true, true, false} {
		if got, _ := ctl.healthy(began); got != want {
			t.Errorf("check %d: got %v, want %v", i+1, got, want)
		}
	}
}

func TestControlOverHTTP(t *testing.T) {
	ctl, url := start(t, "", time.Now(), false)
	for _, step := range []struct {
		name string
		want int
	}{{"unhealthy", 503}, {"recover", 200}} {
		call(t, "POST", url+"/control/"+step.name, "")
		if code, body := call(t, "GET", url+"/health", ""); code != step.want {
			t.Errorf("after %s: got %d %q, want %d", step.name, code, body, step.want)
		}
	}
	if code, _ := call(t, "POST", url+"/control/sing", ""); code != 404 {
		t.Errorf("an unknown control: got %d, want 404", code)
	}
	call(t, "POST", url+"/control/crash", "3")
	if got := <-ctl.exit; got != 3 {
		t.Errorf("crash 3: got exit code %d", got)
	}
}

func TestControlFileEndsTheProcess(t *testing.T) {
	dir := t.TempDir()
	ctl := newControl(dir, time.Now().Add(-time.Minute), false)
	if err := ctl.watch(slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	tell(t, dir, "exit", "", time.Now())
	if got := <-ctl.exit; got != 0 {
		t.Errorf("exit: got code %d, want 0", got)
	}
}

func TestCompletionsAdvanceTheCounters(t *testing.T) {
	_, url := start(t, "", time.Now(), false)
	for range 2 {
		if code, body := call(t, "POST", url+"/v1/completions", `{"prompt":"one two three","max_tokens":5}`); code != 200 {
			t.Fatalf("got %d %q", code, body)
		}
	}
	_, got := call(t, "GET", url+"/metrics", "")
	for _, want := range []string{
		`vllm:prompt_tokens_total{model_name="fake-7b"} 6`,
		`vllm:generation_tokens_total{model_name="fake-7b"} 10`,
		`vllm:request_success_total{model_name="fake-7b"} 2`,
		`vllm:num_requests_running{model_name="fake-7b"} 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("metrics lack %s:\n%s", want, got)
		}
	}
}

func TestHealthCommand(t *testing.T) {
	dir := t.TempDir()
	_, url := start(t, dir, time.Now().Add(-time.Minute), false)
	addr := strings.TrimPrefix(url, "http://")
	if got := health(t.Context(), addr, io.Discard); got != 0 {
		t.Errorf("healthy: got exit code %d", got)
	}
	tell(t, dir, "unhealthy", "", time.Now())
	var out strings.Builder
	if got := health(t.Context(), addr, &out); got != 1 || out.String() != "told to be unhealthy\n" {
		t.Errorf("unhealthy: got exit code %d and %q", got, out.String())
	}
}

func TestFailStart(t *testing.T) {
	dir := t.TempDir()
	if code, failed := failStart(dir); failed {
		t.Errorf("without the file: got a failed start with %d", code)
	}
	tell(t, dir, "fail-start", "7\n", time.Now())
	if code, failed := failStart(dir); !failed || code != 7 {
		t.Errorf("with the file: got %d, %v", code, failed)
	}
}

// What begins something begins it once, however often the folder changes.
func TestOrdersCarriedOutOnce(t *testing.T) {
	dir, began := t.TempDir(), time.Now()
	ctl := newControl(dir, began, false)
	if o, ok := ctl.once("say"); ok {
		t.Errorf("nothing was told: got %v", o)
	}
	for i, text := range []string{"first", "second"} {
		tell(t, dir, "say", text, began.Add(time.Duration(i+1)*time.Second))
		if o, ok := ctl.once("say"); !ok || o.arg != text {
			t.Errorf("told %q: got %q, %v", text, o.arg, ok)
		}
		if o, ok := ctl.once("say"); ok {
			t.Errorf("%q was carried out before: got %v", text, o)
		}
	}
}
