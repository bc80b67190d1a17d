"""`validated()`: a program that runs as it is, and hears of broken promises."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest

from enqueuer import OrderedEnqueuer
from enqueuer.testing.kit import validated
from enqueuer.testing.subject import BrokenPromise
from enqueuer.testing.twins import TWINS

LENGTH = 7


class Items:
    """The first takes longest; one is `None`."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> int | None:
        if not index:
            time.sleep(0.01)
        return None if index == 3 else index


class Hooked(Items):
    def on_epoch_end(self) -> None:
        pass


def programme(enqueuer, items=2 * (LENGTH - 1), *, shuffled=False) -> list[int]:
    """Two epochs, a stop, a second run."""
    enqueuer.start(2, 3)
    assert enqueuer.is_running()
    stream = enqueuer.get()
    got = list(islice(stream, items))
    with pytest.raises(RuntimeError):
        enqueuer.start()
    assert (next(stream), next(enqueuer.get())) == (got[0], got[1]) or shuffled  # a second stream goes on where the first is
    assert enqueuer.stop()
    assert not enqueuer.is_running()
    assert list(stream) == []
    enqueuer.start(1, 1)
    assert len(list(islice(enqueuer.get(), items))) == items
    assert enqueuer.stop()
    return got


@pytest.mark.parametrize("kind", [Items, Hooked])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("processes", [False, True])
def test_what_keeps_its_promises_is_left_alone(kind, shuffle, processes) -> None:
    context = {"use_multiprocessing": True, "context": "fork"} if processes else {}
    got = programme(validated(OrderedEnqueuer, kind(), shuffle=shuffle, **context), shuffled=shuffle)
    assert sorted(got) == sorted([0, 1, 2, 4, 5, 6] * 2)
    assert shuffle or got == [0, 1, 2, 4, 5, 6] * 2


@pytest.mark.parametrize(
    ("name", "guarantee"),
    [
        ("CompletionOrder", "G2"),
        ("OneEpoch", "G5"),
        ("SecondStartReplaces", "G18"),
        ("TakenTwice", "G1"),
        ("TwiceAndNever", "G1"),
    ],
)
def test_a_twin_is_told_while_the_programme_runs(name, guarantee) -> None:
    (twin,) = (twin for twin in TWINS if twin.name == name)
    enqueuer = validated(twin.factory.ordered, Hooked() if name == "TwiceAndNever" else Items())
    try:
        with pytest.raises(BrokenPromise) as caught:
            programme(enqueuer)
        assert caught.value.guarantee == guarantee, caught.value
    finally:
        enqueuer.enqueuer.stop()
        twin.clean()


def ordered(name: str):
    """Return how a twin is made."""
    (twin,) = (twin for twin in TWINS if twin.name == name)
    return twin.factory.ordered


def test_too_many_items_ahead_are_told() -> None:
    begun = threading.Semaphore(0)

    class Counts(Items):
        def __getitem__(self, index: int) -> int:
            begun.release()
            return index

    enqueuer = validated(ordered("OffByOne"), Counts())
    enqueuer.start(1, 3)
    for _ in range(4):
        assert begun.acquire(timeout=30)
    with pytest.raises(BrokenPromise, match="G4: 4 items were computed or waiting, 3 are allowed"):
        next(enqueuer.get())
    enqueuer.enqueuer.stop()


def test_a_run_that_goes_on_after_its_end_is_told() -> None:
    class Fails(Items):
        def __getitem__(self, index: int) -> int:
            raise LookupError

    enqueuer = validated(ordered("RunningForEver"), Fails())
    enqueuer.start()
    with pytest.raises(LookupError):
        next(enqueuer.get())
    with pytest.raises(BrokenPromise, match="G19"):
        enqueuer.is_running()
    enqueuer.enqueuer.stop()


def test_a_hook_that_comes_too_early_is_told() -> None:
    called = threading.Event()

    class Calls(Items):
        def on_epoch_end(self) -> None:
            called.set()

    enqueuer = validated(ordered("HookTooEarly"), Calls())
    enqueuer.start(2, 20)
    assert called.wait(30)
    with pytest.raises(BrokenPromise, match="G7: on_epoch_end"):
        next(enqueuer.get())
    enqueuer.enqueuer.stop()


class Made:
    """An enqueuer that does what a test wants."""

    def __init__(self, sequence, **_: object) -> None:
        self.sequence, self.running = sequence, False

    def start(self, *_: object) -> None:
        self.running = True

    def get(self) -> Iterator[object]:
        return (self.sequence[index] for index in range(len(self.sequence)))

    def stop(self, timeout: float | None = None) -> bool:
        self.running = False
        return True

    def is_running(self) -> bool:
        return self.running


def test_what_comes_after_the_end_is_told() -> None:
    enqueuer = validated(Made, Items())
    enqueuer.start(1, 10)
    stream = enqueuer.get()
    assert next(stream) == 0
    assert enqueuer.stop()
    with pytest.raises(BrokenPromise, match="G16: a stream had ended, and then gave item 1"):
        next(stream)
    with pytest.raises(BrokenPromise, match="G16: stop\\(\\) had returned true, and item 1 was asked for"):
        next(stream)


def test_what_is_seen_in_an_item_is_told_to_the_consumer() -> None:
    enqueuer = validated(Made, Items())
    enqueuer.start(1, 2)
    for index in range(4):
        enqueuer.enqueuer.sequence[index]
    with pytest.raises(BrokenPromise, match="G4: 3 items were computed or waiting, 2 are allowed"):
        next(enqueuer.get())


def test_an_error_and_a_timeout_go_through() -> None:
    class Fails(Items):
        gate = threading.Event()

        def __getitem__(self, index: int) -> int:
            self.gate.wait()
            raise LookupError(index)

    enqueuer = validated(OrderedEnqueuer, Fails())
    enqueuer.start()
    stream = enqueuer.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        next(stream)
    Fails.gate.set()
    with pytest.raises(LookupError):
        list(enqueuer.get())
    assert list(enqueuer.get()) == []
    assert enqueuer.stop()


def test_several_consumers_are_not_blamed() -> None:
    enqueuer = validated(OrderedEnqueuer, Items())
    enqueuer.start(2, 4)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(islice(enqueuer.get(), 60))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert enqueuer.stop()
    assert len(got) == 180


class Tiny:
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> int:
        return index


def test_it_costs_less_than_a_tenth_of_a_millisecond_an_item() -> None:
    """Of processor time, of which a busy machine takes none away."""

    def cost(enqueuer) -> float:
        enqueuer.start(2, 10)
        since = time.process_time()
        assert len(list(islice(enqueuer.get(), 3000))) == 3000
        spent = time.process_time() - since
        assert enqueuer.stop()
        return spent / 3000

    assert cost(validated(OrderedEnqueuer, Tiny())) - cost(OrderedEnqueuer(Tiny())) < 1e-4
