"""Checks of those who wait: G21 to G26."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Final, cast

from ..pace import patiently
from ..subject import MOMENT, Factory, Gate, Numbers, joined, promise, raised, stopping, take, within
from .check import Check

__all__ = ["CHECKS"]


def _count(stream: Iterator[object], counts: list[int], number: int) -> None:
    with suppress(StopIteration):  # the count tells
        for _ in range(300):
            next(stream)
            counts[number] += 1


def _returns(factory: Factory, shapes: Iterable[tuple[int, int, int]]) -> None:
    for workers, size, consumers in shapes:
        subject = factory.ordered(Numbers(100))  # a turn of an epoch may take a subject long
        with stopping(factory, subject):
            subject.start(workers, size)
            counts = [0] * consumers
            threads = [
                threading.Thread(target=_count, args=(subject.get(), counts, number), name="within", daemon=True) for number in range(consumers)
            ]
            for thread in threads:
                thread.start()
            before: list[int] = []
            while counts != before and any(thread.is_alive() for thread in threads):  # slow is not stuck
                before = list(counts)
                patiently(partial(_all_ended, threads), factory.limit)
            shape = f"{workers} workers, a queue of {size} and {consumers} consumers"
            promise(counts == [300] * consumers, "G21", f"with {shape} the consumers got stuck after {counts} items of 300 each")


def _all_ended(threads: list[threading.Thread], seconds: float) -> bool:
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def check_every_next_returns(factory: Factory) -> None:
    """G21: for many shapes of window."""
    _returns(factory, ((1, 1, 1), (2, 1, 1), (3, 2, 1), (8, 2, 1), (2, 10, 1)))


def check_every_next_of_racing_consumers_returns(factory: Factory) -> None:
    """G21: for many shapes of window, with consumers that race each other."""
    _returns(factory, ((2, 1, 2), (3, 2, 3), (2, 10, 2)))


def check_an_interrupt_loses_nothing(factory: Factory) -> None:
    """G22: `KeyboardInterrupt` reaches a blocked consumer at once; the stream goes on with the same rank. Main thread only."""
    interrupt(factory, partial(os.kill, os.getpid(), signal.SIGINT))


def interrupt(factory: Factory, kill: Callable[[], None]) -> None:
    """Watch what becomes of a consumer that is interrupted by a call."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("G22 can be checked in the main thread only: interrupts arrive nowhere else")
    gate = Gate()

    def item(index: int) -> int:
        if index == 1:
            gate.enter()
        return index

    subject = factory.ordered(Numbers(3, item))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with stopping(factory, subject, gate=gate):
        try:
            subject.start(2, 2)
            stream = subject.get()
            items = [next(stream)]
            asking, done = threading.Event(), threading.Event()

            def interrupting() -> None:
                gate.wait_arrived(1, factory.limit)
                patiently(asking.wait, factory.limit)
                gate.wait_arrived(2, MOMENT)  # nobody comes: time for the consumer to block; were it not, the check would only be weaker
                kill()
                patiently(done.wait, factory.limit)
                gate.open()  # a subject that sleeps through it gets its item, and fails below

            killer = threading.Thread(target=interrupting, name="within", daemon=True)
            arrived = False
            try:
                killer.start()
                asking.set()
                items.append(next(stream))
            except KeyboardInterrupt:
                arrived = True
            done.set()
            joined(killer, factory.limit)
        finally:
            signal.signal(signal.SIGINT, before)
        promise(arrived, "G22", "KeyboardInterrupt did not reach a consumer that was blocked in next()")
        promise(subject.is_running(), "G22", "KeyboardInterrupt in next() ended the run")
        items += take(factory, stream, 4, "G22")
        promise(items == [0, 1, 2, 0, 1], "G22", f"with a KeyboardInterrupt between 0 and 1, the items came as {items}")


def check_wrong_numbers_of_workers_and_items_are_refused(factory: Factory) -> None:
    """G23: at the start() that got them; nothing was started or changed."""
    subject = factory.ordered(Numbers(4))
    with stopping(factory, subject):
        for arguments in ((0, 10), (-1, 10), (1, 0), (1, -3)):
            got = raised(factory, partial(subject.start, *arguments), "G23", f"start{arguments}")
            promise(isinstance(got, ValueError), "G23", f"start{arguments} gave {got!r} instead of a ValueError")
            promise(not subject.is_running(), "G23", f"start{arguments} started something")
        for odd in ("2", 1.5, None, True):
            got = raised(factory, partial(cast("Callable[[object], None]", subject.start), odd), "G23", f"start({odd!r})")
            promise(isinstance(got, TypeError), "G23", f"start({odd!r}) gave {got!r} instead of a TypeError")
        subject.start(1, 1)
        promise(take(factory, subject.get(), 5, "G23") == [0, 1, 2, 3, 0], "G23", "refused calls disturbed the run")


def check_wrong_arguments_are_refused(factory: Factory) -> None:
    """G23: time-outs and what is to be read, at the call that got them; nothing was changed."""
    subject = factory.ordered(Numbers(4))
    with stopping(factory, subject):
        subject.start(1, 1)
        for seconds, kind in ((-1.0, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)):
            wrong = cast("float", seconds)
            for name, call in (("stop", partial(subject.stop, wrong)), ("get", partial(subject.get, timeout=wrong))):
                got = raised(factory, call, "G23", f"{name}({seconds!r})")
                promise(isinstance(got, kind), "G23", f"{name}({seconds!r}) gave {got!r} instead of a {kind.__name__}")
        promise(take(factory, subject.get(), 5, "G23") == [0, 1, 2, 3, 0], "G23", "refused calls disturbed the run")
    for make in (factory.ordered, factory.generator):
        got = raised(factory, partial(cast("Callable[[object], object]", make), 3), "G23", "a constructor")
        promise(isinstance(got, TypeError), "G23", f"an enqueuer of the number 3 gave {got!r} instead of a TypeError")


