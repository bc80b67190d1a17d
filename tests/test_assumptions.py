"""Each assumption on the caller and each non-promise, shown, so that no one comes to rely on the contrary unawares."""

import os
import threading
from multiprocessing import forkserver, resource_tracker

import pytest
from pacing import LIMIT

from enqueuer import OrderedEnqueuer, worker_info
from enqueuer._window import Window
from enqueuer.errors import BorderError, StartError
from enqueuer.testing.subject import Gate, Hooked, Numbers


def test_A1_getitem_is_called_from_several_threads_at_once() -> None:
    together = threading.Barrier(3)

    def item(index):
        together.wait(LIMIT)  # passes only if three threads are in __getitem__ at once
        return index

    with OrderedEnqueuer(Numbers(9, item)) as enqueuer:
        enqueuer.start(3, 3)
        items = enqueuer.get()
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        together.abort()
        enqueuer.stop()


class Locked:
    """A sequence that can't be pickled."""

    def __init__(self):
        self.lock = threading.Lock()

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index


class LockedWithHook(Locked):
    hooks = 0

    def on_epoch_end(self):
        self.hooks += 1


@pytest.fixture(scope="module")
def tracker():
    """Start what multiprocessing keeps for good, before anything is counted."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.mark.usefixtures("tracker")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_A2_a_sequence_that_can_not_be_pickled_is_refused_at_the_start(method) -> None:
    with OrderedEnqueuer(Locked(), use_multiprocessing=True, context=method) as enqueuer:
        with pytest.raises(StartError, match="pickle"):
            enqueuer.start(2, 2)
        assert not enqueuer.is_running()


def test_A2_with_fork_only_a_sequence_with_a_hook_must_be_picklable() -> None:
    with OrderedEnqueuer(Locked(), use_multiprocessing=True, context="fork") as enqueuer:
        enqueuer.start(2, 2)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items) for _ in range(5)] == [0, 1, 0, 1, 0]
    with OrderedEnqueuer(LockedWithHook(), use_multiprocessing=True, context="fork") as enqueuer:
        enqueuer.start(2, 2)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(BorderError, match="pickle"):
            next(items)


def test_A3_a_hook_that_somebody_else_calls_is_not_noticed() -> None:
    sequence = Hooked(2, lambda: setattr(sequence, "length", 3))
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start(1, 1)
        items = enqueuer.get()
        assert next(items) == 0
        sequence.on_epoch_end()  # the epoch that is under way keeps its length all the same
        assert [next(items) for _ in range(4)] == [1, 0, 1, 2]


def test_A4_a_resumed_stream_computes_its_items_anew() -> None:
    gate = Gate(opened=True)
    sequence = Numbers(10, lambda index: (gate.enter(), index)[1])
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start(1, 2)
        items = enqueuer.get()
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        assert gate.wait_arrived(4)  # rank 3 is computed ahead
        state = enqueuer.state_dict()
        enqueuer.stop()
        enqueuer.load_state_dict(state)
        enqueuer.start(1, 2)
        assert next(enqueuer.get()) == 3
    assert sequence.computed.count(3) == 2


def test_A5_hooks_are_not_replayed_when_a_run_resumes_in_a_later_epoch() -> None:
    hooks = []
    with OrderedEnqueuer(Hooked(2, lambda: hooks.append(1))) as enqueuer:
        enqueuer.load_state_dict({"seed": 0, "epoch": 7, "position": 1, "rank": 15, "length": 2})
        enqueuer.start()
        assert next(enqueuer.get()) == 1
        enqueuer.stop()
    assert len(hooks) <= 1  # that of the end of epoch 7, if the workers came so far; none for the seven before


def test_A6_a_lock_that_was_held_at_the_fork_is_never_released_in_the_worker() -> None:
    lock = threading.Lock()
    released, release = os.pipe()

    def item(index):
        os.read(released, 1)
        return lock.acquire(timeout=0.05)  # a copy of the lock, and nobody there to release it

    with OrderedEnqueuer(Numbers(1, item), use_multiprocessing=True, context="fork") as enqueuer:
        with lock:
            enqueuer.start(1, 1)
        os.write(release, b"!")
        assert next(enqueuer.get(timeout=LIMIT)) is False
    os.close(release)
    os.close(released)


def test_N1_items_are_computed_in_no_particular_order() -> None:
    gate, done = Gate(), []

    def item(index):
        if index == 0:
            gate.enter()
        done.append(index)
        if index == 2:
            gate.open()
        return index

    with OrderedEnqueuer(Numbers(3, item)) as enqueuer:
        enqueuer.start(2, 3)
        items = enqueuer.get()
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert done.index(0) > done.index(1)


@pytest.mark.parametrize("slow", [1, 2])
def test_N2_any_worker_may_compute_any_item(slow) -> None:
    """Hold one worker or the other: the same item is computed by another one."""
    gate, who = Gate(), {}

    def item(index):
        who[index] = worker_info().worker
        if index == slow:
            gate.enter()
        elif index == 3:
            gate.open()
        return index

    with OrderedEnqueuer(Numbers(4, item)) as enqueuer:
        enqueuer.start(2, 4)
        items = enqueuer.get()
        assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
    assert who[3] != who[slow]  # whoever computes the slow one, the other computes item 3


def test_N3_one_of_several_consumers_may_get_everything() -> None:
    with OrderedEnqueuer(Numbers(5)) as enqueuer:
        enqueuer.start(2, 4)
        greedy, patient = enqueuer.get(), enqueuer.get()
        assert [next(greedy) for _ in range(20)] == [rank % 5 for rank in range(20)]
        assert next(patient) == 0  # what was left: rank 20


def test_N4_stop_discards_what_was_computed_ahead() -> None:
    gate = Gate(opened=True)
    sequence = Numbers(100, lambda _: gate.enter())
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start(2, 6)
        assert gate.wait_arrived(6)
        enqueuer.stop()
        assert enqueuer.statistics().ready == 0
        assert list(enqueuer.get()) == []
    assert sorted(sequence.computed) == list(range(6))


def test_N5_a_thread_stuck_in_user_code_is_abandoned_and_stop_says_so() -> None:
    gate, touched = Gate(), []

    def item(index):
        gate.enter()
        touched.append(index)
        return index

    enqueuer = OrderedEnqueuer(Numbers(3, item))
    enqueuer.start(1, 1)
    assert gate.wait_arrived(1)
    assert not enqueuer.stop(0)
    assert not touched
    gate.open()  # now it touches the sequence, though the run is over
    assert enqueuer.stop()
    assert touched == [0]


def test_N6_an_interrupt_in_the_middle_of_a_hand_over_costs_that_item(monkeypatch) -> None:
    """It comes just after the window has committed the take: the item is gone, and the stream goes on with the next."""
    take, interrupted = Window.take, []

    def interrupted_take(window):
        item = take(window)
        if item == 2 and not interrupted:
            interrupted.append(item)
            raise KeyboardInterrupt
        return item

    with OrderedEnqueuer(Numbers(5)) as enqueuer:
        enqueuer.start(2, 3)
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items), next(items)] == [0, 1]
        monkeypatch.setattr(Window, "take", interrupted_take)
        with pytest.raises(KeyboardInterrupt):
            next(items)
        assert [next(items) for _ in range(4)] == [3, 4, 0, 1]


@pytest.mark.concurrency
@pytest.mark.interrupts
def test_N6_each_interrupt_costs_one_item_at_most(interrupts) -> None:
    with OrderedEnqueuer(Numbers(1_000_000)) as enqueuer:
        enqueuer.start(2, 8)
        items, interrupted, last, lost = enqueuer.get(timeout=LIMIT), 0, -1, 0
        with interrupts(0.0005) as armed:
            while interrupted < 300:
                try:
                    with armed:
                        item = next(items)
                except KeyboardInterrupt:
                    interrupted += 1
                    continue
                lost += item - last - 1
                last = item
        assert next(items) >= last + 1
    assert 0 <= lost <= interrupted
