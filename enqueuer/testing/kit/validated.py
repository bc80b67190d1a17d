"""The contract, watched while a real program runs: `validated()` makes an enqueuer that raises as soon as it sees a promise broken.

Each item travels with its index, so that it is known where it belongs. What can be seen of the inside of a run without its help is when it calls
the sequence: that is seen as long as items are computed in this process.

Rules:
  1. Nobody is blamed who might be innocent. What can't be told for certain, because a call was interrupted, two calls met, or something was done
     that this module knows nothing of, is not judged; a counter that errs does so in favour of the enqueuer.
  2. What is known of a run is in a `_Run`, made before that run begins. A call of the sequence, and a call of the program, are of the run that is
     there as they begin. Which one that is the board says; it knows nothing of the enqueuer, whose threads hold the sequence (G20).
  3. A next() is under way until it is booked, in one step; one that an interrupt keeps from being booked is under way for ever.
  4. A signal handler may come in between and call anything: the lock of a run is one that its thread may take again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Final, Generic, Protocol, Self, TypeAlias, TypeVar, cast

from ..._types import SequenceLike
from ..subject import BrokenPromise, GeneratorLike, promise

__all__ = ["Validated", "validated"]

T = TypeVar("T")
_Place: TypeAlias = "int | set[int] | None"
"""How far an epoch is delivered: how many of its items are, or which of a shuffled one. None: nobody knows."""
_Broken: TypeAlias = tuple[str, str]
"""A guarantee, and what was seen."""

HARMLESS: Final = frozenset({"seed", "sequence", "state_dict", "statistics"})
"""What an enqueuer may be asked for without ending a run, or changing where the next one begins."""


class _Board:
    """What a wrapped sequence and its enqueuer's wrapper share."""

    def __init__(self, *, in_order: bool) -> None:
        self.in_order: Final = in_order
        self.lengths: Final[list[int]] = []  # that the sequence has told: an epoch has one of them; only ever added to
        self.run: _Run | None = None  # the latest that was to begin
        self.fresh = True  # whether the next begins at the beginning

    def place(self) -> _Place:
        """Return where a run begins."""
        return None if not self.fresh else 0 if self.in_order else set()

    def own(self) -> _Run | None:
        """Return the latest run, if it is of this process."""
        run = self.run
        return run if run is not None and run.mine() else None

    def estrange(self) -> None:
        """See there."""
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
    """What is known of one run. Guarded by `lock`; in another process than its own it is left alone."""

    def __init__(self, board: _Board, size: int, *, alone: bool) -> None:
        self.lock: Final = threading.RLock()
        self.pid: Final = os.getpid()
        self._board: Final = board
        self._size: Final = size
        self._alone = alone  # whether all calls of the sequence are its own: no earlier run has left any
        self._place = board.place()
        self._begun = self._taken = self._lost = 0  # items: computed or under way, delivered, and those that may have been
        self._calls = 0  # next() under way
        self._shared = False  # two of them have been: nobody knows which was served first
        self._inside: Final[list[int]] = []  # threads that compute an item
        self.started = False  # start() has returned
        self.silent = False  # stop() has returned true
        self.ended = False  # a stream has ended
        self._touched = False  # it may have been stopped, or have failed
        self._broken: _Broken | None = None

    def mine(self) -> bool:
        """Whether it is of this process."""
        return self.pid == os.getpid()

    def on(self) -> bool:
        """Whether it is on, for certain, and can't end without a call of the program's."""
        with self.lock:
            return self.started and not (self._touched or self.ended or self._calls)

    def touch(self) -> None:
        """Something was done that may have ended it, or has happened."""
        with self.lock:
            self._touched = True

    def estrange(self) -> None:
        """Something was done that nobody knows anything of: from now on it is not judged."""
        with self.lock:
            self._touched = self._shared = True
            self._alone = self.silent = self.ended = False

    def _blame(self, guarantee: str, what: str) -> None:
        """Write down what the next call of the program is to be told: in an item nobody would hear it."""
        self._broken = self._broken or (guarantee, what)

    def tell(self) -> None:
        """Raise what was written down, once."""
        with self.lock:
            broken, self._broken = self._broken, None
        if broken is not None:
            raise BrokenPromise(*broken)

    # what the enqueuer does

    @contextmanager
    def computing(self, index: int) -> Generator[None]:
        """Around the computation of an item."""
        with self.lock:
            self._inside.append(threading.get_ident())
            self._begun += 1
            ahead = self._begun - self._taken
            if self._alone and self.silent:
                self._blame("G16", f"stop() had returned true, and item {index} was asked for")
            elif self._alone and ahead > self._size + self._calls + self._lost:
                self._blame("G4", f"{ahead} items were computed or waiting, {self._size} are allowed")
        try:
            yield
        except BaseException:
            self.touch()
            raise
        finally:
            with self.lock:
                self._inside.remove(threading.get_ident())

    @contextmanager
    def hooking(self) -> Generator[None]:
        """Around `on_epoch_end()`."""
        with self.lock:
            ahead = self._begun - self._taken
            if self._alone and self.silent:
                self._blame("G16", "stop() had returned true, and on_epoch_end() was called")
            elif self._alone and self._inside:
                self._blame("G7", f"on_epoch_end() was called while {len(self._inside)} items were computed")
            elif self._alone and ahead > self._calls + self._lost:  # who is in next() may have taken what it has not returned yet
                self._blame("G7", f"on_epoch_end() was called when {ahead} items of the epoch had not been taken")
        try:
            yield
        except BaseException:
            self.touch()
            raise

    # what the program does

    def begin(self) -> _Place:
        """Begin a next(). Return how far the epoch is delivered, which nobody knows until this one is booked."""
        with self.lock:
            place, self._place = self._place, None
            self._shared = self._shared or bool(self._calls)
            self._calls += 1
        return place

    def delivered(self, index: int, place: _Place) -> None:
        """Book a next() that has brought an item."""
        with self.lock:
            self._calls -= 1
            self._taken += 1
            broken = None
            if not self._shared:
                broken, self._place = self._board.judged(index, place)
        if broken is not None:
            raise BrokenPromise(*broken)

    def finished(self, *, closed: bool) -> None:
        """Book a next() that has ended its stream, which somebody may have closed."""
        with self.lock:
            too_soon = self.started and not (self._touched or self.ended or closed) and self._calls == 1
            self._calls -= 1
            self.ended = self.ended or not closed
        promise(not (too_soon and threading.main_thread().is_alive()), "G5", "the stream of a sequence has ended, and nobody has stopped it")

    def raised(self) -> None:
        """Book a next() that has raised something: of an item's, of its own, or of a signal handler's, and then an item may be lost."""
        with self.lock:
            self._calls -= 1
            self._lost += 1
            self._touched = True

    def stopped(self) -> None:
        """Book a stop() that has returned true, of a run that had been started before it was called."""
        with self.lock:
            others = len([thread for thread in self._inside if thread != threading.get_ident()]) if self._alone else 0
            self.silent = True
        promise(not others, "G16", f"stop() returned true while {others} items were computed")


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
            if (run := self._run()) is not None:
                run.touch()
            raise
        if self._board is not None and length not in self._board.lengths:
            self._board.lengths.append(length)
        return length

    def __getitem__(self, index: int) -> tuple[int, T]:
        if (run := self._run()) is None:
            return index, self._sequence[index]
        with run.computing(index):
            return index, self._sequence[index]


