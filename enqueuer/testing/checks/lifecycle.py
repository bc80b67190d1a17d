"""Checks of start, stop and what is left: G14 to G20, and G28."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from ..pace import paced, patiently, seen
from ..subject import LIMIT, MOMENT, Factory, Gate, GeneratorLike, Hooked, Numbers, ends, joined, promise, raised, stopping, take, within
from .check import Check
from .host import KEPT, LIFE, hosted

__all__ = ["CHECKS"]


def _drain(stream: Iterator[object]) -> None:
    for _ in stream:
        pass


def _fail(index: int) -> int:
    raise ValueError(index)


def check_stop_may_be_called_at_any_time(factory: Factory) -> None:
    """G14: before start, twice, from several threads at once."""
    subject = factory.ordered(Numbers(5))
    promise(within("G14", "stop() before start()", subject.stop, factory.limit), "G14", "stop() before start() returned false")
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        take(factory, stream, 2, "G14")
        results: list[bool] = []
        threads = [threading.Thread(target=lambda: results.append(subject.stop()), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            joined(thread, factory.limit)
        promise(results == [True] * 4, "G14", f"four stop() at once returned {results}")
        promise(within("G14", "a second stop()", subject.stop, factory.limit), "G14", "a second stop() returned false")
        got = raised(factory, partial(next, stream), "G14", "next() after stop()")
        promise(isinstance(got, StopIteration), "G14", f"a loop that went on after stop() met {got!r}")


def check_stop_releases_a_blocked_consumer(factory: Factory) -> None:
    """G14: at once, though the item that it waits for goes on, and stop() with it; the stream ends without that item."""
    gate = Gate()
    subject = factory.ordered(Numbers(5, gate.item))
    with stopping(factory, subject, gate=gate):
        subject.start(2, 4)
        stream = subject.get()
        got: list[object] = []
        consumer = threading.Thread(target=lambda: got.extend(stream), daemon=True)
        consumer.start()
        gate.wait_arrived(2, factory.limit)
        consumer.join(MOMENT)  # long enough for it to block; were it not, the check would only be weaker
        stop = threading.Thread(target=subject.stop, name="within", daemon=True)
        stop.start()
        promise(joined(consumer, factory.limit), "G14", "stop() did not release a blocked consumer")
        promise(not got, "G16", f"after stop() had been called, {got} was delivered")
        gate.open()
        promise(joined(stop, factory.limit), "G14", "stop() did not return when all items had ended")


def check_stop_from_the_runs_own_threads_does_not_wait(factory: Factory) -> None:
    """G14: an item, the hook, the generator: it requests the stop and returns false. In process mode the hook: the others are in no thread here."""
    results: list[bool] = []

    def stop(_: object = None) -> int:
        results.append(holder[-1].stop())
        return 0

    def generator() -> Iterator[int]:
        stop()
        yield 0

    holder: list[GeneratorLike[object]] = []
    makers: tuple[Callable[[], GeneratorLike[object]], ...] = (
        lambda: factory.ordered(Numbers(3, stop)),
        lambda: factory.ordered(Hooked(1, stop)),
        lambda: factory.generator(generator),
    )
    for make in makers[1:2] if factory.method else makers:
        subject = make()
        holder.append(subject)
        with stopping(factory, subject):
            subject.start(1, 4)
            within("G14", "a stream that is stopped from inside the run", partial(_drain, subject.get()), factory.limit)
            promise(within("G14", "stop()", subject.stop, factory.limit), "G14", "stop() from outside returned false after one from inside")
    promise(results == [False] * len(results) and results, "G14", f"stop() from the run's own threads returned {results}")


def check_stop_with_a_timeout_keeps_it(factory: Factory) -> None:
    """G15: false while an item is stuck, true once it ended or its process was killed; in time, at the pace of the machine; without one items end."""
    gate = Gate()
    subject = factory.ordered(Numbers(5, gate.item))
    with stopping(factory, subject, gate=gate):
        subject.start(2, 4)
        gate.wait_arrived(2, factory.limit)
        for timeout in (0.3,) if factory.method else (0, 0.3):
            exited, elapsed, allowed = timed_stop(factory, subject, timeout)
            if factory.method:
                promise(exited, "G15", f"stop({timeout}) returned false, though the processes of stuck items can be killed")
            else:
                promise(not exited, "G15", f"stop({timeout}) returned true while an item was stuck")
            promise(elapsed <= allowed, "G15", f"stop({timeout}) took {elapsed:.2f} s of {allowed:.2f}")
        gate.open()
        promise(within("G15", "stop()", subject.stop, factory.limit), "G15", "stop() returned false though running items could end")
    _running_items_end(factory)
    idle = factory.ordered(Numbers(5))
    with stopping(factory, idle):
        idle.start(2, 4)
        take(factory, idle.get(), 1, "G15")
        promise(within("G15", "stop(5) of idle workers", lambda: idle.stop(5), factory.limit), "G15", "stop(5) of idle workers returned false")


def timed_stop(factory: Factory, subject: GeneratorLike[object], timeout: float) -> tuple[bool, float, float]:
    """Return what `stop(timeout)` returns, how many seconds it takes, and how many it may take at the pace of this machine."""
    with paced() as machine:
        before = time.monotonic()
        exited = within("G15", f"stop({timeout})", partial(subject.stop, timeout), factory.limit)
        elapsed = time.monotonic() - before
    return exited, elapsed, timeout + 0.5 * machine.factor


def _running_items_end(factory: Factory) -> None:
    gate = Gate()
    subject, ended = factory.ordered(Numbers(5, gate.item)), threading.Event()
    with stopping(factory, subject, gate=gate):
        subject.start(2, 4)
        gate.wait_arrived(2, factory.limit)
        results: list[bool] = []

        def stop() -> None:
            results.append(subject.stop())
            ended.set()

        threading.Thread(target=stop, name="within", daemon=True).start()
        promise(not patiently(ended.wait, MOMENT), "G15", "stop() without a timeout did not wait for running items")
        gate.open()
        promise(patiently(ended.wait, factory.limit) and results == [True], "G15", f"stop() returned {results} after the running items had ended")


def check_nothing_happens_after_stop(factory: Factory) -> None:
    """G16: the sequence is left alone, old streams stay ended, and a straggler does not reach the next run."""
    gate = Gate()

    def item(index: int) -> object:
        if index == 2:
            gate.enter()
        return index

    sequence = Numbers(4, item)
    subject = factory.ordered(sequence)
    with stopping(factory, subject, gate=gate):
        subject.start(2, 4)
        old, idle = subject.get(), subject.get()
        take(factory, old, 1, "G16")
        take(factory, idle, 1, "G16")
        gate.wait_arrived(1, factory.limit)
        subject.stop(0)  # leaves a straggler in item 2
        promise(ends(factory, old, "G16"), "G16", "a stream delivered something after stop()")
        subject.start(2, 2)
        for stream in (old, idle):  # the one was asked meanwhile, the other was not
            promise(ends(factory, stream, "G16"), "G16", "a stream of an earlier run delivered an item of a later one")
        new = subject.get()
        take(factory, new, 2, "G16")
        gate.open()
        items = take(factory, new, 4, "G16")
        promise(items == [2, 3, 0, 1], "G16", f"with a straggler of the run before, ranks 2 to 5 came as {items}")
        subject.stop()
    count = len(sequence.computed)
    gate.wait_arrived(1000, MOMENT)
    promise(len(sequence.computed) == count, "G16", "the sequence was called after stop() had returned true")


def check_a_restart_begins_afresh(factory: Factory) -> None:
    """G17: at epoch 0 and rank 0, whatever the run before left: items, an error, an end."""

    def failing(index: int) -> int:
        if index == 3 and trouble:
            raise ValueError("trouble")
        return index

    trouble = False
    subject = factory.ordered(Numbers(4, failing))
    with stopping(factory, subject):
        for taken in (0, 3, 6, 9):
            subject.start(2, 4)
            items = take(factory, subject.get(), taken, "G17")
            promise(items == [rank % 4 for rank in range(taken)], "G17", f"a restarted run began with {items}")
            subject.stop()
        trouble = True
        subject.start(2, 4)
        raised(factory, lambda: take(factory, subject.get(), 4, "G17"), "G17", "a failing run")
        trouble = False
        subject.start(2, 4)
        items = take(factory, subject.get(), 6, "G17")
        promise(items == [0, 1, 2, 3, 0, 1], "G17", f"after a failed run a restart began with {items}")


def check_a_restarted_generator_begins_anew(factory: Factory) -> None:
    """G17: one that is made by a callable; an iterator of the caller's own goes on."""
    anew = factory.generator(lambda: iter(range(3)))
    with stopping(factory, anew):
        for _ in range(2):
            anew.start(2, 4)
            promise(list(anew.get()) == [0, 1, 2], "G17", "a callable that makes generators did not begin anew")
    if factory.method:
        return  # an iterator is copied: what is here stays where it is
    kept = iter(range(100))
    own = factory.generator(kept)
    with stopping(factory, own):
        own.start(1, 1)
        take(factory, own.get(), 2, "G17")
        own.stop()
        computed = next(kept)
        own.start(1, 1)
        items = take(factory, own.get(), 2, "G17")
        promise(items == [computed + 1, computed + 2], "G17", f"an iterator that was read up to {computed} went on with {items}")


