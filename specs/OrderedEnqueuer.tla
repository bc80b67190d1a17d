--------------------------- MODULE OrderedEnqueuer ---------------------------
(***************************************************************************)
(* The monitor: `enqueuer/_run.py`. Worker threads claim, compute and put, *)
(* consumers take, anyone may stop, and all that they share is guarded by  *)
(* one lock. One action is one critical section, or one step outside of    *)
(* the lock that another thread could see (user code, parking). It is      *)
(* named after what it does; the method that it is in stands beside it.    *)
(*                                                                         *)
(* Waiting: who finds nothing to do registers in a wait set, leaves the    *)
(* lock, and parks until its parker has a permit. A waker takes it out of  *)
(* the set and gives the permit.                                           *)
(*                                                                         *)
(* Runs: the threads of a run that is over may go on (stragglers) while    *)
(* the next one works. Every variable that a run owns is indexed by it.    *)
(***************************************************************************)
EXTENDS Window

CONSTANTS
    Consumers,     \* threads that iterate a stream
    Stoppers,      \* threads that call stop()
    Timed,         \* those of them that give a timeout
    R,             \* number of runs
    Kinds,         \* how an item may end: subset of {"item", "none", "error", "end"}
    HookFails,     \* whether a hook may fail
    Slow,          \* whether an item may take for ever
    Impatient,     \* consumers that call next() with a timeout
    Interrupts,    \* whether consumers may be interrupted while they wait
    StopsWithin,   \* whether items call stop()
    Bell           \* whether the enqueuer may be dropped, which rings the bell

Runs == 1 .. R

VARIABLES
    run,      \* the latest run; 0: never started
    win,      \* run -> its window
    boot,     \* run -> how far start() is
    idle,     \* run -> workers that wait for something to claim                  (_idle)
    waking,   \* run -> whether a worker was woken and has not come yet           (_waking)
    pc,       \* run -> worker -> what the thread does
    permits,  \* run -> workers whose parkers have a permit
    present,  \* run -> threads that may still call user code                     (_present)
    takers,   \* run -> consumers that wait for an item                           (_takers)
    joiners,  \* run -> who waits for the workers to leave                        (_joiners)
    rung,     \* run -> the bell                                                  (_rung)
    con,      \* consumer -> [pc, run, permit, got]
    stp,      \* stopper -> [pc, run, permit, got]
    \* what happened, for the properties: nothing below is read by an action
    begun,    \* run -> rank -> how often its computation began
    seen,     \* run -> ranks delivered or skipped, in that order
    hooks,    \* run -> the epochs that a hook was called before
    failed,   \* run -> ranks whose computation, or turn, failed
    raised,   \* run -> how many streams have raised
    quiet     \* run -> whether a stop of it has returned, and with what

shared == <<run, win, boot, idle, waking, pc, permits, present, takers, joiners, rung>>
history == <<begun, seen, hooks, failed, raised, quiet>>
vars == <<shared, con, stp, history>>

Absent == "absent"
Init ==
    /\ run = 0
    /\ win = [r \in Runs |-> NewWindow]
    /\ boot = [r \in Runs |-> "not yet"]
    /\ idle = [r \in Runs |-> {}]
    /\ waking = [r \in Runs |-> FALSE]
    /\ pc = [r \in Runs |-> [w \in Workers |-> Absent]]
    /\ permits = [r \in Runs |-> {}]
    /\ present = [r \in Runs |-> 0]
    /\ takers = [r \in Runs |-> {}]
    /\ joiners = [r \in Runs |-> {}]
    /\ rung = [r \in Runs |-> FALSE]
    /\ con = [c \in Consumers |-> [pc |-> "out", run |-> 0, permit |-> FALSE, got |-> ""]]
    /\ stp = [s \in Stoppers |-> [pc |-> "out", run |-> 0, permit |-> FALSE, got |-> ""]]
    /\ begun = [r \in Runs |-> [rank \in 0 .. Top |-> 0]]
    /\ seen = [r \in Runs |-> <<>>]
    /\ hooks = [r \in Runs |-> <<>>]
    /\ failed = [r \in Runs |-> {}]
    /\ raised = [r \in Runs |-> 0]
    /\ quiet = [r \in Runs |-> {}]

Over(r) == rung[r] \/ win[r].state # "running"

RankOf(r, w) == CHOOSE rank \in DOMAIN win[r].under : win[r].under[rank] = w

----------------------------------------------------------------------------
(* Waking: with the lock held, hence parts of actions. *)

(* All of them, as any may be interrupted, or too late. *)
Roused(r) == takers[r]

WakeTakers(r) ==
    /\ takers' = [takers EXCEPT ![r] = @ \ Roused(r)]
    /\ con' = [c \in Consumers |-> [con[c] EXCEPT !.permit = @ \/ c \in Roused(r)]]

