"""A user's own enqueuer: a plan and a compute in a few lines, and every promise with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from pacing import LIMIT

from enqueuer import Compute, EndOfStream, OrderedEnqueuer, Place, Plan, RunState, SequenceEnqueuer, Span, item_seed, worker_info
from enqueuer.testing.checks import CHECKS
from enqueuer.testing.subject import REFERENCE


@dataclass
class Applied:
    """The compute: a function of each of some inputs."""

    function: Callable[[int], object]
    inputs: Sequence[int]

    def turn(self, *, hook: bool) -> int:
        return len(self.inputs)

    def item(self, worker: int, epoch: int, index: int, /) -> object:
        return self.function(self.inputs[index])

    def close(self) -> None:
        self.inputs = ()


class MapEnqueuer(SequenceEnqueuer[object]):
    """`map()`, once, prefetched."""

    def __init__(self, function, inputs, **options) -> None:
        super().__init__(inputs, **options)
        self._function = function

    def make_plan(self, start: Place) -> Plan:
        return Plan(epochs=1, start=start)

    def make_compute(self) -> Compute[object]:
        return Applied(self._function, self.sequence)


def test_a_finite_subclass_ends_after_its_last_item_and_can_be_started_again() -> None:
    with MapEnqueuer(lambda number: number * number, range(20)) as squares:
        for _ in range(2):
            squares.start(3, 4)
            assert list(squares.get()) == [number * number for number in range(20)]
            assert squares.statistics().state is RunState.ENDED
            assert not squares.is_running()


def test_a_subclass_inherits_the_promises_about_errors() -> None:
    with MapEnqueuer(lambda number: 1 // (number - 3), range(20)) as broken:
        broken.start(3, 4)
        items = broken.get()
        assert [next(items) for _ in range(3)] == [-1, -1, -1]
        with pytest.raises(ZeroDivisionError) as caught:
            next(items)
        assert "rank 3 (epoch 0, index 3" in caught.value.__notes__[0]


class Endless(MapEnqueuer):
    """The same shape as `OrderedEnqueuer`: so the checks of the contract apply."""

    seed = 0

    def __init__(self, sequence, *, shuffle=False, seed=None) -> None:
        super().__init__(sequence.__getitem__, range(len(sequence)))

    def make_plan(self, start: Place) -> Plan:
        return Plan(start=start)


OWN = replace(REFERENCE, name="a user's own", ordered=Endless)


@pytest.mark.parametrize(
    "check",
    [check for check in CHECKS if check.applies(OWN) and check.guarantee in {"G2", "G4", "G15", "G18", "G21", "G24", "G26"}],
    ids=lambda check: check.name,
)
def test_a_subclass_keeps_the_promise(check) -> None:
    check.run(OWN)


def test_a_plan_may_have_orders_of_its_own() -> None:
    class Backwards(Plan):
        def span(self, epoch: int, rank: int, length: int | None) -> Span:
            return Span(epoch, rank, length, rank + length, order=range(length - 1, -1, -1))

    class Reversed(Endless):
        def make_plan(self, start: Place) -> Plan:
            return Backwards(start=start)

    with Reversed(range(4)) as backwards:
        backwards.start(2, 3)
        items = backwards.get()
        assert [next(items) for _ in range(8)] == [3, 2, 1, 0] * 2


def test_a_plan_that_opens_nothing_is_an_error_and_no_endless_loop() -> None:
    class Nowhere(Plan):
        def span(self, epoch: int, rank: int, length: int | None) -> Span:
            return Span(epoch, rank, length, rank)

    class Stuck(Endless):
        def make_plan(self, start: Place) -> Plan:
            return Nowhere(start=start)

    with Stuck(range(4)) as stuck:
        stuck.start(2, 3)
        with pytest.raises(ValueError, match="opens no rank"):
            next(stuck.get(timeout=LIMIT))


def test_a_compute_may_end_the_stream_anywhere() -> None:
    def item(number: int) -> int:
        if number == 7:
            raise EndOfStream
        return number

    with MapEnqueuer(item, range(20)) as cut:
        cut.start(3, 4)
        assert list(cut.get()) == list(range(7))


def test_an_item_can_ask_who_computes_it_and_an_outsider_cannot() -> None:
    def item(number: int) -> tuple[object, int]:
        return worker_info(), item_seed()

    with MapEnqueuer(item, range(5)) as curious:
        curious.start(2, 3)
        for index, (info, seed) in enumerate(curious.get()):
            assert (info.epoch, info.index, info.workers) == (0, index, 2)
            assert info.worker in {0, 1}
            assert seed > 0
    assert worker_info() is None


def test_the_base_class_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SequenceEnqueuer([1])


@pytest.mark.parametrize("epochs", [-1, 0])
def test_a_plan_without_an_epoch_ends_at_once(epochs) -> None:
    class Empty(Endless):
        def make_plan(self, start: Place) -> Plan:
            return Plan(start=start, epochs=epochs)

    with Empty(range(4)) as empty:
        empty.start(2, 3)
        assert list(empty.get(timeout=LIMIT)) == []
        assert empty.statistics().state is RunState.ENDED


def test_a_finite_plan_that_resumes_at_its_end_is_at_its_end() -> None:
    """G27: it goes on exactly there."""

    class Once(OrderedEnqueuer):
        def make_plan(self, start: Place) -> Plan:
            return replace(super().make_plan(start), epochs=1)

    with Once([1, 2, 3]) as once:
        once.start()
        assert list(once.get()) == [1, 2, 3]
        once.load_state_dict(once.state_dict())
        once.start()
        assert list(once.get(timeout=LIMIT)) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # nor can it be closed
@pytest.mark.parametrize("wrong", [len, Applied, None])
def test_a_compute_that_is_none_is_an_error_and_no_hang(wrong) -> None:
    class Wrong(Endless):
        def make_compute(self) -> Compute[object]:
            return wrong

    enqueuer = Wrong(range(4))
    enqueuer.start(2, 3)
    with pytest.raises((AttributeError, TypeError)):
        next(enqueuer.get(timeout=LIMIT))
    assert not enqueuer.is_running()


@pytest.mark.parametrize("end", [2.5, "9", None])
def test_a_plan_that_is_none_is_an_error_and_no_hang(end) -> None:
    class Odd(Plan):
        def span(self, epoch: int, rank: int, length: int | None) -> Span:
            return Span(epoch, rank, length, end)

    class Wrong(Endless):
        def make_plan(self, start: Place) -> Plan:
            return Odd(start=start)

    with Wrong(range(4)) as wrong:
        wrong.start(2, 3)
        with pytest.raises(TypeError):
            next(wrong.get(timeout=LIMIT))
