package notify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defib-dev/defib/watcher/policy"
)

// TestNobodyIsForgotten lets chance decide what happens on a host, to its
// channels and to its clock, and checks at the end that:
//
//   - While some channels still fail and one works, somebody has been called
//     for each open incident that needs somebody, an hour after the last thing
//     happened: by any channel, whether or not routes lead there.
//
//   - When all channels have worked again for two hours, each of those that
//     routes lead to has called for each of these incidents itself.
//
//   - No chat has two root messages for one incident or storm.
//
//   - No chat calls twice for an incident that has no children, but to remind.
//
//   - No channel reminds of what it has called for less than four minutes ago,
//     as long as the clock does not jump.
//
//   - Nobody is called for a container that works at that time, and it is not
//     asked all the time whether it does.
//
//   - Each channel knows of the newest alarm, if things were never recorded
//     since, and of its end otherwise.
//
// A call for an incident is its own message, its parent's or that of a storm
// that lists one of them. Parents and storms call again when more of theirs
// need somebody, and an alert that is sent again is no new message.
func TestNobodyIsForgotten(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for _, x := range []mix{
		{name: "plain"},
		{name: "storms", storms: true},
		{name: "clock", setBack: true},
		{name: "both", storms: true, setBack: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			for seed := range seeds {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					t.Parallel() // most of it is waiting for the disk
					in(t, func(t *testing.T) { newModel(t, x, seed).run() })
				})
			}
		})
	}
}

// mix says what may happen besides the usual.
type mix struct {
	name    string
	storms  bool // many incidents at once
	setBack bool // the clock jumps, to and fro
}

// model is a desk to which things happen, and what is true of its incidents.
type model struct {
	*desk
	mix
	rnd       *rand.Rand
	chans     []Channel
	routed    []string // the names of the channels that routes lead to
	fast      atomic.Int64
	all       map[string]policy.Incident
	lastID    int
	up        sync.Map     // the units that work
	told      atomic.Int64 // stories that were asked for
	alarmed   bool         // the journal refuses …
	lastAlarm int          // … and how often it did
	hushed    time.Time    // when the last of the silences ends, by the clock that jumps
	history   []string
}

func newModel(t *testing.T, x mix, seed uint64) *model {
	m := &model{mix: x, rnd: rand.New(rand.NewPCG(seed, 1)), all: map[string]policy.Incident{}, lastID: 100}
	m.chans = []Channel{to("slack", Threaded, policy.LevelWarn), to("lark", Append, policy.LevelWarn), to("pd", Alert, policy.LevelPage)}
	m.desk = newDesk(t, m.chans...)
	m.routed = one(m.rnd, [][]string{{"slack"}, {"lark"}, {"pd"}, {"slack", "lark", "pd"}})
	m.o.RemindAfter, m.o.Now, m.o.Story = 30*time.Minute, m.now, m.story
	if seed%3 == 0 {
		m.o.Dir = t.TempDir()
	}
	m.o.Routes = []Route{{Unit: "*", Channels: m.routed}}
	return m
}

