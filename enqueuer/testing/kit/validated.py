"""The contract, watched while a real program runs: `validated()` makes an enqueuer that raises as soon as it sees a promise broken.

Each item travels with its index, so that it is known where it belongs. What can be seen of the inside of a run without its help is when it calls
the sequence: that is seen as long as items are computed in this process.

Rules:
  1. Nobody is blamed who might be innocent. What can't be told for certain, because a call was interrupted, two calls met, or something was done
     that this module knows nothing of, is not judged; a counter that errs does so in favour of the enqueuer.
  2. What is known of a run is in a `_Run`, made before that run begins. A call of the sequence is of the run that is there as it begins. Which one
     that is the board says; it knows nothing of the enqueuer, whose threads hold the sequence (G20).
  3. A next() is under way until it is booked, in one step; one that an interrupt keeps from being booked is under way for ever. What is found out
     of it is found out before.
  4. A signal handler may come in at every call, and may call anything, or wait for threads that are in here. So nothing is called while the lock
     of a run is held, and what needs no lock takes none.
  5. A fork may come in likewise. In another process than its own a run is left alone: its lock may be held there for ever.
"""

from __future__ import annotations

import math
import operator
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import FunctionType
from typing import Final, Generic, ParamSpec, Protocol, Self, SupportsFloat, SupportsIndex, TypeAlias, TypeVar, cast

from ..._types import SequenceLike
from ...errors import WaitTimeoutError
from ..subject import BrokenPromise, GeneratorLike, promise

