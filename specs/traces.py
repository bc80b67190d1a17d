"""Check logs of real threads and processes against the specs, and see that those of broken twins are refused.

    python specs/traces.py                       draw logs, and let TLC check all of them
    python specs/traces.py --log FILE            check a log that is there (lines of JSON, as enqueuer/testing/events.py writes them)
    python specs/traces.py --keep FOLDER         write the logs and generated modules there

What happens in a log is drawn, and done by real threads and processes: see `plays.py`. Logs of runs with the same constants go into one
generated module, which extends TraceOrderedEnqueuer.tla, or TraceProcessEnqueuer.tla if there are worker processes, and TLC follows each of
them on its one path. What must come out: every log of the package is accepted, together they take every action of the spec, and of every twin
in `SEEN` a log is refused.
Exit codes: 0 all so, 1 something else, 2 nothing could be run.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias, cast

from check import BORING, COMPLAINTS, MESSAGE, SMALL, Tlc, UsageError, texts
from plays import FAR, PATIENCE, SETTINGS, Course, Make, Player, Setting, draw

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer._run import AHEAD
from enqueuer.testing import twins
from enqueuer.testing.events import Call, Event, Misfit, from_lines, replay, to_lines
from enqueuer.testing.twins import TWINS, Twin, employing

SPECS: Final = Path(__file__).resolve().parent

# from events to what the spec reads


Constants: TypeAlias = tuple[int, int, bool, bool, bool, int, int, int]
"""What the logs of one module have in common: workers, max_queue_size, barrier, serial, rotating, the length and number of epochs, and how often
an item is computed again; -1 without worker processes."""

Field: TypeAlias = int | bool | str | frozenset[int] | tuple[int, ...]

NO_EVENT: Final[dict[str, Field]] = {
    "by": "",  # boot, worker, consumer, stopper; process: what it has written
    "w": 0,  # its number
    "r": 0,  # the run
    "what": "",  # the action
    "got": "",  # what a claim or a take gave
    "rank": -1,  # which rank that is
    "epoch": -1,  # of a turn
    "put": -1,  # the rank that was computed
    "kind": "",  # how that ended
    "ahead": (),  # for which ranks a process was asked
    "state": False,  # whether the state was sent before
    "ended": frozenset(),  # workers whose processes were ended by who leaves
    "opened": -1,  # up to where a turn has opened ranks
    "last": False,  # whether it was the last turn
    "nones": 0,  # how many ranks were skipped
    "woken": frozenset(),  # workers
    "freed": frozenset(),  # consumers
    "released": frozenset(),  # those who stop
    "bell": False,  # the bell has rung between registering and looking at it
    "ringing": False,  # it has begun to ring
    "slow": False,  # somebody has given up waiting for the item
    "told": "",  # what stop() returned
    "timed": False,  # whether it had a timeout
}


PROCESSES: Final = {"_start", "_await", "_bury", "halt", "kill", "send", "begin", "receive"}
"""What is recorded of worker processes."""

AFTER_PLACE: Final = 9
"""From here on, arguments of `start` are of worker processes."""


@dataclass(slots=True)
class Log:
    """A log, and how it is to be read.

    Attributes:
        name: What it is of.
        events: As they were recorded.
        length: Items of an epoch, FAR where turns do not show it.
    """

    name: str
    events: list[Event]
    length: int = FAR

    def constants(self) -> Constants:
        """Return what it has in common with others."""
        workers, size, barrier, serial, rotating, epochs = cast("tuple[int, int, bool, bool, bool, int | None]", self.events[0].args[:6])
        epochs = max(1, FAR // self.length) if epochs is None else epochs
        return workers, size, barrier, serial, rotating, self.length, epochs, self.retries()

    def spec(self) -> str:
        """Return which enqueuer it is of."""
        return "Ordered" if self.retries() < 0 else "Process"

    def retries(self) -> int:
        """Return how often an item is computed again whose worker process died, -1 if there are none."""
        return cast("int", self.events[0].args[9]) if len(self.events[0].args) > AFTER_PLACE else -1


@dataclass(slots=True)
class Reader:
    """Makes the events of the spec out of those of a log. The order stays; what the spec has no action for is left out."""

    log: Log
    consumers: dict[str, int] = field(default_factory=dict[str, int])
    stoppers: dict[str, int] = field(default_factory=dict[str, int])
    indices: list[int] = field(default_factory=list[int])  # made event -> recorded event
    _made: list[dict[str, Field]] = field(default_factory=list[dict[str, Field]])
    _bound: dict[str, int] = field(default_factory=dict[str, int])  # consumer -> its run
    _starts: dict[int, int] = field(default_factory=dict[int, int])  # run -> made event
    _claimed: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])  # worker -> recorded event
    _given_up: dict[int, int] = field(default_factory=dict[int, int])  # run -> recorded event
    _returned: set[str] = field(default_factory=set[str])  # consumers whose call has its result
    _ringing: set[int] = field(default_factory=set[int])
    _ranks: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])  # recorded event -> what was asked for or answered
    _told: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])  # workers that have sent the state, and no request yet
    _dead: dict[tuple[int, str], bool] = field(default_factory=dict[tuple[int, str], bool])  # workers with a death, and whether it is told
    _ended: dict[tuple[int, str], set[int]] = field(default_factory=dict[tuple[int, str], set[int]])  # thread -> whose processes it has ended

    def read(self) -> list[dict[str, Field]]:
        """Return the events."""
        if not self._made:
            self._read()
        return self._made

    def _read(self) -> None:
        events = self.log.events
        following: dict[tuple[int, str], Event] = {}
        after: list[Event | None] = [None] * len(events)  # the next event of the same thread in the same run
        for i in reversed(range(len(events))):
            key = events[i].run, events[i].who
            after[i] = following.get(key)
            if events[i].what not in {"_claim_ahead", *PROCESSES}:
                following[key] = events[i]
        written = self._writings() if self.log.spec() == "Process" else {}
        for i, event in enumerate(events):
            for n in written.get(i, ()):
                self._write(n, events[n], after[n])
            if event.what in PROCESSES:
                self._employ(i, event)
            elif event.what == "ring":
                self._ringing.add(event.run)
            elif event.who == "boot":
                self._boot(i, event, after[i])
            elif event.what == "start":
                self._start(i, event)
            elif event.what == "take":
                self._take(i, event, after[i])
            elif event.what in {"stop", "_join", "_gone", "stop returns"}:
                self._stop(i, event)
            elif event.who.startswith("worker-"):
                self._worker(i, event, after[i])

    def _add(self, i: int, by: str, w: int, what: str, event: Event, **fields: Field) -> None:
        woken = {who for call in event.calls if call.name == "unpark" for who in map(str, call.args)}
        made = {
            **NO_EVENT,
            "by": by,
            "w": w,
            "r": event.run,
            "what": what,
            "woken": frozenset(_number(who) for who in woken if who.startswith("worker-")),
            "freed": frozenset(self.consumers[who] for who in woken if who in self.consumers),
            "released": frozenset(self.stoppers[who] for who in woken if who in self.stoppers),
            "ringing": event.run in self._ringing or (what == "start" and event.run - 1 in self._ringing),
            **fields,
        }
        self._made.append(made)
        self.indices.append(i)

    def _boot(self, i: int, event: Event, after: Event | None) -> None:
        if event.what == "_arrive":
            self._add(i, "boot", 0, "arrive", event)
        elif event.what == "_leave" and not (after is not None and after.what == "_leave"):
            self._add(i, "boot", 0, "left", event, ended=frozenset(self._ended.get((event.run, "boot"), ())))
        elif event.what == "_boot":
            self._add(i, "boot", 0, "booted", event)

    def _start(self, i: int, event: Event) -> None:
        if event.args:
            self._starts[event.run] = len(self._made)
            self._add(i, "boot", 0, "start", event)
        elif event.call("start") is not None:
            self._add(i, "boot", 0, "begin", event)

    def _worker(self, i: int, event: Event, after: Event | None) -> None:
        key, w = (event.run, event.who), _number(event.who)
        fields: dict[str, Field] = {}
        if event.what == "_claim_ahead":
            for call in event.calls:
                if isinstance(call.result, int):
                    self._add(i, "worker", w, "ahead", event, rank=call.result)
            return
        what = {"_work": "first", "_wait": "wake", "_put": "put", "_finish": "finish", "_turn": "turn", "_leave": "leave", "exits": "exit"}.get(
            event.what
        )
        if what is None or (what == "leave" and after is not None and after.what == "_leave"):
            return
        if what in {"put", "finish"}:
            done = event.calls[0]
            error = done.args[1]
            fields["put"] = cast("int", done.args[0])
            fields["kind"] = ("none" if error is None else "item") if what == "put" else ("end" if error is None else "error")
            fields["slow"] = self._given_up.get(event.run, -1) > self._claimed.get(key, i)
        elif what == "turn":
            args = event.calls[0].args
            end = cast("int", args[0]) if len(args) > 1 else 0
            fields |= {"opened": -1 if end > FAR else end, "last": bool(args[1])} if len(args) > 1 else {"kind": "hook"}
        elif what == "leave":
            fields["ended"] = frozenset(self._ended.get(key, ()))
        if self.log.spec() == "Process" and what in {"put", "finish"}:
            what = "raise" if self._dead.pop(key, None) is not None and what == "finish" else {"put": "receive", "finish": "fail"}[what]
        if what not in {"leave", "exit"}:
            fields |= _claim(event.call("claim"), after)
            self._claimed[key] = i
        self._add(i, "worker", w, what, event, **fields)

    def _writings(self) -> dict[int, list[int]]:
        """Find out what processes have written; return before which event that must be told, at the latest: event -> those that have read it.

        Nothing is written after a kill, and nobody becomes ready after a halt.
        """
        events = self.log.events
        known: dict[tuple[int, str, int, int], int] = {}  # run, worker, epoch, index -> rank
        claimed: dict[tuple[int, str], list[int]] = defaultdict(list)  # worker -> ranks; what it asks for next was claimed last
        started: dict[tuple[int, int], int] = {}  # run, worker -> event
        ends: dict[int, list[int]] = defaultdict(list)  # run -> halts and kills
        found: dict[int, list[int]] = defaultdict(list)
        for i, event in enumerate(events):
            key = event.run, event.who
            if event.what == "_start":
                started[event.run, cast("int", event.args[0])] = i
            elif event.what in {"halt", "kill"}:
                ends[event.run].append(i)
            elif event.what in {"begin", "receive"}:
                places = [(*key, *cast("tuple[int, int]", event.args[n : n + 2])) for n in range(0, len(event.args), 2)]
                new = [place for place in places if place not in known]
                known |= zip(new, claimed[key][-len(new) :], strict=False)
                self._ranks[i] = tuple(known.get(place, -1) for place in places)
                if event.what == "receive" and event.got != "died":
                    since = started.get((event.run, _number(event.who)), -1)
                    after = (n for n in ends[event.run] if n > since and (events[n].what == "kill" or event.got == "ready"))
                    found[next(after, i)].append(i)
            elif event.who.startswith("worker-"):
                claimed[key] += [call.result for call in event.calls if call.name == "claim" and isinstance(call.result, int)]
        return found

    def _write(self, i: int, event: Event, after: Event | None) -> None:
        """A process has written what this event reads."""
        kind, ranks = cast("str", event.got), self._ranks[i]
        if kind == "item" and after is not None and after.what == "_put" and after.calls[0].args[1] is None:
            kind = "none"
        fields: dict[str, Field] = {"kind": kind, "put": ranks[0]} if ranks else {}
        self._add(i, "process", _number(event.who), "answer" if ranks else "ready", event, **fields)

    def _employ(self, i: int, event: Event) -> None:
        """Somebody has to do with a worker process."""
        key = event.run, event.who
        if event.what in {"halt", "kill"}:
            if event.who in self.stoppers:
                self._add(i, "stopper", self.stoppers[event.who], event.what, event)
        elif event.who == "boot":
            if event.what == "_start":
                self._add(i, "boot", cast("int", event.args[0]), "open", event)
            else:
                self._ended.setdefault(key, set()).add(cast("int", event.args[0]))
        elif event.what == "_bury":
            if key not in self._dead:
                self._ended.setdefault(key, set()).add(cast("int", event.args[0]))
            elif not self._dead[key]:
                self._dead[key] = True
                if next((e.what for e in self.log.events[i:] if (e.run, e.who) == key and e.what != "_bury"), "") == "_start":
                    self._add(i, "worker", _number(event.who), "retry", event)
        else:
            self._ask(i, event, key)

    def _ask(self, i: int, event: Event, key: tuple[int, str]) -> None:
        """A worker has to do with its process."""
        w = _number(event.who)
        match event.what:
            case "_start":
                self._dead.pop(key, None)
                self._add(i, "worker", w, "replace", event)
            case "_await":
                self._add(i, "worker", w, "hear", event)
            case "send":
                self._told.add(key)
            case "begin":
                before = next(e.what for e in reversed(self.log.events[:i]) if (e.run, e.who) == key)
                what = "sent" if before == "_claim_ahead" else "ask"
                self._add(i, "worker", w, what, event, ahead=self._ranks[i], state=key in self._told)
                self._told.discard(key)
            case _:
                if event.got == "died":
                    self._dead[key] = False

    def _take(self, i: int, event: Event, after: Event | None) -> None:
        who = event.who
        c = self.consumers.setdefault(who, len(self.consumers) + 1)
        takes = [call.result for call in event.calls if call.name == "take"]
        if self._bound.get(who) != event.run:
            self._bound[who] = event.run
            if event.run + 1 in self._starts:  # it was bound while that was the latest run
                self._made.insert(self._starts[event.run + 1], {**NO_EVENT, "by": "consumer", "w": c, "r": event.run, "what": "call"})
                self.indices.insert(self._starts[event.run + 1], i)
                self._starts = {run: at + (run > event.run) for run, at in self._starts.items()}
        if not takes and event.got != "StopIteration":  # it waits no more
            if who in self._returned:
                return
            self._returned.add(who)
            rung = event.got == "after StopIteration"
            self._add(i, "consumer", c, "rung" if rung else "interrupted", event, got="over" if rung else "")
            return
        conclude = event.call("conclude")
        got, bell, rank = "item", False, -1
        if conclude is not None:
            got = "ended" if conclude.result is None else "error"
        elif event.got is not None and not str(event.got).startswith("after"):
            got = "over"
        elif takes[-1] == "nothing":
            ends = after is not None and after.what == "take" and not after.calls and after.got
            got = "timeout" if ends == "after WaitTimeoutError" else "nothing"
            bell = ends == "after StopIteration"
        else:
            rank = cast("int", takes[-1])
        (self._returned.discard if got == "nothing" else self._returned.add)(who)
        self._add(i, "consumer", c, "take", event, got=got, rank=rank, nones=takes.count(None), bell=bell)

    def _stop(self, i: int, event: Event) -> None:
        if event.who.startswith("worker-"):
            if event.what == "stop":
                told = next((e.got for e in self.log.events[i:] if e.what == "stop returns" and (e.who, e.run) == (event.who, event.run)), None)
                self._add(i, "worker", _number(event.who), "within", event, told=str(told).lower())
            return
        s = self.stoppers.setdefault(event.who, len(self.stoppers) + 1)
        if event.what == "stop":
            self._add(i, "stopper", s, "stop", event)
        elif event.what == "_join":
            self._add(i, "stopper", s, "join", event)
        elif event.what == "_gone":
            if not self._left(i):  # it was given up here, and takes itself out
                self._stopped(i, s, event, told="false", timed=True)
        elif event.got is True or self._left(i):  # else it was given up before, or has only rung
            self._stopped(i, s, event, told=str(event.got).lower(), timed=event.args[0] is not None)

    def _stopped(self, i: int, s: int, event: Event, *, told: str, timed: bool) -> None:
        if told == "false":
            self._given_up[event.run] = i
        self._add(i, "stopper", s, "stopped", event, told=told, timed=timed)

    def _left(self, i: int) -> bool:
        """Whether the stop that this event is of has seen all workers leave: then it waits for their threads."""
        events, mine = self.log.events, self.log.events[i]
        end = next(n for n in range(i, len(events)) if (events[n].what, events[n].who, events[n].run) == ("stop returns", mine.who, mine.run))
        begin = next((n for n in range(end, -1, -1) if events[n].what == "stop" and events[n].who == mine.who), end)
        return events[end].got is True or any(event.who == mine.who and event.what == "join" for event in events[begin:end])


def _number(who: str) -> int:
    return int(who.rpartition("-")[2])


def _claim(call: Call | None, after: Event | None) -> dict[str, Field]:
    if call is None:  # it has one that was claimed ahead, and does that next, or the run is over
        held = after.calls[0].args[0] if after is not None and after.what in {"_put", "_finish"} else None
        return {"got": "over"} if held is None else {"got": "rank", "rank": cast("int", held)}
    if isinstance(call.result, tuple):
        return {"got": "turn", "epoch": cast("int", call.result[1]), "rank": cast("int", call.result[2])}
    if call.result is None:
        return {"got": "over" if after is not None and after.what == "_leave" else "nothing"}  # the bell has rung while it registered
    return {"got": "rank", "rank": cast("int", call.result)}


def tla(value: Field) -> str:
    """Write a value in TLA+."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, frozenset):
        return "{" + ", ".join(map(str, sorted(value))) + "}"
    if isinstance(value, tuple):
        return f"<<{', '.join(map(str, value))}>>"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _record(made: Mapping[str, Field]) -> str:
    return "[" + ", ".join(f"{key} |-> {tla(value)}" for key, value in made.items()) + "]"


