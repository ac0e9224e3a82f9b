package policy

import (
	"testing"
	"time"

	"github.com/defib-dev/defib/gpu"
)

// An Xid is not hidden by what else the same failure made the driver say.
func TestLastFault(t *testing.T) {
	at := time.Date(2026, 3, 14, 3, 0, 0, 0, time.UTC)
	xid := gpu.Fault{Kind: gpu.FaultXid, Code: 79, At: at}
	for _, tt := range []struct {
		name   string
		faults []gpu.Fault
		want   gpu.FaultKind
	}{
		{"none", nil, ""},
		{"an Xid", []gpu.Fault{xid}, gpu.FaultXid},
		{"a loss just after it", []gpu.Fault{xid, {Kind: gpu.FaultBusLoss, At: at.Add(time.Second)}}, gpu.FaultXid},
		{"a loss long after it", []gpu.Fault{xid, {Kind: gpu.FaultBusLoss, At: at.Add(time.Hour)}}, gpu.FaultBusLoss},
		{"a loss before it", []gpu.Fault{{Kind: gpu.FaultBusLoss, At: at.Add(-time.Hour)}, xid}, gpu.FaultXid},
		{"an Xid without a number", []gpu.Fault{{Kind: gpu.FaultXid, Code: -1, At: at}, {Kind: gpu.FaultECC, At: at}}, gpu.FaultECC},
	} {
		f, got := lastFault(tt.faults), gpu.FaultKind("")
		if f != nil {
			got = f.Kind
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