__all__ = ["Validated", "validated"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_Place: TypeAlias = "int | set[int] | None"
"""How far an epoch is delivered: how many of its items are, or which of a shuffled one. None: nobody knows."""
_Broken: TypeAlias = tuple[str, str]
"""A guarantee, and what was seen."""

HARMLESS: Final = frozenset({"state_dict", "statistics"})
"""What may be called without ending a run, or changing where the next one begins."""


class _Board:
    """What a wrapped sequence and its enqueuer's wrapper share."""

    def __init__(self, *, in_order: bool) -> None:
        self.in_order: Final = in_order
        self.lengths: Final[list[int]] = []  # that the sequence has told: an epoch has one of them; only ever added to
        self.run: _Run | None = None  # the latest that was to begin
        self.fresh = True  # whether the next begins at the beginning
        self.stops: Final[list[None]] = []  # one for each stop() under way

    def place(self) -> _Place:
        """Return where a run begins."""
        return None if not self.fresh else 0 if self.in_order else set()

    def own(self) -> _Run | None:
        """Return the latest run, if it is of this process."""
        run = self.run
        return run if run is not None and run.mine() else None

    def estrange(self) -> None:
        """The latest run is not judged any more."""
        if (run := self.own()) is not None:
            run.estrange()

    def judged(self, index: int, place: _Place) -> tuple[_Broken | None, _Place]:
        """Return what an item breaks that is delivered at this place, and the place behind it."""
        lengths = tuple(self.lengths)
        if lengths and not 0 <= index < max(lengths):
            return ("G1", f"item {index} of a sequence of {max(lengths)} was delivered"), None
        if not self.in_order:
            if not isinstance(place, set) or len(set(lengths)) != 1:  # nobody knows where an epoch ends
                return None, None
            if index in place:
                return ("G1", f"item {index} was delivered twice in an epoch"), None
            place.add(index)
            return None, set() if len(place) in lengths else place
        if isinstance(place, int):
            goes_on, is_over = not lengths or place < max(lengths), not lengths or place in lengths
            if not ((goes_on and index == place) or (is_over and not index)):
                belongs = place if goes_on else 0
                return ("G1" if index < belongs else "G2", f"item {index} was delivered where {belongs} belongs"), index + 1
        return None, index + 1


class _Run:
    """What is known of one run. `_lock` guards what is counted; flags are only ever set."""

    def __init__(self, board: _Board, size: float, *, alone: bool) -> None:
        self._lock: Final = threading.RLock()
        self._pid: Final = os.getpid()
        self._board: Final = board
        self._size: Final = size
        self._alone: Final = alone  # whether all calls of the sequence are its own: no earlier run has left any
        self._place = board.place()  # guarded by _lock, as are the next two lines
        self._begun = self._taken = self._lost = 0  # items: computed or under way, delivered, and those that may have been
        self._calls = 0  # next() under way
        self._inside: Final[list[int]] = []  # threads that compute an item
        self.started = False  # start() has returned
        self.silent = False  # stop() has returned true
        self.ended = False  # a stream has ended
        self.touched = False  # it may have been stopped, or have failed
        self._shared = False  # two next() have met: nobody knows which was served first
        self._strange = False  # nobody knows anything
        self._broken: _Broken | None = None

    def mine(self) -> bool:
        """Whether it is of this process."""
        return self._pid == os.getpid()

    def on(self) -> bool:
        """Whether it is on, for certain, and can't end without a call of the program's."""
        return self.started and not (self.touched or self.ended or self._calls)

    def over(self) -> bool:
        """Whether it is over, for certain."""
        return (self.silent or self.ended) and not self._strange

    def quiet(self) -> bool:
        """Whether it does nothing any more, and nobody takes anything of it."""
        return self.silent and not self._calls

    def estrange(self) -> None:
        """Something was done that nobody knows anything of: from now on it is not judged."""
        self.touched = self._shared = self._strange = True

    def _blame(self, guarantee: str, what: str) -> None:
        """Write down what the next call of the program is to be told: in an item nobody would hear it."""
        self._broken = self._broken or (guarantee, what)

    def tell(self) -> None:
        """Raise what was written down, once."""
        broken, self._broken = self._broken, None
        if broken is not None:
            raise BrokenPromise(*broken)

    # what the enqueuer does

    def enter(self, index: int) -> None:
        """An item is computed."""
        self._inside.append(threading.get_ident())
        if not self._alone or self._strange:
            return
        with self._lock:
            self._begun += 1
            ahead, allowed = self._begun - self._taken, self._size + self._calls + self._lost
        if self.silent:
            self._blame("G16", f"stop() had returned true, and item {index} was asked for")
        elif ahead > allowed:
            self._blame("G4", f"{ahead} items were computed or waiting, {self._size} are allowed")

    def leave(self) -> None:
        """It is not any more; perhaps in a process that it has forked."""
        self._inside.remove(threading.get_ident())

    def turn(self) -> None:
        """The hook is called."""
        if not self._alone or self._strange:
            return
        with self._lock:
            ahead, allowed = self._begun - self._taken, self._calls + self._lost  # who is in next() may have taken what it has not returned yet
        if self.silent:
            self._blame("G16", "stop() had returned true, and on_epoch_end() was called")
        elif self._inside:
            self._blame("G7", f"on_epoch_end() was called while {len(self._inside)} items were computed")
        elif ahead > allowed:
            self._blame("G7", f"on_epoch_end() was called when {ahead} items of the epoch had not been taken")

    # what the program does

    def begin(self) -> _Place:
        """Begin a next(). Return how far the epoch is delivered, which nobody knows until this one is booked."""
        with self._lock:
            self._calls += 1
            if self._calls > 1:
                self._shared = True
            place, self._place = self._place, None
        return place

    def delivered(self, index: int, place: _Place) -> None:
        """Book a next() that has brought an item."""
        broken, behind = self._board.judged(index, place)
        with self._lock:
            self._calls -= 1
            self._taken += 1
            shared = self._shared
            if not shared:
                self._place = behind
        if broken is not None and not shared:
            raise BrokenPromise(*broken)

    def finished(self, *, closed: bool) -> None:
        """Book a next() that has ended its stream, which somebody may have closed."""
        ending = closed or _ending()
        with self._lock:
            too_soon = self.started and self._calls == 1 and not (self.touched or self.ended or ending)
            self._calls -= 1
            if not closed:
                self.ended = True
        promise(not too_soon, "G5", "the stream of a sequence has ended, and nobody has stopped it")

    def raised(self) -> None:
        """Book a next() that has raised something: of an item's, of its own, or of a signal handler's, and then an item may be lost."""
        with self._lock:
            self._calls -= 1
            self._lost += 1
            self.touched = True

    def stopped(self) -> None:
        """Book a stop() that has returned true, of a run that had been started before it was called."""
        others = [thread for thread in (*self._inside,) if thread != threading.get_ident()] if self._alone and not self._strange else []
        self.silent = True
        promise(not others, "G16", f"stop() returned true while {len(others)} items were computed")


def _ending() -> bool:
    """Whether this process may be about to end, which ends its runs: one of multiprocessing's does so while its main thread is alive."""
    processes = sys.modules.get("multiprocessing.process")
    return not threading.main_thread().is_alive() or (processes is not None and processes.parent_process() is not None)


class _Observed(Generic[T]):
    """The sequence, as the enqueuer sees it. In another process it only tells what an item is the item of."""

    def __init__(self, sequence: SequenceLike[T], board: _Board | None = None) -> None:
        self._sequence: Final = sequence
        self._board: Final = board

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._sequence,)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sequence, name)

    def _run(self) -> _Run | None:
        return None if self._board is None else self._board.own()

    def __len__(self) -> int:
        try:
            length = len(self._sequence)
        except BaseException:
            self._failed()
            raise
        if self._board is not None and length not in self._board.lengths:
            self._board.lengths.append(length)
        return length

    def __getitem__(self, index: int) -> tuple[int, T]:
        if (run := self._run()) is None:
            return index, self._sequence[index]
        run.enter(index)
        try:
            return index, self._sequence[index]
        except BaseException:
            run.touched = True
            raise
        finally:
            run.leave()

    def _failed(self) -> None:
        if (run := self._run()) is not None:
            run.touched = True