def module(readings: Sequence[Reader]) -> str:
    """Write a module with these logs."""
    logs = ["<<" + ",\n".join(map(_record, reading.read())) + ">>" for reading in readings]
    body = "\n".join(f"Log{n} ==\n{log}" for n, log in enumerate(logs, 1))
    names = ", ".join(f"Log{n}" for n in range(1, len(logs) + 1))
    spec = readings[0].log.spec()
    return f"---- MODULE Generated ----\nEXTENDS Trace{spec}Enqueuer\n{body}\nGenerated == <<{names}>>\n====\n"


GROUPS: Final = cast("dict[str, dict[str, list[str]]]", tomllib.loads((SPECS / "models.toml").read_text(encoding="utf-8")))["groups"]
"""Names of the properties of the spec, which every log must have."""


def configuration(constants: Constants, readings: Sequence[Reader], *, explains: bool) -> str:
    """Write what TLC reads besides."""
    workers, size, barrier, serial, rotating, length, epochs, retries = constants
    apart = retries >= 0
    beyond = size + workers + max(cast("int", made[key]) for reading in readings for made in reading.read() for key in ("rank", "put")) + 1
    length, epochs = (beyond, epochs) if length == FAR else (length, min(epochs, beyond // length + 2))  # what is shorter is faster
    runs = max(event.run for reading in readings for event in reading.log.events)
    lines = [
        f"SPECIFICATION {'Process' if apart else ''}{'Explains' if explains else 'TraceSpec'}",
        f"CONSTANTS W = {workers} Size = {size} Barrier = {tla(barrier)} Serial = {tla(serial)} Rotating = {tla(rotating)} Length = {length}",
        f"Epochs = {epochs} R = {runs} Kinds = {{{', '.join(map(tla, ['item', 'none', 'error', *(['end'] if serial or rotating else [])]))}}}",
        f"Consumers = {tla(frozenset(range(1, 1 + max(len(reading.consumers) for reading in readings))))}",
        f"Stoppers = {tla(stoppers := frozenset(range(1, 1 + max(len(reading.stoppers) for reading in readings))))} Timed = {tla(stoppers)}",
        f"Impatient = {tla(frozenset(range(1, 1 + max(len(reading.consumers) for reading in readings))))}",
        "HookFails = TRUE Slow = TRUE Interrupts = TRUE StopsWithin = TRUE Bell = TRUE",
        "Logs <- Generated Forever <- Never",
    ]
    if apart:
        lines += [f'Ahead = {AHEAD} Retries = {retries} Kills = 1000000 Faults = {{"kill"}} SlowStart = FALSE Orphans = FALSE']
    if not explains:
        invariants, properties = ("PROCESSES", "PROCESS_STEPS") if apart else ("SAFE", "STEPS")
        lines += [f"INVARIANTS {' '.join(GROUPS[invariants])}", f"PROPERTIES {' '.join(GROUPS[properties])}"]
    return "\n".join(lines) + "\n"


# TLC


@dataclass(slots=True)
class Verdict:
    """What TLC says of a log.

    Attributes:
        log: The log.
        accepted: Whether it is a behaviour of the spec.
        event: Number of the event that does not fit, counted from 1 in the log as it was recorded; 0 if TLC did not tell.
        why: What the spec would have allowed.
    """

    log: Log
    accepted: bool = False
    event: int = 0
    why: str = ""

    def __str__(self) -> str:
        if self.accepted:
            return f"{self.log.name}: accepted, {len(self.log.events)} events"
        told = f"event {self.event} of {len(self.log.events)}, {self.log.events[self.event - 1]}" if self.event else "?"
        return f"{self.log.name}: refused at {told}\n    {self.why}"


@dataclass(slots=True)
class Outcome:
    """What a run of TLC has found."""

    verdicts: list[Verdict]
    fired: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter[str]))  # spec -> action -> logs
    problem: str = ""
    seconds: float = 0.0


