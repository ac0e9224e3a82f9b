package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/mask"
	"github.com/defib-dev/defib/watcher/policy"
)

const planted = "Zq7Zq7Zq7Zq7Zq7"

// plant fills every text in v, of whatever type it will be one day, with what
// disguise makes of the secret; every name by which things are found again
// with a name.
func plant(v reflect.Value, field string, depth int, disguise func() string) {
	switch v.Kind() { //nolint:exhaustive // numbers hold no secrets
	case reflect.String:
		if isIdentity(field) {
			v.SetString("web")
		} else {
			v.SetString(disguise())
		}
	case reflect.Pointer:
		if depth > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			plant(v.Elem(), field, depth-1, disguise)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			plant(v.Index(i), field, depth-1, disguise)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), reflect.ValueOf(disguise())) // a label with the name of one of our fields
		v.SetMapIndex(reflect.ValueOf("password"), reflect.ValueOf(planted))
		v.SetMapIndex(reflect.ValueOf("hf_"+planted), reflect.ValueOf("x"))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(epoch))
			return
		}
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			plant(v.Field(i), name, depth-1, disguise)
		}
	}
}

func planting[T any](disguise func() string) T {
	var v T
	plant(reflect.ValueOf(&v).Elem(), "", 12, disguise)
	return v
}

func disguises() []string {
	return []string{
		"hf_" + planted, "token=" + planted, "a\nBearer " + planted + "\nb", "\x1b[1mpass\x00word\x1b[0m: " + planted,
		`{"api_key":"` + planted + `"}`, "pass\u200bword=" + planted, "é postgres://u:" + planted + "@h/x", strings.Repeat("x ", 9000) + "hf_" + planted,
		"-----BEGIN PRIVATE KEY-----\n" + planted, "acme " + planted,
	}
}

func TestNoSecretIsWritten(t *testing.T) {
	m, err := mask.New([]string{`acme (\w+)`})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{Mask: m})
	next := 0
	disguise := func() string {
		next++
		return disguises()[next%len(disguises())]
	}
	for range disguises() { // each field gets each of them
		next++
		in := planting[policy.Incident](disguise)
		in.Closed = time.Time{}
		host := planting[policy.Host](disguise)
		r := watcher.Record{Event: planting[policy.Event](disguise), Decisions: planting[[]policy.Decision](disguise)}
		r.Changes = policy.Changes{Host: &host, Units: []policy.Unit{planting[policy.Unit](disguise)}, Incidents: []policy.Incident{in}}
		mustAppend(t, j, r)
	}
	pem := record(1, policy.Changes{})
	pem.Event.Outcome = &policy.Outcome{Evidence: &policy.Evidence{Logs: []string{"-----BEGIN RSA PRIVATE KEY-----", planted, planted, "-----END RSA PRIVATE KEY-----", "after"}}}
	mustAppend(t, j, pem)
	mustClose(t, j)

	refuseSecret(t, dir)
	_, snap := mustOpen(t, dir, Options{Mask: m})
	if len(snap.Units) != 1 || snap.Units[0].Key != "web" || snap.Units[0].Run.Began != epoch {
		t.Errorf("the state is not what it should be: %+v", snap.Units)
	}
	all := records(t, dir, time.Time{})
	want := []string{"-----BEGIN RSA PRIVATE KEY-----", "***", "***", "***", "after"}
	if diff := cmp.Diff(want, all[len(all)-1].Event.Outcome.Evidence.Logs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// refuseSecret looks through every file for the secret.
func refuseSecret(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if i := strings.Index(string(text), planted); i >= 0 {
			t.Errorf("%s holds the secret: %q", path, text[max(i-150, 0):i+50])
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("looked through %d files: %v", files, err)
	}
}

func TestMaskingChangesNothingElse(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	u := planting[policy.Unit](func() string { return "größer <b> & \"quoted\" \\ back\nline … 日本 {}[],:" })
	u.Last.Labels = map[string]string{"name": "x", "a:b,c}": "y", "": ""}
	u.Key = "sk-learn-inference-server-0123456789" // looks like a key, and is a name
	mustAppend(t, j, record(1, policy.Changes{Units: []policy.Unit{u}}))
	mustClose(t, j)
	_, snap := mustOpen(t, dir, Options{})
	if diff := cmp.Diff([]policy.Unit{u}, snap.Units); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHugeTextIsCut(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir, Options{})
	r := record(1, policy.Changes{})
	r.Event.Reason = strings.Repeat("\x1b[31mé\n", 1<<20/7)
	mustAppend(t, j, r)
	mustClose(t, j)
	got := records(t, dir, time.Time{})[0].Event.Reason
	if len(got) > leafMax || len(got) < leafMax-8 || !strings.HasSuffix(got, "…") || !strings.HasPrefix(got, "é\né\n") {
		t.Errorf("got %d bytes: %s", len(got), fmt.Sprintf("%.40q", got))
	}
}