class _Hooked(_Observed[T]):
    """One that has a hook."""

    def on_epoch_end(self) -> None:
        hook = cast("Callable[[], object]", self._sequence.on_epoch_end)  # type: ignore[attr-defined]
        if (run := self._run()) is None:
            hook()
            return
        with run.hooking():
            hook()


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
    """A stream. It is of the run that was on when it was made and still is at its first next(); of another nobody knows what it is of."""

    def __init__(self, board: _Board, inner: Iterator[tuple[int, T]], timeout: float | None) -> None:
        self._board: Final = board
        self._inner: Final = inner
        self._timeout: Final = timeout
        self._born: Final = board.run
        self._run: _Run | None = None
        self._ended = self._closed = False

    def __next__(self) -> T:
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while (item := self._next()) is None:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"no item but None came within {self._timeout:g} s")
        return item

    def _next(self) -> T:
        board, run = self._board, self._bound()
        if run is None:  # it is an item of the run that is there before, or after
            board.estrange()
            item = next(self._inner)[1]
            board.estrange()
            return item
        if not run.mine():
            return next(self._inner)[1]
        run.tell()
        gone = "stop() had returned true" if run.silent else "a stream had ended" if self._ended else ""
        place = run.begin()
        try:
            index, item = next(self._inner)
        except StopIteration:
            self._ended = True
            run.finished(closed=self._closed)
            run.tell()
            raise
        except BaseException:
            run.raised()
            raise
        run.delivered(index, place)
        promise(not gone, "G16", f"{gone}, and then it gave item {index}")
        run.tell()
        return item

    def _bound(self) -> _Run | None:
        if self._run is None and self._born is not None and self._born is self._board.run and self._born.started:
            self._run = self._born
        return self._run

    def send(self, value: None, /) -> T:
        """Return `next()`."""
        del value
        return next(self)

    def throw(self, *error: object) -> T:
        """Close the stream, and raise."""
        self.close()
        return super().throw(*error)  # type: ignore[call-overload, no-any-return]

    def close(self) -> None:
        """End the stream, if the enqueuer's can be closed."""
        self._closed = True
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class _Makes(Protocol[T]):
    def __call__(self, sequence: SequenceLike[tuple[int, T]], *, shuffle: bool, **options: object) -> GeneratorLike[tuple[int, T]]: ...