def run_tlc(constants: Constants, logs: Sequence[Log], keep: Path | None, *, explains: bool) -> Outcome:
    """Check logs with the same constants. With `explains` each that is refused is told; without it the first ends the search."""
    since = time.monotonic()
    readings = [Reader(log) for log in logs]
    with tempfile.TemporaryDirectory(prefix="traces-") as temporary:
        folder = Path(temporary)
        generated = module(readings)
        cfg = configuration(constants, readings, explains=explains)
        (folder / "Generated.tla").write_text(generated, encoding="utf-8")
        if keep is not None:
            kept = keep / ("twins" if explains else "logs") / "_".join(map(str, map(int, constants)))
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "Generated.tla").write_text(generated, encoding="utf-8")
            (kept / "Generated.cfg").write_text(cfg, encoding="utf-8")
            for log in logs:
                (kept / f"{log.name.replace(' ', '-')}.jsonl").write_text(to_lines(log.events), encoding="utf-8")
        try:
            output, code = Tlc(folder).call("Generated", cfg, java=[*SMALL, "-Xss8m"])
        except TimeoutError as late:
            return Outcome([Verdict(log) for log in logs], problem=f"{constants}: {late}")
    outcome = _parse(readings, re.sub(r"@!@!@.*?@!@!@", "", output))
    if code:
        told = (text for number, severity, text in MESSAGE.findall(output) if int(severity) in COMPLAINTS and int(number) not in BORING)
        outcome.problem = f"TLC ended with {code}: " + "".join(told)
    outcome.seconds = time.monotonic() - since
    return outcome


