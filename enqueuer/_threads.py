"""The engine of thread mode: a compute that is called where the workers are, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar, final

from ._types import Compute

__all__ = ["Threads"]

T = TypeVar("T")


@final
class Threads(Generic[T]):
    """Hands everything on; there is nothing to open, and nothing that could be killed (N5)."""

    def __init__(self, compute: Compute[T]) -> None:
        self._compute: Final = compute

    def item(self, worker: int, epoch: int, index: int, /) -> T | None:
        """Compute an item."""
        return self._compute.item(worker, epoch, index)

    def turn(self, *, hook: bool) -> int | None:
        """Turn."""
        return self._compute.turn(hook=hook)

    def close(self) -> None:
        """Close."""
        self._compute.close()

    def open(self, workers: int, ahead: Callable[[int], list[tuple[int, int]]]) -> None:
        """There is nothing to open."""

    def leave(self, worker: int) -> None:
        """A worker has nothing of its own."""

    def halt(self) -> None:
        """Nothing is on its way."""

    def kill(self) -> bool:
        """Threads can't be killed."""
        return False
