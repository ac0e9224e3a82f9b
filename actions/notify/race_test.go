//go:build race

package notify

// raced: the race detector makes everything some ten times slower.
const raced = true
