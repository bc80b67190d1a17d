"""What an item may ask about itself: which worker computes it, and its own seed (G9).

The answer is kept in a context variable, which is a thread's own. Where an item hands a copy of its context on, as `asyncio.to_thread()`
does, the copy is part of the item, and to be asked only while the item is computed.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from . import _plan

if TYPE_CHECKING:
    import numpy

__all__ = ["Here", "WorkerInfo", "current", "item_rng", "item_seed", "worker_info"]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """Which worker computes the item that asks.

    Attributes:
        worker: Number of the worker, counted from 0.
        workers: How many there are in this run.
        epoch: Epoch of the item; None in a hook.
        index: Index of the item; in a generator its rank; None in a hook.
    """

    worker: int
    workers: int
    epoch: int | None
    index: int | None


@final
class Here:
    """What a worker thread is doing now. Written by that thread alone, and read in its context and copies of it."""

    __slots__ = ("epoch", "index", "outer", "run", "seed", "worker", "workers")

    def __init__(self, run: object, outer: Here | None, worker: int, workers: int, seed: int) -> None:
        self.run: Final = run
        self.outer: Final = outer  # the item that started the run, if one did
        self.worker: Final = worker
        self.workers: Final = workers
        self.seed: Final = seed
        self.epoch: int | None = None
        self.index: int | None = None


current: Final[ContextVar[Here | None]] = ContextVar("enqueuer_here", default=None)


def worker_info() -> WorkerInfo | None:
    """Return which worker computes the item (or runs the hook) that calls this; None outside of a run's threads.

    Callers: Any thread. A thread that an item starts is outside, unless it runs in a copy of the item's context.
    """
    here = current.get()
    if here is None:
        return None
    return WorkerInfo(here.worker, here.workers, here.epoch, here.index)


def item_seed() -> int:
    """Return the seed of the item that calls this: a 128-bit integer that depends on `(seed, epoch, index)` alone.

    In a `GeneratorEnqueuer` the seed is `random_seed`, the epoch 0 and the index the item's rank.

    Raises:
        RuntimeError: Called outside of an item.

    Guarantees: G9.
    """
    here = current.get()
    if here is None or here.epoch is None or here.index is None:
        raise RuntimeError("item_seed() was called outside of an item: only an item that an enqueuer computes has a seed of its own")
    return _plan.item_seed(here.seed, here.epoch, here.index)


def item_rng() -> numpy.random.Generator:
    """Return a new numpy generator, seeded with `item_seed()`. Imports numpy.

    Raises:
        RuntimeError: Called outside of an item.
        ImportError: numpy is not installed.

    Guarantees: G9.
    """
    seed = item_seed()
    import numpy

    return numpy.random.default_rng(seed)
