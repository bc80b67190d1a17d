"""What is put to the test: a factory of enqueuers, and what a check says when a promise is broken.

A check never asks of which class its subject is: it gets a `Factory` and uses what the contract promises of its products. Its judgement
shares no code with the package: of that, only `REFERENCE` and the types are imported here; gates and limits are plain `threading`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NoReturn, Protocol, TypeAlias, TypeVar

from .. import GeneratorEnqueuer, OrderedEnqueuer, item_seed
from .._types import SequenceLike
from .pace import patiently
from .remote import asking, remote, remote_generator, remote_seed

__all__ = [
    "LIMIT",
    "NOTES",
    "PROCESSES",
    "REFERENCE",
    "BrokenPromise",
    "Factory",
    "Gate",
    "GeneratorLike",
    "MakeApart",
    "MakeGenerator",
    "MakeOrdered",
    "Note",
    "OrderedLike",
    "processes",
    "promise",
    "within",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LIMIT: Final = 10.0
"""Seconds after which something that should come at once is called a hang. Like all limits of checks, on an idle machine: see `pace`."""

MOMENT: Final = 0.2
"""Seconds that a check watches for what must not happen, on an idle machine. Too short a moment could miss a fault, never invent one."""


Note: TypeAlias = tuple[float, str, str, str]
"""Something that a check saw: when, by the monotonic clock; whose doing; what ("begins" and "ends", "calls" and "returns" or "raises", "takes",
"breaks"); of what."""


class Notes:
    """Where checks write down what they see, if anyone has asked for it."""

    def __init__(self) -> None:
        self.keep: Callable[[Note], object] | None = None

    def note(self, what: str, of: object, who: str = "") -> None:
        """Write something down."""
        if self.keep is not None:
            self.keep((time.monotonic(), who or threading.current_thread().name, what, f"{of}"))


NOTES: Final = Notes()
"""Of this process."""


class BrokenPromise(AssertionError):  # noqa: N818 - it is what it says
    """A promise was seen to be broken."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee: Final = guarantee
        self.what: Final = what
        NOTES.note("breaks", guarantee, "consumer")


def promise(kept: object, guarantee: str, what: str) -> None:
    """Raise `BrokenPromise` unless `kept`."""
    if not kept:
        raise BrokenPromise(guarantee, what)


class GeneratorLike(Protocol[T_co]):
    """What every enqueuer can do."""

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None: ...
    def get(self, *, timeout: float | None = None) -> Iterator[T_co]: ...
    def stop(self, timeout: float | None = None) -> bool: ...
    def is_running(self) -> bool: ...


class OrderedLike(GeneratorLike[T_co], Protocol[T_co]):
    """What an enqueuer of a sequence can do besides."""

    @property
    def seed(self) -> int: ...
    def state_dict(self) -> dict[str, int | None]: ...
    def load_state_dict(self, state: Mapping[str, int | None]) -> None: ...


class MakeOrdered(Protocol):
    """Make an enqueuer of a sequence."""

    def __call__(self, sequence: SequenceLike[T | None], *, shuffle: bool = False, seed: int | None = None) -> OrderedLike[T]: ...


class MakeGenerator(Protocol):
    """Make an enqueuer of an iterator, an iterable, or a callable that makes one."""

    def __call__(self, generator: Iterable[T | None] | Callable[[], Iterable[T | None]], *, random_seed: int | None = None) -> GeneratorLike[T]: ...


class MakeOrderedOf(Protocol):
    """An `OrderedEnqueuer`, in either mode."""

    def __call__(
        self,
        sequence: SequenceLike[T | None],
        use_multiprocessing: bool = False,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        context: str | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        max_retries: int = 3,
    ) -> OrderedLike[T]: ...


class MakeGeneratorOf(Protocol):
    """A `GeneratorEnqueuer`, in either mode."""

    def __call__(
        self,
        generator: Iterable[T | None] | Callable[[], Iterable[T | None]],
        use_multiprocessing: bool = False,
        random_seed: int | None = None,
        *,
        context: str | None = None,
    ) -> GeneratorLike[T]: ...


