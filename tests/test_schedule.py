"""The checker itself: that it tries everything, finds what there is, and never says more than it has seen."""

from __future__ import annotations

import array
import ctypes
import gc
import hashlib
import math
import random
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from types import FrameType

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pacing import LIMIT, wait_for
from schedule_helpers import Watched, scenario, told, tried

from enqueuer.testing.schedule import world as world_module
from enqueuer.testing.schedule.chance import Chance
from enqueuer.testing.schedule.exhaustive import Exhaustive, Rising
from enqueuer.testing.schedule.explore import Scenario, explore, replay
from enqueuer.testing.schedule.guard import Discipline, guard
from enqueuer.testing.schedule.liveness import stand
from enqueuer.testing.schedule.pct import PCT
from enqueuer.testing.schedule.replay import Replay, read, write
from enqueuer.testing.schedule.scenarios import MESSAGES, Stage
from enqueuer.testing.schedule.world import CheckerError, Failure, World
from enqueuer.testing.subject import REFERENCE, BrokenPromise

pytestmark = pytest.mark.timeout(2 * LIMIT)


@pytest.fixture(autouse=True, scope="module")
def nothing_old_is_collected() -> Iterator[None]:
    """Each exploration begins with a collection, which is quick if what pytest has is left out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# what is compared with a model: threads that take locks


Program = tuple[int, ...]
"""What a thread does: a number acquires that lock, -1 releases the latest."""


def _lockers(programs: tuple[Program, ...], world: World) -> None:
    locks = [world.runtime.lock() for _ in range(3)]

    def go(program: Program) -> None:
        held = []
        position = 0
        while position < len(program):
            if program[position] < 0:
                held.pop().__exit__(None, None, None)
            else:
                held.append(locks[program[position]])
                held[-1].__enter__()
            position += 1
        while held:
            held.pop().__exit__(None, None, None)

    for number, program in enumerate(programs):
        world.spawn(f"thread {number}", partial(go, program))


class Model:
    """The same as a graph, by other means: a state is where each thread stands; -1 is before its beginning."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        self.programs = [(*program, *[-1] * (2 * sum(op >= 0 for op in program) - len(program))) for program in programs]
        self.root = (-1,) * len(programs)

    def held(self, thread: int, at: int) -> list[int]:
        """Return the locks that a thread holds, who stands before its step `at`."""
        locks: list[int] = []
        for op in self.programs[thread][: max(at, 0)]:
            if op < 0:
                locks.pop()
            else:
                locks.append(op)
        return locks

    def after(self, thread: int, at: int) -> int:
        """Return where it stands next: before a lock that it does not hold yet, or at its end."""
        program, at = self.programs[thread], at + 1
        while at < len(program) and (program[at] < 0 or program[at] in self.held(thread, at)):
            at += 1
        return at

    def enabled(self, state: tuple[int, ...]) -> list[int]:
        """Return who can go on."""
        found = []
        for thread, at in enumerate(state):
            if at < 0:
                found.append(thread)
            elif at < len(self.programs[thread]):
                others = [lock for other, there in enumerate(state) if other != thread for lock in self.held(other, there)]
                if self.programs[thread][at] not in others:
                    found.append(thread)
        return found

    def step(self, state: tuple[int, ...], thread: int) -> tuple[int, ...]:
        return (*state[:thread], self.after(thread, state[thread]), *state[thread + 1 :])

    @property
    def stuck(self) -> bool:
        """Whether there is a state in which nobody can go on, and not all have ended."""
        return any(not self.enabled(state) and any(at < len(self.programs[thread]) for thread, at in enumerate(state)) for state in self.reached())

    @cache  # noqa: B019 - a model is as long as its test
    def reached(self) -> frozenset[tuple[int, ...]]:
        found, new = {self.root}, [self.root]
        while new:
            state = new.pop()
            following = {self.step(state, thread) for thread in self.enabled(state)} - found
            found |= following
            new += following
        return frozenset(found)

    @property
    def choices(self) -> list[int]:
        """Return how many options there are, for each state in which there is a choice."""
        return [options for state in self.reached() if (options := len(self.enabled(state))) > 1]

    def paths(self, bound: float = math.inf) -> int:
        """Return how many executions there are that take at most so many switches."""

        @cache
        def count(state: tuple[int, ...], current: int | None, left: float) -> int:
            enabled = self.enabled(state)
            total = 0
            for thread in enabled:
                cost = current in enabled and thread != current
                if cost <= left:
                    total += count(self.step(state, thread), thread, left - cost)
            return total if enabled else 1

        return count(self.root, None, bound)


LOCKS = st.lists(st.integers(-1, 2), max_size=4).filter(lambda ops: all(ops[:end].count(-1) * 2 <= end for end in range(len(ops) + 1)))
PROGRAMS = st.lists(LOCKS.map(tuple), min_size=1, max_size=3).map(tuple).filter(lambda programs: Model(programs).paths() <= 300)


@given(PROGRAMS)
@example(((0, 1), (1, 0)))
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_search_takes_every_path_once_and_one_with_a_memory_sees_every_state_once(programs: tuple[Program, ...]) -> None:
    """A cached run ends where a state is seen again, or at an end: so there is one for each option, less those that lead to new states."""
    model = Model(programs)
    body = partial(_lockers, programs)
    cached = explore(scenario(body))
    if model.stuck:
        assert cached.failure is not None
        assert cached.failure.kind == "deadlock"
        assert replay(scenario(body), cached.id).failure == cached.failure
        return
    assert cached.verdict == "exhausted"
    assert cached.states == len(model.choices)
    assert cached.runs == sum(model.choices) - max(len(model.choices) - 1, 0) or 1
    assert explore(scenario(body), Exhaustive(cached=False)).runs == model.paths()
    for bound in range(3):
        search = Exhaustive(bound, cached=False)
        report = explore(scenario(body), search)
        assert report.runs == model.paths(bound)
        assert (report.verdict == "exhausted") == search.complete == (model.paths(bound) == model.paths())


def test_three_threads_on_three_locks_of_their_own() -> None:
    """Two steps each, the beginning and the lock: 6! / 2!^3 paths.

    Of 3^3 states those have a choice in which two threads or three have not ended: 12 and 8, with 2 and 3 options.
    """
    body = partial(_lockers, ((0,), (1,), (2,)))
    assert explore(scenario(body), Exhaustive(cached=False)).runs == math.factorial(6) // 2**3 == 90
    report = explore(scenario(body))
    assert (report.states, report.runs) == (12 + 8, 12 * 2 + 8 * 3 - (12 + 8 - 1))
    assert report.verdict == "exhausted"


def _pointed(points: int, world: World) -> None:
    def go() -> None:
        count = 0
        while count < points:
            world.point("point")
            count += 1

    world.spawn("a", go)
    world.spawn("b", go)


