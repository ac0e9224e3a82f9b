package suggest

import "testing"

func TestClosest(t *testing.T) {
	names := []string{"start_seconds", "start_retries", "page_after", "vllm-llama70b", "web", "state", "status"}
	for _, c := range []struct{ word, want string }{
		{"start_second", "start_seconds"},
		{"start_secondz", "start_seconds"},
		{"START_RETRIES", "start_retries"},
		{"llama", "vllm-llama70b"},
		{"wbe", "web"},
		{"we", "web"},
		{"statu", "status"},
		{"statsu", "status"},
		{"stat", "state"},
		{"postgres", ""},
		{"", ""},
		{"x", ""},
	} {
		if got := Closest(c.word, names); got != c.want {
			t.Errorf("Closest(%q) = %q, want %q", c.word, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"statsu", "status", 1}, {"ab", "ba", 1}, {"same", "same", 0}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
