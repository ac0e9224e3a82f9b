package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const example = "../../../../config.yaml.example"

// TestExampleIsTheDefault keeps config.yaml.example true: it sets every key,
// and each to its default.
func TestExampleIsTheDefault(t *testing.T) {
	cfg, src, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), cfg); d != "" {
		t.Errorf("the example differs from the defaults (-default +example):\n%s", d)
	}
	for _, f := range fields(&cfg) {
		if _, inline := f.value.(secretInline); src[f.key] == "" && !inline {
			t.Errorf("the example does not show %s", f.key)
		}
	}
}

// TestEveryNumberHasAKey fails when policy.Config gains a value that the file
// cannot set.
func TestEveryNumberHasAKey(t *testing.T) {
	cfg := Default()
	reached := map[any]bool{}
	for _, f := range fields(&cfg) {
		reached[f.value] = true
		if r, ok := f.value.(resetOffer); ok {
			reached[r.offer] = true
		}
	}
	v := reflect.ValueOf(&cfg.Policy).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Name == "Sources" {
			continue // says where the others came from
		}
		if !reached[v.Field(i).Addr().Interface()] {
			t.Errorf("no key sets policy.Config.%s", v.Type().Field(i).Name)
		}
	}
}

// TestKeysAreThePolicysNames keeps the names of the file and those in the
// sentences of policy.Config.Validate the same.
func TestKeysAreThePolicysNames(t *testing.T) {
	cfg := Default()
	known := map[string]bool{}
	for _, f := range fields(&cfg) {
		known[f.key] = true
	}
	for _, f := range fields(&cfg) {
		switch v := f.value.(type) {
		case *time.Duration:
			*v = -time.Second
		case *int:
			*v = -1
		}
	}
	for line := range strings.Lines(cfg.Policy.Validate().Error()) {
		if key, _, _ := strings.Cut(line, ":"); !known["policy."+key] {
			t.Errorf("policy.Config.Validate speaks of %q, which is no key of the file", key)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       func(*Config)
	}{
		{"empty", "", func(*Config) {}},
		{"comments only", "# nothing\n", func(*Config) {}},
		{"explicit document", "---\nversion: 1\n", func(*Config) {}},
		{"empty section", "policy:\nwatch:\n  all: true\n", func(c *Config) { c.Policy.All = true }},
		{"numbers and times", "policy:\n  start_retries: 7\n  backoff_base: 1m30s\n  settle: 0s\n", func(c *Config) {
			c.Policy.StartRetries, c.Policy.Base, c.Policy.Settle = 7, 90*time.Second, 0
		}},
		{"flow style", "{policy: {max_parallel: 2}, mask: ['a.c', b]}", func(c *Config) {
			c.Policy.MaxParallel, c.Mask = 2, []string{"a.c", "b"}
		}},
		{"group by number", "api: {group: 998}\n", func(c *Config) { c.API.Group = "998" }},
		{"CRLF", "version: 1\r\nwatch:\r\n  observe: true\r\n", func(c *Config) { c.Policy.Observe = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := Default()
			c.want(&want)
			got, _, err := Parse("c.yaml", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{
			"unknown key, near", "version: 1\npolicy:\n  start_secondz: 10s\n",
			"c.yaml:3:3: policy.start_secondz: no such setting; did you mean start_seconds?\n    3 |   start_secondz: 10s\n          ^",
		},
		{
			"unknown key, far", "colour: red\n",
			"c.yaml:1:1: colour: no such setting; `defib config show` lists all\n    1 | colour: red\n        ^",
		},
		{
			"unknown section", "polizy:\n  settle: 1s\n",
			"c.yaml:1:1: polizy: no such setting; did you mean policy?\n    1 | polizy:\n        ^",
		},
		{
			"wrong section", "settle: 30s\n",
			"c.yaml:1:1: settle: no such setting; it belongs under policy:\n    1 | settle: 30s\n        ^",
		},
		{
			"wrong section, nested", "policy:\n  observe: true\n",
			"c.yaml:2:3: policy.observe: no such setting; it belongs under watch:\n    2 |   observe: true\n          ^",
		},
		{
			"duplicate key", "policy:\n  settle: 1s\n  settle: 2s\n",
			"c.yaml:3:3: policy.settle: is set twice, first on line 2\n    3 |   settle: 2s\n          ^",
		},
		{
			"bare number", "policy:\n  backoff_base: 10\n",
			"c.yaml:2:17: policy.backoff_base: want a time with its unit, such as 10s or 10m; a bare number says neither\n    2 |   backoff_base: 10\n                        ^",
		},
		{
			"no time", "policy:\n  backoff_base: soon\n",
			"c.yaml:2:17: policy.backoff_base: want a time such as 30s, 15m or 6h, have \"soon\"\n    2 |   backoff_base: soon\n                        ^",
		},
		{
			"negative time", "policy:\n  settle: -5s\n",
			"c.yaml:2:11: policy.settle: a time cannot be negative, have \"-5s\"\n    2 |   settle: -5s\n                  ^",
		},
		{
			"not a number", "policy: {budget_min: many}\n",
			"c.yaml:1:22: policy.budget_min: want a whole number such as 5, have \"many\"\n    1 | policy: {budget_min: many}\n                             ^",
		},
		{
			"a fraction", "policy: {budget_min: 1.5}\n",
			"c.yaml:1:22: policy.budget_min: want a whole number such as 5, have 1.5\n    1 | policy: {budget_min: 1.5}\n                             ^",
		},
		{
			"too large", "policy: {budget_min: 99999999999}\n",
			"c.yaml:1:22: policy.budget_min: the number 99999999999 is out of range\n    1 | policy: {budget_min: 99999999999}\n                             ^",
		},
		{
			"not a boolean", "watch: {all: yes}\n",
			"c.yaml:1:14: watch.all: want true or false, have \"yes\"\n    1 | watch: {all: yes}\n                     ^",
		},
		{
			"no value", "watch:\n  all:\n",
			"c.yaml:2:3: watch.all: has no value; delete the line to keep the default\n    2 |   all:\n          ^",
		},
		{
			"section with a text", "policy: fast\n",
			"c.yaml:1:9: policy: want lines of `key: value` here\n    1 | policy: fast\n                ^",
		},
		{
			"a list at the top", "- a\n- b\n",
			"c.yaml:1:1: want lines of `key: value` here\n    1 | - a\n        ^",
		},
		{
			"another version", "version: 2\n",
			"c.yaml:1:10: version: this defib reads version 1 of the file\n    1 | version: 2\n                 ^",
		},
		{
			"two documents", "version: 1\n---\nversion: 1\n",
			"c.yaml:3:8: a second document begins here; put all settings into the first\n    3 | version: 1\n               ^",
		},
		{
			"meaning", "policy:\n  budget_min: 0\n",
			"c.yaml:2:3: policy.budget_min: 0 must be at least 1\n    2 |   budget_min: 0\n          ^",
		},
		{
			"meaning, by the other key", "policy:\n  backoff_base: 10m\n",
			"c.yaml:2:3: policy.backoff_cap: 5m0s is shorter than backoff_base 10m0s\n    2 |   backoff_base: 10m\n          ^",
		},
		{
			"bad pattern", "mask: ['(']\n",
			"c.yaml:1:8: mask: \"(\" is no regular expression: error parsing regexp: missing closing ): `(`\n    1 | mask: ['(']\n               ^",
		},
		{
			"pattern of everything", "mask: ['x*']\n",
			"c.yaml:1:8: mask: \"x*\" matches the empty text, and so everywhere\n    1 | mask: ['x*']\n               ^",
		},
		{
			"list of sections", "mask: [{a: b}]\n",
			"c.yaml:1:8: mask: want a text, have a section\n    1 | mask: [{a: b}]\n               ^",
		},
		{
			"anchor", "policy:\n  settle: &x 5s\n",
			"c.yaml:2:11: policy.settle: want a time such as 30s or 15m, have a YAML anchor, which is not read here\n    2 |   settle: &x 5s\n                  ^",
		},
		{
			"hostile", "\x1b[31mx\x1b: 1\n",
			"c.yaml:1:1: ?[31mx?: no such setting; `defib config show` lists all\n    1 | ?[31mx?: 1\n        ^",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Parse("c.yaml", []byte(c.text))
			if err == nil {
				t.Fatal("no error")
			}
			if d := cmp.Diff(c.want, err.Error()); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestAllProblemsAtOnce wants every mistake named in one go, in the file's
// order, and none that only follows from another one.
func TestAllProblemsAtOnce(t *testing.T) {
	for text, want := range map[string][]string{
		"watch:\n  all: maybe\npolicy:\n  settle: 5\n  start_retrys: 3\nversion: one\n": {"watch.all", "policy.settle", "policy.start_retrys", "version"},
		"policy:\n  budget_min: 0\n  start_retrys: 3\nmetrics:\n  listen: nowhere\n":    {"policy.budget_min", "policy.start_retrys", "metrics.listen"},
		// The base is over the cap only as long as the cap could not be read.
		"policy:\n  backoff_base: 10m\n  backoff_cap: 1 hour\n":                {"policy.backoff_cap"},
		"notify:\n  remind_max: many\n  routes:\n    - {channels: [nobody]}\n": {"notify.remind_max", "notify.routes[0].channels"},
		// A typing mistake hides nothing but what may follow from it.
		"notify:\n  locale: de\n  quiet_hours: night\n  timezone: Mars\n  channels:\n    - {name: a b, type: slak}\n    - {type: webhook, url_env: U}\n  routes:\n    - {channels: [b]}\n": {
			"notify.locale", "notify.quiet_hours", "notify.timezone", "notify.channels[0].type", "notify.channels[0].name", "notify.channels[1]", "notify.routes[0].channels",
		},
		"notify:\n  channels:\n    - {nam3: a, type: webhook, url_env: U}\n  routes:\n    - {channels: [a], label: x}\n": {"notify.channels[0].nam3", "notify.routes[0].label"},
		"notify:\n  chanels:\n    - {name: a}\n  routes:\n    - {channels: [a]}\n":                                       {"notify.chanels"},
		"notify:\n  channels: [a]\n  routes:\n    - {channels: [a]}\n":                                                   {"notify.channels[0]"},
	} {
		_, _, err := Parse("c.yaml", []byte(text))
		var ps FileErrors
		if !errors.As(err, &ps) {
			t.Fatalf("%s: got %v, want FileErrors", text, err)
		}
		var got []string
		for _, p := range ps {
			got = append(got, p.Key)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s(-want +got):\n%s", text, d)
		}
	}
}

func TestSyntaxErrorHasAPlace(t *testing.T) {
	_, _, err := Parse("c.yaml", []byte("version: 1\npolicy: {settle: 1s\n"))
	var ps FileErrors
	if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Line != 2 {
		t.Errorf("got %v, want one problem on line 2", err)
	}
}

func TestLoadFile(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("got %v, want a refusal of the size", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "version: 1\n", "policy: {settle: 1s}", "a: &x\n  b: *x\n", "- [", "mask: ['(']", "? a\n: b\n", "<<: {a: b}\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, _, err := Parse("c.yaml", data)
		if err == nil && cfg.Policy.Validate() != nil {
			t.Errorf("an invalid configuration was accepted: %v", cfg.Policy.Validate())
		}
	})
}