def _parse(readings: Sequence[Reader], output: str) -> Outcome:
    text = " ".join(output.split())
    outcome = Outcome([Verdict(reading.log) for reading in readings])
    for number, fired in re.findall(r'<< ?"accepted", (\d+), \{(.*?)\} ?>>', text):
        verdict, reading = outcome.verdicts[int(number) - 1], readings[int(number) - 1]
        verdict.accepted = True
        outcome.fired[reading.log.spec()].update(name for name in re.findall(r'"(\w+)"', fired))
    for number, at, could, state in re.findall(r'<< ?"refused", (\d+), (\d+), \{(.*?)\}, (.*?) >>(?= << ?"(?:accepted|refused)"| [A-Z]|$)', text):
        verdict, reading = outcome.verdicts[int(number) - 1], readings[int(number) - 1]
        verdict.event = reading.indices[int(at) - 1] + 1
        verdict.why = f"possible: {could or 'nothing'}; {state}"
    return outcome


def check(logs: Iterable[Log], keep: Path | None = None, *, explains: bool = False) -> Outcome:
    """Check logs of any constants, two modules at a time; what is refused is explained."""
    groups: dict[Constants, list[Log]] = defaultdict(list)
    for log in logs:
        groups[log.constants()].append(log)
    total = Outcome([])
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        todo = sorted(groups.items(), key=lambda group: -sum(len(log.events) for log in group[1]))
        futures = [pool.submit(run_tlc, *group, keep, explains=explains) for group in todo]
        for (constants, group), future in zip(todo, futures, strict=True):
            outcome = future.result()
            told = outcome if explains or not outcome.problem else run_tlc(constants, group, keep, explains=True)
            total.verdicts += told.verdicts
            for spec, fired in outcome.fired.items():
                total.fired[spec] += fired
            if outcome.problem and all(verdict.accepted for verdict in told.verdicts) and not explains:
                total.problem += f"{constants}: {outcome.problem}\n"
            total.problem += told.problem
            total.seconds = max(total.seconds, outcome.seconds)
    return total


