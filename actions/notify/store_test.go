package notify

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/defib-dev/defib/watcher/policy"
)

func TestNothingIsLostOrRepeatedOverARestart(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Threaded, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		x, y, z := trouble("INC-1", policy.LevelWarn), trouble("INC-2", policy.LevelWarn), trouble("INC-3", policy.LevelWarn)
		d.commit(x, y)
		d.wait(5 * time.Second)
		sinkOf(c).failing(failWith(ReasonServer, 0))
		d.commit(z)
		d.kill()
		sinkOf(c).failing(nil)
		d.sent(c, "0s post INC-1 warn", "2s post INC-2 warn")

		d.wait(10 * time.Minute)
		w := trouble("INC-4", policy.LevelInfo)
		d.arch.all["INC-1"], d.arch.all["INC-4"] = over(x), over(w)
		d.open()
		d.wait(time.Minute)
		d.kill()
		d.sent(c, "10m5s post INC-3 warn", "10m5s resolve INC-1 warn over re:1", "10m6s step INC-1 warn over re:1 recovered")
		d.open()
		d.wait(time.Minute)
		d.kill()
		d.sent(c)
	})
}

func TestAStormGoesOnAfterARestart(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		all := many(50, policy.LevelWarn)
		d.commit(all...)
		d.wait(time.Minute)
		d.kill()
		d.open()
		d.wait(time.Minute)
		d.commit(each2(all, over)...)
		d.wait(time.Minute)
		d.kill()
		d.sent(c, "0s post INC-000 warn", "2s post STORM-001 warn", "2m0s resolve INC-000 warn over re:1", "2m1s resolve STORM-001 warn over re:2")
	})
}

func TestANewOutboxTellsOnlyWhatIsOpen(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.arch.all["INC-1"] = trouble("INC-1", policy.LevelWarn)
		d.arch.all["INC-2"] = over(trouble("INC-2", policy.LevelPage))
		time.Sleep(time.Minute)
		d.open()
		d.wait(time.Minute)
		d.kill()
		d.sent(c, "1m0s post INC-1 warn")
	})
}

// A channel that is new, or comes back, is told of what is open and of nothing
// that was over before.
func TestANewChannelTellsOnlyWhatIsOpen(t *testing.T) {
	in(t, func(t *testing.T) {
		old, fresh := to("old", Append, policy.LevelPage), to("fresh", Append, policy.LevelPage)
		d := newDesk(t, old)
		d.o.Dir = t.TempDir()
		restart := func(channels ...Channel) {
			d.kill()
			d.o.Channels = channels
			d.open()
			d.wait(time.Minute)
		}
		d.open()
		x, y := trouble("INC-1", policy.LevelPage), trouble("INC-2", policy.LevelPage)
		d.commit(x, y)
		d.wait(time.Minute)
		d.commit(over(x))
		d.wait(time.Hour)
		sinkOf(fresh).start = d.start
		restart(old, fresh)
		d.sent(fresh, "1h1m0s post INC-2 page !")
		sinkOf(fresh).failing(failWith(ReasonNetwork, 0))
		z := trouble("INC-3", policy.LevelPage)
		d.commit(z)
		d.kill()
		d.arch.all["INC-3"] = over(z) // while defib was down
		sinkOf(fresh).failing(nil)
		d.open()
		d.wait(time.Minute)
		d.sent(fresh, "1h2m0s post INC-3 page over")
		restart(old)
		w := trouble("INC-4", policy.LevelPage)
		d.commit(w)
		d.wait(time.Minute)
		d.commit(over(w))
		d.wait(time.Minute)
		restart(old, fresh)
		d.kill()
		d.sent(fresh)
	})
}

// A channel that is no longer there leaves nothing behind but what people take
// for open: it is told of the end of that when it comes back, and of nothing else.
func TestAChannelThatLeavesIsForgotten(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelPage)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		x, y, z := trouble("INC-1", policy.LevelPage), trouble("INC-2", policy.LevelPage), trouble("INC-3", policy.LevelPage)
		d.commit(x, y)
		d.wait(time.Minute)
		d.commit(over(y))
		d.wait(time.Minute)
		sinkOf(c).failing(failWith(ReasonNetwork, 0))
		d.commit(z)
		d.wait(time.Minute)
		d.kill()
		sinkOf(c).failing(nil)
		sinkOf(c).take()

		d.o.Channels = nil
		d.open()
		d.commit(over(z))
		d.wait(time.Hour)
		if k := d.n.store.load(); len(k.records["c"]) != 1 || k.records["c"][0].ID != "INC-1" || len(k.paces) != 0 {
			t.Errorf("%+v and %+v are kept", k.records, k.paces)
		}
		d.kill()
		d.o.Channels = []Channel{c}
		d.open()
		d.wait(time.Minute)
		d.sent(c)
		d.commit(over(x))
		d.wait(time.Minute)
		d.kill()
		d.sent(c, "1h4m0s resolve INC-1 page over re:1")

		d.o.Channels = nil
		d.open()
		d.kill()
		d.o.Channels = []Channel{c}
		d.open()
		if k := d.n.store.load(); len(k.records) != 0 {
			t.Errorf("%+v is kept", k.records)
		}
		d.kill()
	})
}