@pytest.mark.parametrize("points", range(5))
def test_two_threads_go_past_one_another_in_so_many_ways(points: int) -> None:
    """Each takes a step more than it has points, the first of which is its beginning: a binomial coefficient, and a square of states."""
    body, steps = partial(_pointed, points), points + 1
    assert explore(scenario(body), Exhaustive(cached=False)).runs == math.comb(2 * steps, steps)
    report = explore(scenario(body))
    assert (report.states, report.runs) == (steps**2, steps**2 + 1)


@pytest.mark.parametrize(("bound", "runs"), [(0, 2), (1, 6), (2, 14), (3, 18), (4, 20), (None, 20)])
def test_under_a_bound_there_are_so_many_paths(bound: int | None, runs: int) -> None:
    """Two threads of three steps, and a switch where one is cut: either can be first, so there are two of each.

    0: both whole. 1: the first is cut, in two ways, and the second is not. 2: each is cut once, in two ways each. 3: the first in three
    pieces, the second in two, in two ways. 4: they take turns at every step.
    """
    assert [2 * ways for ways in (1, 1 + 2, 1 + 2 + 4, 1 + 2 + 4 + 2, 1 + 2 + 4 + 2 + 1)][min(4 if bound is None else bound, 4)] == runs
    search = Exhaustive(bound, cached=False)
    report = explore(scenario(partial(_pointed, 2)), search)
    assert report.runs == runs
    assert report.verdict == ("exhausted" if bound in {4, None} else "not exhausted")


def test_one_thread_is_one_execution() -> None:
    def body(world: World) -> None:
        with world.runtime.lock():
            world.point("alone")

    report = explore(scenario(body))
    assert (report.runs, report.states, report.longest, report.switches, report.id) == (1, 0, 3, 0, "")
    assert [step.step.kind for step in report.taken] == ["acquire", "point", "exit"]


def test_scheduling_points_are_where_they_are_said_to_be() -> None:
    """A lock that is held already is none, nor is waking somebody with a lock held, nor a release, nor starting a thread."""

    def body(world: World) -> None:
        lock, parker = world.runtime.lock(), world.runtime.parker()
        with lock, lock:
            parker.unpark()
        parker.unpark()
        parker.park()
        thread = world.runtime.thread(partial(world.point, "works"), "worker")
        thread.start()
        thread.join()
        world.choose("number", 1)
        world.settle()

    report = explore(scenario(body))
    steps = [(report.threads[step.task], step.step.kind) for step in report.taken]
    mine = [kind for name, kind in steps if name == "main"]
    assert mine == ["acquire", "unpark", "park", "join", "settle", "exit"]
    assert [kind for name, kind in steps if name == "worker"] == ["begin", "point", "exit"]
    assert report.runs == 1


# what is compared between a search with a memory and one without


def _order(world: World) -> object:
    order: list[str] = []
    lock = world.runtime.lock()

    def go(name: str) -> None:
        with lock:
            order.append(name)
        world.point("between")
        with lock:
            order.append(name.upper())

    first = world.spawn("a", partial(go, "a"))
    second = world.spawn("b", partial(go, "b"))
    first.join()
    second.join()
    return tuple(order)


def _nested(world: World) -> object:
    outer, inner, order = world.runtime.lock(), world.runtime.lock(), []

    def go(name: str) -> None:
        with outer:
            with inner:
                order.append(name)
            order.append(name)

    others = [world.spawn("a", partial(go, "a")), world.spawn("b", partial(go, "b"))]
    with inner:
        order.append("main")
    others[0].join()
    others[1].join()
    return tuple(order)


def _permits(world: World) -> object:
    parker, order = world.runtime.parker(), []

    def wake() -> None:
        parker.unpark()
        order.append("once")
        parker.unpark()
        order.append("twice")

    waker = world.spawn("waker", wake)
    parker.park()
    order.append("woken")
    waker.join()
    return *order, parker.permit


def _timeout(world: World) -> object:
    parker = world.runtime.parker()
    other = world.spawn("waker", parker.unpark)
    parker.park(2)
    first = world.runtime.clock()
    parker.park(1)
    second = world.runtime.clock()
    other.join()
    return first, second, parker.permit


def _joins(world: World) -> object:
    order: list[str] = []

    def inner() -> str:
        order.append("inner")
        return "result"

    def outer() -> str:
        child = world.spawn("inner", inner)
        order.append("outer")
        return child.join()

    other = world.spawn("outer", outer)
    world.point("before")
    order.append("main")
    return other.join(), *order


def _choices(world: World) -> object:
    chosen: list[int] = []

    def choose(options: int) -> None:
        number = world.choose("which", options)
        chosen.append(number)

    others = [world.spawn("a", partial(choose, 3)), world.spawn("b", partial(choose, 2))]
    others[0].join()
    others[1].join()
    return tuple(chosen)


def _threads(world: World) -> object:
    order: list[object] = []

    def work() -> None:
        world.point("works")
        order.append("work")

    thread = world.runtime.thread(work, "worker")
    thread.start()
    thread.join(1)
    alive = thread.is_alive()
    order.append((alive, world.runtime.clock()))
    thread.join()
    return tuple(order)


def _interrupts(world: World) -> object:
    parker, lock, order = world.runtime.parker(), world.runtime.lock(), []

    def wake() -> None:
        with lock:
            parker.unpark()

    waker = world.spawn("waker", wake)
    world.interruptible(2)
    try:
        parker.park()
        order.append("woken")
    except KeyboardInterrupt:
        order.append("interrupted")
    try:
        with lock:
            order.append("held")
    except KeyboardInterrupt:
        order.append("kept out")
    world.interruptible(0)
    waker.join()
    return *order, parker.permit


def _finalizers(world: World) -> object:
    lock, order = world.runtime.lock(), []

    def finalize() -> None:
        order.append("owned" if lock.owned() else "free")

    def go() -> None:
        with lock:
            order.append("within")
        world.point("after")

    world.finalize(finalize)
    other = world.spawn("a", go)
    with lock:
        order.append("main")
    other.join()
    return tuple(order)


def _settled(world: World) -> object:
    parker, found = world.runtime.parker(), []

    def work() -> None:
        world.point("works")
        parker.park()

    thread = world.runtime.thread(work, "worker")
    thread.start()
    other = world.spawn("waker", partial(world.point, "soon"))
    left = world.left()
    found += left
    world.settle()
    left = world.left()
    found += left
    parker.unpark()
    thread.join()
    left = world.left()
    other.join()
    return *found, *left


def _refusals(world: World) -> object:
    order: list[str] = []
    threads = [world.runtime.thread(partial(world.point, "works"), f"worker {number}") for number in range(2)]
    started = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            order.append("refused")
            continue
        order.append("started")
        started.append(thread)
    while started:
        started.pop().join()
    return tuple(order)


