"""The life of a run: who is there, what they may ask, who is waited for and until when.

Where time matters it is a world's, in which it passes only when nobody can go on.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
from pacing import LIMIT
from schedule_helpers import scenario

from enqueuer import OrderedEnqueuer, Place, Plan, SequenceEnqueuer, Span, WorkerInfo, worker_info
from enqueuer._run import GRACE, Run, Terms
from enqueuer._types import Engine, Parker, Process, Runtime, Thread
from enqueuer._window import Turn, Window
from enqueuer.errors import StartError
from enqueuer.testing.schedule import scenarios
from enqueuer.testing.schedule.explore import explore
from enqueuer.testing.schedule.replay import _Single
from enqueuer.testing.schedule.scenarios import Scene, Stage
from enqueuer.testing.schedule.world import Point, World
from enqueuer.testing.subject import REFERENCE, Numbers, promise

HALF = GRACE / 2


class Clockwork(_Single):
    """One execution, on a machine that has nothing else to do: time passes when nobody can go on, and then up to the next deadline."""

    def choose(self, point: Point) -> int:
        deadlines = [option.task.step.deadline if option.how == "timeout" and option.task.step else None for option in point.options]
        return min(range(len(deadlines)), key=lambda number: deadlines[number] or 0.0)

    def end(self, world: World) -> None:
        pass


def calm(test: Callable[..., None]) -> Callable[..., None]:
    """Execute a test in a world, which is its first argument, once and by clockwork."""

    def run(**given: object) -> None:
        report = explore(scenario(lambda world: test(world, **given)), Clockwork())
        assert report.failure is None, str(report)

    signature = inspect.signature(test)
    vars(run)["__signature__"] = signature.replace(parameters=list(signature.parameters.values())[1:])
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Wrapped:
    """The runtime of a world; its threads take so many seconds to exit, or can't be had; it knows the parkers that are left."""

    def __init__(self, world: World, *, exits: float = 0.0, refuses: bool = False) -> None:
        self.world, self.exits, self.refuses = world, exits, refuses
        self.parkers: weakref.WeakSet[Parker] = weakref.WeakSet()

    def __getattr__(self, name: str) -> object:
        return getattr(self.world.runtime, name)

    def parker(self) -> Parker:
        parker = self.world.runtime.parker()
        self.parkers.add(parker)
        return parker

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        if self.refuses:
            raise RuntimeError("can't start new thread")
        return self.world.runtime.thread(partial(self._linger, target), name)

    def _linger(self, target: Callable[[], None]) -> None:
        target()
        if self.exits:
            self.world.runtime.parker().park(self.exits)


@dataclass
class Notes:
    """An engine that takes so many seconds somewhere, unless it is killed, and fails somewhere. It notes what it is asked, when and by whom."""

    world: World
    slow: Mapping[str, float] = field(default_factory=dict[str, float])
    wrong: Mapping[str, Exception] = field(default_factory=dict[str, Exception])
    killable: bool = False
    plan: Plan = Plan()  # noqa: RUF009 - it is frozen
    asked: list[tuple[str, float, WorkerInfo | None]] = field(default_factory=list[tuple[str, float, WorkerInfo | None]])

    def __post_init__(self) -> None:
        self.parker = self.world.runtime.parker()

    def _do(self, what: str) -> None:
        self.asked.append((what, self.world.now, worker_info()))
        if what in self.slow:
            self.parker.park(self.slow[what])
        if what in self.wrong:
            raise self.wrong[what]

    def open(self, workers: int, ahead: Callable[[int], list[tuple[int, int]]]) -> None:
        self._do("open")

    def turn(self, *, hook: bool) -> int:
        self._do("hook" if hook else "turn")
        return 1

    def item(self, worker: int, epoch: int, index: int, /) -> int:
        self._do("item")
        return epoch

    def leave(self, worker: int) -> None:
        self._do("leave")

    def close(self) -> None:
        self._do("close")

    def halt(self) -> None:
        pass

    def kill(self) -> bool:
        self._do("kill")
        if self.killable:
            self.parker.unpark()
        return self.killable

    def times(self, what: str) -> list[float]:
        return [round(when, 6) for asked, when, _ in self.asked if asked == what]


class Own(SequenceEnqueuer[int]):
    """An enqueuer whose sequence is its engine."""

    def make_plan(self, start: Place) -> Plan:
        return replace(cast("Notes", self.sequence).plan, start=start)

    def make_compute(self) -> Engine[int]:
        return cast("Engine[int]", self.sequence)

    def _make_engine(self, plan: Plan, process: Process) -> Engine[int]:
        return self.make_compute()


def own(engine: Notes, runtime: Wrapped | None = None) -> Own:
    made = Own(engine, runtime=engine.world.runtime if runtime is None else cast("Runtime", runtime))
    return Stage(engine.world, REFERENCE).guarded(made)


# who is there