def check_start_while_running_is_refused(factory: Factory) -> None:
    """G18: it raises and leaves the run untouched."""
    subject = factory.ordered(Numbers(10))
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        items = take(factory, stream, 3, "G18")
        got = raised(factory, lambda: subject.start(2, 4), "G18", "start() while running")
        promise(isinstance(got, RuntimeError), "G18", f"start() while running raised {got!r}")
        items += take(factory, stream, 4, "G18")
        promise(items == list(range(7)) and subject.is_running(), "G18", f"start() while running disturbed the run: {items}")


def check_is_running_tells_the_life_of_a_run(factory: Factory) -> None:
    """G19: false, true from start, false after stop; see G5, G10 and G11 for the other ends."""
    subject = factory.ordered(Numbers(3))
    with stopping(factory, subject):
        promise(not subject.is_running(), "G19", "is_running() is true before start()")
        for _ in range(2):
            subject.start()
            promise(subject.is_running(), "G19", "is_running() is false after start()")
            subject.stop()
            promise(not subject.is_running(), "G19", "is_running() is true after stop()")
    failing = factory.ordered(Numbers(3, _fail))
    with stopping(factory, failing):
        failing.start()
        raised(factory, lambda: next(failing.get()), "G19", "a failing run")
        promise(not failing.is_running(), "G19", "is_running() is true after a failure was delivered")


