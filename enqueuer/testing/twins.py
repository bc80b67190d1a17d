"""Broken twins: enqueuers that each break one promise on purpose, in a few lines on top of the real code.

A check proves something only if it can fail: for each guarantee there is at least one twin, and each check refuses at least one. What a
twin breaks is said by its first line. Twins may leak and hang (that is what some of them are for); `Twin.clean()` ends what they left.
"""
# mypy: disable-error-code="misc"
# (the engine is final for everybody else)

from __future__ import annotations

import copy
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain, islice, tee
from typing import Final, TypeAlias, TypeVar, cast

from .. import GeneratorEnqueuer, OrderedEnqueuer, Place, Plan, RunState, Span, item_seed
from .._context import current
from .._enqueuers import _Pulling
from .._plan import item_seed as seed_of
from .._processes import Processes, Workers, _Died, _Worker
from .._run import Run, Terms
from .._shared import Slot
from .._types import Compute, EndOfStream, Engine, Lock, Parker, Process
from .._window import NOTHING, Window
from ..errors import BorderError, WorkerDiedError
from .subject import Factory, MakeGenerator, MakeOrdered, MakeOrderedOf, processes

__all__ = ["TWINS", "Twin", "employing"]

T = TypeVar("T")

LIMIT: Final = 1.0
"""Seconds after which a twin hangs, on an idle machine: short, for most of them do."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A subject that breaks a promise.

    Attributes:
        name: What it does wrong.
        breaks: Id of the guarantee that it breaks.
        says: What it does wrong, in a sentence.
        seen: Words of what a check says that has seen it, so that none refuses it for another reason.
        factory: How to make it.
    """

    name: str
    breaks: str
    says: str
    seen: str
    factory: Factory

    @staticmethod
    def forget() -> None:
        """Let go of runs that twins have left, as they are ended by somebody else."""
        for left in (_runs, _engines, _left):
            left.clear()
        while _descriptors:
            os.close(_descriptors.pop())

    @staticmethod
    def clean() -> None:
        """End every run that a twin has left, by the real methods, whatever the twin has made of them."""
        while _runs:
            run = _runs.pop()
            Run[object].ring(run)
            with run._lock:
                Run[object]._wake_all(run)
                Run[object]._wake_takers(run)
            run.stop(0)
        while _engines:
            engine = _engines.pop()
            Processes[object].kill(engine)
            Processes[object].close(engine)
        while _left:
            worker = _left.pop()
            worker.kill()
            worker.end(0)
            worker.release()
        while _descriptors:
            os.close(_descriptors.pop())
        while _late:
            _late.pop().unpark()


_runs: Final[list[Run[object]]] = []
_engines: Final[list[Processes[object]]] = []
_left: Final[list[_Worker]] = []
_descriptors: Final[list[int]] = []
_late: Final[list[Parker]] = []


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

    def __init__(self, plan: Plan, max_queue_size: int, workers: int = 1) -> None:
        super().__init__(plan, max_queue_size + 1, workers)


class HookTooEarly(Window[T]):
    """The hook runs when everything was claimed, not when everything was taken."""

    def __init__(self, plan: Plan, max_queue_size: int, workers: int = 1) -> None:
        super().__init__(replace(plan, barrier=False), max_queue_size, workers)


class ErrorEarly(Window[T]):
    """An error is delivered at once, before items of earlier ranks."""

    def take(self) -> T | None:
        return cast("T", super().take() if self.error is None else NOTHING)

    def drained(self) -> bool:
        return self.error is not None or super().drained()


class FirstErrorInTime(Window[T]):
    """Of two errors, the one that was raised first is delivered, not the one of the lower rank."""

    def _cut(self, rank: int, error: BaseException | None) -> BaseException | None:
        return super()._cut(rank, self.error or error)


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
        self._parkers[number].park(None)

    def _start_worker(self, number: int) -> None:
        super()._start_worker(number)
        with self._lock:
            self._threads.clear()


class NobodyRings(Run[T]):
    """A dropped enqueuer does not end its run."""

    def ring(self) -> None:
        pass


class ExitIsPatient(Run[T]):
    """An exit gives the items that are under way some time."""

    def stop(self, timeout: float | None = None) -> bool:
        return super().stop(timeout or None)