@pytest.mark.parametrize("workers", [1, 3])
@calm
def test_all_workers_count_as_there_until_they_leave_and_the_last_one_closes(world: World, workers: int) -> None:
    engine = Notes(world)
    enqueuer = own(engine)
    enqueuer.start(workers, 2)
    world.settle()
    assert enqueuer.statistics().threads == workers
    assert not engine.times("close")
    assert enqueuer.stop()
    assert enqueuer.statistics().threads == 0
    assert len(engine.times("close")) == 1
    assert [what for what, _, _ in engine.asked[-workers - 1 :]] == ["leave"] * workers + ["close"]


@calm
def test_a_hook_and_what_closes_a_compute_know_their_worker_and_are_no_item(world: World) -> None:
    engine = Notes(world, plan=Plan(barrier=True, epochs=2))
    enqueuer = own(engine)
    enqueuer.start()
    assert list(enqueuer.get()) == [0, 1]
    world.settle()
    infos = {what: info for what, _, info in engine.asked}
    assert [infos[what] for what in ("hook", "leave", "close")] == [WorkerInfo(0, 1, None, None)] * 3


@calm
def test_a_start_that_gets_no_worker_says_what_it_wanted_and_closes_in_the_name_of_one(world: World) -> None:
    """G18."""
    engine = Notes(world)
    with pytest.raises(StartError, match="could not start 1 worker threads"):
        own(engine, Wrapped(world, refuses=True)).start()
    what, _, info = engine.asked[-1]
    assert (what, info) == ("close", WorkerInfo(0, 1, None, None))
    with pytest.raises(StartError, match="could not start 2 worker processes: no more of them"):
        own(Notes(world, wrong={"open": RuntimeError("no more of them")})).start(2)


# who is waited for, and until when


@pytest.mark.parametrize(
    ("slow", "killable", "timeout", "stopped", "when", "kills"),
    [
        ({}, False, 0, True, 0, []),
        ({"item": 0.5}, False, None, True, 0.5, []),
        ({"item": 0.5}, False, 2, True, 0.5, []),
        ({"item": 5}, False, 1, False, 1, [1]),
        ({"item": 5}, True, 1, True, 1, [1]),
        ({"leave": 0.9 * HALF}, True, 0, True, 0.9 * HALF, []),
        ({"leave": 1.5 * HALF}, False, 0, True, 1.5 * HALF, [HALF]),
        ({"leave": 5}, True, 1, True, 1 + HALF, [1 + HALF]),
        ({"close": 1.5 * HALF}, False, 0, True, 1.5 * HALF, [HALF]),
        ({"close": 5}, False, 1, False, 1 + GRACE, [1 + HALF]),
        ({"exit": HALF}, False, 0, True, HALF, []),
        ({"exit": 5}, False, 1, False, 1 + GRACE, []),
        ({"exit": 5}, False, None, True, 5, []),
    ],
)
@calm
def test_a_stop_lets_items_end_until_its_deadline_then_kills_them_and_waits_a_little_longer_for_who_is_on_the_way_out(
    world: World, slow: dict[str, float], killable: bool, timeout: float | None, stopped: bool, when: float, kills: list[float]
) -> None:
    """G14, G15, G20, D15. Who does not leave is killed when half of that time is over, so that there is some for both."""
    engine = Notes(world, slow, killable=killable)
    enqueuer = own(engine, Wrapped(world, exits=slow.get("exit", 0)))
    enqueuer.start(1, 1)
    world.settle()
    assert (enqueuer.stop(timeout), round(world.now, 6)) == (stopped, round(when, 6))
    assert engine.times("kill") == kills
    assert not (stopped and world.left())
    assert enqueuer.stop()
    assert not world.left()


@calm
def test_a_stop_that_is_tried_again_and_again_leaves_nothing_behind(world: World) -> None:
    runtime = Wrapped(world)
    enqueuer = own(Notes(world, {"item": 5}), runtime)
    enqueuer.start(1, 1)
    world.settle()
    before = len(runtime.parkers)
    assert not any(enqueuer.stop(0) for _ in range(5))
    assert len(runtime.parkers) == before
    assert enqueuer.stop()


@calm
def test_what_was_computed_ahead_is_kept_by_nobody_while_a_stop_waits(world: World) -> None:
    """N4, G6: what it does when it is dropped may be what an item under way waits for."""
    parker = world.runtime.parker()

    class Last:
        def __del__(self) -> None:
            parker.unpark()

    class Waiting(Numbers):
        def __getitem__(self, index: int) -> object:
            if index == 0:
                return Last()
            parker.park()
            return index

    enqueuer = Stage(world, REFERENCE).ordered(Waiting(2))
    enqueuer.start(2, 2)
    world.settle()
    assert enqueuer.stop()