class MakeApart(Protocol):
    """Make an enqueuer that computes the items in worker processes, on copies of the sequence as it is."""

    def __call__(
        self,
        sequence: SequenceLike[T | None],
        *,
        shuffle: bool = False,
        seed: int | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        max_retries: int = 3,
    ) -> OrderedLike[T]: ...


def _has_none(*_: object, **__: object) -> NoReturn:
    raise TypeError("the subject has none: its adapter should say that it lacks it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """A subject: how to make its enqueuers, and its `item_seed()`.

    Attributes:
        name: What it is.
        ordered: Its enqueuer of a sequence, which checks make of sequences that live in this process.
        generator: Its enqueuer of a generator, if it has one; the same.
        item_seed: What an item calls for its seed, if there is such a thing.
        limit: Seconds after which it hangs.
        method: How its worker processes are started, "" if it has threads only. The contract itself differs in few places: what is computed
            elsewhere arrives as an equal object, and can be killed.
        apart: Its enqueuer of a sequence that is sent to worker processes as it is; None if it has threads only.
    """

    name: str
    ordered: MakeOrdered
    generator: MakeGenerator = _has_none
    item_seed: Callable[[], int] = _has_none
    limit: float = LIMIT
    method: str = ""
    apart: MakeApart | None = None


REFERENCE: Final = Factory(name="enqueuer, threads", ordered=OrderedEnqueuer, generator=GeneratorEnqueuer, item_seed=item_seed)
"""This package in thread mode."""


def processes(
    method: str,
    *,
    name: str = "",
    ordered: MakeOrderedOf = OrderedEnqueuer,
    generator: MakeGeneratorOf = GeneratorEnqueuer,
    seed: Callable[[], int] = remote_seed,
    limit: float = LIMIT,
) -> Factory:
    """Return the factory of two classes in process mode; the sequences of checks stay in this process, and are read from there."""

    def apart(
        sequence: SequenceLike[T | None],
        *,
        shuffle: bool = False,
        seed: int | None = None,
        on_worker_death: Literal["raise", "retry"] = "raise",
        max_retries: int = 3,
    ) -> OrderedLike[T]:
        return ordered(sequence, True, shuffle, seed=seed, context=method, on_worker_death=on_worker_death, max_retries=max_retries)

    def here(sequence: SequenceLike[T | None], *, shuffle: bool = False, seed: int | None = None) -> OrderedLike[T]:
        return apart(remote(sequence), shuffle=shuffle, seed=seed)

    copying = generator

    def copies(generator: Iterable[T | None] | Callable[[], Iterable[T | None]], *, random_seed: int | None = None) -> GeneratorLike[T]:
        return copying(remote_generator(generator), use_multiprocessing=True, random_seed=random_seed, context=method)

    return Factory(name=name or f"enqueuer, {method}", ordered=here, generator=copies, item_seed=seed, limit=limit, method=method, apart=apart)


PROCESSES: Final = {method: processes(method) for method in ("fork", "forkserver", "spawn")}
"""This package in process mode, by start method."""


class Gate:
    """Where items of a test wait until it lets them pass; it knows who has come."""

    def __init__(self, *, opened: bool = False) -> None:
        self._condition: Final = threading.Condition()
        self._passes = -1 if opened else 0  # -1: all may pass
        self.arrived = 0

    def enter(self, limit: float = 6 * LIMIT) -> None:
        """Wait for a pass. Gives up after `limit` seconds of an idle machine, so that a broken subject leaves no thread behind."""
        with self._condition:
            self.arrived += 1
            self._condition.notify_all()
        patiently(self._passed, limit)

    def _passed(self, seconds: float) -> bool:
        with self._condition:
            passed = bool(self._condition.wait_for(lambda: self._passes, seconds))
            self._passes -= self._passes > 0
            return passed

    def item(self, index: int) -> int:
        """Be an item that waits for its pass."""
        self.enter()
        return index

    def let(self, count: int) -> None:
        """Let `count` more pass."""
        with self._condition:
            self._passes += count if self._passes >= 0 else 0
            self._condition.notify_all()

    def open(self) -> None:
        """Let everyone pass, from now on."""
        with self._condition:
            self._passes = -1
            self._condition.notify_all()

    def wait_arrived(self, count: int, limit: float = LIMIT) -> bool:
        """Wait until `count` have come, passed or not; return whether they have within `limit` seconds of an idle machine."""
        return patiently(partial(self._come, count), limit)

    def _come(self, count: int, seconds: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self.arrived >= count, seconds)


def within(guarantee: str, what: str, call: Callable[[], T], limit: float = LIMIT) -> T:
    """Return `call()`, run in a thread of its own; a hang is a broken promise. Its exception is raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        NOTES.note("calls", what, "consumer")
        try:
            results.append(call())
            NOTES.note("returns", what, "consumer")
        except BaseException as error:  # raised in the caller
            NOTES.note("raises", type(error).__name__, "consumer")
            errors.append(error)

    thread = threading.Thread(target=body, name="within", daemon=True)
    thread.start()
    if not joined(thread, limit):
        raise BrokenPromise(guarantee, f"{what} did not return within {limit:g} s")
    if errors:
        raise errors[0]
    return results[0]


def joined(thread: threading.Thread, limit: float) -> bool:
    """Wait until a thread has ended; return whether it has within `limit` seconds of an idle machine."""

    def ended(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    return patiently(ended, limit)


class Numbers:
    """A sequence for checks: item `index` is what `item(index)` returns; who computes what is counted under a lock of its own."""

    def __init__(self, length: int, item: Callable[[int], T] | None = None) -> None:
        self.length = length
        self._item: Final[Callable[[int], object]] = item or (lambda index: index)
        self._lock: Final = threading.Lock()
        self.computed: Final[list[int]] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> object:
        with self._lock:
            self.computed.append(index)
        who = "" if asking() == os.getpid() else f"process {asking()}"
        NOTES.note("begins", index, who)
        try:
            return self._item(index)
        finally:
            NOTES.note("ends", index, who)


class Hooked(Numbers):
    """The same with a hook."""

    def __init__(self, length: int, hook: Callable[[], object], item: Callable[[int], T] | None = None) -> None:
        super().__init__(length, item)
        self._hook: Final = hook

    def on_epoch_end(self) -> None:
        NOTES.note("begins", "hook")
        try:
            self._hook()
        finally:
            NOTES.note("ends", "hook")


def take(factory: Factory, stream: Iterator[T], count: int, guarantee: str) -> list[T]:
    """Return the next `count` items; that they come, and within the limit, is promised by `guarantee`."""
    items: list[T] = []

    def body() -> None:
        try:
            while len(items) < count:
                items.append(next(stream))
                NOTES.note("takes", items[-1], "consumer")
        except StopIteration:
            raise BrokenPromise(guarantee, f"the stream ended after {len(items)} of {count} items") from None
        except BaseException as error:
            raise BrokenPromise(guarantee, f"next() raised {error!r} after {len(items)} of {count} items") from error

    within(guarantee, f"next(), called {count} times,", body, factory.limit)
    return items


def ends(factory: Factory, stream: Iterator[T], guarantee: str) -> bool:
    """Return whether the stream has ended; a hang breaks `guarantee`."""
    end = object()
    return within(guarantee, "next() on a stream that should have ended", lambda: next(stream, end), factory.limit) is end


def raised(factory: Factory, call: Callable[[], object], guarantee: str, what: str) -> BaseException | None:
    """Return what `call()` raises, None if nothing; a hang breaks `guarantee`."""

    def body() -> BaseException | None:
        try:
            call()
        except BaseException as error:
            return error
        return None

    return within(guarantee, what, body, factory.limit)


@contextmanager
def stopping(factory: Factory, *subjects: GeneratorLike[T], gate: Gate | None = None) -> Generator[None]:
    """Whatever happens: open the gate, stop the subjects, and leave no thread behind."""
    try:
        yield
    finally:
        if gate is not None:
            gate.open()
        for subject in subjects:
            with suppress(Exception):
                within("G14", "stop()", subject.stop, factory.limit)
