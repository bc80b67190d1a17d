"""Schedules and data drawn together: whatever the items are, and whoever goes on when, consumers get what the contract says.

An example is a sequence, sizes, consumers, and the choices of a scheduler, which Hypothesis shrinks together; it is executed once. The oracle is
a list: one thread runs at a time, and nobody else between a take and its note, so the notes of all consumers are in the order of the takes.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from pacing import PACE

from enqueuer.testing.machine import register_profiles
from enqueuer.testing.schedule.explore import Report, Scenario, explore
from enqueuer.testing.schedule.replay import Replay
from enqueuer.testing.schedule.scenarios import MESSAGES, Stage
from enqueuer.testing.schedule.world import World
from enqueuer.testing.subject import REFERENCE, Factory, promise
from enqueuer.testing.twins import TWINS, Twin

register_profiles()
PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "dev")
EXAMPLES: Final = {"dev": 200, "ci": 1_000, "deep": 20_000}
SECONDS: Final = {"dev": 60 * PACE, "ci": 120 * PACE, "deep": 1200 * PACE}
SLOW: Final = [HealthCheck.too_slow]
"""What Hypothesis says of a slow machine."""

pytestmark = pytest.mark.timeout(SECONDS[PROFILE])


@dataclass(frozen=True)
class Example:
    """What is drawn.

    Attributes:
        items: What each item is: "item", "none" or "error"; not all are None.
        hook: Whether there is one.
        workers, size: Arguments of `start()`.
        takes: How many items each consumer asks for.
        stops: Whether somebody stops meanwhile.
        schedule: Numbers of options, which are counted on from the first where there are fewer; behind them always the first.
    """

    items: tuple[str, ...]
    hook: bool
    workers: int
    size: int
    takes: tuple[int, ...]
    stops: bool
    schedule: tuple[int, ...]

    def stream(self) -> Iterator[int | ValueError]:
        """What all consumers together get: epoch after epoch in order, no None, an error at its rank and nothing behind it."""
        for rank in count():
            index = rank % len(self.items)
            if self.items[index] == "error":
                yield ValueError(index)
                return
            if self.items[index] == "item":
                yield index


def _schedules(length: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 5), min_size=length, max_size=length).map(tuple)


DRAWN: Final = st.builds(
    Example,
    items=st.lists(st.sampled_from(["item", "none", "error"]), min_size=1, max_size=3).filter(lambda items: set(items) != {"none"}).map(tuple),
    hook=st.booleans(),
    workers=st.integers(1, 3),
    size=st.integers(1, 3),
    takes=st.lists(st.integers(1, 4), min_size=1, max_size=2).map(tuple),
    stops=st.booleans(),
    schedule=st.integers(0, 60).flatmap(_schedules),  # a list alone is short as a rule
)


class Sequence:
    """The items. Others may run while one is computed."""

    def __init__(self, world: World, items: tuple[str, ...], size: int, notes: list[object]) -> None:
        self.world = world
        self.items = items
        self.size = size
        self.notes = notes
        self.begun = 0
        self.hooks = 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> int | None:
        promise("stopped" not in self.notes, "G16", f"item {index} was called after stop() had returned true")
        self.begun += 1
        taken = self.rank()
        promise(self.begun <= taken + self.size, "G4", f"{self.begun} items were begun and {taken} taken, with max_queue_size={self.size}")
        self.world.point("computes")
        if self.items[index] == "error":
            raise ValueError(index)
        return index if self.items[index] == "item" else None

    def taken(self) -> int:
        return sum(isinstance(note, int) for note in self.notes)

    def rank(self) -> int:
        """Return how many may have been taken, those that are None included, which nobody notes."""
        left = self.taken()
        for rank in count():
            if self.items[rank % len(self)] != "none":
                if not left:
                    return rank
                left -= 1
        raise AssertionError


class Hooked(Sequence):
    """The same with a hook."""

    def on_epoch_end(self) -> None:
        self.hooks += 1
        promise(self.begun == self.hooks * len(self), "G7", f"hook {self.hooks} ran after {self.begun} items, of {len(self)} an epoch")
        due = self.hooks * self.items.count("item")
        promise(self.taken() == due, "G7", f"hook {self.hooks} ran when {self.taken()} of {due} items had been taken")
        self.world.point("hook")


def _consume(stream: Iterator[object], takes: int, notes: list[object]) -> None:
    for _ in range(takes):
        try:
            item = next(stream)
        except StopIteration:
            item = "end"
        except ValueError as error:
            item = error
        notes.append(item)
        if item == "end":
            return


def _play(example: Example, factory: Factory, world: World) -> None:
    Twin.forget()
    notes: list[object] = []
    enqueuer = Stage(world, factory).ordered((Hooked if example.hook else Sequence)(world, example.items, example.size, notes))
    enqueuer.start(example.workers, example.size)

    def stop() -> None:
        stopped = enqueuer.stop()
        promise(stopped is True, "G14", f"stop() returned {stopped}")
        left = world.left()
        promise(not left, "G20", f"stop() has returned, and {', '.join(left)} had not ended")
        notes.append("stopped")

    consumers = [world.spawn(f"consumer {number}", partial(_consume, enqueuer.get(), takes, notes)) for number, takes in enumerate(example.takes)]
    stopper = world.spawn("stopper", stop) if example.stops else None
    for consumer in consumers:
        consumer.join()
    if stopper is not None:
        stopper.join()
    stop()
    _judge(example, notes)


def _judge(example: Example, notes: list[object]) -> None:
    """Compare it with the stream."""
    stopped = notes.index("stopped")
    got = [note for note in notes[:stopped] if note != "end"]
    due = list(islice(example.stream(), sum(example.takes)))
    promise(list(map(repr, got)) == list(map(repr, due[: len(got)])), "G2", f"{got} came of {due}")
    late = [note for note in notes[stopped:] if note not in {"end", "stopped"}]
    promise(not late, "G16", f"{late} came after stop() had returned true")
    if not example.stops:
        promise(len(got) == len(due), "G24", f"{got} came of {due}")
        over = bool(due) and isinstance(due[-1], ValueError)
        promise(over or "end" not in notes, "G5", "a stream ended, and nothing has ended it")


def executed(example: Example, factory: Factory = REFERENCE) -> Report:
    """Execute it once."""
    scenario = Scenario(name="drawn", says="", body=partial(_play, example, factory), messages=MESSAGES)
    gc.freeze()  # an exploration begins with a collection, which is quick if what pytest and Hypothesis have is left out
    return explore(scenario, Replay(example.schedule, wrapped=True))


@pytest.fixture(autouse=True)
def collected_at_the_end() -> Iterator[None]:
    yield
    gc.unfreeze()


@settings(settings.get_profile(PROFILE), max_examples=EXAMPLES[PROFILE], suppress_health_check=SLOW)
@given(DRAWN)
def test_whatever_is_drawn_consumers_get_what_they_must(example: Example) -> None:
    report = executed(example)
    assert report.failure is None, str(report)


FOUND: Final = (
    "TwiceAndNever",
    "CompletionOrder",
    "NoneDelivered",
    "OffByOne",
    "OneEpoch",
    "HookTooEarly",
    "ErrorEarly",
    "FirstErrorInTime",
    "ErrorsEndTheStream",
    "ConsumersLeftWaiting",
    "LostWakeUp",
    "TakenTwice",
)
WITHIN: Final = 1000
"""So many examples, always the same ones, must be enough to find one of these twins."""


@pytest.fixture(params=[twin for twin in TWINS if twin.name in FOUND], ids=lambda twin: twin.name)
def twin(request: pytest.FixtureRequest) -> Twin:
    one: Twin = request.param
    return one


@pytest.fixture(autouse=True)
def twins_end() -> Iterator[None]:
    """Forget what twins have left in a world that is over."""
    yield
    Twin.forget()


def _found(twin: Twin, *phases: Phase) -> Example:
    def breaks(example: Example) -> bool:
        return executed(example, twin.factory).failure is not None

    profile = settings(max_examples=WITHIN, deadline=None, database=None, phases=phases, suppress_health_check=SLOW)
    return find(DRAWN, breaks, settings=profile, random=random.Random(5))


def test_it_finds_a_twin(twin: Twin) -> None:
    example = _found(twin, Phase.generate)
    assert executed(example, twin.factory).failure is not None
    assert executed(example).failure is None


def test_every_twin_that_must_be_found_is_there() -> None:
    assert {twin.name for twin in TWINS} >= {*FOUND}


def test_data_and_schedule_shrink_together() -> None:
    """What is left of an example is what it takes: two items, two workers, room for both, one consumer, and the second worker first."""
    (twin,) = (twin for twin in TWINS if twin.name == "CompletionOrder")
    example = _found(twin, Phase.generate, Phase.shrink)
    assert (example.items, example.workers, example.size, example.takes) == (("item", "item"), 2, 2, (1,))
    assert not example.hook
    assert not example.stops
    assert sum(choice > 0 for choice in example.schedule) == 1