class LostWakeUp(Run[T]):
    """A worker that waits for room is not told when an item is taken."""

    def _try_take(self) -> object:  # type: ignore[override]
        waking, self._waking = self._waking, True
        try:
            return super()._try_take()
        finally:
            self._waking = waking


class WakesThenEnds(Run[T]):
    """`stop()` wakes everyone in one critical section, and ends the run in the next."""

    def _end(self) -> object:
        self._wake_all()
        self._lock.__exit__(None, None, None)
        self._lock.__enter__()
        return self._window.stop()


class EndsWithoutTheLock(Run[T]):
    """`stop()` ends the run before it has the lock."""

    def stop(self, timeout: float | None) -> bool:
        self._window.stop()
        return super().stop(timeout)


class OneConsumerWoken(Run[T]):
    """An item wakes one consumer, which may be interrupted and forget the others."""

    def _wake_takers(self) -> None:
        if self._over():
            return super()._wake_takers()
        for parker in list(self._takers)[:1]:
            parker.unpark()
            del self._takers[parker]
        return None


class OthersForgotten(Run[T]):
    """An item wakes one of the consumers that wait; the others are forgotten until the run is over."""

    def __init__(self, terms: Terms[T], owner: object) -> None:
        self.forgotten: list[Parker] = []
        super().__init__(terms, owner)

    def _wake_takers(self) -> None:
        if not self._over():
            self.forgotten += list(self._takers)[1:]
            for parker in self.forgotten:
                self._takers.pop(parker, None)
        else:
            for parker in self.forgotten:
                parker.unpark()
        super()._wake_takers()


class StragglersHandOver(Run[T]):
    """A worker of an earlier run hands its item to the run that is on."""

    def _put(self, number: int, rank: int, item: T | None) -> object:  # type: ignore[override]
        with self._lock:
            owner = cast("Ordered[T]", self._watch())
            if owner._run is not None and owner._run is not self:
                owner._run._window.ready[rank] = item
        return super()._put(number, rank, item)


class SpanReadLate(Run[T]):
    """A worker looks up what its rank means when it computes, not when it claims: the epoch may have turned meanwhile."""

    def _claim(self, number: int) -> object:  # type: ignore[override]
        claim = super()._claim(number)
        return (claim[0], _Latest(cast("Run[object]", self))) if isinstance(claim, tuple) else claim


@dataclass(frozen=True)
class _Latest:
    run: Run[object]

    def work(self, rank: int) -> tuple[int, int]:
        with self.run._lock:
            span = self.run._window.span
        assert span is not None
        if not span.first <= rank < span.end:
            rank = span.first
        return span.work(rank)


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
    return kind(**{field.name: getattr(plan, field.name) for field in fields(plan)})


@dataclass(frozen=True)
class _Computing:
    """A compute that twins change."""

    compute: Compute[object]

    def turn(self, *, hook: bool) -> int | None:
        return self.compute.turn(hook=hook)

    def item(self, worker: int, epoch: int, index: int, /) -> object:
        return self.compute.item(worker, epoch, index)

    def close(self) -> None:
        self.compute.close()


class _ErrorsSwallowed(_Computing):
    """What goes wrong between two epochs is ignored."""

    def turn(self, *, hook: bool) -> int | None:
        try:
            return super().turn(hook=hook)
        except Exception:
            return 3


@dataclass(frozen=True)
class _Signalled(_Computing):
    """Before it computes, the process sets what a signal does."""

    number: signal.Signals
    handler: signal.Handlers

    def item(self, worker: int, epoch: int, index: int, /) -> object:
        signal.signal(self.number, self.handler)
        return super().item(worker, epoch, index)


# engines

MakeEngine: TypeAlias = Callable[[Compute[object], Workers, Lock, Process], Processes[object]]


class Engines(Processes[T]):  # pyright: ignore[reportGeneralTypeIssues]
    """The engine that twins change; it asks for what `wanted()` makes of what was asked for."""

    def __init__(self, compute: Compute[T], workers: Workers, lock: Lock, process: Process) -> None:
        super().__init__(compute, self.wanted(workers), lock, process)
        _engines.append(cast("Processes[object]", self))

    def wanted(self, workers: Workers) -> Workers:
        return workers


