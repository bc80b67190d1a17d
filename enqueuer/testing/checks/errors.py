"""Checks of what fails: G10 and G11."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, cast

from ..subject import MOMENT, Factory, Gate, GeneratorLike, Hooked, Numbers, ends, promise, raised, stopping, take
from .check import Check

__all__ = ["CHECKS"]


class TwoArguments(Exception):  # noqa: N818 - for checks only
    """An exception that can't be made again from its `args` alone."""

    def __init__(self, left: str, right: int) -> None:
        super().__init__(left)
        self.right = right


class Worded(Exception):  # noqa: N818 - the same
    """An exception that makes its text of its argument, and would do so again if it were called with its `args`."""

    def __init__(self, path: str) -> None:
        super().__init__(f"cannot read {path}")


class Bound(Exception):  # noqa: N818 - the same
    """An exception that can't leave its process: it holds a lock."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def _failing(factory: Factory, error: BaseException, at: int, length: int = 8) -> GeneratorLike[object]:
    def item(index: int) -> int:
        if index == at:
            raise error
        return index

    return factory.ordered(Numbers(length, item))


def _arrive(factory: Factory, *errors: BaseException) -> None:
    for error in errors:
        subject = _failing(factory, error, 3)
        with stopping(factory, subject):
            subject.start(3, 6)
            stream = subject.get()
            items = take(factory, stream, 3, "G10")
            promise(items == [0, 1, 2], "G10", f"before the error at rank 3 came {items}")
            got = raised(factory, partial(next, stream), "G10", f"the next() that meets {error!r}")
            promise(type(got) is type(error) and got is not None and got.args == error.args, "G10", f"{error!r} arrived as {got!r}")


def check_an_error_arrives_at_its_rank_as_it_was_raised(factory: Factory) -> None:
    """G10: after every earlier item."""
    _arrive(factory, ValueError("a", 2), TimeoutError("t"))


def check_an_error_that_would_end_a_thread_arrives_too(factory: Factory) -> None:
    """G10: `SystemExit`, `KeyboardInterrupt`, `GeneratorExit`."""
    _arrive(factory, SystemExit(3), KeyboardInterrupt("k"), GeneratorExit())


def check_an_error_of_an_empty_queue_arrives_too(factory: Factory) -> None:
    """G10: which an enqueuer might take for that of a queue of its own."""
    _arrive(factory, queue.Empty())


def check_an_error_with_a_constructor_of_its_own_arrives_too(factory: Factory) -> None:
    """G10: that can't be called with the error's `args`."""
    _arrive(factory, TwoArguments("l", 4))


def check_an_error_that_words_its_text_arrives_as_it_was(factory: Factory) -> None:
    """G10: once, not made again from what it had made."""
    _arrive(factory, Worded("img0.png"))


def check_a_group_of_errors_arrives_as_one(factory: Factory) -> None:
    """G10: though one of its members can't cross the border between two processes: `except*` finds the others."""
    subject = _failing(factory, ExceptionGroup("two", [ValueError("a", 2), Bound("b")]), 3)
    with stopping(factory, subject):
        subject.start(3, 6)
        stream = subject.get()
        take(factory, stream, 3, "G10")
        got = raised(factory, partial(next, stream), "G10", "the next() that meets a group of errors")
        rest = cast("ExceptionGroup[Exception]", got).split(ValueError)[0] if isinstance(got, ExceptionGroup) else None
        found = None if rest is None else rest.exceptions[0].args
        promise(found == ("a", 2), "G10", f"a group of a ValueError and another error arrived as {got!r}")


def check_a_run_is_over_when_its_error_was_delivered(factory: Factory) -> None:
    """G10: not before; all streams end."""
    subject = _failing(factory, ValueError("a", 2), 3)
    with stopping(factory, subject):
        subject.start(3, 6)
        stream, other = subject.get(), subject.get()
        take(factory, stream, 3, "G10")
        promise(subject.is_running(), "G19", "is_running() is false before the error was delivered")
        raised(factory, partial(next, stream), "G10", "the next() that meets an error")
        promise(not subject.is_running(), "G19", "is_running() is true after an error was delivered")
        for each in (stream, other):
            promise(ends(factory, each, "G10"), "G10", "a stream went on after an error was delivered")


def check_an_error_says_where_it_was_raised(factory: Factory) -> None:
    """G10: with the traceback of the worker, and the rank."""
    subject = _failing(factory, ValueError("a", 2), 3)
    with stopping(factory, subject):
        subject.start(3, 6)
        stream = subject.get()
        take(factory, stream, 3, "G10")
        got = raised(factory, partial(next, stream), "G10", "the next() that meets an error")
        lines = "".join(traceback.format_exception(got)) if got is not None else ""
        promise("in item" in lines, "G10", f"{got!r} arrived without the worker's traceback")
        promise("rank 3" in lines, "G10", f"{got!r} does not say at which rank it was raised")


def check_stop_iteration_from_an_item_is_a_runtime_error(factory: Factory) -> None:
    """G10: it would silently end the consumer's loop."""
    subject = _failing(factory, StopIteration("s"), 1)
    with stopping(factory, subject):
        subject.start(2, 4)
        stream = subject.get()
        take(factory, stream, 1, "G10")
        got = raised(factory, partial(next, stream), "G10", "the next() that meets StopIteration")
        promise(isinstance(got, RuntimeError), "G10", f"StopIteration in an item arrived as {got!r}")