WakeJoiners(r) ==
    /\ joiners' = [joiners EXCEPT ![r] = {}]
    /\ stp' = [s \in Stoppers |-> [stp[s] EXCEPT !.permit = @ \/ s \in joiners[r]]]

(* Which worker of `sleepers` is woken, were `rank` the next to take: at most one, who wakes the next (_wake_for). *)
Woken(window, rank, sleepers, coming) ==
    LET able == {w \in sleepers : Claimable(window, rank, w)} IN
    IF coming \/ able = {} THEN {{}} ELSE {{w} : w \in able}

(* Who claims wakes the next, if there is more to claim; so does who takes. *)
WokenByClaim(window, sleepers, coming) == Woken(window, window.rank, sleepers, coming)
WokenByTake(window, sleepers, coming) == Woken(window, window.rank, sleepers, coming)

(* Threads know their run, and look for no other (G16). *)
Own(r) == r

(* Worker w claims, out of `window` and with `sleepers` in the wait set (_claim). It also does what its caller has to with the window. *)
Claims(r, w, window, sleepers, coming) ==
    IF rung[r] \/ window.state # "running"
    THEN /\ win' = [win EXCEPT ![Own(r)] = window]
         /\ idle' = [idle EXCEPT ![r] = sleepers]
         /\ waking' = [waking EXCEPT ![r] = coming]
         /\ pc' = [pc EXCEPT ![r][w] = "leave"]
         /\ permits' = [permits EXCEPT ![r] = @ \ {w}]
    ELSE LET claimed == Claim(window, w) IN
         \E woken \in WokenByClaim(claimed, sleepers, coming) :
            /\ win' = [win EXCEPT ![Own(r)] = claimed]
            /\ idle' = [idle EXCEPT ![r] = (sleepers \ woken) \union (IF claimed = window THEN {w} ELSE {})]
            /\ waking' = [waking EXCEPT ![r] = coming \/ woken # {}]
            /\ permits' = [permits EXCEPT ![r] = (@ \ {w}) \union woken]
            /\ pc' = [pc EXCEPT ![r][w] =
                        IF claimed = window THEN "parked"
                        ELSE IF claimed.turning /\ ~window.turning THEN "turn" ELSE "claimed"]

----------------------------------------------------------------------------
(* start() *)

(* start() raises while a run is on: G18. *)
MayStart == run > 0 => Over(run) /\ boot[run] = "done"

Start ==
    /\ run < R
    /\ MayStart
    /\ run' = run + 1
    /\ boot' = [boot EXCEPT ![run + 1] = "arrive"]
    /\ UNCHANGED <<win, idle, waking, pc, permits, present, takers, joiners, rung, con, stp, history>>

BootCounts == 1

(* The thread that starts the others arrives first, so that none of them can be the last to leave. *)
BootArrive ==
    /\ run > 0 /\ boot[run] = "arrive"
    /\ IF win[run].state = "running"
       THEN /\ boot' = [boot EXCEPT ![run] = "start"]
            /\ present' = [present EXCEPT ![run] = BootCounts]
       ELSE /\ boot' = [boot EXCEPT ![run] = "begin"]
            /\ UNCHANGED present
    /\ UNCHANGED <<run, win, idle, waking, pc, permits, takers, joiners, rung, con, stp, history>>

ToStart == {w \in Workers : pc[run][w] = Absent}
StartsNext == {CHOOSE w \in ToStart : \A other \in ToStart : w <= other}

BootWorker ==
    /\ run > 0 /\ boot[run] = "start" /\ ToStart # {}
    /\ win[run].state = "running"
    /\ present' = [present EXCEPT ![run] = @ + 1]
    /\ \E w \in StartsNext : pc' = [pc EXCEPT ![run][w] = "first"]
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, takers, joiners, rung, con, stp, history>>

BootLeave ==
    /\ run > 0 /\ boot[run] = "start"
    /\ ToStart = {} \/ win[run].state # "running"
    /\ boot' = [boot EXCEPT ![run] = "begin"]
    /\ present' = [present EXCEPT ![run] = @ - 1]
    /\ IF present[run] = 1 THEN WakeJoiners(run) ELSE UNCHANGED <<joiners, stp>>
    /\ UNCHANGED <<run, win, idle, waking, pc, permits, takers, rung, con, history>>

