package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/google/go-cmp/cmp"

	"github.com/defib-dev/defib/watcher"
	"github.com/defib-dev/defib/watcher/policy"
)

var _ watcher.Source = (*Engine)(nil)

func TestWatchTellsTheWorldThenFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web")
		f.run("db", "defib.enable", "false")
		w := watch(t, f.engine(Options{}))
		w.want("source_up unknown", "observed web running healthy", "synced [db: label defib.enable=false opts it out]")

		f.publish(web, "exec_die: /check", "execID", "1")
		f.change(web, health(container.Unhealthy))
		f.publish(web, events.ActionHealthStatusUnhealthy)
		w.want("observed web running unhealthy")

		f.publish(web, events.ActionKill, "signal", "15")
		f.change(web, exited(143))
		f.publish(web, events.ActionDie, "exitCode", "143")
		w.want("kill web signal=15", "die web exit=143", "observed web exited")
		f.publish(web, events.ActionStop)
		w.want("stop web", "observed web exited")

		f.change(web, health(container.Healthy))
		f.publish(idOf("db"), events.ActionStart)
		w.want()

		w.cancel()
		if err := w.ended(); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v, want context.Canceled", err)
		}
		w.want("source_down (defib is stopping)")
	})
}

// An observation sent before the newest event was read says nothing new.
func TestEventDuringInspectCausesAnotherAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web")
		w := watch(t, f.engine(Options{}))
		w.take()
		path := "/containers/" + web + "/json"
		before := f.called(path)
		f.hang(path, time.Second)
		f.publish(web, events.ActionPause)
		w.want("pause web")
		for range 5 { // while the first inspect is in flight
			f.publish(web, events.ActionUnPause)
			time.Sleep(10 * time.Millisecond)
		}
		w.want("unpause web", "unpause web", "unpause web", "unpause web", "unpause web")
		time.Sleep(3 * time.Second)
		evs := w.take()
		if got := say(evs); got != "observed web running healthy" {
			t.Fatalf("emitted %q, want one observation", got)
		}
		if got := f.called(path) - before; got != 2 {
			t.Errorf("%d inspects for 6 events, want 2: one at a time, and one after the last", got)
		}
	})
}

func TestEveryObservationIsSentAfterTheEventsBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ids := []string{f.run("a"), f.run("b"), f.run("c")}
		w := watch(t, f.engine(Options{}))
		w.take()
		for i := range 60 {
			f.publish(ids[i%3], events.ActionPause)
			if i%7 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		newest := make(map[string]time.Time)
		for _, ev := range w.take() {
			if ev.Kind == policy.KindObserved {
				if ev.Read.Before(newest[ev.Unit]) {
					t.Errorf("observation of %s sent at %v, after it an event read at %v was emitted before it", ev.Unit, ev.Read, newest[ev.Unit])
				}
				continue
			}
			newest[ev.Unit] = ev.Read
		}
	})
}

func TestRelistFindsWhatNoEventTold(t *testing.T) {
	for _, tc := range []struct {
		name   string
		miss   func(f *fake, id string)
		within time.Duration
		want   []string
	}{
		{"health", func(f *fake, id string) { f.change(id, health(container.Unhealthy)) }, 31 * time.Second, []string{"observed web running unhealthy"}},
		{"exit", func(f *fake, id string) { f.change(id, exited(1)) }, 31 * time.Second, []string{"observed web exited"}},
		{"restart", func(f *fake, id string) {
			f.change(id, func(c *container.InspectResponse) { c.State.StartedAt = time.Now().Format(time.RFC3339Nano) })
		}, 31 * time.Second, []string{"observed web running healthy"}},
		{"rename", func(f *fake, id string) { f.change(id, func(c *container.InspectResponse) { c.Name = "/api" }) }, 31 * time.Second, []string{"rename api replayed (web)", "observed api running healthy"}},
		{"removal", func(f *fake, id string) { f.remove(id) }, 31 * time.Second, []string{"destroy web replayed (the engine does not know it any more)"}},
		{"another one", func(f *fake, _ string) { f.run("new") }, 31 * time.Second, []string{"observed new running healthy"}},
		{"one that is not watched", func(f *fake, _ string) { f.run("new", "autoheal", "no") }, 31 * time.Second, []string{"synced [new: label autoheal=no opts it out]"}},
		// Only an inspect shows these.
		{"restart count", func(f *fake, id string) { f.change(id, func(c *container.InspectResponse) { c.RestartCount++ }) }, 100 * time.Second, []string{"observed web running healthy"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				web := f.run("web")
				w := watch(t, f.engine(Options{}))
				w.take()
				time.Sleep(3*time.Minute + 31*time.Second)
				w.want()
				tc.miss(f, web)
				time.Sleep(tc.within - 31*time.Second) // the lists until then show nothing
				w.want()
				time.Sleep(30 * time.Second)
				w.want(tc.want...)
			})
		})
	}
}

