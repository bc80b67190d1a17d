"""What programs written for Keras expect, and what the enqueuers they were written for get wrong in threads.

The first part is like the thread tests of `TestEnqueuers` in tf-keras. The second has a test for each fault that was measured in a thread
mode of tf-keras, Keras 3 and others; see docs/differences.md.
"""

import queue
import threading
import time

import numpy as np
import pytest
from pacing import LIMIT, at_most, wait_for

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer.testing.subject import Gate, Numbers

pytestmark = pytest.mark.concurrency


class Sequence:
    """As Keras programs write them: items are arrays, a hook changes what comes."""

    def __init__(self, shape, value=1.0):
        self.shape = shape
        self.inner = value

    def __getitem__(self, item):
        time.sleep(0)
        return np.ones(self.shape, dtype=np.uint32) * item * self.inner

    def __len__(self):
        return 100

    def on_epoch_end(self):
        self.inner *= 5.0


class Faulty(Sequence):
    def __getitem__(self, item):
        raise IndexError(item, "is not available")


SHAPE = (3, 200, 200, 3)


def firsts(items, count):
    return [float(next(items)[0, 0, 0, 0]) for _ in range(count)]


def test_items_come_in_order() -> None:
    enqueuer = OrderedEnqueuer(Sequence(SHAPE), use_multiprocessing=False)
    enqueuer.start(3, 10)
    assert firsts(enqueuer.get(), 100) == list(range(100))
    enqueuer.stop()


def test_the_hook_changes_the_next_epoch() -> None:
    enqueuer = OrderedEnqueuer(Sequence(SHAPE), use_multiprocessing=False)
    enqueuer.start(3, 10)
    items = enqueuer.get()
    assert firsts(items, 100) == list(range(100))
    assert firsts(items, 100) == [index * 5 for index in range(100)]
    enqueuer.stop()


def test_a_faulty_item_is_raised_in_the_loop() -> None:
    enqueuer = OrderedEnqueuer(Faulty(SHAPE), use_multiprocessing=False)
    enqueuer.start(3, 10)
    with pytest.raises(IndexError, match="is not available"):
        next(enqueuer.get())
    enqueuer.stop()


def test_the_documented_example_ends_with_close() -> None:
    enqueuer = OrderedEnqueuer(Sequence((1, 1, 1, 1)))
    enqueuer.start()
    datas = enqueuer.get()
    for data in datas:
        if data[0, 0, 0, 0] == 3:
            break
    assert enqueuer.close()


def test_a_generator_comes_in_order_from_several_workers() -> None:
    enqueuer = GeneratorEnqueuer((np.ones((2, 2)) * index for index in range(100)), use_multiprocessing=False)
    enqueuer.start(3, 10)
    assert [float(item[0, 0]) for item in enqueuer.get()] == list(range(100))
    assert not enqueuer.is_running()


def test_a_fault_in_a_generator_is_raised_in_the_loop() -> None:
    def faulty():
        yield 1
        raise IndexError("is not available")

    enqueuer = GeneratorEnqueuer(faulty(), use_multiprocessing=False)
    enqueuer.start(3, 10)
    items = enqueuer.get()
    assert next(items) == 1
    with pytest.raises(IndexError, match="is not available"):
        next(items)
    enqueuer.stop()


# what others break


def broken_hook():
    sequence = Sequence((1, 1, 1, 1))
    sequence.on_epoch_end = lambda: 1 / 0
    return sequence, ZeroDivisionError, 100


def broken_length():
    class Broken(Sequence):
        def __len__(self):
            raise LookupError("length")

    return Broken((1, 1, 1, 1)), LookupError, 0


@pytest.mark.parametrize("make", [broken_hook, broken_length])
def test_an_error_outside_of_getitem_does_not_hang(make) -> None:
    sequence, kind, count = make()
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start(2, 10)
        items = enqueuer.get(timeout=LIMIT)
        assert len(firsts(items, count)) == count
        with pytest.raises(kind):
            next(items)
        assert not enqueuer.is_running()


def test_none_items_do_not_hang_the_epoch() -> None:
    with OrderedEnqueuer(Numbers(4, [0, None, 2, None].__getitem__)) as enqueuer:
        enqueuer.start(2, 2)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items) for _ in range(6)] == [0, 2] * 3


class TwoArguments(Exception):
    def __init__(self, left, right):
        super().__init__(left)
        self.right = right


@pytest.mark.parametrize(
    "error", [SystemExit(2), GeneratorExit(), queue.Empty(), KeyboardInterrupt(), TwoArguments(1, 2)], ids=lambda e: type(e).__name__
)
def test_no_kind_of_exception_hangs_or_is_lost(error) -> None:
    def item(index):
        if index == 1:
            raise error
        return index

    with OrderedEnqueuer(Numbers(4, item)) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get(timeout=LIMIT)
        assert next(items) == 0
        with pytest.raises(type(error)) as caught:
            next(items)
        assert caught.value is error
        assert enqueuer.statistics().error is error