BODIES = (_order, _nested, _permits, _timeout, _joins, _choices, _threads, _interrupts, _finalizers, _settled, _refusals)
TINY = {body.__name__.strip("_"): body for body in BODIES}


@pytest.mark.parametrize("name", TINY)
def test_a_memory_leaves_nothing_out(name: str) -> None:
    """The same states are reached and the same outcomes, whether an execution is given up at a state that was seen or not."""
    body = TINY[name]
    plain, cached = Watched(Exhaustive(cached=False)), Watched(search := Exhaustive())
    starts = int(body is _refusals)
    all_runs, few_runs = explore(scenario(body, failing_starts=starts), plain), explore(scenario(body, failing_starts=starts), cached)
    assert all_runs.verdict == few_runs.verdict == "exhausted"
    assert plain.states == cached.states == set(search.states)
    assert set(plain.outcomes) == set(cached.outcomes)
    assert len(set(plain.outcomes)) > 1 or name == "settled"
    assert few_runs.runs <= all_runs.runs


def test_a_memory_leaves_nothing_out_of_an_enqueuer() -> None:
    def body(world: World) -> object:
        enqueuer = Stage(world, REFERENCE).ordered(range(2))
        enqueuer.start(1, 1)
        stream = enqueuer.get()
        world.settle()
        item = next(stream)
        world.settle()
        stopped = enqueuer.stop()
        left = world.left()
        return item, stopped, *left

    plain, cached = Watched(Exhaustive(cached=False)), Watched(Exhaustive())
    all_runs, few_runs = explore(scenario(body, messages=MESSAGES), plain), explore(scenario(body, messages=MESSAGES), cached)
    assert all_runs.verdict == few_runs.verdict == "exhausted"
    assert plain.states == cached.states
    assert all(outcome == (0, True) for outcome in plain.outcomes + cached.outcomes)
    assert few_runs.runs < all_runs.runs / 10


# what is found


def _dining(names: str, world: World) -> None:
    """Each thread takes the lock of its name, then that of the next."""
    locks = {name: world.runtime.lock() for name in names}

    def go(mine: str, following: str) -> None:
        with locks[mine], locks[following]:
            pass

    for mine, following in zip(names, names[1:] + names[:1], strict=True):
        world.spawn(mine, partial(go, mine, following))


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_a_lock_order_deadlock_is_found_and_told_and_its_id_replays_it(names: str) -> None:
    tiny = scenario(partial(_dining, names))
    report = explore(tiny)
    assert report.verdict == "broken"
    assert report.failure is not None
    assert report.failure.kind == "deadlock"
    line = _dining.__code__.co_firstlineno + 5
    waits = [
        f"{mine} waits for a lock that {following} holds in _dining.<locals>.go, line {line}"
        for mine, following in zip(names, names[1:] + names[:1], strict=True)
    ]
    assert report.failure.what == "; ".join(waits)
    assert report.threads == ("main", *names)
    assert all(step.step.kind in {"begin", "acquire", "exit"} for step in report.taken)
    again = replay(tiny, report.id)
    assert (again.runs, again.id, again.failure) == (1, report.id, report.failure)
    assert told(again.taken) == told(report.taken)


def test_a_thread_that_waits_for_one_that_waits_for_it_is_told() -> None:
    def body(world: World) -> None:
        parker = world.runtime.parker()
        other = world.spawn("other", parker.park)
        other.join()
        parker.unpark()

    failure = explore(scenario(body)).failure
    assert failure is not None
    assert failure.kind == "deadlock"
    assert "main waits for other to end in " in failure.what
    assert "other is parked, and nobody wakes it in " in failure.what


def _handing(points: bool, world: World) -> None:
    """Two threads wake each other for ever."""
    parkers = [world.runtime.parker(), world.runtime.parker()]

    def go(mine: int) -> None:
        while True:
            parkers[1 - mine].unpark()
            if points:
                world.point("between")
            parkers[mine].park()

    world.spawn("a", partial(go, 0))
    world.spawn("b", partial(go, 1))


def test_threads_that_wake_each_other_for_ever_are_a_livelock() -> None:
    report = explore(scenario(partial(_handing, True)))
    assert report.failure is not None
    assert report.failure.kind == "livelock"
    assert report.failure.what.startswith("a, b can go on for ever, each in its turn")


def test_an_execution_without_a_choice_that_does_not_end_is_a_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module, "MOST_STEPS", 100)

    def body(world: World) -> None:
        while True:
            world.point("again")

    report = explore(scenario(body))
    assert report.failure == Failure("livelock", "", "no end after 100 steps")
    assert report.longest == 101


def test_a_thread_that_spins_while_another_could_go_on_is_no_livelock() -> None:
    """Nothing is promised of a schedule in which somebody never gets a turn."""

    def body(world: World) -> int:
        flag, spun = [False], 0

        def put() -> None:
            world.point("before")
            flag[0] = True

        world.spawn("other", put)
        while not flag[0]:
            world.point("spins")
            spun = 1
        return spun

    report, found = tried(body, Exhaustive())
    assert report.verdict == "exhausted"
    assert set(found) == {1}


def test_threads_that_spin_each_for_itself_are_a_livelock() -> None:
    """No cycle of one of them is fair to the other, but both may go round in turn, and nobody will ever end it."""

    def body(world: World) -> None:
        def spin() -> None:
            while True:
                world.point("spins")

        world.spawn("a", spin)
        world.spawn("b", spin)

    report = explore(scenario(body))
    assert report.failure is not None
    assert report.failure.kind == "livelock"


def _polite(world: World) -> None:
    """Two threads that want the same, and each steps back when it sees the other."""
    wanted = [False, False]

    def go(mine: int) -> None:
        while True:
            wanted[mine] = True
            world.point("wants it")
            other = wanted[1 - mine]
            world.point("has looked")
            if not other:
                break
            wanted[mine] = False
            world.point("steps back")
        wanted[mine] = False

    world.spawn("a", partial(go, 0))
    world.spawn("b", partial(go, 1))


def test_the_id_of_a_livelock_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module, "MOST_STEPS", 1000)
    tiny = scenario(_polite)
    report = explore(tiny)
    assert report.failure is not None
    assert report.failure.kind == "livelock"
    assert replay(tiny, report.id).failure == report.failure


def test_a_thread_of_the_code_that_outlives_the_scenario_is_a_leak() -> None:
    def body(world: World) -> None:
        world.runtime.thread(world.runtime.parker().park, "worker").start()

    report = explore(scenario(body))
    assert report.failure is not None
    assert (report.failure.kind, report.failure.what[:38]) == ("leak", "worker is parked, and nobody wakes it ")