# twins

ONE: Final = Course("stop", consumers=1, enough=9, odd={}, timeout=None, interrupts=frozenset())

THREADS: Final = Setting("hooked", 2, 3, 4)
RESENT: Final = Setting("resent", 2, 3, 4)

SEEN: Final = {
    "CompletionOrder": replace(ONE, odd={0: "late"}),
    "ConsumersLeftWaiting": ONE,
    "ErrorEarly": replace(ONE, odd={0: "late", 1: "fails"}),
    "ErrorsEndTheStream": replace(ONE, odd={1: "fails"}),
    "HookTooEarly": ONE,
    "Lingering": ONE,
    "LostWakeUp": ONE,
    "OffByOne": ONE,
    "OthersForgotten": replace(ONE, consumers=2, odd={0: "late"}),
    "StopIterationEndsTheStream": replace(ONE, odd={1: "ends"}),
    "TakenTwice": ONE,
    "TrueAlways": replace(ONE, ending="timed"),
    "TrueFromInside": replace(ONE, ending="within"),
    "ItemOfTheDeadLost": replace(ONE, odd={2: "kill"}),
    "LeavesAProcess": ONE,
    "NeverKills": replace(ONE, ending="stuck"),
    "NeverSentAgain": ONE,
    "RetriesForEver": replace(ONE, odd={2: "deadly"}),
    "SpoiltByTheHookUnseen": replace(ONE, ending="spoilt"),
}
"""Twin -> what has to happen for the spec to refuse its log."""