// A robot that is shut out when it sends too much is not after a restart, either.
func TestThePaceIsKeptOverARestart(t *testing.T) {
	in(t, func(t *testing.T) {
		c := Channel{Name: "ding", Sink: paced{&fakeSink{class: Append}}, MinLevel: policy.LevelPage}
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		for range 20 {
			d.commit(trouble(fmt.Sprintf("INC-%d", len(d.arch.all)), policy.LevelPage))
			d.wait(time.Second)
			d.kill()
			d.open()
			d.n.reset()
		}
		d.kill()
		if n := len(sinkOf(c).msgs); n < 5 || n > 4+6 {
			t.Errorf("%d messages in 20 s, want at most the 4 of the start and one every 4 s", n)
		}
	})
}

// What could not be stored is, as soon as it can be.
func TestWhatTheOutboxRefusesIsStoredLater(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelPage)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		file := d.n.store.db
		d.n.store.db = refusing(t)
		d.commit(trouble("INC-1", policy.LevelPage))
		d.wait(time.Minute)
		if err := d.n.store.db.Close(); err != nil {
			t.Fatal(err)
		}
		d.n.store.db = file
		d.commit(trouble("INC-2", policy.LevelPage))
		d.wait(time.Minute)
		d.kill()
		d.open()
		d.wait(time.Minute)
		d.kill()
		d.sent(c, "0s post INC-1 page !", "1m0s post INC-2 page !")
	})
}

