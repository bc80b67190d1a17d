"""The event record: what the critical sections of a run did, in the order in which they happened.

One record for whoever looks at runs: traces that are checked against the specs, lanes of an explored schedule, timelines. Recording is a
runtime like any other, given to the enqueuer that is to be watched; without one, nothing of this is imported and nothing is paid:

    recorder = Recorder()
    enqueuer = OrderedEnqueuer(sequence, runtime=recorder.runtime)
    ...
    text = to_lines(recorder.events)       # one JSON object a line; from_lines() reads it back

A record says what was called and what came back, never what the window looked like: that is for the reader to work out, from a model.

How it sees everything without a hook in the code: the lock that the runtime makes knows who takes it (the name of the method that stands
around `with self._lock`) and writes one record at the end of the outermost `with`, before it is released. A run gets its number, and a
window that notes its calls, in the critical section that makes it the enqueuer's. So does the engine of process mode: its lock tells of
processes that come and go, and a pipe that notes its messages of what the thread that owns one did with it.

Limits: one recorder watches one enqueuer. Whoever interrupts a thread by a signal may do so inside the recorder, which is no C code as the
real lock is: the lock may stay held. To try interrupts, let a parker raise them.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from types import FrameType, TracebackType
from typing import Final, Protocol, TypeAlias, TypeVar, cast

from .. import Place, Plan, Span
from .._border import HEADER, Kind
from .._enqueuers import SequenceEnqueuer
from .._processes import Processes, _Died, _Worker
from .._run import Run
from .._runtime import REAL
from .._shared import Slot
from .._types import Lock, Parker, Process, Runtime, Thread
from .._window import NOTHING, Turn, Window

__all__ = ["Call", "Event", "Misfit", "Recorder", "from_lines", "replay", "to_lines"]

T = TypeVar("T")

Value: TypeAlias = int | float | str | bool | None
Values: TypeAlias = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """What a critical section called: a method of the window, or `unpark` of somebody's parker. Where a process has died: its `exitcode`.

    Attributes:
        name: Of the method.
        args: A rank or a worker is its number; an item is "item", or None if it is `None`; an error is the name of its type.
        result: A rank; `("turn", epoch, rank)`; "nothing" where there is nothing to take; None.

    `turned` has the arguments `(end, last)` of the span, or the name of an error. `take` returns the rank of the item, or None if that is
    `None`. Only calls from outside of the window are there, not those by which its methods use each other.
    """

    name: str
    args: Values = ()
    result: Value | Values = None


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody did, at one moment.

    Attributes:
        run: Number of the run, counted from 1 in the order in which runs became the enqueuer's.
        who: "worker-0", "boot" (the thread that starts the workers), or the name of the thread that consumes, starts or stops.
        what: Name of the method whose critical section this is, as it stands in the code; or one of those without a lock:
            "stop returns" and "join" (of a worker's thread), which stand after what they waited for, "ring", which stands before it rings, and
            "exits", the last that a worker's thread does. Of worker processes: `_start`, `_await` (it is ready), `_bury` (which has two),
            `halt` and `kill` are critical sections of the engine; `send` (the state) and `begin`, which stand before what they do, and
            `receive`, which stands after, are messages.
        args: Of `start`: workers, max_queue_size, barrier, serial, rotating, epochs, and the place where the plan starts (epoch, position, rank);
            with worker processes, how often an item is computed again, too.
            Of `stop returns`: the timeout. Of `join`: the worker. Of `_start` and `_bury`: the worker that the process is, or was, for.
            Of `begin`: epoch and index of each item that is asked for. Of `receive`: those of the item that the answer should be to.
        calls: What was called in it, in that order.
        got: What came of it, where no call says so: the name of the exception that leaves the critical section; "after ..." with the name of
            the one that was being handled when it began; what `stop` returned; what was received: "ready", "item", "error", "end", or "died".
        clock: Seconds since the recorder was made.
    """

    run: int
    who: str
    what: str
    args: Values = ()
    calls: tuple[Call, ...] = ()
    got: Value = None
    clock: float = 0.0

    def call(self, name: str) -> Call | None:
        """Return the last call of that name, None if there is none."""
        return next((call for call in reversed(self.calls) if call.name == name), None)

    def line(self) -> str:
        """Return it as a line of JSON: `[run, who, what, args, [[name, args, result], ...], got, clock]`."""
        calls = [[call.name, list(call.args), call.result] for call in self.calls]
        return json.dumps([self.run, self.who, self.what, list(self.args), calls, self.got, self.clock])

    def __str__(self) -> str:
        calls = "; ".join(
            f"{call.name}({', '.join(map(str, call.args))})" + (f" = {call.result}" if call.result is not None else "") for call in self.calls
        )
        got = "" if self.got is None else f" -> {self.got}"
        return f"run {self.run} {self.who} {self.what}{self.args or ''}: {calls}{got}"


