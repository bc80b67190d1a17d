"""One execution as text, for who has not read the code: a column for each thread, time goes down, a row for each step that matters.

The rows come from making the choices of a report once more, and looking on: the world says before each step where every thread stands, the
event record says what each critical section has called, and a parker says whom it wakes. What the runtime gives away is looked at, and
nothing else, so that code which has no enqueuer in it has lanes, too.

Where a column would be narrow, each row is a line that begins with the name of its thread.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, TextIO, TypeAlias, TypeVar, cast, final

from ..._run import Run
from ..._types import Lock, Parker, Process, Runtime, Thread
from ..._window import Window
from ...guarantees import CONTRACT
from .. import events as _events
from ..events import Call, Event, Recorder, Values, _Noting, _Watched
from ..terminal import Line
from .explore import Report, Scenario, replay
from .replay import write
from .world import CheckerError, Failure, SimLock, SimParker, Step, Task, World

__all__ = ["BOX", "PLAIN", "Marks", "lanes", "marks_for"]

T = TypeVar("T")

NARROW: Final = 14
"""Characters that a column has at least."""

GUTTER: Final = 5
"""Characters before the first column, at least."""

BROAD: Final = 32
"""Characters that a column has at most."""

MOST: Final = 300
"""Rows that are told at most, the first and the last: an execution that does not end has thousands."""

FREE: Final = {
    "timeout": "the timeout of {} fires",
    "interrupt": "{} is interrupted where it waits",
    "interrupt, woken": "{} is interrupted in the moment in which it is woken",
    "finalizer": "the garbage collector runs a finalizer in {}",
}
"""What may happen at any moment."""

FOR: Final = {
    "Run.take": ("an item", "an item"),
    "Run._wait": ("work", "something to claim"),
    "Run._join": ("the workers", "the last worker to leave"),
    "Run.start": ("the workers", "the workers to be there"),
    "SimWorker._run": ("a request", "a request"),
    "SimWorker.receive": ("the answer", "the answer of its process"),
}
"""What threads wait for where an enqueuer lets them park, by function; in short, and at length."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How the states of a thread are drawn."""

    acts: str = "*"
    holds: str = "["
    goes: str = "|"
    waits: str = ":"
    locked: str = "#"
    line: str = "-"
    to: str = "->"


PLAIN: Final = Marks()
BOX: Final = Marks("\u25cf", "\u2503", "\u2502", "\u250a", "\u256b", "\u2500", "\u2192")
"""The same, where they can be written."""