// A start that fails leaves no event, and no trace in the list.
func TestFreshlyCreatedContainersAreLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w := watch(t, f.engine(Options{}))
		w.take()
		web := f.run("web")
		f.change(web, func(c *container.InspectResponse) { c.State = &container.State{Status: container.StateCreated} })
		f.publish(web, events.ActionCreate)
		w.want("create web", "observed web created")
		f.change(web, func(c *container.InspectResponse) { c.State.Error, c.State.ExitCode = "no such device", 128 })
		time.Sleep(30 * time.Second)
		if got := say(w.take()); got != "observed web created" {
			t.Errorf("after 30 s: %q, want an observation", got)
		}
	})
}

func TestRollingInspectIsSpreadEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		for i := range 10 {
			f.run(fmt.Sprintf("c%d", i))
		}
		w := watch(t, f.engine(Options{}))
		w.take()
		for range 20 {
			time.Sleep(30 * time.Second)
			if evs := w.take(); len(evs) != 1 || evs[0].Kind != policy.KindObserved {
				t.Fatalf("in 30 s of 5 min: %q, want one observation of ten containers", say(evs))
			}
		}
		for id := range f.containers {
			if got := f.called("/containers/" + id + "/json"); got != 3 {
				t.Errorf("%d inspects of a container in 10 min, want 3", got)
			}
		}
	})
}

func TestUnwatchedContainersCostNoInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		w := watch(t, f.engine(Options{}))
		w.want("source_up unknown", "synced")
		job := f.run("job", "defib.enable", "off")
		f.publish(job, events.ActionCreate)
		f.publish(job, events.ActionStart)
		w.want()
		time.Sleep(30 * time.Second)
		w.want("synced [job: label defib.enable=off opts it out]")
		f.change(job, func(c *container.InspectResponse) { c.Name = "/task" })
		f.publish(job, events.ActionRename, "oldName", "/job")
		time.Sleep(30 * time.Second)
		w.want("synced [task: label defib.enable=off opts it out]")
		f.remove(job)
		f.publish(job, events.ActionDestroy, "name", "task", "defib.enable", "off")
		time.Sleep(30 * time.Second)
		w.want("synced")
		if got := f.called("/containers/" + job + "/json"); got != 0 {
			t.Errorf("%d inspects, want none", got)
		}
	})
}

func TestRename(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web := f.run("web")
		old := f.run("1a2b_app", "com.docker.compose.project", "p", "com.docker.compose.service", "app")
		w := watch(t, f.engine(Options{}))
		w.take()
		f.hang("/containers/"+web+"/json", time.Second) // the answer that was right before it comes after it
		f.publish(web, events.ActionPause)
		time.Sleep(500 * time.Millisecond)
		w.want("pause web")
		f.change(web, func(c *container.InspectResponse) { c.Name = "/www" })
		f.publish(web, events.ActionRename, "oldName", "/web")
		time.Sleep(5 * time.Second)
		w.want("rename www (web)", "observed www running healthy")
		f.change(old, func(c *container.InspectResponse) { c.Name = "/app" })
		f.publish(old, events.ActionRename, "oldName", "/1a2b_app")
		w.want("rename p/app/1", "observed p/app/1 running healthy")
	})
}

func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		web, db := f.run("web"), f.run("db")
		w := watch(t, f.engine(Options{}))
		w.take()
		f.remove(web)
		f.publish(web, events.ActionDestroy, "name", "web", "defib.enable", "true")
		w.want("destroy web")
		f.remove(db) // the inspect after an event meets nothing; the event about that comes late
		f.publish(db, events.ActionDie, "name", "db", "defib.enable", "true", "exitCode", "1")
		w.want("die db exit=1", "destroy db replayed (the engine does not know it any more)")
		f.publish(db, events.ActionDestroy, "name", "db", "defib.enable", "true")
		w.want()
		time.Sleep(10 * time.Minute)
		w.want()
	})
}

// An engine that is asked for a container while it makes it may not know it yet.
func TestCalledGoneTooEarly(t *testing.T) {
	for _, byEvent := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			w := watch(t, f.engine(Options{}))
			w.take()
			web := f.run("web")
			f.unknown(web, true)
			f.publish(web, events.ActionCreate, "name", "web", "defib.enable", "true")
			w.want("create web", "destroy web replayed (the engine does not know it any more)")
			f.unknown(web, false)
			if byEvent {
				f.publish(web, events.ActionStart, "name", "web", "defib.enable", "true")
				w.want("start web", "observed web running healthy")
				return
			}
			time.Sleep(31 * time.Second)
			w.want("observed web running healthy")
		})
	}
}

func TestHungInspectDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		for i := range 10 { // more than the pool gives to the background
			f.hang("/containers/"+f.run(fmt.Sprintf("hung%d", i))+"/json", time.Hour)
		}
		web := f.run("web")
		w := watch(t, f.engine(Options{}))
		w.take()
		f.change(web, health(container.Unhealthy))
		f.publish(web, events.ActionHealthStatusUnhealthy)
		time.Sleep(time.Millisecond)
		if got := say(w.take()); got != "observed web running unhealthy" {
			t.Errorf("emitted %q, want the observation at once", got)
		}
		time.Sleep(20 * time.Second)
		evs := w.take()
		if len(evs) != 11 || evs[0].Kind != policy.KindUnseen || evs[10].Kind != policy.KindSynced {
			t.Errorf("emitted %q, want 10 × unseen and synced", say(evs))
		}
		if want := "the Docker Engine at unix:///run/fake.sock does not answer in time; look at its log (journalctl -u docker) and at the network between"; evs[0].Reason != want {
			t.Errorf("reason %q, want %q", evs[0].Reason, want)
		}
	})
}

func TestInspectAnswersAnAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{Generation: 6})
		web := f.run("web")
		ask := policy.Decision{ID: 9, Unit: "web", Container: web}
		if ev := e.Inspect(t.Context(), ask); say([]policy.Event{ev}) != "unseen web (there is no connection to the Docker Engine)" || ev.Decision != 9 {
			t.Errorf("without a connection: %+v", ev)
		}
		w := watch(t, e)
		w.take()
		ev := e.Inspect(t.Context(), ask)
		if got := say([]policy.Event{ev}); got != "observed web running healthy" || ev.Decision != 9 || ev.Generation != 7 {
			t.Errorf("got %q, decision %d, generation %d", got, ev.Decision, ev.Generation)
		}
		f.remove(web)
		ev = e.Inspect(t.Context(), ask)
		if got := say([]policy.Event{ev}); got != "destroy web replayed (the engine does not know it any more)" || ev.Decision != 9 {
			t.Errorf("got %q, decision %d", got, ev.Decision)
		}
		if e.Client() == nil {
			t.Error("no client while connected")
		}
		w.cancel()
		_ = w.ended()
		if e.Client() != nil {
			t.Error("a client without a connection")
		}
	})
}

// What was read before an ask was sent is emitted before it is answered.
func TestInspectLetsEventsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{})
		web := f.run("web")
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan policy.Event)
		done := make(chan struct{})
		go func() { defer close(done); _ = e.Watch(ctx, out) }()
		for ev := range out {
			if ev.Kind == policy.KindSynced {
				break
			}
		}
		f.publish(web, events.ActionPause) // read, and then nobody takes it
		synctest.Wait()
		answer := make(chan policy.Event, 1)
		go func() { answer <- e.Inspect(t.Context(), policy.Decision{Unit: "web", Container: web}) }()
		synctest.Wait()
		if len(answer) != 0 {
			t.Error("the answer overtook an event that was read before it was sent")
		}
		if ev := <-out; ev.Kind != policy.KindPause {
			t.Errorf("emitted %s, want pause", ev.Kind)
		}
		go func() {
			for range out {
			}
		}()
		<-answer
		cancel()
		<-done
		close(out)
	})
}

func TestSelfAndHealersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		e := f.engine(Options{})
		me, heal := f.run("defib"), f.run("heal", "defib.enable", "no")
		f.change(heal, func(c *container.InspectResponse) {
			c.Config.Image = "willfarrell/autoheal"
			c.Config.Env = []string{"AUTOHEAL_CONTAINER_LABEL=all"}
		})
		write(t, e.proc+"/self/cgroup", "0::/docker/"+me+"\n")
		w := watch(t, e)
		evs := w.take()
		if got := say(evs); got != "source_up unknown\nsynced [defib: it is defib itself] [heal: label defib.enable=no opts it out]" {
			t.Errorf("emitted %q", got)
		}
		if diff := cmp.Diff([]string{me}, evs[0].Engine.Self); diff != "" {
			t.Errorf("self (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]policy.Healer{{Name: "heal", Kind: "autoheal", Label: "all"}}, evs[0].Engine.Healers); diff != "" {
			t.Errorf("healers (-want +got):\n%s", diff)
		}
		f.publish(me, events.ActionPause)
		w.want()
		f.remove(heal) // and one that comes later is seen by the next list
		late := f.run("late", "defib.enable", "no")
		f.change(late, func(c *container.InspectResponse) { c.Config.Image = "qdm12/deunhealth" })
		time.Sleep(31 * time.Second)
		evs = w.take()
		want := []policy.Healer{{Name: "late", Kind: "deunhealth", Label: policy.LabelDeunhealth}}
		if last := evs[len(evs)-1]; last.Kind != policy.KindSynced || last.Engine == nil || !cmp.Equal(want, last.Engine.Healers) {
			t.Errorf("healers seen later: %+v", evs)
		}
	})
}
