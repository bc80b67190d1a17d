"""What is between a claim and a take, where few schedules come by: ranks claimed ahead, waits and what they say, statistics, the bell.

Most tests are scenarios of a world: all interleavings are tried, or the one that is meant, and the clock stands until nobody can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, cast

import pytest
from mutation.anywhere import Interrupt
from pacing import LIMIT
from schedule_helpers import Watched, scenario

from enqueuer import OrderedEnqueuer, Place, Plan, RunState, SequenceEnqueuer, Span
from enqueuer._plan import permutation
from enqueuer._types import Engine, Process
from enqueuer.errors import WaitTimeoutError
from enqueuer.testing import subject
from enqueuer.testing.schedule.apart import SimWorker
from enqueuer.testing.schedule.exhaustive import Exhaustive
from enqueuer.testing.schedule.explore import explore
from enqueuer.testing.schedule.scenarios import BELL, MESSAGES, SEED, Numbers, Stage, _all, _apart, _stops, _takes
from enqueuer.testing.schedule.world import World
from enqueuer.testing.subject import REFERENCE, Gate, promise

Body = Callable[[Stage], object]


def explored(body: Body, touches: frozenset[str] = BELL) -> set[Any]:
    """Try all interleavings; return what they come to. Where nobody rings the bell, `touches` need not have its fields."""

    def play(world: World) -> object:
        return body(Stage(world, REFERENCE))

    watched = Watched(Exhaustive(), looks=False)
    report = explore(scenario(play, messages=MESSAGES, touches=touches), watched)
    assert report.verdict == "exhausted", f"{report}"
    return set(watched.outcomes)


def everywhere(body: Body, touches: frozenset[str] = BELL) -> Callable[[], None]:
    """Make a test of all interleavings of a scenario."""

    def test() -> None:
        explored(body, touches)

    return test


def unrung(body: Body) -> Callable[[], None]:
    """Make a test of all interleavings of a scenario in which nobody rings the bell."""
    return everywhere(body, frozenset())


def once(body: Body) -> Callable[[], None]:
    """Make a test of one interleaving: threads go on for as long as they can, and the clock is moved when nobody can."""

    def play(stage: Stage) -> None:
        with stage.world.as_it_comes():
            body(stage)

    return everywhere(play)


class Stuck(Numbers):
    """An item waits, when it is computed first, until it is let go."""

    def __init__(self, stage: Stage, length: int, index: int, **options: Any) -> None:
        super().__init__(stage, length, **options)
        self.stuck = {index}
        self.gate = stage.world.runtime.parker()

    def __getitem__(self, index: int) -> int | None:
        if index in self.stuck:
            self.stuck.clear()
            self.gate.park()
        return super().__getitem__(index)


def late(stream: Iterator[object]) -> str:
    """Return what a take says that gives up; "" if it does not."""
    try:
        next(stream)
    except WaitTimeoutError as error:
        return str(error)
    return ""


@once
def test_ranks_claimed_ahead_come_in_order_and_under_their_names(stage: Stage) -> None:
    """G2, G8, G26: and a turn is never claimed ahead."""
    orders = [permutation(SEED, epoch, 3) for epoch in range(3)]
    sequence = Stuck(stage, 3, orders[0][1])
    enqueuer = _apart(stage.ordered(sequence, shuffle=True, seed=SEED), 0)
    enqueuer.start(1, 4)
    stream = enqueuer.get(timeout=1)
    items = _takes(stream, 1)
    said = late(stream)
    promise(said.endswith(f"rank 1 (index {orders[0][1]} of epoch 0) is being computed by worker 0"), "G26", said)
    sequence.gate.unpark()
    items += _takes(stream, 8)
    promise(items == [*chain(*orders)], "G8", f"the items came as {items}")
    _stops(stage, enqueuer, sequence)


@once
def test_no_rank_is_claimed_ahead_while_another_worker_is_idle(stage: Stage) -> None:
    """D30: two items wait for each other, and all three workers are there when the first of them begins."""

    class Meeting(Numbers):
        def __len__(self) -> int:
            self._world.settle()
            return super().__len__()

        def __getitem__(self, index: int) -> int | None:
            if index < 2:
                parkers[1 - index].unpark()
                parkers[index].park()
            return super().__getitem__(index)

    parkers = [stage.world.runtime.parker(), stage.world.runtime.parker()]
    sequence = Meeting(stage, 9)
    enqueuer = stage.apart(sequence)
    enqueuer.start(3, 2)
    items = _takes(enqueuer.get(), 2)
    promise(items == [0, 1], "G2", f"the items came as {items}")
    _stops(stage, enqueuer, sequence)


class Claiming:
    """An engine that claims ahead in the middle of each item, as worker processes do."""

    def open(self, workers: int, ahead: Callable[[int], list[tuple[int, int]]]) -> None:
        self.ahead = ahead

    def turn(self, *, hook: bool) -> int:
        return 9

    def item(self, worker: int, epoch: int, index: int, /) -> int:
        self.ahead(worker)
        return index

    def leave(self, worker: int) -> None:
        pass

    def close(self) -> None:
        del self.ahead

    def halt(self) -> None:
        pass

    def kill(self) -> bool:
        return False


class ClaimsAhead(SequenceEnqueuer[int]):
    """An enqueuer on such an engine."""

    def make_plan(self, start: Place) -> Plan:
        return Plan(start=start)

    def make_compute(self) -> Engine[int]:
        return Claiming()

    def _make_engine(self, plan: Plan, process: Process) -> Engine[int]:
        return self.make_compute()


@unrung
def test_nothing_is_claimed_once_the_run_is_over(stage: Stage) -> None:
    """D30: what was claimed ahead is under way; nothing comes to it."""
    enqueuer = stage.guarded(ClaimsAhead(None, runtime=stage.world.runtime))
    with stage.world.as_it_comes():
        enqueuer.start(1, 2)
    stopper = stage.world.spawn("stopper", enqueuer.stop)
    then = enqueuer.statistics()
    with stage.world.as_it_comes():
        stopper.join()
        now = enqueuer.statistics()
    promise(then.state is RunState.RUNNING or then.claimed == now.claimed, "G14", f"{then.claimed} claimed at the stop, and {now.claimed} in the end")


def test_a_worker_lets_go_of_what_is_beyond_an_error_and_stays(monkeypatch) -> None:
    """G10, D15: until the error is delivered it is idle, not stuck in an item; so no process has to be killed to stop it at once."""

    def body(stage: Stage) -> None:
        enqueuer = stage.apart(Numbers(stage, 9, errors=(1,)))
        enqueuer.start(1, 5)
        stage.world.settle()
        now = enqueuer.statistics()
        promise((now.ready, now.threads, now.blocked_workers) == (1, 1, 1), "G10", f"{now}")
        stopped = enqueuer.stop(0)
        promise(stopped and not killed, "D15", f"stop(0) of an idle worker returned {stopped}, and has killed {len(killed)} processes")

    killed: list[str] = []
    monkeypatch.setattr(SimWorker, "kill", lambda _: killed.append("one"))
    once(body)()


@once
def test_a_consumer_gives_up_when_its_time_is_over_and_statistics_tell_who_has_waited(stage: Stage) -> None:
    """G26: no earlier, also when an item comes that is None."""
    sequence = Stuck(stage, 9, 1, nones=(0,))
    enqueuer = stage.ordered(sequence)
    enqueuer.start(1, 2)
    stream = enqueuer.get(timeout=3)
    said = late(stream)
    promise("rank 1 (index 1 of epoch 0) is being computed" in said, "G26", said)
    promise(stage.world.now == 3, "G26", f"next() gave up after {stage.world.now} s of 3")
    sequence.gate.unpark()
    stage.world.settle()
    stage.world.runtime.parker().park(5)  # while the worker waits for room
    items = _takes(stream, 1)
    promise(items == [1], "G3", f"the items came as {items}")
    stage.world.settle()
    now = enqueuer.statistics()
    assert (now.consumers_waited, now.workers_waited) == (3, 5)
    _stops(stage, enqueuer, sequence)


@unrung
def test_items_that_are_none_are_skipped_to_the_last_though_nobody_wakes_for_them(stage: Stage) -> None:
    """G3: all is computed before the first take, and there is no more. G27: nor is there a hook that could change the length."""

    class Once(OrderedEnqueuer[int]):
        def make_plan(self, start: Place) -> Plan:
            return Plan(epochs=1, start=start)

    enqueuer = stage.guarded(Once(cast("Any", Numbers(stage, 4, nones=(0, 1, 3))), runtime=stage.world.runtime))
    enqueuer.start(1, 4)
    stage.world.settle()
    items = _all(enqueuer.get())
    state = enqueuer.state_dict()
    promise(items == [2], "G3", f"of None, None, 2, None came {items}")
    promise((state["epoch"], state["position"], state["length"]) == (1, 0, 4), "G27", f"{state}")
    _stops(stage, enqueuer)


def test_between_epochs_a_timeout_says_how_far_they_are_and_a_state_has_no_length_that_may_change() -> None:
    """G26: before a worker has come, in the hook, in the item. G27: the hook makes the epoch longer by one."""

    class Growing(Numbers):
        grown = 0

        def __len__(self) -> int:
            return self.length + self.grown

        def on_epoch_end(self) -> None:
            self._world.point("hook")
            self.grown += 1

    def body(stage: Stage) -> tuple[object, str]:
        enqueuer = stage.ordered(Growing(stage, 2))
        with stage.world.as_it_comes():
            enqueuer.start(1, 1)
            _takes(enqueuer.get(), 1)
        before = enqueuer.state_dict()
        _takes(enqueuer.get(), 1)
        between = enqueuer.state_dict()
        said = late(enqueuer.get(timeout=1))
        promise((before["position"], before["length"]) == (1, 2), "G27", f"{before}")
        promise((between["epoch"], between["position"]) == (1, 0), "G27", f"{between}")
        with stage.world.as_it_comes():
            _stops(stage, enqueuer)
        return between["length"], said

    outcomes = explored(body, frozenset())
    assert {length for length, _ in outcomes} == {None, 3}
    assert {said for _, said in outcomes} == {
        "",
        "no item within 1 s: rank 2 was not yet claimed by any of 1 workers",
        "no item within 1 s: rank 2 waits for the turn of epoch 1 (its hook, length and order)",
        "no item within 1 s: rank 2 (index 0 of epoch 1) is being computed by worker 0",
    }


def test_a_timeout_says_who_computes_the_item_though_a_turn_is_under_way() -> None:
    """G26: without a barrier the order of the next epoch is made meanwhile."""
    gate = Gate()

    class Slow(Plan):
        def span(self, epoch: int, rank: int, length: int | None) -> Span:
            if epoch:
                gate.enter()
            return super().span(epoch, rank, length)

    class Shuffled(OrderedEnqueuer[object]):
        def make_plan(self, start: Place) -> Plan:
            return Slow(shuffle=True, start=start)

    with Shuffled(subject.Numbers(1, gate.item)) as enqueuer:
        enqueuer.start(2, 2)
        assert gate.wait_arrived(2)
        said = late(enqueuer.get(timeout=0))
        gate.open()
    assert "rank 0 (index 0 of epoch 0) is being computed by worker" in said


@unrung
def test_statistics_are_of_one_moment(stage: Stage) -> None:
    enqueuer = stage.ordered(Numbers(stage, 2))
    enqueuer.start(1, 1)
    consumer = stage.world.spawn("consumer", partial(_takes, enqueuer.get(), 1))
    now = enqueuer.statistics()
    promise(now.rank == now.position, "G27", f"rank {now.rank} is position {now.position} of the first epoch")
    with stage.world.as_it_comes():
        consumer.join()
        _stops(stage, enqueuer)


def ringing(stage: Stage, stop: Callable[[], object]) -> list[bool]:
    """Let a finalizer call it, at any moment: inside a critical section it can only ring the bell. Return what is not empty once it has."""
    done: list[bool] = []
    stage.world.finalize(lambda: done.append(bool(stop())))
    return done


@pytest.mark.parametrize("ended", [False, True])
def test_the_state_tells_of_a_stop_at_once_and_of_an_end_for_ever(ended) -> None:
    """G14, G19: also where a finalizer stops, which could only ring the bell."""
    states = [RunState.ENDED] * 2 if ended else [RunState.RUNNING, RunState.STOPPED]

    def body(stage: Stage) -> None:
        enqueuer = stage.generator(partial(iter, [0]))
        with stage.world.as_it_comes():
            enqueuer.start(1, 1)
            if ended:
                _all(enqueuer.get())
        rung = ringing(stage, enqueuer.stop)
        for _ in range(3):
            before = bool(rung)
            state = enqueuer.statistics().state
            promise(state is states[before] or (rung and state is states[1]), "G14", f"{state}; ended: {ended}, stopped: {before}")
        with stage.world.as_it_comes():
            _stops(stage, enqueuer)

    explored(body)


@everywhere
def test_no_error_is_delivered_once_a_finalizer_has_stopped_the_run(stage: Stage) -> None:
    """G16."""
    enqueuer = stage.ordered(Numbers(stage, 1, errors=(0,)))
    with stage.world.as_it_comes():
        enqueuer.start(1, 1)
    rung = ringing(stage, enqueuer.stop)
    stage.world.point("looks")
    before = bool(rung)
    try:
        next(enqueuer.get(), None)
    except ValueError:
        promise(not before, "G16", "an error was delivered after stop() had returned")
    with stage.world.as_it_comes():
        _stops(stage, enqueuer)


def test_a_stop_iteration_of_an_item_is_the_cause_of_what_is_raised() -> None:
    """G10: as a generator does it."""
    raised = StopIteration(3)

    def item(index: int) -> int:
        raise raised

    with OrderedEnqueuer(subject.Numbers(2, item)) as enqueuer:
        enqueuer.start()
        with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
            next(enqueuer.get(timeout=LIMIT))
    assert caught.value.__cause__ is raised


@pytest.mark.interrupts
@pytest.mark.parametrize("taken", [0, 3])
def test_a_take_that_is_interrupted_anywhere_leaves_nobody_asleep_who_has_something_to_do(taken) -> None:
    """G20, G22: workers go on as far as they may, or leave if the run has ended, though nobody comes any more who could wake them."""

    def body(stage: Stage) -> None:
        interrupt = Interrupt(stage)
        with stage.world.as_it_comes():
            enqueuer = stage.generator(partial(iter, [0, 1, 2]))
            enqueuer.start(1, 1)
            stream = enqueuer.get()
            _takes(stream, taken)
            stage.world.settle()
            with interrupt:
                next(stream, None)
            interrupt.end()
            stage.world.settle()
            now = enqueuer.statistics()
            promise(now.claimed == now.rank + 1, "G22", f"claimed up to {now.claimed}, taken up to {now.rank}")
            promise(enqueuer.is_running() or not stage.world.left(), "G20", f"the run has ended, and {stage.world.left()} stay")
            _stops(stage, enqueuer)

    explored(body)
