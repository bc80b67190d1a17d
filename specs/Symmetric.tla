------------------------------ MODULE Symmetric ------------------------------
(***************************************************************************)
(* The monitor with two workers that have names instead of numbers: which  *)
(* of them does what makes no difference, as no number is read but by      *)
(* workers that take turns, and by who starts them one by one. States that *)
(* differ in the names alone are one (TLC's SYMMETRY, for safety alone).   *)
(***************************************************************************)
EXTENDS OrderedEnqueuer, TLC

CONSTANTS Ann, Bob

Names == {Ann, Bob}
Swaps == Permutations(Names)

Anybody == ToStart
=============================================================================