def to_lines(events: Iterable[Event]) -> str:
    """Return a log as text, an event a line."""
    return "".join(event.line() + "\n" for event in events)


def from_lines(text: str) -> list[Event]:
    """Return the log that was written as this text."""
    return [_event(json.loads(line)) for line in text.splitlines()]


def _event(read: list[object]) -> Event:
    run, who, what, args, calls, got, clock = read
    made = tuple(
        Call(name, tuple(given), tuple(result) if isinstance(result, list) else result)
        for name, given, result in cast("list[tuple[str, list[Value], list[Value] | Value]]", calls)
    )
    return Event(
        cast("int", run), cast("str", who), cast("str", what), tuple(cast("list[Value]", args)), made, cast("Value", got), cast("float", clock)
    )


# recording


@dataclass(slots=True)
class _Section:
    """A critical section that is under way."""

    what: str
    of: Run[object] | Processes[object]
    after: str | None
    owner: SequenceEnqueuer[object] | None = None  # whose start() it is
    args: Values = ()
    calls: list[Call] = field(default_factory=list[Call])


class _Here(threading.local):
    """What a thread is, and which critical section it is in."""

    who: str | None = None
    section: _Section | None = None


class Recorder:
    """Records one enqueuer, which is given its `runtime`; see the module."""

    def __init__(self, runtime: Runtime = REAL) -> None:
        self.events: Final[list[Event]] = []
        self.runtime: Final[Runtime] = _Recording(self, runtime)
        self.here: Final = _Here()
        self._clock: Final = runtime.clock
        self._since: Final = runtime.clock()
        self._runs = 0

    def who(self) -> str:
        """Return the name of the current thread."""
        return self.here.who or threading.current_thread().name

    def add(self, run: int, what: str, args: Values = (), calls: Iterable[Call] = (), got: Value = None) -> None:
        """Write a record."""
        self.events.append(Event(run, self.who(), what, args, tuple(calls), got, round(self._clock() - self._since, 6)))

    def watch(self, run: Run[T]) -> None:
        """Let a run note what it calls. With the lock held, if anybody else knows the run."""
        if not isinstance(run, _Watched):
            vars(run)["_window"] = _Noting(cast("Window[object]", run._window), self)
            vars(run)["recorder"] = self
            vars(run)["number"] = 0
            run.__class__ = _watched(_Watched, type(run))
            engine = cast("object", run._terms.compute)
            if isinstance(engine, Processes):
                made = cast("Processes[object]", engine)
                vars(made)["recorder"] = self
                vars(made)["number"] = 0
                made.__class__ = _watched(_Employing, type(made))

    def enter(self, frame: FrameType) -> _Section | None:
        """A lock was taken, there: return the critical section that begins, None if it is not a run's."""
        code, subject = frame.f_code, frame.f_locals.get("self")
        if isinstance(subject, _Employing):
            worker = frame.f_locals.get("number", frame.f_locals.get("worker"))
            return _Section(code.co_name, cast("Processes[object]", subject), None, args=() if worker is None else (worker,))
        run, owner = subject, None
        if isinstance(subject, SequenceEnqueuer):
            owner = cast("SequenceEnqueuer[object]", subject)
            run = frame.f_locals.get("run") if code.co_name == "start" else None
        if not isinstance(run, Run):
            return None
        made = cast("Run[object]", run)
        self.watch(made)
        handled = _name(sys.exception())
        self.here.section = _Section(code.co_name, made, handled and f"after {handled}", owner)
        return self.here.section

    def leave(self, section: _Section, error: BaseException | None) -> None:
        """It ends: its lock is about to be released."""
        self.here.section = None
        number, args = _number(section.of), section.args
        if isinstance(section.of, Run):
            run, engine = section.of, section.of._terms.compute
            if section.owner is not None:
                if number or section.owner._run is not run:
                    return  # another is on, or it has failed to start
                args = (*_terms(run), *((section.owner._retries,) if isinstance(engine, Processes) else ()))
            if not number:
                self._runs += 1
                number = vars(run)["number"] = self._runs
                if isinstance(engine, Processes):
                    vars(cast("object", engine))["number"] = number
        self.add(number, section.what, args, section.calls, _name(error) or section.after)

    def note(self, call: Call) -> None:
        """The current critical section, if this thread is in one, has called something."""
        section = self.here.section
        if section is not None:
            section.calls.append(call)


