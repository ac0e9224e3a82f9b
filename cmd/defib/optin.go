package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/defib-dev/defib/cmd/defib/internal/suggest"
	"github.com/defib-dev/defib/watcher/policy"
)

// optIn is what opts a container in, or why it is not watched, with the label
// that was probably meant to: a typing mistake switches defib off unseen.
func optIn(c policy.Config) func(labels map[string]string) (via, why string) {
	return func(labels map[string]string) (via, why string) {
		via, why = c.OptIn(labels)
		if via != "" || !strings.HasPrefix(why, "no label ") {
			return via, why
		}
		if near := nearLabel(labels); near != "" {
			why = near
		}
		return via, why
	}
}

// nearLabel is a sentence about a label that nearly opts a container in, or "".
func nearLabel(labels map[string]string) string {
	const most = 40                              // bytes of a label that are repeated
	if v, ok := labels[policy.LabelEnable]; ok { // neither true nor false, or it would have counted
		return fmt.Sprintf("its label %s=%s is neither true nor false; write %[1]s=true to have it watched", policy.LabelEnable, cut(v, most))
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(strings.ToLower(label), "defib") && suggest.Closest(label, policy.Labels()) == policy.LabelEnable {
			return fmt.Sprintf("its label %s is not known; %s is meant?", cut(label, most), policy.LabelEnable)
		}
	}
	return ""
}
