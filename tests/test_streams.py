"""Streams: a generator's interface without a generator's mortality (G2, G16, G22, G26)."""

from collections.abc import Generator, Iterator

import pytest
from pacing import LIMIT, wait_for

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer
from enqueuer._plan import permutation
from enqueuer.errors import NotStartedError
from enqueuer.testing.subject import Gate, Numbers

pytestmark = pytest.mark.concurrency


@pytest.fixture
def enqueuer():
    with OrderedEnqueuer(Numbers(4)) as enqueuer:
        yield enqueuer


def test_a_stream_may_be_had_before_the_start(enqueuer) -> None:
    items = enqueuer.get()
    with pytest.raises(NotStartedError, match="start"):
        next(items)
    enqueuer.start()
    assert next(items) == 0


def test_a_stream_that_was_not_used_in_time_is_at_its_end(enqueuer) -> None:
    items = enqueuer.get()
    enqueuer.start()
    enqueuer.stop()
    assert list(items) == []
    enqueuer.start()
    assert list(items) == []


def test_a_stream_has_a_generators_interface(enqueuer) -> None:
    items = enqueuer.get()
    assert isinstance(items, Generator)
    assert isinstance(items, Iterator)
    enqueuer.start()
    assert items.send(None) == 0
    assert iter(items) is items


def test_a_closed_stream_is_at_its_end_and_the_others_are_not(enqueuer) -> None:
    enqueuer.start()
    items, others = enqueuer.get(), enqueuer.get()
    assert next(items) == 0
    items.close()
    items.close()
    assert list(items) == []
    assert next(others) == 1
    assert enqueuer.is_running()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((ValueError("a"),), "a"), ((ValueError,), ""), ((ValueError, "b"), "b"), ((ValueError, ValueError("c")), "c"), ((ValueError, "d", None), "d")],
)
def test_what_is_thrown_into_a_stream_comes_out_and_closes_it(enqueuer, arguments, expected) -> None:
    enqueuer.start()
    items = enqueuer.get()
    assert next(items) == 0
    with pytest.raises(ValueError, match=f"^{expected}$"):
        items.throw(*arguments)
    assert list(items) == []
    assert enqueuer.is_running()


@pytest.mark.parametrize("timeout", [0, 0.01, 1e9, float("inf"), 10**12])
def test_any_number_of_seconds_will_do(enqueuer, timeout) -> None:
    enqueuer.start()
    items, got = enqueuer.get(timeout=timeout), []

    def comes():
        try:
            got.append(next(items))
        except TimeoutError:
            assert timeout < 1
        return got

    assert wait_for(comes)
    assert got == [0]


def test_a_timeout_says_what_a_generator_or_a_hook_waits_for() -> None:
    gate = Gate()

    class Slow(Numbers):
        def __len__(self):
            gate.enter()
            return super().__len__()

    with OrderedEnqueuer(Slow(2)) as enqueuer:
        enqueuer.start(2, 2)
        assert gate.wait_arrived(1)
        with pytest.raises(TimeoutError, match=r"within 0.01 s: rank 0 waits for the turn of epoch 0"):
            next(enqueuer.get(timeout=0.01))
        gate.open()
        assert next(enqueuer.get(timeout=LIMIT)) == 0


def test_a_loop_that_is_left_by_an_error_leaves_the_stream_usable(enqueuer) -> None:
    enqueuer.start()
    items = enqueuer.get()
    with pytest.raises(ZeroDivisionError):
        for item in items:
            1 / item
    assert next(items) == 1


def test_a_timeout_names_the_right_index_though_later_epochs_are_open_already() -> None:
    """G26: with a shuffled order of each epoch, several of which fit into the window."""
    gate, begun = Gate(), []

    def item(index):
        begun.append(index)
        gate.enter()
        return index

    with OrderedEnqueuer(Numbers(3, item), shuffle=True, seed=3) as enqueuer:
        enqueuer.start(9, 9)
        assert gate.wait_arrived(9)
        order = permutation(3, 0, 3)
        with pytest.raises(TimeoutError, match=rf"rank 0 \(index {order[0]} of epoch 0\) is being computed by worker \d$"):
            next(enqueuer.get(timeout=0.01))
        gate.open()
        items = enqueuer.get(timeout=LIMIT)
        assert [next(items) for _ in range(3)] == order


def test_a_timeout_says_the_rank_of_what_a_generator_computes() -> None:
    gate = Gate()

    def numbers():
        yield 0
        gate.enter()
        yield 1

    with GeneratorEnqueuer(numbers) as enqueuer:
        enqueuer.start(2, 2)
        assert next(enqueuer.get(timeout=LIMIT)) == 0
        assert gate.wait_arrived(1)
        with pytest.raises(TimeoutError, match=r"within 0.01 s: rank 1 is being computed by worker \d$"):
            next(enqueuer.get(timeout=0.01))
        gate.open()