(* All are there: they may begin (start). *)
BeginRun ==
    /\ run > 0 /\ boot[run] = "begin"
    /\ boot' = [boot EXCEPT ![run] = "done"]
    /\ win' = [win EXCEPT ![run] = Begin(@)]
    /\ \E woken \in IF idle[run] = {} THEN {{}} ELSE {{w} : w \in idle[run]} :
          /\ idle' = [idle EXCEPT ![run] = @ \ woken]
          /\ permits' = [permits EXCEPT ![run] = @ \union woken]
          /\ waking' = [waking EXCEPT ![run] = @ \/ woken # {}]
    /\ UNCHANGED <<run, pc, present, takers, joiners, rung, con, stp, history>>

----------------------------------------------------------------------------
(* Workers *)

(* The first claim of a thread (_work). *)
First(r, w) ==
    /\ pc[r][w] = "first"
    /\ Claims(r, w, win[r], idle[r], waking[r])
    /\ UNCHANGED <<run, boot, present, takers, joiners, rung, con, stp, history>>

(* It has come: who was woken before may wake the next. *)
StillComing(r) == FALSE

(* It was woken, or the bell has rung (_wait). *)
Wake(r, w) ==
    /\ pc[r][w] = "parked" /\ w \in permits[r]
    /\ Claims(r, w, win[r], idle[r] \ {w}, StillComing(r))
    /\ UNCHANGED <<run, boot, present, takers, joiners, rung, con, stp, history>>

(* User code begins: sequence[index]. *)
ItemBegins(r, w) ==
    /\ pc[r][w] = "claimed"
    /\ pc' = [pc EXCEPT ![r][w] = "computing"]
    /\ begun' = [begun EXCEPT ![r][RankOf(r, w)] = @ + 1]
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, present, takers, joiners, rung, con, stp, seen, hooks, failed, raised, quiet>>

(* It takes longer than anyone will wait. It may still end, some day. *)
ItemHangs(r, w) ==
    /\ Slow
    /\ pc[r][w] = "computing"
    /\ pc' = [pc EXCEPT ![r][w] = "hanging"]
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, present, takers, joiners, rung, con, stp, history>>

Computes(r, w) == pc[r][w] \in {"computing", "hanging"}

(* It has given an item, which may be None (_put). *)
PutItem(r, w, kind) ==
    /\ Computes(r, w)
    /\ kind \in Kinds \intersect {"item", "none"}
    /\ RankOf(r, w) < Last
    /\ LET window == Put(win[Own(r)], RankOf(r, w), kind) IN
        /\ Claims(r, w, window, idle[r], waking[r])
        /\ IF Takeable(window) THEN WakeTakers(r) ELSE UNCHANGED <<takers, con>>
    /\ UNCHANGED <<run, boot, present, joiners, rung, stp, history>>

(* It has raised, or there is none any more (_finish). *)
FinishItem(r, w, kind) ==
    /\ Computes(r, w)
    /\ kind \in Kinds \intersect {"error", "end"}
    /\ LET rank == RankOf(r, w) IN
        /\ Claims(r, w, Finish(win[r], rank, IF kind = "error" THEN "item" ELSE ""), idle[r], waking[r])
        /\ failed' = [failed EXCEPT ![r] = IF kind = "error" THEN @ \union {rank} ELSE @]
    /\ WakeTakers(r)
    /\ UNCHANGED <<run, boot, present, joiners, rung, stp, begun, seen, hooks, raised, quiet>>

(* The hook is called, if there is one and an epoch has gone before (_turn). *)
HookBegins(r, w) ==
    /\ pc[r][w] = "turn"
    /\ pc' = [pc EXCEPT ![r][w] = "turning"]
    /\ hooks' = [hooks EXCEPT ![r] = IF Barrier /\ win[r].epoch > FirstEpoch THEN Append(@, win[r].epoch) ELSE @]
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, present, takers, joiners, rung, con, stp, begun, seen, failed, raised, quiet>>

(* The epoch is open, or its hook or length has failed (_turn). *)
TurnEpoch(r, w, error) ==
    /\ pc[r][w] = "turning"
    /\ error \in IF HookFails THEN {"", "hook"} ELSE {""}
    /\ Claims(r, w, Turned(win[r], error), idle[r], waking[r])
    /\ failed' = [failed EXCEPT ![r] = IF error # "" THEN @ \union {win[r].claimed} ELSE @]
    /\ WakeTakers(r)
    /\ UNCHANGED <<run, boot, present, joiners, rung, stp, begun, seen, hooks, raised, quiet>>

Farewell(r) == WakeJoiners(r)

(* The last one to leave also ends the window of a run that is over (_leave). *)
Leave(r, w) ==
    /\ pc[r][w] = "leave"
    /\ pc' = [pc EXCEPT ![r][w] = "exit"]
    /\ present' = [present EXCEPT ![r] = @ - 1]
    /\ IF present[r] = 1
       THEN /\ Farewell(r)
            /\ win' = [win EXCEPT ![r] = IF Over(r) THEN Stop(@) ELSE @]
       ELSE UNCHANGED <<joiners, stp, win>>
    /\ UNCHANGED <<run, boot, idle, waking, permits, takers, rung, con, history>>