class ItemOfTheDeadLost(Engines[T]):
    """An item whose worker died is taken for `None`."""

    def wanted(self, workers: Workers) -> Workers:
        return replace(workers, retries=0)

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        try:
            return super().item(worker, epoch, index)
        except WorkerDiedError:
            return None


class ReadOnlyArrays(Engines[T]):
    """Arrays arrive read-only."""

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        item = super().item(worker, epoch, index)
        set_flags = getattr(item, "setflags", None)
        if callable(set_flags):
            set_flags(write=False)
        return item


class LeasesThatEndEarly(Engines[T]):
    """Memory is written again as soon as the item in it was delivered."""

    def _leased(self, slot: Slot | None, message: memoryview) -> list[memoryview]:
        views = super()._leased(slot, message)
        assert slot is not None
        assert self._stock is not None
        with self._lock:
            self._stock._lent.remove(slot)
            self._stock.vacate(slot)
        return views


class NeverSentAgain(Engines[T]):
    """What the hook changes stays in this process."""

    def wanted(self, workers: Workers) -> Workers:
        return replace(workers, resend=False)


class OneRandomState(Engines[T]):
    """All worker processes begin with the same global random state."""

    def _start(self, number: int) -> _Worker:
        asked = self._asked
        vars(self)["_asked"] = replace(asked, seed=asked.seed - number, seeded=True)
        try:
            return super()._start(number)
        finally:
            vars(self)["_asked"] = asked


class BorderWithoutNames(Engines[T]):
    """What can't cross the border is an error that does not say what it was."""

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        try:
            return super().item(worker, epoch, index)
        except BorderError:
            raise BorderError("something could not cross the border") from None


class MadeAgain(Engines[T]):
    """An error is made again from its `args`."""

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        try:
            return super().item(worker, epoch, index)
        except EndOfStream:
            raise
        except Exception as error:
            try:
                again = type(error)(*error.args)
            except TypeError:
                raise error from error.__cause__
            raise again from error.__cause__


class GroupsLost(Engines[T]):
    """A group with a member that can't cross the border does not cross it."""

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        try:
            return super().item(worker, epoch, index)
        except ExceptionGroup as group:
            raise BorderError("a group of errors could not cross the border") from group


class LeftOutAtTheBorder(Engines[T]):
    """What can't cross the border is left out, and nobody is told."""

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        try:
            return super().item(worker, epoch, index)
        except BorderError:
            return None


class SpoiltByTheHookUnseen(Engines[T]):
    """A sequence that can't be sent to the workers again is not, and nobody is told."""

    def turn(self, *, hook: bool) -> int | None:
        try:
            return super().turn(hook=hook)
        except BorderError:
            return 3


class DeathWithoutWords(Engines[T]):
    """The death of a worker is an error that does not tell it."""

    def _told(
        self, one: _Worker, died: _Died, worker: int, epoch: int, index: int, *, code: int | None, retries: int, ready: bool
    ) -> WorkerDiedError:
        del one, died, worker, epoch, index, code, retries, ready
        return WorkerDiedError("a worker process died")


class DeathBySight(Engines[T]):
    """A death is seen by the end of the pipe alone."""

    def _start(self, number: int) -> _Worker:
        one = super()._start(number)
        cast("select.poll", one._read).unregister(one._pidfd)
        return one


class RetriesForEver(Engines[T]):
    """An item is computed again however often its worker dies."""

    def wanted(self, workers: Workers) -> Workers:
        return replace(workers, retries=10**9)


class NeverKills(Engines[T]):
    """At the deadline worker processes go on computing."""

    def kill(self) -> bool:
        return False


class LeavesWhatItHasStarted(Engines[T]):
    """A start that fails in its midst leaves the processes that it has started."""

    opened = False

    def open(self, workers: int, ahead: Callable[[int], list[tuple[int, int]]]) -> None:
        super().open(workers, ahead)
        self.opened = True

    def kill(self) -> bool:
        return self.opened and super().kill()

    def halt(self) -> None:
        if self.opened:
            super().halt()

    def close(self) -> None:
        if self.opened:
            super().close()


