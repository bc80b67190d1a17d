------------------------------- MODULE Window -------------------------------
(***************************************************************************)
(* One run as a pure state machine: `enqueuer/_window.py`, an operator for *)
(* each method. Nothing here waits, and nothing is shared.         *)
(*                                                                         *)
(* The window is the ranks from `rank`, the next to take, up to `Size`     *)
(* further. A rank in it is unclaimed, then under way, then ready, then    *)
(* taken. Ranks below `end` have been opened by a turn.                    *)
(*                                                                         *)
(* A window is a record; every operator takes one and returns the next.    *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences

CONSTANTS
    W,         \* number of workers; they are 0 .. W - 1
    Size,      \* max_queue_size
    Length,    \* items of an epoch
    Epochs,    \* after how many the stream ends
    Barrier,   \* whether a turn waits until everything before it was taken (there is a hook)
    Serial,    \* whether one item at a time may be under way (there is one iterator)
    Rotating   \* whether workers take turns (each has an iterator of its own)

Workers == 0 .. W - 1
Forever == 99
Last == Length * Epochs                            \* the first rank that there is no item for
Top == IF Rotating THEN Last + W - 1 ELSE Last - 1  \* the highest that may be claimed: who takes turns learns from its iterator that it has no more

(* Where the stream begins: a loaded state says so (G27). A model puts another number here. *)
Resumed == 0
FirstEpoch == Resumed \div Length

(* Functions on a few ranks: what Python has as a dict. *)
Nothing == [rank \in {} |-> 0]
With(dict, rank, value) == [key \in DOMAIN dict \union {rank} |-> IF key = rank THEN value ELSE dict[key]]
Without(dict, rank) == [key \in DOMAIN dict \ {rank} |-> dict[key]]
Max(a, b) == IF a > b THEN a ELSE b

(* rank: the next to take; claimed: the next to claim; end: the first that is not open; last: whether the stream ends there, with `error`;
   epoch: the one that the next turn begins; turning: whether somebody has the turn, at first start(); turns: the next rank of each worker;
   under: rank -> worker that computes it; ready: rank -> what came out. *)
NewWindow ==
    [ state |-> "running", rank |-> Resumed, claimed |-> Resumed, end |-> Resumed,
      last |-> FirstEpoch >= Epochs, error |-> "", epoch |-> FirstEpoch,
      turning |-> TRUE, turns |-> IF Rotating THEN [worker \in Workers |-> Resumed + worker] ELSE <<>>,
      under |-> Nothing, ready |-> Nothing ]

Begin(win) == [win EXCEPT !.turning = FALSE]  \* start(): the workers are there

NextOf(win, worker) == IF Rotating THEN win.turns[worker] ELSE win.claimed

InBound(win, rank, worker) == NextOf(win, worker) < rank + Size  \* G4
MayTurn(win, rank) == ~(win.last \/ win.turning \/ (Barrier /\ rank < win.end))  \* G7

MayOverlap(win) == ~Serial \/ win.under = Nothing

(* Whether Claim(win, worker) would give something, were `rank` the next to take. *)
Claimable(win, rank, worker) ==
    /\ InBound(win, rank, worker)
    /\ IF NextOf(win, worker) < win.end
       THEN MayOverlap(win)
       ELSE MayTurn(win, rank)

Advanced(claimed, rank) == IF rank >= claimed THEN rank + 1 ELSE claimed

Claim(win, worker) ==
    LET rank == NextOf(win, worker) IN
    IF ~Claimable(win, win.rank, worker) THEN win
    ELSE IF rank >= win.end
         THEN [win EXCEPT !.under = With(@, win.end, worker), !.turning = TRUE]
         ELSE [win EXCEPT !.under = With(@, rank, worker),
                          !.turns = IF Rotating THEN [@ EXCEPT ![worker] = rank + W] ELSE @,
                          !.claimed = Advanced(@, rank)]

Keeps(win, rank) == rank < win.end /\ win.state = "running"

Put(win, rank, item) ==
    [win EXCEPT !.ready = IF Keeps(win, rank) THEN With(@, rank, item) ELSE @,
                !.under = Without(@, rank)]

(* The stream ends before `rank`; the lowest end wins. *)
Cut(win, rank, error) ==
    IF ~win.last \/ rank < win.end
    THEN [win EXCEPT !.end = rank, !.last = TRUE, !.error = error]
    ELSE win

Finish(win, rank, error) ==
    LET worker == win.under[rank]
        left == [win EXCEPT !.under = Without(@, rank)]
        idle == [left EXCEPT !.turns = IF Rotating THEN [@ EXCEPT ![worker] = Forever] ELSE @]
    IN  IF error = "" /\ Rotating
        THEN IF \E other \in Workers : idle.turns[other] < Forever
             THEN idle
             ELSE Cut(idle, Max(idle.claimed, rank), "")
        ELSE Cut(left, rank, error)

(* What the next span ends with. Workers that take turns have one span, and it has no known end. *)
SpanEnd(win) == IF Rotating THEN Forever ELSE (win.epoch + 1) * Length

Turned(win, error) ==
    LET left == [win EXCEPT !.turning = FALSE, !.under = Without(@, win.claimed)] IN
    IF error # "" THEN Cut(left, left.end, error)
    ELSE IF left.last THEN left  \* an earlier rank has failed meanwhile
    ELSE [left EXCEPT !.end = SpanEnd(win), !.epoch = @ + 1, !.last = win.epoch + 1 >= Epochs]

(* A rank that is not ready and never will be: the worker whose turn it is has no more. *)
Hole(win, rank) ==
    /\ Rotating
    /\ rank < win.end
    /\ rank \notin DOMAIN win.under
    /\ win.turns[(rank - Resumed) % W] = Forever

Takeable(win) == win.rank \in DOMAIN win.ready \/ Hole(win, win.rank)

Empty(win, rank) == IF rank \in DOMAIN win.ready THEN win.ready[rank] = "none" ELSE Hole(win, rank)

Take(win) == [win EXCEPT !.rank = @ + 1, !.ready = Without(@, win.rank)]

(* What a consumer skips in the critical section in which it takes: G3. *)
RECURSIVE Skip(_)
Skip(win) == IF Empty(win, win.rank) THEN Skip(Take(win)) ELSE win

Drained(win) == win.last /\ win.rank = win.end

Conclude(win) == [win EXCEPT !.state = IF win.error = "" THEN "ended" ELSE "failed"]

Stop(win) == [win EXCEPT !.state = IF @ = "running" THEN "stopped" ELSE @, !.ready = Nothing]
=============================================================================