(* The thread ends. *)
Exit(r, w) ==
    /\ pc[r][w] = "exit"
    /\ pc' = [pc EXCEPT ![r][w] = "gone"]
    /\ UNCHANGED <<run, win, boot, idle, waking, permits, present, takers, joiners, rung, con, stp, history>>

----------------------------------------------------------------------------
(* Consumers *)

Bound(c) == IF con[c].run = 0 THEN run ELSE con[c].run

(* next(). The stream binds to the run that there is, and never to another. *)
CallNext(c) ==
    /\ con[c].pc = "out"
    /\ run > 0
    /\ con' = [con EXCEPT ![c].pc = "look", ![c].run = Bound(c), ![c].got = ""]
    /\ UNCHANGED <<shared, stp, history>>

(* get(): another stream. *)
GetStream(c) ==
    /\ con[c].pc = "out"
    /\ con[c].run \notin {0, run}
    /\ con' = [con EXCEPT ![c].run = 0, ![c].got = ""]
    /\ UNCHANGED <<shared, stp, history>>

Comes(c) == con[c].pc \in {"look", "late"} \/ (con[c].pc = "parked" /\ con[c].permit)

(* While it looks, it believes nothing that it saw before it slept. *)
There(c, window) == window.rank \in DOMAIN window.ready
Item(window) == IF window.rank \in DOMAIN window.ready THEN window.ready[window.rank] ELSE "none"
(* Whom a consumer wakes that goes: nobody, as all were woken. *)
Passed(r, c, window) == {}
TooLate(c) == con[c].pc = "late"

Returns(c, got) == [con EXCEPT ![c].pc = "out", ![c].permit = FALSE, ![c].got = got]
Sequence(from, to) == [i \in 1 .. to - from |-> from + i - 1]

(* Who finds nothing registers in the critical section in which it has looked, and not in a later one. *)
Registered(c) == {c}
RegisteredLate(c) == {}

(* The bell needs no lock: it may ring after a consumer has looked at it, and before the consumer is among those that are woken. *)
RingsNow(c, there) == IF Bell /\ ~there /\ ~TooLate(c) THEN BOOLEAN ELSE {FALSE}
Started(r) == {w \in Workers : pc[r][w] # Absent}

(* Whom the end sends home: every idle worker. *)
Dismissed(r) == idle[r]

(* A consumer looks: for the first time, or woken, or too late (take). *)
TakeItem(c) ==
    /\ Comes(c)
    /\ LET r == con[c].run
           window == IF rung[r] THEN win[r] ELSE Skip(win[r])
           there == There(c, window)
           after == IF there THEN Take(window) ELSE window
           waiters == takers[r] \ {c}
       IN
       IF rung[r] \/ (window.state # "running" /\ ~there)
       THEN /\ con' = Returns(c, "stop")
            /\ takers' = [takers EXCEPT ![r] = waiters]
            /\ UNCHANGED <<run, win, boot, idle, waking, pc, permits, present, joiners, rung, stp, history>>
       ELSE IF ~there /\ Drained(window)
       THEN \* the end of the stream: everybody is woken, and one consumer is told the error
            /\ win' = [win EXCEPT ![r] = Conclude(window)]
            /\ idle' = [idle EXCEPT ![r] = @ \ Dismissed(r)]
            /\ permits' = [permits EXCEPT ![r] = @ \union Dismissed(r)]
            /\ takers' = [takers EXCEPT ![r] = {}]
            /\ con' = [other \in Consumers |->
                        IF other = c THEN Returns(c, IF window.error = "" THEN "stop" ELSE "error")[c]
                        ELSE [con[other] EXCEPT !.permit = @ \/ other \in waiters]]
            /\ seen' = [seen EXCEPT ![r] = @ \o Sequence(win[r].rank, window.rank)]
            /\ raised' = [raised EXCEPT ![r] = IF window.error = "" THEN @ ELSE @ + 1]
            /\ UNCHANGED <<run, boot, waking, pc, present, joiners, rung, stp, begun, hooks, failed, quiet>>
       ELSE \E woken \in WokenByTake(after, idle[r], waking[r]), rings \in RingsNow(c, there) :
            /\ win' = [win EXCEPT ![r] = after]
            /\ idle' = [idle EXCEPT ![r] = @ \ woken]
            /\ permits' = [permits EXCEPT ![r] = @ \union woken \union (IF rings THEN Started(r) ELSE {})]
            /\ rung' = [rung EXCEPT ![r] = rings]
            /\ waking' = [waking EXCEPT ![r] = @ \/ woken # {}]
            /\ seen' = [seen EXCEPT ![r] = @ \o Sequence(win[r].rank, window.rank) \o (IF there THEN <<window.rank>> ELSE <<>>)]
            /\ IF there
               THEN /\ con' = [other \in Consumers |->
                                IF other = c THEN Returns(c, Item(window))[c]
                                ELSE [con[other] EXCEPT !.permit = @ \/ other \in Passed(r, c, after)]]
                    /\ takers' = [takers EXCEPT ![r] = waiters \ Passed(r, c, after)]
               ELSE IF TooLate(c)
               THEN /\ con' = Returns(c, "timeout")
                    /\ takers' = [takers EXCEPT ![r] = waiters]
               ELSE /\ con' = [other \in Consumers |->
                                IF other = c THEN [con[c] EXCEPT !.pc = IF Bell THEN "registered" ELSE "parked", !.permit = FALSE]
                                ELSE [con[other] EXCEPT !.permit = @ \/ (rings /\ other \in waiters)]]
                    /\ takers' = [takers EXCEPT ![r] = waiters \union Registered(c)]
            /\ UNCHANGED <<run, boot, pc, present, joiners, stp, begun, hooks, failed, raised, quiet>>