def test_who_is_to_blame_is_asked_of_the_scenario() -> None:
    seen = []

    def blame(failure: Failure, tasks: list[world_module.Task]) -> str:
        seen.append((failure.kind, [task.name for task in tasks]))
        return "G20"

    def body(world: World) -> None:
        world.runtime.thread(world.runtime.parker().park, "worker").start()

    report = explore(Scenario(name="leak", says="", body=body, blame=blame))
    assert str(report.failure).startswith("leak (G20): worker is parked")
    assert seen == [("leak", ["worker"])]


def _broken(error: BaseException, world: World) -> None:
    def go() -> None:
        world.point("before")
        raise error

    world.spawn("other", go).join()


def test_what_a_thread_raises_is_the_failure() -> None:
    report = explore(scenario(partial(_broken, BrokenPromise("G2", "out of order"))))
    assert report.failure == Failure("broken promise", "G2", "out of order")
    report = explore(scenario(partial(_broken, ValueError(3))))
    assert report.failure == Failure("error", "", f"other raised ValueError(3) (_broken.<locals>.go, line {_broken.__code__.co_firstlineno + 3})")
    assert (report.runs, report.verdict) == (1, "broken")


def test_what_a_thread_returns_is_what_join_returns() -> None:
    report, found = tried(_joins, Exhaustive())
    assert report.verdict == "exhausted"
    assert {outcome[0] for outcome in found} == {"result"}
    assert {outcome[1:] for outcome in found} == {("outer", "inner", "main"), ("outer", "main", "inner"), ("main", "outer", "inner")}


# searches under a bound


def _two_switches(fails: bool, world: World) -> bool:
    """The reader must begin before the writer, and come back while the writer is in the midst."""
    flag, seen = [False], []

    def write_twice() -> None:
        flag[0] = True
        world.point("in the midst")
        flag[0] = False

    def read_twice() -> None:
        value = flag[0]
        seen.append(value)
        world.point("between")
        value = flag[0]
        seen.append(value)
        if fails and seen == [False, True]:
            raise BrokenPromise("G2", "the flag was up at last")

    reader, writer = world.spawn("reader", read_twice), world.spawn("writer", write_twice)
    world.settle()
    del reader, writer
    return seen == [False, True]


def test_what_is_found_first_under_a_rising_bound_needs_the_fewest_switches() -> None:
    tiny = scenario(partial(_two_switches, True))
    for bound, kind in ((0, "not exhausted"), (1, "not exhausted"), (2, "broken")):
        for cached in (True, False):
            report = explore(tiny, Exhaustive(bound, cached=cached))
            assert report.verdict == kind, (bound, cached)
    search = Rising()
    report = explore(tiny, search)
    assert report.failure == Failure("broken promise", "G2", "the flag was up at last")
    assert report.switches == search.bound == 2
    assert replay(tiny, report.id).switches == 2


def test_a_rising_bound_ends_when_nothing_is_left_out_or_at_the_most() -> None:
    search = Rising()
    report = explore(scenario(partial(_two_switches, False)), search)
    assert (report.verdict, search.complete) == ("exhausted", True)
    limited = Rising(1)
    report = explore(scenario(partial(_two_switches, False)), limited)
    assert (report.verdict, limited.bound, limited.complete) == ("not exhausted", 1, False)


def _last_writers(threads: int, world: World) -> object:
    """The outcome says who wrote last, in each of two places."""
    places = [0, 0]

    def go(number: int) -> None:
        world.point("first")
        places[0] = number
        world.point("second")
        places[1] += number * (places[0] + 1)

    others = [world.spawn(str(number), partial(go, number)) for number in range(1, threads + 1)]
    while others:
        others.pop().join()
    return tuple(places)


BOUNDED = {"order": _order, "finalizers": _finalizers, "two writers": partial(_last_writers, 2), "three writers": partial(_last_writers, 3)}


@pytest.mark.parametrize(("name", "bound"), list(product(BOUNDED, range(3))))
def test_a_memory_leaves_nothing_out_under_a_bound(name: str, bound: int) -> None:
    """Whose turn it is counts: who goes on with it takes no switch, and the others do. And so does how many switches are left."""
    plain, cached = Watched(Exhaustive(bound, cached=False)), Watched(Exhaustive(bound))
    explore(scenario(BOUNDED[name]), plain)
    explore(scenario(BOUNDED[name]), cached)
    assert set(cached.outcomes) == set(plain.outcomes)
    assert cached.states == plain.states


# what is an error of the checker's, or of who uses it


def test_fewer_options_than_before_are_an_error() -> None:
    executions = iter(range(9))

    def body(world: World) -> None:
        world.choose("number", 3 - _next(executions))

    with pytest.raises(CheckerError, match=r"not deterministic: choice 0 had 3 options and has 2 now \(main \(0\), main \(1\)\)"):
        explore(scenario(body), Exhaustive(cached=False))


def test_an_execution_that_ends_early_is_an_error() -> None:
    executions = iter(range(9))

    def body(world: World) -> None:
        if not _next(executions):
            world.choose("number", 2)

    with pytest.raises(CheckerError, match="the execution ended after 0 of 1 choices that an earlier one had"):
        explore(scenario(body), Exhaustive(cached=False))


def _next(numbers: Iterator[int]) -> int:
    return next(numbers)


def test_another_state_after_the_same_choices_is_an_error() -> None:
    """As many options, and another world."""
    executions = iter(range(9))

    def body(world: World) -> int:
        number = _next(executions)
        world.choose("number", 2)
        return number

    with pytest.raises(CheckerError, match="not deterministic"):
        explore(scenario(body))


def _late(world: World) -> object:
    parker = world.runtime.parker()
    parker.unpark()
    parker.park(1)
    parker.unpark()
    world.choose("again")
    return world.runtime.clock()


def _patient(world: World) -> object:
    world.spawn("other", partial(world.point, "other"))
    parker, patience = world.runtime.parker(), 1 + world.choose("patience")
    parker.park(patience)
    return world.runtime.clock()


def _permitted(world: World) -> object:
    parker = world.runtime.parker()
    if world.choose("permit"):
        parker.unpark()
    world.choose("again")
    return parker.permit


def _held(world: World) -> object:
    lock = world.runtime.lock()
    if world.choose("hold"):
        lock.__enter__()
    world.choose("again")
    return lock.owned()


def _interruptible(world: World) -> object:
    parker = world.runtime.parker()
    parker.unpark()
    if world.choose("interruptible"):
        world.interruptible()
    world.choose("again")
    try:
        parker.park()
    except KeyboardInterrupt:
        return "interrupted"
    return "woken"


