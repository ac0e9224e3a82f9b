package itest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/build"
)

// spares is how many images are loaded at once: an engine takes far more
// time to unpack a layer than to learn of another image on it.
const spares = 16

// Image gives the inference stand-in a reference of the test's choice. Each
// reference is an image of its own, since units of one image are watched as a
// group. env is added to its environment.
func (e *Engine) Image(t testing.TB, ref string, env ...string) {
	t.Helper()
	if e.built[ref] {
		return
	}
	s, err := e.b.standIn.get(t.Context(), e)
	if err != nil {
		t.Fatalf("build the stand-in's image: %v", err)
	}
	if len(env) > 0 {
		err = s.load(t.Context(), e, map[string][]string{ref: env})
	} else {
		err = e.takeSpare(t.Context(), s, ref)
	}
	if err != nil {
		t.Fatalf("load the image %s: %v", ref, err)
	}
	e.built[ref] = true
}

// takeSpare names one of the images that were loaded beforehand.
func (e *Engine) takeSpare(ctx context.Context, s *standIn, ref string) error {
	if e.spare%spares == 0 {
		refs := map[string][]string{}
		for i := range spares {
			refs[fmt.Sprintf("spare:%d", e.spare+i)] = nil
		}
		if err := s.load(ctx, e, refs); err != nil {
			return err
		}
	}
	e.spare++
	return e.Client.ImageTag(ctx, fmt.Sprintf("spare:%d", e.spare-1), ref)
}

// standIn is the image of the inference stand-in, as `docker save` writes it.
type standIn struct {
	config map[string]any
	layer  []byte // its only one: a tar
}

// onceStandIn builds the image when the first engine needs it.
type onceStandIn struct {
	once sync.Once
	s    *standIn
	err  error
}

func (o *onceStandIn) get(ctx context.Context, e *Engine) (*standIn, error) {
	o.once.Do(func() { o.s, o.err = buildStandIn(ctx, e) })
	return o.s, o.err
}

// buildStandIn builds the image from its own Dockerfile, and takes it out of
// the engine.
func buildStandIn(ctx context.Context, e *Engine) (*standIn, error) {
	const ref = "fakeinfer:built"
	files, err := tarOf(map[string]string{
		"Dockerfile": filepath.Join(e.b.Root, "deploy/demo/fakeinfer/Dockerfile"), "fakeinfer": e.b.Fakeinfer,
	})
	if err != nil {
		return nil, err
	}
	answer, err := e.Client.ImageBuild(ctx, files, build.ImageBuildOptions{Tags: []string{ref}, Remove: true, Version: build.BuilderV1})
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if err := said(answer.Body); err != nil {
		return nil, err
	}
	saved, err := e.Client.ImageSave(ctx, []string{ref})
	if err != nil {
		return nil, err
	}
	defer saved.Close()
	return readStandIn(saved)
}

// manifest is an entry of manifest.json in what `docker save` writes.
type manifest struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

func readStandIn(saved io.Reader) (*standIn, error) {
	files := map[string][]byte{}
	for r := tar.NewReader(saved); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
	var list []manifest
	if err := json.Unmarshal(files["manifest.json"], &list); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	if len(list) != 1 || len(list[0].Layers) != 1 {
		return nil, fmt.Errorf("got %+v, want one image of one layer", list)
	}
	s := &standIn{layer: files[list[0].Layers[0]]}
	return s, json.Unmarshal(files[list[0].Config], &s.config)
}

// load gives an engine images that differ from the stand-in in a label, and in
// the environment that each reference leads to.
func (s *standIn) load(ctx context.Context, e *Engine, refs map[string][]string) error {
	files := map[string][]byte{"layer.tar": s.layer}
	var list []manifest
	for ref, env := range refs {
		config, err := s.variant(ref, env)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(ref, ":", "-") + ".json"
		files[name] = config
		list = append(list, manifest{Config: name, RepoTags: []string{ref}, Layers: []string{"layer.tar"}})
	}
	var err error
	if files["manifest.json"], err = json.Marshal(list); err != nil {
		return err
	}
	packed, err := pack(files)
	if err != nil {
		return err
	}
	answer, err := e.Client.ImageLoad(ctx, packed)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return said(answer.Body)
}

func (s *standIn) variant(ref string, env []string) ([]byte, error) {
	image := maps.Clone(s.config)
	run, ok := image["config"].(map[string]any)
	if !ok {
		return nil, errors.New("its configuration says nothing of containers")
	}
	run = maps.Clone(run)
	run["Labels"], run["Env"] = map[string]string{"test.image": ref}, env
	image["config"] = run
	return json.Marshal(image)
}

// tarOf packs files of this machine under other names.
func tarOf(paths map[string]string) (io.Reader, error) {
	files := map[string][]byte{}
	for name, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	return pack(files)
}

func pack(files map[string][]byte) (io.Reader, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	return &out, w.Close()
}

// said reads an engine's answer about an image to its end, and returns what
// went wrong.
func said(r io.Reader) error {
	lines := json.NewDecoder(r)
	for {
		var line struct {
			Error string `json:"error"`
		}
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return fmt.Errorf("the engine says: %s", line.Error)
		}
	}
}
