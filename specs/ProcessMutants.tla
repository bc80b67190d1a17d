--------------------------- MODULE ProcessMutants ---------------------------
(***************************************************************************)
(* Seeded faults: each is another definition of one operator of            *)
(* ProcessEnqueuer, which a model puts in its place, and says which        *)
(* property TLC must refute then. Those that nothing refutes are at the    *)
(* end: what the code does there is for speed only.                        *)
(***************************************************************************)
EXTENDS ProcessEnqueuer

(* Where nothing can happen any more TLC would report that, and not the property. *)
Rests == UNCHANGED allVars
RestingSpec == BegunInit /\ [][ProcessNext \/ Rests]_allVars /\ ProcessFairness
RestingKeen == RestingSpec /\ \A c \in Consumers : WF_allVars(CallNextApart(c))

----------------------------------------------------------------------------
(* How a death is seen *)

(* SeenThrough: by the end of the pipe alone. A child of the dead process holds it open: the thread waits for ever. *)
SeenByEndOfFile(s) == EndOfFile(s)

(* SeenThrough: by the process alone. One that has closed its pipe, and lives, is of no use for ever. *)
SeenByDeath(s) == Dead(s)

(* SeenThrough: suspected, and not confirmed. Two processes compute the same item. *)
Suspected(s) == Dead(s) \/ EndOfFile(s) \/ s.life = "computing"

(* NothingLeft: what it has answered before is thrown away, and computed again. *)
NotDrained(s) == TRUE

(* Torn: half a message is taken for one. *)
TornIsTaken(message) == FALSE

(* PipeOfNext: all incarnations use one pipe. The next one reads what was meant for the last, and the thread what the last has answered. *)
OnePipe(s) == s

(* MayWrite: all processes share a lock; one that dies in its item holds it for ever. *)
SharedLock(r, w) == \A rank \in AllRanks : broken[r][rank] = 0

----------------------------------------------------------------------------
(* What becomes of its items *)

(* Blamed: the item that it was asked for last. *)
BlamedLast(r, w) == Greatest(Held(win[r], w))

(* TriesAfterAnswer: retries are counted by worker and not by item. *)
TriesOfWorker(s) == s.tries

(* TriesOfNext: retries are not counted. *)
TriesUncounted(s) == s.tries

(* LostWith: only the item that is blamed is asked for again. A later one that was asked for ahead comes in place of another. *)
LostOwnOnly(s) == <<Head(s.asked)>>

(* MayRetry: also if it has died before it was ready. *)
RetryUnready(r, w) == slot[r][w].tries < Retries /\ ending[r] = "no"

----------------------------------------------------------------------------
(* What is asked for *)

(* NeedsState: the processes go on with what the hook has changed. *)
StateKept(r, w) == FALSE

(* InitialVersion: a replacement gets what the first process got. *)
VersionOfFirst(r) == 0

(* IsItem: a turn is claimed ahead, and nobody takes it. *)
TurnAhead(r, w) == TRUE

(* AheadClaim: as if the window were larger. *)
BeyondWindow(window, w) ==
    IF NextOf(window, w) < window.end
    THEN [window EXCEPT !.under = With(@, window.claimed, w), !.claimed = @ + 1]
    ELSE window

(* MayRead: the thread waits for room for its second item before it reads the first, which makes the room. *)
WaitsForSecond(r, w) == Cardinality(Held(win[r], w)) > 1 \/ (win[r].last /\ win[r].claimed = win[r].end)

(* MayTurn, in Window: the turn does not wait until all was taken. *)
HastyTurn(window, rank) == ~(window.last \/ window.turning)

----------------------------------------------------------------------------
(* How processes end *)

(* KilledAtDeadline: stop(timeout) waits for an item that does not end. *)
Spared(s) == s

(* HaltsThose: stop() waits for a process that does not become ready. *)
HaltsNone(s) == FALSE

(* Begins: a process that is started after that is not killed. *)
BeginsAnyway(r) == "starting"

(* LifelineSeen: by the end of the pipe, which only a process that waits for a request sees. *)
SeenWhenIdle(s) == s.life = "idle" /\ s.in = <<>>

(* LeavesNone: nobody ends processes. *)
LeavesAll(r, w) == slot

(* LeavesNone: those that never had a thread are forgotten. *)
LeavesOwn(r, w) == [slot EXCEPT ![r] = [other \in Workers |-> IF other = w THEN NoProcess ELSE @[other]]]

(* LeavesNone: they are ended together, once the last thread leaves. *)
LeavesLate(r, w) == [slot EXCEPT ![r] = [other \in Workers |-> IF present[r] = 1 THEN NoProcess ELSE @[other]]]

----------------------------------------------------------------------------
(* For speed only: no property notices these *)

(* MayHaveAhead: a rank is claimed ahead though an idle worker could have it. *)
AheadOfIdle(r, w) == TRUE

(* Wanted: the thread waits for what is beyond an error, too. *)
WantedAll(window, held) == held

(* OpensMore: processes are started after a stop, too, and killed as they start. *)
OpensAll(r) == TRUE

(* GoesOn: ranks are claimed ahead after a stop, too, as far as the window goes. *)
GoesOnStopped(r) == TRUE

(* MayRetry: also once the run is over. The new process is killed as it starts, and that is not tried again. *)
RetryHalted(r, w) == slot[r][w].ready /\ slot[r][w].tries < Retries
=============================================================================