REPLAYED: Final = {"FirstErrorInTime": replace(ONE, odd={0: "late fails", 1: "fails"})}
"""The same for what the spec does not tell apart (it knows one error), and replay() does."""

UNSEEN: Final = {
    "an item, an order or a seed, which no record has": (
        "TwiceAndNever CopyForEachWorker Copied NoneDelivered OrderByChance ForgetfulSeed SameSeedEveryEpoch ErrorsBetweenEpochsSwallowed EmptyIsOne "
        "LastItemLost ReadOnlyArrays LeasesThatEndEarly OneRandomState LeftOutAtTheBorder"
    ),
    "the words and the members of an error, of which records have the type": "BorderWithoutNames DeathWithoutWords MadeAgain GroupsLost",
    "another plan, which the log itself names": "OneEpoch AlwaysABarrier LeftOver ResumesOneLate StateOffByOne ArgumentsMended TimeOutsMended",
    "in front of the run, which is never called, or as it may be": (
        "StopOnce LateStop StreamForgetsItsRun NativeGenerator SecondStartReplaces RunningForEver OpenedOnce"
    ),
    "a start() that fails, which the specs leave out": "LeavesWhatItHasStarted",
    "what should happen and does not, which no log of what happened shows": "NobodyRings DeathBySight",
    "outside of the run: the process, its forks, signals, descriptors; its end": (
        "IgnoresForks LeavesADescriptor SeedsTheHost SetsAHandler DeafToTheLifeline ExitIsPatient KillsLate DiesOfInterrupts"
    ),
}
"""Where the faults of the other twins are."""


