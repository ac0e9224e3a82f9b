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
package itest