Hears(c) == rung[con[c].run]

(* Register first, look at the bell then: it rings without the lock. *)
LookAtBell(c) ==
    /\ con[c].pc = "registered"
    /\ con' = [con EXCEPT ![c].pc = IF Hears(c) THEN "interrupted" ELSE "parked", ![c].got = IF Hears(c) THEN "stop" ELSE ""]
    /\ takers' = [takers EXCEPT ![con[c].run] = @ \union RegisteredLate(c)]
    /\ UNCHANGED <<run, win, boot, idle, waking, pc, permits, present, joiners, rung, stp, history>>

HasTimeout(c) == c \in Impatient

(* park() returns without a permit; one may still come before the lock does. *)
TimesOut(c) ==
    /\ HasTimeout(c)
    /\ con[c].pc = "parked"
    /\ con' = [con EXCEPT ![c].pc = "late"]
    /\ UNCHANGED <<shared, stp, history>>

Interrupted(c) ==
    /\ Interrupts
    /\ con[c].pc = "parked"
    /\ con' = [con EXCEPT ![c].pc = "interrupted", ![c].got = "interrupt"]
    /\ UNCHANGED <<shared, stp, history>>

Deregistered(c) == {c}
Untaken(c) == win

(* Who was interrupted takes itself out of the wait set. *)
EndWait(c) ==
    /\ con[c].pc = "interrupted"
    /\ takers' = [takers EXCEPT ![con[c].run] = @ \ Deregistered(c)]
    /\ con' = Returns(c, con[c].got)
    /\ win' = Untaken(c)
    /\ UNCHANGED <<run, boot, idle, waking, pc, permits, present, joiners, rung, stp, history>>

----------------------------------------------------------------------------
(* stop() *)

ReleaseTakers(r) == WakeTakers(r)

(* Everybody is woken, and what was not taken is dropped (_end). *)
Ends(r) ==
    /\ win' = [win EXCEPT ![r] = Stop(@)]
    /\ idle' = [idle EXCEPT ![r] = @ \ Dismissed(r)]
    /\ permits' = [permits EXCEPT ![r] = @ \union Dismissed(r)]
    /\ ReleaseTakers(r)

CallStop(s) ==
    /\ stp[s].pc = "out"
    /\ run > 0
    /\ Ends(run)
    /\ stp' = [stp EXCEPT ![s] = [pc |-> "look", run |-> run, permit |-> FALSE, got |-> ""]]
    /\ UNCHANGED <<run, boot, waking, pc, present, joiners, rung, history>>

(* An item calls it: nobody can wait for the thread that it is itself (_is_own). *)
StopWithin(r, w) ==
    /\ StopsWithin
    /\ pc[r][w] \in {"computing", "turning"}
    /\ win[r].state = "running"
    /\ Ends(r)
    /\ UNCHANGED <<run, boot, waking, pc, present, joiners, rung, stp, history>>

(* Look whether all have left, and wait if not (_join). *)
Join(s) ==
    /\ stp[s].pc = "look" \/ (stp[s].pc = "parked" /\ stp[s].permit)
    /\ LET r == stp[s].run IN
        /\ joiners' = [joiners EXCEPT ![r] = IF present[r] = 0 THEN @ \ {s} ELSE @ \union {s}]
        /\ stp' = [stp EXCEPT ![s].pc = IF present[r] = 0 THEN "threads" ELSE "parked", ![s].permit = FALSE]
    /\ UNCHANGED <<run, win, boot, idle, waking, pc, permits, present, takers, rung, con, history>>