def play(
    setting: Setting, course: Course, ordered: object = OrderedEnqueuer, generator: object = GeneratorEnqueuer, patience: float = PATIENCE
) -> Log:
    """Play a log of one run."""
    return Log("", Player(setting, cast("Make", ordered), cast("Make", generator), patience).play([course]), setting.bound())


def tampered() -> list[Log]:
    """Return what somebody has made of logs of the package."""
    return [*of_threads(play(THREADS, ONE)), *of_processes(play(RESENT, replace(ONE, odd={1: "kill"})))]


def of_threads(log: Log) -> list[Log]:
    """Tamper with a log of threads."""
    events = log.events
    put = next(i for i, event in enumerate(events) if event.what == "_put")
    rank = events[put].calls[0].args[0]
    take = next(i for i, event in enumerate(events) if event.what == "take" and event.calls[-1].result == rank)
    wakes = next(i for i, event in enumerate(events) if event.what == "take" and event.call("unpark"))
    ends = next(i for i, event in enumerate(events) if event.what == "stop returns")
    silent = replace(events[wakes], calls=tuple(call for call in events[wakes].calls if call.name != "unpark"))
    other = {"worker-0": "worker-1", "worker-1": "worker-0"}[events[put].who]
    told = {
        "a put is gone": [*events[:put], *events[put + 1 :]],
        "taken before it is put": [*events[:put], events[take], *events[put:take], *events[take + 1 :]],
        "put by another": [*events[:put], replace(events[put], who=other), *events[put + 1 :]],
        "nobody is woken": [*events[:wakes], silent, *events[wakes + 1 :]],
        "a worker never leaves": [event for event in events if (event.what, event.who) != ("_leave", other)],
        "stop() gives up without a timeout": [*events[:ends], replace(events[ends], args=(None,), got=False), *events[ends + 1 :]],
    }
    return [Log(f"tampered: {name}", made, log.length) for name, made in told.items()]


def of_processes(log: Log) -> list[Log]:
    """Tamper with a log of processes, in which one has died."""
    events = log.events
    death = next(i for i, event in enumerate(events) if event.got == "died")
    owner = events[death].who
    again = next(i for i, event in enumerate(events) if i > death and event.what == "begin" and event.who == owner)
    halt = next(i for i, event in enumerate(events) if event.what == "halt")
    told = {
        "a death is gone": [event for i, event in enumerate(events) if not (death <= i < again and event.what in {"receive", "_bury"})],
        "the next process is asked for nothing": [*events[:again], *events[again + 1 :]],
        "an item is asked for twice": [*events[: again + 1], *events[again:]],
        "no state is sent": [event for event in events if event.what != "send"],
        "stop() halts nobody": [*events[:halt], *events[halt + 1 :]],
        "a process is left": [event for i, event in enumerate(events) if i < halt or (event.what, event.who) != ("_bury", owner)],
    }
    return [Log(f"tampered: {name}", made, log.length) for name, made in told.items()]


def of_twin(twin: Twin, course: Course) -> Log:
    """Play a log of a twin."""
    apart = bool(twin.factory.method)
    ordered = employing(getattr(twins, twin.name)) if apart else twin.factory.ordered
    try:
        return replace(play(RESENT if apart else THREADS, course, ordered, twin.factory.generator, patience=0.5), name=twin.name)
    finally:
        twin.clean()