def test_stop_releases_a_consumer_that_waits_for_a_long_item_without_delivering_it() -> None:
    gate, got = Gate(), []
    enqueuer = OrderedEnqueuer(Numbers(4, lambda index: (gate.enter(), index)[1]))
    enqueuer.start(1, 1)
    consumer = threading.Thread(target=lambda: got.extend(enqueuer.get()))
    consumer.start()
    assert gate.wait_arrived(1)
    assert wait_for(lambda: enqueuer.statistics().blocked_consumers)
    assert not enqueuer.stop(0)
    consumer.join(LIMIT)
    assert not consumer.is_alive()
    assert got == []
    gate.open()
    assert enqueuer.stop()


def test_stop_with_a_timeout_keeps_to_it_and_says_what_is_left() -> None:
    gate = Gate()
    enqueuer = OrderedEnqueuer(Numbers(4, lambda _: gate.enter()))
    enqueuer.start(1, 1)
    assert gate.wait_arrived(1)
    with at_most(0.3 + 0.5):
        before = time.monotonic()
        assert not enqueuer.stop(0.3)
        assert time.monotonic() - before >= 0.3
    gate.open()
    assert enqueuer.stop()


def test_stop_within_the_loop_ends_it() -> None:
    enqueuer = OrderedEnqueuer(Numbers(4))
    enqueuer.start(2, 4)
    taken = []
    for item in enqueuer.get():
        taken.append(item)
        if len(taken) == 6:
            enqueuer.stop()
    assert taken == [0, 1, 2, 3, 0, 1]


def test_a_second_start_is_refused_and_leaks_nothing() -> None:
    with OrderedEnqueuer(Numbers(4)) as enqueuer:
        enqueuer.start(2, 4)
        with pytest.raises(RuntimeError, match="call stop"):
            enqueuer.start(2, 4)
        assert next(enqueuer.get()) == 0


def test_after_a_restart_old_streams_steal_nothing_and_old_items_do_not_come() -> None:
    with OrderedEnqueuer(Numbers(50)) as enqueuer:
        enqueuer.start(2, 10)
        old = enqueuer.get()
        assert [next(old) for _ in range(5)] == [0, 1, 2, 3, 4]
        enqueuer.stop()
        enqueuer.start(2, 10)
        assert list(old) == []
        items = enqueuer.get()
        assert [next(items) for _ in range(60)] == [*range(50), *range(10)]


@pytest.mark.parametrize("step", [-1, 1])
def test_a_length_that_the_hook_changes_is_respected(step) -> None:
    class Changing(Numbers):
        def on_epoch_end(self):
            self.length += step

    with OrderedEnqueuer(Changing(4)) as enqueuer:
        enqueuer.start(3, 10)
        items = enqueuer.get(timeout=LIMIT)
        for length in (4, 4 + step, 4 + 2 * step):
            assert [next(items) for _ in range(length)] == list(range(length))


def test_an_empty_sequence_does_not_loop_for_ever() -> None:
    with OrderedEnqueuer([]) as enqueuer:
        enqueuer.start()
        with pytest.raises(ValueError, match="nothing to deliver"):
            next(enqueuer.get(timeout=LIMIT))


def test_the_read_ahead_is_what_was_asked_for() -> None:
    gate = Gate(opened=True)
    with OrderedEnqueuer(Numbers(50, lambda index: (gate.enter(), index)[1])) as enqueuer:
        enqueuer.start(2, 7)
        assert gate.wait_arrived(7)
        assert wait_for(lambda: enqueuer.statistics().blocked_workers == 2)
        assert gate.arrived == 7
        assert enqueuer.statistics().claimed == 7


def test_short_epochs_wait_for_no_poll() -> None:
    """tf-keras and Keras 3 need 100 ms for each of them; a quarter of that is allowed here."""

    class Hooked(Numbers):
        hooks = 0

        def on_epoch_end(self):
            self.hooks += 1

    sequence = Hooked(10)
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start(2, 10)
        items = enqueuer.get(timeout=LIMIT)
        with at_most(200 * 0.1 / 4):
            for _ in range(200 * 10):
                next(items)
        assert sequence.hooks >= 199


def test_the_item_seed_tells_equal_workers_apart() -> None:
    """Where others deliver six distinct random values in sixteen items."""
    from enqueuer import item_rng

    with OrderedEnqueuer(Numbers(16, lambda _: item_rng().random()), seed=1) as enqueuer:
        enqueuer.start(4, 8)
        items = enqueuer.get()
        values = [next(items) for _ in range(16)]
    assert len(set(values)) == 16
