------------------------ MODULE TraceOrderedEnqueuer ------------------------
(***************************************************************************)
(* Whether what real threads did is a behaviour of `OrderedEnqueuer`.      *)
(*                                                                         *)
(* A log is a tuple of events in the order in which they happened, because *)
(* each was written with the lock held. traces.py makes it out of the      *)
(* records of `enqueuer/testing/events.py`. An event says who did what and *)
(* what came back: results of calls, and who was woken. What the window    *)
(* looked like it does not say: the spec finds that out by itself, and an  *)
(* event that asks for another one has nowhere to go.                      *)
(*                                                                         *)
(* What is no critical section is not logged: user code begins, next() is  *)
(* called, the bell rings. Such a step is taken silently, when the next    *)
(* event needs it, by whom that event names. So a log is one path, and     *)
(* where it does not fit the path ends: a deadlock (TraceSpec), or a line  *)
(* that names the event and what could have been done instead (Explains).  *)
(***************************************************************************)
EXTENDS OrderedEnqueuer, TLC

CONSTANT Logs  \* tuple of logs; all are of runs with the same constants

VARIABLES
    number,   \* which of the logs this is
    at,       \* the next of its events
    fired     \* names of the actions that were taken

traceVars == <<vars, number, at, fired>>

(* Beyond any log. Replaces Forever. *)
Never == 1000000

Log == Logs[number]
Event == Log[at]
Fires(name) == fired' = fired \union {name}

TraceInit == Init /\ number \in DOMAIN Logs /\ at = 1 /\ fired = {}

----------------------------------------------------------------------------
(* What an event says, besides who did what *)

Those(one, condition) == IF condition THEN {one} ELSE {}