class Validated(Generic[T]):
    """See `validated()`. What it does not have is the enqueuer's own."""

    def __init__(self, make: _Makes[T], sequence: SequenceLike[T], *, shuffle: bool, options: dict[str, object]) -> None:
        self._board: Final = _Board(in_order=not shuffle)
        observed = _Hooked(sequence, self._board) if _has_hook(sequence) else _Observed(sequence, self._board)
        self.enqueuer: Final = make(observed, shuffle=shuffle, **options)

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start. As the enqueuer's own."""
        board, before = self._board, self._board.own()
        on = before is not None and before.on() and self.enqueuer.is_running()
        run = _Run(board, max_queue_size, alone=before is None or before.silent)
        board.run = run
        try:
            self.enqueuer.start(workers, max_queue_size)
        except BaseException:
            if board.run is run:
                board.run = before
            board.estrange()  # it may have got some of its calls
            raise
        board.fresh = True
        run.started = True
        promise(not (on and before is not None and before.on()), "G18", "start() during a run raised nothing")

    def get(self, *, timeout: float | None = None) -> Iterator[T]:
        """Return a stream. As the enqueuer's own. A timeout begins anew, once, where it has passed between two items that are `None`."""
        return _Stream(self._board, self.enqueuer.get() if timeout is None else self.enqueuer.get(timeout=timeout), timeout)

    def stop(self, timeout: float | None = None) -> bool:
        """Stop. As the enqueuer's own."""
        run = self._board.own()
        if run is None:
            return self.enqueuer.stop(timeout)
        started = run.started
        run.touch()
        done = self.enqueuer.stop(timeout)
        if done and started:
            running = self.enqueuer.is_running() and self._board.run is run
            run.stopped()
            promise(not running, "G19", "is_running() is true after stop()")
        run.tell()
        return done

    def is_running(self) -> bool:
        """Return whether there is a run. As the enqueuer's own."""
        board, run = self._board, self._board.run
        if run is not None and not run.mine():
            return self.enqueuer.is_running()
        over = board.fresh if run is None else run.silent or run.ended
        running = self.enqueuer.is_running()
        if run is not None:
            run.tell()
        promise(not (running and over and board.run is run), "G19", "is_running() is true, and nothing was started, or it has ended")
        return running

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in HARMLESS:
            self._strange()
        return getattr(self.enqueuer, name)

    def _strange(self) -> None:
        """The enqueuer is asked for something that may do whatever to this run and the next."""
        self._board.fresh = False
        self._board.estrange()

    def __enter__(self) -> Self:
        self._strange()
        self.enqueuer.__enter__()  # type: ignore[attr-defined]
        return self

    def __exit__(self, *left: object) -> object:
        self._strange()
        return self.enqueuer.__exit__(*left)  # type: ignore[attr-defined]


def validated(make: object, sequence: SequenceLike[T], *, shuffle: bool = False, **options: object) -> Validated[T]:
    """Return an enqueuer for a program as it is, which raises `BrokenPromise` at the call that sees a promise broken, or at the next one.

    It costs a few microseconds an item. What is watched: items and their order, and that they have no end (G1, G2, G5), the bound, the hook and
    silence after `stop()` as long as items are computed in this process (G4, G7, G16), the life of a run (G16, G18, G19). What can't be told
    for certain is not judged, above all: after a time-out or an interrupt whether anything was lost, the order where several consumers have
    met, a sequence of changing length that is shuffled, the inside of a run whose predecessor was not stopped, streams that were made before
    `start()`. That `None` is skipped (G3) is done here.

    Args:
        make: The class, or a callable like it: it gets a sequence, `shuffle` and the options.
        sequence: What is read. It is sent to worker processes if the enqueuer sends sequences there.
        shuffle: Whether each epoch has an order of its own; otherwise it is the sequence's.
        options: Whatever else `make` takes.
    """
    return Validated(cast("_Makes[T]", make), sequence, shuffle=shuffle, options=options)
