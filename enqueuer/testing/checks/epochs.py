"""Checks of epochs, orders and seeds: G7 to G9, and G27."""

from __future__ import annotations

import json
import random
import threading
from functools import partial
from typing import Final

from ..pace import patiently
from ..subject import MOMENT, Factory, Gate, Hooked, Numbers, promise, raised, stopping, take
from .check import Check

__all__ = ["CHECKS"]


def check_the_hook_runs_once_between_two_epochs(factory: Factory) -> None:
    """G7: after everything was taken, before anything more is computed; what it changes is what the next epoch sees."""
    lengths: Final = [5, 3, 6]
    asked, seen, called = 0, list[tuple[int, int]](), threading.Semaphore(0)

    def hook() -> None:
        seen.append((asked, len(sequence.computed)))
        sequence.length = lengths[len(seen) % 3]
        called.release()

    def comes(seconds: float) -> bool:
        return called.acquire(timeout=seconds)

    sequence = Hooked(lengths[0], hook, lambda index: (len(seen), index))
    subject = factory.ordered(sequence)
    with stopping(factory, subject):
        subject.start(3, 4)
        stream = subject.get()
        total = 0
        for epoch in range(4):
            length = lengths[epoch % 3]
            expected = [(epoch, index) for index in range(length)]
            asked = total + length - 1
            items = take(factory, stream, length - 1, "G7")
            promise(not patiently(comes, MOMENT / 4), "G7", f"the hook ran before the last item of epoch {epoch} was taken")
            total += length
            asked = total
            items += take(factory, stream, 1, "G7")
            promise(items == expected, "G7", f"epoch {epoch} of {length} items came as {items}")
            promise(patiently(comes, factory.limit), "G7", f"the hook was not called after epoch {epoch} was taken")
            promise(seen[-1] == (total, total), "G7", f"when the hook ran, {seen[-1]} items were asked for and computed, instead of {total} each")
        promise(len(seen) == 4, "G7", f"the hook ran {len(seen)} times between 4 epochs and the next")


def check_without_a_hook_the_next_epoch_is_prefetched(factory: Factory) -> None:
    """G7: no barrier, and the length is read once; a hook that does nothing is none."""

    class Counted(Numbers):
        lengths = 0

        def __len__(self) -> int:
            self.lengths += 1
            return super().__len__()

    class Inherited(Counted):
        def on_epoch_end(self) -> None:
            """Do nothing, as the base classes of Keras do."""

    for shuffle in (False, True):
        for kind in (Counted, Inherited):
            gate = Gate(opened=True)

            def item(index: int, gate: Gate = gate) -> int:
                gate.enter()
                return index

            sequence = kind(3, item)
            subject = factory.ordered(sequence, shuffle=shuffle)
            with stopping(factory, subject, gate=gate):
                subject.start(2, 8)
                promise(gate.wait_arrived(8, factory.limit), "G7", "without a hook, the next epoch waited for the first to be taken")
                take(factory, subject.get(), 30, "G7")
            promise(sequence.lengths == 1, "G7", f"without a hook, __len__ was called {sequence.lengths} times in one run")


def _orders(factory: Factory, *, seed: int | None, workers: int, length: int = 40, epochs: int = 3) -> list[list[object]]:
    subject = factory.ordered(Numbers(length), shuffle=True, seed=seed)
    with stopping(factory, subject):
        subject.start(workers, 7)
        stream = subject.get()
        return [take(factory, stream, length, "G8") for _ in range(epochs)]


def check_each_epoch_has_an_order_that_depends_on_the_seed_alone(factory: Factory) -> None:
    """G8: a permutation, another one each epoch, the same for any number of workers."""
    orders = _orders(factory, seed=11, workers=1)
    for epoch, order in enumerate(orders):
        promise(sorted(map(str, order)) == sorted(map(str, range(40))), "G8", f"the order of epoch {epoch} is no permutation: {order}")
    promise(orders[0] != orders[1] != orders[2] != orders[0], "G8", "two epochs have the same order")
    promise(orders == _orders(factory, seed=11, workers=4), "G8", "the order depends on the number of workers")
    promise(orders == _orders(factory, seed=11, workers=1), "G8", "the order of the same seed differs between two runs")
    promise(orders != _orders(factory, seed=12, workers=1), "G8", "the order does not depend on the seed")


