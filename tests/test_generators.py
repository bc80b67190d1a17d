"""What may be given to a `GeneratorEnqueuer` in thread mode, and how often it can be had (G2, G5, G11, G17)."""

import pytest

from enqueuer import GeneratorEnqueuer, item_seed, worker_info
from enqueuer._plan import item_seed as seed_of


def all_of(generator, workers=3, size=4):
    with GeneratorEnqueuer(generator) as enqueuer:
        enqueuer.start(workers, size)
        return list(enqueuer.get(timeout=30))


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
