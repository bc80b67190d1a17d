------------------------------ MODULE Enqueuer ------------------------------
(***************************************************************************)
(* What a user sees of an enqueuer: when user code is called (items and    *)
(* hook), what next() and stop() return, and when. No worker, no lock, no  *)
(* queue. The monitor (OrderedEnqueuer) refines this, and so does process  *)
(* mode (ProcessEnqueuer): whatever they do looks like one of these        *)
(* behaviours.                                                             *)
(*                                                                         *)
(* Ranks count the items of a run from 0. A result is known from the end   *)
(* of its computation until it is taken.                                   *)
(***************************************************************************)
EXTENDS Integers, FiniteSets

CONSTANTS
    W,          \* how many items may be computed at once
    Size,       \* max_queue_size
    Length,     \* items of an epoch
    Epochs,     \* after how many the stream ends
    Barrier,    \* whether there is a hook
    R,          \* number of runs
    Consumers,
    Stoppers

Last == Length * Epochs
Ranks == 0 .. Last - 1
Runs == 1 .. R

VARIABLES
    run,      \* the latest run; 0: never started
    life,     \* run -> "new", "running", "stopped", "ended" or "failed"
    next,     \* run -> the rank to be taken next
    begun,    \* run -> ranks whose computation has begun
    calls,    \* run -> ranks whose computation is under way
    results,  \* run -> rank -> what came out, if it was not taken: "item", "none", "error", or "end" (there is no such item)
    hook,     \* run -> whether the hook is being called
    epochs,   \* run -> how many epochs have begun
    broken,   \* run -> whether no other will, as its hook, length or order has failed
    left,     \* run -> whether a stop has returned true
    stream,   \* consumer -> [call, run, got]
    stops     \* stopper -> [call, run, got]

vars == <<run, life, next, begun, calls, results, hook, epochs, broken, left, stream, stops>>
None == [rank \in {} |-> ""]

Init ==
    /\ run = 0
    /\ life = [r \in Runs |-> "new"]
    /\ next = [r \in Runs |-> 0]
    /\ begun = [r \in Runs |-> {}]
    /\ calls = [r \in Runs |-> {}]
    /\ results = [r \in Runs |-> None]
    /\ hook = [r \in Runs |-> FALSE]
    /\ epochs = [r \in Runs |-> 0]
    /\ broken = [r \in Runs |-> FALSE]
    /\ left = [r \in Runs |-> FALSE]
    /\ stream = [c \in Consumers |-> [call |-> FALSE, run |-> 0, got |-> ""]]
    /\ stops = [s \in Stoppers |-> [call |-> FALSE, run |-> 0, got |-> ""]]

----------------------------------------------------------------------------
Ended(outcome) == {rank \in DOMAIN outcome : outcome[rank] \in {"error", "end"}}
Only(outcome, ranks) == [rank \in DOMAIN outcome \intersect ranks |-> outcome[rank]]
(* G10: the lowest failing rank wins. Nobody will ask for what is beyond it. *)
Trim(outcome) == Only(outcome, {rank \in Ranks : \A other \in Ended(outcome) : rank <= other})
Known(outcome, rank, kind) == Trim([other \in DOMAIN outcome \union {rank} |-> IF other = rank THEN kind ELSE outcome[other]])

(* G18: one run at a time. G17: a fresh one. *)
Start ==
    /\ run < R
    /\ run > 0 => life[run] # "running"
    /\ run' = run + 1
    /\ life' = [life EXCEPT ![run + 1] = "running"]
    /\ UNCHANGED <<next, begun, calls, results, hook, epochs, broken, left, stream, stops>>

(* G1: once. G4: within the window. G7: not before the hook. G16: not after a stop that returned true. *)
ItemBegins(r, rank) ==
    /\ life[r] # "new" /\ ~left[r]
    /\ rank \notin begun[r] \union DOMAIN results[r]
    /\ rank < next[r] + Size
    /\ Cardinality(calls[r]) < W
    /\ rank \div Length < epochs[r]
    /\ begun' = [begun EXCEPT ![r] = @ \union {rank}]
    /\ calls' = [calls EXCEPT ![r] = @ \union {rank}]
    /\ UNCHANGED <<run, life, next, results, hook, epochs, broken, left, stream, stops>>

ItemEnds(r, rank, kind) ==
    /\ rank \in calls[r]
    /\ calls' = [calls EXCEPT ![r] = @ \ {rank}]
    /\ results' = [results EXCEPT ![r] = IF life[r] = "running" THEN Known(@, rank, kind) ELSE @]
    /\ UNCHANGED <<run, life, next, begun, hook, epochs, broken, left, stream, stops>>