def check_consumers_share_the_items(factory: Factory) -> None:
    """G24: each item goes to exactly one, and ranks rise in each."""
    subject = factory.ordered(Numbers(10_000))
    with stopping(factory, subject):
        subject.start(3, 5)
        got: list[list[object]] = [[] for _ in range(3)]
        begin = threading.Barrier(3)

        def consume(items: list[object]) -> None:
            stream = subject.get()
            begin.wait()  # as daemons they keep nobody, should one not start
            items.extend(islice(stream, 200))

        threads = [threading.Thread(target=consume, args=(items,), name="within", daemon=True) for items in got]
        for thread in threads:
            thread.start()
        for thread in threads:
            joined(thread, factory.limit)
        together = [int(str(item)) for items in got for item in items]
        promise(sorted(together) == list(range(600)), "G24", "the items of three consumers together are not each of 600 items once")
        for items in got:
            promise([int(str(item)) for item in items] == sorted(int(str(item)) for item in items), "G24", "ranks fell within a stream")


def check_enqueuers_do_not_influence_each_other_or_the_host(factory: Factory) -> None:
    """G25: side by side, one inside an item of the other, and whatever is global stays as it was."""

    def state() -> tuple[object, ...]:
        multiprocessing = sys.modules.get("multiprocessing")
        method = multiprocessing.get_start_method(allow_none=True) if multiprocessing is not None else None
        return random.getstate(), tuple(warnings.filters), sys.excepthook, threading.excepthook, method

    before = state()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    first, second = factory.ordered(Numbers(3), seed=1), factory.ordered(Numbers(5), shuffle=True, seed=2)
    with stopping(factory, first, second):
        first.start(2, 4)
        second.start(3, 2)
        one, two = first.get(), second.get()
        items = [(take(factory, one, 1, "G25")[0], take(factory, two, 1, "G25")[0]) for _ in range(10)]
        promise([left for left, _ in items] == [rank % 3 for rank in range(10)], "G25", f"beside another enqueuer, one delivered {items}")
        second.stop()
        promise(first.is_running() and take(factory, one, 2, "G25") == [1, 2], "G25", "stopping one enqueuer disturbed another")

    def nested(index: int) -> list[object]:
        inner = factory.ordered(Numbers(4), seed=3)
        try:
            inner.start(2, 2)
            stream = inner.get()
            return [index, *(next(stream) for _ in range(5))]
        finally:
            inner.stop()

    outer = factory.ordered(Numbers(3, nested), seed=4)
    with stopping(factory, outer):
        outer.start(2, 2)
        found = take(factory, outer.get(), 3, "G25")
        promise(found == [[index, 0, 1, 2, 3, 0] for index in range(3)], "G25", f"items with an enqueuer of their own came as {found}")
    promise(state() == before, "G25", "running enqueuers changed the global random state, warning filters, a hook or the start method")
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
            promise(False, "G25", f"running enqueuers changed the handler of signal {number}")


def _patient_next(stream: Iterator[object]) -> object:
    """Return what comes, however often its time-out passes before, as it may on a busy machine."""
    while True:
        with suppress(TimeoutError):
            return next(stream)


def check_a_timeout_names_what_it_waited_for_and_loses_nothing(factory: Factory) -> None:
    """G26: the next `next()` waits for the same item."""
    gate = Gate()

    def item(index: int) -> int:
        if index == 2:
            gate.enter()
        return index

    subject = factory.ordered(Numbers(7, item))
    with stopping(factory, subject, gate=gate):
        subject.start(1, 4)
        stream = subject.get(timeout=0.05)
        items = [within("G26", "next()", partial(next, subject.get()), factory.limit) for _ in range(2)]
        gate.wait_arrived(1, factory.limit)
        for _ in range(3):
            got = raised(factory, partial(next, stream), "G26", "next() with a timeout")
            promise(isinstance(got, TimeoutError), "G26", f"a next() that took longer than its timeout gave {got!r}")
            promise(
                "rank 2" in str(got) and "index 2" in str(got) and "worker 0" in str(got), "G26", f"a timeout does not say what it waited for: {got}"
            )
            promise(subject.is_running(), "G26", "a timeout ended the run")
        gate.open()
        items.append(within("G26", "next() after timeouts", partial(_patient_next, stream), factory.limit))
        promise(items == [0, 1, 2], "G26", f"with timeouts before rank 2 the items came as {items}")


CHECKS: Final = (
    Check("G21", check_every_next_returns),
    Check("G21", check_every_next_of_racing_consumers_returns, frozenset({"consumers"})),
    Check("G22", check_an_interrupt_loses_nothing),
    Check("G23", check_wrong_numbers_of_workers_and_items_are_refused),
    Check("G23", check_wrong_arguments_are_refused, frozenset({"deadline", "generator", "timeout"})),
    Check("G24", check_consumers_share_the_items, frozenset({"consumers"})),
    Check("G25", check_enqueuers_do_not_influence_each_other_or_the_host, frozenset({"shuffle"})),
    Check("G26", check_a_timeout_names_what_it_waited_for_and_loses_nothing, frozenset({"timeout"})),
)
