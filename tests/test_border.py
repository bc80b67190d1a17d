"""What crosses the border between two processes, and what is told of that which can't (G6, G10, G12, G13)."""

import os
import pickle
import queue
import signal

import numpy as np
import pytest
from pacing import LIMIT

from enqueuer import OrderedEnqueuer
from enqueuer._border import pack_error, pack_item, unpack_error, unpack_item
from enqueuer.errors import BorderError, WorkerDiedError
from enqueuer.testing.checks.errors import TwoArguments


def crossed(item):
    head, parts = pack_item(item)
    return unpack_item(memoryview(b"".join((head, *parts))))


class Special(np.ndarray):
    pass


FROZEN = np.arange(12.0).reshape(3, 4)
FROZEN.flags.writeable = False

ARRAYS = {
    "plain": np.arange(12.0),
    "plain, read-only": FROZEN,
    "every other row": np.arange(12.0).reshape(3, 4)[::2],
    "every other row, read-only": FROZEN[::2],
    "backwards, read-only": FROZEN[:, ::-1],
    "transposed, read-only": FROZEN.T,
    "broadcast": np.broadcast_to(1.0, (3, 4)),
    "empty": np.zeros(0),
    "a subclass, read-only": FROZEN.view(Special),
    "objects": np.array([1, None]),
    "dates": np.array(["2020-01-01"], "M8[D]"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_arrives_with_its_type_values_and_writability(name) -> None:
    array = ARRAYS[name]
    if name in {"objects", "dates"}:
        array = array.copy()
        array.flags.writeable = False
    (again,) = crossed([array])
    assert type(again) is type(array)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again, array)
    assert again.flags.writeable == array.flags.writeable


@pytest.mark.parametrize("size", [4, 10_000])
def test_writable_arrays_own_their_memory_so_that_none_keeps_another(size) -> None:
    head, parts = pack_item([np.zeros(size), np.zeros(size)])
    message = bytearray(b"".join((head, *parts)))
    again = unpack_item(memoryview(message))
    message[:] = b"\xff" * len(message)
    for array in again:
        assert array.tolist() == [0] * size
        array[0] = 5


def test_an_array_that_is_most_of_its_message_is_not_copied_again() -> None:
    head, parts = pack_item(np.zeros(10_000))
    message = bytearray(b"".join((head, *parts)))
    again = unpack_item(memoryview(message))
    again[-1] = 5
    assert message[-8:] == again[-1:].tobytes()


class Unmakable(Exception):
    """Can't be made again in any way."""

    def __init__(self, text) -> None:
        super().__init__(text)
        self.handle = open(os.devnull)  # noqa: SIM115, PTH123

    def __del__(self) -> None:
        self.handle.close()


@pytest.mark.parametrize("error", [ValueError("a", 2), SystemExit(3), queue.Empty(), OSError(2, "no"), KeyError("k"), TwoArguments("l", 4)], ids=repr)
def test_an_exception_arrives_as_it_was_raised_with_its_traceback(error) -> None:
    try:
        raise error
    except BaseException as caught:
        again = unpack_error(pack_error(caught))
    assert type(again) is type(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert "test_an_exception_arrives" in str(again.__cause__)


def test_an_exception_that_cannot_be_made_again_arrives_as_an_error_that_names_it() -> None:
    again = unpack_error(pack_error(Unmakable("what it said")))
    assert isinstance(again, BorderError)
    assert "Unmakable" in str(again)
    assert "what it said" in str(again)


class Worded(Exception):
    def __init__(self, path) -> None:
        super().__init__(f"cannot read {path}")
        self.path = path


class WithoutEquals:
    """Can't tell whether another one is equal, and says no."""


@pytest.mark.parametrize("argument", ["img0.png", np.arange(3), WithoutEquals()], ids=["text", "array", "object"])
def test_an_exception_is_made_again_as_it_was_and_not_anew(argument) -> None:
    error = Worded(argument)
    again = unpack_error(pack_error(error))
    assert type(again) is Worded
    assert again.args == error.args
    assert type(again.path) is type(error.path)
    plain = unpack_error(pack_error(ValueError(argument)))
    assert type(plain) is ValueError
    assert type(plain.args[0]) is type(argument)


def test_a_group_keeps_the_members_that_can_be_made_again_and_names_the_others() -> None:
    inner = ExceptionGroup("inner", [Worded("a"), Unmakable("b")])
    inner.add_note("where it was")
    again = unpack_error(pack_error(ExceptionGroup("outer", [ValueError(1), inner])))
    assert type(again) is ExceptionGroup
    assert again.message == "outer"
    first, second = again.exceptions
    assert (type(first), first.args) == (ValueError, (1,))
    assert (type(second), second.message, second.__notes__) == (ExceptionGroup, "inner", ["where it was"])
    assert second.exceptions[0].args == ("cannot read a",)
    assert isinstance(second.exceptions[1], BorderError)
    assert "Unmakable" in str(second.exceptions[1])


def test_what_an_exception_came_from_arrives_too_and_the_traceback_is_before_the_first() -> None:
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise Unmakable("second")  # noqa: B904 - its context, not its cause
        except Unmakable as second:
            raise Worded("third") from second
    except Worded as error:
        again = unpack_error(pack_error(error))
    assert again.__suppress_context__
    assert isinstance(again.__cause__, BorderError)
    first = again.__cause__.__context__
    assert (type(first), first.args) == (KeyError, ("first",))
    assert "test_what_an_exception_came_from" in str(first.__cause__)


def test_an_exception_that_came_from_itself_or_from_very_many_arrives() -> None:
    error = last = ValueError(0)
    for number in range(1, 2000):
        last.__context__ = ValueError(number)
        last = last.__context__
    assert unpack_error(pack_error(error)).args == (0,)
    one, other = ValueError(1), ValueError(2)
    one.__cause__, other.__cause__ = other, one
    again = unpack_error(pack_error(one))
    assert again.args == (1,)
    assert again.__cause__.args == (2,)


def test_notes_survive() -> None:
    error = ValueError("a")
    error.add_note("where it was")
    assert unpack_error(pack_error(error)).__notes__ == ["where it was"]


def test_the_error_of_a_dead_worker_crosses_the_border_of_an_outer_run() -> None:
    error = WorkerDiedError("dead", pid=3, exitcode=-9, index=2, epoch=1, retries=1)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


class DiesAt:
    """One of its short items kills the worker that has answered others just before."""

    def __init__(self, index) -> None:
        self.index = index

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index):
        if index == self.index:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.concurrency
def test_what_a_worker_has_answered_before_it_died_is_delivered_and_not_blamed() -> None:
    """It is found dead when it is sent the next items, too; its last answers are in the pipe then."""
    for index in range(1, 21):
        with OrderedEnqueuer(DiesAt(index), use_multiprocessing=True, context="fork") as enqueuer:
            enqueuer.start(2, 10)
            items = enqueuer.get(timeout=LIMIT)
            assert [next(items) for _ in range(index)] == list(range(index))
            with pytest.raises(WorkerDiedError) as caught:
                next(items)
            assert (caught.value.index, caught.value.exitcode) == (index, -signal.SIGKILL)