// The same goes for silences, also when there is nothing else to be stored.
func TestSilencesThatTheOutboxRefusesAreStoredLater(t *testing.T) {
	in(t, func(t *testing.T) {
		d := newDesk(t, to("c", Append, policy.LevelPage))
		d.o.Dir = t.TempDir()
		d.open()
		silence := func(unit string) Silence {
			s, err := d.n.AddSilence(Silence{Unit: unit, By: "li", Why: "y", Until: time.Now().Add(24 * time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		stored := func() {
			if d.n.store.owed != nil {
				t.Error("they are not stored until the end")
			}
		}
		for _, later := range []func(){
			func() {},
			func() { d.wait(time.Hour); stored() },
			func() { d.commit(trouble("INC-1", policy.LevelPage)); stored() },
		} {
			old, bad := silence("old"), refusing(t)
			good := d.n.store.swap(bad)
			if err := d.n.RemoveSilence(old.ID); err != nil {
				t.Fatal(err)
			}
			fresh := silence("new")
			d.n.store.swap(good)
			if err := bad.Close(); err != nil {
				t.Fatal(err)
			}
			later()
			d.kill()
			d.open()
			if got := d.n.Silences(); len(got) != 1 || got[0].ID != fresh.ID {
				t.Errorf("after a restart there are %+v, want %s alone", got, fresh.ID)
			}
			if err := d.n.RemoveSilence(fresh.ID); err != nil {
				t.Error(err)
			}
		}
		d.kill()
	})
}

// swap has another file used, and returns the one before.
func (s *store) swap(db *bolt.DB) *bolt.DB {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.db
	s.db = db
	return was
}

// refusing is an outbox on a disk that takes no write.
func refusing(t *testing.T) *bolt.DB {
	t.Helper()
	dir := t.TempDir()
	if err := quietDesk(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	return refusingIn(t, dir)
}

func refusingIn(t *testing.T, dir string) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, outboxFile), 0o600, &bolt.Options{OpenFile: func(name string, _ int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, os.O_RDONLY, mode)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// A disk that refuses at the start has done no harm to the file.
func TestARefusalAtTheStartIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	n := quietDesk(t, dir)
	n.store.put("c", pacing{}, rowOf(&record{Root: "INC-1", ID: "INC-1"}))
	if _, err := n.AddSilence(Silence{Unit: "x", By: "li", Why: "y", Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s := &store{log: n.o.Log, db: refusingIn(t, dir)}
	if err := s.check(); err != nil {
		t.Error(err)
	}
	if k := s.load(); len(k.records["c"]) != 1 || len(k.silences) != 1 {
		t.Errorf("read %+v, %+v", k.records, k.silences)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// Nor is one while the file has to grow: what comes later is stored.
func TestAFileThatCannotGrowIsNoDamage(t *testing.T) {
	s := &store{log: slog.New(slog.DiscardHandler), db: refusing(t)}
	large := rowOf(&record{Root: "INC-1", Cause: strings.Repeat("x", 100_000)})
	if s.put("c", pacing{}, large) || s.db == nil {
		t.Error("it need not be put again")
	}
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // a file that was only begun
	db, err := bolt.Open(filepath.Join(dir, outboxFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s.db = refusingIn(t, dir)
	if err := s.check(); err == nil || spoilt(err) {
		t.Errorf("got %v, want that of the disk", err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

func TestSilencesAreKept(t *testing.T) {
	in(t, func(t *testing.T) {
		d := newDesk(t, to("c", Append, ""))
		d.o.Dir = t.TempDir()
		d.open()
		s, err := d.n.AddSilence(Silence{Unit: "x", By: "li", Why: "y", Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		d.kill()
		d.open()
		defer d.kill()
		got := d.n.Silences()
		if len(got) != 1 || got[0].ID != s.ID || !got[0].Until.Equal(s.Until) {
			t.Errorf("%+v, want %+v", got, s)
		}
		if next, err := d.n.AddSilence(s); err != nil || next.ID != "S2" {
			t.Errorf("the next is %+v, %v", next, err)
		}
	})
}

func TestRecordsAreForgotten(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = t.TempDir()
		d.open()
		x := trouble("INC-1", policy.LevelWarn)
		d.commit(x, trouble("INC-2", policy.LevelWarn))
		d.wait(time.Minute)
		d.commit(over(x))
		d.wait(8 * 24 * time.Hour)
		d.kill()
		d.n.store = openStore(d.o.Dir, d.o.Log)
		got := d.n.store.load().records["c"]
		if len(got) != 1 || got[0].ID != "INC-2" {
			t.Errorf("kept %+v", got)
		}
		if err := d.n.store.close(); err != nil {
			t.Error(err)
		}
	})
}

// outbox makes an outbox with many records and returns its bytes.
func outbox(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	n := quietDesk(t, dir)
	for i := range 40 {
		n.store.put("c", pacing{}, rowOf(&record{Root: fmt.Sprintf("INC-%d", i), ID: fmt.Sprintf("INC-%d", i), Ref: Receipt{"ts": strings.Repeat("9", 100)}}))
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, outboxFile))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func quietDesk(t *testing.T, dir string) *Notifier {
	t.Helper()
	d := newDesk(t, to("c", Append, ""))
	d.o.Dir = dir
	n, err := Open(d.o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestADamagedOutboxNeverStopsAnything(t *testing.T) {
	whole := outbox(t)
	page := os.Getpagesize()
	damage := map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"text":      func([]byte) []byte { return []byte(strings.Repeat("no outbox ", 5000)) },
		"cut":       func(b []byte) []byte { return b[:len(b)/2] },
		"two pages": func(b []byte) []byte { return b[:2*page] },
		"short":     func(b []byte) []byte { return b[:100] },
	}
	for p := 0; p < len(whole)/page; p++ {
		damage[fmt.Sprintf("page %d zeroed", p)] = func(b []byte) []byte { clear(b[p*page : (p+1)*page]); return b }
		damage[fmt.Sprintf("page %d garbled", p)] = func(b []byte) []byte {
			for i := p * page; i < (p+1)*page; i++ {
				b[i] ^= 0xA5
			}
			return b
		}
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, outboxFile), f(append([]byte(nil), whole...)), 0o600); err != nil {
				t.Fatal(err)
			}
			n := quietDesk(t, dir)
			n.store.put("c", pacing{}, rowOf(&record{Root: "INC-NEW", ID: "INC-NEW"}))
			n.store.put("c", pacing{}, row{key: "INC-7"})
			_ = n.Close() // it may refuse: the file is damaged
			again := quietDesk(t, dir)
			if len(again.channels[0].recs) == 0 && again.store.db != nil {
				t.Error("a record was neither kept nor was it said that none is")
			}
			_ = again.Close()
		})
	}
}

func TestAnOutboxThatCannotBeWrittenIsDoneWithout(t *testing.T) {
	in(t, func(t *testing.T) {
		c := to("c", Append, policy.LevelWarn)
		d := newDesk(t, c)
		d.o.Dir = filepath.Join(t.TempDir(), "missing")
		d.open()
		defer d.kill()
		d.commit(trouble("INC-1", policy.LevelWarn))
		d.sent(c, "0s post INC-1 warn")
		if !strings.Contains(d.log.String(), "outbox cannot be used") {
			t.Errorf("log: %s", d.log.String())
		}
	})
}

func TestTheOutboxIsForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	n := quietDesk(t, dir)
	defer n.Close()
	info, err := os.Stat(filepath.Join(dir, outboxFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Archive = nil }, "open notifications: set Archive, Story, Render and Log"},
		{func(o *Options) { o.Channels = append(o.Channels, o.Channels[0]) }, "open notifications: two channels are named c: give one another name"},
		{func(o *Options) { o.Channels[0].Name = "" }, "open notifications: every channel needs a name and a sink"},
		{func(o *Options) { o.Routes = []Route{{Channels: []string{"x"}}} }, "open notifications: a route leads to channel x, which there is not"},
	} {
		o := newDesk(t, to("c", Append, "")).o
		c.change(&o)
		if _, err := Open(o); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}
