package notify

import (
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// The children of an incident that is told as part of a storm are no news when
// it ends, unless one of them needs somebody.
func TestAStormTellsTheChildrenOfItsMembers(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c).open()
		defer d.kill()
		all := many(7, policy.LevelWarn)
		parent, a, b := family()
		d.commit(append(all, parent)...)
		d.wait(10 * time.Second)
		d.sent(c, "0s post INC-000 warn", "2s post STORM-001 warn")
		d.commit(a, b)
		d.wait(2 * time.Minute) // the storm grows no more
		d.commit(over(parent))
		d.wait(10 * time.Second)
		d.commit(over(a))
		d.commit(page(b))
		d.wait(10 * time.Second)
		d.sent(c, "2m20s post INC-2 page !")
	})
}
