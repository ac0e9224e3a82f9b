// Package itest runs the real defib against real Docker engines, with real
// containers, and says of each promise which test shows it.
//
// Every test starts an engine of its own, with its own folders and socket, so
// that tests run beside each other and never touch a container of the machine.
// That takes root, dockerd and containerd; without them the tests skip, and
// fail instead when REQUIRE_ENGINE=1, which CI sets. The containers are
// deploy/demo/fakeinfer, which fails on demand; the times are shortened by a
// configuration file ([Fast]), the rules are not.
//
//	crash; unhealthy; probe that times out; exit 0 of a server; OOM   TestHeals
//	probe whose binary is missing; exit 0 of a one-shot under --all;  TestLeftAlone
//	    a database that is unhealthy
//	a check that never passed                                         TestCheckNeverPassed
//	crash loop to FATAL, and half-open recovery                       TestCrashLoop
//	start that fails with restart: always, then the cause goes        TestStartFails
//	recovers by itself while waiting                                  TestRecoversWhileWaiting
//	flapping below the threshold                                      TestFlappingBelowTheThreshold
//	docker stop, pause, kill, rm, restart by a human:                 TestHumanIntent
//	    before, during and while defib is down
//	the same in the middle of a repair                                TestHumanDuringRepair
//	SIGTERM-deaf with 30 s to stop, while another one fails           TestDeafDelaysNobody
//	50 turn unhealthy together; measured times printed                TestStorm
//	two of three that share a mount: canary first                     TestCanaryFirst
//	a canary that is removed, held or stopped                         TestCanaryReplaced
//	event stream cut                                                  TestStreamCut
//	engine restarted; engine killed while containers run              TestEngineEnds
//	engine absent at start                                            TestEngineAbsent
//	connections that go silent without closing, within 45 s           TestSilentConnections
//	kill -9 of defib between the journal and the act                  TestKilledBeforeTheAct
//	kill -9 of defib during the act                                   TestKilledDuringTheAct
//	SIGTERM: exit 0 within a second when idle                         TestSigterm
//	two instances on one state directory                              TestSecondInstance
//	the hold-all file stops every act                                 TestHoldAll
//	opt-out, in any case                                              TestNotWatched
//	labels without sense; hostile text; a socket without permission;  TestLabelsWithoutSense, TestHostileText,
//	    an engine too old; a full disk under the journal              TestNoPermission, TestEngineTooOld, TestFullDisk
//	the commands of the README                                        TestReadme
//
// Those who are told are pretended, too ([Inbox]): each is an HTTP service of
// the test that keeps what it gets.
//
//	a crash loop, its end by a page, and the recovery are one message TestNotify/life
//	    with a thread; the webhook's signature; the heartbeat; no secret
//	    of a container or of ours in any message, log, command or file
//	notify test and queue; ack; silence add, ls and rm                TestNotify/commands
//	50 die together: at most three messages                           TestStorm
//	a service that never answers delays no repair and no other        TestNotify/deaf
//	kill -9 between a message and its record: told twice at most,     TestNotify/killed
//	    and how it ended
//
// The GPUs are pretended: a library in place of the driver's, a pipe in place
// of the kernel log, and a runtime named nvidia that is the usual one ([GPUs]).
// The processes on them are real ones of the containers.
//
//	Xid 31 and the process ends, the check fails, or neither;         TestGPUFaults
//	    Xid 94; memory that is not freed; access to the GPU lost
//	Xid 79; one from before the start; gpus, status, describe and     TestGPULost
//	    explain then
//	the driver asks for a reset; all GPUs out of the image;           TestGPUHeld
//	    two containers of two GPUs that share one
//	no recovery action and gpus release; no library; a driver that    TestGPUDriver
//	    hangs; driver and library differ; the probe is killed
//	gpus reset: works; in use; the command fails or is missing; the   TestGPUReset
//	    GPU is no better
//	from the line of a fault to the record and to the restart         BenchmarkGPUFault
package itest