class LeavesAProcess(Engines[T]):
    """The process of a worker that leaves is forgotten."""

    def leave(self, worker: int) -> None:
        one = self._workers.pop(worker, None)
        if one is not None:
            _left.append(one)


class DeafToTheLifeline(Engines[T]):
    """A worker process that computes does not hear that its parent is gone."""

    def __init__(self, compute: Compute[T], workers: Workers, lock: Lock, process: Process) -> None:
        super().__init__(cast("Compute[T]", _Signalled(compute, signal.SIGIO, signal.SIG_IGN)), workers, lock, process)


class KillsLate(Engines[T]):
    """A worker process gets time to end by itself, also at exit."""

    def kill(self) -> bool:
        time.sleep(30 * LIMIT)
        return super().kill()


class DiesOfInterrupts(Engines[T]):
    """Ctrl-C in a terminal, which reaches every process, ends those of the workers."""

    def __init__(self, compute: Compute[T], workers: Workers, lock: Lock, process: Process) -> None:
        super().__init__(cast("Compute[T]", _Signalled(compute, signal.SIGINT, signal.SIG_DFL)), workers, lock, process)


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
        return super().stop(timeout) if self.current_run() is None or self.is_running() else False


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


class TimeOutsMended(Ordered[T]):
    """A time-out below zero is taken for none at all."""

    def stop(self, timeout: float | None = None) -> bool:
        return super().stop(None if timeout is not None and timeout < 0 else timeout)


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


class LastItemLost(GeneratorEnqueuer[T]):
    """The stream of a finite generator ends before its last item."""

    def make_compute(self) -> Compute[T]:
        return _Pulling(lambda: _all_but_the_last(self._open()), self._runtime.lock(), foreign=False)


class OpenedOnce(GeneratorEnqueuer[T]):
    """A callable that makes generators is called at the first start only."""

    first: Iterator[T | None] | None = None

    def make_compute(self) -> Compute[T]:
        self.first = first = self.first or self._open()
        return _Pulling(lambda: first, self._runtime.lock(), foreign=True)


class CopyForEachWorker(GeneratorEnqueuer[T]):
    """Each of two workers delivers all items of a generator."""

    def make_compute(self) -> Compute[T]:
        return _Pulling(lambda: chain.from_iterable(zip(*tee(self._open()), strict=True)), self._runtime.lock(), foreign=False)


def _all_but_the_last(items: Iterator[T]) -> Iterator[T]:
    held = list(islice(items, 1))
    for item in items:
        yield held.pop()
        held.append(item)


class LateStop(Ordered[T]):
    """`stop(timeout)` takes longer than it may."""

    def stop(self, timeout: float | None = None) -> bool:
        exited = super().stop(timeout)
        if timeout is not None and not exited:  # how late does not matter: no pace of a machine excuses it
            parker = self._runtime.parker()
            _late.append(parker)
            parker.park(None)
        return exited


class SetsAHandler(Ordered[T]):
    """Starting it sets a signal handler."""

    def make_plan(self, start: Place) -> Plan:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return super().make_plan(start)


class ResumesOneLate(Ordered[T]):
    """A resumed stream begins after the item that it should begin with."""

    def make_plan(self, start: Place) -> Plan:
        late = start.position + 1 < (start.length or 0)
        return super().make_plan(replace(start, position=start.position + 1, rank=start.rank + 1) if late and start.rank else start)


class LeavesADescriptor(Ordered[T]):
    """Each start opens a file descriptor that nobody closes."""

    def make_plan(self, start: Place) -> Plan:
        _descriptors.append(os.dup(2))
        return super().make_plan(start)


class SameSeedEveryEpoch:
    """An item's seed does not depend on the epoch."""


def _same_seed_every_epoch() -> int:
    here = current.get()
    assert here is not None
    assert here.index is not None
    return seed_of(here.seed, 0, here.index)


# the registry


def _factory(
    name: str, *, ordered: MakeOrdered = Ordered, generator: MakeGenerator = GeneratorEnqueuer, seed: Callable[[], int] = item_seed
) -> Factory:
    return Factory(name=name, ordered=ordered, generator=generator, item_seed=seed, limit=LIMIT)


