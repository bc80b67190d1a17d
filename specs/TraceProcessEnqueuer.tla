------------------------ MODULE TraceProcessEnqueuer ------------------------
(***************************************************************************)
(* Whether what real threads did with real worker processes is a behaviour *)
(* of `ProcessEnqueuer`. Logs are as in TraceOrderedEnqueuer; besides,     *)
(* they say what a thread did with its process: which it has started, what *)
(* it has asked for and been answered, which death it has confirmed, who   *)
(* was halted or killed.                                                   *)
(*                                                                         *)
(* What a process does, nobody can log: it may be killed at any step. An   *)
(* answer that was read was written before, and that is an event here: it  *)
(* stands where it was read, or before the kill after which nothing more   *)
(* can have been written (traces.py puts it there). What a process does    *)
(* before an answer, and a death that no log has the cause of, are silent  *)
(* steps of the process that the next event names.                         *)
(***************************************************************************)
EXTENDS ProcessEnqueuer, TraceOrderedEnqueuer

allTraceVars == <<allVars, number, at, fired>>

ProcessTraceInit == ProcessInit /\ TraceInit

----------------------------------------------------------------------------
(* What an event says *)

(* The claim with which it ends has given what is earliest of all that the worker holds. *)
ClaimedNext(e) == Claimed(e) /\ (e.got = "rank" => Least(Held(win'[e.r], e.w)) = e.rank)

(* A thread that leaves has ended its process; the last one has ended all. *)
EndsThose(e, own) == {w \in Workers : slot[e.r][w].life # "none" /\ (w \in own \/ present[e.r] = 1)} = e.ended

(* What was asked for, and whether the state was sent before. *)
AsksFor(e) ==
    slot'[e.r][e.w].in = slot[e.r][e.w].in \o (IF e.state THEN <<StateMessage(Version(e.r))>> ELSE <<>>) \o Requests(e.ahead)

(* What comes next in the pipe. *)
Answers(e) ==
    /\ slot[e.r][e.w].out # <<>>
    /\ LET answer == Head(slot[e.r][e.w].out) IN answer.kind = e.kind /\ answer.of = e.put
    /\ Earliest(e.r, e.w) = e.put

----------------------------------------------------------------------------
(* Where the code does more than a model needs to say *)

(* A process is started by who has looked before the halt; it is killed as it starts (open, _start). *)
OpenTooLate(w) ==
    /\ boot[run] = "start" /\ ending[run] # "no" /\ slot[run][w] = NoProcess /\ pc[run][w] = Absent
    /\ slot' = [slot EXCEPT ![run][w] = Spawned(run, NoProcess)]
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

(* One that was killed as it started had become ready in between. *)
ReadyTooLate(r, w) ==
    LET s == slot[r][w] IN
    /\ ending[r] # "no" /\ s.life = "dead" /\ ~s.ready /\ s.out = <<>>
    /\ Changes(r, w, [s EXCEPT !.out = <<AnswerMessage("ready", 0, 0)>>])
    /\ UNCHANGED <<vars, ending, gone, kills, witness>>

(* Whom a stop before has halted, or killed, is not halted again. *)
HaltAgain(r) == ending[r] # "no" /\ UNCHANGED allVars
KillAgain(r) == ending[r] = "killed" /\ UNCHANGED allVars

(* Who is to call the hook; if somebody gives up, it was called, and hangs. *)
InTurn(r) == {w \in Workers : pc[r][w] = "turn"}

(* A model knows no time: processes that were killed may take longer to go than a stop waits. *)
GiveUpSlow(s) ==
    /\ stp[s].pc = "threads" \/ (ending[stp[s].run] = "killed" /\ ~InHook(stp[s].run) /\ InTurn(stp[s].run) = {})
    /\ GiveUp(s) /\ Apart

(* What was claimed ahead is asked for at once; that it was sent is told a little later. *)
Sent(e) ==
    LET asked == slot[e.r][e.w].asked IN
    /\ Len(asked) >= Len(e.ahead)
    /\ SubSeq(asked, Len(asked) - Len(e.ahead) + 1, Len(asked)) = e.ahead
    /\ UNCHANGED allVars

----------------------------------------------------------------------------
(* Steps that are not logged *)

(* What the thread does next was asked for ahead. *)
AskedAhead(r, w) == pc[r][w] = "claimed" /\ slot[r][w].asked # <<>> /\ ~NeedsState(r, w)

(* It goes on to the answer; or, where none comes, to where it was when it died. *)
GoesOnThere(r, w) ==
    \/ RenewState(r, w) /\ Fires("RenewState")
    \/ ItemBeginsThere(r, w) /\ Fires("ItemBeginsThere")

IdleWithWork(s) == s.life = "idle" /\ s.in # <<>>

SilentThere(e) ==
    IF e.by = "process" THEN e.what = "answer" /\ GoesOnThere(e.r, e.w)
    ELSE IF e.by = "stopper" THEN e.told = "false" /\ InTurn(e.r) # {} /\ HookBeginsApart(e.r, Least(InTurn(e.r))) /\ Fires("HookBegins")
    ELSE IF e.by # "worker" \/ e.what \notin {"ahead", "receive", "fail", "retry", "raise"} THEN FALSE
    ELSE IF AskedAhead(e.r, e.w) THEN AskItem(e.r, e.w) /\ Fires("AskItem")
    ELSE /\ e.what \in {"retry", "raise"}
         /\ IF IdleWithWork(slot[e.r][e.w]) THEN GoesOnThere(e.r, e.w)
            ELSE ~SeenThrough(slot[e.r][e.w]) /\ Dies(e.r, e.w, "kill") /\ Fires("Dies")

----------------------------------------------------------------------------
(* The action of an event's name *)

BootedThere(e) ==
    CASE e.what = "open" -> \/ Unopened(run) # {} /\ Least(Unopened(run)) = e.w /\ OpenWorker /\ Fires("OpenWorker")
                            \/ OpenTooLate(e.w) /\ Fires("")
      [] e.what = "left" -> EndsThose(e, {}) /\ LeaveBoot /\ WokenStoppers(e) /\ Fires("LeaveBoot")
      [] OTHER -> (e.what = "arrive" /\ boot[run] = "start" => Opened) /\ Booted(e) /\ Apart

WorkedThere(e) ==
    CASE e.what \in {"first", "wake", "turn", "exit"} -> Worked(e) /\ Apart
      [] e.what = "replace" -> Replace(e.r, e.w) /\ Fires("Replace")
      [] e.what = "hear" -> HearReady(e.r, e.w) /\ Fires("HearReady")
      [] e.what = "ask" -> AskItem(e.r, e.w) /\ AsksFor(e) /\ Fires("AskItem")
      [] e.what = "ahead" -> ClaimAhead(e.r, e.w) /\ e.rank \notin DOMAIN win[e.r].under /\ win'[e.r].under[e.rank] = e.w /\ Fires("ClaimAhead")
      [] e.what = "sent" -> Sent(e) /\ Fires("")
      [] e.what = "receive" -> Answers(e) /\ ReceiveItem(e.r, e.w) /\ ClaimedNext(e) /\ Woke(e) /\ Fires("ReceiveItem")
      [] e.what = "fail" -> Answers(e) /\ ReceiveEnd(e.r, e.w) /\ ClaimedNext(e) /\ Woke(e) /\ Fires("ReceiveEnd")
      [] e.what = "retry" -> RetryItem(e.r, e.w) /\ Fires("RetryItem")
      [] e.what = "raise" -> Blamed(e.r, e.w) = e.put /\ RaiseDeath(e.r, e.w) /\ ClaimedNext(e) /\ Woke(e) /\ Fires("RaiseDeath")
      [] e.what = "leave" -> EndsThose(e, {e.w}) /\ LeaveWorker(e.r, e.w) /\ WokenStoppers(e) /\ Fires("LeaveWorker")
      [] OTHER -> FALSE

EndedThere(e) ==
    CASE e.what = "halt" -> stp[e.w].run = e.r /\ ((Halt(e.w) /\ Fires("Halt")) \/ (HaltAgain(e.r) /\ Fires("")))
      [] e.what = "kill" -> stp[e.w].run = e.r /\ ((Kill(e.w) /\ Fires("Kill")) \/ (KillAgain(e.r) /\ Fires("")))
      [] e.what = "stop" -> Ended(e) /\ Apart
      [] e.what = "join" -> ending[e.r] # "no" /\ Ended(e) /\ Apart
      [] e.what = "stopped" -> IF e.told = "true" THEN Ended(e) /\ Apart
                               ELSE /\ e.timed /\ stp[e.w].run = e.r
                                    /\ (GiveUpApart(e.w) /\ Fires("GiveUp")) \/ (GiveUpSlow(e.w) /\ Fires(""))

(* What a process has written. *)
Written(e) ==
    CASE e.what = "ready" -> (BecomesReady(e.r, e.w) /\ Fires("BecomesReady")) \/ (ReadyTooLate(e.r, e.w) /\ Fires(""))
      [] e.what = "answer" -> InItem(slot[e.r][e.w]) /\ Head(slot[e.r][e.w].in).of = e.put /\ AnswerItem(e.r, e.w, e.kind) /\ Fires("AnswerItem")

MatchesThere(e) ==
    CASE e.by = "boot" -> BootedThere(e)
      [] e.by = "worker" -> WorkedThere(e)
      [] e.by = "process" -> Written(e)
      [] e.by = "consumer" -> Consumed(e) /\ Apart
      [] e.by = "stopper" -> EndedThere(e)

StepThere ==
    /\ at <= Len(Log)
    /\ LET e == Event IN
        \/ Silent(e) /\ Apart /\ UNCHANGED <<number, at>>
        \/ ~LooksFirst /\ ~NeedsRing(e) /\ SilentThere(e) /\ UNCHANGED <<number, at>>
        \/ ~LooksFirst /\ ~NeedsRing(e) /\ MatchesThere(e) /\ UNCHANGED rung /\ at' = at + 1 /\ UNCHANGED number

(* What could have been done instead. *)
CouldThere(e) ==
    LET r == e.r
        w == e.w
    IN
    IF e.by = "worker"
    THEN Those("First", ENABLED First(r, w)) \union Those("Wake", ENABLED Wake(r, w)) \union Those("HookBegins", ENABLED HookBegins(r, w))
         \union Those("TurnEpoch", ENABLED TurnEpoch(r, w, "")) \union Those("Exit", ENABLED Exit(r, w))
         \union Those("Replace", ENABLED Replace(r, w)) \union Those("HearReady", ENABLED HearReady(r, w))
         \union Those("AskItem", ENABLED AskItem(r, w)) \union Those("ClaimAhead", ENABLED ClaimAhead(r, w))
         \union Those("ReceiveItem", ENABLED ReceiveItem(r, w)) \union Those("ReceiveEnd", ENABLED ReceiveEnd(r, w))
         \union Those("RetryItem", ENABLED RetryItem(r, w)) \union Those("RaiseDeath", ENABLED RaiseDeath(r, w))
         \union Those("LeaveWorker", ENABLED LeaveWorker(r, w))
    ELSE IF e.by = "process"
    THEN Those("BecomesReady", ENABLED BecomesReady(r, w)) \union Those("RenewState", ENABLED RenewState(r, w))
         \union Those("ItemBeginsThere", ENABLED ItemBeginsThere(r, w)) \union Those("AnswerItem", ENABLED AnswerItem(r, w, "item"))
    ELSE IF e.by = "stopper"
    THEN Those("CallStop", ENABLED CallStop(w)) \union Those("Halt", ENABLED Halt(w)) \union Those("Kill", ENABLED Kill(w))
         \union Those("Join", ENABLED JoinApart(w)) \union Those("JoinThreads", ENABLED JoinThreads(w)) \union Those("GiveUp", ENABLED GiveUpApart(w))
    ELSE Could(e) \union Those("OpenWorker", e.by = "boot" /\ ENABLED OpenWorker)

RefusedThere ==
    /\ at <= Len(Log)
    /\ ~ENABLED StepThere
    /\ Tells(CouldThere(Event), IF Event.r \in 1 .. run THEN <<Stands(Event.r), slot[Event.r], ending[Event.r]>> ELSE <<>>)

ProcessTraceSpec == ProcessTraceInit /\ [][StepThere \/ ((Accepted \/ Terminated) /\ Apart)]_allTraceVars
ProcessExplains == ProcessTraceInit /\ [][StepThere \/ ((Accepted \/ RefusedThere \/ Terminated) /\ Apart)]_allTraceVars
=============================================================================
