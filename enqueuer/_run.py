"""One run: the window under its lock, the threads that work on it, and the waits of whoever finds nothing to do.

A worker repeats `claim -> compute -> put`, a consumer does `take`, and anyone may `stop`. Everything they share is in `Run`, guarded by
the enqueuer's lock; what never changes is in `Terms`. G and N ids are clauses of the contract, in `guarantees.py`.

Rules:
  1. User code and every wait are outside the lock. What is dropped (`__del__` is user code) is dropped outside.
  2. Who finds nothing to do enters a *wait set* with a parker of its own, leaves the lock, parks, and looks again. Workers wait in `_idle`
     for something claimable, consumers in `_takers` for something takeable, those who stop in `_joiners` for the last worker to leave.
  3. Who makes something takeable wakes all of `_takers`: a consumer may be interrupted or time out, so none is trusted with a wake-up.
     Who leaves something claimable wakes one of `_idle`, which claims and then wakes the next: workers are never interrupted.
  4. Where an interrupt can arrive (`take`, `stop`), wake first and commit last. The lock is held, so nobody sees the difference, except
     that an interrupt in between leaves a spurious wake-up and never a lost one.
  5. Finalizers, and whatever interrupted a critical section of its own thread, never take the lock: they ring the bell, a flag that is
     only ever set. Workers answer it by leaving, consumers by ending. Who waits registers first and looks then.
"""

from __future__ import annotations

import operator
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from ._context import Here, current
from ._plan import Place, Plan, Span
from ._types import EndOfStream, Engine, Lock, Parker, Process, Runtime, Thread
from ._window import NOTHING, Nothing, RunState, Turn, Window
from .errors import ArgumentValueError, ForkedError, ReentryError, StartError, WaitTimeoutError

__all__ = ["GRACE", "Run", "Statistics", "Terms"]

T = TypeVar("T")
_Claim: TypeAlias = tuple[int, Span] | Turn | Literal[Nothing.NOTHING] | None
"""A rank and its span, a turn, nothing at the moment, or nothing ever again."""

GRACE: Final = 0.4
"""Seconds that `stop(timeout)` may take longer for threads that are on their way out (G15 allows 0.5)."""


AHEAD: Final = 8
"""Ranks that a worker process may hold besides the one that it computes, where items are short."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an enqueuer was doing at one moment.

    Attributes:
        state: Where the run is in its life.
        epoch: Epoch of the next item to take.
        position: Its position in that epoch.
        rank: Its rank: how many items were taken or skipped since rank 0.
        claimed: The next rank to be claimed; `claimed - rank` items are computed or waiting.
        ready: Items that are waiting to be taken.
        workers: Workers of the run.
        max_queue_size: Bound of the run (G4).
        blocked_workers: Workers that wait for room or for the turn of an epoch.
        blocked_consumers: Consumers that wait for an item.
        threads: Workers that have not left yet.
        consumers_waited: Seconds that consumers have waited for items, together; waits under way are not in it.
        workers_waited: Seconds that workers have waited for room or a turn, together; waits under way are not in it.
        error: What ends the stream, as soon as it is known; kept until the next `start()`.
    """

    state: RunState
    epoch: int
    position: int
    rank: int
    claimed: int
    ready: int
    workers: int
    max_queue_size: int
    blocked_workers: int
    blocked_consumers: int
    threads: int
    consumers_waited: float
    workers_waited: float
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Terms(Generic[T]):
    """What stays the same from a run's start to its end."""

    runtime: Runtime
    lock: Lock
    plan: Plan
    compute: Engine[T]
    workers: int
    max_queue_size: int
    process: Process


