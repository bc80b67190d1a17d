"""The contract, watched while a real program runs: `validated()` makes an enqueuer that raises as soon as it sees a promise broken.

Each item travels with its index, so that it is known where it belongs. What can be seen of the inside of a run, without its help, is when it
calls the sequence: that is seen as long as items are computed in this process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final, Generic, Protocol, TypeVar, cast

from ..._types import SequenceLike
from ..subject import BrokenPromise, GeneratorLike, promise

__all__ = ["Validated", "validated"]

T = TypeVar("T")


class _Tagged(Generic[T]):
    """An item, and what it is the item of. `None` is one, too: else nobody could tell which is missing."""

    __slots__ = ("index", "item")

    def __init__(self, index: int, item: T) -> None:
        self.index, self.item = index, item


class _Watched:
    """What is known of one run. All of it is guarded by `lock`."""

    def __init__(self, size: int) -> None:
        self.lock: Final = threading.Lock()
        self.size: Final = size
        self.length = 0  # as the run was told at last
        self.epoch = 0
        self.seen: set[int] = set()  # indices of this epoch that were delivered
        self.begun = self.inside = self.taken = self.calls = 0  # items: computed or under way, under way, delivered; next() under way
        self.shared = False  # two consumers have called next() at once: nobody knows who was served first
        self.stopped = False  # stop() was called
        self.quiet = False  # stop() has returned true
        self.over = False  # the stream has ended, for whatever reason
        self.broken: BrokenPromise | None = None

    def blame(self, guarantee: str, what: str) -> None:
        """With the lock held: write down what the next call of the program is to be told. In an item nobody would hear it."""
        self.broken = self.broken or BrokenPromise(guarantee, what)

    def tell(self) -> None:
        """Raise what was written down, once."""
        with self.lock:
            broken, self.broken = self.broken, None
        if broken is not None:
            raise broken

    @contextmanager
    def computing(self, index: int) -> Generator[None]:
        """Around the computation of an item."""
        with self.lock:
            self.begun += 1
            self.inside += 1
            if self.quiet:
                self.blame("G16", f"stop() had returned true, and item {index} was asked for")
            if self.begun - self.taken > self.size + self.calls:
                self.blame("G4", f"{self.begun - self.taken} items were computed or waiting, {self.size} are allowed")
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1

    def hook(self) -> None:
        """Before `on_epoch_end()`."""
        with self.lock:
            if self.quiet:
                self.blame("G16", "stop() had returned true, and on_epoch_end() was called")
            elif self.inside:
                self.blame("G7", f"on_epoch_end() was called while {self.inside} items were computed")
            elif self.begun - self.taken > self.calls:  # who is in next() may have taken what it has not returned yet
                self.blame("G7", f"on_epoch_end() was called when {self.begun - self.taken} items of the epoch had not been taken")

    def delivered(self, index: int, *, ordered: bool) -> None:
        """With the lock held: an item has come."""
        self.taken += 1
        if self.shared:
            return
        promise(0 <= index < self.length, "G1", f"item {index} of a sequence of {self.length} was delivered")
        promise(index not in self.seen, "G1", f"item {index} was delivered twice in epoch {self.epoch}")
        promise(not ordered or index == len(self.seen), "G2", f"item {index} was delivered where {len(self.seen)} belongs, in epoch {self.epoch}")
        self.seen.add(index)
        if len(self.seen) == self.length:
            self.seen, self.epoch = set(), self.epoch + 1


class _Observed(Generic[T]):
    """The sequence, as the enqueuer sees it. In another process it only tags."""

    def __init__(self, sequence: SequenceLike[T], watched: Callable[[], _Watched] | None = None) -> None:
        self.sequence: Final = sequence
        self._watched: Final = watched
        self._pid: Final = os.getpid()

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.sequence,)

    def _watch(self) -> _Watched | None:
        return None if self._watched is None or self._pid != os.getpid() else self._watched()

    def __len__(self) -> int:
        length, watched = len(self.sequence), self._watch()
        if watched is not None:
            with watched.lock:
                watched.length = length
        return length

    def __getitem__(self, index: int) -> _Tagged[T]:
        watched = self._watch()
        if watched is None:
            return _Tagged(index, self.sequence[index])
        with watched.computing(index):
            return _Tagged(index, self.sequence[index])


class _Hooked(_Observed[T]):
    """One that has a hook."""

    def on_epoch_end(self) -> None:
        watched = self._watch()
        if watched is not None:
            watched.hook()
        self.sequence.on_epoch_end()  # type: ignore[attr-defined]


class _Stream(Iterator[T]):
    """A stream of one run, from its first `next()` on."""

    def __init__(self, owner: Validated[T], inner: Iterator[_Tagged[T]]) -> None:
        self._owner: Final = owner
        self._inner: Final = inner
        self._run: _Watched | None = None

    def __next__(self) -> T:
        while True:
            tagged = self._next()
            if tagged.item is not None:
                return tagged.item

    def _next(self) -> _Tagged[T]:
        run = self._run = self._run or self._owner.run
        run.tell()
        with run.lock:
            ended = run.over
            run.calls += 1
            run.shared = run.shared or run.calls > 1
        try:
            tagged = next(self._inner)
        except BaseException as error:
            with run.lock:
                run.calls -= 1
                run.over = run.over or not isinstance(error, (TimeoutError, KeyboardInterrupt))
                too_soon = isinstance(error, StopIteration) and not (ended or run.stopped) and threading.main_thread().is_alive()
            run.tell()
            promise(not too_soon, "G5", "the stream of a sequence has ended, and nobody has stopped it")
            promise(not ended or isinstance(error, StopIteration), "G16", f"a stream had ended, and then raised {error!r}")
            raise
        with run.lock:
            run.calls -= 1
            run.delivered(tagged.index, ordered=self._owner.in_order)
        promise(not ended, "G16", f"a stream had ended, and then gave item {tagged.index}")
        run.tell()
        return tagged


class _Makes(Protocol[T]):
    def __call__(self, sequence: SequenceLike[_Tagged[T]], *, shuffle: bool, **options: object) -> GeneratorLike[_Tagged[T]]: ...


class Validated(Generic[T]):
    """See `validated()`."""

    def __init__(self, make: _Makes[T], sequence: SequenceLike[T], *, shuffle: bool, options: dict[str, object]) -> None:
        observed = _Hooked if callable(getattr(sequence, "on_epoch_end", None)) else _Observed
        self.in_order: Final = not shuffle
        self.run = _Watched(0)
        self.enqueuer: Final = make(observed(sequence, lambda: self.run), shuffle=shuffle, **options)
        self._on = False

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start. As the enqueuer's own."""
        before = self.run
        if not self._on:
            self.run = _Watched(max_queue_size)
        running = self._on and not before.over
        try:
            self.enqueuer.start(workers, max_queue_size)
        except BaseException:
            self.run = before
            raise
        promise(not running, "G18", "start() during a run raised nothing")
        if self._on:
            self.run = _Watched(max_queue_size)
        self._on = True

    def get(self, *, timeout: float | None = None) -> Iterator[T]:
        """Return a stream. As the enqueuer's own."""
        return _Stream(self, self.enqueuer.get() if timeout is None else self.enqueuer.get(timeout=timeout))

    def stop(self, timeout: float | None = None) -> bool:
        """Stop. As the enqueuer's own."""
        run = self.run
        with run.lock:
            run.stopped = True
        done = self.enqueuer.stop(timeout)
        with run.lock:
            run.over = True
            run.quiet = run.quiet or done
            if done and run.inside:
                run.blame("G16", f"stop() returned true while {run.inside} items were computed")
        self._on = False
        run.tell()
        promise(not self.enqueuer.is_running(), "G19", "is_running() is true after stop()")
        return done

    def is_running(self) -> bool:
        """Return whether there is a run. As the enqueuer's own."""
        over = not self._on or self.run.over
        running = self.enqueuer.is_running()
        self.run.tell()
        promise(not (over and running), "G19", "is_running() is true, and nothing was started, or it has ended")
        return running


def validated(make: object, sequence: SequenceLike[T], *, shuffle: bool = False, **options: object) -> Validated[T]:
    """Return an enqueuer for a program as it is, which raises `BrokenPromise` at the call that sees a promise broken.

    It costs a few microseconds an item. What is watched: items, their order and that they have no end (G1, G2, G5), the bound and the hook as
    long as items are computed in this process (G4, G7), silence after the end and after `stop()` (G16), the life of a run (G18, G19). Of several
    consumers at once only their ends are. That `None` is skipped is done here.

    Args:
        make: The class, or a callable like it: it gets a sequence, `shuffle` and the options.
        sequence: What is read. It is sent to worker processes if the enqueuer sends sequences there.
        shuffle: Whether each epoch has an order of its own.
        options: Whatever else `make` takes.
    """
    return Validated(cast("_Makes[T]", make), sequence, shuffle=shuffle, options=options)
