"""The shapes of what is plugged in: sequences, computes, runtimes. Protocols only; imports nothing of the package.

Protocols in, concrete types out: whatever has the right methods is accepted, no base class is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Compute", "EndOfStream", "Engine", "Lock", "Parker", "Parted", "Process", "Runtime", "SequenceLike", "Stoppable", "Thread"]

T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class SequenceLike(Protocol[T_co]):
    """What an `OrderedEnqueuer` reads: `keras.utils.Sequence` and `PyDataset` objects, lists, arrays, your own class.

    `on_epoch_end()` is looked for at run time and may be missing (G7), hence not a member here.
    """

    def __len__(self) -> int:
        """Return the number of items of the epoch that begins."""
        ...

    def __getitem__(self, index: int, /) -> T_co:
        """Return item `index`. Called from several threads at once (A1)."""
        ...


class EndOfStream(Exception):  # noqa: N818 - a message, as StopIteration is, not an error
    """Raised by `Compute.item()` to say that the stream ends before this item, and that nothing went wrong."""


class Compute(Protocol[T_co]):
    """What one run calls, always outside its lock. It must not refer to the enqueuer, or dropping that could not end the run."""

    def turn(self, *, hook: bool) -> int | None:
        """Between two epochs: call the hook if `hook`, then return the length of the epoch that begins, None if unknown.

        One thread at a time; never while an item of a plan with a barrier is computed.
        """
        ...

    def item(self, worker: int, epoch: int, index: int, /) -> T_co | None:
        """Compute one item; from several threads at once unless the plan is serial. `EndOfStream` ends the stream here."""
        ...

    def close(self) -> None:
        """Called once, by the last thread of the run to leave; nothing is called after it. Not at all if the run ended before its first thread."""
        ...


class Engine(Compute[T_co], Protocol[T_co]):
    """What one run calls: a compute, and where its items are computed."""

    def open(self, workers: int, ahead: Callable[[int], list[tuple[int, int]]]) -> None:
        """Called once, before there are workers, by the thread that starts them. What it has opened, also if it raises, is left to `close()`.

        `ahead(worker)` decides which items this worker will be asked for next, and returns epoch and index of each; none, if others should.
        """
        ...

    def leave(self, worker: int) -> None:
        """A worker leaves: nothing is asked for in its name any more."""
        ...

    def halt(self) -> None:
        """The run is over, and items under way may end. Any thread; never blocks."""
        ...

    def kill(self) -> bool:
        """End items under way, if that is possible; false if not. Any thread; never blocks."""
        ...


class Lock(Protocol):
    """A re-entrant lock that knows its owner. Acquired by `with` only."""

    def __enter__(self) -> bool:
        """Acquire."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        """Release."""
        ...

    def owned(self) -> bool:
        """Whether the calling thread holds it: true in a finalizer or signal handler that interrupted a critical section."""
        ...


class Parker(Protocol):
    """One permit, for one waiting thread: `unpark` grants it, `park` waits for it and uses it up.

    A permit granted early is kept, one granted twice is one. `unpark` never blocks and takes no lock: finalizers may call it.
    """

    def park(self, timeout: float | None = None) -> None:
        """Block until there is a permit, `timeout` seconds have passed, or an exception arrives. May return early: look again."""
        ...

    def unpark(self) -> None:
        """Grant the permit."""
        ...


class Thread(Protocol):
    """A thread of the run; a daemon, so that one stuck in user code never blocks the interpreter's exit."""

    def start(self) -> None:
        """Start it, or raise `RuntimeError`."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has exited."""
        ...

    def is_alive(self) -> bool:
        """Whether it has been started and has not exited."""
        ...


class Stoppable(Protocol):
    """What has to be stopped before the interpreter exits."""

    def stop(self, timeout: float | None) -> bool:
        """Stop it."""
        ...


class Parted(Protocol):
    """What is told of a fork."""

    def forget(self) -> None:
        """In the fork: let go of what it has no use for."""
        ...


class Process(Protocol):
    """A process, seen from itself and from its forks."""

    @property
    def forked(self) -> bool:
        """False in this process, true in every one that was forked from it since (G28)."""
        ...

    @property
    def private(self) -> set[int]:
        """File descriptors that are closed in every fork (G28)."""
        ...

    @property
    def parted(self) -> set[Parted]:
        """What every fork is told."""
        ...

    @property
    def forks(self) -> tuple[int, int]:
        """Count forks of this process: those that have begun, and those that are over."""
        ...

    def keep(self, make: Callable[[], int]) -> int | None:
        """Make a descriptor that no fork has; None if that fails, or somebody forks just now: nobody is waited for."""
        ...

    def drop(self, descriptor: int) -> None:
        """Close it."""
        ...

    def unforked(self) -> AbstractContextManager[object]:
        """Keep other threads from forking, while a descriptor is made and added to `private`."""
        ...

    def at_exit(self, run: Stoppable) -> None:
        """Call `run.stop(0)` when the interpreter exits, while threads still run, if the run still exists then (G20).

        Before multiprocessing, where that was imported, waits for its processes.
        """
        ...

    def end(self) -> None:
        """Do now what is to be done at exit."""
        ...


class Runtime(Protocol):
    """The seam: every lock, wait, thread and clock of the package comes from here, so that a scheduler can own them all."""

    def lock(self) -> Lock:
        """Make a lock."""
        ...

    def parker(self) -> Parker:
        """Make a parker without a permit."""
        ...

    def boot(self, main: Callable[[], None]) -> None:
        """Run `main` in a bare thread of its own. An interrupt leaves it either started or not, nothing in between."""
        ...

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """Make a thread, not yet started."""
        ...

    def clock(self) -> float:
        """Return monotonic seconds."""
        ...

    def process(self) -> Process:
        """Return this process."""
        ...

    def tell(self, error: BaseException) -> None:
        """Tell an error that nobody is there to catch, as a thread does that ends by it."""
        ...

    def finalizing(self) -> bool:
        """Whether the interpreter is being torn down: no other thread will ever run again."""
        ...