def _settled(threads: set[threading.Thread], limit: float) -> set[threading.Thread]:
    """Return the threads that are left over, after waiting for them to exit."""

    def left() -> set[threading.Thread]:
        return {thread for thread in set(threading.enumerate()) - threads if thread.name != "within"}

    seen(lambda: not left(), limit)
    return left()


def check_stop_leaves_nothing(factory: Factory) -> None:
    """G20: no thread and no file descriptor; after a failure and an end the workers leave on their own."""
    first = factory.ordered(Numbers(1))
    with stopping(factory, first):
        first.start()  # what the host or multiprocessing keep for good
        take(factory, first.get(), 1, "G20")
        first.stop()
    threads, descriptors = set(threading.enumerate()), _descriptors()
    for _ in range(3):
        subject = factory.ordered(Numbers(5))
        with stopping(factory, subject):
            subject.start(3, 4)
            take(factory, subject.get(), 8, "G20")
            within("G14", "stop()", subject.stop, factory.limit)
            left = {thread for thread in set(threading.enumerate()) - threads if thread.name != "within"}
            promise(not left, "G20", f"stop() returned and left {left}")
    failing = factory.ordered(Numbers(5, _fail))
    ended = factory.generator(partial(range, 3))
    with stopping(factory, failing, ended):
        failing.start(3, 4)
        raised(factory, lambda: next(failing.get()), "G20", "a failing run")
        ended.start(3, 4)
        within("G5", "a finite stream", lambda: list(ended.get()), factory.limit)
        left = _settled(threads, factory.limit)
        promise(not left, "G20", f"after a failure and an end these threads stayed: {left}")
    seen(lambda: not _descriptors() - descriptors, factory.limit)  # the check's own, to worker processes that have just left
    promise(not (opened := _descriptors() - descriptors), "G20", f"{len(opened)} descriptors were left open")


