package itest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
)

// gateImage holds testdata/gate and nothing else.
const gateImage = "gate:1"

// bench is what every benchmark stands on: an engine of its own, so that
// nothing else on the machine's own one is met, and the contestants.
type bench struct {
	e     *Engine
	bin   *Binaries
	floor string // the binary
	boxes []*box
}

// box is a container whose health check waits at a gate.
type box struct {
	*Container
	gate *os.File // locked; the check gets by when it is closed
}

// newBench starts an engine that has the image of the boxes.
func newBench(b *testing.B) *bench {
	b.Helper()
	RequireEngine(b)
	bin, err := binaries()
	if err != nil {
		b.Fatal(err)
	}
	k := &bench{bin: bin, floor: filepath.Join(shortDir(b), "floor")}
	gate := filepath.Join(filepath.Dir(k.floor), "gate")
	for name, out := range map[string]string{"gate": gate, "floor": k.floor} {
		if err := compile(bin.Root, out, "./cmd/defib/internal/itest/testdata/"+name); err != nil {
			b.Fatal(err)
		}
	}
	k.e = NewEngine(b, bin)
	if err := k.importImage(b.Context(), gate); err != nil {
		b.Fatalf("make the image of the boxes: %v", err)
	}
	return k
}

func (k *bench) importImage(ctx context.Context, gate string) error {
	program, err := os.ReadFile(gate)
	if err != nil {
		return err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	err = w.WriteHeader(&tar.Header{Name: "gate", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = w.Write(program)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	body, err := k.e.Client.ImageImport(ctx, image.ImportSource{Source: &files, SourceName: "-"}, gateImage,
		image.ImportOptions{Changes: []string{`ENTRYPOINT ["/gate"]`, `CMD ["serve"]`}})
	if err != nil {
		return err
	}
	defer body.Close()
	k.e.built[gateImage] = true // so that Create does not build it
	_, err = io.Copy(io.Discard, body)
	return err
}

// run starts n boxes. With open gates their checks pass, one each second;
// else they are silent until they fail.
func (k *bench) run(b *testing.B, n int, env ...string) {
	b.Helper()
	check := &Check{Command: []string{"/gate", "check"}, Timeout: 6 * time.Hour, Retries: 1}
	b.Cleanup(func() { k.remove(b) })
	k.boxes = make([]*box, n)
	each(n, func(i int) {
		x := &box{Container: k.e.Create(b, Spec{
			Name: fmt.Sprintf("box%03d", i), Image: gateImage, Env: env, Check: check, StopTimeout: 2 * time.Second,
		})}
		k.boxes[i] = x
		x.shut(b)
		x.Start(b)
	})
}

// remove takes the boxes away, before the engine's own cleaning up, which is
// in a hurry.
func (k *bench) remove(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	each(len(k.boxes), func(i int) {
		x := k.boxes[i]
		if x == nil {
			return
		}
		_ = x.gate.Close()
		if err := k.e.Client.ContainerRemove(ctx, x.ID, container.RemoveOptions{Force: true}); err != nil {
			b.Errorf("remove %s: %v", x.Name, err)
		}
	})
}

// shut puts a new locked gate in place and returns the one before. Each
// failure has a gate of its own, so that a check that is slow to come to it is
// not caught by the next one.
func (x *box) shut(b *testing.B) (before *os.File) {
	b.Helper()
	path := filepath.Join(x.ctl, "gate")
	f, err := os.Create(path + ".new")
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		b.Fatalf("shut the gate of %s: %v", x.Name, err)
	}
	before, x.gate = x.gate, f
	return before
}

// fail turns boxes unhealthy, all within milliseconds.
func fail(b *testing.B, boxes ...*box) {
	b.Helper()
	var gates []*os.File
	for _, x := range boxes {
		gates = append(gates, x.shut(b))
		if err := os.Remove(filepath.Join(x.ctl, "waiting")); err != nil {
			b.Fatalf("%s: no check waits: %v", x.Name, err)
		}
	}
	for _, g := range gates {
		_ = g.Close()
	}
}

// healthy waits until every box is healthy.
func (k *bench) healthy(b *testing.B) {
	b.Helper()
	k.until(b, "every box is healthy", func() bool {
		list, err := k.e.Client.ContainerList(b.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("health", "healthy"))})
		return err == nil && len(list) == len(k.boxes)
	})
}

// ready waits until every box is healthy and has a check at its gate.
func (k *bench) ready(b *testing.B) {
	b.Helper()
	k.healthy(b)
	k.until(b, "a check of every box waits", func() bool {
		for _, x := range k.boxes {
			if _, err := os.Stat(filepath.Join(x.ctl, "waiting")); errors.Is(err, fs.ErrNotExist) {
				return false
			}
		}
		return true
	})
}

// until asks again and again: what it waits for depends on a real engine.
func (k *bench) until(b *testing.B, what string, met func() bool) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !met(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("not within 5m: %s", what)
		}
	}
}