def _twin(breaks: str, kind: type[object], seen: str, factory: Factory) -> Twin:
    return Twin(kind.__name__, breaks, (kind.__doc__ or "").splitlines()[0], seen, factory)


def _face(breaks: str, kind: type[OrderedEnqueuer[T]], seen: str) -> Twin:
    return _twin(breaks, kind, seen, _factory(kind.__name__, ordered=cast("MakeOrdered", kind)))


def _run(breaks: str, kind: Callable[[Terms[object], object], Run[object]], seen: str, of: object = None) -> Twin:
    class BrokenOrdered(Ordered[T]):
        def broken_run(self, terms: Terms[T]) -> Run[T]:
            return cast("Run[T]", kind(cast("Terms[object]", terms), self))

    class BrokenGenerator(GeneratorEnqueuer[T]):
        def make_run(self, terms: Terms[T]) -> Run[T]:
            run = kind(cast("Terms[object]", terms), self)
            _runs.append(run)
            return cast("Run[T]", run)

    named = cast("type[object]", of or kind)
    return _twin(breaks, named, seen, _factory(named.__name__, ordered=BrokenOrdered, generator=BrokenGenerator))


def _window(breaks: str, kind: Callable[[Plan, int, int], Window[object]], seen: str) -> Twin:
    class BrokenRun(Run[object]):
        def make_window(self) -> Window[object]:
            return kind(self._terms.plan, self._terms.max_queue_size, self._terms.workers)

    return _run(breaks, BrokenRun, seen, of=kind)


def _exchanged(engine: Engine[T], kind: MakeEngine) -> Engine[T]:
    made = cast("Processes[object]", engine)
    return cast("Engine[T]", kind(made._compute, made._asked, made._lock, made._process))


def employing(kind: MakeEngine) -> type[OrderedEnqueuer[object]]:
    """Return a class of enqueuers with this engine, which are to be in process mode."""

    class BrokenOrdered(Ordered[object]):
        def _make_engine(self, plan: Plan, process: Process) -> Engine[object]:
            return _exchanged(super()._make_engine(plan, process), kind)

    return BrokenOrdered


def _engine(breaks: str, kind: MakeEngine, seen: str, limit: float = 2 * LIMIT) -> Twin:
    class BrokenGenerator(GeneratorEnqueuer[T]):
        def _make_engine(self, plan: Plan, process: Process) -> Engine[T]:
            return _exchanged(super()._make_engine(plan, process), kind)

        def make_run(self, terms: Terms[T]) -> Run[T]:
            run = super().make_run(terms)
            _runs.append(cast("Run[object]", run))
            return run

    named = cast("type[object]", kind)
    factory = processes("fork", name=named.__name__, ordered=cast("MakeOrderedOf", employing(kind)), generator=BrokenGenerator, limit=limit)
    return _twin(breaks, named, seen, factory)