Stopped(s, told) ==
    /\ stp' = [stp EXCEPT ![s].pc = "out", ![s].got = told, ![s].permit = FALSE]
    /\ quiet' = [quiet EXCEPT ![stp[s].run] = @ \union {told}]
    /\ UNCHANGED <<begun, seen, hooks, failed, raised>>

HasDeadline(s) == s \in Timed

(* The deadline has passed: whoever is stuck is given up. *)
GiveUp(s) ==
    /\ HasDeadline(s)
    /\ stp[s].pc \in {"parked", "threads"}
    /\ joiners' = [joiners EXCEPT ![stp[s].run] = @ \ {s}]
    /\ Stopped(s, "false")
    /\ UNCHANGED <<run, win, boot, idle, waking, pc, permits, present, takers, rung, con>>

AllGone(r) == \A w \in Workers : pc[r][w] \in {Absent, "gone"}

(* All have left; wait until their threads have ended. *)
JoinThreads(s) ==
    /\ stp[s].pc = "threads"
    /\ AllGone(stp[s].run)
    /\ Stopped(s, "true")
    /\ UNCHANGED <<shared, con>>

(* The enqueuer is dropped, or a finalizer or signal handler stops it: no lock, a flag, and a permit for everyone (ring). *)
Ring ==
    /\ Bell
    /\ run > 0 /\ ~rung[run]
    /\ rung' = [rung EXCEPT ![run] = TRUE]
    /\ permits' = [permits EXCEPT ![run] = Started(run)]
    /\ con' = [c \in Consumers |-> [con[c] EXCEPT !.permit = @ \/ c \in takers[run]]]
    /\ UNCHANGED <<run, win, boot, idle, waking, pc, present, takers, joiners, stp, history>>

----------------------------------------------------------------------------
Booting == BootArrive \/ BootWorker \/ BootLeave \/ BeginRun
ItemEnds(r, w) == \E kind \in Kinds : PutItem(r, w, kind) \/ FinishItem(r, w, kind)
TurnEnds(r, w) == \E error \in {"", "hook"} : TurnEpoch(r, w, error)
Worker(r, w) ==
    First(r, w) \/ Wake(r, w) \/ ItemBegins(r, w) \/ HookBegins(r, w) \/ TurnEnds(r, w) \/ Leave(r, w) \/ Exit(r, w)
        \/ (pc[r][w] = "computing" /\ ItemEnds(r, w))
Consumer(c) == TakeItem(c) \/ LookAtBell(c) \/ EndWait(c)
Stopper(s) == Join(s) \/ JoinThreads(s)

Next ==
    \/ Start \/ Booting \/ Ring
    \/ \E r \in Runs, w \in Workers :
          First(r, w) \/ Wake(r, w) \/ ItemBegins(r, w) \/ ItemHangs(r, w) \/ ItemEnds(r, w)
          \/ HookBegins(r, w) \/ TurnEnds(r, w) \/ Leave(r, w) \/ Exit(r, w) \/ StopWithin(r, w)
    \/ \E c \in Consumers : CallNext(c) \/ GetStream(c) \/ Consumer(c) \/ TimesOut(c) \/ Interrupted(c)
    \/ \E s \in Stoppers : CallStop(s) \/ Stopper(s) \/ GiveUp(s)

(* What makes threads go on. User code ends, unless it hangs; nobody has to call anything. *)
Fairness ==
    /\ WF_vars(Booting)
    /\ \A r \in Runs, w \in Workers : WF_vars(Worker(r, w))
    /\ \A c \in Consumers : WF_vars(Consumer(c)) /\ WF_vars(TimesOut(c))
    /\ \A s \in Stoppers : WF_vars(Stopper(s)) /\ WF_vars(GiveUp(s))

(* Consumers that never stop asking. *)
Keen == \A c \in Consumers : WF_vars(CallNext(c))

Spec == Init /\ [][Next]_vars /\ Fairness
KeenSpec == Spec /\ Keen

----------------------------------------------------------------------------
(* What must always hold *)

BeginAt == 0  \* the rank of the state that was loaded; a model of G27 puts another number here

TypeOK ==
    /\ run \in 0 .. R
    /\ \A r \in Runs :
        /\ win[r].state \in {"running", "stopped", "ended", "failed"}
        /\ win[r].rank \in 0 .. Top + 1 /\ win[r].claimed \in 0 .. Top + 1
        /\ idle[r] \subseteq Workers /\ takers[r] \subseteq Consumers /\ joiners[r] \subseteq Stoppers
        /\ present[r] \in 0 .. W + 1
        /\ \A w \in Workers : pc[r][w] \in {Absent, "first", "parked", "claimed", "computing", "hanging", "turn", "turning", "leave", "exit", "gone"}
        /\ \A w \in Workers : pc[r][w] \in {"claimed", "computing", "hanging", "turn", "turning"} <=> w \in {win[r].under[k] : k \in DOMAIN win[r].under}

