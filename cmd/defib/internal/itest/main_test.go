package itest

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	// These tests wait for engines, not for a processor. A number given by
	// hand stays.
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "defib")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = sync.OnceValues(func() (*Binaries, error) { return Build(dir) })
	return m.Run()
}

// binaries builds the programs, when the first test needs them.
var binaries func() (*Binaries, error)

// rig is what every test stands on: an engine of its own, with its events
// recorded.
func rig(t *testing.T) (*Engine, *Recorder, *Binaries) {
	t.Helper()
	RequireEngine(t)
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	e := NewEngine(t, b)
	return e, e.Record(t), b
}