def _name(error: object) -> str | None:
    return None if error is None else type(error).__name__


def _number(run: object) -> int:
    return cast("int", vars(run)["number"])


def _terms(run: Run[T]) -> Values:
    terms = run._terms
    plan = terms.plan
    start = plan.start
    return (
        terms.workers,
        terms.max_queue_size,
        plan.barrier,
        plan.serial,
        plan.rotating,
        plan.epochs,
        start.epoch,
        start.position,
        start.rank,
    )


class _Watched(Run[T]):
    """What a recorded run does besides."""

    recorder: Recorder
    number: int

    def stop(self, timeout: float | None) -> bool:
        try:
            stopped = super().stop(timeout)
        except BaseException as error:
            self.recorder.add(self.number, "stop returns", (timeout,), got=_name(error))
            raise
        self.recorder.add(self.number, "stop returns", (timeout,), got=stopped)
        return stopped

    def ring(self) -> None:
        here = self.recorder.here
        self.recorder.add(self.number, "ring")
        section, here.section = here.section, None  # whom it wakes, it wakes from outside, also where it interrupts a critical section
        try:
            super().ring()
        finally:
            here.section = section


class _Employing(Processes[T]):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - final for everybody else
    """What the engine of a recorded run does besides."""

    recorder: Recorder
    number: int

    def _start(self, number: int) -> _Worker:
        one = super()._start(number)
        vars(one)["recorder"] = self.recorder
        vars(one)["number"] = self.number
        one.__class__ = _Telling
        return one


class _Telling(_Worker):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - final for everybody else
    """A worker process whose messages are noted."""

    recorder: Recorder
    number: int

    def begin(self, places: list[tuple[int, int]], slots: list[Slot | None]) -> None:
        self.recorder.add(self.number, "begin", tuple(each for place in places for each in place))
        super().begin(places, slots)

    def send(self, *parts: bytes | memoryview) -> None:
        if HEADER.unpack_from(parts[0])[1] == Kind.STATE:
            self.recorder.add(self.number, "send")
        super().send(*parts)

    def receive(self) -> tuple[int, memoryview]:
        place = self.begun[0] if self.begun else ()
        try:
            kind, message = super().receive()
        except _Died:
            self.recorder.add(self.number, "receive", place, [Call("exitcode", (), self.exitcode())], "died")
            raise
        self.recorder.add(self.number, "receive", place, got=Kind(kind).name.lower())
        return kind, message


def _watched(watching: type[object], kind: type[T]) -> type[T]:
    return cast("type[T]", type(watching.__name__, (watching, kind), {}))


@dataclass(frozen=True, slots=True)
class _Ranked:
    """An item in a recorded window, which knows its rank."""

    rank: int
    item: object


