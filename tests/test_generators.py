"""What may be given to a `GeneratorEnqueuer` in thread mode, and how often it can be had (G2, G5, G11, G17)."""

import threading
from itertools import islice

import pytest
from pacing import LIMIT

from enqueuer import EndOfStream, GeneratorEnqueuer, OrderedEnqueuer, item_seed, worker_info
from enqueuer._plan import item_seed as seed_of
from enqueuer.testing.subject import Gate, Numbers

pytestmark = pytest.mark.concurrency


def all_of(generator, workers=3, size=4):
    with GeneratorEnqueuer(generator) as enqueuer:
        enqueuer.start(workers, size)
        return list(enqueuer.get(timeout=LIMIT))


class OneAtATime:
    """An iterator that must not be entered twice at once; most iterators written in Python are such."""

    def __init__(self, count):
        self.count, self.number, self.inside = count, -1, False

    def __iter__(self):
        return self

    def __next__(self):
        assert not self.inside
        self.inside = True
        self.number += 1
        for _ in range(100):
            pass  # time for others to come in
        self.inside = False
        if self.number >= self.count:
            raise StopIteration
        return self.number


@pytest.mark.parametrize(
    "generator",
    [iter(range(50)), (number for number in range(50)), OneAtATime(50), range(50), list(range(50)), lambda: range(50), lambda: iter(range(50))],
    ids=["iterator", "generator", "own class", "iterable", "list", "callable of an iterable", "callable of an iterator"],
)
def test_anything_that_gives_items_gives_them_in_its_order(generator) -> None:
    assert all_of(generator) == list(range(50))


@pytest.mark.parametrize("wrong", [3, None, object()])
def test_anything_else_is_refused_at_once(wrong) -> None:
    with pytest.raises(TypeError, match="iterable or a callable"):
        GeneratorEnqueuer(wrong)


def test_a_generator_function_begins_anew_and_a_generator_goes_on() -> None:
    def numbers():
        yield from range(3)

    with GeneratorEnqueuer(numbers) as anew, GeneratorEnqueuer(numbers()) as once:
        for expected in ([0, 1, 2], []):
            anew.start()
            once.start()
            assert list(anew.get()) == [0, 1, 2]
            assert list(once.get()) == (expected or [])


def test_the_caller_is_never_asked_for_more_than_one_item_at_a_time() -> None:
    assert all_of(OneAtATime(2000), workers=8, size=20) == list(range(2000))


def test_one_thread_runs_a_generator_and_closes_it_however_many_workers_there_are() -> None:
    """Connections of sqlite3 refuse to be used, and to be closed, in another thread than their own."""
    threads: list[set[int]] = []

    def numbers():
        threads.append({threading.get_ident()})
        try:
            for number in range(100):
                threads[-1].add(threading.get_ident())
                yield number
        finally:
            threads[-1].add(threading.get_ident())

    for count in (0, 20, 100):
        with GeneratorEnqueuer(numbers) as enqueuer:
            enqueuer.start(4, 3)
            assert list(islice(enqueuer.get(timeout=LIMIT), count)) == [*range(count)]
    assert [len(idents) for idents in threads] == [1] * len(threads)
    assert len(threads) >= 2  # without a next() it may not have begun


def test_random_seed_is_the_root_of_the_items_seeds_and_nothing_else() -> None:
    def seeds():
        while True:
            yield item_seed(), worker_info().index

    with GeneratorEnqueuer(seeds, random_seed=5) as enqueuer:
        enqueuer.start(3, 4)
        items = enqueuer.get()
        assert [next(items) for _ in range(5)] == [(seed_of(5, 0, rank), rank) for rank in range(5)]


def test_an_unseeded_one_draws_its_seed_once() -> None:
    enqueuer = GeneratorEnqueuer([1])
    assert enqueuer.random_seed == enqueuer.random_seed
    assert 0 <= enqueuer.random_seed < 2**53


def test_a_straggler_in_a_generator_of_an_earlier_run_does_not_block_a_later_one() -> None:
    """G16: each run of a callable has an iterator of its own, and so has each its own turns."""
    gate, made = Gate(), []

    def numbers():
        made.append(1)
        if len(made) == 1:
            gate.enter()
        yield from range(3)

    enqueuer = GeneratorEnqueuer(numbers)
    enqueuer.start(1, 1)
    assert gate.wait_arrived(1)
    assert not enqueuer.stop(0)
    enqueuer.start(1, 1)
    assert list(enqueuer.get(timeout=LIMIT)) == [0, 1, 2]
    gate.open()
    assert enqueuer.stop()


def test_end_of_stream_is_for_computes_and_an_error_from_anything_else() -> None:
    """G5, G10: or an item could end the stream without a word."""

    def broken():
        yield 1
        raise EndOfStream

    with GeneratorEnqueuer(broken) as enqueuer:
        enqueuer.start()
        items = enqueuer.get(timeout=LIMIT)
        assert next(items) == 1
        with pytest.raises(RuntimeError, match="EndOfStream"):
            next(items)

    def item(index):
        raise EndOfStream

    with OrderedEnqueuer(Numbers(2, item)) as enqueuer:
        enqueuer.start()
        with pytest.raises(RuntimeError, match="EndOfStream"):
            next(enqueuer.get(timeout=LIMIT))


def test_an_error_while_a_generator_is_closed_is_kept() -> None:
    def stubborn():
        try:
            yield from range(100)
        finally:
            raise ValueError("on the way out")

    told, before = [], threading.excepthook
    threading.excepthook = told.append
    try:
        enqueuer = GeneratorEnqueuer(stubborn)
        enqueuer.start(2, 3)
        assert next(enqueuer.get()) == 0
        assert enqueuer.stop()
    finally:
        threading.excepthook = before
    assert str(enqueuer.statistics().error) == "on the way out"
    assert len(told) == 1


def test_what_closes_a_generator_is_no_item() -> None:
    """G9: it has no seed of its own, least of all that of the last item."""
    seen = []

    def numbers():
        try:
            yield from range(100)
        finally:
            try:
                seen.append(item_seed())
            except RuntimeError as error:
                seen.append(error)

    with GeneratorEnqueuer(numbers) as enqueuer:
        enqueuer.start(1, 2)
        assert next(enqueuer.get()) == 0
    assert isinstance(seen[0], RuntimeError)


def test_an_iterator_that_is_not_iterable_will_do() -> None:
    class Bare:
        number = -1

        def __next__(self):
            self.number += 1
            if self.number == 5:
                raise StopIteration
            return self.number

    assert all_of(Bare()) == [0, 1, 2, 3, 4]
