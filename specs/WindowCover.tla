----------------------------- MODULE WindowCover -----------------------------
(***************************************************************************)
(* The window alone, called as the monitor may call it, in any order. One  *)
(* action is one call of a method of `enqueuer/_window.py`, its guard says *)
(* when `enqueuer/_run.py` may make it. Workers, consumers and who stops   *)
(* are here nothing but calls.                                             *)
(*                                                                         *)
(* cover.py makes paths of this graph that use each of its edges;          *)
(* tests/test_window_cover.py replays them on the code, state by state.    *)
(***************************************************************************)
EXTENDS Window, TLC

CONSTANTS
    Kinds,      \* how an item may end: subset of {"item", "none", "error", "end"}
    TurnFails,  \* whether a turn may fail
    Stops,      \* whether anyone stops the run
    Ahead,      \* whether a worker may claim ranks while it has one
    Deaths      \* whether a worker thread may end for a reason that is no item's

VARIABLES
    win,
    gone,    \* workers that have ended
    call,    \* the call that led here: what was called, with what, and what it returned
    answers  \* what the window says to the questions that threads wait for

vars == <<win, gone, call, answers>>

Running == win.state = "running"
Fresh == win.turning /\ win.under = Nothing  \* start() has the first turn
Turning == win.turning /\ ~Fresh

(* Ranks of items that are under way; the rank of a turn is the next to claim. *)
Items == {rank \in DOMAIN win.under : rank < win.claimed}
Own(w) == {rank \in DOMAIN win.under : win.under[rank] = w}
First(w) == CHOOSE rank \in Own(w) \intersect Items : \A other \in Own(w) : rank <= other  \* a worker computes in order
HasItem(w) == Own(w) \intersect Items # {}

(* An iterator of a worker that has ended gives nothing more, and none gives more than fits the model. *)
More(w, rank) == /\ Rotating => win.turns[w] < Forever
                 /\ rank < Last

Given == IF win.rank \in DOMAIN win.ready THEN win.ready[win.rank] ELSE "none"

Min(a, b) == IF a < b THEN a ELSE b

(* A worker is gone, with what it had under way: the stream ends there, or after all that was claimed (lost). *)
Lost(window, w, error) ==
    LET ranks == {rank \in DOMAIN window.under : window.under[rank] = w}
        left == [window EXCEPT !.under = [rank \in DOMAIN window.under \ ranks |-> window.under[rank]],
                               !.turning = @ /\ window.claimed \notin ranks]
    IN  Cut(left, IF ranks = {} THEN Min(NextOf(window, w), window.end) ELSE CHOOSE rank \in ranks : \A other \in ranks : rank <= other, error)

(* The monitor also asks what could be claimed as if the next rank had been taken. *)
Answers(window) ==
    [ claimable |-> {w \in Workers : Claimable(window, window.rank, w)},
      claimable_then |-> {w \in Workers : Claimable(window, window.rank + 1, w)},
      takeable |-> Takeable(window),
      drained |-> Drained(window) ]

Calls(name, arguments, returned, after) ==
    /\ win' = after
    /\ call' = [name |-> name, arguments |-> arguments, returned |-> returned]
    /\ answers' = Answers(after)

Init ==
    /\ win = NewWindow
    /\ gone = {}
    /\ call = [name |-> "", arguments |-> <<>>, returned |-> <<>>]
    /\ answers = Answers(NewWindow)

CallStart ==
    /\ Fresh
    /\ Calls("start", <<>>, <<>>, Begin(win))
    /\ UNCHANGED gone

CallClaim(w) ==
    /\ Running /\ w \notin gone /\ Claimable(win, win.rank, w)
    /\ Own(w) = {} \/ (Ahead /\ HasItem(w) /\ NextOf(win, w) < win.end)  \* whoever claims ahead never claims a turn
    /\ Calls("claim", <<w>>, IF NextOf(win, w) < win.end THEN <<"rank", NextOf(win, w)>> ELSE <<"turn", win.epoch, win.end>>, Claim(win, w))
    /\ UNCHANGED gone

CallPut(w, kind) ==
    /\ HasItem(w) /\ kind \in {"item", "none"}
    /\ More(w, First(w)) \/ (First(w) >= win.end /\ kind = "none")  \* beyond the end nothing need be computed
    /\ Calls("put", <<First(w), kind>>, <<>>, Put(win, First(w), kind))
    /\ UNCHANGED gone

(* An error that another displaces is handed back, to be dropped outside the lock. *)
Displaced(after) == IF after.error # win.error THEN <<win.error>> ELSE <<>>