# looking on


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where a thread stands, when another step is chosen.

    Attributes:
        step: What it is about to do, None if it has ended.
        where: Function in which it is.
        line: In which line.
        foreign: Whether that is no code of this package.
        blocked: Whether it can't do that now.
        holds: Whether it holds a lock.
        by: Who holds the lock that it waits for, or has not ended yet.
    """

    step: Step | None
    where: str
    line: int
    foreign: bool
    blocked: bool
    holds: bool
    by: int | None


@dataclass(frozen=True, slots=True)
class _Unpark:
    """Somebody was granted a permit."""

    parker: SimParker


@dataclass(slots=True)
class _Look:
    """What is seen of an execution.

    Attributes:
        stands: Before each step: where all threads stand.
        log: What was done, how many steps had been chosen by then, and by which thread.
        owners: Who has parked on it, or has made it.
        last: Where all stand in the end, if they wait for ever.
    """

    world: World | None = None
    stands: list[tuple[_Stand, ...]] = field(default_factory=list[tuple[_Stand, ...]])
    log: list[tuple[int, int, Call | Event | _Unpark]] = field(default_factory=list[tuple[int, int, Call | Event | _Unpark]])
    owners: dict[SimParker, int] = field(default_factory=dict[SimParker, int])
    last: tuple[_Stand, ...] | None = None
    _locks: list[SimLock] = field(default_factory=list[SimLock])

    def play(self, body: Callable[[World], object], world: World) -> object:
        """Be the body of a scenario: that one, looked at."""
        self.world = world
        plain, recorder = world.runtime, _Recorder(_Seam(world.runtime, self), self)
        watched = vars(recorder.runtime)
        watched["parker"] = recorder.seam.parker  # which say whom they wake
        watched["thread"] = partial(_thread, recorder.runtime.thread, plain.thread)  # those of other code than a run's are none of the recorder's
        vars(world)["runtime"] = recorder.runtime  # final for everybody else; nothing has asked for it yet
        world.events = self.before
        return body(world)

    def before(self) -> int:
        """Another step is chosen."""
        self.stands.append(self._stands())
        return len(self.log)

    def stuck(self, blame: Callable[[Failure, list[Task]], str], failure: Failure, tasks: list[Task]) -> str:
        """Nobody can go on."""
        self.last = self._stands()
        return blame(failure, tasks)

    def note(self, what: Call | Event | _Unpark) -> None:
        """The current thread has done that."""
        world = self.world
        if world is not None and world.current is not None and not world.over:
            self.log.append((len(world.taken), world.current.number, what))

    def made(self, lock: Lock) -> Lock:
        """A lock was made."""
        self._locks.append(cast("SimLock", lock))
        return lock

    def _stands(self) -> tuple[_Stand, ...]:
        assert self.world is not None
        holders = {lock.owner.number for lock in self._locks if lock.owner is not None}
        return tuple(self._stand(task, holds=task.number in holders) for task in self.world.tasks)

    def _stand(self, task: Task, *, holds: bool) -> _Stand:
        step, frame = task.step, _out(task.frame)
        where, line, foreign = "", 0, False
        if frame is not None:
            where, line, foreign = frame.f_code.co_qualname, frame.f_lineno, not frame.f_code.co_filename.startswith(_PACKAGE)
        blocked, by = False, None
        if step is not None and step.kind == "acquire":
            owner = cast("SimLock", step.of).owner
            blocked, by = owner is not None, None if owner is None else owner.number
        elif step is not None and step.kind == "park":
            self.owners[cast("SimParker", step.of)] = task.number
            blocked = not cast("SimParker", step.of).permit
        elif step is not None and step.kind == "join":
            awaited = cast("Task", step.of)
            blocked, by = not awaited.finished, awaited.number
        elif step is not None and step.kind == "settle":
            blocked = True
        return _Stand(step, where, line, foreign, blocked, holds, by)


_PACKAGE: Final = str(Path(__file__).parents[2])
_OURS: Final = {__file__, _events.__file__}


def _out(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the code that is looked at."""
    while frame is not None and frame.f_code.co_filename in _OURS:
        frame = frame.f_back
    return frame


_Make: TypeAlias = Callable[[Callable[[], None], str], Thread]


def _thread(watched: _Make, plain: _Make, target: Callable[[], None], name: str) -> Thread:
    owner = getattr(cast("object", getattr(target, "func", None)), "__self__", None)
    return (watched if isinstance(owner, Run) else plain)(target, name)


class _Recorder(Recorder):
    """Records for lanes: it knows the threads of a world, which its carriers carry in turn."""

    def __init__(self, seam: _Seam, look: _Look) -> None:
        self._look: Final = look
        self.seam: Final = seam
        super().__init__(seam)

    def who(self) -> str:
        world = self._look.world
        return world.current.name if world is not None and world.current is not None else super().who()

    def note(self, call: Call) -> None:
        if self.here.section is not None:
            self._look.note(call)
        super().note(call)

    def add(self, run: int, what: str, args: Values = (), calls: Iterable[Call] = (), got: float | str | bool | None = None) -> None:
        super().add(run, what, args, calls, got)
        self._look.note(self.events[-1])

    def watch(self, run: Run[T]) -> None:
        if not isinstance(run, _Watched):
            vars(run)["_window"] = _Noting(cast("Window[object]", run._window), self)
            vars(run)["number"] = 0
            run.__class__ = cast("type[Run[T]]", type("_Seen", (_Seen, type(run)), {"recorder": self}))


class _Seen(_Watched[T]):
    """What a recorded run does besides, without touching a field of its own: guards would ask for the lock."""

    def stop(self, timeout: float | None) -> bool:
        stopped = super(_Watched, self).stop(timeout)
        self.recorder.add(vars(self)["number"], "stop returns", (timeout,), got=stopped)
        return stopped

    def ring(self) -> None:
        here = self.recorder.here
        self.recorder.add(vars(self)["number"], "ring")
        section, here.section = here.section, None  # whom it wakes, it wakes from outside, also where it interrupts a critical section
        try:
            super(_Watched, self).ring()
        finally:
            here.section = section