def test_an_item_of_an_inner_run_waits_for_a_run_that_is_none_of_its_own() -> None:
    """G14, D23."""
    other = OrderedEnqueuer[object](Numbers(5))
    other.start()

    def item(_: int) -> object:
        with OrderedEnqueuer[object](Numbers(1, lambda _: other.stop())) as inner:
            inner.start()
            return next(inner.get(timeout=LIMIT))

    with OrderedEnqueuer[object](Numbers(1, item)) as outer:
        outer.start(1, 1)
        assert next(outer.get(timeout=LIMIT)) is True


# how it ends, and that it goes on until then


def test_a_run_is_over_as_soon_as_a_finalizer_has_asked_for_its_end() -> None:
    """G14, G19: whatever that has interrupted."""

    def body(world: World) -> None:
        stage = Stage(world, REFERENCE)
        enqueuer = stage.ordered(scenarios.Numbers(stage, 2))
        asked: list[bool] = []
        world.finalize(lambda: asked.append(enqueuer.stop(0)))
        with world.as_it_comes():
            enqueuer.start(1, 1)
        item = next(enqueuer.get(), None)
        promise(item == 0 or asked, "G2", f"{item} came first")
        promise(not (asked and enqueuer.is_running()), "G19", "is_running() after a finalizer has called stop()")
        with world.as_it_comes():
            enqueuer.stop()

    report = explore(scenario(body))
    assert report.verdict == "exhausted", str(report)


@pytest.mark.parametrize(("fails", "kept"), [(("item", "close"), "item"), (("item",), "item"), (("close",), "close")])
@calm
def test_the_error_of_an_item_is_kept_though_the_compute_fails_to_close(world: World, fails: tuple[str, ...], kept: str) -> None:
    """G10: that of the closing is told, and kept where there is no other."""
    wrong = {what: ValueError(what) for what in fails}
    enqueuer = own(Notes(world, wrong=wrong))
    enqueuer.start()
    if "item" in wrong:
        with pytest.raises(ValueError, match="item"):
            next(enqueuer.get())
    assert enqueuer.stop()
    assert enqueuer.statistics().error is wrong[kept]
    assert world.told == [wrong[what] for what in fails if what == "close"]


class Worn(Window[int]):
    """A window that is broken: the second claim raises."""

    def claim(self, worker: int) -> int | Turn | None:
        if self.claimed:
            raise ZeroDivisionError
        return super().claim(worker)


class WornRun(Run[int]):
    def make_window(self) -> Window[int]:
        return Worn(self._terms.plan, self._terms.max_queue_size, self._terms.workers)


class WornOut(Own):
    def make_run(self, terms: Terms[int]) -> Run[int]:
        return WornRun(terms, self)


@calm
def test_a_worker_that_is_lost_for_a_reason_that_is_no_items_is_told_to_the_consumer_that_waits(world: World) -> None:
    """G11, G21."""
    enqueuer = Stage(world, REFERENCE).guarded(WornOut(Notes(world), runtime=world.runtime))
    enqueuer.start(1, 2)
    stream = enqueuer.get()
    assert next(stream) == 0
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert enqueuer.stop()


class Endless:
    """An integer, of which nothing else is known."""

    def __index__(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("span", "error"),
    [(SimpleNamespace(end=1), TypeError), (Span(0, 0, 1, 0), ValueError), (Span(0, 0, 2, cast("int", Endless()), last=True), StopIteration)],
    ids=["is none", "opens nothing", "ends at what is like an integer"],
)
@calm
def test_a_plan_whose_span_is_none_or_opens_nothing_is_told_to_the_consumer(world: World, span: object, error: type[Exception]) -> None:
    """G11, D22."""

    class Odd(Plan):
        def span(self, epoch: int, rank: int, length: int | None) -> Span:
            return cast("Span", span)

    enqueuer = own(Notes(world, plan=Odd()))
    enqueuer.start()
    stream = enqueuer.get()
    with pytest.raises(error):
        while True:
            next(stream)
    assert enqueuer.stop()


class Falsehood(ValueError):
    """An error that is no more than nothing, if it can be asked at all."""

    def __init__(self, *, asked: bool) -> None:
        super().__init__()
        self.asked = asked

    def __bool__(self) -> bool:
        if self.asked:
            raise RuntimeError("it was asked for its truth")
        return False


@pytest.mark.parametrize("asked", [False, True], ids=["is false", "can't be asked"])
@calm
def test_an_error_is_never_asked_for_its_truth(world: World, *, asked: bool) -> None:
    """G10, G14: it would be asked under the lock."""
    error = Falsehood(asked=asked)
    enqueuer = own(Notes(world, wrong={"item": error, "close": ValueError("closing")}))
    enqueuer.start()
    with pytest.raises(Falsehood):
        next(enqueuer.get())
    assert enqueuer.stop()
    assert enqueuer.statistics().error is error


def test_a_worker_whose_turn_it_is_is_woken_though_another_fell_idle_later() -> None:
    """G21."""
    report = explore(Scene("turns-q1", scenarios.turns, 2, 1).of())
    assert report.verdict == "exhausted", str(report)