def _finalized(world: World) -> object:
    called: list[int] = []
    if world.choose("finalizer"):
        world.finalize(partial(called.append, 1))
    world.choose("again")
    return tuple(called)


def _told(world: World) -> object:
    if world.choose("tell"):
        world.runtime.tell(ValueError())
    world.choose("again")
    return len(world.told)


def _awaited(world: World) -> object:
    """A thread that nobody waits for may stay for ever when it has nothing left to do; but not if somebody has waited, even in vain."""
    thread, parker = world.runtime.thread(int, "worker"), world.runtime.parker()
    thread.start()
    world.spawn("other", partial(world.point, "other"))  # so that there is a choice in both
    if world.choose("wait for it"):
        thread.join(1)
    else:
        parker.park(1)
    before = thread.is_alive()
    world.point("again")
    return before, thread.is_alive(), world.runtime.clock()


def _called(world: World) -> object:
    number = world.choose("number")
    _deep(world)
    return number


def _deep(world: World) -> None:
    world.choose("again")


SEEN = {
    "locals of callers": (_called, {0, 1}),
    "time": (_late, {0.0, 1.0}),
    "deadline": (_patient, {1.0, 2.0}),
    "permit": (_permitted, {False, True}),
    "owner": (_held, {False, True}),
    "interrupts": (_interruptible, {"woken", "interrupted"}),
    "finalizers": (_finalized, {(), (1,)}),
    "what was told": (_told, {0, 1}),
    "whether it is awaited": (_awaited, {(True, True, 1.0), (True, False, 1.0), (False, False, 0.0), (False, False, 1.0)}),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_state_is_all_that_the_future_depends_on(name: str) -> None:
    """Two ways to the same place, and one thing in which they differ: the second is not given up because of the first."""
    body, outcomes = SEEN[name]
    report, found = tried(body, Exhaustive())
    assert report.verdict == "exhausted"
    assert set(found) == outcomes


class Bag(list):
    """A list with something besides."""

    more = 0

    @classmethod
    def of(cls, number: int) -> Bag:
        bag = cls()
        bag.more = number
        return bag


class Rank(int):
    """An integer with a name."""


class Kept:
    def __init__(self, number: int) -> None:
        self.number = number


class Slotted:
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


KEPT = [Kept(0), Kept(1)]
MADE: dict[str, Callable[[int], object]] = {
    "int": lambda number: number,
    "list": lambda number: [0] * number,
    "dict": lambda number: {"key": number},
    "order of a dict": lambda number: {number: 0, 1 - number: 0},
    "set": lambda number: {number},
    "frozenset": lambda number: frozenset([number]),
    "tuple of lists": lambda number: ([number], [1]),
    "the same or another": lambda number: [one := [], [one, []][number]],
    "fields": Kept,
    "slots": Slotted,
    "type": lambda number: (int, str)[number],
    "enum": lambda number: list(re.RegexFlag)[number],
    "function": lambda number: (_bare, _next)[number],
    "closure": lambda number: lambda: number,
    "default": lambda number: lambda x=number: x,
    "method": lambda number: Kept(number).__init__,
    "partial": lambda number: partial(print, number),
    "iterator": lambda number: iter([1, 2][number:]),
    "generator": lambda number: (value for value in [number]),
    "exception": ValueError,
    "cause": lambda number: _caused(KeyError(number)),
    "deque": lambda number: deque([number]),
    "default of a keyword": lambda number: lambda *, x=number: x,
    "weak reference": lambda number: weakref.ref(KEPT[number]),
    "int of its own": Rank,
    "list of its own": Bag.of,
}
"""What makes something of a number."""


def _bare() -> None: ...


def _caused(cause: BaseException) -> BaseException:
    error = ValueError()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("name", list(MADE))
def test_a_state_tells_values_from_others(name: str) -> None:
    """A choice, and another: their states are three if the second sees what the first has made."""
    make = MADE[name]

    def body(world: World) -> None:
        number = world.choose("number")
        value = make(number)
        number = 0
        world.choose("again")
        _ = value

    watched = Watched(Exhaustive(cached=False))
    explore(scenario(body), watched)
    assert len(watched.states) == 3


UNSEEN: dict[str, Callable[[], object]] = {
    "set of objects": lambda: {object()},
    "hash": lambda: hashlib.sha256(b"a"),
    "random": lambda: random.Random(0),
    "array": lambda: array.array("i", [1]),
}


@pytest.mark.parametrize("name", list(UNSEEN))
def test_what_cannot_be_looked_into_is_refused(name: str) -> None:
    def body(world: World) -> None:
        value = UNSEEN[name]()
        world.choose("number")
        _ = value

    assert explore(scenario(body), Exhaustive(cached=False)).verdict == "exhausted"  # no state is asked for
    with pytest.raises(CheckerError, match=r"the state of a .* can't be told"):
        explore(scenario(body))


def test_a_state_tells_what_is_there_from_what_is_not() -> None:
    def body(world: World) -> str:
        if world.choose("number"):
            value = 1
        world.choose("again")
        try:
            del value
        except UnboundLocalError:
            return "nothing"
        return "something"

    watched = Watched(Exhaustive())
    explore(scenario(body), watched)
    assert set(watched.outcomes) == {"nothing", "something"}


def test_a_state_stays_the_same_when_the_interpreter_has_seen_the_code_often() -> None:
    """Two threads of four steps, as above; that they go through a built-in function makes no difference."""

    class Points:
        def __init__(self, world: World) -> None:
            self.world = world

        def __next__(self) -> int:
            self.world.point("next")
            return 1

    def body(world: World) -> None:
        points = Points(world)

        def go() -> None:
            count = 0
            while count < 3:
                next(points)
                count += 1

        world.spawn("a", go)
        world.spawn("b", go)

    watched = Watched(Exhaustive(cached=False))
    report = explore(scenario(body), watched)
    assert report.runs == math.comb(8, 4)
    assert len(watched.states) == 4**2


def test_a_state_does_not_tell_what_nobody_will_read() -> None:
    def body(world: World) -> None:
        number = world.choose("number")
        number += 1
        world.choose("again")

    watched = Watched(Exhaustive(cached=False))
    explore(scenario(body), watched)
    assert len(watched.states) == 2


def test_a_thread_of_another_world_is_refused() -> None:
    errors: list[BaseException] = []

    def body(world: World) -> None:
        lock = world.runtime.lock()

        def go() -> None:
            try:
                with lock:
                    pass
            except BaseException as error:
                errors.append(error)

        stranger = threading.Thread(target=go, name="stranger")
        stranger.start()
        stranger.join()

    with pytest.raises(CheckerError, match="stranger is no thread of this world"):
        explore(scenario(body))
    assert [type(error) for error in errors] == [CheckerError]
    assert str(errors[0]) == "stranger is no thread of this world, and has come to a scheduling point of it"


def test_a_scenario_that_waits_for_something_real_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience begins where it waits, however long it takes the machine to come there."""
    patient = World._wait

    def there() -> bool:
        frames = [frame for frame in sys._current_frames().values() if frame.f_code is waits_for_it.__code__]
        return any(frame.f_lineno == waits_for_it.__code__.co_firstlineno + 1 for frame in frames)

    def impatient(self: World) -> None:
        assert wait_for(there)
        patient(self)

    monkeypatch.setattr(World, "_wait", impatient)
    monkeypatch.setattr(world_module, "PATIENCE", 0.2)
    real, before = threading.Lock(), set(threading.enumerate())

    def waits_for_it() -> None:
        with real:
            pass

    with real, pytest.raises(CheckerError) as caught:
        explore(scenario(lambda world: world.spawn("stuck", waits_for_it).join()))
    where = f"{waits_for_it.__qualname__}, line {waits_for_it.__code__.co_firstlineno + 1}"
    assert str(caught.value).startswith(f"<stuck> has not come to a scheduling point for 0.2 s in {where}: what it waits for there is not")
    for left in set(threading.enumerate()) - before:  # they unwind now; nobody has waited for them

        def ended(left: threading.Thread = left) -> bool:
            left._carriers.close()
            return not left.is_alive()

        assert wait_for(ended)


# everything is tried


def _outcomes(body: Callable[[World], object], *, failing_starts: int = 0) -> set[object]:
    report, found = tried(body, Exhaustive(), failing_starts=failing_starts)
    assert report.verdict == "exhausted"
    return set(found)


def test_a_timeout_comes_before_the_permit_or_does_not() -> None:
    """The first wait ends by the permit at 0, or by its timeout at 2; the second by its own at one more, or by the permit that was late."""
    assert _outcomes(_timeout) == {(0.0, 1.0, False), (2.0, 2.0, False), (2.0, 3.0, True)}


def test_a_join_ends_by_its_timeout_or_by_the_end() -> None:
    assert _outcomes(_threads) == {("work", (False, 0.0)), ("work", (False, 1.0)), ((True, 1.0), "work"), ("work", (True, 1.0))}


@pytest.mark.parametrize("early", [False, True])
def test_an_interrupt_comes_before_the_permit_or_after_it_was_taken(early: bool) -> None:
    def body(world: World) -> object:
        parker = world.runtime.parker()
        waker = world.spawn("waker", parker.unpark)
        if early:
            waker.join()
        world.interruptible()
        try:
            parker.park()
            how = "woken"
        except KeyboardInterrupt:
            how = "interrupted"
        world.interruptible(0)
        waker.join()
        return how, parker.permit

    assert _outcomes(body) == {("woken", False), ("interrupted", True), ("interrupted", False)}


def test_an_interrupt_comes_before_a_lock_and_not_after() -> None:
    def body(world: World) -> object:
        lock = world.runtime.lock()
        world.interruptible()
        try:
            with lock:
                return "held", lock.owned()
        except KeyboardInterrupt:
            return "interrupted", lock.owned()

    assert _outcomes(body) == {("held", True), ("interrupted", False)}


def test_a_finalizer_runs_once_at_most_anywhere() -> None:
    """Before either has the lock, between them, within either, after it, or not at all."""

    def body(world: World) -> object:
        lock, order = world.runtime.lock(), []

        def finalize() -> None:
            order.append("finalizer, owned" if lock.owned() else "finalizer")

        def go() -> None:
            with lock:
                order.append("a")

        world.finalize(finalize)
        with lock:
            order.append("main")
        other = world.spawn("a", go)
        other.join()
        return tuple(order)

    ways = {("main", "a")}
    ways |= {(*("main", "a")[:at], "finalizer", *("main", "a")[at:]) for at in range(3)}
    ways |= {("main", "finalizer, owned", "a"), ("main", "a", "finalizer, owned")}
    assert _outcomes(body) == ways


def test_any_start_may_fail_but_no_more_than_may() -> None:
    assert _outcomes(_refusals) == {("started", "started")}
    assert _outcomes(_refusals, failing_starts=1) == {("started", "started"), ("refused", "started"), ("started", "refused")}
    assert _outcomes(_refusals, failing_starts=2) == {*product(("started", "refused"), repeat=2)}


def test_every_choice_is_made() -> None:
    assert _outcomes(_choices) == {*product(range(3), range(2)), *product(range(2), range(3))}
    assert _outcomes(lambda world: world.choose("alone", 1)) == {0}


def test_settle_waits_for_all_that_goes_on_and_for_no_timeout() -> None:
    def body(world: World) -> object:
        order: list[str] = []

        def work() -> None:
            world.point("works")
            order.append("worked")

        def wait() -> None:
            world.runtime.parker().park(5)
            order.append("waited")

        threads = [world.runtime.thread(work, "worker"), world.runtime.thread(wait, "waiter")]
        threads[0].start()
        threads[1].start()
        world.settle()
        order.append("settled")
        left = world.left()
        order += left
        threads[1].join()
        return tuple(order)

    found = _outcomes(body)
    assert ("worked", "settled", "waiter", "waited") in found
    assert all(outcome.index("worked") < outcome.index("settled") for outcome in found)


# who may touch what


class Box:
    """What is guarded."""

    __slots__ = ("constant", "flag", "waiting")

    def __init__(self) -> None:
        self.constant = 1
        self.flag = False
        self.waiting: list[object] = []


CONSTANT = Discipline({"constant"})


def _alone(discipline: Discipline, touch: Callable[[Box], object], world: World) -> None:
    box = guard(Box(), lock := world.runtime.lock(), discipline)
    with lock:
        assert box.flag is False
        box.flag = True
    touch(box)
    world.choose("later")


def _reads(box: Box) -> object:
    return box.flag


def _writes(box: Box) -> None:
    box.flag = False


@pytest.mark.parametrize("touch", [_reads, _writes])
def test_a_field_that_is_touched_without_the_lock_is_found_at_once(touch: Callable[[Box], object]) -> None:
    report = explore(scenario(partial(_alone, CONSTANT, touch)))
    where = f"{touch.__name__}, line {touch.__code__.co_firstlineno + 1}"
    assert report.failure == Failure("unguarded", "", f"main touched Box.flag without the lock, in {where}")
    assert report.runs == 1


def test_constants_and_exempted_functions_are_not() -> None:
    assert explore(scenario(partial(_alone, CONSTANT, lambda box: box.constant))).verdict == "exhausted"
    assert explore(scenario(partial(_alone, Discipline({"constant"}, {"flag": {"_writes"}}), _writes))).verdict == "exhausted"
    assert explore(scenario(partial(_alone, Discipline({"constant"}, {"flag": {"*"}}), _reads))).verdict == "exhausted"
    assert explore(scenario(partial(_alone, Discipline({"constant"}, {"flag": {"_writes"}}), _reads))).verdict == "broken"


def test_a_field_that_is_shared_without_a_lock_is_a_scheduling_point_where_it_is_asked_for() -> None:
    def body(world: World) -> int:
        box = guard(Box(), world.runtime.lock(), Discipline(set(), {"constant": {"*"}}))

        def add() -> None:
            value = box.constant
            box.constant = value + 1

        others = [world.spawn("a", add), world.spawn("b", add)]
        others[0].join()
        others[1].join()
        return box.constant

    atomic, torn = Watched(Exhaustive()), Watched(Exhaustive())
    explore(scenario(body), atomic)
    explore(scenario(body, touches=frozenset({"constant"})), torn)
    assert set(atomic.outcomes) == {3}
    assert set(torn.outcomes) == {2, 3}


def _flagged(guarded: bool, place: str, world: World) -> None:
    """One waits for a flag that another sets: under the lock before it notifies, or in a wrong place."""
    box, lock = Box(), world.runtime.lock()
    if guarded:
        guard(box, lock, CONSTANT)

    def notify() -> None:
        for parker in box.waiting:
            parker.unpark()

    def put() -> None:
        if place == "without the lock":
            box.flag = True
        with lock:
            if place == "within":
                box.flag = True
            notify()
        if place == "after the notify":
            box.flag = True

    world.spawn("setter", put)
    parker = world.runtime.parker()
    with lock:
        up = box.flag
        if not up:
            box.waiting.append(parker)
    if not up:
        parker.park()
        with lock:
            up = box.flag
    assert up


@pytest.mark.parametrize("place", ["without the lock", "after the notify"])
def test_what_escapes_the_search_does_not_escape_the_guard(place: str) -> None:
    """Nothing runs between the end of a critical section and what follows it, so the search alone sees nothing wrong."""
    assert explore(scenario(partial(_flagged, False, place))).verdict == "exhausted"
    report = explore(scenario(partial(_flagged, True, place)))
    assert report.failure is not None
    assert report.failure.kind == "unguarded"
    assert report.failure.what.startswith("setter touched Box.flag without the lock")
    assert report.runs == 1
    assert explore(scenario(partial(_flagged, True, "within"))).verdict == "exhausted"


# choices that are written down, and choices by chance


@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 12), max_size=40))
def test_what_is_written_can_be_read(choices: list[int]) -> None:
    text = write(choices)
    assert read(text) == choices[: max((at + 1 for at, choice in enumerate(choices) if choice), default=0)]
    assert write(read(text)) == text
    assert "@" not in text


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "a.b", "3.1-2.1", "1.1-1.2", "1.1-", "-1.1", "1.-1", "1000000.1", "1.1.1", "1.1 2.1"])
def test_what_are_no_choices_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="are no choices: they are written as"):
        replay(scenario(_choices), f"tiny@{text}")


def test_choices_of_something_else_are_refused() -> None:
    with pytest.raises(CheckerError, match="choice 0 is to be option 9, and there are 2: these choices are of other code"):
        replay(scenario(_choices), "tiny@0.9")
    with pytest.raises(CheckerError, match=r"it ended after \d of 51 choices: they are of other code, or of another scenario"):
        replay(scenario(_choices), "tiny@50.1")
    assert explore(scenario(_choices), Replay([9] * 60, wrapped=True)).verdict == "not exhausted"


@pytest.mark.parametrize("name", TINY)
def test_an_execution_by_chance_can_be_made_again(name: str) -> None:
    tiny = scenario(TINY[name])
    for seed in range(5):
        once = explore(tiny, Chance(1, seed))
        choices = [step.choice for step in once.taken if step.choice is not None]
        assert told(explore(tiny, Replay(choices)).taken) == told(once.taken)
        assert told(explore(tiny, Chance(1, seed)).taken) == told(once.taken)


@pytest.mark.parametrize(("scheduler", "runs"), [(Chance(100), 2), (PCT(100, depth=2), 2), (PCT(100, depth=3), 3)], ids=["chance", "pct-2", "pct-3"])
def test_chance_finds_a_lock_order_deadlock(scheduler: Chance | PCT, runs: int) -> None:
    report = explore(scenario(partial(_dining, "ab")), scheduler)
    assert report.failure is not None
    assert report.failure.kind == "deadlock"
    assert report.runs == runs


def test_chance_finds_nothing_where_there_is_nothing() -> None:
    for scheduler in (Chance(50), PCT(50)):
        report = explore(scenario(_order), scheduler)
        assert (report.verdict, report.runs, report.states) == ("not exhausted", 50, 0)


def test_priorities_find_what_they_guarantee() -> None:
    """Three ordered moments, three threads, at most five choices: one in 3 * 5 ** 2 executions at least. Chance alone is not promised anything."""
    report, found = tried(partial(_two_switches, False), PCT(1000))
    assert report.longest <= 3 + 6
    assert found.count(True) >= len(found) / (3 * 5**2)
    assert not any(tried(partial(_two_switches, False), PCT(200, depth=1))[1])  # without a change each thread runs to its end


# the house is left in order


@contextmanager
def _in_order() -> Iterator[None]:
    threads, drawn, hook = set(threading.enumerate()), random.getstate(), sys.unraisablehook
    assert gc.isenabled()
    yield
    assert set(threading.enumerate()) == threads
    assert random.getstate() == drawn
    assert sys.unraisablehook is hook
    assert gc.isenabled()


def _draws(world: World) -> float:
    number = random.random()
    world.choose("number")
    return number


HOUSE = {"order": _order, "draws": _draws, "deadlock": partial(_dining, "ab"), "error": partial(_broken, ValueError())}


@pytest.mark.parametrize("body", HOUSE.values(), ids=HOUSE)
def test_nothing_is_left_behind(body: Callable[[World], object]) -> None:
    with _in_order():
        explore(scenario(body))
    gc.disable()
    try:
        explore(scenario(body))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_nothing_is_left_behind_by_an_error_of_the_checker() -> None:
    with _in_order(), pytest.raises(CheckerError):
        replay(scenario(_choices), "tiny@0.9")


def test_whoever_draws_draws_the_same_in_every_execution() -> None:
    _, found = tried(_draws, Exhaustive(cached=False))
    assert found == [random.Random(0).random()] * 2


def test_an_interrupt_between_executions_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["enqueuer.testing.schedule.explore"], "TIDY", 5)
    shown: list[int] = []

    def progress(runs: int, states: int) -> None:
        shown.append(runs)
        raise KeyboardInterrupt

    with _in_order(), pytest.raises(KeyboardInterrupt):
        explore(scenario(partial(_pointed, 30)), Exhaustive(cached=False), progress=progress)
    assert len(shown) == 1
    assert shown[0] % 5 == 0


@pytest.mark.interrupts
def test_an_interrupt_within_an_execution_ends_it(interrupts: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module, "MOST_STEPS", 10**9)

    def body(world: World) -> None:
        world.spawn("other", partial(world.point, "other"))
        armed.open = True
        while True:
            world.point("again")

    with _in_order(), interrupts(0.02) as armed, pytest.raises(KeyboardInterrupt):
        explore(scenario(body), PCT(10**6))


def test_runs_and_seconds_are_limits() -> None:
    assert explore(scenario(partial(_pointed, 30)), runs=7).runs == 7
    assert explore(scenario(partial(_pointed, 30)), seconds=0).runs == 0
    assert explore(scenario(partial(_pointed, 30)), runs=7).verdict == "not exhausted"


# which locals are part of a state


class Poison:
    """Nobody can do anything with it."""

    def __init__(self) -> None:
        self.__dict__["poison"] = True

    def _refuse(self, *_: object, **__: object) -> object:
        raise RuntimeError("poison")

    __add__ = __radd__ = __mul__ = __lt__ = __gt__ = __bool__ = __index__ = _refuse
    __call__ = __iter__ = __next__ = __getitem__ = __len__ = __getattr__ = _refuse


class Stand:
    """A call at which a function stands. It notes where that is, spoils a local there if it is told to, and raises there if it is told to."""

    def __init__(self, spoils: tuple[int, str] | None = None, raises: int | None = None) -> None:
        self.spoils = spoils
        self.raises = raises
        self.seen: list[tuple[int, frozenset[str], frozenset[str]]] = []

    def __call__(self, value: object = None) -> object:
        frame = sys._getframe(1)
        number, names = stand(frame.f_code, frame.f_lasti)
        self.seen.append((number, frozenset(names), frozenset(frame.f_locals)))
        if self.spoils is not None and self.spoils[0] == len(self.seen) - 1:
            _spoil(frame, self.spoils[1])
        if self.raises == len(self.seen) - 1:
            raise LookupError("here")
        return value


def _spoil(frame: FrameType, name: str) -> None:
    frame.f_locals[name] = Poison()
    if sys.version_info < (3, 13):
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))


def straight(here: Stand, x: int) -> object:
    y = x + 1
    here()
    z = x + y
    here()
    x = z
    here()
    return x


def loops(here: Stand, x: int) -> object:
    total, count = 0, 0
    while count < x:
        square = count * count
        here()
        total += square
        here()
        count += 1
    here()
    return total


def breaks(here: Stand, x: int) -> object:
    last = None
    for item in range(x):
        here()
        if item > 1:
            last = item
            break
        here()
    else:
        here()
        last = x
    here()
    return last


def branches(here: Stand, x: int) -> object:
    left, right = x + 1, x + 2
    here()
    if x > 1:
        here()
        return left
    here()
    return right


def tries(here: Stand, x: int) -> object:
    fallback, result = x + 1, 0
    try:
        here()
        result = x + 2
        here()
    except LookupError as error:
        result = fallback
        here()
        result = result + len(error.args)
    here()
    return result


def returns_within(here: Stand, x: int) -> object:
    fallback = x + 1
    try:
        return here(x)
    except LookupError:
        here()
        return fallback


def finally_(here: Stand, x: int) -> object:
    log = (x,)
    try:
        kept = x + 1
        here()
        return kept
    finally:
        here()
        x = len(log)
        here()


def finally_returns(here: Stand, x: int) -> object:
    first, second = x, x + 1
    try:
        here()
        first = second
        here()
    finally:
        here()
        return first  # noqa: B012 - that is what is tried


class Manager:
    def __init__(self, here: Stand) -> None:
        self.here = here

    def __enter__(self) -> int:
        return 3

    def __exit__(self, *args: object) -> bool:
        return True


def withs(here: Stand, x: int) -> object:
    manager, result = Manager(here), x
    with manager as entered:
        here()
        result = x + entered
        here()
        result += 1
    here()
    return result


def comprehends(here: Stand, x: int) -> object:
    offset = x + 1
    items = [here(item + 1) for item in range(x)]
    here()
    more = {item: offset for item in range(x) if here(True)}
    return items, more


def encloses(here: Stand, x: int) -> object:
    cell, plain = x + 1, x + 2

    def inner() -> int:
        return cell

    here()
    plain += inner()
    here()
    return plain


def walks(here: Stand, *args: int, **more: int) -> object:
    match args:
        case [first, *rest]:
            here()
            found = first + len(rest)
        case _:
            here()
            found = len(more)
    here()
    if (doubled := found * 2) > 4:
        here()
        return doubled
    del doubled
    here()
    return found


def nests(here: Stand, x: int) -> object:
    outer, total = 0, 0
    while outer < x:
        inner = 0
        while inner < 2:
            try:
                here()
                inner += 1
                if inner > outer:
                    continue
                total += 1
            except LookupError:
                here()
                inner += 1
        outer += 1
    return total


FUNCTIONS = [straight, loops, breaks, branches, tries, returns_within, finally_, finally_returns, withs, comprehends, encloses, walks, nests]


def _result(function: Callable[..., object], here: Stand, x: int) -> object:
    try:
        return "returned", function(here, x)
    except BaseException as error:
        return "raised", type(error), str(error)


@cache
def _tried(function: Callable[..., object]) -> tuple[dict[int, set[str]], dict[int, set[str]]]:
    """Return, for each place where it stands, which locals make a difference when they are spoilt, and which of them are part of the state."""
    matters: dict[int, set[str]] = {}
    told: dict[int, set[str]] = {}
    shared = {*function.__code__.co_cellvars, *function.__code__.co_freevars}
    for x in range(4):
        calls = Stand()
        _result(function, calls, x)
        for raises in (None, *range(len(calls.seen))):
            here = Stand(raises=raises)
            expected = _result(function, here, x)
            for at, (number, names, bound) in enumerate(here.seen):
                assert shared & bound <= names  # others may read what is shared at any time
                told.setdefault(number, set()).update((names & bound) - shared)
                found = matters.setdefault(number, set())
                found |= {name for name in bound - shared if _result(function, Stand((at, name), raises), x) != expected}
    return matters, told


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_local_is_part_of_the_state_if_spoiling_it_makes_a_difference(function: Callable[..., object]) -> None:
    """In each way through a function, also by an exception raised where it stands."""
    matters, told = _tried(function)
    assert len(matters) >= 2
    assert all(matters[number] <= told[number] for number in matters)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_no_other_local_is_part_of_the_state(function: Callable[..., object]) -> None:
    matters, told = _tried(function)
    assert told == matters