def refused(keep: Path | None) -> list[str]:
    """Return what is wrong with the verdicts about twins."""
    by_name = {twin.name: twin for twin in TWINS}
    known = {*SEEN, *REPLAYED, *" ".join(UNSEEN.values()).split()}
    wrong = [f"{name} is a twin of which nothing is said" for name in by_name.keys() - known] + [
        f"{name} is no twin" for name in known - by_name.keys()
    ]
    logs = [*(of_twin(by_name[name], course) for name, course in SEEN.items()), *tampered()]
    outcome = check(logs, keep, explains=True)
    print(*(str(verdict).partition("\n")[0] for verdict in outcome.verdicts), sep="\n")
    wrong += [f"{verdict.log.name}: its log is not refused" for verdict in outcome.verdicts if not verdict.event]
    for name, course in REPLAYED.items():
        try:
            replay(of_twin(by_name[name], course).events)
            wrong.append(f"{name}: its log is replayed")
        except Misfit as misfit:
            print(f"{name}: not replayed: {misfit}")
    return [*wrong, *filter(None, [outcome.problem])]


# the command


NEVER: Final = {
    "this process is gone, and the log with it": "ParentDies LifelineEnds NobodyLeft",
    "a process that hangs leaves the same log as one that takes long": "StartHangs ItemHangsThere",
}
"""Why no log takes some actions of ProcessEnqueuer."""


def actions(name: str) -> set[str]:
    """Return the actions of a spec: what its next-state relation is made of."""
    text = "".join(texts(SPECS, f"{name}Enqueuer").values())
    found: set[str] = set()
    todo = ["Next" if name == "Ordered" else f"{name}Next"]
    for each in todo:
        definition = re.search(rf"^{each}(?:\([\w, ]*\))? ==(.*?)^(?=\S)", text, re.MULTILINE | re.DOTALL)
        if definition and re.search(r"'|UNCHANGED|\bApart\b", definition[1]):
            found.add(each.removesuffix("Apart"))
        elif definition:
            todo += [other for other in re.findall(r"(?<!\\in )\b[A-Z]\w+", definition[1]) if other not in todo]
    never = set(" ".join(NEVER.values()).split())
    assert name == "Ordered" or never <= found
    return found - never


def real(each: int, keep: Path | None) -> list[str]:
    """Return what is wrong with the logs of the package."""
    since = time.monotonic()
    logs = [Log(name, events, setting.bound()) for setting in SETTINGS for name, events in draw(setting, each).items()]
    logs.append(replace(play(RESENT, replace(ONE, ending="timed")), name="a hook that hangs"))
    drawn = time.monotonic()
    wrong: list[str] = []
    for log in logs:
        try:
            replay(log.events)
        except Misfit as misfit:
            wrong.append(f"{log.name}: not replayed: {misfit}")
    outcome = check(logs, keep)
    wrong += [str(verdict) for verdict in outcome.verdicts if not verdict.accepted]
    for spec in ("Ordered", "Process"):
        fired = outcome.fired[spec]
        wrong += [f"{action} of {spec}Enqueuer is taken in no log" for action in sorted(actions(spec) - fired.keys())]
        print(f"{spec}: logs in which an action is taken: " + ", ".join(f"{name} {count}" for name, count in sorted(fired.items())))
    events, steps = sum(len(log.events) for log in logs), sum(len(Reader(log).read()) for log in logs)
    print(f"{len(logs)} logs, {events} records of which {steps} are events of the spec")
    print(f"drawn in {drawn - since:.1f} s, checked in {time.monotonic() - drawn:.1f} s")
    return [*wrong, *filter(None, [outcome.problem])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=6, help="how many logs of each setting are drawn; the default is 6")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write logs and generated modules there")
    parser.add_argument("--log", type=Path, metavar="FILE", help="check this log, and nothing else")
    parser.add_argument("--length", type=int, default=FAR, help="items of an epoch in that log, if turns show them (a hook, or shuffled)")
    args = parser.parse_args(arguments)
    try:
        if args.log:
            log = Log(args.log.name, from_lines(args.log.read_text(encoding="utf-8")), args.length)
            outcome = check([log], args.keep, explains=True)
            print(*outcome.verdicts, outcome.problem, sep="\n")
            return 0 if outcome.verdicts[0].accepted else 1
        wrong = [*real(args.each, args.keep), *refused(args.keep)]
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(*wrong, f"{len(wrong)} failures", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
