---------------------------- MODULE SharedMutants ----------------------------
(***************************************************************************)
(* Seeded faults of SharedMemory; see Mutants.                             *)
(***************************************************************************)
EXTENDS SharedMemory

NeverLeased(name) == FALSE
NeverSeen(name) == FALSE
SeenIfCounted(name) == slot[name].stamp # Counts
GivenNew == IF New # {} THEN New ELSE Free \union Returned
DirtyAsBefore(name) == slot[name].pages
Unconfirmed(w) == TRUE
WrittenThrough(name, what) == [slot EXCEPT ![name].holds = what]
BuriedForEver == "given"
=============================================================================
