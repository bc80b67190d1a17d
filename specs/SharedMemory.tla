----------------------------- MODULE SharedMemory -----------------------------
(***************************************************************************)
(* Slots and leases: `enqueuer/_shared.py`, and what `_processes.py` does  *)
(* with them. The monitor is not here: items are asked for and come.       *)
(*                                                                         *)
(* A slot is a file that worker processes and this process have mapped.    *)
(* Here it is private: what this process or a fork of it writes is a page  *)
(* of its own. But a page that it has not written shows what others write  *)
(* to the file: so a slot that a fork may see must not be written again.   *)
(***************************************************************************)
EXTENDS Integers, FiniteSets

CONSTANTS
    Workers,  \* worker numbers
    Slots,    \* how many slots there may be (MOST)
    Items,    \* how many items are asked for
    Kills,    \* how often a worker process may die
    Forks     \* whether this process forks, once

Names == 1 .. Slots
None == 0

VARIABLES
    slot,    \* name -> where it is, what the file holds, what this process has written to its pages since, whether forks may see it
    worker,  \* number -> what its thread waits for: an item, and the slot that went with it
    procs,   \* worker processes that may still write: whose, item, slot, phase
    held,    \* what this process refers to: slot, and what it must read there
    forks,   \* the same of a fork of it, and what its own pages hold
    forking, \* how far that fork is: hooks run before and after it, while other threads go on
    asked,   \* items asked for so far
    kills,
    open     \* whether the run goes on

vars == <<slot, worker, procs, held, forks, forking, asked, kills, open>>

Empty == 0   \* what a file may hold besides the number of an item
Torn == -1
Clean == -4  \* no page is this process's own
Idle == [item |-> None, slot |-> None]

Init ==
    /\ slot = [name \in Names |-> [at |-> "new", holds |-> Empty, pages |-> Clean, stamp |-> <<0, 0>>]]
    /\ worker = [w \in Workers |-> Idle]
    /\ procs = {} /\ held = {} /\ forks = {} /\ forking = "no"
    /\ asked = 0 /\ kills = 0 /\ open = TRUE

(* Whether this process refers to a slot: its references are counted (leased). *)
Leased(name) == \E one \in held : one.slot = name

(* Forks that have begun, and that have ended (forks). *)
Counts == CASE forking = "no" -> <<0, 0>> [] forking \in {"begun", "there"} -> <<1, 0>> [] OTHER -> <<1, 1>>
(* Whether a fork may have a view of it: there was one since it was leased, or there is one. *)
SeenByFork(name) == slot[name].stamp # Counts \/ Counts[1] # Counts[2]

(* What may be given to a worker: what nobody has, or what was lent and nobody refers to any more (take). *)
Free == {name \in Names : slot[name].at = "free"}
Returned == {name \in Names : slot[name].at = "lent" /\ ~Leased(name) /\ ~SeenByFork(name)}
New == {name \in Names : slot[name].at = "new"}
Given == IF Free # {} THEN Free ELSE IF Returned # {} THEN Returned ELSE New

(* A worker is asked for an item; without a slot it comes through the pipe, and is of no interest here (_ask). *)
Ask(w) ==
    /\ open /\ worker[w] = Idle /\ asked < Items
    /\ \E name \in Given :
        /\ slot' = [slot EXCEPT ![name].at = "given"]
        /\ worker' = [worker EXCEPT ![w] = [item |-> asked + 1, slot |-> name]]
        /\ procs' = procs \union {[of |-> w, item |-> asked + 1, slot |-> name, phase |-> "computing"]}
    /\ asked' = asked + 1
    /\ UNCHANGED <<held, forks, forking, kills, open>>

(* A worker process writes: not in one step (place). *)
WriteBegins(p) ==
    /\ p \in procs /\ p.phase = "computing"
    /\ procs' = (procs \ {p}) \union {[p EXCEPT !.phase = "writing"]}
    /\ slot' = [slot EXCEPT ![p.slot].holds = Torn]
    /\ UNCHANGED <<worker, held, forks, forking, asked, kills, open>>

WriteEnds(p) ==
    /\ p \in procs /\ p.phase = "writing"
    /\ procs' = (procs \ {p}) \union {[p EXCEPT !.phase = "written"]}
    /\ slot' = [slot EXCEPT ![p.slot].holds = p.item]
    /\ UNCHANGED <<worker, held, forks, forking, asked, kills, open>>

(* Its answer is read. A large item is leased (_leased), a small one leaves the slot as it was (_vacate). *)
Cleaned(name) == Clean  \* pages that were written here before are dropped (_clean)
AnswerLarge(p) ==
    /\ p \in procs /\ p.phase = "written" /\ worker[p.of] = [item |-> p.item, slot |-> p.slot]
    /\ procs' = procs \ {p}
    /\ worker' = [worker EXCEPT ![p.of] = Idle]
    /\ slot' = [slot EXCEPT ![p.slot].at = "lent", ![p.slot].pages = Cleaned(p.slot), ![p.slot].stamp = Counts]
    /\ held' = held \union {[slot |-> p.slot, reads |-> p.item]}
    /\ UNCHANGED <<forks, forking, asked, kills, open>>