class _Hooked(_Observed[T]):
    """One that has a hook."""

    def on_epoch_end(self) -> None:
        if (run := self._run()) is not None:
            run.turn()
        hook = getattr(self._sequence, "on_epoch_end", None)
        try:
            if callable(hook):
                hook()
        except BaseException:
            self._failed()
            raise


def _nothing() -> None:
    pass


def _nothing_said() -> None:
    """Do nothing."""


def _has_hook(sequence: object) -> bool:
    """Whether there is a hook that does something: an enqueuer may leave another one out, which wrapped it could not."""
    hook = getattr(sequence, "on_epoch_end", None)
    function = getattr(hook, "__func__", hook)
    nothing = (_nothing.__code__.co_code, _nothing_said.__code__.co_code)
    return callable(hook) and not (isinstance(function, FunctionType) and function.__code__.co_code in nothing)


class _Stream(Generator[T, None, None]):
    """A stream. It is of the run that was on when it was made and still is when its first next() has returned, else of nobody knows which."""

    def __init__(self, board: _Board, inner: Iterator[tuple[int, T]], timeout: float) -> None:
        self._board: Final = board
        self._inner: Final = inner
        self._timeout: Final = timeout
        run = board.run
        self._run = run if run is not None and run.started else None  # None: nobody knows
        self._first = True
        self._ended = self._closed = False

    def __next__(self) -> T:
        until = time.monotonic() + (self._timeout or math.inf)  # without any it is the enqueuer that knows what is there
        while (item := self._next()) is None:
            if time.monotonic() >= until:
                raise WaitTimeoutError(f"no item but None came within {self._timeout:g} s")
        return item

    def _next(self) -> T:
        run = self._run
        if run is None or not self._its(run):
            self._run = None
            return self._strange()
        if not run.mine():
            return next(self._inner)[1]
        run.tell()
        gone = "stop() had returned true" if run.silent else "a stream had ended" if self._ended else ""
        place = run.begin()
        try:
            index, item = next(self._inner)
        except StopIteration:
            if run.mine():
                if self._its(run):
                    self._ended = True
                    run.finished(closed=self._closed)
                else:
                    run.raised()
                run.tell()
            raise
        except BaseException:
            if run.mine():
                run.raised()
            raise
        if not run.mine():
            return item
        if not self._its(run):
            run.raised()
            run.estrange()
            self._board.estrange()
            return item
        self._first = False
        run.delivered(index, place)
        promise(not gone, "G16", f"{gone}, and then it gave item {index}")
        run.tell()
        return item

    def _its(self, run: _Run) -> bool:
        """Whether it is of this run: it is bound by its first next(), to whichever is there."""
        return not self._first or self._board.run is run

    def _strange(self) -> T:
        """Return an item of the run that is there before, or after."""
        self._board.estrange()
        try:
            return next(self._inner)[1]
        finally:
            self._board.estrange()

    def send(self, value: None, /) -> T:
        """Return `next()`."""
        del value
        return next(self)

    def throw(self, *error: object) -> T:
        """Do what the enqueuer's does."""
        self._closed = True
        return cast("T", self._inner.throw(*error)[1])  # type: ignore[attr-defined]

    def close(self) -> None:
        """Do what the enqueuer's does."""
        self._closed = True
        self._inner.close()  # type: ignore[attr-defined]


class _Makes(Protocol[T]):
    def __call__(self, sequence: SequenceLike[tuple[int, T]], *, shuffle: bool, **options: object) -> GeneratorLike[tuple[int, T]]: ...


