package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// server is the inference side: it loads, answers and counts.
type server struct {
	ctl     *control
	model   string
	ready   time.Time
	load    time.Duration
	delay   time.Duration
	slots   chan struct{}
	served  atomic.Int64
	prompt  atomic.Int64
	output  atomic.Int64
	waiting atomic.Int64
}

func newServer(ctl *control, started time.Time) (*server, error) {
	load, err := time.ParseDuration(env("FAKE_LOAD", "0s"))
	if err != nil {
		return nil, fmt.Errorf("FAKE_LOAD: %w", err)
	}
	delay, err := time.ParseDuration(env("FAKE_DELAY", "0s"))
	if err != nil {
		return nil, fmt.Errorf("FAKE_DELAY: %w", err)
	}
	slots := max(1, number(os.Getenv("FAKE_SLOTS"), 4))
	return &server{
		ctl: ctl, model: env("FAKE_MODEL", "fake-7b"), ready: started.Add(load),
		load: load, delay: delay, slots: make(chan struct{}, slots),
	}, nil
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("POST /v1/completions", s.complete)
	mux.HandleFunc("POST /control/{name}", s.control)
	return mux
}

// stuck waits for as long as the server is told to hang, or the caller stays.
// The health check of a container has no time limit: the engine ends it.
func (s *server) stuck(r *http.Request) {
	for s.ctl.on("hang") && r.Context().Err() == nil {
		select {
		case <-r.Context().Done():
		case <-time.After(100 * time.Millisecond): // "recover" ends it
		}
	}
}

func (s *server) health(w http.ResponseWriter, r *http.Request) {
	s.stuck(r)
	now := time.Now()
	if left := s.ready.Sub(now); left > 0 {
		http.Error(w, "loading, "+left.Round(100*time.Millisecond).String()+" left", http.StatusServiceUnavailable)
		return
	}
	if ok, why := s.ctl.healthy(now); !ok {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// metrics writes Prometheus text under the names that vLLM uses.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	s.stuck(r)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, kind string
		value      int64
	}{
		{"vllm:num_requests_running", "gauge", int64(len(s.slots))},
		{"vllm:num_requests_waiting", "gauge", s.waiting.Load()},
		{"vllm:prompt_tokens_total", "counter", s.prompt.Load()},
		{"vllm:generation_tokens_total", "counter", s.output.Load()},
		{"vllm:request_success_total", "counter", s.served.Load()},
	} {
		fmt.Fprintf(w, "# TYPE %s %s\n%s{model_name=%q} %d\n", m.name, m.kind, m.name, s.model, m.value)
	}
}

// usage counts tokens as the OpenAI API does.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// choice is one completion.
type choice struct {
	Index  int    `json:"index"`
	Text   string `json:"text"`
	Finish string `json:"finish_reason"`
}

// completion is the answer to POST /v1/completions.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   usage    `json:"usage"`
}

func (s *server) complete(w http.ResponseWriter, r *http.Request) {
	s.stuck(r)
	var ask struct {
		Prompt    string `json:"prompt"`
		MaxTokens int    `json:"max_tokens"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if time.Now().Before(s.ready) {
		http.Error(w, "loading", http.StatusServiceUnavailable)
		return
	}
	if !s.takeTime(r) {
		return
	}
	n := min(max(1, ask.MaxTokens), 64)
	used := usage{Prompt: len(strings.Fields(ask.Prompt)), Completion: n}
	used.Total = used.Prompt + used.Completion
	id := s.served.Add(1)
	s.prompt.Add(int64(used.Prompt))
	s.output.Add(int64(n))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(completion{
		ID: fmt.Sprintf("cmpl-%d", id), Object: "text_completion", Created: time.Now().Unix(), Model: s.model,
		Choices: []choice{{Text: strings.TrimSpace(strings.Repeat("token ", n)), Finish: "length"}}, Usage: used,
	})
}

// takeTime waits for a slot and then for as long as a completion takes. It
// returns false when the caller left.
func (s *server) takeTime(r *http.Request) bool {
	s.waiting.Add(1)
	select {
	case s.slots <- struct{}{}:
		s.waiting.Add(-1)
	case <-r.Context().Done():
		s.waiting.Add(-1)
		return false
	}
	defer func() { <-s.slots }()
	select {
	case <-time.After(s.delay):
		return true
	case <-r.Context().Done():
		return false
	}
}

func (s *server) control(w http.ResponseWriter, r *http.Request) {
	arg, err := io.ReadAll(io.LimitReader(r.Body, 4096))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch name := r.PathValue("name"); name {
	case "crash", "exit", "oom", "deaf", "unhealthy", "hang", "flap", "recover", "worker", "say":
		s.ctl.tell(name, strings.TrimSpace(string(arg)))
		fmt.Fprintln(w, "ok")
	default:
		http.Error(w, "no such control; see the package comment", http.StatusNotFound)
	}
}