AnswerSmall(p) ==
    /\ p \in procs /\ p.phase = "computing" /\ worker[p.of] = [item |-> p.item, slot |-> p.slot]
    /\ procs' = procs \ {p}
    /\ worker' = [worker EXCEPT ![p.of] = Idle]
    /\ slot' = [slot EXCEPT ![p.slot].at = "free"]
    /\ UNCHANGED <<held, forks, forking, asked, kills, open>>

(* A worker process dies, whatever it is doing. *)
Dies(p) ==
    /\ p \in procs /\ kills < Kills
    /\ kills' = kills + 1
    /\ procs' = procs \ {p}
    /\ UNCHANGED <<slot, worker, held, forks, forking, asked, open>>

(* Its thread has confirmed that, and takes back what it was given (_bury). *)
Confirmed(w) == ~\E p \in procs : p.of = w
Buried == "free"
Bury(w) ==
    /\ worker[w] # Idle /\ Confirmed(w)
    /\ slot' = [slot EXCEPT ![worker[w].slot].at = Buried]
    /\ worker' = [worker EXCEPT ![w] = Idle]
    /\ UNCHANGED <<procs, held, forks, forking, asked, kills, open>>

(* The consumer drops what it has. *)
Drop(one) ==
    /\ one \in held
    /\ held' = held \ {one}
    /\ UNCHANGED <<slot, worker, procs, forks, forking, asked, kills, open>>

(* It writes to what it has, which is its own: the page is copied then. So does a fork. *)
Mine == -2
Theirs == -3
Page(name, what) == [slot EXCEPT ![name].pages = what]
Write(one) ==
    /\ one \in held /\ one.reads # Mine
    /\ held' = (held \ {one}) \union {[one EXCEPT !.reads = Mine]}
    /\ slot' = Page(one.slot, Mine)
    /\ UNCHANGED <<worker, procs, forks, forking, asked, kills, open>>

WriteInFork(one) ==
    /\ one \in forks /\ one.reads # Theirs
    /\ forks' = (forks \ {one}) \union {[one EXCEPT !.reads = Theirs, !.pages = Theirs]}
    /\ UNCHANGED <<slot, worker, procs, held, forking, asked, kills, open>>

(* This process forks, in one of its threads. The fork has what this process refers to, and its pages. *)
Fork ==
    /\ Forks
    /\ CASE forking = "no" -> forking' = "begun" /\ UNCHANGED forks
         [] forking = "begun" ->
                /\ forking' = "there"
                /\ forks' = {[slot |-> one.slot, reads |-> one.reads, pages |-> slot[one.slot].pages] : one \in held}
         [] forking = "there" -> forking' = "over" /\ UNCHANGED forks
         [] OTHER -> FALSE
    /\ UNCHANGED <<slot, worker, procs, held, asked, kills, open>>

(* The run ends: its processes are gone, and no file is written again (close). *)
Stop ==
    /\ open /\ procs = {} /\ \A w \in Workers : worker[w] = Idle
    /\ open' = FALSE
    /\ slot' = [name \in Names |-> [slot[name] EXCEPT !.at = IF @ \in {"free", "lent"} THEN "closed" ELSE @]]
    /\ UNCHANGED <<worker, procs, held, forks, forking, asked, kills>>

Over == ~open /\ UNCHANGED vars

Next ==
    \/ Fork \/ Stop \/ Over
    \/ \E w \in Workers : Ask(w) \/ Bury(w)
    \/ \E p \in procs : WriteBegins(p) \/ WriteEnds(p) \/ AnswerLarge(p) \/ AnswerSmall(p) \/ Dies(p)
    \/ \E one \in held : Drop(one) \/ Write(one)
    \/ \E one \in forks : WriteInFork(one)

Spec == Init /\ [][Next]_vars /\ WF_vars(\E w \in Workers : Bury(w)) /\ WF_vars(Stop)

----------------------------------------------------------------------------

TypeOK ==
    /\ \A name \in Names : slot[name].at \in {"new", "free", "given", "lent", "closed"}
    /\ asked \in 0 .. Items /\ kills \in 0 .. Kills

(* What anyone refers to reads as it did, but for what its holder has written. *)
Reads(name, pages) == IF pages = Clean THEN slot[name].holds ELSE pages
G6_HeldStays == \A one \in held : Reads(one.slot, slot[one.slot].pages) = one.reads
G28_ForkKeeps == \A one \in forks : Reads(one.slot, one.pages) = one.reads
(* Nobody writes where another does, or where somebody reads. *)
G13_OneWriter == \A p, other \in procs : p.slot = other.slot => p = other
G6_NotWrittenWhileHeld == \A p \in procs : ~Leased(p.slot)
(* Every slot is somewhere. *)
G20_NoneLost == \A name \in Names :
    /\ slot[name].at = "given" <=> \E w \in Workers : worker[w].slot = name
    /\ ~open => slot[name].at \in {"new", "closed"}
(* Memory that nobody refers to is used before there is more. *)
G20_UsedAgain == [][\A name \in Names : slot[name].at = "new" /\ slot'[name].at = "given" => Free = {} /\ Returned = {}]_vars
=============================================================================
