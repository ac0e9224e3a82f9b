package notify

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/defib-dev/defib/watcher/policy"
)

// Every rule that the policy and the GPU rules write, and every word of what
// comes next, has a phrase in both languages.
func TestPhrasesForEveryRule(t *testing.T) {
	rules := rulesIn(t, "../../watcher/policy", "../../gpu")
	if len(rules) < 90 {
		t.Fatalf("only %d rules found in the source: %q", len(rules), rules)
	}
	for _, known := range []string{"gave_up", "held_gpu", "held_vram", "restart_failed", "gpu_reset_undo", "sxid", "unhealthy", "recovered", "fabric", "acknowledged", "check_broken"} {
		if !slices.Contains(rules, known) {
			t.Errorf("the rule %s was not found in the source", known)
		}
	}
	for _, locale := range []string{"en", "zh"} {
		w := mustWords(t, locale, nil)
		for _, r := range append(rules, "storm", RuleAlarm) {
			if w.builtin.phrases["rule."+r] == "" {
				t.Errorf("%s: no phrase for rule.%s", locale, r)
			}
		}
		for _, next := range nexts(t) {
			if key := "next." + strings.ToLower(strings.ReplaceAll(next, " ", "_")); w.builtin.phrases[key] == "" {
				t.Errorf("%s: no phrase for %s", locale, key)
			}
		}
	}
}

// No phrase says what no rule has; both languages say the same things, with the
// same values.
func TestPhrasesMatch(t *testing.T) {
	en, zh := mustWords(t, "en", nil).builtin.phrases, mustWords(t, "zh", nil).builtin.phrases
	rules := rulesIn(t, "../../watcher/policy", "../../gpu")
	for key, phrase := range en {
		if zh[key] == "" && !strings.HasSuffix(key, ".1") {
			t.Errorf("zh has no %s", key)
		} else if a, b := braced(phrase), braced(zh[key]); zh[key] != "" && !slices.Equal(sorted(a), sorted(b)) {
			t.Errorf("%s: en has %q, zh %q", key, a, b)
		}
		if r, ok := strings.CutPrefix(key, "rule."); ok && r != "storm" && r != RuleAlarm && r != "xid" && !slices.Contains(rules, r) {
			t.Errorf("%s is a rule of nothing", key)
		}
	}
	for key := range zh {
		kind, _, _ := strings.Cut(key, ".")
		if en[key] == "" && kind != "xid" && kind != "remedy" {
			t.Errorf("en has no %s", key)
		}
	}
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func mustWords(t testing.TB, locale string, overrides fs.FS) *Words {
	t.Helper()
	w, err := NewWords(locale, overrides)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// rulesIn reads the names of rules out of source: the words in calls of
// functions that take one, the values of fields of that name, constants, and
// those that are put together from a verb or a hold.
func rulesIn(t *testing.T, dirs ...string) []string {
	t.Helper()
	found := map[string]bool{}
	add := func(e ast.Expr) {
		if s, ok := word(e); ok {
			found[s] = true
		}
	}
	calls := strings.Fields("open page pageOnce newIncident note step stepIn say sayIn pageIn pageHost giveUp closeIncident end act about byRow freeGPU ask poll become rest decide")
	for _, dir := range dirs {
		walk(t, dir, func(n ast.Node) {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(calls, sel.Sel.Name) {
					for i, a := range n.Args {
						if i != 2 || sel.Sel.Name != "become" { // a detail of a state
							add(a)
						}
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && strings.EqualFold(key.Name, "rule") {
					add(n.Value)
				}
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if strings.HasPrefix(name.Name, "rule") && i < len(n.Values) {
						add(n.Values[i])
					}
				}
			case *ast.ReturnStmt: // func exitRule
				for _, r := range n.Results {
					if s, ok := word(r); ok && (s == "oom" || s == "exited") {
						found[s] = true
					}
				}
			}
		})
	}
	for _, v := range []policy.Verb{policy.VerbRestart, policy.VerbStart, policy.VerbStop, policy.VerbResetGPU} {
		found[string(v)+"_failed"] = true
	}
	for _, h := range []policy.HoldReason{
		policy.HoldOperator, policy.HoldGPU, policy.HoldVRAM, policy.HoldStuck, policy.HoldDisk,
		policy.HoldDependency, policy.HoldPanic, policy.HoldBudget, policy.HoldSlot,
	} {
		found["held_"+string(h)] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func word(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil && regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(s)
}

func walk(t *testing.T, dir string, visit func(ast.Node)) {
	t.Helper()
	walkNamed(t, dir, func(_ string, n ast.Node) { visit(n) })
}

// walkNamed visits the source of a package, file by file.
func walkNamed(t *testing.T, dir string, visit func(file string, n ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s (%v)", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, isImport := n.(*ast.ImportSpec); isImport {
				return false
			}
			if field, ok := n.(*ast.Field); ok {
				return field.Tag == nil
			}
			visit(filepath.Base(name), n)
			return true
		})
	}
}

// nexts are what the policy says comes next.
func nexts(t *testing.T) []string {
	t.Helper()
	out := []string{"restart", "start", "stop", "would restart", "would start", "would stop"}
	walk(t, "../../watcher/policy", func(n ast.Node) {
		fn, ok := n.(*ast.FuncDecl)
		if !ok || fn.Name.Name != "next" || fn.Recv == nil {
			return
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			r, ok := n.(*ast.ReturnStmt)
			if !ok {
				return true
			}
			if lit, ok := r.Results[0].(*ast.BasicLit); ok {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					out = append(out, s)
				}
			}
			return true
		})
	})
	if !slices.Contains(out, "half-open retry") {
		t.Fatalf("what comes next was not found in the source: %q", out)
	}
	return out
}