def check_an_unseeded_order_can_be_had_again(factory: Factory) -> None:
    """G8: the seed is drawn once, in the constructor, from the global random state; it can be read and is kept."""
    before = random.getstate()
    try:
        random.seed(5)
        first = factory.ordered(Numbers(30), shuffle=True)
        random.seed(5)
        second = factory.ordered(Numbers(30), shuffle=True)
    finally:
        random.setstate(before)
    promise(first.seed == second.seed, "G8", "the drawn seed does not depend on Python's global random state alone")
    orders: list[list[object]] = []
    with stopping(factory, first):
        for _ in range(2):
            first.start(2, 4)
            orders.append(take(factory, first.get(), 30, "G8"))
            first.stop()
    promise(orders[0] == orders[1], "G8", "a second run did not keep the drawn seed")
    promise(
        orders[0] == _orders(factory, seed=first.seed, workers=2, length=30, epochs=1)[0], "G8", "the seed that was read back gives another order"
    )


def check_an_item_has_a_seed_of_its_own(factory: Factory) -> None:
    """G9: it depends on seed, epoch and index alone, and differs from item to item and epoch to epoch."""

    def seeds(seed: int, workers: int, *, shuffle: bool) -> dict[tuple[int, int], int]:
        subject = factory.ordered(Numbers(6, lambda index: f"{index} {factory.item_seed()}"), shuffle=shuffle, seed=seed)
        with stopping(factory, subject):
            subject.start(workers, 4)
            stream = subject.get()
            found: dict[tuple[int, int], int] = {}
            for epoch in range(3):
                for item in take(factory, stream, 6, "G9"):
                    index, own = str(item).split()
                    found[epoch, int(index)] = int(own)
            return found

    seen = seeds(3, 1, shuffle=False)
    promise(len(seen) == 18 and len(set(seen.values())) == 18, "G9", f"18 items of 3 epochs had {len(set(seen.values()))} different seeds")
    promise(seen == seeds(3, 4, shuffle=False), "G9", "an item's seed depends on the number of workers")
    promise(seen == seeds(3, 2, shuffle=True), "G9", "an item's seed depends on its rank, not on its epoch and index alone")
    promise(not set(seen.values()) & set(seeds(4, 1, shuffle=False).values()), "G9", "an item's seed does not depend on the seed")


def check_a_run_goes_on_exactly_where_its_state_was_saved(factory: Factory) -> None:
    """G27: at any rank, also in a later epoch, through JSON, with other workers; during, after and before a run."""
    for shuffle in (False, True):
        first = factory.ordered(Numbers(5), shuffle=shuffle, seed=2)
        with stopping(factory, first):
            first.start(3, 4)
            stream = first.get()
            expected = take(factory, stream, 5 * 4, "G27")
        for taken in (0, 1, 4, 5, 7, 10):
            saved = factory.ordered(Numbers(5), shuffle=shuffle, seed=2)
            with stopping(factory, saved):
                saved.start(2, 4)
                take(factory, saved.get(), taken, "G27")
                during = saved.state_dict()
                saved.stop()
                promise(saved.state_dict() == during, "G27", f"stop() changed the state from {during} to {saved.state_dict()}")
            state: dict[str, int | None] = json.loads(json.dumps(during))
            promise(state["rank"] == taken, "G27", f"after {taken} items the state names rank {state['rank']}")
            loaded = factory.ordered(Numbers(5), shuffle=shuffle, seed=99)
            with stopping(factory, loaded):
                loaded.load_state_dict(state)
                promise(loaded.state_dict() == state, "G27", f"a loaded state reads back as {loaded.state_dict()} instead of {state}")
                loaded.start(1, 9)
                rest = take(factory, loaded.get(), 9, "G27")
                promise(rest == expected[taken : taken + 9], "G27", f"resumed at rank {taken}: {rest} instead of {expected[taken : taken + 9]}")
                error = raised(factory, partial(loaded.load_state_dict, state), "G27", "load_state_dict() during a run")
                promise(isinstance(error, RuntimeError), "G27", f"load_state_dict() during a run raised {error!r}")
                loaded.stop()
                loaded.start(2, 2)
                again = take(factory, loaded.get(), 5, "G17")
                promise(again == expected[:5], "G17", f"a loaded state served a second start(): {again}")


CHECKS: Final = (
    Check("G7", check_the_hook_runs_once_between_two_epochs, frozenset({"hook"})),
    Check("G7", check_without_a_hook_the_next_epoch_is_prefetched, frozenset({"shuffle"})),
    Check("G8", check_each_epoch_has_an_order_that_depends_on_the_seed_alone, frozenset({"shuffle"}), chance=True),
    Check("G8", check_an_unseeded_order_can_be_had_again, frozenset({"restart", "shuffle"}), chance=True),
    Check("G9", check_an_item_has_a_seed_of_its_own, frozenset({"item seeds", "shuffle"}), chance=True),
    Check("G27", check_a_run_goes_on_exactly_where_its_state_was_saved, frozenset({"restart", "resume", "shuffle"})),
)