func one[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// now is what the clock of the host shows, whose jumps timers do not see: the
// monotonic part is left out.
func (m *model) now() time.Time {
	return time.Now().Add(time.Duration(m.fast.Load())).Round(0)
}

func (m *model) run() {
	defer m.tell()
	m.open()
	defer m.kill()
	for range 30 {
		m.happen()
		if m.setBack && m.rnd.IntN(6) == 0 {
			m.jump()
		}
		m.expire()
		m.wait(one(m.rnd, []time.Duration{0, time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 20 * time.Minute}))
	}
	m.outlast()
	m.someoneCalls()
	m.healAll()
	m.eachCalls()
	m.alarmIsTold()
	m.sparesSleep()
	m.postsOnce()
	m.callsOnce()
	m.remindsLater()
}

// happen: what is named twice is twice as likely.
func (m *model) happen() {
	one(m.rnd, []func(){
		m.begin, m.begin, m.family, m.adopt, m.worsen, m.worsen, m.mend, m.take, m.step,
		m.fail, m.heal, m.restart, m.silence, m.alarm, m.flicker,
	})()
}

// note writes down what happens, for who has to find out why a seed fails.
func (m *model) note(format string, a ...any) {
	m.history = append(m.history, fmt.Sprintf("%v "+format, append([]any{time.Since(m.start).Round(time.Second)}, a...)...))
}

// tell prints the whole story of a seed that failed.
func (m *model) tell() {
	if !m.t.Failed() {
		return
	}
	m.t.Logf("this one alone: go test ./actions/notify -run '%s$'", m.t.Name())
	m.t.Log("routes lead to", m.routed)
	for _, line := range m.history {
		m.t.Log(line)
	}
	for _, c := range m.chans {
		m.t.Log(c.Name, "was sent:")
		for _, line := range sinkOf(c).got {
			m.t.Log("   ", line)
		}
	}
}

// put commits revisions. What begins does so by the clock of the host.
func (m *model) put(ins ...policy.Incident) {
	for i := range ins {
		if ins[i].Rev == 1 {
			ins[i].Opened = m.now()
		}
		m.all[ins[i].ID] = ins[i]
	}
	m.commit(ins...)
}

// ids are in order, for a seed to mean the same each time.
func (m *model) ids(which func(policy.Incident) bool) []string {
	var out []string
	for id, x := range m.all {
		if x.Closed.IsZero() && which(x) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// some is one of the open incidents, if there is one like that.
func (m *model) some(which func(policy.Incident) bool) (policy.Incident, bool) {
	ids := m.ids(which)
	if len(ids) == 0 {
		return policy.Incident{}, false
	}
	return m.all[one(m.rnd, ids)], true
}

func anyOf(policy.Incident) bool { return true }

func isParent(x policy.Incident) bool { return x.Rule == "panic" }

func needsSomebody(x policy.Incident) bool { return x.Level == policy.LevelPage }

func (m *model) fresh(level policy.Level) policy.Incident {
	m.lastID++
	return trouble(fmt.Sprintf("INC-%d", m.lastID), level)
}

// begin: something fails, or many things do.
func (m *model) begin() {
	count := 1
	if m.storms && m.rnd.IntN(3) == 0 {
		count = 8
	}
	var ins []policy.Incident
	for range count {
		x := m.fresh(one(m.rnd, []policy.Level{policy.LevelWarn, policy.LevelWarn, policy.LevelPage}))
		m.note("%s begins: %s", x.ID, x.Level)
		ins = append(ins, x)
	}
	m.put(ins...)
}

// family: a GPU panics under two containers.
func (m *model) family() {
	a, b, parent := m.fresh(policy.LevelWarn), m.fresh(policy.LevelWarn), m.fresh(policy.LevelWarn)
	a.Parent, b.Parent = parent.ID, parent.ID
	parent.Rule, parent.Children = "panic", []string{a.ID, b.ID}
	m.note("%s begins, the parent of %v", parent.ID, parent.Children)
	m.put(a, b, parent)
}

// adopt: what has been told by itself turns out to have a cause.
func (m *model) adopt() {
	parent, ok := m.some(isParent)
	x, also := m.some(func(x policy.Incident) bool { return !isParent(x) && x.Parent == "" })
	if !ok || !also {
		return
	}
	x, parent = grow(x, "held"), grow(parent, "adopts")
	x.Parent = parent.ID
	parent.Children = append(slices.Clip(parent.Children), x.ID)
	m.note("%s becomes the parent of %s", parent.ID, x.ID)
	m.put(parent, x)
}

// worsen: it needs somebody now.
func (m *model) worsen() {
	if x, ok := m.some(func(x policy.Incident) bool { return !isParent(x) && !needsSomebody(x) }); ok {
		m.note("%s needs somebody", x.ID)
		m.put(page(x))
	}
}

func (m *model) mend() {
	if x, ok := m.some(anyOf); ok {
		m.note("%s is over", x.ID)
		m.put(over(x))
	}
}

func (m *model) take() {
	if x, ok := m.some(func(x policy.Incident) bool { return needsSomebody(x) && x.Ack == nil }); ok {
		m.note("%s is taken", x.ID)
		m.put(take(x, time.Hour))
	}
}

func (m *model) step() {
	if x, ok := m.some(anyOf); ok {
		m.note("%s goes on", x.ID)
		m.put(grow(x, "restart"))
	}
}

// expire: who has taken something did not finish in time.
func (m *model) expire() {
	for _, id := range m.ids(func(x policy.Incident) bool { return x.Ack != nil && !x.Ack.Until.After(time.Now()) }) {
		x := grow(m.all[id], "expired")
		x.Ack = nil
		m.note("%s is not taken any more", id)
		m.put(x)
	}
}

// fail: a service takes nothing until it heals.
func (m *model) fail() {
	c, why, after := one(m.rnd, m.chans), one(m.rnd, []Reason{ReasonNetwork, ReasonAuth, ReasonServer, ReasonRateLimited, ReasonClient}), time.Duration(0)
	if why == ReasonClient && sinkOf(c).class == Threaded { // where that is the message's fault, and the next one tells the rest
		why = ReasonServer
	}
	if why == ReasonRateLimited {
		after = time.Duration(10+m.rnd.IntN(590)) * time.Second
	}
	m.note("%s fails: %s %v", c.Name, why, after)
	sinkOf(c).failing(failWith(why, after))
}

func (m *model) heal() {
	c := one(m.rnd, m.chans)
	m.note("%s works", c.Name)
	sinkOf(c).failing(nil)
}

// flicker: a container works again for a while, or does not after all.
func (m *model) flicker() {
	if x, ok := m.some(needsSomebody); ok {
		_, up := m.up.LoadAndDelete(x.Unit)
		if !up {
			m.up.Store(x.Unit, true)
		}
		m.note("%s is up: %t", x.ID, !up)
	}
}

// story is an incident with its container, as it is now.
func (m *model) story(x policy.Incident) Story {
	s := Story{Host: "gpu-03", Incident: x}
	if _, up := m.up.Load(x.Unit); up {
		s.Unit = &policy.Status{State: policy.Running, Rule: "running"}
	}
	m.told.Add(1)
	return s
}

// alarm: nothing can be recorded, or everything again.
func (m *model) alarm() {
	if m.alarmed && m.rnd.IntN(2) == 0 {
		m.note("the journal works")
		m.alarmed = false
		m.n.Calm()
		return
	}
	m.lastAlarm++
	m.alarmed = true
	m.note("the journal refuses: %d", m.lastAlarm)
	m.n.Alarm(fmt.Sprintf("alarm %d", m.lastAlarm))
}

// restart: only some seeds have a disk to remember by, for it takes most of
// the time of those.
func (m *model) restart() {
	if m.o.Dir != "" {
		m.note("defib restarts")
		m.kill()
		m.open()
		if m.alarmed { // the watcher finds out at once
			m.n.Alarm(fmt.Sprintf("alarm %d", m.lastAlarm))
		}
	}
}

func (m *model) silence() {
	x, ok := m.some(anyOf)
	if !ok || m.rnd.IntN(2) == 0 {
		return
	}
	s := Silence{Unit: x.Name, By: "li", Why: "known", Until: m.now().Add(time.Duration(1+m.rnd.IntN(60)) * time.Minute)}
	m.note("%s is silenced until %s", x.ID, s.Until.Format(time.TimeOnly))
	if _, err := m.n.AddSilence(s); err != nil {
		m.t.Error(err)
	}
	if s.Until.After(m.hushed) {
		m.hushed = s.Until
	}
}

// jump: somebody sets the clock, by up to two hours.
func (m *model) jump() {
	by := time.Duration(m.rnd.IntN(240)-120) * time.Minute
	m.fast.Add(int64(by))
	m.note("the clock jumps by %v and shows %s", by, m.now().Format(time.TimeOnly))
}

// outlast leaves nothing to wait for but the channels that fail: the silences
// have ended, and after that there was time to try again and for stand-ins.
func (m *model) outlast() {
	m.up.Clear()
	m.wait(max(0, m.hushed.Sub(m.now())))
	m.wait(time.Hour)
}

func (m *model) healAll() {
	m.note("all work")
	for _, c := range m.chans {
		sinkOf(c).failing(nil)
	}
	m.wait(2 * time.Hour)
}
