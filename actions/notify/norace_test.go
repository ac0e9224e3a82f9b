//go:build !race

package notify

// raced: see race_test.go.
const raced = false