class Validated(Generic[T]):
    """See `validated()`. What it does not have is the enqueuer's own, which is not to be used beside it.

    Attributes:
        sequence: What is read, as it was given.
        enqueuer: The enqueuer.
    """

    def __init__(self, make: _Makes[T], sequence: SequenceLike[T], *, shuffle: bool, options: dict[str, object]) -> None:
        self._board: Final = _Board(in_order=not shuffle)
        self.sequence: Final = sequence
        observed = _Hooked(sequence, self._board) if _has_hook(sequence) else _Observed(sequence, self._board)
        self.enqueuer: Final = make(observed, shuffle=shuffle, **options)

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start. As the enqueuer's own."""
        board, before = self._board, self._board.own()
        on = before is not None and before.on() and self.enqueuer.is_running()
        run = _Run(board, _size(max_queue_size), alone=before is None or before.quiet())
        board.run = run
        run.touched = bool(board.stops)  # a stop() that is under way may stop it
        try:
            self.enqueuer.start(workers, max_queue_size)
        except BaseException:
            run.estrange()
            if on and before is not None and before.on() and board.run is run:
                board.run = before  # it was refused; what was computed meanwhile is not counted
            elif before is not None:
                before.estrange()
            raise
        board.fresh = True
        run.started = True
        promise(not (on and before is not None and before.on()), "G18", "start() during a run raised nothing")

    def get(self, *, timeout: float | None = None) -> Iterator[T]:
        """Return a stream. As the enqueuer's own. A timeout begins anew, once, where it has passed between two items that are `None`."""
        if timeout is None:
            return _Stream(self._board, self.enqueuer.get(), math.inf)
        return _Stream(self._board, self.enqueuer.get(timeout=timeout), _seconds(timeout))

    def stop(self, timeout: float | None = None) -> bool:
        """Stop. As the enqueuer's own."""
        board, run = self._board, self._board.own()
        if run is None:
            return self.enqueuer.stop(timeout)
        started = run.started
        run.touched = True
        board.stops.append(None)
        try:
            done = self.enqueuer.stop(timeout)
        finally:
            board.stops.pop()
        if done and started and run.mine():
            running = self.enqueuer.is_running() and board.run is run
            run.stopped()
            promise(not running, "G19", "is_running() is true after stop()")
        run.tell()
        return done

    def is_running(self) -> bool:
        """Return whether there is a run. As the enqueuer's own."""
        board, run = self._board, self._board.run
        if run is not None and not run.mine():
            return self.enqueuer.is_running()
        over = board.fresh if run is None else run.over()
        on = run is not None and run.on()
        running = self.enqueuer.is_running()
        if run is not None:
            run.tell()
        promise(not (running and over and board.run is run), "G19", "is_running() is true, and nothing was started, or it has ended")
        lost = not running and on and run is not None and run.on() and board.run is run and not _ending()
        promise(not lost, "G19", "is_running() is false during a run")
        return running

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        found: object = getattr(self.enqueuer, name)
        return self._strangely(found) if callable(found) and name not in HARMLESS else found

    def _strangely(self, call: Callable[P, R]) -> Callable[P, R]:
        """Return what may do whatever to this run and the next, so that it is known when it is called."""

        def strange(*arguments: P.args, **more: P.kwargs) -> R:
            self._strange()
            try:
                return call(*arguments, **more)
            finally:
                self._strange()

        return strange

    def _strange(self) -> None:
        self._board.fresh = False
        self._board.estrange()

    def __enter__(self) -> Self:
        self.enqueuer.__enter__()  # type: ignore[attr-defined]
        if self.enqueuer.is_running():  # it may have been started just now
            self._strange()
        return self

    def __exit__(self, *left: object) -> object:
        return self._strangely(self.enqueuer.__exit__)(*left)  # type: ignore[attr-defined]


def _size(value: SupportsIndex) -> float:
    """Return a size of a queue as a number, if it is one: if it is none the enqueuer says so."""
    try:
        return operator.index(value)
    except Exception:
        return math.inf


def _seconds(timeout: SupportsFloat) -> float:
    """Return a timeout that an enqueuer has accepted as a number."""
    try:
        return float(timeout)
    except Exception:
        return math.inf


def validated(make: object, sequence: SequenceLike[T], *, shuffle: bool = False, **options: object) -> Validated[T]:
    """Return an enqueuer for a program as it is, which raises `BrokenPromise` at the call that sees a promise broken, or at the next one.

    It costs a few microseconds an item. What is watched: which items come, their order, and that they have no end (G1, G2, G5); as long as items are
    computed in this process the bound, that the hook does not come too early, and silence after `stop()` (G4, G7, G16); the life of a run (G16, G18,
    G19). What can't be told for certain is not judged, above all: after a time-out or an interrupt whether anything was lost, the order where
    several consumers have met, a sequence of changing length that is shuffled, the inside of a run whose predecessor was not stopped, streams that
    were made before `start()`. That `None` is skipped (G3) is done here. A signal handler that raises `StopIteration` is taken for the end.

    Args:
        make: The class, or a callable like it: it gets a sequence, `shuffle` and the options.
        sequence: What is read. It is sent to worker processes if the enqueuer sends sequences there.
        shuffle: Whether each epoch has an order of its own; otherwise it is the sequence's.
        options: Whatever else `make` takes.
    """
    return Validated(cast("_Makes[T]", make), sequence, shuffle=shuffle, options=options)