@final
class _Parker:
    """A parker that says when it gets its permit."""

    def __init__(self, inner: SimParker, look: _Look) -> None:
        self._inner: Final = inner
        self._look: Final = look
        self.park: Final = inner.park

    @property
    def permit(self) -> bool:
        return self._inner.permit

    @permit.setter
    def permit(self, permit: bool) -> None:
        self._inner.permit = permit
        if permit:
            self._look.note(_Unpark(self._inner))

    def unpark(self) -> None:
        self._inner.unpark()
        self._look.note(_Unpark(self._inner))


@final
class _Seam:
    """A world's runtime, which remembers its locks, and whom its parkers wake."""

    def __init__(self, inner: Runtime, look: _Look) -> None:
        self._inner: Final = inner
        self._look: Final = look
        self.boot: Final = inner.boot
        self.clock: Final = inner.clock
        self.tell: Final = inner.tell
        self.finalizing: Final = inner.finalizing

    def lock(self) -> Lock:
        return self._look.made(self._inner.lock())

    def parker(self) -> Parker:
        return _Parker(cast("SimParker", self._inner.parker()), self._look)

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        return self._inner.thread(target, name)

    def process(self) -> Process:
        return self._inner.process()


# telling


@dataclass(slots=True)
class _Row:
    """What one thread does in one step.

    Attributes:
        number: Of the step, counted from 1; 0 is what is done before the first.
        task: Who.
        does: What it does, in lines, and whether it holds a lock meanwhile.
        before: What is to be said before it, "" if nothing is.
        states: How all stand then.
        after: What is to be said after it.
    """

    number: int
    task: int
    does: list[tuple[str, bool]]
    before: str
    states: tuple[_Stand, ...]
    after: str = ""


