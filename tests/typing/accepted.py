"""What the types accept, and what comes out. Checked by mypy and pyright, never run."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from typing import Literal, TypeVar, assert_type

import numpy
from numpy.typing import NDArray

from enqueuer import (
    Compute,
    GeneratorEnqueuer,
    OrderedEnqueuer,
    Place,
    Plan,
    SequenceEnqueuer,
    SequenceLike,
    Statistics,
    Stream,
    WorkerInfo,
    item_rng,
    item_seed,
    worker_info,
)
from enqueuer.testing.subject import GeneratorLike, OrderedLike

T = TypeVar("T")
Batch = tuple[NDArray[numpy.float32], NDArray[numpy.int64]]


class Typed:
    """A sequence with a hook; the parameter has a name, as in Keras."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Batch:
        return numpy.zeros(3, numpy.float32), numpy.zeros(3, numpy.int64)

    def on_epoch_end(self) -> None: ...


class Sometimes:
    """A sequence that leaves items out."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int, /) -> bytes | None:
        return None


class Squares(SequenceEnqueuer[int]):
    """A user's own enqueuer."""

    def make_plan(self, start: Place) -> Plan:
        return Plan(epochs=1, start=start)

    def make_compute(self) -> Compute[int]:
        return _Squaring()


class _Squaring:
    def turn(self, *, hook: bool) -> int:
        return 5

    def item(self, worker: int, epoch: int, index: int, /) -> int:
        return index**2

    def close(self) -> None: ...


def the_item_type_comes_out() -> None:
    assert_type(OrderedEnqueuer(Typed()), OrderedEnqueuer[Batch])
    assert_type(OrderedEnqueuer(Typed()).get(), Stream[Batch])
    assert_type(next(OrderedEnqueuer(Typed(), False, True, seed=7).get(timeout=1.5)), Batch)
    for inputs, targets in OrderedEnqueuer(Typed()).get():
        assert_type(inputs, NDArray[numpy.float32])
        assert_type(targets, NDArray[numpy.int64])
    assert_type(next(Squares(None).get()), int)


def none_is_stripped() -> None:
    assert_type(next(OrderedEnqueuer(Sometimes()).get()), bytes)
    assert_type(next(OrderedEnqueuer(Typed()).get()), Batch)

    def numbers() -> Iterator[int | None]:
        yield None

    assert_type(next(GeneratorEnqueuer(numbers()).get()), int)
    assert_type(next(GeneratorEnqueuer(numbers).get()), int)


def lists_strings_ranges_and_tuples_are_sequences() -> None:
    assert_type(next(OrderedEnqueuer([1, 2]).get()), int)
    assert_type(next(OrderedEnqueuer("text").get()), str)
    assert_type(next(OrderedEnqueuer(range(3)).get()), int)
    assert_type(next(OrderedEnqueuer((1.5, 2.5)).get()), float)


def arrays_are_sequences(array: NDArray[numpy.float64]) -> None:
    enqueuer = OrderedEnqueuer(array)
    enqueuer.start()
    for row in enqueuer.get():
        print(row)


def any_iterable_and_any_callable_that_makes_one_is_a_generator(make: Callable[[], list[str]]) -> None:
    assert_type(next(GeneratorEnqueuer([1]).get()), int)
    assert_type(next(GeneratorEnqueuer(iter([1])).get()), int)
    assert_type(next(GeneratorEnqueuer(make).get()), str)
    assert_type(next(GeneratorEnqueuer(make, False, 7).get()), str)


def processes_are_started_as_is_said(chosen: BaseContext, name: str, death: Literal["raise", "retry"]) -> None:
    assert_type(OrderedEnqueuer(Typed(), True, context="fork", on_worker_death="retry", max_retries=0), OrderedEnqueuer[Batch])
    assert_type(OrderedEnqueuer([1], True, context=multiprocessing.get_context("spawn")), OrderedEnqueuer[int])
    assert_type(OrderedEnqueuer([1], use_multiprocessing=True, context=chosen, on_worker_death=death), OrderedEnqueuer[int])
    assert_type(OrderedEnqueuer([1], True, context=name), OrderedEnqueuer[int])
    assert_type(OrderedEnqueuer([1], True, context=None, on_worker_death="raise"), OrderedEnqueuer[int])
    assert_type(GeneratorEnqueuer([1], True, 7, context=multiprocessing.get_context(), on_worker_death="raise"), GeneratorEnqueuer[int])
    assert_type(Squares(None, True, context="forkserver", on_worker_death="retry", max_retries=1), Squares)


def reads(sequence: SequenceLike[float | None], like: OrderedLike[float]) -> None:
    assert_type(next(OrderedEnqueuer(sequence).get()), float)
    assert_type(next(like.get()), float)


def a_sequence_may_be_of_a_narrower_type(sequence: SequenceLike[bool], enqueuer: OrderedEnqueuer[bool]) -> None:
    reads(sequence, enqueuer)


def the_rest_of_the_face(enqueuer: OrderedEnqueuer[int], generator: GeneratorEnqueuer[int]) -> None:
    assert_type(enqueuer.stop(), bool)
    assert_type(enqueuer.close(0.5), bool)
    assert_type(enqueuer.is_running(), bool)
    assert_type(enqueuer.statistics(), Statistics)
    assert_type(enqueuer.state_dict(), dict[str, int | None])
    assert_type(enqueuer.seed, int)
    with enqueuer as entered:
        assert_type(entered, OrderedEnqueuer[int])
    like: GeneratorLike[int] = generator
    like = enqueuer
    print(like)


def what_an_item_may_ask() -> None:
    assert_type(worker_info(), WorkerInfo | None)
    assert_type(item_seed(), int)
    assert_type(item_rng(), numpy.random.Generator)


def generic_code_stays_generic(sequence: SequenceLike[T | None]) -> Iterator[T]:
    with OrderedEnqueuer(sequence) as enqueuer:
        enqueuer.start()
        yield from enqueuer.get()