(* Who was woken in the critical section, its own thread apart. The bell wakes at any time, so when it has rung that says nothing. *)
WokenWorkers(e) == rung[e.r] \/ (idle[e.r] \ idle'[e.r]) \ Those(e.w, e.by = "worker") = e.woken
WokenConsumers(e) == rung[e.r] \/ (takers[e.r] \ takers'[e.r]) \ Those(e.w, e.by = "consumer") = e.freed
WokenStoppers(e) == (joiners[e.r] \ joiners'[e.r]) \ Those(e.w, e.by = "stopper") \subseteq e.released
Woke(e) == WokenWorkers(e) /\ WokenConsumers(e) /\ WokenStoppers(e)

(* What the claim gave, with which a worker's critical section ends. *)
Claimed(e) ==
    CASE e.got = "rank" -> pc'[e.r][e.w] = "claimed" /\ e.rank \in DOMAIN win'[e.r].under /\ win'[e.r].under[e.rank] = e.w
      [] e.got = "turn" -> pc'[e.r][e.w] = "turn" /\ win'[e.r].end = e.rank /\ win'[e.r].epoch = e.epoch
      [] e.got = "nothing" -> pc'[e.r][e.w] = "parked"
      [] e.got = "over" -> pc'[e.r][e.w] = "leave"

(* What the turn has opened; -1 where no end is known. *)
Opened(e) ==
    \/ e.kind # ""
    \/ win[e.r].last  \* an earlier rank has failed meanwhile
    \/ e.opened = -1
    \/ win'[e.r].end = e.opened /\ win'[e.r].last = e.last

(* What a consumer was given. *)
Taken(e) ==
    LET next == win'[e.r].rank
        was == win[e.r].rank
    IN
    CASE e.got = "item" -> con'[e.w].got = "item" /\ next = e.rank + 1 /\ next - was = e.nones + 1
      [] e.got = "nothing" -> con'[e.w].pc = "registered" /\ next - was = e.nones
      [] e.got = "timeout" -> con'[e.w].pc = "out" /\ con'[e.w].got = "timeout" /\ next - was = e.nones
      [] e.got = "over" -> con'[e.w].got = "stop" /\ win'[e.r].state = win[e.r].state /\ next = was
      [] e.got = "ended" -> con'[e.w].got = "stop" /\ win'[e.r].state = "ended" /\ win[e.r].state = "running"
      [] e.got = "error" -> con'[e.w].got = "error" /\ win'[e.r].state = "failed" /\ win[e.r].state = "running"

----------------------------------------------------------------------------
(* Where the code does more than a model needs to say: none changes what a user sees. *)

(* start() goes on after a stop: there is no worker any more that it would arrive for. *)
ArriveTooLate == boot[run] = "start" /\ win[run].state # "running" /\ UNCHANGED vars

(* Whoever waits for the workers is woken when all are started, too, as start() waits in the same set; it looks, and waits again (_boot). *)
BootEnds ==
    /\ boot[run] = "begin"
    /\ WakeJoiners(run)
    /\ UNCHANGED <<run, win, boot, idle, waking, pc, permits, present, takers, rung, con, history>>

(* stop() of an enqueuer whose run, meanwhile, is not the latest any more. *)
CallStopEarlier(s, r) ==
    /\ stp[s].pc = "out"
    /\ r < run
    /\ Ends(r)
    /\ stp' = [stp EXCEPT ![s] = [pc |-> "look", run |-> r, permit |-> FALSE, got |-> ""]]
    /\ UNCHANGED <<run, boot, waking, pc, present, joiners, rung, history>>

(* stop() in an item of a run that is over. *)
StopWithinAgain(r, w) ==
    /\ pc[r][w] \in {"computing", "turning", "hanging"}
    /\ win[r].state # "running" \/ pc[r][w] = "hanging"
    /\ Ends(r)
    /\ UNCHANGED <<run, boot, waking, pc, present, joiners, rung, stp, history>>

(* Who waits for the workers with a timeout looks again by the clock, and still waits. *)
JoinAgain(s) ==
    /\ stp[s].pc = "parked" /\ ~stp[s].permit
    /\ present[stp[s].run] > 0
    /\ UNCHANGED vars

----------------------------------------------------------------------------
(* Steps that are not logged, and when the next event asks for one *)

LooksFirst == at > 1 /\ LET was == Log[at - 1] IN was.by = "consumer" /\ was.got = "nothing" /\ ~was.bell /\ con[was.w].pc = "registered"

NeedsRing(e) ==
    /\ e.r > 0 /\ e.r = run
    /\ e.ringing
    /\ ~Over(e.r)
    /\ e.got = "over" \/ e.what = "start"

Silent(e) ==
    IF LooksFirst THEN LookAtBell(Log[at - 1].w) /\ Fires("LookAtBell")
    ELSE IF NeedsRing(e) THEN Ring /\ Fires("Ring")
    ELSE IF e.by = "worker"
    THEN \/ e.what \in {"put", "finish", "within"} /\ ItemBegins(e.r, e.w) /\ Fires("ItemBegins")
         \/ e.what \in {"put", "finish"} /\ e.slow /\ ItemHangs(e.r, e.w) /\ Fires("ItemHangs")
         \/ e.what \in {"turn", "within"} /\ HookBegins(e.r, e.w) /\ Fires("HookBegins")
    ELSE /\ e.by = "consumer"
         /\ \/ e.what \in {"take", "call"} /\ con[e.w].run # e.r /\ GetStream(e.w) /\ Fires("GetStream")
            \/ e.what = "take" /\ con[e.w].run \in {0, e.r} /\ CallNext(e.w) /\ Fires("CallNext")
            \/ e.got = "timeout" /\ TimesOut(e.w) /\ Fires("TimesOut")
            \/ e.what = "interrupted" /\ Interrupted(e.w) /\ Fires("Interrupted")
            \/ e.what = "rung" /\ rung[e.r] /\ LookAtBell(e.w) /\ Fires("LookAtBell")

----------------------------------------------------------------------------
(* The action of an event's name *)

Booted(e) ==
    CASE e.what = "start" -> Start /\ run' = e.r /\ Fires("Start")
      [] e.what = "arrive" -> \/ BootArrive /\ Fires("BootArrive")
                              \/ BootWorker /\ Fires("BootWorker")
                              \/ ArriveTooLate /\ Fires("")
      [] e.what = "left" -> BootLeave /\ WokenStoppers(e) /\ Fires("BootLeave")
      [] e.what = "booted" -> BootEnds /\ WokenStoppers(e) /\ Fires("")
      [] e.what = "begin" -> BeginRun /\ Woke(e) /\ Fires("BeginRun")

Worked(e) ==
    CASE e.what = "first" -> First(e.r, e.w) /\ Claimed(e) /\ Woke(e) /\ Fires("First")
      [] e.what = "wake" -> Wake(e.r, e.w) /\ Claimed(e) /\ Woke(e) /\ Fires("Wake")
      [] e.what = "put" -> /\ Computes(e.r, e.w) /\ ~(e.slow /\ pc[e.r][e.w] = "computing") /\ RankOf(e.r, e.w) = e.put
                           /\ PutItem(e.r, e.w, e.kind) /\ Claimed(e) /\ Woke(e) /\ Fires("PutItem")
      [] e.what = "finish" -> /\ Computes(e.r, e.w) /\ ~(e.slow /\ pc[e.r][e.w] = "computing") /\ RankOf(e.r, e.w) = e.put
                              /\ FinishItem(e.r, e.w, e.kind) /\ Claimed(e) /\ Woke(e) /\ Fires("FinishItem")
      [] e.what = "turn" -> TurnEpoch(e.r, e.w, e.kind) /\ Opened(e) /\ Claimed(e) /\ Woke(e) /\ Fires("TurnEpoch")
      [] e.what = "leave" -> Leave(e.r, e.w) /\ WokenStoppers(e) /\ Fires("Leave")
      [] e.what = "exit" -> Exit(e.r, e.w) /\ Fires("Exit")
      [] e.what = "within" -> /\ e.told # "true"  \* G14: nobody has waited for the thread that it is in
                              /\ \/ StopWithin(e.r, e.w) /\ Fires("StopWithin")
                                 \/ StopWithinAgain(e.r, e.w) /\ Fires("")
                              /\ Woke(e)

Consumed(e) ==
    CASE e.what = "take" -> /\ con[e.w].run = e.r
                            /\ e.got = "timeout" => con[e.w].pc = "late"
                            /\ TakeItem(e.w) /\ Taken(e) /\ Woke(e) /\ Fires("TakeItem")
      [] e.what = "call" -> con[e.w].run \in {0, e.r} /\ run = e.r /\ CallNext(e.w) /\ Fires("CallNext")
      [] e.what \in {"interrupted", "rung"} -> con[e.w].run = e.r /\ EndWait(e.w) /\ Fires("EndWait")

Ended(e) ==
    CASE e.what = "stop" -> \/ e.r = run /\ CallStop(e.w) /\ Woke(e) /\ Fires("CallStop")
                            \/ CallStopEarlier(e.w, e.r) /\ Woke(e) /\ Fires("")
      [] e.what = "join" -> stp[e.w].run = e.r /\ ((Join(e.w) /\ Fires("Join")) \/ (JoinAgain(e.w) /\ Fires("")))
      [] e.what = "stopped" -> /\ stp[e.w].run = e.r
                               /\ IF e.told = "true" THEN JoinThreads(e.w) /\ Fires("JoinThreads")
                                  ELSE e.timed /\ GiveUp(e.w) /\ Fires("GiveUp")

Matches(e) ==
    CASE e.by = "boot" -> Booted(e)
      [] e.by = "worker" -> Worked(e)
      [] e.by = "consumer" -> Consumed(e)
      [] e.by = "stopper" -> Ended(e)

Step ==
    /\ at <= Len(Log)
    /\ LET e == Event IN
        \/ Silent(e) /\ UNCHANGED <<number, at>>
        \/ ~LooksFirst /\ ~NeedsRing(e) /\ Matches(e) /\ UNCHANGED rung /\ at' = at + 1 /\ UNCHANGED number

Accepted ==
    /\ at = Len(Log) + 1
    /\ PrintT(<<"accepted", number, fired>>)
    /\ at' = at + 1
    /\ UNCHANGED <<vars, number, fired>>

Terminated == at = Len(Log) + 2 /\ UNCHANGED traceVars

(* What the one whom an event names could have done, by the spec; the silent steps are among it. *)
Could(e) ==
    IF e.by = "worker"
    THEN LET r == e.r
             w == e.w
         IN  Those("First", ENABLED First(r, w)) \union Those("Wake", ENABLED Wake(r, w)) \union Those("ItemBegins", ENABLED ItemBegins(r, w))
             \union Those("PutItem", ENABLED PutItem(r, w, "item")) \union Those("FinishItem", ENABLED FinishItem(r, w, "error"))
             \union Those("HookBegins", ENABLED HookBegins(r, w)) \union Those("TurnEpoch", ENABLED TurnEpoch(r, w, ""))
             \union Those("Leave", ENABLED Leave(r, w)) \union Those("Exit", ENABLED Exit(r, w)) \union Those("StopWithin", ENABLED StopWithin(r, w))
    ELSE IF e.by = "consumer"
    THEN Those("CallNext", ENABLED CallNext(e.w)) \union Those("GetStream", ENABLED GetStream(e.w)) \union Those("TakeItem", ENABLED TakeItem(e.w))
         \union Those("LookAtBell", ENABLED LookAtBell(e.w)) \union Those("TimesOut", ENABLED TimesOut(e.w))
         \union Those("Interrupted", ENABLED Interrupted(e.w)) \union Those("EndWait", ENABLED EndWait(e.w))
    ELSE IF e.by = "stopper"
    THEN Those("CallStop", ENABLED CallStop(e.w)) \union Those("Join", ENABLED Join(e.w)) \union Those("GiveUp", ENABLED GiveUp(e.w))
         \union Those("JoinThreads", ENABLED JoinThreads(e.w))
    ELSE Those("Start", ENABLED Start) \union Those("BootArrive", ENABLED BootArrive) \union Those("BootWorker", ENABLED BootWorker)
         \union Those("BootLeave", ENABLED BootLeave) \union Those("BeginRun", ENABLED BeginRun)

(* The window, and who waits, as the spec has it: what the event does not agree with. *)
Stands(r) == [window |-> win[r], workers |-> pc[r], idle |-> idle[r], takers |-> takers[r], present |-> present[r]]

Tells(could, stands) ==
    /\ PrintT(<<"refused", number, at, could, stands>>)
    /\ at' = Len(Log) + 2
    /\ UNCHANGED <<vars, number, fired>>

Refused ==
    /\ at <= Len(Log)
    /\ ~ENABLED Step
    /\ Tells(Could(Event), IF Event.r \in 1 .. run THEN Stands(Event.r) ELSE <<>>)

TraceSpec == TraceInit /\ [][Step \/ Accepted \/ Terminated]_traceVars
Explains == TraceInit /\ [][Step \/ Accepted \/ Refused \/ Terminated]_traceVars
=============================================================================