class _Tale:
    """An execution, told in rows."""

    def __init__(self, look: _Look, report: Report) -> None:
        assert look.world is not None
        self.tasks: Final = look.world.tasks
        self.names: Final = _names(self.tasks)
        self.look: Final = look
        self.taken: Final = report.taken
        self.log: Final = _by_step(look)
        self.woken: Final[dict[SimParker, int]] = {}  # the step in which somebody was woken last
        self.windows: Final[dict[int, _Tally]] = {}
        self.runs: Final = len({what.run for _, _, what in look.log if isinstance(what, Event) and what.run})
        self.stands: Final = [*look.stands[: len(self.taken)], self._end()]
        self.since: Final = self._waits()
        rows = [row for row in map(self._row, range(len(self.stands))) if row is not None]
        if len(rows) > MOST:
            rows[MOST // 2 - 1].after = f"{len(rows) - MOST} rows are left out"
            rows[MOST // 2 : -MOST // 2] = []
        self.rows: Final = rows

    def _end(self) -> tuple[_Stand, ...]:
        """Where all stand in the end. Where somebody has found something, the others stand where they stood before its last step."""
        look, taken = self.look, self.taken
        if look.last is not None:
            return look.last
        if len(look.stands) > len(taken):
            return look.stands[len(taken)]
        before = look.stands[-1] if look.stands else ()
        last = taken[-1].task if taken else 0
        return tuple(replace(stand, step=None, blocked=False) if task == last else stand for task, stand in enumerate(before))

    def _waits(self) -> list[dict[int, int]]:
        """Return for each moment who waits, or has been waiting until then for what it does now, and since which step."""
        moments: list[dict[int, int]] = []
        steps: dict[int, Step | None] = {}
        since: dict[int, int] = {}
        for number, stands in enumerate(self.stands):
            for task, stand in enumerate(stands):
                if steps.get(task) is not stand.step:
                    steps[task] = stand.step
                    since.pop(task, None)
                if stand.blocked:
                    since.setdefault(task, number)
            moments.append(dict(since))
        return moments

    def _row(self, number: int) -> _Row | None:
        """Tell what was done from the step of that number to the next; None if there is nothing to see."""
        taken = self.taken[number - 1] if number else None
        task = taken.task if taken is not None else 0
        before = self.stands[number - 1] if number else ()
        after = self.stands[number]
        holds = taken is not None and ((taken.step.kind == "acquire" and taken.how == "") or before[task].holds)
        told = self._chosen(number) if taken is not None else ""
        does: list[tuple[str, bool]] = []
        calls = [(text, holds and within) for text, within in self._calls(number, task) if text]
        first, matters = self._begins(number) if taken is not None else ("begins", False)
        if first:
            does.append((first, holds))
        title = self._title(number, task)
        if title and (calls or (matters and not first)):
            does.append((title if any(within for _, within in calls) or not holds else title.rstrip(":"), holds))
        does += calls
        does += [(f"starts {self.names[new]}", False) for new in range(max(1, len(before)), len(after))]
        if task < len(after):
            then = self._then(task, before[task].step if task < len(before) else None, after[task])
            does += [(then, False)] if then else []
        if len(does) == bool(first) and not (matters or told):
            return None
        return _Row(number, task, does or [(title.rstrip(":") or "goes on", holds)], told, after)

    def _chosen(self, number: int) -> str:
        """Say what is remarkable about a choice."""
        taken = self.taken[number - 1]
        name = self.names[taken.task]
        if isinstance(taken.how, str) and taken.how:
            return f"free choice: {FREE[taken.how].format(name)}"
        if taken.switches:
            return f"switch: {self.names[self.taken[number - 2].task if number > 1 else 0]} could go on, and {name} does"
        return ""

    def _begins(self, number: int) -> tuple[str, bool]:
        """Say what a step itself is, and whether that is worth a row."""
        taken = self.taken[number - 1]
        step, how = taken.step, taken.how
        since = self.since[number - 1].get(taken.task)
        waited = f" (since {since})" if since is not None else ""
        if isinstance(how, str) and how:
            return {"timeout": f"times out{waited}", "finalizer": "a finalizer runs"}.get(how, f"is interrupted{waited}"), True
        match step.kind:
            case "acquire":
                return ("gets the lock" + waited, True) if waited else ("", self.stands[number - 1][taken.task].foreign)
            case "park":
                return (f"wakes up{waited}" if waited else "is woken already"), True
            case "join":
                return f"{self.names[cast('Task', step.of).number]} has ended", True
            case "touch":
                return f"touches {step.label}{'' if self.stands[number - 1][taken.task].holds else ' without the lock'}", True
            case "point":
                return step.label, True
            case "choose":
                return f"{step.label}: {('no', 'yes')[int(how)] if step.options <= 2 else how}", True
            case "settle":
                return "goes on: nobody else can", True
            case "exit":
                return "ends", True
            case "begin":
                return "begins", not self.tasks[taken.task].daemon
            case _:
                return "", False

    def _title(self, number: int, task: int) -> str:
        """Return the name of the function whose critical section it is."""
        run, name = 0, ""
        for what in self.log.get((number, task), ()):
            if isinstance(what, Event) and what.what not in _ASIDE:
                run, name = what.run, what.what
        if number and not name and self.taken[number - 1].step.kind == "acquire" and self.taken[number - 1].how == "":
            stand = self.stands[number - 1][task]
            name = stand.where.rpartition(".")[2] + (f", line {stand.line}" if stand.foreign else "")
        old = run and any(later > run for later in self.windows) and name != "start"
        return f"{name}{self._of(run) if old or name == 'start' else ''}:" if name else ""

    def _of(self, run: int) -> str:
        return f" of run {run}" if self.runs > 1 and run else ""

    def _calls(self, number: int, task: int) -> list[tuple[str, bool]]:
        """Say what was called, and whether that was before the end of the critical section."""
        log = self.log.get((number, task), [])
        sections = [place for place, what in enumerate(log) if isinstance(what, Event) and what.what not in _ASIDE]
        run = cast("Event", log[sections[0]]).run if sections else 1
        last = sections[-1] if sections else len(log)
        return [
            (self._call(number, run, what), place <= last and not (isinstance(what, Event) and what.what in _ASIDE)) for place, what in enumerate(log)
        ]

    def _call(self, number: int, run: int, what: Call | Event | _Unpark) -> str:
        tally = self.windows.setdefault(run, _Tally())
        if isinstance(what, _Unpark):
            self.woken[what.parker] = number
            owner = self.look.owners.get(what.parker)
            if owner is None:
                return ""  # nobody has ever parked on it
            stands = self.stands[number]
            step = stands[owner].step if owner < len(stands) else None
            old = step is not None and step.kind == "park" and step.of is not what.parker
            return f"unpark {self.names[owner]}{' (for a wait that is over)' if old else ''}"
        if isinstance(what, Call):
            tally.count(what)
            return _said(what)
        if what.what == "start" and what.args:
            tally.workers, tally.size = cast("tuple[int, int]", what.args[:2])
            return f"{_times(tally.workers, 'worker')}, queue of {tally.size}"
        if what.what == "stop returns":
            return f"stop{self._of(what.run)} returns {what.got}"
        if what.what == "ring":
            return f"rings the bell{self._of(what.run)}"
        if isinstance(what.got, str) and not what.got.startswith("after "):
            return f"raises {what.got}"
        return ""

    def _then(self, task: int, before: Step | None, after: _Stand) -> str:
        """Say for what a thread begins to wait now."""
        step = after.step
        if step is None:
            return "ends" if self.tasks[task].finished and not self.tasks[task].joinable else ""
        if not after.blocked or before is step:
            return ""
        limit = "" if step.deadline is None else f", until {step.deadline:g} s"
        match step.kind:
            case "acquire":
                return f"waits for the lock of {self.names[after.by or 0]}"
            case "park":
                return f"parks{f' for {FOR[after.where][0]}' if after.where in FOR else ''}{limit}{f' (line {after.line})' if after.foreign else ''}"
            case "join":
                return f"waits for {self.names[after.by or 0]} to end{limit}"
            case _:
                return "waits until nobody else can go on"

    def waiting(self) -> list[str]:
        """Say who waits in the end, since when, and for what."""
        said: list[str] = []
        for task, stand in enumerate(self.stands[-1]):
            if stand.step is None or not stand.blocked or stand.step.kind == "settle":
                continue
            where = f" (in {stand.where}, line {stand.line})" if stand.where else ""
            match stand.step.kind:
                case "park":
                    since, woken = self.since[-1].get(task, 0), self.woken.get(cast("SimParker", stand.step.of))
                    last = "nobody has woken it" if woken is None else f"it was last woken in step {woken}"
                    what = f"is parked{f' and waits for {FOR[stand.where][1]}' if stand.where in FOR else ''}; {last}"
                case "acquire":
                    since, what = self.since[-1].get(task, 0), f"waits for the lock that {self.names[stand.by or 0]} holds"
                case _:
                    since, what = self.since[-1].get(task, 0), f"waits for {self.names[stand.by or 0]} to end"
            said.append(f"{self.names[task]}: since step {since} {what}{where}")
        return said

    def tallies(self) -> list[str]:
        """Say what has come of each window."""
        return [f"run {run}: {tally}" if self.runs > 1 else str(tally) for run, tally in self.windows.items() if tally.size]


def _by_step(look: _Look) -> dict[tuple[int, int], list[Call | Event | _Unpark]]:
    found: dict[tuple[int, int], list[Call | Event | _Unpark]] = {}
    for number, task, what in look.log:
        found.setdefault((number, task), []).append(what)
    return found


_ASIDE: Final = {"ring", "exits", "join", "stop returns"}
"""Events that are no critical sections."""


@dataclass(slots=True)
class _Tally:
    """What a window was asked, counted."""

    workers: int = 0
    size: int = 0
    claimed: int = 0
    taken: int = 0
    ready: set[int] = field(default_factory=set[int])

    def count(self, call: Call) -> None:
        """Another call."""
        result = call.result
        if call.name == "claim" and isinstance(result, int):
            self.claimed = max(self.claimed, result + 1)
        elif call.name == "put":
            self.ready.add(cast("int", call.args[0]))
        elif call.name == "take" and result != "nothing":
            rank = result if isinstance(result, int) else min(self.ready, default=self.taken)
            self.ready.discard(rank)
            self.taken = max(self.taken, rank + 1)
        elif call.name == "stop":
            self.ready.clear()

    def __str__(self) -> str:
        ready = ", ".join(map(str, sorted(self.ready))) or "none"
        return f"{_times(self.claimed, 'rank')} claimed, {self.taken} taken, ready to take: {ready}; max_queue_size={self.size}"


def _said(call: Call) -> str:
    """Say what a window was asked, and what it has answered."""
    args, result = call.args, call.result
    rank = f"rank {result}" if isinstance(result, int) else "none"
    match call.name:
        case "claim":
            return f"claim -> turn of epoch {result[1]}" if isinstance(result, tuple) else f"claim -> {rank}"
        case "take":
            return f"take -> {'an item that is None' if result is None else rank}"
        case "put":
            return f"put rank {args[0]}{' (None)' if args[1] is None else ''}"
        case "finish":
            return f"end before rank {args[0]}{'' if args[1] is None else f': {args[1]}'}"
        case "turned":
            if len(args) == 1:
                return f"turn failed: {args[0]}"
            return "turned: no end" if cast("int", args[0]) >= sys.maxsize else f"turned: ranks below {args[0]}"
        case "conclude":
            return f"conclude -> {'the end' if result is None else result}"
        case "start" | "stop":
            return f"{call.name} the window"
        case _:
            return f"{call.name}{f' {args[0]}' if args else ''}"


def _names(tasks: Sequence[Task]) -> list[str]:
    """Return short names; of two threads with the same, the second is "... (2)"."""
    names: list[str] = []
    for task in tasks:
        short = task.name.removeprefix("enqueuer-")
        count = 1
        while (name := short if count == 1 else f"{short} ({count})") in names:
            count += 1
        names.append(name)
    return names


def _times(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# writing


@dataclass(frozen=True, slots=True)
class _Page:
    """Where it is written: how wide, with which marks, with how many characters before the first column."""

    width: int
    marks: Marks
    gutter: int


def lanes(scenario: Scenario, report: Report, *, width: int = 80, marks: Marks = PLAIN) -> list[Line]:
    """Tell the execution of which a report has the steps: the one that has failed, or the last.

    Args:
        scenario: What was explored.
        report: What came of it.
        width: Characters of a line.
        marks: How the states of threads are drawn.

    Raises:
        CheckerError: The scenario does not do the same again.
    """
    look = _Look()
    choices = write([step.choice for step in report.taken if step.choice is not None])
    again = replay(replace(scenario, body=partial(look.play, scenario.body), blame=partial(look.stuck, scenario.blame)), choices)
    if [(step.task, step.step.kind, step.how) for step in again.taken[: len(report.taken)]] != [
        (step.task, step.step.kind, step.how) for step in report.taken
    ]:
        raise CheckerError(f"{scenario.name} does not do the same when it is looked at: {again} is not {report}")
    tale = _Tale(look, report)
    places = _places(tale)
    page = _Page(width, marks, max(GUTTER, len(str(len(report.taken))) + 3))
    size = (width - page.gutter) // (max(places) + 1) - 1
    told = _columns(tale, places, min(size, BROAD), page) if size >= NARROW else _list(tale, page)
    return [*told, ("", ""), *_verdict(tale, report, width)]


def _columns(tale: _Tale, places: Sequence[int], size: int, page: _Page) -> list[Line]:
    marks = page.marks
    legend = (
        f"Time goes down. The thread of a row does what stands there ({marks.acts}), meanwhile another could go on ({marks.goes}), "
        f"waits ({marks.waits}), or waits for the lock ({marks.locked}); {marks.holds} has the lock. Numbers are steps; those that are missing "
        "change nothing here."
    )
    lines: list[Line] = [*_wrapped(legend, page.width, "dim"), ("", "")]
    heads = [""] * (max(places) + 1)
    shown: set[int] = set()
    for task, place in enumerate(places):
        if not heads[place]:
            heads[place] = tale.names[task]
            shown.add(task)
    lines.append((_cells([head[:size] for head in heads], size, page), "bold"))
    lines.append((_cells([marks.line * size] * len(heads), size, page), "dim"))
    for row in tale.rows:
        lines += _across(row.before, page)
        beside = [""] * len(heads)
        for task in shown:
            beside[places[task]] = _lane(row, task, marks) or beside[places[task]]
        number = str(row.number)
        for text, holds in row.does:
            for part in textwrap.wrap(text.replace("->", marks.to), size - 2, subsequent_indent="  ") or [""]:
                cells = list(beside)
                cells[places[row.task]] = f"{marks.holds if holds else marks.acts if number else marks.goes} {part}"
                lines.append((_cells(cells, size, page, number), ""))
                number = ""
        for task in range(len(row.states)):  # a thread that comes later, in the column of one that has ended
            if task not in shown:
                shown.add(task)
                cells = list(beside)
                cells[places[task]] = f"{tale.names[task]} ".ljust(size, marks.line)
                lines.append((_cells(cells, size, page), "bold"))
        lines += _across(row.after, page)
    return lines


def _cells(cells: Iterable[str], size: int, page: _Page, number: str = "") -> str:
    return (f"{number:>{page.gutter - 2}}  " + " ".join(cell.ljust(size) for cell in cells)).rstrip()


def _places(tale: _Tale) -> list[int]:
    """Return the column of each thread: its own, or that of one that had ended when it was started."""
    places: list[int] = []
    last: list[int] = []  # who is in a column
    for task in range(len(tale.names)):
        begun = next((number for number, stands in enumerate(tale.stands) if task < len(stands)), 0)
        place = next((place for place, other in enumerate(last) if place and tale.stands[begun - 1][other].step is None), len(last))
        last[place : place + 1] = [task]
        places.append(place)
    return places


def _lane(row: _Row, task: int, marks: Marks) -> str:
    """Return how another thread stands beside a row."""
    stand = row.states[task] if task < len(row.states) else None
    if stand is None or stand.step is None:
        return ""
    if stand.holds:
        return marks.holds
    if not stand.blocked:
        return marks.goes
    return marks.locked if stand.step.kind == "acquire" else marks.waits


def _list(tale: _Tale, page: _Page) -> list[Line]:
    """Rows as lines, where columns would be narrow."""
    width, marks = page.width, page.marks
    legend = "Time goes down, a line for each step: its number, who, and what. [ ]: with the lock. Numbers that are missing change nothing here."
    lines: list[Line] = [*_wrapped(legend, width, "dim"), ("", "")]
    for row in tale.rows:
        lines += _across(row.before, page)
        held = [text for text, holds in row.does if holds]
        free = [text for text, holds in row.does if not holds]
        said = "; ".join(([f"[{'; '.join(held).replace(':; ', ': ')}]"] if held else []) + free)
        head = f"{row.number:>{page.gutter - 2}}  {tale.names[row.task]}: "
        lines += [(line, "") for line in textwrap.wrap(head + said.replace("->", marks.to), width, subsequent_indent=" " * (page.gutter + 2))]
        lines += _across(row.after, page)
    return lines


def _across(text: str, page: _Page) -> list[Line]:
    """Return a line across all columns, if there is something to say."""
    line = page.marks.line
    return _wrapped(f"{line * 3} {text}", page.width, "yellow", fill=line, indent=page.gutter) if text else []


def _verdict(tale: _Tale, report: Report, width: int) -> list[Line]:
    failure = report.failure
    waiting = tale.waiting()
    lines: list[Line] = []
    if failure is None:
        lines += _wrapped("kept: this schedule breaks no promise", width, "bold green")
    else:
        clause = next((clause for clause in CONTRACT if clause.id == failure.guarantee), None)
        stuck = failure.kind in {"deadlock", "leak"} and bool(waiting)
        found = f"{failure.kind}: {'these threads wait for ever' if stuck else failure.what}"
        lines += _wrapped(found, width, "bold red")
        lines += [line for text in (waiting if stuck else ()) for line in _wrapped(f"  {text}", width, "red")]
        if clause is not None:
            lines += _wrapped(f"broken: {clause.id}, {clause.name}: {clause.text}", width, "bold red")
    lines += [line for text in tale.tallies() for line in _wrapped(f"in the end: {text}", width, "")]
    return lines


def _wrapped(text: str, width: int, style: str, *, fill: str = "", indent: int = 0) -> list[Line]:
    lead = len(text) - len(text.lstrip()) + 2
    lines = textwrap.wrap(text, width - indent - len(fill), subsequent_indent=" " * lead)
    if fill and lines:
        lines[-1] = f"{lines[-1]} ".ljust(width - indent, fill).rstrip()
    return [(" " * indent + line, style) for line in lines]


def marks_for(file: TextIO) -> Marks:
    """Return those that the stream's encoding can write."""
    try:
        "".join(astuple(BOX)).encode(file.encoding or "ascii")
    except (UnicodeError, LookupError):
        return PLAIN
    return BOX
