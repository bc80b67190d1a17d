"""The face: `SequenceEnqueuer` (the lifecycle), `OrderedEnqueuer`, `GeneratorEnqueuer`, and the streams they deliver.

Thin on purpose: an enqueuer checks arguments, keeps the current run, and hands everything on to it. What there is to compute comes from
two methods, `make_plan()` and `make_compute()`; whoever overrides them inherits every promise.
"""

from __future__ import annotations

import io
import math
import operator
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from types import FrameType, FunctionType, GeneratorType, TracebackType
from typing import TYPE_CHECKING, Final, Generic, Literal, NoReturn, Protocol, Self, SupportsIndex, TypeVar, cast, final, overload

from ._plan import Place, Plan
from ._run import Run, Statistics, Terms
from ._runtime import REAL
from ._threads import Threads
from ._types import Compute, EndOfStream, Engine, Lock, Process, Runtime, SequenceLike
from ._window import RunState
from .errors import ArgumentTypeError, ArgumentValueError, ForkedError, NotStartedError, ReentryError, RunningError, StartError

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

__all__ = ["GeneratorEnqueuer", "OrderedEnqueuer", "SequenceEnqueuer", "Stream"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

PATIENCE: Final = 1.0
"""Seconds that leaving a `with` block by an exception waits for items under way."""

MOST: Final = 2**62
"""Epochs, positions and ranks are below this."""

MOST_SEED: Final = 2**128
"""Seeds are nearer to zero than this: JSON keeps them (G27)."""

SEED_BITS: Final = 53
"""Bits of a drawn seed: as many as survive every JSON reader (G27)."""


class _Takes(Protocol[T_co]):
    def take(self, timeout: float | None) -> T_co: ...


class _Closed:
    """What a closed stream is bound to: a run that has nothing."""

    def take(self, timeout: float | None) -> NoReturn:
        del timeout
        raise StopIteration


@final
class Stream(Generator[T, None, None]):
    """The items of one run, in rank order (G2), without those that are `None` (G3). What `get()` returns.

    It has a generator's interface but is not a native generator, because one that raises is finished: after a `TimeoutError` (G26) or
    a `KeyboardInterrupt` (G22) the next `next()` delivers the same rank. It binds to a run at its first `next()` and never delivers
    anything of another (G16). It keeps its enqueuer alive until it is closed.

    Callers: Any thread; several streams of one run share its items, each goes to exactly one (G24).
    """

    __slots__ = ("__weakref__", "_enqueuer", "_run", "_timeout")

    def __init__(self, enqueuer: SequenceEnqueuer[T], timeout: float | None) -> None:
        self._enqueuer: SequenceEnqueuer[T] | None = enqueuer
        self._timeout: Final = timeout
        self._run: _Takes[T] | _Closed | None = None

    def __next__(self) -> T:
        """Return the next item.

        Blocking: Until the item is there, the run is over, or the timeout has passed.

        Raises:
            StopIteration: The run is over, or the stream was closed.
            WaitTimeoutError: (a `TimeoutError`) See `get()`; the run goes on and the next call waits for the same item (G26).
            NotStartedError: (a `RuntimeError`) No run was ever started; the stream works once one is.
            ForkedError: (a `RuntimeError`) The run belongs to the process that this one was forked from (G28).
            BaseException: Whatever an item, the hook or the generator raised, in one of the streams (G10, G11); the run is over.
        """
        run = self._run
        if run is None:
            run = self._bind()
        return run.take(self._timeout)

    def _bind(self) -> _Takes[T] | _Closed:
        run = self._enqueuer.current_run() if self._enqueuer is not None else None
        if run is None:
            raise NotStartedError("next() on a stream of an enqueuer that was never started: call start() first")
        self._run = run
        return run

    def send(self, value: None, /) -> T:
        """Return `next()`; there is nothing to send anything to."""
        del value
        return next(self)

    @overload
    def throw(self, typ: type[BaseException], val: BaseException | object = None, tb: TracebackType | None = None, /) -> T: ...
    @overload
    def throw(self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /) -> T: ...
    def throw(self, typ: type[BaseException] | BaseException, val: BaseException | object = None, tb: TracebackType | None = None, /) -> T:
        """Close this stream, then raise, as a generator does that has no `try` around its `yield`."""
        self.close()
        if isinstance(typ, BaseException):
            raise typ.with_traceback(tb) if tb is not None else typ
        error = val if isinstance(val, BaseException) else typ() if val is None else typ(val)
        raise error.with_traceback(tb)

    def close(self) -> None:
        """End this stream, not the run: other streams go on. It no longer keeps the enqueuer alive."""
        self._run = _Closed()
        self._enqueuer = None


class SequenceEnqueuer(ABC, Generic[T]):
    """The lifecycle: prefetch items with worker threads or processes, in order, through a bounded window.

    Subclasses say what there is to compute: `make_plan()` returns the order, `make_compute()` what computes an item. Neither result may
    refer to the enqueuer: its threads hold them, and dropping the enqueuer is what ends a forgotten run (G20).

    Callers: Every method may be called from any thread, also from an item or hook of the run itself. In a process forked since the start
        each raises `ForkedError`, a `RuntimeError` (G28).
    Source: `tf.keras.utils.SequenceEnqueuer`; `close()`, `statistics()` and all keyword-only arguments are new.
    """

    def __init__(
        self,
        sequence: object,
        use_multiprocessing: bool = False,
        *,
        context: BaseContext | str | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        max_retries: int = 3,
        runtime: Runtime | None = None,
    ) -> None:
        """Keep the sequence; start nothing.

        Args:
            sequence: What is read. Kept as `sequence`, not copied.
            use_multiprocessing: Whether items are computed in worker processes, on copies (A2), instead of threads.
            context: How worker processes are started: "fork", "forkserver", "spawn" or one of multiprocessing's contexts; None: as the host has
                chosen, or by the platform's default, at each `start()`.
            on_worker_death: What becomes of an item whose worker process died (G13): "raise" ends the run there, "retry" computes it again.
            max_retries: How often an item is computed again.
            runtime: Where locks and threads come from; for schedulers that own every interleaving.

        Raises:
            ValueError: `context` is not known here, `on_worker_death` is neither, or `max_retries` is below 0 (G23).
        """
        self.sequence: Final = sequence
        if use_multiprocessing not in (True, False):
            raise ArgumentTypeError(f"use_multiprocessing must be True or False, not {use_multiprocessing!r}; start() gets the number of workers")
        self.use_multiprocessing: Final = bool(use_multiprocessing)
        self._context: Final = _known(context)
        if on_worker_death not in {"raise", "retry"}:
            raise ArgumentValueError(f'on_worker_death must be "raise" or "retry", not {on_worker_death!r}')
        if (retries := _integer(max_retries, "max_retries")) < 0:
            raise ArgumentValueError(f"max_retries must be at least 0, not {retries}")
        self._retries: Final = retries if on_worker_death == "retry" else 0
        self._runtime: Final = REAL if runtime is None else runtime
        self._lock: Final[Lock] = self._runtime.lock()
        self._run: Run[T] | None = None  # written under _lock
        self._loaded: Place | None = None  # guarded by _lock: where the next start() begins

    @abstractmethod
    def make_plan(self, start: Place) -> Plan:
        """Return what there is to compute in the run that begins at `start`: `Plan(start=start, ...)`."""

    @abstractmethod
    def make_compute(self) -> Compute[T]:
        """Return what computes the items of one run."""

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Begin a fresh run, at epoch 0 and rank 0 or at the loaded state (G17, G27).

        Blocking: Until the workers are started; no user code is waited for, except that it may be pickled. Worker processes need not be
            ready by then: what keeps one from that is told where its first item would have come.

        Args:
            workers: Number of workers, at least 1: threads, or processes with a thread each.
            max_queue_size: Most items that are computed or waiting at one time, at least 1 (G4).

        Raises:
            TypeError, ValueError: An argument is wrong; nothing was started or changed (G23).
            RunningError: (a `RuntimeError`) A run is on; it is untouched (G18).
            StartError: (a `RuntimeError`) The system gives no more threads or processes, or the sequence can't be sent to one; nothing is left
                running (G18).
            ReentryError: (a `RuntimeError`) Called by what interrupted the enqueuer itself in this thread; nothing was started (D5).

        Guarantees: G17, G18, G19, G23.
        """
        workers, max_queue_size = _count(workers, "workers"), _count(max_queue_size, "max_queue_size")
        self.current_run()
        if self._lock.owned():
            raise ReentryError("start() was called by a signal handler or finalizer that interrupted the enqueuer itself: call only stop() there")
        with self._lock:
            old, loaded = self._idle_run(), self._loaded
        if old is not None:
            old.stop(0)  # G17: a failed or ended run
        plan = self.make_plan(Place() if loaded is None else loaded)
        if plan.serial:  # one item at a time: another worker would gain nothing, and a generator may only be closed in the thread that ran it
            workers = 1
        process = self._runtime.process()
        terms = Terms(self._runtime, self._lock, plan, self._make_engine(plan, process), workers, max_queue_size, process)
        run = self.make_run(terms)
        try:
            with self._lock:
                self._idle_run()
                self._run = run
                if self._loaded is loaded:
                    self._loaded = None
            run.start()
        except BaseException:  # G18: nothing is left running; no item has begun, or at most in the last moment
            run.stop(PATIENCE)
            with self._lock:
                if self._run is run:
                    self._run, self._loaded = old, loaded
            raise

    def _idle_run(self) -> Run[T] | None:
        """With the lock held: the run, which is over."""
        run = self._run
        if run is not None and run.running():  # G18
            raise RunningError(f"start() while a run is on, at rank {run.place().rank}: call stop() first")
        return run

    def _make_engine(self, plan: Plan, process: Process) -> Engine[T]:
        """Return what computes the items where they are to be computed."""
        if not self.use_multiprocessing:
            return Threads(self.make_compute())
        _need_processes()
        from ._processes import Processes, Workers, start_method

        module, method = _importing(), start_method(self._context).get_start_method()
        if module and method != "fork":
            raise StartError(
                f"start() was called while the module {module!r} is still being imported: worker processes that are started by {method!r} need "
                "that module, and would wait for the end of the import, which waits for them. Call start() in a function that runs after the import"
            )
        workers = Workers(self._context, self._retries, plan.seed, seeded=plan.rotating, resend=plan.barrier)
        return Processes(self.make_compute(), workers, self._runtime.lock(), process)

    def make_run(self, terms: Terms[T]) -> Run[T]:
        """Return a run that has not begun; not for overriding, except by what means to break it."""
        return Run(terms, self)

    def current_run(self) -> Run[T] | None:
        """Return the latest run, None before the first; for streams to bind to.

        Raises:
            ForkedError: (a `RuntimeError`) It belongs to the process that this one was forked from, and so may the lock (G28).
        """
        run = self._run  # read without the lock, which nobody may be there to release: one reference, published by one store
        if run is not None:
            run.check_process()
        return run

    def get(self, *, timeout: float | None = None) -> Stream[T]:
        """Return a stream of the items; nothing is waited for. May come before `start()`.

        Args:
            timeout: Seconds that each `next()` may wait for its item; None: as long as it takes.

        Raises:
            TypeError, ValueError: `timeout` is not a number of seconds, or below 0 (G23).

        Guarantees: G2, G3, G5, G6, G10, G22, G24, G26.
        """
        self.current_run()
        return Stream(self, _seconds(timeout))

    def stop(self, timeout: float | None = None) -> bool:
        """End the run: every blocked worker and consumer is released, the streams end, items computed ahead are dropped (N4).

        Blocking: Until every worker has exited, or about `timeout` seconds. Not at all when called from an item, the hook or the generator
        of the run, nor from a signal handler or finalizer that interrupted the enqueuer itself: there it requests the stop.

        Args:
            timeout: Seconds to wait for items under way; None: until they end.

        Returns:
            Whether everything has exited. False: a thread is stuck in user code and was abandoned (N5), or the stop was requested only.

        Guarantees: G14, G15, G16, G20.
        Source: documented to return nothing; Keras waits for every item whatever the timeout.
        """
        seconds = _seconds(timeout)
        run = self.current_run()
        return True if run is None else run.stop(seconds)

    def close(self, timeout: float | None = None) -> bool:
        """Do what `stop()` does: the documented example of `tf.keras.utils.OrderedEnqueuer` ends with it.

        Guarantees: G14, G15.
        """
        return self.stop(timeout)

    def is_running(self) -> bool:
        """Return whether a run is on: from `start()` until stop, delivered failure, or the end of a finite stream.

        Guarantees: G19.
        """
        run = self.current_run()
        return run is not None and run.running()

    def statistics(self) -> Statistics:
        """Return what the enqueuer is doing at this moment; after a run, how it ended.

        Blocking: Never.
        """
        run = self.current_run()
        if run is not None:
            return run.statistics()
        return Statistics(RunState.NEW, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, None)

    def __enter__(self) -> Self:
        """Return the enqueuer; start nothing."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Call `close()`; where the block was left by an exception, wait a second at most, so that a stuck item does not hold that up.

        Does nothing in a process forked meanwhile, where an error would hide how the block was left (G28).
        """
        try:
            self.close(None if kind is None else PATIENCE)
        except ForkedError:
            pass


class OrderedEnqueuer(SequenceEnqueuer[T]):
    """Prefetch the items of an indexable sequence, in order, epoch after epoch.

    >>> with OrderedEnqueuer([10, 20, 30]) as enqueuer:
    ...     enqueuer.start(workers=2, max_queue_size=4)
    ...     items = enqueuer.get()
    ...     [next(items) for _ in range(5)]
    [10, 20, 30, 10, 20]

    Guarantees: G1 to G28.
    Source: `tf.keras.utils.OrderedEnqueuer`.
    """

    def __init__(
        self,
        sequence: SequenceLike[T | None],
        use_multiprocessing: bool = False,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        context: BaseContext | str | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        max_retries: int = 3,
        runtime: Runtime | None = None,
    ) -> None:
        """Keep the sequence; start nothing and call nothing of it.

        Args:
            sequence: Has `__len__()` and `__getitem__(index)`, and optionally `on_epoch_end()`; its items may be computed in several threads
                at once (A1). An item that is `None` is skipped (G3). It should not refer to the enqueuer: the workers hold it, and dropping
                both could not end a run (G20).
            use_multiprocessing: Whether items are computed in worker processes, on copies (A2), instead of threads.
            shuffle: Whether each epoch has an order of its own (G8).
            seed: Root of the orders and of `item_seed()`; None: drawn here, once, from Python's global random state.
            context: How worker processes are started: "fork", "forkserver", "spawn" or one of multiprocessing's contexts; None: as the host has
                chosen, or by the platform's default, at each `start()`.
            on_worker_death: What becomes of an item whose worker process died (G13): "raise" ends the run there, "retry" computes it again.
            max_retries: How often an item is computed again.
            runtime: Where locks and threads come from; for schedulers that own every interleaving.

        Raises:
            ValueError: `context` is not known here, `on_worker_death` is neither, or `max_retries` is below 0 (G23).
            TypeError: `sequence` has no length or can't be indexed, or `seed` is no integer (G23).
        """
        super().__init__(sequence, use_multiprocessing, context=context, on_worker_death=on_worker_death, max_retries=max_retries, runtime=runtime)
        if isinstance(sequence, type):
            raise ArgumentTypeError(f"sequence must be an object, and {sequence.__name__!r} is a class: call it")
        for method in ("__len__", "__getitem__"):
            if not hasattr(type(sequence), method):
                raise ArgumentTypeError(
                    f"sequence must have __len__ and __getitem__, and {type(sequence).__name__!r} has no {method}; "
                    "for an iterator, a generator or a callable that makes one there is GeneratorEnqueuer"
                )
        self._items: Final = sequence
        if shuffle not in (True, False):
            raise ArgumentTypeError(f"shuffle must be True or False, not {shuffle!r}; the seed is an argument of its own")
        self.shuffle: Final = bool(shuffle)
        self._seed = _seed(seed, "seed")  # guarded by _lock

    @property
    def seed(self) -> int:
        """The root of orders and item seeds: as given, drawn, or loaded (G8)."""
        self.current_run()
        with self._lock:
            return self._seed

    def make_plan(self, start: Place) -> Plan:
        """Return the plan: endless epochs, a barrier between them where there is a hook."""
        return Plan(seed=self.seed, shuffle=self.shuffle, barrier=_hook(self._items) is not None, start=start)

    def make_compute(self) -> Compute[T]:
        """Return what reads the sequence."""
        return _Reading(self._items)

    def state_dict(self) -> dict[str, int | None]:
        """Return where the stream stands: the lowest rank not yet taken, in a form that JSON keeps.

        Returns:
            `seed`, `epoch`, `position` in that epoch, `rank`, and the `length` of the epoch, None if it is not known yet.

        Blocking: Never. During and after a run, and before one.
        Guarantees: G27.
        """
        run = self.current_run()
        with self._lock:
            place = self._loaded or (Place() if run is None else run.place())
            return {"seed": self._seed, "epoch": place.epoch, "position": place.position, "rank": place.rank, "length": place.length}

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Let the next `start()` go on where `state_dict()` was called, in an enqueuer of the same sequence and `shuffle`.

        The seed is taken over for good. Hooks are not replayed: what they changed is the caller's to restore (A5).

        Raises:
            TypeError, ValueError: `state` is not what `state_dict()` returns; nothing was changed (G23).
            RunningError: (a `RuntimeError`) A run is on; it is untouched.

        Guarantees: G27.
        """
        seed, place = _loaded(state)
        self.current_run()
        with self._lock:
            if self._run is not None and self._run.running():
                raise RunningError("load_state_dict() while a run is on: call stop() first")
            self._seed, self._loaded = seed, place


class GeneratorEnqueuer(SequenceEnqueuer[T]):
    """Prefetch the items of an iterator, in its order, whatever the number of workers.

    In thread mode one thread computes all items, however many workers are asked for, and closes the iterator: it need not be thread-safe, and may
    use what belongs to one thread, as a connection of sqlite3 does. In process mode
    each worker iterates its own copy, and the stream takes one item from each in turn, so that it is deterministic; a worker whose copy has
    ended is skipped. `worker_info()` tells a generator which share of the work is its own. Whatever can be pickled is copied under every start
    method; a generator object only by a fork.

    The stream ends after the last item. A callable begins anew at each `start()`, and the iterators made from it are closed when the run
    has ended; an iterator of the caller's own is never closed, and goes on where it was computed to (items computed ahead are lost).

    >>> with GeneratorEnqueuer(range(3)) as enqueuer:
    ...     enqueuer.start()
    ...     list(enqueuer.get())
    [0, 1, 2]

    Guarantees: G1 to G6, G9 to G26, G28.
    Source: `tf.keras.utils.GeneratorEnqueuer`.
    """

    def __init__(
        self,
        generator: Iterable[T | None] | Callable[[], Iterable[T | None]],
        use_multiprocessing: bool = False,
        random_seed: int | None = None,
        *,
        context: BaseContext | str | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        max_retries: int = 3,
        runtime: Runtime | None = None,
    ) -> None:
        """Keep the generator; start nothing and call nothing of it.

        Args:
            generator: An iterator, another iterable, or a callable that returns one. An item that is `None` is skipped (G3).
            use_multiprocessing: Whether items are computed in worker processes, on copies (A2), instead of threads.
            random_seed: Root of `item_seed()`; in process mode worker w also seeds `random`, and numpy's global state where it is imported,
                with `random_seed + w`. None: drawn here, once, from Python's global
                random state.
            context: How worker processes are started; see `OrderedEnqueuer`.
            on_worker_death: "raise"; nothing else is possible, since a generator can't be asked for an item again.
            max_retries: For the sake of its name in `OrderedEnqueuer`; without effect.
            runtime: Where locks and threads come from; for schedulers that own every interleaving.

        Raises:
            ValueError: `context` is not known here, or `on_worker_death` is not "raise" (G13, G23).
            TypeError: `generator` is none of these, an open file with worker processes, or `random_seed` is no integer (G23).
        """
        super().__init__(generator, use_multiprocessing, context=context, on_worker_death=on_worker_death, max_retries=max_retries, runtime=runtime)
        if on_worker_death == "retry":
            raise ArgumentValueError('on_worker_death="retry" needs items that can be computed again; a generator cannot go back: use "raise"')
        if use_multiprocessing and isinstance(generator, io.IOBase):
            raise ArgumentTypeError(
                "an open file can't be read by worker processes: they would share its position, and each would get parts of lines. "
                "Give a function that opens it: each worker calls it for itself"
            )
        self._open: Final = _opener(generator)
        self._foreign: Final = _is_iterator(generator)  # not ours to close
        self.random_seed: Final = _seed(random_seed, "random_seed")
        self._turns: Final = self._runtime.lock()  # who may ask a foreign iterator: a straggler of an earlier run may still be in it

    def make_plan(self, start: Place) -> Plan:
        """Return the plan: one epoch without a known length, one item at a time, or one worker process after the other."""
        processes = self.use_multiprocessing
        return Plan(seed=self.random_seed, serial=not processes, rotating=processes, epochs=1, start=start)

    def make_compute(self) -> Compute[T]:
        """Return what asks the iterator."""
        if self.use_multiprocessing:
            from ._processes import start_method

            method = start_method(self._context).get_start_method()
            if isinstance(self.sequence, GeneratorType) and method != "fork":
                raise StartError(
                    f"a generator can't be copied into worker processes that are started by {method!r}, since nothing can pickle it: "
                    "give the function that makes it"
                )
            return _Copying(self._open)
        turns = self._turns if self._foreign else self._runtime.lock()  # G16: an iterator of a run's own is that run's
        return _Pulling(self._open, turns, foreign=self._foreign)


@final
class _Reading(Generic[T]):
    """The compute of a sequence."""

    def __init__(self, sequence: SequenceLike[T | None]) -> None:
        self._sequence: Final = sequence
        self._hook: Final = _hook(sequence)
        self._length: int | None = None  # written in turns only, which follow one another

    def __reduce__(self) -> tuple[type[_Reading[T]], tuple[SequenceLike[T | None]]]:
        return _Reading, (self._sequence,)

    def turn(self, *, hook: bool) -> int:
        if self._hook is None:  # G7: the length is read once
            if self._length is None:
                self._length = len(self._sequence)
            return self._length
        if hook:
            self._hook()
        return len(self._sequence)

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        del worker, epoch
        try:
            return self._sequence[index]
        except EndOfStream as error:  # G5
            raise RuntimeError("an item raised EndOfStream, which only a Compute may: the stream of a sequence has no end") from error

    def close(self) -> None:
        """Leave the sequence alone."""


@final
class _Pulling(Generic[T]):
    """The compute of an iterator."""

    def __init__(self, opener: Callable[[], Iterator[T | None]], turns: Lock, *, foreign: bool) -> None:
        self._open: Final = opener
        self._turns: Final = turns
        self._foreign: Final = foreign
        self._iterator: Iterator[T | None] = iter(())  # written in the one turn, before any item

    def turn(self, *, hook: bool) -> None:
        del hook
        self._iterator = self._open()

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        del worker, epoch, index
        with self._turns:
            return _next(self._iterator)

    def close(self) -> None:
        close = None if self._foreign else getattr(self._iterator, "close", None)
        if callable(close):
            close()


@final
class _Copying(Generic[T]):
    """The compute of an iterator of which each worker process iterates its own copy."""

    def __init__(self, opener: Callable[[], Iterator[T | None]]) -> None:
        self._open: Final = opener
        self._iterator: Iterator[T | None] | None = None

    def turn(self, *, hook: bool) -> None:
        """Open nothing here: each worker does, at its first item."""

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        del worker, epoch, index
        if self._iterator is None:
            self._iterator = self._open()
        return _next(self._iterator)

    def close(self) -> None:
        """Nothing is open here."""


def _next(iterator: Iterator[T | None]) -> T | None:
    try:
        return next(iterator)
    except StopIteration:
        raise EndOfStream from None
    except EndOfStream as error:
        raise RuntimeError("an iterator raised EndOfStream, which only a Compute may: an iterator ends with StopIteration") from error


def _is_iterator(generator: object) -> bool:
    """Whether it is an iterator, also one that is not iterable, as it should be."""
    return hasattr(type(generator), "__next__")


def _opener(generator: Iterable[T | None] | Callable[[], Iterable[T | None]]) -> Callable[[], Iterator[T | None]]:
    """Return what gives the iterator to read, at each start."""
    if _is_iterator(generator):
        return partial(_same, cast("Iterator[T | None]", generator))
    if isinstance(generator, Iterable):
        iterable: Iterable[T | None] = generator  # pyright: ignore[reportUnknownVariableType]
        return partial(iter, iterable)
    if callable(generator):
        return partial(_made, generator)
    raise ArgumentTypeError(f"generator must be an iterator, an iterable or a callable that makes one, not {type(generator).__name__!r}")


def _same(iterator: Iterator[T]) -> Iterator[T]:
    return iterator


def _made(make: Callable[[], Iterable[T]]) -> Iterator[T]:
    return iter(make())


def _need_processes() -> None:
    """See that the system has what process mode needs, which is more than threads do."""
    try:
        from . import _processes  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise StartError(
            f"worker processes need a POSIX system, as Linux and macOS are; this one has no {error.name}. Use threads: use_multiprocessing=False"
        ) from error


def _importing() -> str:
    """Return the name of the module that the calling thread is in the midst of importing, "" if there is none."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - CPython has no other way to look at its own stack without reading source files
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = f"{frame.f_globals.get('__name__')}"
            if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
                return name
        frame = frame.f_back
    return ""


def _known(context: BaseContext | str | None) -> BaseContext | str | None:
    """Return the context, if there is such a one."""
    if context is None:
        return None
    import multiprocessing

    if isinstance(context, str):
        if context not in multiprocessing.get_all_start_methods():
            raise ArgumentValueError(f"context must be one of {multiprocessing.get_all_start_methods()}, not {context!r}")
        return context
    if not (hasattr(context, "Process") and hasattr(context, "get_start_method")):
        raise ArgumentTypeError(f"context must be the name of a start method or one of multiprocessing's contexts, not {context!r}")
    return context


def _hooked() -> None:
    pass


def _hooked_with_docstring() -> None:
    """Do nothing."""


# D9: a hook that does nothing is none
_NO_OPS: Final = frozenset({_hooked.__code__.co_code, _hooked_with_docstring.__code__.co_code})


def _hook(sequence: object) -> Callable[[], object] | None:
    """Return the sequence's `on_epoch_end`, None if it has none or one that does nothing, as `keras.utils.Sequence` and `PyDataset` do."""
    hook = getattr(sequence, "on_epoch_end", None)
    if not callable(hook):
        return None
    function = getattr(hook, "__func__", hook)
    if isinstance(function, FunctionType) and function.__code__.co_code in _NO_OPS:
        return None
    return hook  # type: ignore[no-any-return]


def _count(value: SupportsIndex, name: str) -> int:
    number = _integer(value, name)
    if number < 1:  # G23
        raise ArgumentValueError(f"{name} must be at least 1, not {number}")
    return number


def _integer(value: SupportsIndex, name: str) -> int:
    if isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be an integer, not {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be an integer, not {value!r}") from None


def _seed(value: SupportsIndex | None, name: str) -> int:
    # G25: this one number is all that is taken from, or done to, anything global
    number = random.getrandbits(SEED_BITS) if value is None else _integer(value, name)
    if abs(number) >= MOST_SEED:
        raise ArgumentValueError(f"{name} must be within 128 bits")
    return number


def _seconds(value: float | None) -> float | None:
    """Return the timeout as a float, None if it never runs out."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ArgumentTypeError(f"timeout must be seconds or None, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:  # an integer of hundreds of digits
        seconds = math.inf if value > 0 else -math.inf
    if not seconds >= 0:
        raise ArgumentValueError(f"timeout must be at least 0 seconds, not {value!r}")
    return None if seconds == math.inf else seconds


def _loaded(state: Mapping[str, int | None]) -> tuple[int, Place]:
    """Return the seed and the place that a state stands for."""
    names = ("seed", "epoch", "position", "rank", "length")
    try:
        given = dict(state)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"a state must be a mapping as state_dict() returns it, not {state!r}") from None
    if set(given) != set(names):
        raise ArgumentValueError(f"a state has the keys {', '.join(names)}; this one has {', '.join(map(str, given)) or 'none'}")
    numbers = {name: _integer(value, f"state[{name!r}]") for name in names if (value := given[name]) is not None}
    length = numbers.get("length")
    place = Place(numbers.get("epoch", -1), numbers.get("position", -1), numbers.get("rank", -1), length)
    sensible = 0 <= place.position <= place.rank < MOST and 0 <= place.epoch < MOST and (length is None or 0 < length < MOST)
    if not sensible or abs(numbers.get("seed", MOST_SEED)) >= MOST_SEED:
        raise ArgumentValueError(f"not a state that state_dict() returned: {given!r}")
    if place.position and (length is None or place.position >= length):
        raise ArgumentValueError(f"not a state that state_dict() returned: position {place.position} of an epoch of {length} items")
    return numbers["seed"], place
