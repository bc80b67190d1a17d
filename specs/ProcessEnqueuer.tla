--------------------------- MODULE ProcessEnqueuer ---------------------------
(***************************************************************************)
(* Process mode: `enqueuer/_processes.py`, and `_claim_ahead` in           *)
(* `enqueuer/_run.py`. The monitor is that of OrderedEnqueuer, and so are  *)
(* its threads, consumers and stops. But a worker thread doesn't compute:  *)
(* it asks the worker process that it owns, over a pipe, and waits for the *)
(* answer. A process may die at any step.                                  *)
(*                                                                         *)
(* A slot is what belongs to one worker number: the process that there is, *)
(* the pipe to it (requests and answers), and what the thread remembers of *)
(* both. A replacement is another process in the same slot, with a pipe of *)
(* its own.                                                                *)
(*                                                                         *)
(* pc is that of OrderedEnqueuer: a thread is "claimed" until its item was *)
(* asked for, and again when a new process is to be asked for it, and then *)
(* "computing", which is: waiting for the answer.                          *)
(*                                                                         *)
(* Abstracted: descriptors, signals, exit codes, pickling, how long a      *)
(* process that is told to exit takes to do so.                            *)
(***************************************************************************)
EXTENDS OrderedEnqueuer

CONSTANTS
    Ahead,      \* ranks that a worker may hold besides the one it computes (AHEAD)
    Retries,    \* max_retries; 0: on_worker_death="raise"
    Kills,      \* how often a process may die or become useless
    Faults,     \* how: subset of {"kill", "child", "torn", "close"}
    SlowStart,  \* whether a process may take for ever to become ready
    Orphans     \* whether this process may be killed

VARIABLES
    slot,     \* run -> worker -> see NoProcess
    ending,   \* run -> "no", "halted" or "killed"  (_halted, _killed)
    gone,     \* whether this process, with all its threads, was killed
    kills,    \* deaths of worker processes until now
    \* what happened, for the properties
    broken,   \* run -> rank -> how often it was under computation when its process died
    blamed,   \* run -> rank -> how often it was blamed for a death
    got       \* run -> rank -> what was put there: the rank that it was computed for, and the version that it was computed from

processes == <<slot, ending, gone, kills>>
witness == <<broken, blamed, got>>
allVars == <<vars, processes, witness>>

(* Where there is no process. *)
NoProcess ==
    [ life |-> "none",   \* of the process
      holds |-> 0,       \* version of the sequence that it has
      in |-> <<>>,       \* requests that it has not finished
      out |-> <<>>,      \* answers that the thread has not read
      ready |-> FALSE,   \* whether the thread has heard that it is ready
      told |-> 0,        \* version that it was sent
      asked |-> <<>>,    \* ranks that it was asked for and has not answered      (begun)
      lost |-> <<>>,     \* those that a dead one has left                        (lost)
      tries |-> 0 ]      \* retries of the thread's own rank                      (retries)

ProcessInit ==
    /\ Init
    /\ slot = [r \in Runs |-> [w \in Workers |-> NoProcess]]
    /\ ending = [r \in Runs |-> "no"]
    /\ gone = FALSE
    /\ kills = 0
    /\ broken = [r \in Runs |-> [rank \in 0 .. Top |-> 0]]
    /\ blamed = broken
    /\ got = [r \in Runs |-> Nothing]

Alive(s) == s.life \in {"starting", "stuck", "idle", "computing", "hanging", "deaf"}
InItem(s) == s.life \in {"computing", "hanging"}
Dead(s) == s.life \in {"dead", "orphaning"}
EndOfFile(s) == s.life \in {"dead", "deaf"}  \* a child of the process may hold the pipe open; and the process may have closed it

(* The version of the sequence: how often the hook has changed it (_state). *)
Version(r) == IF Barrier THEN Max(win[r].epoch - 1, 0) ELSE 0
VersionOf(rank) == IF Barrier THEN rank \div Length ELSE 0

Held(window, w) == {rank \in DOMAIN window.under : window.under[rank] = w}
Least(ranks) == CHOOSE rank \in ranks : \A other \in ranks : rank <= other
Greatest(ranks) == CHOOSE rank \in ranks : \A other \in ranks : rank >= other
Earliest(r, w) == Least(Held(win[r], w))  \* what it was asked for ahead comes after
StateMessage(version) == [kind |-> "state", of |-> version]
ComputeMessage(rank) == [kind |-> "compute", of |-> rank]
AnswerMessage(kind, rank, version) == [kind |-> kind, of |-> rank, from |-> version]
Requests(ranks) == [i \in DOMAIN ranks |-> ComputeMessage(ranks[i])]

----------------------------------------------------------------------------
(* Who starts, kills and buries processes *)

(* What kill() does to a process. What it has answered stays in the pipe. *)
Murdered(s) == IF Alive(s) THEN [s EXCEPT !.life = "dead"] ELSE s

(* How a new process begins (_start). *)
Begins(r) == IF ending[r] = "no" THEN "starting" ELSE "dead"
InitialVersion(r) == Version(r)
Spawned(r, s) == [s EXCEPT !.life = Begins(r), !.holds = InitialVersion(r), !.told = Version(r)]

(* What a dead process leaves to the next one (item): what it had not answered. The pipe is another. *)
TriesOfNext(s) == s.tries + 1
LostWith(s) == s.asked
PipeOfNext(s) == NoProcess
Buried(s) == [NoProcess EXCEPT !.lost = LostWith(s), !.tries = TriesOfNext(s), !.in = PipeOfNext(s).in, !.out = PipeOfNext(s).out]

(* The first processes are started before the threads (open). *)
OpensMore(r) == ending[r] = "no"
Unopened(r) == {w \in Workers : slot[r][w] = NoProcess}
OpenWorker ==
    /\ ~gone /\ run > 0 /\ boot[run] = "start" /\ \A w \in Workers : pc[run][w] = Absent
    /\ OpensMore(run) /\ Unopened(run) # {}
    /\ slot' = [slot EXCEPT ![run][Least(Unopened(run))] = Spawned(run, NoProcess)]
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

Opened == Unopened(run) = {} \/ ~OpensMore(run) \/ \E w \in Workers : pc[run][w] # Absent

(* A replacement, by the thread that needs it. *)
Replace(r, w) ==
    /\ ~gone /\ pc[r][w] = "claimed" /\ slot[r][w].life = "none"
    /\ slot' = [slot EXCEPT ![r][w] = Spawned(r, @)]
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

(* stop(), after it has ended the window: who is not ready need not become so (halt). *)
HaltsThose(s) == Alive(s) /\ ~s.ready
Halt(s) ==
    LET r == stp[s].run IN
    /\ ~gone /\ stp[s].pc = "look" /\ ending[r] = "no"
    /\ ending' = [ending EXCEPT ![r] = "halted"]
    /\ slot' = [slot EXCEPT ![r] = [w \in Workers |-> IF HaltsThose(@[w]) THEN Murdered(@[w]) ELSE @[w]]]
    /\ UNCHANGED <<vars, gone, kills, witness>>

(* stop(timeout), at its deadline (kill). *)
KilledAtDeadline(s) == Murdered(s)
Kill(s) ==
    LET r == stp[s].run IN
    /\ ~gone /\ s \in Timed /\ stp[s].pc = "parked" /\ ending[r] = "halted"
    /\ ending' = [ending EXCEPT ![r] = "killed"]
    /\ slot' = [slot EXCEPT ![r] = [w \in Workers |-> KilledAtDeadline(@[w])]]
    /\ UNCHANGED <<vars, gone, kills, witness>>

(* A thread that leaves ends its process first; the last one ends those that never had a thread (leave, close). *)
LeavesNone(r, w) ==
    [slot EXCEPT ![r] = [other \in Workers |-> IF other = w \/ present[r] = 1 THEN NoProcess ELSE @[other]]]

LeaveWorker(r, w) ==
    /\ ~gone /\ Leave(r, w)
    /\ slot' = LeavesNone(r, w)
    /\ UNCHANGED <<ending, gone, kills, witness>>

LeaveBoot ==
    /\ ~gone /\ BootLeave
    /\ Opened
    /\ slot' = LeavesNone(run, W)
    /\ UNCHANGED <<ending, gone, kills, witness>>

----------------------------------------------------------------------------
(* A worker process *)

Changes(r, w, s) == slot' = [slot EXCEPT ![r][w] = s]

BecomesReady(r, w) ==
    LET s == slot[r][w] IN
    /\ s.life = "starting"
    /\ Changes(r, w, [s EXCEPT !.life = "idle", !.out = Append(@, AnswerMessage("ready", 0, 0))])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

StartHangs(r, w) ==
    /\ SlowStart /\ slot[r][w].life = "starting"
    /\ Changes(r, w, [slot[r][w] EXCEPT !.life = "stuck"])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

Renews(s, version) == version
RenewState(r, w) ==
    LET s == slot[r][w] IN
    /\ s.life = "idle" /\ s.in # <<>> /\ Head(s.in).kind = "state"
    /\ Changes(r, w, [s EXCEPT !.holds = Renews(s, Head(s.in).of), !.in = Tail(@)])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

(* User code begins: sequence[index]. *)
ItemBeginsThere(r, w) ==
    LET s == slot[r][w] IN
    /\ s.life = "idle" /\ s.in # <<>> /\ Head(s.in).kind = "compute"
    /\ Changes(r, w, [s EXCEPT !.life = "computing"])
    /\ begun' = [begun EXCEPT ![r][Head(s.in).of] = @ + 1]
    /\ UNCHANGED <<shared, con, stp, seen, hooks, failed, raised, quiet, ending, gone, kills, witness>>

ItemHangsThere(r, w) ==
    /\ Slow /\ slot[r][w].life = "computing"
    /\ Changes(r, w, [slot[r][w] EXCEPT !.life = "hanging"])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

MayWrite(r, w) == TRUE
AnswerItem(r, w, kind) ==
    LET s == slot[r][w] IN
    /\ InItem(s) /\ MayWrite(r, w)
    /\ kind \in {"item", "none"} => Head(s.in).of < Last
    /\ Changes(r, w, [s EXCEPT !.life = "idle", !.in = Tail(@), !.out = Append(@, AnswerMessage(kind, Head(s.in).of, s.holds))])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

(* It dies, leaves a child that holds the pipe open, dies while it writes, or closes the pipe and lives on. *)
Dies(r, w, fault) ==
    LET s == slot[r][w] IN
    /\ kills < Kills /\ Alive(s) /\ s.life # "deaf"
    /\ fault \in {"torn", "close"} => s.life = "computing"
    /\ kills' = kills + 1
    /\ Changes(r, w, [s EXCEPT !.life = CASE fault = "child" -> "orphaning" [] fault = "close" -> "deaf" [] OTHER -> "dead",
                               !.out = IF fault = "torn" THEN Append(@, AnswerMessage("torn", Head(s.in).of, s.holds)) ELSE @,
                               !.in = IF InItem(s) THEN Tail(@) ELSE @])
    /\ broken' = [broken EXCEPT ![r] = IF InItem(s) THEN [@ EXCEPT ![Head(s.in).of] = @ + 1] ELSE @]
    /\ UNCHANGED <<vars, ending, gone, blamed, got>>

(* This process is killed; its lifeline ends with it, and that ends the worker, whatever it is doing (_settle). *)
ParentDies ==
    /\ Orphans /\ ~gone
    /\ gone' = TRUE
    /\ UNCHANGED <<vars, slot, ending, kills, witness>>

LifelineSeen(s) == Alive(s)
LifelineEnds(r, w) ==
    /\ gone /\ LifelineSeen(slot[r][w])
    /\ Changes(r, w, NoProcess)
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

NobodyLeft == gone /\ (\A r \in Runs, w \in Workers : ~Alive(slot[r][w])) /\ UNCHANGED allVars

----------------------------------------------------------------------------
(* The thread that owns it *)

Remembers(r, w, s) == ~gone /\ slot' = [slot EXCEPT ![r][w] = s]

Torn(message) == message.kind = "torn"
Readable(s) == s.out # <<>> /\ ~Torn(Head(s.out))

HearReady(r, w) ==
    LET s == slot[r][w] IN
    /\ pc[r][w] = "claimed" /\ ~s.ready /\ Readable(s)
    /\ Remembers(r, w, [s EXCEPT !.ready = TRUE, !.out = Tail(@)])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

(* Ask for what is not yet asked for: the thread's own rank, or all that a dead process had. A new version of the sequence goes before. *)
NeedsState(r, w) == slot[r][w].told # Version(r)
AskItem(r, w) ==
    LET s == slot[r][w]
        state == IF NeedsState(r, w) THEN <<StateMessage(Version(r))>> ELSE <<>>
        ranks == IF s.asked # <<>> THEN <<>> ELSE IF s.lost # <<>> THEN s.lost ELSE <<Earliest(r, w)>>
    IN
    /\ pc[r][w] = "claimed" /\ s.life # "none" /\ s.ready
    /\ pc' = [pc EXCEPT ![r][w] = "computing"]
    /\ Remembers(r, w, [s EXCEPT !.in = @ \o state \o Requests(ranks), !.told = Version(r), !.asked = @ \o ranks, !.lost = <<>>])
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, present, takers, joiners, rung, con, stp, history, ending, gone, kills, witness>>

(* Ask for another, if nobody idle could have it. It never waits for one, and never takes a turn (_claim_ahead). *)
MayHaveAhead(r, w) == idle[r] = {}
IsItem(r, w) == NextOf(win[r], w) < win[r].end
GoesOn(r) == ~Over(r)
AheadClaim(window, w) == Claim(window, w)
ClaimAhead(r, w) ==
    LET s == slot[r][w]
        claimed == AheadClaim(win[r], w)
        rank == Greatest(Held(claimed, w))
    IN
    /\ pc[r][w] = "computing" /\ s.life # "none"
    /\ Cardinality(Held(win[r], w)) <= Ahead
    /\ MayHaveAhead(r, w) /\ IsItem(r, w) /\ GoesOn(r)
    /\ claimed # win[r]
    /\ win' = [win EXCEPT ![r] = claimed]
    /\ Remembers(r, w, [s EXCEPT !.in = Append(@, ComputeMessage(rank)), !.asked = Append(@, rank)])
    /\ UNCHANGED <<run, boot, idle, waking, pc, permits, present, takers, joiners, rung, con, stp, history, ending, gone, kills, witness>>

(* The thread claims again: what it has ahead comes first, unless it is beyond an error: nobody wants that (_claim). *)
Wanted(window, held) == {rank \in held : rank < window.end}
ClaimsAgain(r, w, window) ==
    LET held == Held(window, w)
        wanted == Wanted(window, held)
        rest == [window EXCEPT !.under = [rank \in DOMAIN @ \ held |-> @[rank]]]
    IN
    IF wanted # {}
    THEN /\ win' = [win EXCEPT ![r] = window]
         /\ pc' = [pc EXCEPT ![r][w] = "claimed"]
         /\ UNCHANGED <<idle, waking, permits>>
    ELSE Claims(r, w, rest, idle[r], waking[r])

MayRead(r, w) == TRUE
TriesAfterAnswer(s) == 0
Answered(r, w) ==
    LET s == slot[r][w] IN
    /\ pc[r][w] = "computing" /\ Readable(s) /\ MayRead(r, w)
    /\ Remembers(r, w, [s EXCEPT !.out = Tail(@), !.asked = Tail(@), !.tries = TriesAfterAnswer(s)])

(* An item has come (item, _put). *)
ReceiveItem(r, w) ==
    /\ Answered(r, w)
    /\ LET answer == Head(slot[r][w].out)
           window == Put(win[r], Earliest(r, w), answer.kind)
       IN
        /\ answer.kind \in {"item", "none", "torn"}
        /\ ClaimsAgain(r, w, window)
        /\ IF Takeable(window) THEN WakeTakers(r) ELSE UNCHANGED <<takers, con>>
        /\ got' = [got EXCEPT ![r] = With(@, Earliest(r, w), [of |-> answer.of, from |-> answer.from])]
    /\ UNCHANGED <<run, boot, present, joiners, rung, stp, history, ending, gone, kills, broken, blamed>>

(* An error has come, or the end (item, _finish). *)
ReceiveEnd(r, w) ==
    /\ Answered(r, w)
    /\ LET answer == Head(slot[r][w].out) IN
        /\ answer.kind \in {"error", "end"}
        /\ ClaimsAgain(r, w, Finish(win[r], Earliest(r, w), IF answer.kind = "error" THEN "item" ELSE ""))
        /\ failed' = [failed EXCEPT ![r] = IF answer.kind = "error" THEN @ \union {Earliest(r, w)} ELSE @]
    /\ WakeTakers(r)
    /\ UNCHANGED <<run, boot, present, joiners, rung, stp, begun, seen, hooks, raised, quiet, ending, gone, kills, witness>>

(* The process is dead, or of no use and killed, and all that it has answered was read. *)
SeenThrough(s) == Dead(s) \/ EndOfFile(s)
NothingLeft(s) == ~Readable(s)
Lost(r, w) ==
    LET s == slot[r][w] IN
    /\ pc[r][w] = "computing" \/ (pc[r][w] = "claimed" /\ s.life # "none" /\ ~s.ready)
    /\ SeenThrough(s) /\ NothingLeft(s)

Blamed(r, w) == Earliest(r, w)
MayRetry(r, w) == slot[r][w].ready /\ slot[r][w].tries < Retries /\ ending[r] = "no"
Blames(r, rank) == blamed' = [blamed EXCEPT ![r][rank] = @ + 1]

(* Another process is to compute it again, and what was asked for ahead (item). *)
RetryItem(r, w) ==
    /\ Lost(r, w) /\ MayRetry(r, w)
    /\ Remembers(r, w, Buried(slot[r][w]))
    /\ pc' = [pc EXCEPT ![r][w] = "claimed"]
    /\ Blames(r, Blamed(r, w))
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, present, takers, joiners, rung, con, stp, history, ending, gone, kills, broken, got>>

(* The stream ends with a WorkerDiedError at that rank (item, _finish). *)
RaiseDeath(r, w) ==
    /\ Lost(r, w) /\ ~MayRetry(r, w)
    /\ Remembers(r, w, NoProcess)
    /\ ClaimsAgain(r, w, Finish(win[r], Blamed(r, w), "died"))
    /\ failed' = [failed EXCEPT ![r] = @ \union {Blamed(r, w)}]
    /\ Blames(r, Blamed(r, w))
    /\ WakeTakers(r)
    /\ UNCHANGED <<run, boot, present, joiners, rung, stp, begun, seen, hooks, raised, quiet, ending, gone, kills, broken, got>>

----------------------------------------------------------------------------
(* The rest is that of OrderedEnqueuer, and leaves processes alone *)

Apart == ~gone /\ UNCHANGED <<processes, witness>>

StartApart == Start /\ Apart
BootArriveApart == BootArrive /\ Apart
BootWorkerApart == BootWorker /\ Apart /\ Opened
BeginRunApart == BeginRun /\ Apart
RingApart == Ring /\ Apart
FirstApart(r, w) == First(r, w) /\ Apart
WakeApart(r, w) == Wake(r, w) /\ Apart
HookBeginsApart(r, w) == HookBegins(r, w) /\ Apart
TurnEpochApart(r, w, error) == TurnEpoch(r, w, error) /\ Apart
ExitApart(r, w) == Exit(r, w) /\ Apart
CallNextApart(c) == CallNext(c) /\ Apart
GetStreamApart(c) == GetStream(c) /\ Apart
TakeItemApart(c) == TakeItem(c) /\ Apart
LookAtBellApart(c) == LookAtBell(c) /\ Apart
TimesOutApart(c) == TimesOut(c) /\ Apart
InterruptedApart(c) == Interrupted(c) /\ Apart
EndWaitApart(c) == EndWait(c) /\ Apart
CallStopApart(s) == CallStop(s) /\ Apart
JoinApart(s) == Join(s) /\ Apart /\ ending[stp[s].run] # "no"
JoinThreadsApart(s) == JoinThreads(s) /\ Apart

(* At the deadline the processes are killed; who is still there after it is in the hook, which nobody can kill. *)
InHook(r) == \E w \in Workers : pc[r][w] = "turning"
GiveUpApart(s) ==
    /\ stp[s].pc = "parked"
    /\ ending[stp[s].run] = "killed" /\ InHook(stp[s].run)
    /\ GiveUp(s) /\ Apart

ProcessBooting == BootArriveApart \/ OpenWorker \/ BootWorkerApart \/ LeaveBoot \/ BeginRunApart
WorkerThread(r, w) ==
    \/ FirstApart(r, w) \/ WakeApart(r, w) \/ HookBeginsApart(r, w) \/ ExitApart(r, w) \/ \E error \in {"", "hook"} : TurnEpochApart(r, w, error)
    \/ Replace(r, w) \/ HearReady(r, w) \/ AskItem(r, w) \/ ReceiveItem(r, w) \/ ReceiveEnd(r, w) \/ RetryItem(r, w) \/ RaiseDeath(r, w)
    \/ LeaveWorker(r, w)
WorkerProcess(r, w) ==
    LifelineEnds(r, w) \/ BecomesReady(r, w) \/ RenewState(r, w) \/ ItemBeginsThere(r, w)
        \/ (slot[r][w].life = "computing" /\ \E kind \in Kinds : AnswerItem(r, w, kind))
ConsumerThread(c) == TakeItemApart(c) \/ LookAtBellApart(c) \/ EndWaitApart(c)
StopperThread(s) == Halt(s) \/ JoinApart(s) \/ JoinThreadsApart(s)

ProcessNext ==
    \/ StartApart \/ ProcessBooting \/ RingApart \/ ParentDies \/ NobodyLeft
    \/ \E r \in Runs, w \in Workers :
          \/ WorkerThread(r, w) \/ ClaimAhead(r, w)
          \/ LifelineEnds(r, w) \/ BecomesReady(r, w) \/ RenewState(r, w) \/ ItemBeginsThere(r, w) \/ StartHangs(r, w) \/ ItemHangsThere(r, w)
          \/ \E kind \in Kinds : AnswerItem(r, w, kind)
          \/ \E fault \in Faults : Dies(r, w, fault)
    \/ \E c \in Consumers : CallNextApart(c) \/ GetStreamApart(c) \/ ConsumerThread(c) \/ TimesOutApart(c) \/ InterruptedApart(c)
    \/ \E s \in Stoppers : CallStopApart(s) \/ StopperThread(s) \/ Kill(s) \/ GiveUpApart(s)

(* What makes them go on. Processes become ready and items end, unless they hang; nobody has to die, or to claim ahead. *)
ProcessFairness ==
    /\ WF_allVars(ProcessBooting)
    /\ \A r \in Runs, w \in Workers : WF_allVars(WorkerThread(r, w)) /\ WF_allVars(WorkerProcess(r, w))
    /\ \A c \in Consumers : WF_allVars(ConsumerThread(c)) /\ WF_allVars(TimesOutApart(c))
    /\ \A s \in Stoppers : WF_allVars(StopperThread(s)) /\ WF_allVars(Kill(s)) /\ WF_allVars(GiveUpApart(s))

ProcessSpec == ProcessInit /\ [][ProcessNext]_allVars /\ ProcessFairness

(* Smaller: one run that has begun, its processes still starting. *)
BegunInit ==
    /\ run = 1
    /\ win = [r \in Runs |-> IF r = 1 THEN Begin(NewWindow) ELSE NewWindow]
    /\ boot = [r \in Runs |-> IF r = 1 THEN "done" ELSE "not yet"]
    /\ pc = [r \in Runs |-> [w \in Workers |-> IF r = 1 THEN "first" ELSE Absent]]
    /\ present = [r \in Runs |-> IF r = 1 THEN W ELSE 0]
    /\ idle = [r \in Runs |-> {}] /\ waking = [r \in Runs |-> FALSE] /\ permits = [r \in Runs |-> {}]
    /\ takers = [r \in Runs |-> {}] /\ joiners = [r \in Runs |-> {}] /\ rung = [r \in Runs |-> FALSE]
    /\ con = [c \in Consumers |-> [pc |-> "out", run |-> 0, permit |-> FALSE, got |-> ""]]
    /\ stp = [s \in Stoppers |-> [pc |-> "out", run |-> 0, permit |-> FALSE, got |-> ""]]
    /\ begun = [r \in Runs |-> [rank \in 0 .. Top |-> 0]]
    /\ seen = [r \in Runs |-> <<>>] /\ hooks = [r \in Runs |-> <<>>] /\ failed = [r \in Runs |-> {}]
    /\ raised = [r \in Runs |-> 0] /\ quiet = [r \in Runs |-> {}]
    /\ slot = [r \in Runs |-> [w \in Workers |-> IF r = 1 THEN [NoProcess EXCEPT !.life = "starting"] ELSE NoProcess]]
    /\ ending = [r \in Runs |-> "no"] /\ gone = FALSE /\ kills = 0
    /\ broken = begun /\ blamed = begun /\ got = [r \in Runs |-> Nothing]
BegunSpec == BegunInit /\ [][ProcessNext]_allVars /\ ProcessFairness
BegunKeen == BegunSpec /\ \A c \in Consumers : WF_allVars(CallNextApart(c))

----------------------------------------------------------------------------
(* What must always hold, besides what does in OrderedEnqueuer *)

ProcessTypeOK ==
    \A r \in Runs, w \in Workers :
        LET s == slot[r][w] IN
        /\ s.life \in {"none", "starting", "stuck", "idle", "computing", "hanging", "deaf", "dead", "orphaning"}
        /\ InItem(s) => s.in # <<>> /\ Head(s.in).kind = "compute"
        /\ pc[r][w] = "computing" => s.asked # <<>> /\ Head(s.asked) = Earliest(r, w)
        /\ Len(s.asked) <= Ahead + 1
        /\ ending[r] \in {"no", "halted", "killed"}

AllRanks == 0 .. Top

G1_AgainOnlyIfDied == \A r \in Runs, rank \in AllRanks : begun[r][rank] <= 1 + broken[r][rank]
G2_RightItem == \A r \in Runs : \A rank \in DOMAIN got[r] : got[r][rank].of = rank
G4_AheadBounded == \A r \in Runs : win[r].state = "running" =>
    /\ \A rank \in DOMAIN win[r].under : rank < win[r].end => rank < win[r].rank + Size
    /\ \A w \in Workers : InItem(slot[r][w]) => Head(slot[r][w].in).of < win[r].rank + Size
G7_FreshState == \A r \in Runs : \A rank \in DOMAIN got[r] : got[r][rank].from = VersionOf(rank)
G7_NoneComputesInHook == \A r \in Runs, w \in Workers : pc[r][w] \in {"turn", "turning"} /\ Barrier =>
    \A other \in Workers : ~InItem(slot[r][other])
G13_RetriesAtMost == \A r \in Runs, rank \in AllRanks : begun[r][rank] <= 1 + Retries /\ blamed[r][rank] <= 1 + Retries
G13_NothingTorn == \A c \in Consumers : con[c].got # "torn"
G13_NeverDeliveredTwice == \A r \in Runs : \A one, other \in DOMAIN got[r] : got[r][one].of = got[r][other].of => one = other
G16_NoProcessComputes == \A r \in Runs : "true" \in quiet[r] => \A w \in Workers : ~InItem(slot[r][w])
G20_NoProcessLeft == \A r \in Runs : "true" \in quiet[r] => \A w \in Workers : slot[r][w] = NoProcess
G20_ThreadTakesItAlong == \A r \in Runs, w \in Workers : pc[r][w] \in {"exit", "gone"} => slot[r][w] = NoProcess

(* What no step may do *)

(* Whose death it is: of what the process had to do, the first. *)
G13_BlamesEarliest == [][\A r \in Runs, rank \in AllRanks : blamed'[r][rank] > blamed[r][rank] =>
    /\ rank \in DOMAIN win[r].under
    /\ \A other \in Held(win[r], win[r].under[rank]) : rank <= other]_allVars
(* It is given up only if it was tried often enough, or its process was never ready, or the run is over. *)
G13_RaisesAfterRetries == [][\A r \in Runs, rank \in AllRanks : blamed'[r][rank] > blamed[r][rank] /\ rank \in failed'[r] /\ ~Over(r) =>
    blamed'[r][rank] = Retries + 1 \/ ~slot[r][win[r].under[rank]].ready]_allVars
(* Whoever can't even start is not tried again. *)
G13_StartNotRetried == [][\A r \in Runs, rank \in AllRanks : blamed'[r][rank] > blamed[r][rank] /\ rank \notin failed'[r] =>
    slot[r][win[r].under[rank]].ready]_allVars
(* A process is replaced only once it is dead or useless. *)
G13_Confirmed == [][\A r \in Runs, w \in Workers : blamed'[r] # blamed[r] /\ slot'[r][w] # slot[r][w] =>
    Dead(slot[r][w]) \/ EndOfFile(slot[r][w])]_allVars

(* What must come to pass *)

G13_Noticed == \A r \in Runs, w \in Workers : slot[r][w].life \in {"dead", "orphaning", "deaf"} /\ pc[r][w] = "computing"
    ~> slot[r][w].life \notin {"dead", "orphaning", "deaf"}
G15_KilledAndReaped == \A r \in Runs : ending[r] = "killed" ~> \A w \in Workers : slot[r][w] = NoProcess /\ pc[r][w] \in {Absent, "gone"}
G20_NoOrphans == gone ~> \A r \in Runs, w \in Workers : ~Alive(slot[r][w])
G20_AllLeave == \A r \in Runs : ending[r] # "no" ~> \A w \in Workers : slot[r][w].life \in {"none", "hanging"}

----------------------------------------------------------------------------
(* What a user sees of all this: the same as without processes. An item whose process died is still under way until another has *)
(* computed it, or it is blamed. What was answered is known, though nobody has read it yet. *)

Unread(r) == UNION {{slot[r][w].out[i] : i \in DOMAIN slot[r][w].out} : w \in Workers}
AnswersThere(r) == {answer \in Unread(r) : answer.kind \in Kinds}
AnsweredThere(r) == {answer.of : answer \in AnswersThere(r)}
KindThere(r, rank) == (CHOOSE answer \in AnswersThere(r) : answer.of = rank).kind
UnderWay(r) ==
    {Head(slot[r][w].in).of : w \in {other \in Workers : InItem(slot[r][other])}}
        \union {rank \in DOMAIN win[r].under : rank < Last /\ begun[r][rank] > 0 /\ rank \notin AnsweredThere(r)}
KnownThere(r) ==
    LET put == Concrete(r)
        known == [rank \in DOMAIN put \union AnsweredThere(r) |-> IF rank \in DOMAIN put THEN put[rank] ELSE KindThere(r, rank)]
        ends == {rank \in DOMAIN known : known[rank] \in {"error", "end"}}
    IN  IF r > run \/ Over(r) THEN Nothing ELSE [rank \in {one \in DOMAIN known : \A other \in ends : one <= other} |-> known[rank]]

ProcessUser == INSTANCE Enqueuer WITH
    life <- [r \in Runs |-> IF r > run THEN "new" ELSE IF rung[r] /\ win[r].state = "running" THEN "stopped" ELSE win[r].state],
    next <- [r \in Runs |-> win[r].rank],
    begun <- [r \in Runs |-> {rank \in 0 .. Last - 1 : begun[r][rank] > 0}],
    calls <- [r \in Runs |-> UnderWay(r)],
    results <- [r \in Runs |-> KnownThere(r)],
    hook <- [r \in Runs |-> Barrier /\ win[r].epoch > FirstEpoch /\ \E w \in Workers : pc[r][w] = "turning"],
    epochs <- [r \in Runs |-> win[r].epoch],
    broken <- [r \in Runs |-> win[r].epoch * Length \in failed[r]],
    left <- [r \in Runs |-> "true" \in quiet[r]],
    stream <- [c \in Consumers |-> [call |-> con[c].pc # "out", run |-> con[c].run, got |-> IF con[c].pc = "out" THEN con[c].got ELSE ""]],
    stops <- [s \in Stoppers |-> [call |-> stp[s].pc # "out", run |-> stp[s].run, got |-> stp[s].got]]

RefinesUserSafety == ProcessUser!Safety
RefinesUserLiveness == ProcessUser!Liveness

(* What tells states apart where two runs would be too many: see View. What a thread has ahead it drops if that is beyond the end. *)
ProcessRemains(r) == <<win[r].end, win[r].last, win[r].epoch>>
ProcessCounts(r) == IF r < run THEN ProcessRemains(r) ELSE <<broken[r], blamed[r], got[r]>>
ProcessView == <<View, slot, ending, gone, kills, [r \in Runs |-> ProcessCounts(r)]>>
=============================================================================
