"""Signals and finalizers arrive anywhere, also inside the enqueuer's own critical sections. Nothing may hang, leak, or be left half done."""

import gc
import signal
import threading
from contextlib import contextmanager

import pytest
from pacing import LIMIT

from enqueuer import OrderedEnqueuer
from enqueuer.errors import ReentryError
from enqueuer.testing.subject import Gate, Numbers

pytestmark = [pytest.mark.concurrency, pytest.mark.interrupts]


def test_thousands_of_interrupts_at_a_blocked_consumer_lose_nothing(interrupts) -> None:
    """G22: the item is not there while they arrive."""
    gate = Gate()

    def item(index):
        gate.enter()
        return index

    with OrderedEnqueuer(Numbers(1000, item)) as enqueuer:
        enqueuer.start(2, 2)
        items, interrupted = enqueuer.get(), 0
        with interrupts(0.0001) as armed:
            while interrupted < 2000:
                try:
                    with armed:
                        next(items)
                except KeyboardInterrupt:
                    interrupted += 1
        blocked = enqueuer.statistics().blocked_consumers
        gate.open()
        assert blocked == 0
        assert [next(items) for _ in range(20)] == list(range(20))


@pytest.mark.parametrize(("workers", "size"), [(1, 1), (3, 1), (2, 2), (2, 10)])
def test_thousands_of_interrupts_at_a_busy_consumer_leave_a_working_enqueuer(interrupts, workers, size) -> None:
    with OrderedEnqueuer(Numbers(1_000_000)) as enqueuer:
        enqueuer.start(workers, size)
        items, interrupted, last = enqueuer.get(timeout=LIMIT), 0, -1
        with interrupts(0.0001) as armed:
            while interrupted < 1000:
                try:
                    with armed:
                        item = next(items)
                except KeyboardInterrupt:
                    interrupted += 1
                    continue
                assert item > last
                last = item
        assert enqueuer.is_running()
        tail = [next(items) for _ in range(50)]
        assert tail == list(range(tail[0], tail[0] + 50))


def test_an_interrupted_consumer_leaves_no_other_consumer_waiting(interrupts) -> None:
    """G21 with G22: a wake-up that an interrupted consumer got is not lost for the others."""
    with OrderedEnqueuer(Numbers(1_000_000)) as enqueuer:
        enqueuer.start(2, 1)
        count = threading.Semaphore(0)
        over = threading.Event()

        def consume():
            for _ in enqueuer.get(timeout=LIMIT):
                count.release()
                if over.is_set():
                    return

        consumers = [threading.Thread(target=consume) for _ in range(2)]
        for consumer in consumers:
            consumer.start()
        items, interrupted = enqueuer.get(timeout=LIMIT), 0
        with interrupts(0.0005) as armed:
            while interrupted < 500:
                try:
                    with armed:
                        next(items)
                except KeyboardInterrupt:
                    interrupted += 1
        while count.acquire(blocking=False):
            pass
        for _ in range(100):
            assert count.acquire(timeout=LIMIT)
        over.set()
        for consumer in consumers:
            consumer.join(LIMIT)
            assert not consumer.is_alive()


def test_an_interrupted_start_leaves_nothing_running(interrupts) -> None:
    """G18: at whatever point it arrives, even just after it has succeeded: then it has."""
    enqueuer = OrderedEnqueuer(Numbers(5))
    interrupted = failed = 0
    with interrupts(0.0002) as armed:
        while failed < 100:  # however long that takes: on a busy machine many come too early or too late
            try:
                with armed:
                    enqueuer.start(2, 4)
            except KeyboardInterrupt:
                interrupted += 1
                failed += not enqueuer.is_running()
            if enqueuer.is_running():
                assert next(enqueuer.get(timeout=LIMIT)) == 0
            assert enqueuer.stop()
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("enqueuer")]
    assert interrupted >= failed
    enqueuer.start(2, 4)
    items = enqueuer.get()
    assert [next(items) for _ in range(6)] == [0, 1, 2, 3, 4, 0]
    assert enqueuer.stop()


@contextmanager
def _handler(call):
    before = signal.signal(signal.SIGALRM, lambda *_: call())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_stop_the_enqueuer_that_it_interrupts() -> None:
    """G14: also inside a critical section, where waiting for the lock would never end."""
    enqueuer = OrderedEnqueuer(Numbers(5))
    with _handler(enqueuer.stop):
        for round_ in range(300):
            enqueuer.start(2, 3)
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + round_ * 3e-6)
            for _ in enqueuer.get(timeout=LIMIT):
                pass  # ends when the signal has arrived
            assert not enqueuer.is_running()
            assert enqueuer.stop()


def test_next_in_a_signal_handler_delivers_or_refuses_and_never_hangs_or_doubles() -> None:
    """Inside a critical section there is nothing it could do; outside of one the handler is a consumer like any other."""
    got, refused = [], []

    def take():
        try:
            got.append(next(items))
        except ReentryError as error:
            refused.append(error)

    with OrderedEnqueuer(Numbers(10**6)) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get(timeout=LIMIT)
        with _handler(take):
            signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
            for _ in range(20_000):
                got.append(next(items))
                if len(refused) > 20:
                    break
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert sorted(got) == list(range(len(got)))


def _garbage() -> list:
    """Return what only the collector frees."""
    cycle = []
    cycle.append(cycle)
    return cycle


def test_a_finalizer_may_stop_the_enqueuer_that_it_interrupts() -> None:
    """G14: garbage is collected at any allocation or call, in workers and consumers, also inside a critical section."""
    enqueuer = OrderedEnqueuer(Numbers(5, lambda _: _garbage()))

    class Loader:
        def __init__(self):
            self.itself = self

        def __del__(self):
            enqueuer.stop()

    before = gc.get_threshold()
    gc.collect()
    try:
        for round_ in range(200):
            gc.set_threshold(5 + round_ % 17, 1, 1)
            enqueuer.start(2, 3)
            Loader()
            for _ in enqueuer.get(timeout=LIMIT):
                _garbage()
            assert enqueuer.stop()
    finally:
        gc.set_threshold(*before)
        gc.collect()
