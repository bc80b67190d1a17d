"""What is put to the test: a factory of enqueuers, and what a check says when a promise is broken.

A check never asks of which class its subject is: it gets a `Factory` and uses what the contract promises of its products. It shares no
code with the package: gates and limits here are plain `threading`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from .. import GeneratorEnqueuer, OrderedEnqueuer, item_seed
from .._types import SequenceLike

__all__ = [
    "LIMIT",
    "REFERENCE",
    "BrokenPromise",
    "Factory",
    "Gate",
    "GeneratorLike",
    "MakeGenerator",
    "MakeOrdered",
    "OrderedLike",
    "promise",
    "within",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LIMIT: Final = 10.0
"""Seconds after which something that should come at once is called a hang."""


class BrokenPromise(AssertionError):  # noqa: N818 - it is what it says
    """A promise was seen to be broken."""

    def __init__(self, guarantee: str, what: str) -> None:
        super().__init__(f"{guarantee}: {what}")
        self.guarantee: Final = guarantee
        self.what: Final = what


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """A subject: how to make its enqueuers, and its `item_seed()`."""

    name: str
    ordered: MakeOrdered
    generator: MakeGenerator
    item_seed: Callable[[], int]


REFERENCE: Final = Factory(name="enqueuer, threads", ordered=OrderedEnqueuer, generator=GeneratorEnqueuer, item_seed=item_seed)
"""This package in thread mode."""


class Gate:
    """Where items of a test wait until it lets them pass; it knows who has come."""

    def __init__(self, *, opened: bool = False) -> None:
        self._condition: Final = threading.Condition()
        self._passes = -1 if opened else 0  # -1: all may pass
        self.arrived = 0

    def enter(self, limit: float = 6 * LIMIT) -> None:
        """Wait for a pass. Gives up after `limit` seconds, so that a broken subject leaves no thread behind."""
        with self._condition:
            self.arrived += 1
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._passes, limit)
            self._passes -= self._passes > 0

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
        """Wait until `count` have come, passed or not; return whether they have."""
        with self._condition:
            return self._condition.wait_for(lambda: self.arrived >= count, limit)


def within(guarantee: str, what: str, call: Callable[[], T], limit: float = LIMIT) -> T:
    """Return `call()`, run in a thread of its own; a hang is a broken promise. Its exception is raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised in the caller
            errors.append(error)

    thread = threading.Thread(target=body, name="within", daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        raise BrokenPromise(guarantee, f"{what} did not return within {limit:g} s")
    if errors:
        raise errors[0]
    return results[0]
