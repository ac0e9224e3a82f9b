package main

import (
	"testing"

	"github.com/defib-dev/defib/gpu"
	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

func TestResetAsked(t *testing.T) {
	mended := &gpu.Judgement{Verdict: gpu.Hold, Scope: gpu.ScopeGPU, Clears: gpu.ClearRecovery}
	lost := &gpu.Judgement{Verdict: gpu.Hold, Scope: gpu.ScopeHost, Clears: gpu.ClearReading, NoKill: true}
	for _, tc := range []struct {
		name  string
		holds []policy.Hold
		want  bool
	}{
		{"nothing is held", nil, false},
		{"a reset mends it", []policy.Hold{{Reason: policy.HoldPanic}, {Reason: policy.HoldGPU, Judgement: lost}, {Reason: policy.HoldGPU, Judgement: mended}}, true},
		{"only a reboot does", []policy.Hold{{Reason: policy.HoldGPU, Judgement: lost}}, false},
		{"an operator holds it", []policy.Hold{{Reason: policy.HoldOperator}, {Reason: policy.HoldGPU}}, false},
	} {
		v := &watcher.View{}
		v.Host.Holds = tc.holds
		if got := resetAsked(v); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if resetAsked(nil) {
		t.Error("a reset is asked for before anything is known")
	}
}
