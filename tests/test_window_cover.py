"""The window does what its model does: paths through the state graph of `specs/WindowCover.tla`, replayed on the code state by state.

The paths in `specs/cover` make every call that the monitor may make, in every state of the models. `specs/cover.py` has written them.
"""

import dataclasses
import inspect
import itertools
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from enqueuer._plan import FOREVER, Place, Plan
from enqueuer._window import NOTHING, Turn, Window
from enqueuer.testing import twins

FOLDER = Path(__file__).parents[1] / "specs" / "cover"
COVERS = sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def cover(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


class DifferentError(AssertionError):
    """The code does something else than the model."""


@dataclass(frozen=True)
class Item:
    rank: int


class Replay:
    """One window, and the words of the model for what it takes, gives and is. Its ranks and epochs begin at `start`, the model's at 0."""

    def __init__(self, kind: type, constants: dict, start: Place) -> None:
        self.length = None if constants["Rotating"] else constants["Length"]
        self.start = start
        self.plan = Plan(
            barrier=constants["Barrier"],
            serial=constants["Serial"],
            rotating=constants["Rotating"],
            epochs=start.epoch + constants["Epochs"],
            start=start,
        )
        self.window = kind(self.plan, constants["Size"], constants["W"])
        self.workers = range(constants["W"])
        self.turn = None
        self.errors = {}

    # to the code

    def error(self, name: str) -> Exception | None:
        return self.errors.setdefault(name, ValueError(name)) if name else None

    def call(self, name: str, arguments: list) -> list:
        """Make a call of the model; return what it returned."""
        return getattr(self, f"call_{name}")(*arguments)

    def call_start(self) -> list:
        return [] if self.window.start() is None else ["something"]

    def call_claim(self, worker: int) -> list:
        claim = self.window.claim(worker)
        if claim is None:
            return []
        if isinstance(claim, Turn):
            self.turn = claim
            return ["turn", claim.epoch - self.start.epoch, self.rank(claim.rank)]
        return ["rank", self.rank(claim)]

    def call_put(self, rank: int, kind: str) -> list:
        rank += self.start.rank
        self.window.put(rank, None if kind == "none" else Item(rank))
        return []

    def call_finish(self, rank: int, error: str) -> list:
        return self.displaced(lambda: self.window.finish(rank + self.start.rank, self.error(error)))

    def call_lost(self, worker: int, error: str) -> list:
        return self.displaced(lambda: self.window.lost(worker, self.error(error)))

    def displaced(self, call) -> list:
        before = self.window.error
        returned = call()
        if returned is not before and returned is not None:
            return ["something else"]
        return [self.named(returned)] if self.window.error is not before else []

    def call_turned(self, error: str) -> list:
        turn = self.turn
        self.window.turned(self.error(error) or self.plan.span(turn.epoch, turn.rank, self.length))
        return []

    def call_take(self) -> list:
        rank = self.window.rank
        item = self.window.take()
        return [] if item is NOTHING else [self.kind(rank, item)]

    def call_conclude(self) -> list:
        return [self.named(self.window.conclude())]

    def call_stop(self) -> list:
        return [self.items(self.window.stop())]

    # to the model

    def rank(self, rank: int) -> int | None:
        return None if rank == FOREVER else rank - self.start.rank

    def kind(self, rank: int, item: Item | None) -> str:
        return "none" if item is None else "item" if item == Item(rank) else f"the item of rank {self.rank(item.rank)}"

    def items(self, ready: dict) -> list:
        return sorted([self.rank(rank), self.kind(rank, item)] for rank, item in ready.items())

    def named(self, error: Exception | None) -> str:
        return "" if error is None else next((name for name, known in self.errors.items() if known is error), "another")

    def fields(self) -> dict:
        """Everything that the model says of a state."""
        window = self.window
        return {
            "state": window.state.value,
            "rank": self.rank(window.rank),
            "claimed": self.rank(window.claimed),
            "end": self.rank(window.end),
            "last": window.last,
            "error": self.named(window.error),
            "epoch": window.epoch - self.start.epoch,
            "turning": window.turning,
            "turns": [self.rank(rank) for rank in window.turns],
            "under": sorted([self.rank(rank), worker] for rank, worker in window.under_way.items()),
            "ready": self.items(window.ready),
            "claimable": [worker for worker in self.workers if window.claimable(window.rank, worker)],
            "claimable_then": [worker for worker in self.workers if window.claimable(window.rank + 1, worker)],
            "takeable": window.takeable(),
            "drained": window.drained(),
        }

    # both

    def compare(self, says: dict) -> str | None:
        """Return how a state of the model and the window differ. What the model can't do here, the window must not do either, though asked to."""
        refused = [("claim", [worker]) for worker in self.workers if worker not in says["claimable"]]
        refused += [] if says["takeable"] else [("take", [])]
        for name, arguments in refused:
            if returned := self.call(name, arguments):
                return f"{name}{arguments} gives {returned}, in the model nothing"
        fields = self.fields()
        assert fields.keys() == says.keys()
        return next((f"{field} is {fields[field]}, in the model {says[field]}" for field in says if fields[field] != says[field]), None)

    def follow(self, name: str, arguments: list, returns: list, says: dict) -> str | None:
        """Make a call of the model; return how what it does differs."""
        try:
            returned = self.call(name, arguments) if name else []
            return f"it returned {returned}, in the model {returns}" if returned != returns else self.compare(says)
        except Exception as error:
            return f"it raised {error!r}"


def replay(kind: type, name: str, start: Place = Place()) -> int:  # noqa: B008 - it is frozen
    """Replay a cover; return how many calls it made."""
    what, made = cover(name), 0
    states = [dict(zip(what["fields"], state, strict=True)) for state in what["states"]]
    for number, path in enumerate(what["paths"]):
        window = Replay(kind, what["constants"], start)
        for step, (_, method, arguments, returns, target) in enumerate([BEGINNING, *(what["calls"][edge] for edge in path)]):
            if differs := window.follow(method, arguments, returns, states[target]):
                raise DifferentError(f"{name}, path {number}, step {step}, {method or 'new'}{arguments}: {differs}")
            made += 1
    return made


BEGINNING = [None, "", [], [], 0]
STARTS = {"from rank 0": Place(), "resumed": Place(epoch=3, rank=1001)}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", COVERS)
def test_the_window_does_what_its_model_does(name, start) -> None:
    what = cover(name)
    assert replay(Window, name, STARTS[start]) == sum(1 + len(path) for path in what["paths"])


@pytest.mark.parametrize("name", COVERS)
def test_each_path_hangs_together_and_all_of_them_make_every_call(name) -> None:
    what = cover(name)
    for path in what["paths"]:
        calls = [BEGINNING, *(what["calls"][edge] for edge in path)]
        assert all(before[4] == after[0] for before, after in itertools.pairwise(calls))
    assert {edge for path in what["paths"] for edge in path} == set(range(len(what["calls"])))
    assert {call[4] for call in what["calls"]} | {0} == set(range(len(what["states"])))


def test_every_method_that_changes_a_window_is_called() -> None:
    called = {call[1] for name in COVERS for call in cover(name)["calls"]}
    asked = {"claimable", "takeable", "drained", "next_of", "hole"}
    assert called == {name for name, _ in inspect.getmembers(Window, inspect.isfunction) if not name.startswith("_")} - asked


def test_every_attribute_of_a_window_is_compared() -> None:
    fixed = {"barrier", "first", "serial", "size", "span"}  # what it was made with; the span is what the plan said
    renamed = {"under_way": "under"}
    for name in COVERS:
        assert {renamed.get(slot, slot) for slot in Window.__slots__} - fixed <= set(cover(name)["fields"])


# that it can fail


class PutBeyondTheEnd(Window):
    """An item beyond an error is kept."""

    def put(self, rank, item):
        self.ready[rank] = item
        del self.under_way[rank]


class TurnAfterAnError(Window):
    """An epoch opens though an item before it has failed."""

    def turned(self, outcome):
        self.last = False
        super().turned(outcome)


class TwoTurns(Window):
    """A turn is given while there is one."""

    def claimable(self, rank, worker):
        turning, self.turning = self.turning, False
        try:
            return super().claimable(rank, worker)
        finally:
            self.turning = turning


class OneIteratorForTwo(Window):
    """Two items of one iterator are under way."""

    def __init__(self, plan, max_queue_size, workers=1):
        super().__init__(dataclasses.replace(plan, serial=False), max_queue_size, workers)


class HoleUnderWay(Window):
    """A rank that is under way is skipped, if its worker has no more."""

    def hole(self, rank):
        return rank < self.end and self.turns[(rank - self.first) % len(self.turns)] == FOREVER


class HolesByRank(Window):
    """Whose turn a rank is, is told by its number, wherever the stream began."""

    def hole(self, rank):
        return rank < self.end and rank not in self.under_way and self.turns[rank % len(self.turns)] == FOREVER


class EndsWithTheFirst(Window):
    """The stream ends with the first of several iterators that ends."""

    def finish(self, rank, error):
        del self.under_way[rank]
        return self._cut(rank, error)


class LostItem(Window):
    """What a worker that is gone had under way is still awaited."""

    def lost(self, worker, error):
        return self._cut(self.next_of(worker), error)


class ConcludesWithoutAWord(Window):
    """The error that ends the stream is not told."""

    def conclude(self):
        super().conclude()


class KeepsWhatWasNotTaken(Window):
    """A stopped window still holds items."""

    def stop(self):
        ready = self.ready
        super().stop()
        self.ready = ready
        return ready


SEEN = {
    twins.CompletionOrder: r"take\[\] gives \['the item of rank 1'\], in the model nothing",
    twins.OffByOne: r"claim\[.\] gives \['rank', .\], in the model nothing",
    twins.HookTooEarly: r"claim\w* .*, in the model .*",
    twins.ErrorEarly: r"drained is True, in the model False",
    twins.FirstErrorInTime: r"it returned \[\], in the model \['1'\]",
    twins.TakenTwice: r"under is .*, in the model .*",  # its note of what was delivered once
    PutBeyondTheEnd: r"ready is .*, in the model .*",
    TurnAfterAnError: r"claim\[.\] gives .*, in the model nothing",
    TwoTurns: r"claim\[.\] gives .*, in the model nothing",
    OneIteratorForTwo: r"claim\[.\] gives .*, in the model nothing",
    HoleUnderWay: r"take\[\] gives \['none'\], in the model nothing",
    HolesByRank: r"take\[\] gives \['none'\], in the model nothing|takeable is .*|it returned .*",
    EndsWithTheFirst: r"end is ., in the model None",
    LostItem: r".* is .*, in the model .*",
    ConcludesWithoutAWord: r"it returned \[''\], in the model \['.+'\]",
    KeepsWhatWasNotTaken: r"take\[\] gives .*, in the model nothing",
}


def test_every_twin_of_the_window_is_among_them() -> None:
    assert {kind for kind in vars(twins).values() if inspect.isclass(kind) and issubclass(kind, Window) and kind is not Window} <= set(SEEN)


@pytest.mark.parametrize("kind", SEEN, ids=lambda kind: kind.__name__)
def test_a_window_that_does_something_else_is_refused_by_the_step_at_which_it_does(kind) -> None:
    with pytest.raises(DifferentError) as caught:
        for start, name in itertools.product(STARTS.values(), COVERS):
            replay(kind, name, start)
    assert re.fullmatch(r"[\w-]+, path \d+, step \d+, \w+\[.*?\]: (" + SEEN[kind] + ")", str(caught.value)), str(caught.value)
