"""Checks of what is delivered: G1 to G6."""

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from ..subject import MOMENT, Factory, Gate, Hooked, Numbers, ends, promise, stopping, take
from .check import Check

__all__ = ["CHECKS"]


def check_each_index_is_computed_and_delivered_once_an_epoch(factory: Factory) -> None:
    """G1: with several workers, shuffled or not."""
    for shuffle in (False, True):
        turns = Gate()
        sequence = Hooked(7, turns.enter)  # holds the next epoch back: what was computed until now is countable
        subject = factory.ordered(sequence, shuffle=shuffle, seed=1)
        with stopping(factory, subject, gate=turns):
            subject.start(3, 4)
            stream = subject.get()
            for epoch in range(3):
                items = take(factory, stream, 7, "G1")
                promise(sorted(map(int, map(str, items))) == list(range(7)), "G1", f"epoch {epoch} delivered {items}")
                turns.wait_arrived(epoch + 1, factory.limit)
                computed = sequence.computed[7 * epoch :]
                promise(sorted(computed) == list(range(7)), "G1", f"epoch {epoch} computed the indices {sorted(computed)}")
                turns.let(1)


def check_each_item_of_a_generator_is_delivered_once(factory: Factory) -> None:
    """G1: whichever of several workers has pulled it."""
    subject = factory.generator(partial(range, 24))
    with stopping(factory, subject):
        subject.start(3, 6)
        items = take(factory, subject.get(), 24, "G1")
        promise(len(set(items)) == 24, "G1", f"24 items of a generator, each of another number, came as {items}")


def check_items_come_in_rank_order_whatever_their_timing(factory: Factory) -> None:
    """G2: the first item is the last to be ready."""
    gate = Gate()

    def item(index: int) -> int:
        if index == 0:
            gate.enter()
        elif index == 3:
            gate.open()  # 1 and 2 are ready by now
        return index

    subject = factory.ordered(Numbers(4, item))
    with stopping(factory, subject, gate=gate):
        subject.start(2, 4)
        items = take(factory, subject.get(), 6, "G2")
        promise(items == [0, 1, 2, 3, 0, 1], "G2", f"items 0 to 3, of which 0 is ready last, came as {items}")


_VALUES: Final = (None, 1, None, None, None, None, None, 2, 3, None)


def check_items_that_are_none_are_skipped(factory: Factory) -> None:
    """G3: at the ends, and in a row longer than the queue."""
    values = _VALUES
    subject = factory.ordered(Numbers(len(values), values.__getitem__))
    with stopping(factory, subject):
        subject.start(2, 3)
        items = take(factory, subject.get(), 7, "G3")
        promise(items == [1, 2, 3, 1, 2, 3, 1], "G3", f"the items {values}, over and over, came as {items}")


def check_nones_of_a_generator_are_skipped(factory: Factory) -> None:
    """G3: the same for generators."""
    values = _VALUES
    other = factory.generator(values if factory.method else iter(values))  # of an iterator, each worker process would have a copy
    with stopping(factory, other):
        other.start(2, 3)
        stream = other.get()
        found = take(factory, stream, 3, "G3")
        promise(found == [1, 2, 3] and ends(factory, stream, "G3"), "G3", f"a generator of {values} came as {found}, or did not end")


def check_no_more_items_are_under_way_than_the_queue_is_long(factory: Factory) -> None:
    """G4: nobody claims beyond the window, however many workers there are and however long nothing is taken."""
    for workers, size in ((2, 1), (6, 3)):
        gate, lock = Gate(), threading.Lock()
        counts = {"asked": 0, "started": 0, "excess": 0}

        def item(index: int, size: int = size, gate: Gate = gate, lock: threading.Lock = lock, counts: dict[str, int] = counts) -> int:
            with lock:
                counts["started"] += 1
                counts["excess"] = max(counts["excess"], counts["started"] - counts["asked"] - size)
            gate.enter()
            return index

        subject = factory.ordered(Numbers(50, item))
        with stopping(factory, subject, gate=gate):
            subject.start(workers, size)
            stream = subject.get()
            promise(gate.wait_arrived(min(workers, size), factory.limit), "G4", f"of {workers} workers fewer than {size} began, with room for all")
            gate.open()
            gate.wait_arrived(size + 1, MOMENT)
            for _ in range(40):
                with lock:
                    counts["asked"] += 1
                take(factory, stream, 1, "G4")
            gate.wait_arrived(40 + size + 1, MOMENT)
            with lock:
                promise(
                    counts["excess"] <= 0,
                    "G4",
                    f"{counts['excess']} more than max_queue_size={size} items were computed or waiting, with {workers} workers",
                )


def check_the_stream_of_a_sequence_has_no_end(factory: Factory) -> None:
    """G5: after the last comes the first; an epoch may be shorter than the queue."""
    for length in (1, 3, 20):
        subject = factory.ordered(Numbers(length))
        with stopping(factory, subject):
            subject.start(2, 8)
            count = min(50, 10 * length)  # a turn of an epoch may take a subject long
            items = take(factory, subject.get(), count, "G5")
            promise(items == [rank % length for rank in range(count)], "G5", f"{length} items, over and over, came as {items}")


def check_the_stream_of_a_finite_generator_ends_after_its_last_item(factory: Factory) -> None:
    """G5: and of an empty one at once."""
    for length in (0, 1, 25):
        subject = factory.generator(partial(range, length))
        with stopping(factory, subject):
            subject.start(3, 4)
            stream = subject.get()
            items = take(factory, stream, length, "G5")
            promise(items == list(range(length)), "G5", f"a generator of {length} numbers came as {items}")
            promise(ends(factory, stream, "G5"), "G5", "the stream went on after the generator's last item")
            promise(ends(factory, subject.get(), "G5"), "G5", "another stream delivered something after the end")
            promise(not subject.is_running(), "G19", "is_running() is true after a stream of a finite generator ended")


def check_an_item_arrives_as_it_was_computed(factory: Factory) -> None:
    """G6: in thread mode as the same object, else as an equal one; untouched, also after stop."""
    made = [bytearray([index] * 8) for index in range(6)]
    subject = factory.ordered(Numbers(6, made.__getitem__))
    with stopping(factory, subject):
        subject.start(2, 3)
        items = take(factory, subject.get(), 6, "G6")
        same = [item is there for item, there in zip(items, made, strict=True)]
        promise(factory.method or all(same), "G6", "an item is not the object that was computed")
        subject.stop()
    promise(items == [bytearray([index] * 8) for index in range(6)], "G6", f"an item was changed before or after it was delivered: {items}")


CHECKS: Final = (
    Check("G1", check_each_index_is_computed_and_delivered_once_an_epoch, frozenset({"hook", "shuffle"})),
    Check("G1", check_each_item_of_a_generator_is_delivered_once, frozenset({"generator"})),
    Check("G2", check_items_come_in_rank_order_whatever_their_timing),
    Check("G3", check_items_that_are_none_are_skipped),
    Check("G3", check_nones_of_a_generator_are_skipped, frozenset({"generator"})),
    Check("G4", check_no_more_items_are_under_way_than_the_queue_is_long),
    Check("G5", check_the_stream_of_a_sequence_has_no_end),
    Check("G5", check_the_stream_of_a_finite_generator_ends_after_its_last_item, frozenset({"generator"})),
    Check("G6", check_an_item_arrives_as_it_was_computed),
)