Busy(r) == {w \in Workers : pc[r][w] \in {"claimed", "computing", "hanging"}}
InUserCode(r) == {w \in Workers : pc[r][w] \in {"computing", "hanging", "turning"}}

G1_ComputedOnce == \A r \in Runs, k \in 0 .. Top : begun[r][k] <= 1
G1_Complete == \A r \in Runs : win[r].state = "ended" =>
    /\ "end" \notin Kinds => Len(seen[r]) = Last - BeginAt
    /\ win[r].ready = Nothing /\ Busy(r) = {}
    /\ Rotating => \A w \in Workers : win[r].turns[w] = Forever
G2_InOrder == \A r \in Runs : \A i \in 1 .. Len(seen[r]) : seen[r][i] = seen[r][1] + i - 1
G27_Resumes == \A r \in Runs : seen[r] # <<>> => seen[r][1] = BeginAt
SerialIsOne == Serial => \A r \in Runs : Cardinality(Busy(r)) <= 1
G3_NoneSkipped == \A c \in Consumers : con[c].got # "none"
G4_Bounded == \A r \in Runs : win[r].state = "running" =>
    /\ Cardinality(Busy(r)) + Cardinality(DOMAIN win[r].ready) <= Size
    /\ \A w \in Busy(r) : RankOf(r, w) < win[r].rank + Size
G7_HookBetween == \A r \in Runs, w \in Workers : pc[r][w] \in {"turn", "turning"} /\ Barrier =>
    /\ win[r].rank = IF win[r].epoch = FirstEpoch THEN BeginAt ELSE win[r].epoch * Length
    /\ Busy(r) = {}
    /\ \A k \in win[r].rank .. Last - 1 : begun[r][k] = 0
G7_HookOncePerEpoch == \A r \in Runs : Barrier =>
    /\ \A i \in 1 .. Len(hooks[r]) : hooks[r][i] = FirstEpoch + i
    /\ \A k \in 0 .. Last - 1 : begun[r][k] > 0 => k \div Length <= FirstEpoch + Len(hooks[r])
G10_ErrorInRank == \A r \in Runs :
    /\ raised[r] <= 1
    /\ win[r].state = "failed" =>
        /\ raised[r] = 1
        /\ win[r].rank \in failed[r]
        /\ \A k \in failed[r] : k >= win[r].rank
G16_NoCallAfterTrue == \A r \in Runs : "true" \in quiet[r] => InUserCode(r) = {} /\ \A w \in Workers : pc[r][w] \in {Absent, "gone"}
G18_OneRun == \A r \in Runs : r < run => Over(r)

(* Nobody is in a wait set who does not wait: a wake-up would be lost on it. *)
G22_OnlyWaitersWait == \A r \in Runs :
    /\ \A c \in takers[r] : con[c].pc \in {"registered", "parked", "late", "interrupted"} /\ con[c].run = r
    /\ \A s \in joiners[r] : stp[s].pc = "parked" /\ stp[s].run = r
    /\ \A w \in idle[r] : pc[r][w] \in {"parked", "leave"}
(* Nobody sleeps beside work: who could claim is awake, or will be woken by the one that is coming. *)
G21_NobodySleepsBesideWork == \A r \in Runs : ~Over(r) /\ boot[r] = "done" =>
    IF waking[r] THEN \E w \in Workers \ idle[r] : pc[r][w] = "parked" /\ w \in permits[r]
    ELSE \A w \in idle[r] : ~Claimable(win[r], win[r].rank, w)

(* What no step may do *)

