"""One run as a pure state machine: what may be claimed, what may be taken, where the stream ends. No thread, lock or clock.

The window is the ranks from the next one to *take* up to `max_queue_size` further. A rank in it is unclaimed, then under way (a worker
computes it), then ready, then taken:

             taken |<---------- max_queue_size ---------->|
    ... r r r r r  | ready  under way  ready  under way   | not yet claimable
                   ^rank                                  ^rank + size
Ranks below `end` have been opened by a *turn*; at `end` either another turn is due (an epoch begins) or, if it is the `last`, the stream ends.
Where workers take turns (`rotating`), a rank can only be claimed by the worker whose turn it is; those of a worker that has no more are
*holes*, taken like an item that is `None`.
An error is an end with something to say: it closes the stream at its rank, and what was delivered before stays in order.

Keeps: G1, G2, G3 (with the loop in `_run`), G4, G5, G7, G10, G11.
Rules:
  1. Every method is called with the run's lock held, and none calls user code.
  2. `take`, `conclude` and `stop` may run in the main thread, where an interrupt can arrive between any two steps: they compute first and
     commit with one store; what follows the store is tidying that may be lost.
  3. `claimable` and `takeable` are what threads wait for; whoever makes one true wakes a waiter (see `_run`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from ._plan import FOREVER, Plan, Span

__all__ = ["NOTHING", "Nothing", "RunState", "Turn", "Window"]

T = TypeVar("T")


class RunState(enum.Enum):
    """Where a run is in its life. `NEW` is that of an enqueuer that was never started; all but `NEW` and `RUNNING` are final."""

    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    ENDED = "ended"


class Nothing(enum.Enum):
    """What there is when there is no item; `None` is one."""

    NOTHING = enum.auto()


NOTHING: Final = Nothing.NOTHING


@dataclass(frozen=True, slots=True)
class Turn:
    """The right, given to one worker, to begin `epoch` at `rank`."""

    epoch: int
    rank: int


class Window(Generic[T]):
    """See the module. Its attributes may be read by the owner of the lock and are written here only."""

    __slots__ = (
        "barrier",
        "claimed",
        "end",
        "epoch",
        "error",
        "first",
        "last",
        "rank",
        "ready",
        "serial",
        "size",
        "span",
        "state",
        "turning",
        "turns",
        "under_way",
    )

    def __init__(self, plan: Plan, max_queue_size: int, workers: int = 1) -> None:
        self.size: Final = max_queue_size
        self.barrier: Final = plan.barrier
        self.serial: Final = plan.serial
        self.state = RunState.RUNNING
        self.first: Final = plan.start.rank
        self.rank = plan.start.rank  # the next to take
        self.claimed = plan.start.rank  # the next to claim
        self.end = plan.start.rank  # the first rank that is not open
        self.last = plan.epochs is not None and plan.start.epoch >= plan.epochs  # whether the stream ends at `end`
        self.error: BaseException | None = None  # why it ends there
        self.epoch = plan.start.epoch  # the one that the next turn begins
        self.turning = True  # start() has the first turn, until all workers are there
        self.span: Span | None = None  # what the latest turn opened
        # the next rank of each worker, `FOREVER` if it has no more; empty: whoever comes gets the next
        self.turns: Final = [plan.start.rank + worker for worker in range(workers)] if plan.rotating else []
        self.under_way: dict[int, int] = {}  # rank -> worker; a turn counts by the rank that it is before
        self.ready: dict[int, T | None] = {}  # rank -> item

    # what start() does

    def start(self) -> None:
        """The workers are there: they may begin."""
        self.turning = False

    # what workers do

    def next_of(self, worker: int) -> int:
        """Return the next rank that this worker may claim, if it may claim any."""
        return self.turns[worker] if self.turns else self.claimed

    def claimable(self, rank: int, worker: int) -> bool:
        """Whether `claim(worker)` would give something, were `rank` the next to take."""
        following = self.turns[worker] if self.turns else self.claimed
        if following >= rank + self.size:  # G4: computing and waiting together never exceed the window
            return False
        if following < self.end:
            return not (self.serial and self.under_way)
        return not (self.last or self.turning or (self.barrier and rank < self.end))  # G7: a barrier waits until all was taken

    def claim(self, worker: int) -> int | Turn | None:
        """Give a worker the next rank, or the turn that is due; None if there is nothing to do now."""
        if not self.claimable(self.rank, worker):
            return None
        rank = self.turns[worker] if self.turns else self.claimed
        if rank >= self.end:
            self.under_way[self.end] = worker
            self.turning = True
            return Turn(self.epoch, self.end)
        self.under_way[rank] = worker
        if self.turns:
            self.turns[worker] = rank + len(self.turns)
        if rank >= self.claimed:
            self.claimed = rank + 1  # G1: no rank is ever given twice
        return rank

    def put(self, rank: int, item: T | None) -> None:
        """A worker has computed its item. Beyond an error, or after the run, nobody will want it."""
        if rank < self.end and self.state is RunState.RUNNING:
            self.ready[rank] = item
        del self.under_way[rank]

    def lost(self, worker: int, error: BaseException) -> BaseException | None:
        """A worker is gone, with what it had under way, for a reason that is no item's: the stream ends there, or after all that was claimed."""
        ranks = [rank for rank, who in self.under_way.items() if who == worker]
        for rank in ranks:
            del self.under_way[rank]
            self.turning = self.turning and rank != self.claimed
        return self._cut(min(ranks, default=min(self.next_of(worker), self.end)), error)  # G11: nothing is open beyond the end

    def finish(self, rank: int, error: BaseException | None) -> BaseException | None:
        """The stream ends before `rank`: its computation found no more items, or failed with `error`. Return the error that this displaces."""
        worker = self.under_way.pop(rank)
        if error is None and self.turns:
            self.turns[worker] = FOREVER  # it is skipped from now on
            if min(self.turns) < FOREVER:
                return None
            rank = max(self.claimed, rank)  # G5: the last to end was not the only one that is behind all items
        return self._cut(rank, error)

    def turned(self, outcome: Span | BaseException) -> None:
        """A turn is done: the ranks of its span are open, or the stream ends where the epoch would have begun (G11)."""
        self.turning = False
        del self.under_way[self.claimed]  # where the turn was given: nothing could be claimed since
        if isinstance(outcome, BaseException):
            self._cut(self.end, outcome)
        elif not self.last:  # no earlier rank has failed meanwhile
            self.span, self.end, self.last, self.epoch = outcome, outcome.end, outcome.last, outcome.epoch + 1

    def _cut(self, rank: int, error: BaseException | None) -> BaseException | None:
        displaced = self.error  # returned, so that it is dropped when the lock is released
        if not self.last or rank < self.end:  # G10: the lowest failing rank wins, whenever it fails
            self.end, self.last, self.error = rank, True, error
        return displaced

    # what consumers do

    def takeable(self) -> bool:
        """Whether `take` would give something."""
        return self.rank in self.ready or (bool(self.turns) and self.hole(self.rank))

    def hole(self, rank: int) -> bool:
        """Whether a rank that is not ready never will be, because the worker whose turn it is has no more."""
        return rank < self.end and rank not in self.under_way and self.turns[(rank - self.first) % len(self.turns)] == FOREVER

    def take(self) -> T | Literal[Nothing.NOTHING] | None:
        """Take the next item out of the window, `NOTHING` if it is not there."""
        rank = self.rank  # G2: the next, whatever was computed first
        if rank not in self.ready:
            if not self.turns or not self.hole(rank):
                return NOTHING
            self.rank = rank + 1  # the commit
            return None  # G3
        item = self.ready[rank]
        self.rank = rank + 1  # the commit
        del self.ready[rank]
        return item

    def drained(self) -> bool:
        """Whether every item was taken and none will come: `conclude` may be called."""
        return self.last and self.rank == self.end

    def conclude(self) -> BaseException | None:
        """End the run where its stream ends; return what its consumer is to be told."""
        error = self.error
        self.state = RunState.ENDED if error is None else RunState.FAILED  # the commit
        return error

    # what anyone does

    def stop(self) -> dict[int, T | None]:
        """End the run now, if it has not ended; return what was never taken, for the caller to drop outside the lock (N4)."""
        if self.state is RunState.RUNNING:
            self.state = RunState.STOPPED  # the commit
        never_taken, self.ready = self.ready, {}
        return never_taken