class _Noting:
    """A window that notes what it is asked, and is otherwise the one that it is put around."""

    __slots__ = ("_inner", "_note")

    def __init__(self, inner: Window[object], recorder: Recorder) -> None:
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_note", recorder.note)

    def __getattr__(self, name: str) -> object:
        value = getattr(object.__getattribute__(self, "_inner"), name)
        return partial(_ask, object.__getattribute__(self, "_note"), name, value) if name in _CHANGING else value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_inner"), name, value)


class _Method(Protocol):
    def __call__(self, *args: object) -> object: ...


def _ask(note: Callable[[Call], None], name: str, method: _Method, *given: object) -> object:
    """Call a method of a window and note it. Items are handed in with their ranks, so that it can be told which one comes out."""
    args = given
    if name == "put" and given[1] is not None:
        args = given[0], _Ranked(cast("int", given[0]), given[1])
    result = method(*args)
    note(Call(name, _given(name, given), _shown(result) if name in _TELLING else None))
    return result.item if isinstance(result, _Ranked) else result


_TELLING: Final = {"claim", "conclude", "take"}
_CHANGING: Final = {*_TELLING, "start", "put", "finish", "lost", "turned", "stop"}
"""The methods that change a window."""


def _given(name: str, args: tuple[object, ...]) -> Values:
    """Show what a method was given."""
    if name == "put":
        return cast("int", args[0]), None if args[1] is None else "item"
    if name in {"finish", "lost"}:
        return cast("int", args[0]), _name(args[1])
    if name == "turned":
        return (_name(args[0]),) if isinstance(args[0], BaseException) else (cast("Span", args[0]).end, cast("Span", args[0]).last)
    return cast("Values", args)


def _shown(result: object) -> Value | Values:
    if result is NOTHING:
        return "nothing"
    if isinstance(result, _Ranked):
        return result.rank
    if isinstance(result, Turn):
        return "turn", result.epoch, result.rank
    return _name(result) if isinstance(result, BaseException) else cast("int | None", result)


class _Lock:
    """A lock that tells what is done under it. Its owner, and nobody else, writes what is not final."""

    def __init__(self, recorder: Recorder, inner: Lock) -> None:
        self._recorder: Final = recorder
        self._inner: Final = inner
        self._depth = 0  # how often its owner has taken it: the outermost critical section is the one that counts
        self._section: _Section | None = None
        self.owned: Final = inner.owned

    def __enter__(self) -> bool:
        entered = self._inner.__enter__()
        self._depth += 1
        if self._depth == 1:
            self._section = self._recorder.enter(sys._getframe(1))
        return entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        try:
            self._depth -= 1
            section = self._section
            if section is not None and not self._depth:
                self._section = None
                self._recorder.leave(section, error)
        finally:
            self._inner.__exit__(kind, error, traceback)


class _Parker:
    def __init__(self, recorder: Recorder, inner: Parker) -> None:
        section, owner = recorder.here.section, recorder.who()
        if section is not None and section.what == "_start_worker":
            owner = f"worker-{len(cast('Run[object]', section.of)._parkers)}"
        self._owner: Final = owner
        self._note: Final = recorder.note
        self._inner: Final = inner
        self.park: Final = inner.park

    def unpark(self) -> None:
        self._note(Call("unpark", (self._owner,)))
        self._inner.unpark()


class _Thread:
    def __init__(self, recorder: Recorder, inner: Thread, who: str, number: int) -> None:
        self._recorder: Final = recorder
        self._who: Final = who
        self._number: Final = number
        self._inner: Final = inner
        self.start: Final = inner.start
        self.is_alive: Final = inner.is_alive

    def join(self, timeout: float | None = None) -> None:
        self._inner.join(timeout)
        self._recorder.add(self._number, "join", (self._who,))