(* G7: once between two epochs, after every item of the one was taken and before any of the next begins. *)
HookBegins(r) ==
    /\ Barrier
    /\ life[r] # "new" /\ ~left[r]
    /\ ~hook[r]
    /\ ~broken[r]
    /\ epochs[r] \in 1 .. Epochs - 1
    /\ next[r] = epochs[r] * Length
    /\ calls[r] = {} /\ results[r] = None
    /\ hook' = [hook EXCEPT ![r] = TRUE]
    /\ UNCHANGED <<run, life, next, begun, calls, results, epochs, broken, left, stream, stops>>

(* An epoch begins, or can't: G11. *)
EpochBegins(r, fails) ==
    /\ life[r] # "new"
    /\ ~broken[r]
    /\ epochs[r] < Epochs
    /\ hook[r] <=> Barrier /\ epochs[r] > 0
    /\ hook' = [hook EXCEPT ![r] = FALSE]
    /\ epochs' = [epochs EXCEPT ![r] = IF fails THEN @ ELSE @ + 1]
    /\ broken' = [broken EXCEPT ![r] = fails]
    /\ results' = [results EXCEPT ![r] = IF fails /\ life[r] = "running" THEN Known(@, epochs[r] * Length, "error") ELSE @]
    /\ UNCHANGED <<run, life, next, begun, calls, left, stream, stops>>

(* G13: the worker process that an item was given to dies before it begins. (If it dies after that, the item ends with an error.) *)
ItemLost(r, rank) ==
    /\ life[r] = "running"
    /\ rank \notin begun[r]
    /\ rank < next[r] + Size /\ rank \div Length < epochs[r]
    /\ results' = [results EXCEPT ![r] = Known(@, rank, "error")]
    /\ UNCHANGED <<run, life, next, begun, calls, hook, epochs, broken, left, stream, stops>>

----------------------------------------------------------------------------
(* next() *)

Called(c) == stream' = [stream EXCEPT ![c].call = TRUE, ![c].run = IF @ = 0 THEN run ELSE @, ![c].got = ""]
Returns(c, got) == stream' = [stream EXCEPT ![c].call = FALSE, ![c].got = got]

CallNext(c) ==
    /\ ~stream[c].call
    /\ run > 0
    /\ Called(c)
    /\ UNCHANGED <<run, life, next, begun, calls, results, hook, epochs, broken, left, stops>>

GetStream(c) ==
    /\ ~stream[c].call
    /\ stream' = [stream EXCEPT ![c].run = 0, ![c].got = ""]
    /\ UNCHANGED <<run, life, next, begun, calls, results, hook, epochs, broken, left, stops>>

(* G3: what may come next, once what is None was skipped. *)
Skipped(r) ==
    {rank \in next[r] .. Last : \A other \in next[r] .. rank - 1 : other \in DOMAIN results[r] /\ results[r][other] = "none"}

Moves(r, rank) ==
    /\ next' = [next EXCEPT ![r] = rank]
    /\ results' = [results EXCEPT ![r] = Only(@, {other \in Ranks : other >= rank})]

(* Nones are skipped as soon as a consumer looks. *)
Skip(c) ==
    /\ stream[c].call /\ life[stream[c].run] = "running"
    /\ \E rank \in Skipped(stream[c].run) : Moves(stream[c].run, rank)
    /\ UNCHANGED <<run, life, begun, calls, hook, epochs, broken, left, stream, stops>>

(* G2: the next, and no other. G24: to one consumer. *)
Deliver(c) ==
    LET r == stream[c].run IN
    /\ stream[c].call /\ life[r] = "running"
    /\ \E rank \in Skipped(r) :
        /\ rank \in DOMAIN results[r] /\ results[r][rank] = "item"
        /\ Moves(r, rank + 1)
    /\ Returns(c, "item")
    /\ UNCHANGED <<run, life, begun, calls, hook, epochs, broken, left, stops>>

(* G5, G10: the stream ends; one consumer is told the error, if it was one. *)
Conclude(c) ==
    LET r == stream[c].run IN
    /\ stream[c].call /\ life[r] = "running"
    /\ \E rank \in Skipped(r) :
        /\ rank = Last \/ rank \in Ended(results[r])
        /\ LET failed == rank \in DOMAIN results[r] /\ results[r][rank] = "error" IN
            /\ life' = [life EXCEPT ![r] = IF failed THEN "failed" ELSE "ended"]
            /\ Returns(c, IF failed THEN "error" ELSE "stop")
        /\ next' = [next EXCEPT ![r] = rank]
        /\ results' = [results EXCEPT ![r] = None]
    /\ UNCHANGED <<run, begun, calls, hook, epochs, broken, left, stops>>

(* G14, G16, G17: after the end a stream says so, whatever was ready, and whatever other run there may be. *)
EndOfStream(c) ==
    /\ stream[c].call /\ life[stream[c].run] # "running"
    /\ Returns(c, "stop")
    /\ UNCHANGED <<run, life, next, begun, calls, results, hook, epochs, broken, left, stops>>

(* G22, G26: nothing else happens, except that Nones may have been skipped. *)
ReturnWithout(c, got) ==
    /\ stream[c].call
    /\ got \in {"timeout", "interrupt"}
    /\ Returns(c, got)
    /\ \/ UNCHANGED <<next, results>>
       \/ \E rank \in Skipped(stream[c].run) : Moves(stream[c].run, rank)
    /\ UNCHANGED <<run, life, begun, calls, hook, epochs, broken, left, stops>>

----------------------------------------------------------------------------
(* stop() *)

Ends(r) ==
    /\ life' = [life EXCEPT ![r] = IF @ = "running" THEN "stopped" ELSE @]
    /\ results' = [results EXCEPT ![r] = None]

CallStop(s) ==
    /\ ~stops[s].call
    /\ run > 0
    /\ Ends(run)
    /\ stops' = [stops EXCEPT ![s] = [call |-> TRUE, run |-> run, got |-> ""]]
    /\ UNCHANGED <<run, next, begun, calls, hook, epochs, broken, left, stream>>

(* An item or a finalizer stops the run, and nobody waits. It may come while a consumer is skipping Nones. *)
RequestStop(r) ==
    /\ life[r] = "running"
    /\ Ends(r)
    /\ \E rank \in Skipped(r) : next' = [next EXCEPT ![r] = rank]
    /\ UNCHANGED <<run, begun, calls, hook, epochs, broken, left, stream, stops>>

(* G14, G15, G16: true once nothing is called any more; false where a timeout has passed. *)
StopReturns(s, told) ==
    LET r == stops[s].run IN
    /\ stops[s].call
    /\ told => calls[r] = {} /\ ~hook[r]
    /\ stops' = [stops EXCEPT ![s].call = FALSE, ![s].got = IF told THEN "true" ELSE "false"]
    /\ left' = [left EXCEPT ![r] = @ \/ told]
    /\ UNCHANGED <<run, life, next, begun, calls, results, hook, epochs, broken, stream>>

----------------------------------------------------------------------------
Return(c) == Deliver(c) \/ Conclude(c) \/ EndOfStream(c)

Next ==
    \/ Start
    \/ \E r \in Runs :
        \/ \E rank \in Ranks : ItemBegins(r, rank) \/ ItemLost(r, rank) \/ \E kind \in {"item", "none", "error", "end"} : ItemEnds(r, rank, kind)
        \/ HookBegins(r) \/ \E fails \in BOOLEAN : EpochBegins(r, fails)
        \/ RequestStop(r)
    \/ \E c \in Consumers : CallNext(c) \/ GetStream(c) \/ Skip(c) \/ Return(c) \/ \E got \in {"timeout", "interrupt"} : ReturnWithout(c, got)
    \/ \E s \in Stoppers : CallStop(s) \/ \E told \in BOOLEAN : StopReturns(s, told)

(* What a user may count on, if user code ends: the item that is waited for begins, the hook is called, calls return. *)
NextBegins(r) == life[r] = "running" /\ next[r] < Last /\ next[r] \notin Ended(results[r]) /\ ItemBegins(r, next[r])
NextEpoch(r) == life[r] = "running" /\ Ended(results[r]) = {} /\ next[r] = epochs[r] * Length /\ \E fails \in BOOLEAN : EpochBegins(r, fails)
Liveness ==
    /\ \A r \in Runs : WF_vars(NextBegins(r)) /\ WF_vars(life[r] = "running" /\ HookBegins(r)) /\ WF_vars(NextEpoch(r))
    /\ \A c \in Consumers : WF_vars(Return(c)) /\ WF_vars(Skip(c))
    /\ \A s \in Stoppers : WF_vars(StopReturns(s, TRUE))

Safety == Init /\ [][Next]_vars
UserCodeEnds ==
    \A r \in Runs :
        /\ \A rank \in Ranks : WF_vars(\E kind \in {"item", "none", "error", "end"} : ItemEnds(r, rank, kind))
        /\ WF_vars(hook[r] /\ \E fails \in BOOLEAN : EpochBegins(r, fails))
Spec == Safety /\ Liveness /\ UserCodeEnds

TypeOK ==
    /\ \A r \in Runs : life[r] \in {"new", "running", "stopped", "ended", "failed"} /\ calls[r] \subseteq begun[r] /\ begun[r] \subseteq Ranks
    /\ \A r \in Runs : next[r] \in 0 .. Last /\ DOMAIN results[r] \subseteq Ranks

(* It promises what it should: else a refinement of it would prove little. *)
G21_Progress == \A c \in Consumers : stream[c].call ~> ~stream[c].call
G14_StopReturns == \A s \in Stoppers : stops[s].call ~> ~stops[s].call
=============================================================================