Delivers(r) == Len(seen'[r]) > Len(seen[r])
G16_NothingAfterStop == [][\A r \in Runs : quiet[r] # {} => ~Delivers(r)]_vars
G16_NothingAfterEnd == [][\A r \in Runs : Over(r) => ~Delivers(r)]_vars
G16_StragglersApart == [][\A r \in Runs, w \in Workers : pc'[r][w] # pc[r][w] => \A other \in Runs \ {r} : win'[other] = win[other]]_vars
G17_RunsApart == [][\A r \in Runs : r < run /\ Over(r) => ~Delivers(r)]_vars
G16_StreamKeepsRun == [][\A c \in Consumers : con[c].run # 0 => con'[c].run \in {0, con[c].run}]_vars
G19_OverForGood == [][\A r \in Runs : Over(r) => Over(r)']_vars
G22_InterruptLosesNothing == [][\A c \in Consumers : con[c].pc = "interrupted" /\ con'[c].pc = "out" => \A r \in Runs : win'[r].rank = win[r].rank]_vars
Served(r) == {c \in Consumers : con[c].run = r /\ con[c].pc # "out" /\ con'[c].pc = "out" /\ con'[c].got = "item"}
G24_OneConsumer == [][\A r \in Runs : Cardinality(Served(r)) <= 1
                        /\ (Served(r) # {} => \A i \in 1 .. Len(seen[r]) : seen[r][i] # seen'[r][Len(seen'[r])])]_vars
G26_TimeoutKeepsRank == [][\A c \in Consumers : con[c].pc = "late" /\ con'[c].got = "timeout" =>
                            win'[con[c].run].rank \notin DOMAIN win'[con[c].run].ready]_vars

(* What must come to pass *)

G21_Progress == \A c \in Consumers : con[c].pc # "out" ~> con[c].pc = "out"
G5_Endless == [](run = R /\ boot[R] = "done" => <>((Over(R) /\ win[R].state # "ended") \/ Len(seen[R]) = Last - BeginAt))
G14_StopReturns == \A s \in Stoppers : stp[s].pc # "out" ~> stp[s].pc = "out"
G15_StopTimeout == \A s \in Timed : stp[s].pc # "out" ~> stp[s].pc = "out"
G20_WorkersLeave == \A r \in Runs : Over(r) /\ run >= r ~> \A w \in Workers : pc[r][w] \in {Absent, "gone", "hanging"}
G26_Timely == \A c \in Impatient : con[c].pc # "out" ~> con[c].pc = "out"

----------------------------------------------------------------------------
(* What a user sees of all this *)

Concrete(r) ==
    LET window == win[r]
        known == [rank \in DOMAIN window.ready \intersect 0 .. window.end - 1 |-> window.ready[rank]]
    IN  IF r > run \/ Over(r) THEN Nothing
        ELSE IF window.error # "" THEN With(known, window.end, "error")
        ELSE IF window.last /\ window.end < Last THEN With(known, window.end, "end")
        ELSE known

User == INSTANCE Enqueuer WITH
    life <- [r \in Runs |-> IF r > run THEN "new" ELSE IF rung[r] /\ win[r].state = "running" THEN "stopped" ELSE win[r].state],
    next <- [r \in Runs |-> win[r].rank],
    begun <- [r \in Runs |-> {rank \in 0 .. Last - 1 : begun[r][rank] > 0}],
    calls <- [r \in Runs |-> {RankOf(r, w) : w \in {other \in Workers : pc[r][other] \in {"computing", "hanging"}}}],
    results <- [r \in Runs |-> Concrete(r)],
    hook <- [r \in Runs |-> Barrier /\ win[r].epoch > FirstEpoch /\ \E w \in Workers : pc[r][w] = "turning"],
    epochs <- [r \in Runs |-> win[r].epoch],
    broken <- [r \in Runs |-> win[r].epoch * Length \in failed[r]],
    left <- [r \in Runs |-> "true" \in quiet[r]],
    stream <- [c \in Consumers |-> [call |-> con[c].pc # "out", run |-> con[c].run, got |-> IF con[c].pc = "out" THEN con[c].got ELSE ""]],
    stops <- [s \in Stoppers |-> [call |-> stp[s].pc # "out", run |-> stp[s].run, got |-> stp[s].got]]

RefinesSafety == User!Safety
RefinesLiveness == User!Liveness

----------------------------------------------------------------------------
(* What tells states apart where two runs would be too many: TLC's VIEW, for safety alone.                                               *)
(*                                                                                                                                         *)
(* Threads of a run that is over do the same whether there is a next run or not, and before there is one, all that they do is checked. So *)
(* of earlier runs only that counts which decides what their threads may still do, and whom they may meet. Nor does it count what a call *)
(* has returned, but for the one thing that none may.                                                                                     *)

Remains(r) == [running |-> win[r].state = "running", there |-> win[r].rank \in DOMAIN win[r].ready, under |-> win[r].under]
Counts(r) == IF r < run THEN Remains(r) ELSE <<win[r], begun[r], seen[r], hooks[r], failed[r], raised[r]>>
Heard(c) == [con[c] EXCEPT !.got = IF con[c].pc = "out" /\ @ # "none" THEN "" ELSE @]
Told(s) == [stp[s] EXCEPT !.got = "", !.run = IF stp[s].pc = "out" THEN 0 ELSE @]

View == <<run, boot, idle, waking, pc, permits, present, takers, joiners, rung, quiet,
          [r \in Runs |-> Counts(r)], [c \in Consumers |-> Heard(c)], [s \in Stoppers |-> Told(s)]>>
=============================================================================