(* Errors have names that say which rank failed. *)
CallFinish(w, kind) ==
    /\ HasItem(w) /\ kind \in {"error", "end"}
    /\ LET error == IF kind = "error" THEN ToString(First(w)) ELSE ""
           after == Finish(win, First(w), error)
       IN  Calls("finish", <<First(w), error>>, Displaced(after), after)
    /\ UNCHANGED gone

CallTurned(error) ==
    /\ Turning
    /\ Calls("turned", <<error>>, <<>>, Turned(win, error))
    /\ UNCHANGED gone

CallLost(w) ==
    /\ Deaths
    /\ w \notin gone
    /\ LET error == "worker " \o ToString(w)
           after == Lost(win, w, error)
       IN  Calls("lost", <<w, error>>, Displaced(after), after)
    /\ gone' = gone \union {w}

CallTake ==
    /\ Takeable(win)
    /\ Calls("take", <<>>, <<Given>>, Take(win))
    /\ UNCHANGED gone

CallConclude ==
    /\ Running /\ Drained(win)
    /\ Calls("conclude", <<>>, <<win.error>>, Conclude(win))
    /\ UNCHANGED gone

CallStop ==
    /\ Stops
    /\ Calls("stop", <<>>, <<win.ready>>, Stop(win))
    /\ UNCHANGED gone

(* The run is over, and every worker has come to know. *)
Over == ~Running /\ win.under = Nothing /\ UNCHANGED vars

Next ==
    \/ CallStart
    \/ \E w \in Workers :
        \/ CallClaim(w)
        \/ \E kind \in Kinds : CallPut(w, kind) \/ CallFinish(w, kind)
        \/ CallLost(w)
    \/ \E error \in {""} \union (IF TurnFails THEN {"turn"} ELSE {}) : CallTurned(error)
    \/ CallTake
    \/ CallConclude
    \/ CallStop
    \/ Over

Spec == Init /\ [][Next]_vars

----------------------------------------------------------------------------
(* What holds of every window, whoever calls it *)

TypeOK ==
    /\ win.state \in {"running", "stopped", "ended", "failed"}
    /\ \A w \in Workers : NextOf(win, w) \in 0 .. Forever
    /\ DOMAIN win.under \subseteq 0 .. Forever - 1
    /\ \A rank \in DOMAIN win.under : win.under[rank] \in Workers
    /\ \A rank \in DOMAIN win.ready : win.ready[rank] \in Kinds \intersect {"item", "none"}

(* A rank is in one place: under way, or ready, or taken. *)
G1_OnePlace ==
    /\ DOMAIN win.under \intersect DOMAIN win.ready = {}
    /\ \A rank \in Items \union DOMAIN win.ready : rank >= win.rank \/ win.state = "stopped"
G1_Complete == win.state = "ended" /\ "end" \notin Kinds => win.rank = Last
G2_InOrder == [][win'.rank \in {win.rank, win.rank + 1}]_vars

G4_Bounded ==
    /\ \A rank \in Items : rank < win.rank + Size
    /\ Cardinality(Items) + Cardinality(DOMAIN win.ready) <= Size
    /\ win.claimed <= win.rank + Size

G7_TurnAlone == Barrier /\ Turning /\ Running =>
    /\ win.rank = win.claimed
    /\ win.ready = Nothing /\ Items = {}
G7_OneTurn == Turning => \A w \in Workers : NextOf(win, w) < win.end \/ ~Claimable(win, win.rank, w)

G10_ErrorInRank == \A rank \in 0 .. Last : win.error = ToString(rank) => rank = win.end
G10_NothingBeyond ==
    /\ win.rank <= win.end
    /\ win.last => \A w \in Workers : NextOf(win, w) >= win.end => ~Claimable(win, win.rank, w)
G10_LowestWins == [][win.last => win'.last /\ win'.end <= win.end /\ (win'.end = win.end => win'.error = win.error)]_vars

(* No rank is given before a turn has opened it. *)
G11_TurnFirst == win.epoch = 0 => \A w \in Workers : Claimable(win, win.rank, w) => NextOf(win, w) >= win.end

SerialIsOne == Serial => Cardinality(Items) <= 1

(* There is always somebody who can go on: nobody waits for ever for what will not come. *)
G21_NeverStuck ==
    \/ ~Running \/ Fresh
    \/ win.under # Nothing
    \/ Takeable(win) \/ Drained(win)
    \/ \E w \in Workers \ gone : Claimable(win, win.rank, w)
=============================================================================