class _Recording:
    """A runtime that records what the real one, or a scheduler's, does."""

    def __init__(self, recorder: Recorder, inner: Runtime) -> None:
        self._recorder: Final = recorder
        self._inner: Final = inner
        self.clock: Final = inner.clock
        self.tell: Final = inner.tell
        self.finalizing: Final = inner.finalizing

    def lock(self) -> Lock:
        return _Lock(self._recorder, self._inner.lock())

    def parker(self) -> Parker:
        return _Parker(self._recorder, self._inner.parker())

    def boot(self, main: Callable[[], None]) -> None:
        self._inner.boot(partial(self._as, "boot", main))

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        who = name.removeprefix("enqueuer-")
        number = _number(cast("partial[None]", target).func.__self__)  # type: ignore[attr-defined]
        return _Thread(self._recorder, self._inner.thread(partial(self._work, number, who, target), name), who, number)

    def _as(self, who: str, main: Callable[[], None]) -> None:
        self._recorder.here.who = who
        main()

    def _work(self, number: int, who: str, target: Callable[[], None]) -> None:
        try:
            self._as(who, target)
        finally:
            self._recorder.add(number, "exits")

    def process(self) -> Process:
        return self._inner.process()


# reading


class Misfit(AssertionError):  # noqa: N818 - what it is
    """An event that the pure window does not allow."""

    def __init__(self, number: int, event: Event, why: str) -> None:
        super().__init__(f"event {number}, {event}: {why}")
        self.number: Final = number
        self.event: Final = event
        self.why: Final = why


@dataclass(slots=True)
class _Replay:
    window: Window[object]
    epoch: int = 0

    def method(self, call: Call) -> Value | Values:
        """Call it again; return what comes back."""
        window, args = self.window, call.args
        result: object = None
        if call.name == "put":
            rank = cast("int", args[0])
            window.put(rank, None if args[1] is None else _Ranked(rank, None))
        elif call.name in {"finish", "lost"}:
            getattr(window, call.name)(args[0], _made(args[1]))
        elif call.name == "turned":
            window.turned(cast("BaseException", _made(args[0])) if len(args) == 1 else self._span(cast("int", args[0]), last=bool(args[1])))
        else:
            result = getattr(window, call.name)(*args)
        return _shown(result) if call.name in _TELLING else None

    def _span(self, end: int, *, last: bool) -> Span:
        return Span(self.window.epoch, self.window.end, None, end, last=last)


def _made(name: Value) -> BaseException | None:
    """Return an error of that name."""
    return None if name is None else cast("BaseException", type(str(name), (BaseException,), {})())


def replay(events: Iterable[Event], kind: Callable[[Plan, int, int], Window[object]] = Window) -> None:
    """Do all of a log again with a pure window of each run, in one thread; raise `Misfit` where something else comes back.

    It also asks that a worker puts, finishes and turns what it has claimed, and takes nothing that is not its own. Who waits for whom is not
    looked at: that takes a model of the monitor.
    """
    runs: dict[int, _Replay] = {}
    for number, event in enumerate(events, 1):
        if event.what == "start" and event.args:
            workers, size, barrier, serial, rotating, epochs, epoch, position, rank = cast(
                "tuple[int, int, bool, bool, bool, int | None, int, int, int]", event.args[:9]
            )
            plan = Plan(barrier=barrier, serial=serial, rotating=rotating, epochs=epochs, start=Place(epoch, position, rank))
            runs[event.run] = _Replay(kind(plan, size, workers))
        for call in event.calls:
            if call.name not in _CHANGING:
                continue
            if event.run not in runs:
                raise Misfit(number, event, "its run was never started")
            try:
                _own(event.who, call, runs[event.run].window)
                result = runs[event.run].method(call)
            except (KeyError, LookupError, ValueError) as error:
                raise Misfit(number, event, f"{call.name} is impossible: {error!r}") from None
            if result != call.result:
                raise Misfit(number, event, f"{call.name} would have returned {result!r}")


def _own(who: str, call: Call, window: Window[object]) -> None:
    """Whether this is for that worker to do."""
    if call.name in {"put", "finish", "turned"}:
        rank = window.claimed if call.name == "turned" else cast("int", call.args[0])
        holder = window.under_way[rank]
        if who != f"worker-{holder}":
            raise ValueError(f"rank {rank} is worker-{holder}'s")
    if call.name == "claim" and who != f"worker-{call.args[0]}":
        raise ValueError(f"it is {who}'s to claim for itself")
