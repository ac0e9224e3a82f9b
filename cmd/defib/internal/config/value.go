package config

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// assign puts a value of the file into dst, or reports what is wrong with it.
func (l *loader) assign(key string, dst any, n ast.Node) {
	text := ""
	switch dst := dst.(type) {
	case *bool:
		text = assignBool(dst, n)
	case *int:
		text = assignInt(dst, n)
	case *time.Duration:
		text = assignDuration(dst, n)
	case *string:
		text = assignString(dst, n)
	case *[]string:
		l.patterns(key, dst, n)
	case resetOffer:
		text = assignReset(dst, n)
	case *choice:
		text = assignChoice(dst, n)
	case *words:
		text = assignWords(dst, n)
	case secretFile:
		text = assignSecretFile(dst, n)
	case secretEnv:
		text = assignSecretEnv(dst, n)
	case secretInline:
		text = inlineText(dst.name)
	case rowList:
		l.rows(key, dst, n)
	}
	if text != "" {
		l.problem(n.GetToken(), key, text)
	}
}

func assignBool(dst *bool, n ast.Node) string {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		return "want true or false, have " + have(n)
	}
	*dst = b.Value
	return ""
}

func assignInt(dst *int, n ast.Node) string {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return "want a whole number such as 5, have " + have(n)
	}
	switch v := i.Value.(type) {
	case int64:
		if v >= math.MinInt32 && v <= math.MaxInt32 {
			*dst = int(v)
			return ""
		}
	case uint64:
		if v <= math.MaxInt32 {
			*dst = int(v)
			return ""
		}
	}
	return "the number " + have(n) + " is out of range"
}

func assignDuration(dst *time.Duration, n ast.Node) string {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return "want a time with its unit, such as " + have(n) + "s or " + have(n) + "m; a bare number says neither"
	}
	s, ok := n.(*ast.StringNode)
	if !ok {
		return "want a time such as 30s or 15m, have " + have(n)
	}
	d, err := time.ParseDuration(s.Value)
	if err != nil {
		return "want a time such as 30s, 15m or 6h, have " + have(n)
	}
	if d < 0 {
		return "a time cannot be negative, have " + have(n)
	}
	*dst = d
	return ""
}

func assignString(dst *string, n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		*dst = n.Value
		return ""
	case *ast.IntegerNode: // a group may be a number
		*dst = n.GetToken().Value
		return ""
	}
	return "want a text, have " + have(n)
}

// patterns reads a list of regular expressions.
func (l *loader) patterns(key string, dst *[]string, n ast.Node) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		l.problem(n.GetToken(), key, "want a list such as [\"first\", \"second\"], have "+have(n))
		return
	}
	for _, v := range seq.Values {
		var s string
		text := assignString(&s, v)
		if text == "" {
			text = badPattern(s)
		}
		if text != "" {
			l.problem(v.GetToken(), key, text)
			continue
		}
		*dst = append(*dst, s)
	}
}

// have names a value of the file in a sentence.
func have(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode:
		return "a YAML anchor, which is not read here"
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return clip(n.GetToken().Value)
	case *ast.StringNode:
		return fmt.Sprintf("%q", clip(n.GetToken().Value))
	}
	return "something else"
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// badPattern says why a pattern of the mask list cannot be used, or "".
func badPattern(p string) string {
	re, err := regexp.Compile(p)
	if err != nil {
		return fmt.Sprintf("%q is no regular expression: %v", clip(p), err)
	}
	if re.MatchString("") {
		return fmt.Sprintf("%q matches the empty text, and so everywhere", clip(p))
	}
	return ""
}