TWINS: Final = (
    _face("G1", TwiceAndNever, "delivered [0, 0, 2"),
    _twin("G1", CopyForEachWorker, "came as [0, 0, 1, 1", _factory("CopyForEachWorker", generator=CopyForEachWorker)),
    _engine("G1", ItemOfTheDeadLost, "with 1 deaths at item 2 the items came as [0, 1, 3"),
    _window("G2", CompletionOrder, "of which 0 is ready last"),
    _run("G3", NoneDelivered, "['None', 1"),
    _window("G4", OffByOne, "1 more than max_queue_size="),
    _face("G5", OneEpoch, "the stream ended after 1 of 10"),
    _twin("G5", LastItemLost, "the stream ended after 0 of 1", _factory("LastItemLost", generator=LastItemLost)),
    _run("G6", Copied, "not the object that was computed"),
    _engine("G6", ReadOnlyArrays, "came not writable"),
    _engine("G6", LeasesThatEndEarly, "what was kept of item"),
    _window("G7", HookTooEarly, "the hook ran before the last item"),
    _face("G7", AlwaysABarrier, "waited for the first to be taken"),
    _engine("G7", NeverSentAgain, "after 1 hooks, which count, the items came as [(0, 0)"),
    _face("G8", OrderByChance, "the order depends on the number of workers"),
    _face("G8", ForgetfulSeed, "a second run did not keep the drawn seed"),
    _twin("G9", SameSeedEveryEpoch, "had 6 different seeds", _factory("SameSeedEveryEpoch", seed=_same_seed_every_epoch)),
    _engine("G9", OneRandomState, "numbers from the global states of worker processes came twice"),
    _window("G10", ErrorEarly, "next() raised"),
    _run("G10", StopIterationEndsTheStream, "arrived as StopIteration()"),
    _window("G10", FirstErrorInTime, "KeyError('rank 2') arrived"),
    _engine("G10", MadeAgain, "arrived as Worded('cannot read cannot read img0.png')"),
    _engine("G10", GroupsLost, "another error arrived as BorderError"),
    _face("G11", ErrorsBetweenEpochsSwallowed, "between epochs arrived as None"),
    _face("G11", EmptyIsOne, "an empty sequence gave None"),
    _run("G11", ErrorsEndTheStream, "a generator's error arrived as StopIteration()"),
    _engine("G12", BorderWithoutNames, "is not named"),
    _engine("G12", LeftOutAtTheBorder, "after [0, 1] _Odd arrived as None"),
    _engine("G12", SpoiltByTheHookUnseen, "after its hook arrived as None"),
    _engine("G13", DeathWithoutWords, "not all are named"),
    _engine("G13", DeathBySight, "did not return within"),
    _engine("G13", RetriesForEver, "with max_retries=0 an item was computed 11 times"),
    _face("G14", StopOnce, "four stop() at once returned ["),
    _run("G14", ConsumersLeftWaiting, "did not release a blocked consumer"),
    _run("G14", TrueFromInside, "from the run's own threads returned [True"),
    _run("G15", TrueAlways, "returned true while an item was stuck"),
    _face("G15", LateStop, "stop(0) did not return"),
    _engine("G15", NeverKills, "and left the processes"),
    _face("G16", StreamForgetsItsRun, "an item of a later one"),
    _face("G17", LeftOver, "a restarted run began with [3"),
    _twin("G17", OpenedOnce, "did not begin anew", _factory("OpenedOnce", generator=OpenedOnce)),
    _face("G18", SecondStartReplaces, "start() while running raised None"),
    _engine("G18", LeavesWhatItHasStarted, "a start() that failed left the processes"),
    _face("G19", RunningForEver, "true after a failure"),
    _run("G20", Lingering, "stop() returned and left"),
    _run("G20", NobodyRings, "nobody can reach the run"),
    _face("G20", LeavesADescriptor, "were left open"),
    _engine("G20", LeavesAProcess, "stop() left the processes"),
    _engine("G20", DeafToTheLifeline, "the parent was killed, and the processes"),
    _run("G20", ExitIsPatient, "two items under way, was there after"),
    _engine("G20", KillsLate, "large items under way, was there after"),
    _run("G21", LostWakeUp, "got stuck after [1] items"),
    _run("G21", OthersForgotten, "and 2 consumers the consumers got stuck"),
    _face("G22", NativeGenerator, "the stream ended after 0 of 4"),
    _engine("G22", DiesOfInterrupts, "was killed by SIGINT"),
    _face("G23", ArgumentsMended, "start(0, 10) gave None"),
    _face("G23", TimeOutsMended, "stop(-1.0) gave None"),
    _window("G24", TakenTwice, "not each of 600 items once"),
    _face("G25", SeedsTheHost, "changed the global random state"),
    _face("G25", SetsAHandler, "changed the handler of signal 15"),
    _face("G26", NativeGenerator, "gave StopIteration()"),
    _face("G27", StateOffByOne, "a loaded state reads back as"),
    _face("G27", ResumesOneLate, "resumed at rank"),
    _run("G28", IgnoresForks, "next() on the parent's stream did not raise"),
)
"""Every twin, in the order of the contract."""

RACES: Final = (
    _run("G14", WakesThenEnds, "parked"),
    _run("G14", EndsWithoutTheLock, "without the lock"),
    _run("G22", OneConsumerWoken, "parked"),
    _run("G17", StragglersHandOver, "the second run delivered"),
    _run("G8", SpanReadLate, "the items came as"),
)
"""Twins that go wrong in few schedules only: it takes the scheduler (see `schedule`) to find them, and no check can be asked to."""
