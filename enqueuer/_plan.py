"""What comes next: spans of ranks, shuffled orders, seeds of items, positions to resume at. Pure: no thread, lock or clock.

Keeps G5 (endless), G8 (shuffled), G9 (seeded) and the arithmetic of G27 (resumable). A plan is data plus pure functions; a run calls
it outside its lock, because an order of a million indices takes most of a second.

Seeds and orders rest only on what is promised to stay: SHA-256, and the stream of `random.Random(int).random()`.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from .errors import EmptySequenceError, StateMismatchError

__all__ = ["FOREVER", "Place", "Plan", "Span", "item_seed", "permutation"]

FOREVER: Final = sys.maxsize
"""A rank that is never reached."""


def _derive(*words: object) -> int:
    """128 bits that depend on the words alone."""
    text = "/".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def permutation(seed: int, epoch: int, length: int) -> list[int]:
    """Return the order of one epoch: a permutation of `range(length)` that depends on the arguments alone.

    Guarantees: G8.
    """
    order = list(range(length))  # G8
    draw = random.Random(_derive("order", seed, epoch, length)).random  # noqa: S311 - not for secrets
    for last in range(length - 1, 0, -1):
        chosen = int(draw() * (last + 1))
        order[last], order[chosen] = order[chosen], order[last]
    return order


def item_seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one item, a 128-bit integer that depends on the arguments alone.

    Guarantees: G9.
    """
    return _derive("item", seed, epoch, index)  # G9


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream stands: before the item of `rank`, which is `position` of `epoch`; `length` is the epoch's, None if not yet read."""

    epoch: int = 0
    position: int = 0
    rank: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """The ranks that one turn opens: from the turn's rank up to `end`, and which epoch and index each of them means.

    `first` is the rank of position 0 of `epoch`. With `order` the span ends with its epoch; without one it may go on through the
    epochs that follow, all of the same `length` (None: one epoch without a known end). After a `last` span the stream ends.
    """

    epoch: int
    first: int
    length: int | None
    end: int = FOREVER
    order: Sequence[int] | None = None
    last: bool = False

    def locate(self, rank: int) -> tuple[int, int]:
        """Return `(epoch, position)` of a rank; also of one before or after the span, if the length did not change in between."""
        return replace(self, order=None).work(rank)

    def work(self, rank: int) -> tuple[int, int]:
        """Return `(epoch, index)` of a rank of this span."""
        if self.order is not None:
            return self.epoch, self.order[rank - self.first]
        if self.length is None:
            return self.epoch, rank - self.first
        epochs, position = divmod(rank - self.first, self.length)
        return self.epoch + epochs, position


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What there is to compute, and when. Subclass it and override `span()` for other orders.

    Attributes:
        seed: Root of every order and of every item's seed.
        shuffle: Whether each epoch has an order of its own (G8).
        barrier: Whether an epoch begins only after every item before it was taken, because something runs in between (G7).
        serial: Whether at most one item may be under way at a time (an iterator has one next item).
        rotating: Whether the workers take turns: rank r is for worker r modulo their number, which knows its own next item. Where it has no
            more, its ranks are skipped; the stream ends when none has. For one epoch without a known length.
        epochs: After how many epochs the stream ends, counted from epoch 0; None: never (G5).
        start: Where the stream begins (G27).
    """

    seed: int = 0
    shuffle: bool = False
    barrier: bool = False
    serial: bool = False
    rotating: bool = False
    epochs: int | None = None
    start: Place = Place()

    def span(self, epoch: int, rank: int, length: int | None) -> Span:
        """Return what a turn at `rank` opens, now that the length of `epoch` is known. Called outside the lock.

        Raises:
            EmptySequenceError: The epoch has no item (G11).
            StateMismatchError: The epoch is the one resumed in, and has no such position (G27).
        """
        last = self.epochs is not None and epoch + 1 >= self.epochs
        if length is None:
            return Span(epoch, rank, None, last=last)
        if length < 1:
            raise EmptySequenceError(f"epoch {epoch} would begin here, but the length of the sequence is {length}: there is nothing to deliver")
        first = rank
        if epoch == self.start.epoch:
            first -= self._resumed(length)
        if not self.shuffle and not self.barrier and self.epochs is None:
            return Span(epoch, first, length)  # G5: nothing changes from epoch to epoch, no turn is ever needed again
        order = permutation(self.seed, epoch, length) if self.shuffle else None
        return Span(epoch, first, length, first + length, order, last)

    def _resumed(self, length: int) -> int:
        start = self.start
        if start.position and (start.position >= length or start.length not in (None, length)):
            raise StateMismatchError(
                f"the loaded state stands at position {start.position} of an epoch of {start.length} items, "
                f"but the sequence has {length} items: load it into an enqueuer of the same sequence"
            )
        return start.position