def check_a_dropped_run_ends(factory: Factory) -> None:
    """G20: when neither the enqueuer nor a stream is reachable any more; a stream alone keeps it going."""
    threads = set(threading.enumerate())
    subject = factory.ordered(Numbers(50))  # in an epoch that has more than room
    subject.start(3, 4)
    stream = subject.get()
    del subject
    gc.collect()
    promise(take(factory, stream, 9, "G20") == [*range(9)], "G20", "a stream did not keep its enqueuer alive")
    del stream
    gc.collect()
    left = _settled(threads, factory.limit)
    promise(not left, "G20", f"nobody can reach the run any more, and it keeps {left}")


def _leave_an_item(factory: Factory, _: object) -> None:
    gate = Gate()

    def item(index: int) -> int:
        gate.enter(60)
        return index

    subject = factory.ordered(Numbers(5, item))
    subject.start(2, 4)
    KEPT.append((subject, gate))
    promise(gate.wait_arrived(2, LIMIT), "G21", "of two workers not all began")


def check_an_exit_does_not_wait_for_an_item(factory: Factory) -> None:
    """G20: a process that exits without stop(), with items under way that last a minute, ends at once."""
    with hosted(factory, "G20", _leave_an_item) as host:
        promise(host.ends(), "G20", f"a process that exits without stop(), two items under way, was there after {factory.limit:.0f} s")


def _descriptors() -> set[str]:
    folder = "/proc/self/fd"
    return {name for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}")} if os.path.isdir(folder) else set()  # noqa: PTH110, PTH112, PTH208


def check_a_fork_of_the_host_leaves_the_run_alone(factory: Factory) -> None:
    """G28: in the child every method raises at once, a new enqueuer works, and the parent goes on."""
    if not hasattr(os, "fork"):
        return  # nothing to promise
    subject = factory.ordered(Numbers(5))
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        items = take(factory, stream, 2, "G28")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: this process has threads
            child = os.fork()
        if child == 0:  # pragma: no cover
            status = 1
            try:
                status = _in_child(factory, subject, stream)
            finally:
                os._exit(status)
        try:
            status = within("G28", "the child of a fork", lambda: os.waitpid(child, 0)[1], factory.limit)
        except AssertionError:
            os.kill(child, signal.SIGKILL)
            raise
        promise(status == 0, "G28", f"in the child of a fork {_STEPS.get(os.waitstatus_to_exitcode(status), 'something else went wrong')}")
        items += take(factory, stream, 4, "G28")
        promise(items == [0, 1, 2, 3, 4, 0], "G28", f"after a fork the parent's stream went on as {items}")


_STEPS: Final = {
    2: "next() on the parent's stream did not raise",
    3: "is_running() did not raise",
    4: "stop() did not raise",
    5: "start() did not raise",
    6: "a new enqueuer did not work",
}


def _in_child(factory: Factory, subject: GeneratorLike[object], stream: Iterator[object]) -> int:  # pragma: no cover
    signal.alarm(LIFE)
    calls: dict[int, Callable[[], object]] = {2: partial(next, stream), 3: subject.is_running, 4: subject.stop, 5: subject.start}
    for step, call in calls.items():
        try:
            call()
        except RuntimeError:
            continue
        return step
    fresh = factory.ordered(Numbers(3))
    try:
        fresh.start(2, 4)
        return 0 if take(factory, fresh.get(), 4, "G28") == [0, 1, 2, 0] and fresh.stop() else 6
    except BaseException:
        traceback.print_exc()
        return 6


CHECKS: Final = (
    Check("G14", check_stop_may_be_called_at_any_time),
    Check("G14", check_stop_releases_a_blocked_consumer),
    Check("G14", check_stop_from_the_runs_own_threads_does_not_wait, frozenset({"generator", "hook"})),
    Check("G15", check_stop_with_a_timeout_keeps_it, frozenset({"deadline"})),
    Check("G16", check_nothing_happens_after_stop, frozenset({"deadline", "restart"})),
    Check("G17", check_a_restart_begins_afresh, frozenset({"restart"})),
    Check("G17", check_a_restarted_generator_begins_anew, frozenset({"generator", "restart"})),
    Check("G18", check_start_while_running_is_refused),
    Check("G19", check_is_running_tells_the_life_of_a_run, frozenset({"restart"})),
    Check("G20", check_stop_leaves_nothing, frozenset({"generator"})),
    Check("G20", check_a_dropped_run_ends),
    Check("G20", check_an_exit_does_not_wait_for_an_item),
    Check("G28", check_a_fork_of_the_host_leaves_the_run_alone),
)
