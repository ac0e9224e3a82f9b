package policy_test

import (
	"testing"

	"github.com/defib-dev/defib/watcher/policy"
)

// A group is well again only when each of its own is.
func TestEndsTogether(t *testing.T) {
	for _, c := range []struct {
		ended    policy.Ends
		end, why string
	}{
		{policy.Ends{}, "recovered", "all of them are well again"},
		{policy.Ends{Recovered: 3}, "recovered", "all of them are well again"},
		{policy.Ends{Removed: 2}, "removed", "all of them were removed"},
		{policy.Ends{Failed: 2}, "failed", "all of them have failed"},
		{policy.Ends{Stopped: 1, Removed: 2, Recovered: 9}, policy.EndMixed, "well again: 9; stopped: 1; removed: 2"},
	} {
		if end, why := c.ended.Together(); end != c.end || why != c.why {
			t.Errorf("%+v: got %s, %q; want %s, %q", c.ended, end, why, c.end, c.why)
		}
	}
}
