------------------------------- MODULE Mutants -------------------------------
(***************************************************************************)
(* Seeded faults. Each is another definition of one operator, which a      *)
(* model in models.toml puts in the place of the right one, with the       *)
(* property that TLC must refute then.                                     *)
(***************************************************************************)
EXTENDS OrderedEnqueuer

(* The window *)

InBoundOffByOne(window, rank, worker) == NextOf(window, worker) <= rank + Size
InBoundByCount(window, rank, worker) == Cardinality(DOMAIN window.under) + Cardinality(DOMAIN window.ready) < Size
MayTurnEarly(window, rank) == ~(window.last \/ window.turning)
MayTurnTwice(window, rank) == ~(window.last \/ (Barrier /\ rank < window.end))
CutByTheLatest(window, rank, error) == [window EXCEPT !.end = rank, !.last = TRUE, !.error = error]
CutByTheFirstInTime(window, rank, error) ==
    IF window.error = "" THEN [window EXCEPT !.end = rank, !.last = TRUE, !.error = error] ELSE window
DrainedTooEarly(window) == window.last /\ (window.rank = window.end \/ window.error # "")
KeepsAfterStop(window, rank) == rank < window.end
KeepsBeyondEnd(window, rank) == window.state = "running"
TakeSkipsOne(window) == [window EXCEPT !.rank = @ + 2, !.ready = Without(@, window.rank)]
TakeForgetsNothing(window) == [window EXCEPT !.rank = @ + 1]
AdvancedNever(claimed, rank) == claimed
EmptyNever(window, rank) == FALSE
HoleUnclaimed(window, rank) == Rotating /\ rank < window.end /\ rank \notin DOMAIN window.under
SpanEndInEpoch(window) == (window.epoch + 1) * Length - 1
ConcludeNever(window) == window
StopKeepsReady(window) == [window EXCEPT !.state = IF @ = "running" THEN "stopped" ELSE @]
StopRevives(window) == [window EXCEPT !.state = IF @ = "running" THEN "stopped" ELSE "running", !.ready = Nothing]
TakeMovesNothing(window) == window
ResumedOne == 1
ResumedTwo == 2

TurnedReopens(window, error) ==
    LET left == [window EXCEPT !.turning = FALSE, !.under = Without(@, window.claimed)] IN
    IF error # "" THEN Cut(left, left.end, error)
    ELSE [left EXCEPT !.end = SpanEnd(window), !.epoch = @ + 1, !.last = window.epoch + 1 >= Epochs]
MayOverlapAlways(window) == TRUE
AdvancedBack(claimed, rank) == rank + 1

(* Waiting: consumers *)

RegisteredNot(c) == {}
RegisteredAfterwards(c) == {c}

OneTaker(r) == IF takers[r] = {} THEN {} ELSE {CHOOSE c \in takers[r] : TRUE}
NoTaker(r) == {}
PassedOn(r, c, window) == IF (Takeable(window) \/ Drained(window)) /\ takers[r] \ {c} # {} THEN {CHOOSE other \in takers[r] \ {c} : TRUE} ELSE {}
ThereIfWoken(c, window) == con[c].pc = "parked" \/ window.rank \in DOMAIN window.ready
ThereUnlessLate(c, window) == con[c].pc # "late" /\ window.rank \in DOMAIN window.ready
HearsNothing(c) == FALSE
DeregistersNever(c) == {}
ReleaseNobody(r) == UNCHANGED <<takers, con>>
BoundToTheLatest(c) == run
NoTimeout(c) == FALSE
InterruptTakes(c) == [win EXCEPT ![con[c].run] = IF @.rank \in DOMAIN @.ready THEN Take(@) ELSE @]

(* Waiting: workers *)

WokenNever(window, sleepers, coming) == {{}}
WokenTooLate(window, sleepers, coming) == Woken(window, window.rank - 1, sleepers, coming)
ComingForEver(r) == waking[r]
DismissedNobody(r) == {}

(* Starting and stopping *)

StartsAnyway == run > 0 => boot[run] = "done"

OwnIsLatest(r) == run
GoneAtOnce(r) == TRUE
NoDeadline(s) == FALSE
NoFarewell(r) == UNCHANGED <<joiners, stp>>
BootCountsNot == 0
SpanOfTwo(window) == (window.epoch + 2) * Length
NeverTakeable(window) == FALSE
=============================================================================
