package policy

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// spread returns a number from 0 to 1 that is always the same for the same
// words: jitter without randomness.
func spread(words ...any) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, words...)
	return float64(h.Sum64()%1000) / 1000
}

// span prints a duration as people say it: 61 s, 15 min, 2.5 h.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}

// median returns the middle of the durations, 0 of none.
func median(ds []time.Duration) time.Duration { return quantile(ds, 0.5) }

func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	s := slices.Clone(ds)
	slices.Sort(s)
	return s[min(int(float64(len(s))*q), len(s)-1)]
}
