"""Broken twins: enqueuers that each break one promise on purpose, in a few lines on top of the real code.

A check proves something only if it can fail: for each guarantee there is at least one twin, and each check refuses at least one. What a
twin breaks is said by its first line. Twins may leak and hang (that is what some of them are for); `Twin.clean()` ends what they left.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar, cast

from .. import GeneratorEnqueuer, OrderedEnqueuer, Place, Plan, RunState, Span, item_seed
from .._context import current
from .._plan import item_seed as seed_of
from .._run import Run, Terms
from .._types import Compute
from .._window import NOTHING, Window
from .subject import Factory, MakeGenerator, MakeOrdered

__all__ = ["TWINS", "Twin"]

T = TypeVar("T")

LIMIT: Final = 1.0
"""Seconds after which a twin hangs: it is expected to, so there is no false alarm to be afraid of."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A subject that breaks a promise.

    Attributes:
        name: What it does wrong.
        breaks: Id of the guarantee that it breaks.
        says: What it does wrong, in a sentence.
        factory: How to make it.
    """

    name: str
    breaks: str
    says: str
    factory: Factory

    @staticmethod
    def clean() -> None:
        """End every run that a twin has left."""
        while _runs:
            run = _runs.pop()
            Run[object].ring(run)
            with run._lock:
                Run[object]._wake_all(run)
                Run[object]._wake_takers(run)
            run.stop(0)


_runs: Final[list[Run[object]]] = []


# windows


class CompletionOrder(Window[T]):
    """Items are delivered as they become ready."""

    def takeable(self) -> bool:
        return bool(self.ready)

    def take(self) -> T | None:
        if not self.ready:
            return cast("T", NOTHING)
        item = self.ready.pop(next(iter(self.ready)))
        self.rank += 1
        return item


class OffByOne(Window[T]):
    """One item more than the bound may be under way."""

    def __init__(self, plan: Plan, max_queue_size: int) -> None:
        super().__init__(plan, max_queue_size + 1)


class LastItemLost(Window[T]):
    """The stream of a finite generator ends before its last item."""

    def _cut(self, rank: int, error: BaseException | None) -> None:
        super()._cut(rank if error else max(rank - 1, self.rank), error)


class HookTooEarly(Window[T]):
    """The hook runs when everything was claimed, not when everything was taken."""

    def __init__(self, plan: Plan, max_queue_size: int) -> None:
        super().__init__(replace(plan, barrier=False), max_queue_size)


class ErrorEarly(Window[T]):
    """An error is delivered at once, before items of earlier ranks."""

    def take(self) -> T | None:
        return cast("T", super().take() if self.error is None else NOTHING)

    def drained(self) -> bool:
        return self.error is not None or super().drained()


class FirstErrorInTime(Window[T]):
    """Of two errors, the one that was raised first is delivered, not the one of the lower rank."""

    def _cut(self, rank: int, error: BaseException | None) -> None:
        super()._cut(rank, self.error or error)


class TakenTwice(Window[T]):
    """Every other item is delivered to two consumers."""

    def take(self) -> T | None:
        rank = self.rank
        if rank % 2 and rank in self.ready and -rank not in self.under_way:
            self.under_way[-rank] = 0  # a note that it was delivered once
            return self.ready[rank]
        self.under_way.pop(-rank, None)
        return cast("T", super().take())


# runs


class NoneDelivered(Run[T]):
    """An item that is `None` is delivered, as something else."""

    def _put(self, number: int, rank: int, item: T | None) -> object:  # type: ignore[override]
        return super()._put(number, rank, cast("T", "None") if item is None else item)


class Copied(Run[T]):
    """A copy of the item is delivered."""

    def _put(self, number: int, rank: int, item: T | None) -> object:  # type: ignore[override]
        return super()._put(number, rank, copy.deepcopy(item))


class StopIterationEndsTheStream(Run[T]):
    """`StopIteration` from an item ends the stream without a word."""

    def _finish(self, number: int, rank: int, error: BaseException | None) -> object:  # type: ignore[override]
        return super()._finish(number, rank, None if error is not None and isinstance(error.__cause__, StopIteration) else error)


class ErrorsEndTheStream(Run[T]):
    """An error ends the stream without a word."""

    def _finish(self, number: int, rank: int, error: BaseException | None) -> object:  # type: ignore[override]
        del error
        return super()._finish(number, rank, None)


class ConsumersLeftWaiting(Run[T]):
    """`stop()` wakes the workers and forgets the consumers."""

    def _wake_takers(self) -> None:
        if self._window.state is RunState.RUNNING and self._window.takeable():
            super()._wake_takers()


class TrueFromInside(Run[T]):
    """`stop()` from an item, the hook or the generator says that everything has exited."""

    def stop(self, timeout: float | None) -> bool:
        here = current.get()
        return super().stop(timeout) or (here is not None and here.run is self)


class TrueAlways(Run[T]):
    """`stop(timeout)` says that everything has exited while an item is stuck."""

    def stop(self, timeout: float | None) -> bool:
        super().stop(timeout)
        return True


class Lingering(Run[T]):
    """`stop()` waits until no worker computes, not until the threads have exited."""

    def _work(self, number: int) -> None:
        super()._work(number)
        self._parkers[number].park(0.5)

    def _start_worker(self, number: int) -> None:
        super()._start_worker(number)
        with self._lock:
            self._threads.clear()


class NobodyRings(Run[T]):
    """A dropped enqueuer does not end its run."""

    def ring(self) -> None:
        pass


class LostWakeUp(Run[T]):
    """A worker that waits for room is not told when there is some."""

    def _wake_worker(self) -> None:
        pass


class IgnoresForks(Run[T]):
    """A fork of the process goes on using the run of its parent."""

    def check_process(self) -> None:
        pass


# plans and computes


class _Doubled(Plan):
    def span(self, epoch: int, rank: int, length: int | None) -> Span:
        span = super().span(epoch, rank, length)
        return replace(span, order=[0, 0, *range(2, length)]) if length and length > 1 and span.end - span.first == length else span


class _Chance(Plan):
    def span(self, epoch: int, rank: int, length: int | None) -> Span:
        span = super().span(epoch, rank, length)
        return replace(span, order=random.sample(range(length), length)) if length and self.shuffle else span


class _NeverEmpty(Plan):
    def span(self, epoch: int, rank: int, length: int | None) -> Span:
        return super().span(epoch, rank, max(length, 1) if length is not None else None)


def _as(kind: type[Plan], plan: Plan) -> Plan:
    return kind(seed=plan.seed, shuffle=plan.shuffle, barrier=plan.barrier, serial=plan.serial, epochs=plan.epochs, start=plan.start)


@dataclass(frozen=True)
class _ErrorsSwallowed:
    """What goes wrong between two epochs is ignored."""

    compute: Compute[object]

    def turn(self, *, hook: bool) -> int | None:
        try:
            return self.compute.turn(hook=hook)
        except Exception:
            return 3

    def item(self, worker: int, epoch: int, index: int, /) -> object:
        return self.compute.item(worker, epoch, index)

    def close(self) -> None:
        self.compute.close()


# faces


class Ordered(OrderedEnqueuer[T]):
    """The enqueuer that twins change; it records its runs for `Twin.clean()`."""

    def make_run(self, terms: Terms[T]) -> Run[T]:
        run = self.broken_run(terms)
        _runs.append(cast("Run[object]", run))
        return run

    def broken_run(self, terms: Terms[T]) -> Run[T]:
        return Run(terms, self)


class TwiceAndNever(Ordered[T]):
    """Each epoch has index 0 twice and index 1 never."""

    def make_plan(self, start: Place) -> Plan:
        return _as(_Doubled, super().make_plan(start))


class OneEpoch(Ordered[T]):
    """The stream of a sequence ends with its first epoch."""

    def make_plan(self, start: Place) -> Plan:
        return replace(super().make_plan(start), epochs=1)


class AlwaysABarrier(Ordered[T]):
    """Nothing is prefetched across epochs, hook or not."""

    def make_plan(self, start: Place) -> Plan:
        return replace(super().make_plan(start), barrier=True)


class OrderByChance(Ordered[T]):
    """The order comes from the global random state."""

    def make_plan(self, start: Place) -> Plan:
        return _as(_Chance, super().make_plan(start))


class ForgetfulSeed(Ordered[T]):
    """Each run draws a seed of its own."""

    def make_plan(self, start: Place) -> Plan:
        return replace(super().make_plan(start), seed=random.getrandbits(53))


class ErrorsBetweenEpochsSwallowed(Ordered[T]):
    """An error in the hook or in `__len__()` is ignored."""

    def make_compute(self) -> Compute[T]:
        return cast("Compute[T]", _ErrorsSwallowed(super().make_compute()))


class EmptyIsOne(Ordered[T]):
    """An empty sequence is read as if it had one item."""

    def make_plan(self, start: Place) -> Plan:
        return _as(_NeverEmpty, super().make_plan(start))


class StopOnce(Ordered[T]):
    """A second `stop()` says that something is still running."""

    def stop(self, timeout: float | None = None) -> bool:
        return self.is_running() and super().stop(timeout)


class StreamForgetsItsRun(Ordered[T]):
    """A stream looks for the run at every `next()`, and falls into the next one."""

    def get(self, *, timeout: float | None = None) -> Iterator[T]:  # type: ignore[override]
        return _Forgetful(self, timeout)


class _Forgetful(Iterator[T]):
    def __init__(self, enqueuer: OrderedEnqueuer[T], timeout: float | None) -> None:
        self._enqueuer, self._timeout = enqueuer, timeout

    def __next__(self) -> T:
        run = self._enqueuer.current_run()
        assert run is not None
        return run.take(self._timeout)


class NativeGenerator(Ordered[T]):
    """`get()` returns a native generator, which an exception finishes."""

    def get(self, *, timeout: float | None = None) -> Iterator[T]:  # type: ignore[override]
        yield from iter(super().get(timeout=timeout).__next__, NOTHING)


class LeftOver(Ordered[T]):
    """A restart goes on where the last run stood."""

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        run = self.current_run()
        if run is not None and not run.running():
            self._loaded = run.place()
        super().start(workers, max_queue_size)


class SecondStartReplaces(Ordered[T]):
    """`start()` while running ends the run and begins another."""

    def _idle_run(self) -> Run[T] | None:
        run = self._run
        if run is not None and run.running():
            run.stop(0)
        return run


class RunningForEver(Ordered[T]):
    """`is_running()` stays true after a failure."""

    def is_running(self) -> bool:
        return self.statistics().state not in {RunState.NEW, RunState.STOPPED}


class ArgumentsMended(Ordered[T]):
    """Wrong arguments are silently replaced by the nearest right ones."""

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        super().start(max(1, workers), max(1, max_queue_size))


class SeedsTheHost(Ordered[T]):
    """Starting it seeds the global random state."""

    def make_plan(self, start: Place) -> Plan:
        random.seed(self.seed)
        return super().make_plan(start)


class StateOffByOne(Ordered[T]):
    """The state names the rank after the one to resume at."""

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        moved = {name: value + 1 if name in {"position", "rank"} and value is not None else value for name, value in state.items()}
        super().load_state_dict(moved if (state["position"] or 0) + 1 < (state["length"] or 0) else state)


def _same_seed_every_epoch() -> int:
    here = current.get()
    assert here is not None
    assert here.index is not None
    return seed_of(here.seed, 0, here.index)


# the registry


def _twin(breaks: str, kind: type[object], factory: Factory) -> Twin:
    return Twin(kind.__name__, breaks, (kind.__doc__ or "").splitlines()[0], factory)


def _face(breaks: str, kind: type[OrderedEnqueuer[T]]) -> Twin:
    return _twin(breaks, kind, _factory(kind.__name__, ordered=cast("MakeOrdered", kind)))


def _factory(
    name: str, *, ordered: MakeOrdered = Ordered, generator: MakeGenerator = GeneratorEnqueuer, seed: Callable[[], int] = item_seed
) -> Factory:
    return Factory(name=name, ordered=ordered, generator=generator, item_seed=seed, limit=LIMIT)


def _run(breaks: str, kind: Callable[[Terms[object], object], Run[object]], doc: type[object]) -> Twin:
    class BrokenOrdered(Ordered[T]):
        def broken_run(self, terms: Terms[T]) -> Run[T]:
            return cast("Run[T]", kind(cast("Terms[object]", terms), self))

    class BrokenGenerator(GeneratorEnqueuer[T]):
        def make_run(self, terms: Terms[T]) -> Run[T]:
            run = kind(cast("Terms[object]", terms), self)
            _runs.append(run)
            return cast("Run[T]", run)

    return _twin(breaks, doc, _factory(doc.__name__, ordered=BrokenOrdered, generator=BrokenGenerator))


def _window(breaks: str, kind: Callable[[Plan, int], Window[object]], doc: type[object]) -> Twin:
    class BrokenRun(Run[object]):
        def make_window(self) -> Window[object]:
            return kind(self._terms.plan, self._terms.max_queue_size)

    return _run(breaks, BrokenRun, doc)


TWINS: Final = (
    _face("G1", TwiceAndNever),
    _window("G2", CompletionOrder, CompletionOrder),
    _run("G3", NoneDelivered, NoneDelivered),
    _window("G4", OffByOne, OffByOne),
    _face("G5", OneEpoch),
    _window("G5", LastItemLost, LastItemLost),
    _run("G6", Copied, Copied),
    _window("G7", HookTooEarly, HookTooEarly),
    _face("G7", AlwaysABarrier),
    _face("G8", OrderByChance),
    _face("G8", ForgetfulSeed),
    Twin("SameSeedEveryEpoch", "G9", "An item's seed does not depend on the epoch.", _factory("same seed", seed=_same_seed_every_epoch)),
    _window("G10", ErrorEarly, ErrorEarly),
    _run("G10", StopIterationEndsTheStream, StopIterationEndsTheStream),
    _window("G10", FirstErrorInTime, FirstErrorInTime),
    _face("G11", ErrorsBetweenEpochsSwallowed),
    _face("G11", EmptyIsOne),
    _run("G11", ErrorsEndTheStream, ErrorsEndTheStream),
    _face("G14", StopOnce),
    _run("G14", ConsumersLeftWaiting, ConsumersLeftWaiting),
    _run("G14", TrueFromInside, TrueFromInside),
    _run("G15", TrueAlways, TrueAlways),
    _face("G16", StreamForgetsItsRun),
    _face("G17", LeftOver),
    _face("G18", SecondStartReplaces),
    _face("G19", RunningForEver),
    _run("G20", Lingering, Lingering),
    _run("G20", NobodyRings, NobodyRings),
    _run("G21", LostWakeUp, LostWakeUp),
    _face("G22", NativeGenerator),
    _face("G23", ArgumentsMended),
    _window("G24", TakenTwice, TakenTwice),
    _face("G25", SeedsTheHost),
    _face("G26", NativeGenerator),
    _face("G27", StateOffByOne),
    _run("G28", IgnoresForks, IgnoresForks),
)
"""Every twin, in the order of the contract."""