def check_the_first_failing_rank_wins(factory: Factory) -> None:
    """G10: also when a later rank fails earlier."""
    gate = Gate()

    def item(index: int) -> int:
        if index == 1:
            gate.enter()
            raise ValueError("rank 1")
        if index == 2:
            raise KeyError("rank 2")
        return index

    subject = factory.ordered(Numbers(4, item))
    with stopping(factory, subject, gate=gate):
        subject.start(3, 4)
        stream = subject.get()
        promise(take(factory, stream, 1, "G10") == [0], "G10", "an error at a later rank kept rank 0 from coming")
        gate.wait_arrived(1, factory.limit)
        gate.wait_arrived(2, MOMENT / 4)  # nobody comes: time for rank 2 to fail; were it not, the check would only be weaker
        gate.open()
        got = raised(factory, partial(next, stream), "G10", "the next() that meets an error")
        promise(isinstance(got, ValueError), "G10", f"of errors at ranks 1 and 2, {got!r} arrived")


def check_an_error_between_epochs_arrives_where_the_epoch_would_have_begun(factory: Factory) -> None:
    """G11: from the hook, from `__len__()`, at the first epoch and at a later one."""

    class NoLength(Hooked):
        def __len__(self) -> int:
            if self.length < 0:
                raise LookupError("no length")
            return super().__len__()

    def hook() -> None:
        raise LookupError("hook")

    def break_length() -> None:
        later.length = -1

    later = NoLength(3, break_length)
    for sequence, before in ((Hooked(3, hook), 3), (NoLength(-1, hook), 0), (later, 3)):
        subject = factory.ordered(sequence)
        with stopping(factory, subject):
            got: BaseException | None = raised(factory, partial(subject.start, 2, 8), "G11", "start()")
            if got is None:
                stream = subject.get()
                items = take(factory, stream, before, "G11")
                promise(items == list(range(before)), "G11", f"before the error came {items}")
                got = raised(factory, partial(next, stream), "G11", "the next() that meets an error between epochs")
            promise(isinstance(got, LookupError), "G11", f"an error between epochs arrived as {got!r}")
            promise(not subject.is_running(), "G19", "is_running() is true after an error between epochs was delivered")


def check_an_empty_sequence_is_a_clear_error(factory: Factory) -> None:
    """G11: at the start, or at the epoch that finds it."""

    def shrink() -> None:
        shrinking.length = 0

    shrinking = Hooked(2, shrink)
    for sequence, before in ((Numbers(0), 0), (shrinking, 2)):
        subject = factory.ordered(sequence)
        with stopping(factory, subject):
            got = raised(factory, partial(subject.start, 2, 8), "G11", "start() on an empty sequence")
            if got is None:
                stream = subject.get()
                take(factory, stream, before, "G11")
                got = raised(factory, partial(next, stream), "G11", "next() on an empty sequence")
            promise(isinstance(got, ValueError), "G11", f"an empty sequence gave {got!r}")


def check_an_error_in_a_generator_arrives_after_its_items(factory: Factory) -> None:
    """G11: also from the callable that makes it, and from what it returns being no iterable."""

    def broken() -> Iterator[int]:
        raise LookupError("callable")

    def numbers() -> Iterator[int]:
        yield 0
        yield 1
        raise LookupError("generator")

    wrong = cast("Callable[[], Iterable[int]]", lambda: 3)
    for make, before, kind in ((numbers, 2, LookupError), (broken, 0, LookupError), (wrong, 0, TypeError)):
        subject = factory.generator(make)
        with stopping(factory, subject):
            subject.start(2, 4)
            stream = subject.get()
            items = take(factory, stream, before, "G11")
            got = raised(factory, partial(next, stream), "G11", "the next() that meets a generator's error")
            promise(items == list(range(before)) and isinstance(got, kind), "G11", f"after {items} a generator's error arrived as {got!r}")
            promise(ends(factory, stream, "G11"), "G11", "the stream went on after a generator's error")


CHECKS: Final = (
    Check("G10", check_an_error_arrives_at_its_rank_as_it_was_raised),
    Check("G10", check_an_error_that_would_end_a_thread_arrives_too),
    Check("G10", check_an_error_of_an_empty_queue_arrives_too),
    Check("G10", check_an_error_with_a_constructor_of_its_own_arrives_too),
    Check("G10", check_an_error_that_words_its_text_arrives_as_it_was),
    Check("G10", check_a_group_of_errors_arrives_as_one),
    Check("G10", check_a_run_is_over_when_its_error_was_delivered),
    Check("G10", check_an_error_says_where_it_was_raised),
    Check("G10", check_stop_iteration_from_an_item_is_a_runtime_error),
    Check("G10", check_the_first_failing_rank_wins),
    Check("G11", check_an_error_between_epochs_arrives_where_the_epoch_would_have_begun, frozenset({"hook"})),
    Check("G11", check_an_empty_sequence_is_a_clear_error, frozenset({"hook"})),
    Check("G11", check_an_error_in_a_generator_arrives_after_its_items, frozenset({"generator"})),
)