class Run(Generic[T]):
    """See the module. Workers and streams get it as an argument and never look for another (G16)."""

    def __init__(self, terms: Terms[T], owner: object) -> None:
        self._terms: Final = terms
        self._lock: Final = terms.lock
        self._process: Final = terms.process
        self._outer: Final = current.get()  # G14: the item that starts this run, if one does; a stop of its run must not wait for it here
        self._watch: Final = weakref.ref(owner, _ringer(self))  # G20: nobody can reach the run any more, except its own threads
        # All that follows is guarded by _lock, with these exceptions: _rung is only ever set, and may be set and read by anyone; ring() reads
        # _parkers and _takers in one step each; a worker reads its own parker, which was there before it started; stop() reads _present when
        # no other thread runs any more.
        self._window: Final[Window[T]] = self.make_window()
        self._idle: Final[dict[int, Parker]] = {}  # by number
        self._takers: Final[dict[Parker, None]] = {}
        self._joiners: Final[dict[Parker, None]] = {}
        self._threads: Final[list[Thread]] = []
        self._parkers: Final[list[Parker]] = []  # of the workers, by number
        self._claims: Final[dict[int, tuple[int, Span]]] = {}  # worker -> the latest rank it has claimed, and the span that says what it is
        self._ahead: Final[list[deque[tuple[int, Span]]]] = [deque() for _ in range(terms.workers)]  # what workers have claimed besides
        self._present = 0  # threads that may still call user code: the workers, and the one that starts them
        self._starting = "worker threads"  # written by the thread that starts them, read when it is done
        self._booted = False  # whether start() has nothing more to wait for
        self._boot_error: Exception | None = None
        self._consumers_waited = 0.0
        self._workers_waited = 0.0
        self._waking = False  # whether a worker was woken and has not come yet: it will wake the next
        self._rung = False

    def make_window(self) -> Window[T]:
        """Return the state of a run that begins."""
        return Window(self._terms.plan, self._terms.max_queue_size, self._terms.workers)

    def _over(self) -> bool:
        """With the lock held: whether the run is over."""
        return self._rung or self._window.state is not RunState.RUNNING

    # waking, lock held

    def _wake_takers(self) -> None:
        for parker in self._takers:
            parker.unpark()
        self._takers.clear()

    def _wake_for(self, rank: int) -> None:
        """Wake an idle worker that would find something to claim, were `rank` the next to take."""
        window = self._window
        for number in reversed(self._idle):  # the latest to fall idle: the others sleep on
            if window.claimable(rank, number):
                self._wake_worker(number)
                return
            if not window.turns:  # what one can't claim, no other can
                return

    def _wake_worker(self, number: int) -> None:
        self._idle[number].unpark()
        self._waking = True
        self._idle.pop(number, None)

    def _wake_joiners(self) -> None:
        for parker in self._joiners:
            parker.unpark()
        self._joiners.clear()

    def _wake_all(self) -> None:
        for parker in self._idle.values():
            parker.unpark()
        self._idle.clear()
        self._wake_takers()

    # a worker's side

    def _work(self, number: int) -> None:
        """Body of a worker thread: claim, compute, put."""
        terms = self._terms
        here = Here(self, self._outer, number, terms.workers, terms.plan.seed)
        try:
            current.set(here)
            compute = terms.compute.item
            with self._lock:
                claim = self._claim(number)
            while claim is not None:
                if claim is NOTHING:
                    claim = self._wait(number)
                elif isinstance(claim, Turn):
                    here.epoch = here.index = None
                    claim = self._turn(number, claim)
                else:
                    rank, span = claim
                    epoch = index = None
                    try:
                        epoch, index = span.work(rank)
                        here.epoch, here.index = epoch, index
                        item = compute(number, epoch, index)
                    except EndOfStream:
                        claim = self._finish(number, rank, None)
                    except BaseException as error:  # G10: whatever its type
                        claim = self._finish(number, rank, _annotated(error, f"item at rank {rank} (epoch {epoch}, index {index}, worker {number})"))
                    else:
                        claim = self._put(number, rank, item)
                        item = None  # G6: handed on as it is; the worker keeps nothing alive
        except BaseException as error:  # not an item's: it was thrown into this thread, or the plan or the compute is none
            with self._lock:
                displaced = self._window.lost(number, error)  # dropped outside, as in _finish
                self._wake_takers()
            del displaced
        finally:
            here.epoch = here.index = None  # what closes the compute is no item
            if not self._process.forked:
                try:
                    terms.compute.leave(number)
                finally:
                    self._leave()

    def _claim(self, number: int) -> _Claim:
        """With the lock held: claim what there is; `NOTHING` and idle if there is none, `None` if the run is over."""
        window = self._window
        ahead = self._ahead[number]
        while ahead:
            self._claims[number] = rank_and_span = ahead.popleft()
            if rank_and_span[0] < window.end:
                return rank_and_span
            window.put(rank_and_span[0], None)  # beyond an error: nobody wants it
        if self._over():
            return None
        claim = window.claim(number)
        if self._idle and not self._waking:
            self._wake_for(window.rank)
        if claim is None:
            self._idle[number] = self._parkers[number]
            return None if self._rung else NOTHING  # rule 5: register first, look then
        if isinstance(claim, Turn):
            return claim
        assert window.span is not None  # a rank is claimable once a turn has opened it
        self._claims[number] = rank_and_span = claim, window.span
        return rank_and_span

    def _claim_ahead(self, number: int) -> list[tuple[int, int]]:
        """Claim some ranks besides the one that is computed, if no idle worker could have them; return epoch and index of each.

        Never a turn, which waits until all was taken; nor where the plan is serial: that is the window's to say.
        """
        claims: list[tuple[int, Span]] = []
        with self._lock:
            window, ahead = self._window, self._ahead[number]
            while len(ahead) < AHEAD and not self._idle and window.next_of(number) < window.end and not self._over():
                claim = window.claim(number)
                if not isinstance(claim, int):
                    break
                assert window.span is not None
                claims.append((claim, window.span))
                ahead.append(claims[-1])
        places: list[tuple[int, int]] = []
        try:
            for rank, span in claims:
                places.append(span.work(rank))
        except BaseException:  # noqa: S110 - the plan's: told when the worker comes to that rank
            pass
        return places

    def _wait(self, number: int) -> _Claim:
        """Wait once for something to claim."""
        parker = self._parkers[number]
        clock = self._terms.runtime.clock
        since = clock()
        parker.park()
        with self._lock:
            self._idle.pop(number, None)
            self._waking = False
            self._workers_waited += clock() - since
            return self._claim(number)

    def _put(self, number: int, rank: int, item: T | None) -> _Claim:
        """Hand an item over, and claim again in the same critical section."""
        if self._process.forked:  # G28: the item has forked; this is the child, and the run is not its own
            return None
        with self._lock:
            window = self._window
            window.put(rank, item)
            if self._takers and window.takeable():
                self._wake_takers()
            return self._claim(number)

    def _finish(self, number: int, rank: int, error: BaseException | None) -> _Claim:
        """The stream ends before `rank`."""
        if self._process.forked:
            return None
        with self._lock:
            displaced = self._window.finish(rank, error)  # dropped when the lock is released: its frames may hold what has a finalizer
            self._wake_takers()  # the end may be the next rank
            claim = self._claim(number)
        del displaced
        return claim

    def _turn(self, number: int, turn: Turn) -> _Claim:
        """Between two epochs: the hook, the length, the order of the next. The others may finish what they have; none claims."""
        terms = self._terms
        outcome: Span | BaseException
        try:
            length = terms.compute.turn(hook=turn.epoch != terms.plan.start.epoch)  # G7: between two epochs, not before the first
            outcome = terms.plan.span(turn.epoch, turn.rank, None if length is None else operator.index(length))
            end = operator.index(outcome.end)
            if end <= turn.rank:
                raise ArgumentValueError(f"the plan opens no rank: its span ends at {end}, and {turn.rank} is next")
            outcome = replace(outcome, end=end)  # the window compares it under the lock, where no code of the user's runs
        except BaseException as error:  # G11
            outcome = _annotated(error, f"turn of epoch {turn.epoch} (before rank {turn.rank})")
        if self._process.forked:
            return None
        with self._lock:
            previous = self._window.span  # dropped when the lock is released: its order may be the user's
            self._window.turned(outcome)
            self._wake_takers()  # the end may be the next rank
            claim = self._claim(number)
        del previous
        return claim

    def _arrive(self) -> bool:
        """A thread that may call user code begins; false if it must not."""
        with self._lock:
            if self._window.state is RunState.RUNNING:
                self._present += 1
                return True
            return False

    def _leave(self) -> None:
        """A thread that might have called user code ends; the last one closes the compute."""
        with self._lock:
            if self._present > 1:
                self._present -= 1
                return
        failed: BaseException | None = None
        try:
            self._terms.compute.close()
        except BaseException as error:  # kept, and told as threads tell theirs, before anyone can take the run for ended
            failed = error
            self._terms.runtime.tell(error)
        finally:
            with self._lock:
                over = self._over()
                never_taken = self._window.stop() if over else None  # if not, all workers were lost: what they left is still to be taken
                if self._window.error is None:  # not whether it is false: its truth is the user's to say
                    self._window.error = failed
                self._present = 0
                self._wake_joiners()
            del never_taken

    # a consumer's side

    def take(self, timeout: float | None) -> T:
        """Return the next item; block until there is one.

        Raises:
            StopIteration: The run is over.
            WaitTimeoutError: `timeout` seconds have passed (G26).
            BaseException: What ends the stream, to one of its consumers (G10, G11).
        """
        if self._process.forked:  # G28
            self.check_process()
        if self._lock.owned():  # rule 5
            raise ReentryError("next() was called by a signal handler or finalizer that interrupted the enqueuer itself: call only stop() there")
        runtime = self._terms.runtime
        parker, since, now, late = None, 0.0, 0.0, None
        try:
            while late is None:
                with self._lock:
                    if parker is not None:
                        now = self._end_wait(parker, now)
                    item = self._try_take()  # the commit: nothing is left to do after it
                    if item is not NOTHING:
                        return item
                    if parker is None:
                        parker, since = runtime.parker(), runtime.clock()
                        now = since
                    elif timeout is not None and now - since >= timeout:  # G26
                        late = self._awaited()
                        continue
                    self._takers[parker] = None
                if self._rung:  # rule 5: register first, look then
                    raise StopIteration
                parker.park(None if timeout is None else since + timeout - now)
            raise WaitTimeoutError(f"no item within {timeout:g} s: {late()}")
        except BaseException:  # G22: who was interrupted while it waited has taken nothing; it waits for the same rank again
            if parker is not None:
                with self._lock:
                    self._end_wait(parker, now)
            raise

    def _try_take(self) -> T | Literal[Nothing.NOTHING]:
        """With the lock held: the next item that is not `None`, `NOTHING` if it is not there yet."""
        window = self._window
        while not self._rung:  # G16: nothing is delivered after the end; a stopped window has nothing either
            if self._idle and not self._waking:
                self._wake_for(window.rank + window.takeable())  # as it will be after the take: rule 4
            item = window.take()  # G24: under the lock, so by one consumer only
            if item is NOTHING:
                break
            if item is not None:  # G3
                return item
        if window.state is RunState.RUNNING and window.drained() and not self._rung:
            self._wake_all()
            error = window.conclude()
            if error is not None:
                raise error
        if self._over():
            raise StopIteration
        return NOTHING

    def _end_wait(self, parker: Parker, since: float) -> float:
        """With the lock held: a consumer waits no more, or looks whether it has to. Return the time."""
        self._takers.pop(parker, None)
        now = self._terms.runtime.clock()
        self._consumers_waited += now - since
        return now

    def _awaited(self) -> Callable[[], str]:
        """With the lock held: find out what the next item is and what keeps it from coming. To be called without it, as orders may be the user's."""
        window, rank = self._window, self._window.rank
        if window.turning and rank == window.end:
            return f"rank {rank} waits for the turn of epoch {window.epoch} (its hook, length and order)".__str__
        if rank not in window.under_way:
            return f"rank {rank} was not yet claimed by any of {self._terms.workers} workers".__str__
        worker = window.under_way[rank]
        return partial(_computed, *self._claims[worker], worker)

    # anyone's side

    def start(self) -> None:
        """Start the workers, and let them begin once all are there. On any error some may be: the caller stops the run (G18)."""
        parker = self._terms.runtime.parker()
        self._terms.process.at_exit(self)
        try:
            self._terms.runtime.boot(self._boot)
            while not self._has_booted(parker):
                parker.park()
        except Exception as error:
            raise StartError(f"could not start {self._terms.workers} {self._starting}: {error}") from error
        with self._lock:
            if self._idle:
                self._wake_worker(next(reversed(self._idle)))
            self._window.start()  # D19: no user code was called until here

    def _has_booted(self, parker: Parker) -> bool:
        """Whether `_boot` is done; if not, register the parker. Raises what went wrong there."""
        with self._lock:
            self._joiners[parker] = None
            if self._boot_error is not None:
                raise self._boot_error
            return self._booted

    def _boot(self) -> None:
        """Body of a bare thread that starts the workers: `Thread.start()` does not survive an interrupt, and here none can arrive."""
        terms = self._terms
        current.set(Here(self, self._outer, 0, terms.workers, terms.plan.seed))
        error: Exception | None = None
        try:
            if self._arrive():
                self._starting = "worker processes"
                try:
                    terms.compute.open(terms.workers, self._claim_ahead)
                    terms.process.at_exit(self)  # again, now that everything is imported
                    self._starting, number = "worker threads", 0
                    while number < terms.workers and self._arrive():
                        try:
                            self._start_worker(number)
                        except Exception:
                            self._leave()  # in its place
                            raise
                        number += 1
                except Exception as refused:
                    error = refused
                self._leave()
        finally:
            with self._lock:
                self._booted, self._boot_error = True, error
                self._wake_joiners()

    def _start_worker(self, number: int) -> None:
        thread = self._terms.runtime.thread(partial(self._work, number), f"enqueuer-worker-{number}")
        with self._lock:
            self._parkers.append(self._terms.runtime.parker())
        thread.start()
        with self._lock:
            self._threads.append(thread)

    def stop(self, timeout: float | None) -> bool:
        """End the run; wait until its threads have exited. See `SequenceEnqueuer.stop`."""
        if self._lock.owned():  # called by what interrupted a critical section of this very thread
            self.ring()
            return False
        if self._terms.runtime.finalizing():  # G20: no other thread will ever run again, also one that has the lock
            return not self._present
        with self._lock:
            never_taken = self._end()
        del never_taken  # outside the lock
        self._terms.compute.halt()
        return False if self._is_own() else self._gone(timeout)

    def _is_own(self) -> bool:
        """Whether this is a thread of the run, or of one that an item of it has started (D23): waiting for oneself would never end (G14)."""
        here = current.get()
        while here is not None and here.run is not self:
            here = here.outer
        return here is not None

    def _end(self) -> object:
        """With the lock held: stop the window, wake everyone. The caller drops what is returned outside the lock."""
        self._wake_all()  # G21: nobody waits for what will not come
        return self._window.stop()

    def ring(self) -> None:
        """Ask for the end without the lock, from anywhere: someone who holds it, or comes to, will answer."""
        self._rung = True
        waiting = (*self._parkers, *self._takers)
        for parker in waiting:
            parker.unpark()

    def _gone(self, timeout: float | None) -> bool:
        """Wait for the threads to leave and to exit; at the deadline give up those that are stuck in user code (N5)."""
        runtime = self._terms.runtime
        parker = runtime.parker()
        deadline = None if timeout is None else runtime.clock() + timeout
        gone = False
        try:
            gone, stuck = self._join(parker, deadline)
            if deadline is not None:
                if not (gone or stuck):  # D15: they are on their way out
                    gone, stuck = self._join(parker, deadline + GRACE / 2)
                if not gone and (self._terms.compute.kill() or not stuck):  # G15
                    gone, _ = self._join(parker, deadline + GRACE)
        finally:
            with self._lock:
                self._joiners.pop(parker, None)
                threads = tuple(self._threads) if gone else ()
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline + GRACE - runtime.clock()))
        return gone and not any(thread.is_alive() for thread in threads)

    def _join(self, parker: Parker, until: float | None) -> tuple[bool, bool]:
        """Wait for the last worker to leave. Return whether it has, and whether one is in user code."""
        runtime = self._terms.runtime
        while True:
            with self._lock:
                self._joiners[parker] = None
                if not self._present:
                    return True, False
                stuck = bool(self._window.under_way)
            left = None if until is None else until - runtime.clock()
            if left is not None and left <= 0:
                return False, stuck
            parker.park(left)

    def running(self) -> bool:
        """Whether the run is not over (G19)."""
        self.check_process()
        with self._lock:
            return not self._over()  # G19

    def place(self) -> Place:
        """Where the stream stands: at the lowest rank not yet taken (G27)."""
        self.check_process()
        with self._lock:
            window = self._window
            if window.span is None:  # G27: the first turn is still to come
                return self._terms.plan.start
            epoch, position = window.span.locate(window.rank)
            fresh = window.barrier and window.rank == window.span.end  # the next epoch may be of another length
            return Place(epoch, position, window.rank, None if fresh else window.span.length)

    def statistics(self) -> Statistics:
        """Return what the run is doing at this moment."""
        self.check_process()
        with self._lock:
            place = self.place()
            window = self._window
            return Statistics(
                state=RunState.STOPPED if self._rung and window.state is RunState.RUNNING else window.state,
                epoch=place.epoch,
                position=place.position,
                rank=window.rank,
                claimed=window.claimed,
                ready=len(window.ready),
                workers=self._terms.workers,
                max_queue_size=self._terms.max_queue_size,
                blocked_workers=len(self._idle),
                blocked_consumers=len(self._takers),
                threads=self._present,
                consumers_waited=self._consumers_waited,
                workers_waited=self._workers_waited,
                error=window.error,
            )

    def check_process(self) -> None:
        """Raise in a process forked since the start, where the lock may be held for ever by a thread that is not there (G28)."""
        if self._process.forked:  # G28
            raise ForkedError("this run belongs to the process that started it, and this process is a fork of it: make a new enqueuer here")


def _computed(rank: int, span: Span, worker: int) -> str:
    epoch, index = span.work(rank)
    what = f"rank {rank}" if span.length is None else f"rank {rank} (index {index} of epoch {epoch})"
    return f"{what} is being computed by worker {worker}"


def _ringer(run: Run[T]) -> Callable[[object], None]:
    """What to call when the enqueuer is gone. It does not keep the run alive: the threads do, as long as there are any."""
    reference = weakref.ref(run)

    def ring(_: object) -> None:
        found = reference()
        if found is not None:
            found.ring()

    return ring


def _annotated(error: BaseException, where: str) -> BaseException:
    """The error as it is to be delivered: itself, with a note that says where it comes from."""
    if issubclass(type(error), StopIteration):  # it would silently end the consumer's loop; generators make the same of it
        told = RuntimeError(f"{where} raised StopIteration")
        told.__cause__ = error
        return told
    try:
        BaseException.add_note(error, f"enqueuer: raised by {where}")
    except BaseException:  # noqa: S110 - it has an attribute __notes__ of its own, and is delivered without ours
        pass
    return error
